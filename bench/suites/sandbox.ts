/**
 * What the walls cost: a call of the digit model, and calls with tensors of 600 KB, through `isolate` and `process` beside the same call
 * through `none`; how long a model takes from a file's bytes to its first answer; and `cloister run` from the start of its process to
 * its answer.
 * @module
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { drawDigit } from '../../examples/digits/draw.ts';
import { type Isolation, openSandbox, type Sandbox, type SandboxedModel } from '../../sandbox/index.ts';
import type { NamedTensors } from '../../src/engine/index.ts';
import { writeOnnx } from '../../src/formats/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { compare, type Latency, summarise } from '../measure.ts';
import { oneNode } from '../models/one-node.ts';
import { latencyRow, type Report } from '../rows.ts';

const STARTS = 9;

const MODEL_FILE = new URL('../../examples/digits/digits.onnx', import.meta.url);
const MODEL = readFileSync(MODEL_FILE);
const INPUTS = { image: Tensor.from('f32', [1, 1, 28, 28], Float32Array.from(drawDigit(7, { seed: 7 }))) };

/** An image of 602,112 bytes. */
const IMAGE = [1, 3, 224, 224] as const;

interface Call {
  readonly name: string;
  readonly model: Uint8Array;
  readonly inputs: NamedTensors;
  /** The most that a warm call may add at the median, in microseconds. */
  readonly atMost: { readonly isolate?: number; readonly process: number };
}

const CALLS: readonly Call[] = [
  { name: 'digits, 3 KB', model: MODEL, inputs: INPUTS, atMost: { isolate: 60, process: 200 } },
  { name: '600 KB in', model: imageModel('GlobalAveragePool'), inputs: image(), atMost: { process: 300 } },
  { name: '600 KB in and out', model: imageModel('Relu'), inputs: image(), atMost: { process: 300 } },
];

/** The suite `sandbox`. */
export async function benchSandbox(report: Report): Promise<void> {
  await timeCalls(report);
  await timeStarts(report);
  await timeCommand(report);
}

async function timeCalls(report: Report): Promise<void> {
  for (const { name, model: bytes, inputs, atMost } of CALLS) {
    await using open = await openSandbox({ isolation: 'none' });
    await using bare = await open.load(bytes);
    const expected = await firstOutput(bare, inputs);
    for (const isolation of ['isolate', 'process'] as const) {
      await using sandbox = await openSandbox({ isolation });
      await using model = await sandbox.load(bytes);
      await sandbox.settled();
      const same = Buffer.compare(await firstOutput(model, inputs), expected) === 0;
      report.check({
        name: `${name}, through ${isolation}`,
        ok: same && model.backend === bare.backend,
        detail: `the same as through none: ${same}; backend ${model.backend}, through none ${bare.backend}`,
      });
      const comparison = await compare(
        { run: () => model.run(inputs), async: true },
        { run: () => bare.run(inputs), async: true },
      );
      const head = { suite: 'sandbox', threads: 1, peerName: 'isolation none' };
      report.row(latencyRow({ ...head, case: `${name}: call through ${isolation} (${model.backend})` }, comparison));
      const most = atMost[isolation];
      report.row({
        ...head,
        case: `${name}: added by ${isolation}`,
        unit: 'µs/call',
        ours: comparison.added! * 1e3,
        peer: null,
        ratio: null,
        spread: comparison.ours.spread * 1e3,
        best: (comparison.ours.best - comparison.peer!.best) * 1e3,
        bestRatio: null,
        ...(most !== undefined && { holdTo: { atMost: most } }),
      });
    }
  }
}

