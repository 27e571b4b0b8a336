/**
 * Workers that die, and what their models do then.
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openSandbox, type Sandbox } from '../../sandbox/index.ts';
import { parseLimits } from '../../sandbox/limits.ts';
import { SupervisedModel } from '../../sandbox/supervisor.ts';
import { WorkerPool } from '../../sandbox/worker/pool.ts';
import { isCloisterError } from '../../src/base/index.ts';
import type { NamedTensors } from '../../src/engine/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { affineModel, slowModel } from './tiny-model.ts';

const linux = process.platform === 'linux';

/** The children of this process, by number. */
function children(): readonly number[] {
  const text = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8');
  return text.split(' ').filter(Boolean).map(Number);
}

async function failure(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => 'it did not fail',
    (error: unknown) => error,
  );
}

/** The answer, or the error. */
async function failureOr<T>(work: Promise<T>): Promise<T | unknown> {
  return work.catch((error: unknown) => error);
}

const x = Tensor.of('f32', [[1, 1, 1]]);
const y = [[9.5, 0]];

describe.skipIf(!linux)('a worker that is killed', () => {
  let sandbox: Sandbox;
  beforeAll(async () => {
    sandbox = await openSandbox({ warm: 0 });
  });
  afterAll(() => sandbox.close());

  it('in the middle of a run is replaced, and that run and those behind it are answered by the fresh one', async () => {
    await using model = await sandbox.load(slowModel(256, 300), { name: 'slow' });
    const big = Tensor.zeros('f32', [256, 256]);
    const running = [model.run({ x: big }), model.run({ x: big })];
    await new Promise(resolve => setTimeout(resolve, 20));
    const [pid] = children();
    process.kill(pid!, 'SIGKILL');
    for (const { y } of await Promise.all(running)) expect(y!.shape).toEqual([256, 256]);
    expect(children()).not.toContain(pid);
    expect(model.health()).toEqual({ breaker: { kind: 'closed', failures: 0 }, quarantined: 0, restarts: 1 });
  });

  it('while it waits is replaced unnoticed, again and again', async () => {
    await using model = await sandbox.load(affineModel());
    for (let i = 0; i < 4; i++) {
      const [pid] = children();
      process.kill(pid!, 'SIGKILL');
      while (children().includes(pid!)) await new Promise(resolve => setTimeout(resolve, 5));
      const answers = await Promise.all([model.run({ x }), model.run({ x }), model.run({ x })]);
      for (const answer of answers) expect(answer['y']!.toArray()).toEqual(y);
      expect(children()).toHaveLength(1);
    }
  });

  it('in a storm of kills never gives a wrong answer, and the last word is an answer', async () => {
    await using model = await sandbox.load(affineModel());
    const seen = { right: 0, crashed: 0 };
    const until = performance.now() + 3_000;
    const storm = setInterval(() => {
      // It ends in time: what was let in waits for its model until then.
      if (performance.now() > until) clearInterval(storm);
      else for (const pid of children()) process.kill(pid, 'SIGKILL');
    }, 500);
    let asked = 0;
    const client = async (): Promise<void> => {
      while (performance.now() < until) {
        const first = ++asked;
        const answer = await failureOr(model.run({ x: Tensor.of('f32', [[first, 1, 1]]) }));
        if (isCloisterError(answer)) {
          expect(['WORKER_CRASHED', 'GUEST_REFUSED']).toContain(answer.code);
          seen.crashed++;
          await new Promise(resolve => setTimeout(resolve, 10));
        } else {
          expect((answer as NamedTensors)['y']!.toArray()).toEqual([[first + 8.5, Math.max(0, 2 * first - 90)]]);
          seen.right++;
        }
      }
    };
    await Promise.all([client(), client(), client()]);
    expect(seen.right).toBeGreaterThan(0);
    while (true) {
      const answer = await failureOr(model.run({ x }));
      if (!(answer instanceof Error)) break;
      await new Promise(resolve => setTimeout(resolve, 50));
    }
  });

  it('in its pool is passed over', async () => {
    const other = await openSandbox({ warm: 2 });
    await other.settled();
    for (const pid of children()) process.kill(pid, 'SIGKILL');
    await new Promise(resolve => setTimeout(resolve, 100));
    await using model = await other.load(affineModel());
    expect((await model.run({ x }))['y']!.toArray()).toEqual(y);
    await other.close();
    expect(children()).toEqual([]);
  });
});

describe('a run that passes a limit', () => {
  it.each([
    ['wallMs', { wallMs: 800 }],
    ['cpuMs', { cpuMs: 800 }],
  ] as const)('%s is stopped, and the model goes on', async (limit, limits) => {
    await using sandbox = await openSandbox({ warm: 1, limits });
    await using model = await sandbox.load(slowModel(1_024, 400));
    const big = Tensor.zeros('f32', [1_024, 1_024]);
    for (let i = 0; i < 2; i++) {
      const started = performance.now();
      const error = await failure(model.run({ x: big }));
      expect(isCloisterError(error, 'LIMIT_EXCEEDED'), String(error)).toBe(true);
      expect((error as { detail: { limit: string } }).detail.limit).toBe(limit);
      expect(performance.now() - started).toBeLessThan(8_000);
    }
  });

  it('of memory is refused or stopped', async () => {
    await using sandbox = await openSandbox({ warm: 0, limits: { memoryMb: 32 } });
    const attempt = async (): Promise<void> => {
      await using model = await sandbox.load(slowModel(4_096, 2)); // native kernels know here already what a run would hold
      await model.run({ x: Tensor.zeros('f32', [4_096, 4_096]) });
    };
    const error = await failure(attempt());
    const code = isCloisterError(error) ? error.code : String(error);
    expect(['OUT_OF_MEMORY', 'LIMIT_EXCEEDED', 'INVALID_PROGRAM']).toContain(code);
  });
});

