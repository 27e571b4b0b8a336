import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { threadInfo } from '../../native/index.ts';
import { loadBinding } from '../../native/loader.ts';
import { type NativeProgram, openProgramHost, type ProgramHostOptions } from '../../native/program-host.ts';
import { CloisterError } from '../../src/base/index.ts';
import { planProgram } from '../../src/engine/index.ts';
import { encodeProgram } from '../../src/engine/program.ts';
import type { Graph } from '../../src/graph/index.ts';
import { digits, filled, noFile, Sketch, seedPrograms } from './program-seeds.ts';

const binding = loadBinding();
const ROOT = join(import.meta.dirname, '..', '..');
const LIMIT = 1 << 30;
const empty = new Uint8Array(0);

/** Two branches, each of steps that split, and a tail that does not. */
function branches(): Graph {
  const g = new Sketch('branches');
  const x = g.input('x', [256, 4096]);
  const left = g.op('Exp', [g.op('Sigmoid', [g.op('Relu', [x])])]);
  const right = g.op('Softmax', [g.op('Tanh', [x])]);
  return g.build(g.op('ReduceSum', [g.op('Mul', [left, right]), g.ints(1)], { keepdims: 0 }));
}

function load(graph: Graph, options: ProgramHostOptions): NativeProgram {
  const host = openProgramHost(binding!, options);
  const { program } = planProgram(graph, { kernel: host.info, constants: noFile, modelBytes: 0 });
  return host.load(program, empty, LIMIT);
}

/** Inputs of deterministic numbers for every port. */
function inputsOf(program: NativeProgram): Uint8Array[] {
  return program.inputBytes.map(
    (bytes, i) => new Uint8Array(filled([Math.ceil(bytes / 4)], i + 1).data.buffer, 0, bytes),
  );
}

function outputsOf(program: NativeProgram): Uint8Array[] {
  return program.outputBytes.map(bytes => new Uint8Array(bytes));
}

/** The outputs of one run, or the code of the error. */
function result(program: NativeProgram, inputs = inputsOf(program)): string {
  const outputs = outputsOf(program);
  try {
    program.run(inputs, outputs);
  } catch (error) {
    if (error instanceof CloisterError) return error.code;
    throw error;
  }
  return outputs.map(bytes => Buffer.from(bytes).toString('base64')).join(' ');
}

/** Runs `code` in a Node of its own; `graphs` is program-seeds.ts, `native` the addon's module. */
function inChild(code: string, env: Record<string, string> = {}): ReturnType<typeof spawnSync> {
  const header = `
    import * as native from ${JSON.stringify(join(ROOT, 'native', 'index.ts'))};
    import * as graphs from ${JSON.stringify(join(import.meta.dirname, 'program-seeds.ts'))};
    import { planProgram } from ${JSON.stringify(join(ROOT, 'src', 'engine', 'index.ts'))};
    const host = native.openProgramHost(native.loadBinding(), { threads: 4 });
    const { program: bytes } = planProgram(graphs.digits(256),
      { kernel: host.info, constants: graphs.noFile, modelBytes: 0 });
    const program = host.load(bytes, new Uint8Array(0), ${LIMIT});
    const inputs = program.inputBytes.map(length => new Uint8Array(length));
    const outputs = program.outputBytes.map(length => new Uint8Array(length));\n`;
  return spawnSync(process.execPath, ['--input-type=module', '-e', header + code], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 60_000,
  });
}

