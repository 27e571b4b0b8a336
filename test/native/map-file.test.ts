import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, test } from 'vitest';
import { loadBinding, type MappedFile, mapFile, nativeStatus, openProgramHost } from '../../native/index.ts';
import { CloisterError, type ErrorCode, isCloisterError } from '../../src/base/index.ts';
import { planProgram, referenceBackend } from '../../src/engine/index.ts';
import {
  bytesSource,
  type ModelSource,
  parseOnnx,
  parseSafetensors,
  writeSafetensors,
} from '../../src/formats/index.ts';
import { DTYPES, Tensor } from '../../src/tensor/index.ts';
import { filled } from './program-seeds.ts';

const root = join(import.meta.dirname, '..', '..');
const entry = join(root, 'native', 'index.ts');
const corpus = process.env['CLOISTER_CORPUS'];
const linux = process.platform === 'linux';
const canMap = nativeStatus().kind === 'loaded' && process.platform !== 'win32';
const MiB = 2 ** 20;

const folder = mkdtempSync(join(tmpdir(), 'cloister-map-'));
chmodSync(folder, 0o755); // some tests go on as another user
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;

/** A new file with these bytes. */
function fileOf(bytes: Uint8Array): string {
  const path = join(folder, `file-${files++}.bin`);
  writeFileSync(path, bytes);
  return path;
}

/** A new file of this size that takes no space. */
function sparseFile(size: number): string {
  const path = fileOf(new Uint8Array(0));
  truncateSync(path, size);
  return path;
}

const counting = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => i * 7 + (i >> 8));

/** How many mappings of `path` this process has. */
const mappings = (path: string): number => readFileSync('/proc/self/maps', 'utf8').split(path).length - 1;

/** What waits for the event loop to turn has been done. */
const turns = (): Promise<void> => new Promise(resolve => setTimeout(resolve, 20));

/** For code in a child: what counts the mappings of `path`, and what collects garbage and waits until it is unmapped. */
const UNMAPPING = `
  const mappings = () => fs.readFileSync('/proc/self/maps', 'utf8').split(path).length - 1;
  const collect = async () => {
    for (let i = 0; i < 3; i++) {
      gc();
      await new Promise(resolve => setTimeout(resolve, 20));
    }
  };`;

interface Outcome {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `code` in a Node of its own; it sees this room's exports as `native`, node:fs as `fs`, and `path`. */
function inChild(code: string, path: string, env: Record<string, string> = {}): Outcome {
  const module = `
    import * as native from ${JSON.stringify(entry)};
    import * as fs from 'node:fs';
    const path = ${JSON.stringify(path)};
    ${code}`;
  return spawnSync(process.execPath, ['--expose-gc', '--input-type=module', '-e', module], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 20_000,
  });
}