describe('a model that ends every worker', () => {
  it('is refused after three of them', async () => {
    const started: number[] = [];
    const script = `const fs = require('node:fs');
      const b = Buffer.alloc(18); b.write('CLF1'); b.writeUInt32LE(2, 8); b.write('{}', 16); fs.writeSync(3, b);
      fs.readSync(3, Buffer.alloc(16)); process.kill(process.pid, 'SIGSEGV');`;
    const pool = new WorkerPool(0, { file: process.execPath, args: ['-e', script] });
    const take = pool.take.bind(pool);
    pool.take = domain => {
      const worker = take(domain);
      started.push(worker.pid);
      return worker;
    };
    const options = { pool, bytes: affineModel(), name: 'bad', limits: parseLimits() };
    const error = await failure(SupervisedModel.open(options));
    expect(isCloisterError(error, 'WORKER_CRASHED'), String(error)).toBe(true);
    expect((error as { detail: unknown }).detail).toMatchObject({ attempts: 3, signal: 'SIGSEGV' });
    expect(started).toHaveLength(3);
    await pool.close();
  });
});

describe('a worker that lies about its outputs', () => {
  const lies: Record<string, [string, number]> = {
    'of another name': ['[{"name":"z","dtype":"f32","shape":[1,2]}]', 8],
    'of another dtype': ['[{"name":"y","dtype":"i32","shape":[1,2]}]', 8],
    'of another size': ['[{"name":"y","dtype":"f32","shape":[1,3]}]', 12],
    'of another batch': ['[{"name":"y","dtype":"f32","shape":[2,2]}]', 16],
    'that are none': ['7', 0],
  };
  it.each(Object.entries(lies))('%s is ended', async (_, [tensors, size]) => {
    const value = { name: 'x', dtype: 'f32', shape: ['n', 3] };
    const summary = {
      name: '',
      bytes: affineModel().length,
      inputs: [value],
      outputs: [{ ...value, name: 'y', shape: ['n', 2] }],
    };
    const report = {
      summary: { ...summary, operators: [], nodes: 1, outline: [], parameters: 0, parameterBytes: 0 },
      backend: 'native',
      why: 'so it says',
      memory: { permanentBytes: 0, temporaryBytes: 0, scratchBytes: 0, portBytes: 0, blockBytes: 0 },
    };
    const script = `const fs = require('node:fs');
      const say = (id, text, size) => {
        const b = Buffer.alloc(16 + text.length + size);
        b.write('CLF1'); b.writeUInt32LE(id, 4); b.writeUInt32LE(text.length, 8); b.writeUInt32LE(size, 12); b.write(text, 16);
        fs.writeSync(3, b);
      };
      const hear = () => fs.readSync(3, Buffer.alloc(65536));
      say(0, '{}', 0); hear(); say(1, ${JSON.stringify(JSON.stringify({ report }))}, 0); hear();
      say(2, '{"tensors":' + ${JSON.stringify(tensors)} + '}', ${size}); hear();`;
    const pool = new WorkerPool(0, { file: process.execPath, args: ['-e', script] });
    const model = await SupervisedModel.open({ pool, bytes: affineModel(), name: 'liar', limits: parseLimits() });
    const error = await failure(model.run({ x }));
    expect(isCloisterError(error, 'GUEST_FAILED'), String(error)).toBe(true);
    await pool.close();
    expect(isCloisterError(await failure(model.run({ x })), 'CLOSED')).toBe(true);
  });
});

describe.skipIf(!linux)('a supervisor that is gone', () => {
  const script = (body: string): string => `
    import { openSandbox } from ${JSON.stringify(new URL('../../sandbox/index.ts', import.meta.url).href)};
    import { readFileSync } from 'node:fs';
    const sandbox = await openSandbox({ warm: 1 });
    await sandbox.settled();
    console.log(readFileSync('/proc/' + process.pid + '/task/' + process.pid + '/children', 'utf8'));
    ${body}`;

  const gone = async (pid: number): Promise<boolean> => {
    for (let i = 0; i < 200; i++) {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        if (stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z')) return true; // dead, and not ours to reap
      } catch {
        return true;
      }
      await new Promise(resolve => setTimeout(resolve, 20));
    }
    return false;
  };

  it.each([
    ['an end of its script: waiting workers do not hold it', ''],
    ['SIGKILL', "process.kill(process.pid, 'SIGKILL');"],
    [
      'SIGKILL, while a guest loops',
      "sandbox.evaluate('for (;;);'); setTimeout(() => process.kill(process.pid, 'SIGKILL'), 200);",
    ],
    ['process.exit', 'process.exit(0);'],
  ])('by %s, leaves no worker behind', async (_, body) => {
    let text = '';
    try {
      const args = ['--no-node-snapshot', '--input-type=module', '-e', script(body)];
      text = execFileSync(process.execPath, args, {
        encoding: 'utf8',
        timeout: 20_000,
        stdio: ['ignore', 'pipe', 'ignore'],
      });
    } catch (error) {
      text = String((error as { stdout: unknown }).stdout);
      expect((error as { code?: string }).code).not.toBe('ETIMEDOUT');
    }
    const pids = text.trim().split(/\s+/).map(Number);
    expect(pids[0]).toBeGreaterThan(1);
    for (const pid of pids) expect(await gone(pid)).toBe(true);
  });
});