// Cold: nothing runs yet. Warm: the pool has a worker that waits. Each until the first answer, closing not counted.
async function timeStarts(report: Report): Promise<void> {
  const cases: readonly { name: string; isolation: Isolation; warm: boolean }[] = [
    { name: 'none', isolation: 'none', warm: false },
    { name: 'isolate', isolation: 'isolate', warm: false },
    { name: 'process, cold', isolation: 'process', warm: false },
    { name: 'process, warm', isolation: 'process', warm: true },
  ];
  const times = cases.map((): number[] => []);
  for (let round = 0; round <= STARTS; round++) {
    for (const [index, { isolation, warm }] of cases.entries()) {
      const elapsed = await timeStart(isolation, warm);
      if (round > 0) times[index]!.push(elapsed); // the first round loads modules and fills the page cache
    }
  }
  const bare: Latency = summarise(times[0]!);
  for (const [index, { name }] of cases.entries()) {
    const ours = summarise(times[index]!);
    const comparison = index === 0 ? { ours } : { ours, peer: bare, ratio: bare.median / ours.median };
    const head = { suite: 'sandbox', unit: 'ms' as const, threads: 1, peerName: index === 0 ? '' : 'isolation none' };
    const holdTo = name === 'process, cold' ? { holdTo: { atMost: 350 } } : {};
    report.row(latencyRow({ ...head, case: `bytes to first answer, ${name}`, ...holdTo }, comparison));
  }
}

async function timeStart(isolation: Isolation, warm: boolean): Promise<number> {
  let sandbox: Sandbox | undefined;
  if (warm) {
    sandbox = await openSandbox({ isolation, warm: 1 });
    await sandbox.settled();
  }
  const started = performance.now();
  sandbox ??= await openSandbox({ isolation, warm: 0 });
  const model = await sandbox.load(MODEL);
  await model.run(INPUTS);
  const elapsed = performance.now() - started;
  await model.close();
  await sandbox.close();
  return elapsed;
}

// The built command where there is one, as users run it: else the source, whose types Node has to strip first.
async function timeCommand(report: Report): Promise<void> {
  const root = join(import.meta.dirname, '..', '..');
  const built = join(root, 'dist', 'src', 'cli', 'main.js');
  const script = existsSync(built) ? built : join(root, 'src', 'cli', 'main.ts');
  const dir = mkdtempSync(join(tmpdir(), 'cloister-bench-'));
  const image = join(dir, 'image.bin');
  writeFileSync(image, INPUTS.image.toBytes());
  const data = ['--dir', join(dir, 'data'), '--input', `image=${image}`];
  const args = ['--no-node-snapshot', script, 'run', fileURLToPath(MODEL_FILE), ...data, '--json'];
  const times: number[] = [];
  try {
    for (let round = 0; round <= STARTS; round++) {
      const elapsed = await timeProcess(args);
      if (round > 0) times.push(elapsed); // the first run makes the folder, the keys and the log
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
  const head = { suite: 'sandbox', unit: 'ms' as const, threads: 1, peerName: '' };
  const note = `${script === built ? 'built' : 'from source'}; to be at most 600`;
  report.row(latencyRow({ ...head, case: 'cloister run, start to answer', note }, { ours: summarise(times) }));
}

async function timeProcess(args: readonly string[]): Promise<number> {
  const started = performance.now();
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  let answered = Number.NaN;
  child.stdout.once('data', () => {
    answered = performance.now() - started;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0 || Number.isNaN(answered)) throw new Error(`cloister run ended with ${code}: ${errors.slice(-500)}`);
  return answered;
}

async function firstOutput(model: SandboxedModel, inputs: NamedTensors): Promise<Uint8Array> {
  const [output] = Object.values(await model.run(inputs));
  return output!.bytes();
}

function imageModel(op: string): Uint8Array {
  return writeOnnx(oneNode(op, [{ name: 'image', dtype: 'f32', shape: IMAGE }]));
}

function image(): NamedTensors {
  const elements = Float32Array.from({ length: 3 * 224 * 224 }, (_, i) => ((i * 7_919) % 511) - 255);
  return { image: Tensor.from('f32', IMAGE, elements) };
}