/** The error that `run` throws, which must be one of ours. */
function errorOf(run: () => unknown): CloisterError {
  try {
    run();
  } catch (error) {
    if (isCloisterError(error)) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

describe('without the native binary', () => {
  test('mapFile says so, and what to do instead', () => {
    const code = 'try { native.mapFile(path) } catch (error) { console.log(JSON.stringify(error)) }';
    const { stdout } = inChild(code, fileOf(counting(10)), { CLOISTER_NATIVE: 'off' });
    const error = JSON.parse(stdout) as { code: ErrorCode; message: string; detail: Record<string, unknown> };
    expect(error.code).toBe('MISSING_DEPENDENCY');
    expect(error.message).toMatch(/no native binary.*readFile/);
    expect(error.detail).toMatchObject({ fallback: 'readFile', install: 'unset CLOISTER_NATIVE' });
  });
});

describe.skipIf(!canMap)('a mapped file', () => {
  test('has the bytes of the file, at every size around a page', () => {
    for (const size of [0, 1, 4095, 4096, 4097, 3 * 65_536 + 5]) {
      const expected = counting(size);
      using file = mapFile(fileOf(expected));
      expect(file.bytes).toBeInstanceOf(Uint8Array);
      expect(file.bytes.byteOffset).toBe(0);
      expect(file.bytes.buffer.byteLength).toBe(size);
      expect(Buffer.compare(file.bytes, expected)).toBe(0);
    }
  });

  test('can be written without changing the file or another mapping of it', () => {
    const path = fileOf(counting(10_000));
    using one = mapFile(path);
    using other = mapFile(path);
    one.bytes.fill(0xee);
    expect(one.bytes[9_999]).toBe(0xee);
    expect(Buffer.compare(other.bytes, counting(10_000))).toBe(0);
    expect(Buffer.compare(readFileSync(path), counting(10_000))).toBe(0);
  });

  test('may be one that this process can only read', () => {
    const { stdout } = inChild(
      `fs.chmodSync(path, 0o444);
       native.loadBinding();
       if (process.getuid() === 0) process.seteuid(65534);
       using file = native.mapFile(path);
       file.bytes[0] = 9;
       console.log(file.bytes[0], fs.readFileSync(path)[0]);`,
      fileOf(counting(10)),
    );
    expect(stdout.trim()).toBe('9 0');
  });

  test('follows a page until it is written, and shows nothing behind the size that it was mapped with', () => {
    const path = fileOf(new Uint8Array(3 * 65_536));
    using file = mapFile(path);
    file.bytes[0] = 1;
    const fd = openSync(path, 'r+');
    writeFileSync(fd, new Uint8Array(4 * 65_536).fill(5));
    closeSync(fd);
    expect(file.bytes.length).toBe(3 * 65_536);
    expect(file.bytes[0]).toBe(1);
    // POSIX leaves this open; it is what our systems do, and why a mapping is no snapshot.
    expect(file.bytes[2 * 65_536]).toBe(5);
  });

  test('closed, leaves no view of it with an element, and says so', () => {
    const file = mapFile(fileOf(counting(8_192)));
    const { bytes } = file;
    const views = [
      bytes.subarray(4_096),
      new Float32Array(bytes.buffer, 64, 8),
      Tensor.external('f32', [4], bytes.buffer),
    ];
    file.close();
    expect(bytes.buffer.detached).toBe(true);
    expect(bytes.length).toBe(0);
    expect(views[0]).toHaveLength(0);
    expect(views[1]).toHaveLength(0);
    expect(errorOf(() => (views[2] as Tensor).toArray()).code).toBe('CLOSED');
    expect(errorOf(() => file.bytes).code).toBe('CLOSED');
    file.close();
    file[Symbol.dispose]();
    expect(errorOf(() => file.bytes).code).toBe('CLOSED');
  });

  test('closed, tells a reader that still has the bytes that they are gone', () => {
    const file = mapFile(fileOf(counting(64)));
    const source = bytesSource(file.bytes);
    expect(source.read(1, 1)[0]).toBe(7);
    file.close();
    expect(errorOf(() => source.read(1, 1)).code).toBe('INVALID_MODEL');
  });

  test.skipIf(!linux)('is unmapped when it is closed, and by `using`', async () => {
    const path = fileOf(counting(100));
    const file = mapFile(path);
    expect(mappings(path)).toBe(1);
    file.close();
    {
      using second = mapFile(path);
      expect(second.bytes[1]).toBe(7);
    }
    await turns();
    expect(mappings(path)).toBe(0);
  });

  test.skipIf(!linux)('stays mapped as long as a view of it does, and no longer', () => {
    const code = `
      ${UNMAPPING}
      let view = native.mapFile(path).bytes.subarray(1);
      await collect();
      console.log(mappings(), view[0]);
      view = undefined;
      await collect();
      console.log(mappings());`;
    expect(inChild(code, fileOf(counting(100))).stdout).toBe('1 7\n0\n');
  });

  test.skipIf(!linux)('whose buffer was transferred is its new holder’s, closed or not', async () => {
    const path = fileOf(counting(100));
    const file = mapFile(path);
    const moved = file.bytes.buffer.transfer();
    expect(file.bytes).toHaveLength(0);
    file.close();
    await turns();
    expect(mappings(path)).toBe(1);
    expect(new Uint8Array(moved)[1]).toBe(7);
    moved.transfer(0);
    await turns();
    expect(mappings(path)).toBe(0);
  });

  test('cannot be transferred to another thread, only copied', () => {
    using file = mapFile(fileOf(counting(100)));
    const { buffer } = file.bytes;
    expect(() => structuredClone(buffer, { transfer: [buffer] })).toThrow(/transfer/);
    expect(file.bytes[1]).toBe(7);
    const copy = structuredClone(file.bytes);
    copy[1] = 8;
    expect(file.bytes[1]).toBe(7);
  });

  test.skipIf(!linux)('leaves nothing behind after 1,000 mappings: no memory, no descriptor, no mapping', () => {
    const code = `
      ${UNMAPPING}
      const cycles = async count => {
        for (let i = 0; i < count; i++) {
          using file = native.mapFile(path);
          if (file.bytes[2 ** 20 - 1] !== 0) throw new Error('not the file');
          file.bytes[i] = 1;
          if (i % 100 === 99) await new Promise(setImmediate);
        }
        await collect();
        return { descriptors: fs.readdirSync('/proc/self/fd').length, rss: process.memoryUsage.rss() };
      };
      const before = await cycles(100);
      const after = await cycles(1000);
      console.log(mappings(), after.descriptors - before.descriptors, after.rss - before.rss < 16 * 2 ** 20);`;
    expect(inChild(code, fileOf(new Uint8Array(MiB)))).toMatchObject({ stdout: '0 0 true\n', stderr: '' });
  });

  test('mapped and closed without end, and without a turn of the event loop, ends in an error; V8 keeps its room', () => {
    const code = `
      const cycle = () => native.mapFile(path).close();
      try { for (let i = 0; i < 100_000; i++) cycle(); } catch (error) { console.log(error.code, error.message); }
      await new Promise(setImmediate);
      cycle();
      console.log('again');`;
    const { status, stdout } = inChild(code, fileOf(counting(10)));
    expect(status).toBe(0);
    expect(stdout).toMatch(/^OUT_OF_MEMORY .* event loop .*\nagain\n$/);
  });
});

describe.skipIf(!canMap || !linux)('mapping costs nothing until the bytes are touched', () => {
  // In a process of its own, so that nothing else moves its memory. RSS in MiB.
  const RSS = 'const rss = () => process.memoryUsage.rss() / 2 ** 20;';

  test('a file of 256 MiB', () => {
    const { stdout, stderr } = inChild(
      `${RSS}
       native.mapFile(path).close(); // everything is loaded
       const before = rss();
       const file = native.mapFile(path);
       const mapped = rss();
       let sum = 0;
       for (let at = 0; at < 64 * 2 ** 20; at += 4096) sum += file.bytes[at];
       console.log(JSON.stringify({ length: file.bytes.length, mapped: mapped - before, touched: rss() - before, sum }));`,
      sparseFile(256 * MiB),
    );
    expect(stderr).toBe('');
    const { length, mapped, touched, sum } = JSON.parse(stdout);
    expect({ length, sum }).toEqual({ length: 256 * MiB, sum: 0 });
    expect(mapped).toBeLessThan(32);
    // The control: what was touched does count, and nothing else.
    expect(touched).toBeGreaterThan(56);
    expect(touched).toBeLessThan(160);
  });

  test('a sparse file of a terabyte, whose last byte is there as well', context => {
    let path: string;
    try {
      path = sparseFile(2 ** 40);
    } catch {
      return context.skip('this file system has no files of a terabyte');
    }
    const { stdout } = inChild(
      `${RSS}
       const before = rss();
       using file = native.mapFile(path);
       file.bytes[2 ** 40 - 1] = 3;
       console.log(JSON.stringify([file.bytes.length, file.bytes[0], file.bytes[2 ** 40 - 1], rss() - before < 32]));`,
      path,
    );
    expect(JSON.parse(stdout)).toEqual([2 ** 40, 0, 3, true]);
  });

  test('and a process that has no room for it gets a typed error', context => {
    const path = sparseFile(1024 * MiB);
    const outcome = inChild(
      `const { spawnSync } = await import('node:child_process');
       native.loadBinding();
       const kib = Number(/VmSize:\\s+(\\d+)/.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1]);
       const limit = '--as=' + (kib * 1024 + 256 * 2 ** 20);
       if (spawnSync('prlimit', ['--pid', String(process.pid), limit]).status !== 0) console.log('no prlimit');
       else
         try { native.mapFile(path); console.log('mapped'); } catch (error) { console.log(error.code, error.message); }`,
      path,
    );
    if (outcome.stdout === 'no prlimit\n') return context.skip('no prlimit here');
    expect(outcome).toMatchObject({ stderr: '', stdout: `OUT_OF_MEMORY cannot map ${path}: ENOMEM\n` });
  });
});

describe.skipIf(!canMap)('mapFile refuses', () => {
  const cases: Record<string, () => [path: unknown, reason: RegExp]> = {
    'a file that is not there': () => [join(folder, 'none'), /ENOENT/],
    'an empty path': () => ['', /ENOENT/],
    'a path that goes through a file': () => [join(fileOf(counting(1)), 'x'), /ENOTDIR/],
    'a path with a NUL, behind which the system does not look': () => [`${fileOf(counting(1))}\0.bin`, /NUL/],
    'a name that is too long': () => [join(folder, 'x'.repeat(5_000)), /ENAMETOOLONG/],
    'what is no path': () => [7, /must be a string/],
    'a symbolic link': () => {
      const link = join(folder, 'link');
      symlinkSync(fileOf(counting(10)), link);
      return [link, /symbolic link/];
    },
    'a symbolic link to nothing': () => {
      const link = join(folder, 'dangling');
      symlinkSync(join(folder, 'none'), link);
      return [link, /symbolic link/];
    },
    'a directory': () => [folder, /not a regular file/],
    'a device': () => ['/dev/zero', /not a regular file/],
    ...(linux && {
      'a file of the kernel that says it is empty': () => ['/proc/self/maps', /does not map/],
      'the memory of this process as a file': () => ['/proc/self/mem', /does not map/],
      'a file of the kernel that says it has a page': () => [
        '/sys/kernel/mm/transparent_hugepage/enabled',
        /ENODEV|ENOENT/,
      ],
    }),
  };

  test.each(Object.keys(cases))('%s', name => {
    const [path, reason] = cases[name]!();
    const error = errorOf(() => mapFile(path as string));
    expect(error.code).toBe('INVALID_ARGUMENT');
    expect(error.message).toMatch(/^cannot map /);
    expect(error.message).toMatch(reason);
  });

  test('a file that may not be read', () => {
    const { stdout } = inChild(
      `fs.chmodSync(path, 0);
       native.loadBinding();
       if (process.getuid() === 0) process.seteuid(65534);
       try { native.mapFile(path) } catch (error) { console.log(error.code, error.message) }`,
      fileOf(counting(10)),
    );
    expect(stdout).toMatch(/^INVALID_ARGUMENT .*EACCES/);
  });

  test('a pipe, without waiting for somebody to write to it', context => {
    const path = join(folder, 'pipe');
    if (spawnSync('mkfifo', [path]).status !== 0) return context.skip('no mkfifo here');
    // In a child: a call that waits could not be timed out here.
    const code = 'try { native.mapFile(path) } catch (error) { console.log(error.code, error.message) }';
    const { stdout, signal } = inChild(code, path);
    expect(signal).toBeNull();
    expect(stdout).toMatch(/^INVALID_ARGUMENT .*not a regular file/);
  });

  test.skipIf(!linux)('without keeping a descriptor or a mapping', () => {
    const empty = fileOf(new Uint8Array(0));
    const before = readdirSync('/proc/self/fd').length;
    for (const path of [folder, '/dev/zero', '/proc/self/maps', join(folder, 'none'), empty]) {
      for (let i = 0; i < 10; i++) {
        try {
          mapFile(path).close();
        } catch (error) {
          expect(error).toBeInstanceOf(CloisterError);
        }
      }
    }
    expect(readdirSync('/proc/self/fd')).toHaveLength(before);
    expect(mappings(empty)).toBe(0);
  });
});

describe.skipIf(!canMap)('worker threads', () => {
  /** Runs `code` in a worker, with what it needs to map `path`; the answer is its first message. */
  function inWorker(code: string, path: string): { worker: Worker; answer: Promise<unknown>; gone: Promise<void> } {
    const worker = new Worker(
      `const { parentPort } = require('node:worker_threads');
       const path = ${JSON.stringify(path)};
       import(${JSON.stringify(entry)}).then(native => { ${code} });`,
      { eval: true },
    );
    const answer = new Promise<unknown>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    const gone = new Promise<void>(resolve => worker.once('exit', () => resolve()));
    return { worker, answer, gone };
  }

  test('map the same file at once, each for itself, and leave nothing when they end without closing', async () => {
    const path = fileOf(counting(100_000));
    using mine = mapFile(path);
    for (let round = 0; round < 3; round++) {
      const workers = [1, 2, 3].map(i =>
        inWorker(
          `globalThis.file = native.mapFile(path);
           file.bytes[0] = ${i};
           parentPort.postMessage([file.bytes[0], file.bytes[99_999]]);`,
          path,
        ),
      );
      const answers = await Promise.all(workers.map(({ answer }) => answer));
      expect(answers).toEqual([1, 2, 3].map(i => [i, counting(100_000)[99_999]]));
      await Promise.all(workers.map(({ gone }) => gone));
    }
    expect(mine.bytes[0]).toBe(0);
    if (linux) expect(mappings(path)).toBe(1);
  });

  test('that are terminated while they read leave nothing either, and what they posted stays', async () => {
    const path = fileOf(counting(MiB));
    for (let round = 0; round < 3; round++) {
      const { worker, answer } = inWorker(
        `const { bytes } = native.mapFile(path);
         parentPort.postMessage(bytes.subarray(0, 4));
         for (let sum = 0; ; ) for (const byte of bytes) sum += byte;`,
        path,
      );
      const posted = (await answer) as Uint8Array;
      await worker.terminate();
      expect([...posted]).toEqual([0, 7, 14, 21]);
      if (linux) expect(mappings(path)).toBe(0);
    }
  });

  test('and processes end well with a file still mapped', () => {
    const path = fileOf(counting(100));
    for (const end of ['', 'process.exit(0)', 'setImmediate(() => process.exit(0))']) {
      const code = `globalThis.file = native.mapFile(path); console.log(file.bytes[1]); ${end}`;
      expect(inChild(code, path)).toMatchObject({ status: 0, signal: null, stdout: '7\n' });
    }
  });
});

describe.skipIf(!canMap)('native programs', () => {
  const model = join(root, 'examples', 'digits', 'digits.onnx');
  const batch = 2;
  const graphOf = (source: ModelSource) => parseOnnx(source);

  /** A program of the digits model, loaded from a mapping that is closed again, and what the oracle says. */
  async function loaded() {
    const host = openProgramHost(loadBinding()!);
    const source = bytesSource(readFileSync(model));
    const images = filled([batch, 1, 28, 28], 5);
    const oracle = referenceBackend.prepare(graphOf(source), { constants: source, dims: { batch } });
    const { logits } = await oracle.run({ image: images });

    using file = mapFile(model);
    const mapped = bytesSource(file.bytes);
    const options = { kernel: host.info, constants: mapped, modelBytes: mapped.size, dims: { batch } };
    const plan = planProgram(graphOf(mapped), options);
    const program = host.load(plan.program, file.bytes, 64 * MiB);
    return { program, images, expected: logits!.elements() as Float32Array };
  }

  const close = (came: Float32Array, expected: Float32Array): void => {
    expect(came.length).toBe(expected.length);
    for (let i = 0; i < came.length; i++) expect(Math.abs(came[i]! - expected[i]!)).toBeLessThan(1e-3);
  };

  test('do not need the model that they were loaded from any more', async () => {
    const { program, images, expected } = await loaded();
    const out = new Float32Array(expected.length);
    program.run([images.toBytes()], [new Uint8Array(out.buffer)]);
    close(out, expected);
    program.close();
  });

  test('that run on another thread finish when the file with their inputs is closed meanwhile', async () => {
    const { program, images, expected } = await loaded();
    const path = fileOf(images.toBytes());
    const out = new Float32Array(expected.length);
    const file = mapFile(path);
    const run = program.runAsync([file.bytes], [new Uint8Array(out.buffer)]);
    file.close();
    await turns();
    await run;
    close(out, expected);
    program.close();
  });

  test('refuse inputs and outputs that are closed by the time they are used', async () => {
    const { program, images, expected } = await loaded();
    const out = new Uint8Array(expected.byteLength);
    const path = fileOf(images.toBytes());

    const gone = mapFile(path);
    const { bytes } = gone;
    gone.close();
    expect(errorOf(() => program.run([bytes], [out])).message).toMatch(/input 0 is detached/);

    // Reading the list of outputs closes the file that the inputs lie in.
    const file = mapFile(path);
    const inputs = [file.bytes];
    const outputs = Object.defineProperty([out], 0, {
      get() {
        file.close();
        return out;
      },
    });
    expect(errorOf(() => program.run(inputs, outputs)).message).toMatch(/input 0 is detached/);

    const target = mapFile(fileOf(out));
    const run = program.runAsync([images.toBytes()], [target.bytes]);
    target.close();
    await expect(run).rejects.toThrow(/output 0 is detached/);
    program.close();
  });

  test('write into a mapping, and not into its file', async () => {
    const { program, images, expected } = await loaded();
    const path = fileOf(new Uint8Array(expected.byteLength));
    using target = mapFile(path);
    program.run([images.toBytes()], [target.bytes]);
    close(new Float32Array(target.bytes.buffer), expected);
    expect(readFileSync(path).every(byte => byte === 0)).toBe(true);
    program.close();
  });
});

describe.skipIf(!canMap)('weights in place', () => {
  /** Checks that every tensor of a safetensors file is a view of the mapping and equals what reading copies. */
  function viewsEqualCopies(path: string): number {
    using file: MappedFile = mapFile(path);
    const source = bytesSource(file.bytes);
    const copied = bytesSource(readFileSync(path));
    const { tensors } = parseSafetensors(source);
    for (const { dtype, shape, offset, length } of tensors.values()) {
      const bytes = source.read(offset, length);
      const view = Tensor.fromBytes(dtype, shape, bytes);
      expect(view.buffer).toBe(file.bytes.buffer);
      const expected = Tensor.fromBytes(dtype, shape, new Uint8Array(copied.read(offset, length)));
      expect(Buffer.compare(view.bytes(), expected.bytes())).toBe(0);
      if (dtype === 'string') continue;
      const external = Tensor.external(dtype, shape, file.bytes.buffer, { byteOffset: offset });
      expect(external.buffer).toBe(file.bytes.buffer);
      expect(Buffer.compare(external.bytes(), expected.bytes())).toBe(0);
      expect(external.data.byteOffset % DTYPES[dtype].bytes).toBe(0);
    }
    return tensors.size;
  }

  test('every tensor of a safetensors file of ours, of every dtype', () => {
    const dtypes = (Object.keys(DTYPES) as (keyof typeof DTYPES)[]).filter(dtype => dtype !== 'string');
    const tensors = dtypes.map(
      dtype =>
        [
          dtype,
          Tensor.of(dtype, [
            [1, 0, 1],
            [1, 1, 0],
          ]),
        ] as const,
    );
    expect(viewsEqualCopies(fileOf(writeSafetensors(Object.fromEntries(tensors))))).toBe(dtypes.length);
  });

  test.skipIf(!corpus)('every tensor of a real safetensors file', () => {
    expect(viewsEqualCopies(join(corpus!, 'models/silero-vad/model.safetensors'))).toBe(15);
  });

  test('a tensor holds the mapping and gives it back, where it is told how', () => {
    const file = mapFile(fileOf(writeSafetensors({ w: Tensor.of('f32', [1, 2, 3]) })));
    const { bytes } = file;
    const { offset } = parseSafetensors(bytesSource(bytes)).tensors.get('w')!;
    const release = (): void => file.close();
    const w = Tensor.external('f32', [3], bytes.buffer, { byteOffset: offset, release });
    expect(w.toArray()).toEqual([1, 2, 3]);
    w[Symbol.dispose]();
    expect(bytes.buffer.detached).toBe(true);
    expect(errorOf(() => w.toArray()).code).toBe('CLOSED');
  });

  const models = [
    join(root, 'examples', 'digits', 'digits.onnx'),
    ...(corpus ? [join(corpus, 'models/mnist-8/model.onnx'), join(corpus, 'models/silero-vad/model.onnx')] : []),
  ];

  test.each(models)(
    'the reference backend takes the constants of %s from its mapping, and computes the same',
    async path => {
      using file = mapFile(path);
      const mapped = bytesSource(file.bytes);
      const read: Uint8Array[] = [];
      const watched: ModelSource = {
        size: mapped.size,
        read(offset, length) {
          const bytes = mapped.read(offset, length);
          read.push(bytes);
          return bytes;
        },
      };
      const dims = { batch: 1, sequence: 576 };
      const run = async (source: ModelSource, constants: ModelSource) => {
        const graph = parseOnnx(source, path.includes('silero') ? { dims } : {});
        const inputs = graph.inputs.map(id => graph.values[id]!);
        const images = inputs.map(({ name, facts }, i) => {
          const shape = facts.shape.map(dim => (typeof dim === 'number' ? dim : 1));
          const tensor =
            facts.dtype === 'f32' ? filled(shape, i + 1) : Tensor.from('i64', [], BigInt64Array.of(16_000n));
          return [name, tensor] as const;
        });
        const ranges = [...graph.constants.values()].filter(({ kind }) => kind === 'range').length;
        const outputs = await referenceBackend.prepare(graph, { constants }).run(Object.fromEntries(images));
        return { ranges, outputs };
      };
      const copied = bytesSource(new Uint8Array(readFileSync(path)));
      const expected = await run(copied, copied);
      const { ranges, outputs } = await run(mapped, watched);
      expect(ranges).toBeGreaterThan(0);
      expect(read.length).toBeGreaterThanOrEqual(ranges);
      for (const bytes of read) expect(bytes.buffer).toBe(file.bytes.buffer);
      expect(Object.keys(outputs)).toEqual(Object.keys(expected.outputs));
      for (const [name, tensor] of Object.entries(outputs)) {
        expect(Buffer.compare(tensor.bytes(), expected.outputs[name]!.bytes())).toBe(0);
      }
    },
  );
});

// What docs/adr/0010-mapped-files.md decides about: there is no error for it, there is a dead process.
describe.skipIf(!canMap || !linux)('a file that is cut short while it is mapped', () => {
  const pages = (count: number): string => fileOf(new Uint8Array(count * 4096).fill(5));
  const SIGBUS = { status: null, signal: 'SIGBUS' };

  test('kills the process that touches what is gone, and the parent lives on', () => {
    const code = `
      const { bytes } = native.mapFile(path);
      fs.truncateSync(path, 4096);
      console.log(bytes.length, bytes[4095]);
      console.log(bytes[4096]);`;
    expect(inChild(code, pages(4))).toMatchObject({ ...SIGBUS, stdout: '16384 5\n' });
  });

  test('takes pages along that had been written, which are no copies that last', () => {
    const code = `
      const { bytes } = native.mapFile(path);
      bytes[8192] = 6;
      fs.truncateSync(path, 4096);
      console.log(bytes[8192]);`;
    expect(inChild(code, pages(4))).toMatchObject({ ...SIGBUS, stdout: '' });
  });

  test('kills the process from a worker thread as well: a thread is no wall', () => {
    const code = `
      const { Worker } = await import('node:worker_threads');
      const code = ${JSON.stringify(
        `const { workerData } = require('node:worker_threads');
         import(workerData.entry).then(native => {
           const { bytes } = native.mapFile(workerData.path);
           require('node:fs').truncateSync(workerData.path, 0);
           console.log(bytes[0]);
         });`,
      )};
      const worker = new Worker(code, { eval: true, execArgv: [], workerData: { entry: ${JSON.stringify(entry)}, path } });
      worker.on('exit', () => console.log('the thread died alone'));`;
    expect(inChild(code, pages(4))).toMatchObject({ ...SIGBUS, stdout: '' });
  });

  test('harms nobody who does not touch what is gone, closes, or maps anew', () => {
    const code = `
      const file = native.mapFile(path);
      fs.truncateSync(path, 4096);
      const part = file.bytes[0];
      file.close();
      using again = native.mapFile(path);
      console.log(part, again.bytes.length);`;
    expect(inChild(code, pages(4))).toMatchObject({ status: 0, signal: null, stdout: '5 4096\n' });
  });

  test('is another thing than a file that is replaced: the mapping keeps the old one', () => {
    const path = pages(4);
    using file = mapFile(path);
    const next = fileOf(new Uint8Array(1));
    renameSync(next, path);
    expect(readFileSync(path)).toHaveLength(1);
    expect(file.bytes.every(byte => byte === 5)).toBe(true);
    rmSync(path);
    expect(file.bytes[16_383]).toBe(5);
  });
});
