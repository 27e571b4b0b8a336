import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { loadBinding, openModelFile, openProgramHost } from '../../native/index.ts';
import { type CloisterError, type ErrorCode, isCloisterError } from '../../src/base/index.ts';
import { type Backend, nativeBackend, referenceBackend } from '../../src/engine/index.ts';
import { bytesSource, parseOnnx, withExternalData, writeOnnx } from '../../src/formats/index.ts';
import { type Graph, GraphBuilder } from '../../src/graph/index.ts';
import { Tensor } from '../../src/tensor/index.ts';

const folder = mkdtempSync(join(tmpdir(), 'cloister-model-file-'));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;

/** A new file with these bytes, last written some time ago. */
function fileOf(bytes: Uint8Array): string {
  const path = join(folder, `file-${files++}.onnx`);
  writeFileSync(path, bytes);
  utimesSync(path, 1, 1);
  return path;
}

const counting = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 7 + (i >> 8));

/** A chain of `layers` products with weights of `size` by `size`, in the order in which they are used. */
function chain(layers: number, size: number): Graph {
  const b = new GraphBuilder('chain');
  let x = b.input('x', { dtype: 'f32', shape: [1, size] });
  for (let layer = 0; layer < layers; layer++) {
    const elements = Float32Array.from({ length: size * size }, (_, i) => ((i * 7 + layer) % 13) / 100 - 0.06);
    const w = b.constant(`w${layer}`, Tensor.from('f32', [size, size], elements));
    x = b.node({ op: 'MatMul', inputs: [x, w], outputs: [`y${layer}`] })[0]!;
  }
  b.output(x);
  return b.build();
}

