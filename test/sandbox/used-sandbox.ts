/**
 * A program that opens a sandbox, uses it, closes it, and prints what came of it.
 */
import { readFileSync } from 'node:fs';
import { activeLayers, openSandbox } from '../../sandbox/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { affineModel } from './tiny-model.ts';

const GREEDY = 'const held = []; for (;;) held.push(new Array(1e5).fill(held.length + 0.5));';

async function use(): Promise<object> {
  await using sandbox = await openSandbox({ warm: 1, limits: { wallMs: 60_000, cpuMs: 20_000, memoryMb: 64 } });
  const model = await sandbox.load(affineModel());
  const { y } = await model.run({ x: Tensor.zeros('f32', [2, 3]) });
  const { value } = await sandbox.evaluate('6 * 7');
  const { outcome: endless } = await sandbox.evaluate('for (;;);', { limits: { cpuMs: 300 } });
  const { outcome: greedy } = await sandbox.evaluate(GREEDY);
  const active = activeLayers(sandbox.capabilities());
  return { user: process.getuid?.(), y: y?.shape.slice(0, 1), value, endless, greedy, active };
}

const used = await use();
const running = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'latin1').split(' ').filter(Boolean);
console.log(JSON.stringify({ ...used, running }));