describe('the CPUs that a process may use', () => {
  /** What is found below a root with these files. */
  function found(files: Record<string, string>): { quota: number | undefined; available: number; affinity: number } {
    const root = mkdtempSync(join(tmpdir(), 'cloister-cpus-'));
    try {
      for (const [name, text] of Object.entries(files)) {
        mkdirSync(dirname(join(root, name)), { recursive: true });
        writeFileSync(join(root, name), text);
      }
      return threadInfo(root)!;
    } finally {
      rmSync(root, { recursive: true });
    }
  }
  const v2 = '30 24 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n';
  const v1 = '33 32 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n';

  test.skipIf(!binding)('are limited by the tightest quota up the hierarchy (v2)', () => {
    const files = { 'proc/self/mountinfo': v2, 'proc/self/cgroup': '0::/a.slice/b.scope\n' };
    const group = 'sys/fs/cgroup/a.slice';
    expect(found(files).quota).toBeUndefined();
    expect(found({ ...files, [`${group}/b.scope/cpu.max`]: 'max 100000\n' }).quota).toBeUndefined();
    expect(found({ ...files, [`${group}/b.scope/cpu.max`]: '150000 100000\n' }).quota).toBe(1.5);
    const nested = { [`${group}/b.scope/cpu.max`]: '400000 100000\n', [`${group}/cpu.max`]: '50000 100000\n' };
    expect(found({ ...files, ...nested })).toMatchObject({ quota: 0.5, available: 1 });
  });

  test.skipIf(!binding)('are limited by the quota of the cpu controller (v1)', () => {
    const files = { 'proc/self/mountinfo': v1, 'proc/self/cgroup': '4:cpu,cpuacct:/a/b\n1:name=systemd:/x\n' };
    const group = 'sys/fs/cgroup/cpu,cpuacct/a';
    const limit = (folder: string, quota: number) => ({
      [`${folder}/cpu.cfs_quota_us`]: `${quota}\n`,
      [`${folder}/cpu.cfs_period_us`]: '100000\n',
    });
    expect(found({ ...files, ...limit(`${group}/b`, -1) }).quota).toBeUndefined();
    expect(found({ ...files, ...limit(`${group}/b`, -1), ...limit(group, 175_000) })).toMatchObject({
      quota: 1.75,
      available: 1,
    });
  });

  test.skipIf(!binding)('are found inside a container, whose group is the root of what it sees', () => {
    const max = { 'sys/fs/cgroup/cpu.max': '70000 100000\n' };
    const inside = '30 24 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n';
    expect(found({ 'proc/self/mountinfo': inside, 'proc/self/cgroup': '0::/docker/abc\n', ...max }).quota).toBe(0.7);
    expect(found({ 'proc/self/mountinfo': inside, 'proc/self/cgroup': '0::/../other\n', ...max }).quota).toBe(0.7);
  });

  test.skipIf(!binding)('are those of the affinity mask where no file can be read', () => {
    const { quota, available, affinity } = found({});
    expect(quota).toBeUndefined();
    expect(available).toBe(Math.min(affinity, 64));
    for (const text of ['', 'x', '\0\0\0', ' - - - cgroup2\n', '9'.repeat(9000)]) {
      expect(found({ 'proc/self/mountinfo': text, 'proc/self/cgroup': text }).available).toBe(available);
    }
  });
});