function errorOf(run: () => unknown): CloisterError {
  try {
    run();
  } catch (error) {
    if (isCloisterError(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

const codeOf = (run: () => unknown): ErrorCode => errorOf(run).code;

describe('a model file', () => {
  test('gives every range of its bytes, and refuses every other', () => {
    const bytes = counting(10_000);
    using file = openModelFile(fileOf(bytes));
    expect(file.size).toBe(bytes.length);
    const place = fc.oneof(fc.nat(12_000), fc.constantFrom(-1, 0.5, Number.NaN, 2 ** 53, bytes.length));
    fc.assert(
      fc.property(place, fc.nat(12_000), (offset, length) => {
        const target = new Uint8Array(length);
        if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > bytes.length) {
          expect(codeOf(() => file.read(offset, length))).toBe('INVALID_MODEL');
          expect(codeOf(() => file.readInto(offset, target))).toBe('INVALID_MODEL');
          return;
        }
        const expected = bytes.subarray(offset, offset + length);
        file.readInto(offset, target);
        expect(Buffer.compare(target, expected)).toBe(0);
        expect(Buffer.compare(file.read(offset, length), expected)).toBe(0);
      }),
    );
  });

  test('takes no memory for a length that it does not have', () => {
    using file = openModelFile(fileOf(counting(10)));
    expect(codeOf(() => file.read(0, 2 ** 52))).toBe('INVALID_MODEL');
    expect(codeOf(() => file.read(0, -1))).toBe('INVALID_MODEL');
  });

  const changes: Record<string, (path: string) => void> = {
    'cut short': path => truncateSync(path, 5_000),
    emptied: path => truncateSync(path, 0),
    'made longer': path => appendFileSync(path, 'more'),
    'written over': path => writeFileSync(path, counting(10_000).reverse()),
  };
  test.each(Object.entries(changes))('that is %s after it was opened is refused from then on', (_, change) => {
    const path = fileOf(counting(10_000));
    using file = openModelFile(path);
    expect(file.read(0, 4)).toEqual(counting(4)); // the control: unchanged it is read
    change(path);
    const target = new Uint8Array(4).fill(9);
    const error = errorOf(() => file.readInto(0, target));
    expect(error).toMatchObject({ code: 'INVALID_MODEL', message: expect.stringMatching(/changed while it was read/) });
    expect(target).toEqual(new Uint8Array(4)); // nothing of another version is left behind
    expect(codeOf(() => file.read(9_000, 1_000))).toBe('INVALID_MODEL');
  });

  test('another file that is renamed over it leaves what was opened', () => {
    const path = fileOf(counting(100));
    using file = openModelFile(path);
    renameSync(fileOf(new Uint8Array(100)), path);
    expect(file.read(0, 100)).toEqual(counting(100));
  });

  test('that is closed says so, and may be closed again', () => {
    const file = openModelFile(fileOf(counting(10)));
    file.close();
    file.close();
    expect(codeOf(() => file.read(0, 1))).toBe('CLOSED');
  });

  test('is a regular one that can be read, or is refused without keeping a descriptor', () => {
    const inside = join(folder, 'a-folder');
    mkdirSync(inside);
    const open = (): number => (process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0);
    const before = open();
    for (const path of [inside, join(folder, 'none'), '/dev/null']) {
      expect(codeOf(() => openModelFile(path))).toBe('INVALID_ARGUMENT');
    }
    expect(open()).toBe(before);
  });
});

const binding = loadBinding();
const backends: readonly Backend[] = [
  referenceBackend,
  ...(binding ? [nativeBackend(openProgramHost(binding, { threads: 1 }))] : []),
];

describe.each(backends.map(backend => [backend.name, backend] as const))('on the %s backend', (_, backend) => {
  const bytes = writeOnnx(chain(3, 96));
  const x = Tensor.from(
    'f32',
    [1, 96],
    Float32Array.from({ length: 96 }, (_, i) => i / 96),
  );
  const source = bytesSource(bytes);
  const expected = backend.prepare(parseOnnx(source), { constants: source }).runSync({ x });

  test('a model computes the same from its file as from its bytes', () => {
    using file = openModelFile(fileOf(bytes));
    const model = backend.prepare(parseOnnx(file), { constants: file });
    file.close(); // its sizes are known: everything was loaded
    expect(model.runSync({ x })).toEqual(expected);
    model.close();
  });

  test('a file that is cut short between parsing and loading is refused', () => {
    const path = fileOf(bytes);
    using file = openModelFile(path);
    const graph = parseOnnx(file);
    truncateSync(path, bytes.length - 1_000);
    expect(codeOf(() => backend.prepare(graph, { constants: file }))).toBe('INVALID_MODEL');
  });

  test('weights in a file beside the model are read in pieces as well', () => {
    using file = openModelFile(fileOf(bytes));
    const joined = withExternalData(file, () => undefined);
    expect(backend.prepare(parseOnnx(joined), { constants: joined }).runSync({ x })).toEqual(expected);
    const beside = new Uint8Array(5);
    withExternalData(bytesSource(bytes), () => undefined).readInto!(7, beside); // of a source that has no readInto
    expect(beside).toEqual(bytes.slice(7, 12));
  });
});

describe.skipIf(!binding)('the program host', () => {
  const source = bytesSource(writeOnnx(chain(2, 512)));

  test('reads weights into one small buffer, piece by piece', () => {
    const buffers = new Set<ArrayBufferLike>();
    let most = 0;
    const constants = {
      read: source.read,
      readInto(offset: number, target: Uint8Array) {
        buffers.add(target.buffer);
        most = Math.max(most, target.buffer.byteLength);
        target.set(source.read(offset, target.length));
      },
    };
    const backend = nativeBackend(openProgramHost(binding!, { threads: 1 }));
    const x = Tensor.zeros('f32', [1, 512]);
    const graph = parseOnnx(source);
    expect(backend.prepare(graph, { constants }).runSync({ x })).toEqual(
      backend.prepare(graph, { constants: source }).runSync({ x }),
    );
    expect(buffers.size).toBe(1);
    expect(most).toBeLessThanOrEqual(2 ** 18);
  });

  test.skipIf(process.platform !== 'linux')(
    'holds no file beside the packed weights, unlike one that is in memory',
    () => {
      const path = fileOf(writeOnnx(chain(12, 1_024))); // 50 MB of weights, 4 MB at a time in setup
      const room = (name: string): string => JSON.stringify(pathToFileURL(join(import.meta.dirname, '..', '..', name)));
      const peakOf = (open: string): number => {
        const code = `
        import { readFileSync, writeFileSync } from 'node:fs';
        import { loadBinding, openModelFile, openProgramHost } from ${room('native/index.ts')};
        import { nativeBackend } from ${room('src/engine/index.ts')};
        import { bytesSource, parseOnnx } from ${room('src/formats/index.ts')};
        import { Tensor } from ${room('src/tensor/index.ts')};
        const line = name => 1024 * Number(new RegExp(name + ':\\\\s+(\\\\d+)').exec(readFileSync('/proc/self/status', 'latin1'))[1]);
        const backend = nativeBackend(openProgramHost(loadBinding(), { threads: 1 }));
        writeFileSync('/proc/self/clear_refs', '5');
        const before = line('VmRSS');
        const file = ${open};
        const model = backend.prepare(parseOnnx(file), { constants: file });
        model.runSync({ x: Tensor.zeros('f32', [1, 1024]) });
        const { permanentBytes, temporaryBytes, scratchBytes } = model.memory;
        console.log((line('VmHWM') - before) / (permanentBytes + temporaryBytes + scratchBytes));`;
        const child = spawnSync(process.execPath, ['--input-type=module', '-e', code, path], { encoding: 'utf8' });
        expect(child.stderr).toBe('');
        return Number(child.stdout);
      };
      const path_ = JSON.stringify(path);
      expect(peakOf(`openModelFile(${path_})`)).toBeLessThan(1.4);
      expect(peakOf(`bytesSource(new Uint8Array(readFileSync(${path_})))`)).toBeGreaterThan(1.8); // the control
    },
  );
});
