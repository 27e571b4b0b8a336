import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..', '..');
const folder = mkdtempSync(join(root, 'test', 'service', 'order-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const HEAD = `
import type * as p from '../../../src/service/pipeline.ts';
declare const { compute, decodeRun, plan, record, release, reply, reserve }: typeof p;
declare const context: p.PipelineContext;
declare const decoded: p.Decoded;
declare const planned: p.Planned;
declare const reserved: p.Reserved;
declare const computed: p.Computed;
declare const released: p.Released;
declare const recorded: p.Recorded;
`;

/** The body of each probe, and whether the compiler takes it. */
const PROBES: readonly (readonly [name: string, body: string, compiles: boolean])[] = [
  [
    'every stage in its order',
    'void [plan(context, decoded), reserve(context, planned), compute(context, reserved), release(context, computed), record(context, released), reply(recorded)];',
    true,
  ],
  ['computing what was only planned', 'void compute(context, planned);', false],
  ['computing what was only decoded', 'void compute(context, decoded);', false],
  [
    'computing without asking whether the budget refused',
    'void reserve(context, planned).then(held => compute(context, held));',
    false,
  ],
  ['reserving what was not planned', 'void reserve(context, decoded);', false],
  ['releasing what was not computed', 'void release(context, reserved);', false],
  ['recording a raw result', 'void record(context, computed);', false],
  ['replying with what is not recorded', 'void reply(released);', false],
  ['replying with a raw result', 'void reply(computed);', false],
  [
    'making a stage by hand',
    'const forged: p.Recorded = { receipt: recorded.receipt, outcome: recorded.outcome }; void forged;',
    false,
  ],
];

describe('the order of stages', () => {
  test('is held by the compiler: what skips or swaps a stage does not compile', () => {
    const names = PROBES.map((_, i) => `probe-${i}.ts`);
    PROBES.forEach(([, body], i) => {
      writeFileSync(join(folder, names[i]!), `${HEAD}${body}\nexport {};\n`);
    });
    const base = JSON.parse(readFileSync(join(root, 'tsconfig.json'), 'utf8')) as { compilerOptions: object };
    const compilerOptions = {
      ...base.compilerOptions,
      rootDir: root,
      noEmit: true,
      noUnusedLocals: false,
      isolatedDeclarations: false,
      declaration: false,
    };
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: names }));
    const { stdout } = spawnSync(join(root, 'node_modules', '.bin', 'tsc'), ['-p', folder, '--pretty', 'false'], {
      cwd: folder,
      encoding: 'utf8',
    });
    const refused = PROBES.filter((_, i) =>
      new RegExp(`^probe-${i}\\.ts\\(.*error TS(2345|2739|2740|2741)`, 'm').test(stdout),
    ).map(([name]) => name);
    expect(refused).toEqual(PROBES.filter(([, , compiles]) => !compiles).map(([name]) => name));
  });
});