describe.skipIf(!binding)('threads', () => {
  test('are as many as CLOISTER_THREADS says, or an error', () => {
    const report = 'console.log(native.threadInfo().limit)';
    expect(String(inChild(report, { CLOISTER_THREADS: '3' }).stdout).trim()).toBe('3');
    for (const wrong of ['0', '65', '-1', '1.5', 'two']) {
      const { stderr } = inChild(report, { CLOISTER_THREADS: wrong });
      expect(String(stderr)).toContain('CLOISTER_THREADS: expected an integer from 1 to 64');
    }
    for (const threads of [0, 65, 1.5, Number.NaN]) {
      expect(() => openProgramHost(binding!, { threads })).toThrow(/threads: expected an integer from 1 to 64/);
    }
  });

  test('change no bit of any result', () => {
    for (const graph of [branches(), digits(64)]) {
      const alone = load(graph, { threads: 1 });
      const inputs = inputsOf(alone);
      const expected = result(alone, inputs);
      for (const threads of [2, 3, 5]) {
        const before = threadInfo()!.joined;
        const program = load(graph, { threads, fill: 0xff });
        for (let i = 0; i < 200 && (i < 10 || threadInfo()!.joined === before); i++) {
          expect(result(program, inputs) === expected).toBe(true);
        }
        expect(threadInfo()!.joined).toBeGreaterThan(before); // somebody did help
        program.close();
      }
    }
  });

  test('no order that a schedule allows changes a result', () => {
    const programs = seedPrograms().map(({ program, model }) => ({ program, model }));
    const host = openProgramHost(binding!);
    for (const graph of [branches(), digits(16)]) {
      programs.push({
        program: planProgram(graph, { kernel: host.info, constants: noFile, modelBytes: 0 }).program,
        model: empty,
      });
    }
    // What is written twice and not read between: no planner does that, and a guest may.
    const input = { space: 'input', port: 0, offset: 0, length: 16 } as const;
    const output = { space: 'output', port: 0, offset: 0, length: 16 } as const;
    const again = [0, 1, 2, 3, 4, 5].map(
      op => ({ kind: 'unary', operands: [input, output], words: [op, 0, 0] }) as const,
    );
    const ports = [{ dtype: 'f32', length: 16 }] as const;
    const arenas = { modelBytes: 0, permanentBytes: 0, temporaryBytes: 0, stagingBytes: 0, constants: [], packed: [] };
    const twice = encodeProgram({ ...arenas, inputs: ports, outputs: ports, setup: [], run: again });
    programs.push({ program: twice, model: empty });
    for (const { program, model } of programs) {
      const expected = result(openProgramHost(binding!, { threads: 1 }).load(program, model, LIMIT));
      for (let shuffle = 1; shuffle <= 3; shuffle++) {
        const shuffled = openProgramHost(binding!, { shuffle, fill: 0xff }).load(program, model, LIMIT);
        for (let i = 0; i < 4; i++) expect(result(shuffled) === expected).toBe(true);
        shuffled.close();
      }
    }
  });

  test('are fewer where the limit leaves no workspace for more', () => {
    const host = openProgramHost(binding!, { threads: 8 });
    const { program } = planProgram(digits(64), { kernel: host.info, constants: noFile, modelBytes: 0 });
    const alone = openProgramHost(binding!, { threads: 1 }).load(program, empty, LIMIT);
    const { permanentBytes, temporaryBytes, scratchBytes } = alone.memory;
    const fits = (limit: number): boolean => {
      try {
        const tight = host.load(program, empty, limit);
        expect(tight.memory.peakBytes).toBeLessThanOrEqual(limit);
        expect(tight.memory.scratchBytes).toBeLessThanOrEqual(host.load(program, empty, LIMIT).memory.scratchBytes);
        expect(result(tight) === result(alone)).toBe(true);
        tight.close();
        return true;
      } catch (error) {
        if (error instanceof CloisterError && error.code === 'OUT_OF_MEMORY') return false;
        throw error;
      }
    };
    const least = permanentBytes + temporaryBytes + scratchBytes;
    expect(fits(least - 1)).toBe(false);
    for (let more = 1; more <= 4; more += 0.25) fits(Math.ceil(least * more));
    expect(fits(4 * least)).toBe(true);
  });

  test('sleep when there is nothing to do', async () => {
    const program = load(branches(), { threads: 4 });
    result(program);
    await new Promise(resolve => setTimeout(resolve, 20));
    const before = process.cpuUsage();
    await new Promise(resolve => setTimeout(resolve, 300));
    const { user, system } = process.cpuUsage(before);
    expect(user + system).toBeLessThan(100_000); // microseconds; one spinning thread would take 300,000
  });

  test('a program may be closed, from anywhere, while it runs', async () => {
    const inputs = inputsOf(load(branches(), { threads: 1 }));
    const expected = result(load(branches(), { threads: 1 }), inputs);
    for (let i = 0; i < 10; i++) {
      const programs = Array.from({ length: 3 }, () => load(branches(), { threads: 3 }));
      const runs = programs.flatMap(program =>
        Array.from({ length: 3 }, async () => {
          const outputs = outputsOf(program);
          await program.runAsync(inputs, outputs);
          return outputs.map(bytes => Buffer.from(bytes).toString('base64')).join(' ') === expected;
        }),
      );
      if (i % 2 === 0) await new Promise(resolve => setImmediate(resolve));
      for (const program of programs) program.close();
      for (const program of programs) program.close();
      expect(await Promise.all(runs)).toEqual(runs.map(() => true));
    }
  });
});

