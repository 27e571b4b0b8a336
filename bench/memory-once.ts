/**
 * What one process needs, measured from inside it: `node --expose-gc memory-once.ts MEASURE SIDE FOLDER COUNT`. Linux only.
 *
 * `peak`: the most resident memory while a model is loaded from its file and run once, over what was resident before. `cycles`: how
 * resident memory grows from the tenth load, run and close to the COUNT-th. `runs`: how it grows from the first tenth of COUNT runs of a
 * loaded model to the last. SIDE is `ours` or `peer`; FOLDER holds what {@link writeCase} wrote. Prints JSON.
 * @module
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { seededRandom } from '../examples/digits/random.ts';
import { type DType, newArray, Tensor } from '../src/tensor/index.ts';
import { openFile, toOnnx } from './engine-under-test.ts';
import { normalTensor } from './models/network.ts';
import { oneNode } from './models/one-node.ts';
import { loadOnnxRuntime } from './peer.ts';

/** What is printed: bytes, and the sum of the magnitudes of all outputs of the last run. */
export interface MemoryOnce {
  readonly bytes: number;
  readonly magnitude: number;
  /** Ours, of the loaded model: `permanentBytes`, `temporaryBytes` and `scratchBytes` together. */
  readonly reportedBytes?: number;
  /** Of `bytes`, what the second half of the cycles added. */
  readonly lateBytes?: number;
  /** Why our side does not run the model. */
  readonly refused?: string;
}

/** A loaded model on either side. */
interface Loaded {
  run(): unknown;
  magnitude(): Promise<number>;
  reportedBytes(): number | undefined;
  close(): unknown;
}

type Load = (path: string, inputs: Readonly<Record<string, Tensor>>) => Promise<Loaded>;

/** Runs between two turns of the event loop, where outputs that nobody holds are given back. */
const BATCH = 1000;

const [measure, side, folder, count] = process.argv.slice(2);
const load = side === 'ours' ? loadOurs : loadPeer();
const path = join(folder!, 'model.onnx');
const inputs = readInputs(folder!);
try {
  console.log(JSON.stringify(await measureOnce(measure!, Number(count))));
} catch (error) {
  const { code, message } = error as { code?: string; message: string };
  if (code !== 'UNSUPPORTED_MODEL') throw error;
  console.log(JSON.stringify({ bytes: 0, magnitude: 0, refused: message.slice(0, 300) } satisfies MemoryOnce));
}

async function measureOnce(measure: string, count: number): Promise<MemoryOnce> {
  // The code of both sides is loaded and has run before anything is counted.
  await warmUp();
  if (measure === 'peak') {
    await settle();
    writeFileSync('/proc/self/clear_refs', '5'); // the high-water mark starts again from here
    const before = memoryLine('VmRSS');
    const loaded = await load(path, inputs);
    await loaded.run();
    const bytes = memoryLine('VmHWM') - before;
    return await told(loaded, bytes);
  }
  if (measure === 'cycles') {
    const resident = { tenth: 0, half: 0 };
    for (let cycle = 1; cycle < count; cycle++) {
      const loaded = await load(path, inputs);
      await loaded.run();
      await loaded.close();
      await setImmediate();
      if (cycle !== 10 && cycle !== count / 2) continue;
      await shrink();
      resident[cycle === 10 ? 'tenth' : 'half'] = memoryLine('VmRSS');
    }
    const last = await load(path, inputs);
    const magnitude = await last.magnitude();
    await last.close();
    await shrink();
    const end = memoryLine('VmRSS');
    return { bytes: end - resident.tenth, lateBytes: end - resident.half, magnitude };
  }
  const loaded = await load(path, inputs);
  const batch = async (): Promise<void> => {
    for (let i = 0; i < BATCH; i++) await loaded.run();
    await setImmediate();
  };
  for (let done = 0; done < count / 10; done += BATCH) await batch();
  await shrink();
  const first = memoryLine('VmRSS');
  for (let done = count / 10; done < count; done += BATCH) await batch();
  await shrink();
  return await told(loaded, memoryLine('VmRSS') - first);
}

async function told(loaded: Loaded, bytes: number): Promise<MemoryOnce> {
  const reportedBytes = loaded.reportedBytes();
  const magnitude = await loaded.magnitude();
  await loaded.close();
  return { bytes, magnitude, ...(reportedBytes !== undefined && { reportedBytes }) };
}

async function warmUp(): Promise<void> {
  const x = normalTensor(seededRandom(1), [4, 4]);
  const file = join(folder!, `warm-up-${side}.onnx`);
  writeFileSync(file, toOnnx(oneNode('MatMul', [{ name: 'x', dtype: 'f32', shape: [4, 4] }, x])));
  const loaded = await load(file, { x });
  await loaded.run();
  await loaded.close();
}

async function loadOurs(path: string, inputs: Readonly<Record<string, Tensor>>): Promise<Loaded> {
  const ready = openFile(path);
  return {
    run: () => ready.runSync(inputs),
    magnitude: async () => sumOf(Object.values(ready.runSync(inputs)).map(tensor => tensor.elements() as Numbers)),
    reportedBytes: () => {
      const { permanentBytes, temporaryBytes, scratchBytes } = ready.memory;
      return permanentBytes + temporaryBytes + scratchBytes;
    },
    close: () => ready.close(),
  };
}

function loadPeer(): Load {
  const ort = loadOnnxRuntime();
  if (ort === undefined) throw new Error('the rival is not installed');
  return async (path, inputs) => {
    const session = await ort.open(path);
    const feeds = Object.fromEntries(Object.entries(inputs).map(([name, tensor]) => [name, ort.fromTensor(tensor)]));
    return {
      run: () => session.run(feeds),
      magnitude: async () => sumOf(Object.values(await session.run(feeds)).map(({ data }) => data as Numbers)),
      reportedBytes: () => undefined,
      close: () => session.release(),
    };
  };
}

type Numbers = ArrayLike<number | bigint>;

function sumOf(outputs: readonly Numbers[]): number {
  let sum = 0;
  for (const data of outputs) for (let i = 0; i < data.length; i++) sum += Math.abs(Number(data[i]));
  return sum;
}

/** Garbage is collected, and what finalizers free is free. */
async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) {
    globalThis.gc!();
    await setImmediate();
  }
}

/**
 * {@link settle} as under pressure: V8 gives back as well the pages that it keeps for its next garbage: megabytes after a thousand loads,
 * which say nothing of what is held.
 */
async function shrink(): Promise<void> {
  for (let i = 0; i < 3; i++) {
    globalThis.gc!({ type: 'major', execution: 'sync', flavor: 'last-resort' });
    await setImmediate();
  }
}

/** A line of /proc/self/status, in bytes. */
function memoryLine(name: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync('/proc/self/status', 'latin1');
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)![1]) * 1024;
}

function readInputs(folder: string): Readonly<Record<string, Tensor>> {
  const list = JSON.parse(readFileSync(join(folder, 'inputs.json'), 'utf8')) as {
    name: string;
    dtype: DType;
    shape: readonly number[];
  }[];
  return Object.fromEntries(
    list.map(({ name, dtype, shape }) => {
      const length = shape.reduce((product, dim) => product * dim, 1);
      const array = newArray(dtype, length) as Float32Array<ArrayBuffer>;
      new Uint8Array(array.buffer).set(readFileSync(join(folder, `${name}.bin`)));
      return [name, Tensor.from(dtype, shape, array)];
    }),
  );
}