describe.skipIf(!binding)('the end of an environment', () => {
  const spin = `
    const { parentPort } = require('node:worker_threads');
    (async () => {
      const native = await import(${JSON.stringify(join(ROOT, 'native', 'index.ts'))});
      const graphs = await import(${JSON.stringify(join(import.meta.dirname, 'program-seeds.ts'))});
      const { planProgram } = await import(${JSON.stringify(join(ROOT, 'src', 'engine', 'index.ts'))});
      const host = native.openProgramHost(native.loadBinding(), { threads: 4 });
      const { program: bytes } = planProgram(graphs.digits(64),
        { kernel: host.info, constants: graphs.noFile, modelBytes: 0 });
      const program = host.load(bytes, new Uint8Array(0), ${LIMIT});
      const inputs = program.inputBytes.map(length => new Uint8Array(length));
      const outputs = () => program.outputBytes.map(length => new Uint8Array(length));
      program.run(inputs, outputs());
      parentPort.postMessage(native.threadInfo().running);
      for (;;) {
        for (let i = 0; i < 4; i++) program.runAsync(inputs, outputs());
        program.run(inputs, outputs());
        await new Promise(resolve => setImmediate(resolve));
      }
    })();`;

  test('worker threads share one pool, and may be terminated in the middle of their runs', {
    timeout: 120_000,
  }, async () => {
    const program = load(branches(), { threads: 4 });
    const expected = result(program);
    for (let round = 0; round < 3; round++) {
      const workers = [0, 1].map(() => new Worker(spin, { eval: true }));
      const running = await Promise.all(workers.map(async worker => (await once(worker, 'message'))[0] as number));
      for (const count of running) expect(count).toBe(threadInfo()!.running);
      expect(threadInfo()!.running).toBeLessThan(64);
      await new Promise(resolve => setTimeout(resolve, 10 * round));
      await Promise.all(workers.map(worker => worker.terminate()));
      expect(result(program) === expected).toBe(true);
    }
  });

  test('the addon may be unloaded: only worker threads had it', { timeout: 120_000 }, () => {
    const code = `
      const { Worker } = require('node:worker_threads');
      (async () => {
        for (let round = 0; round < 3; round++) {
          const worker = new Worker(${JSON.stringify(spin)}, { eval: true });
          await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
          await worker.terminate();
        }
        console.log('unloaded');
      })();`;
    const { status, signal, stdout } = spawnSync(process.execPath, ['-e', code], {
      encoding: 'utf8',
      timeout: 110_000,
    });
    expect({ status, signal, stdout }).toEqual({ status: 0, signal: null, stdout: 'unloaded\n' });
  });

  test.each([
    [
      'process.exit during asynchronous runs',
      'for (let i = 0; i < 6; i++) program.runAsync(inputs, outputs); process.exit(7);',
      7,
    ],
    [
      'process.exit a moment later',
      'for (let i = 0; i < 6; i++) program.runAsync(inputs, outputs); setTimeout(() => process.exit(7), 3);',
      7,
    ],
    [
      'process.exit beside a run of a worker',
      `const { Worker } = await import('node:worker_threads'); const worker = new Worker(${JSON.stringify(spin)}, { eval: true, execArgv: [] }); worker.once('message', () => process.exit(7));`,
      7,
    ],
    ['an uncaught error', 'for (let i = 0; i < 6; i++) program.runAsync(inputs, outputs); throw new Error("x");', 1],
    ['nothing left to do', 'program.run(inputs, outputs);', 0],
    [
      'a failed run, parked threads',
      'try { program.run([], outputs) } catch {} program.run(inputs, outputs); setTimeout(() => {}, 50);',
      0,
    ],
  ])('a process ends by %s', { timeout: 120_000 }, (_, code, expected) => {
    const { status, signal } = inChild(code);
    expect({ status, signal }).toEqual({ status: expected, signal: null });
  });
});
