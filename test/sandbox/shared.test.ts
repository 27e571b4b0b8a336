/**
 * Tensors through shared memory: the same answers as through the socket, and nothing that the other side could change afterwards.
 */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { nativeStatus } from '../../native/index.ts';
import { parseLimits } from '../../sandbox/limits.ts';
import { SupervisedModel } from '../../sandbox/supervisor.ts';
import { WorkerPool } from '../../sandbox/worker/pool.ts';
import { ownCommand, WorkerProcess } from '../../sandbox/worker/process.ts';
import { Lane, SHARED_BYTES } from '../../sandbox/worker/shared.ts';
import { isCloisterError } from '../../src/base/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { affineModel } from './tiny-model.ts';

const HALF = SHARED_BYTES / 2;
const limits = parseLimits({ wallMs: 20_000 });

describe('a lane', () => {
  const bytes = new Uint8Array(SHARED_BYTES);
  const supervisor = new Lane(bytes, 'supervisor');
  const worker = new Lane(bytes, 'worker');

  it('carries payloads each way at once, and refuses what does not fit', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: HALF + 100 }), fc.nat({ max: 255 }), (length, value) => {
        const there = new Uint8Array(length).fill(value);
        const back = new Uint8Array(length).fill(255 - value);
        const put = supervisor.put([there.subarray(0, 10), there.subarray(10)], length);
        expect(worker.put([back], length)).toBe(put);
        if (put === 0) return;
        expect(put).toBe(length);
        expect(length).toBeLessThanOrEqual(HALF);
        expect(Buffer.compare(worker.take(put)!, there)).toBe(0);
        expect(Buffer.compare(supervisor.take(put)!, back)).toBe(0);
      }),
      {
        numRuns: 50,
        examples: [
          [HALF, 1],
          [HALF + 1, 1],
          [16_384, 1],
        ],
      },
    );
  });

  it('gives copies: what is written afterwards does not reach them', () => {
    supervisor.put([new Uint8Array(20_000).fill(1)], 20_000);
    const taken = worker.take(20_000)!;
    bytes.fill(9);
    expect(taken.every(byte => byte === 1)).toBe(true);
    expect(taken.byteLength).toBe(taken.buffer.byteLength);
  });

  it('takes no length that cannot be', () => {
    for (const length of [0, -1, 1.5, HALF + 1, 2 ** 40, Number.NaN, '20000', null, undefined, {}]) {
      expect(worker.take(length)).toBeUndefined();
    }
    expect(worker.take(HALF)?.length).toBe(HALF);
  });
});

const here = nativeStatus().kind === 'loaded' && process.platform !== 'win32';

describe.skipIf(!here)('tensors through shared memory', () => {
  let pool: WorkerPool | undefined;
  afterEach(() => pool?.close());

  it('and through the socket are answered alike, of any size and several at once', async () => {
    pool = new WorkerPool(0);
    await using model = await SupervisedModel.open({ pool, bytes: affineModel(), name: 'affine', limits });
    const rows = fc.integer({ min: 1, max: 3_000 });
    const huge = Math.floor(HALF / 12) + 1; // inputs that do not fit, outputs that do
    await fc.assert(
      fc.asyncProperty(fc.array(rows, { minLength: 1, maxLength: 4 }), async sizes => {
        const answers = await Promise.all(
          sizes.map((n, i) => model.run({ x: Tensor.from('f32', [n, 3], new Float32Array(3 * n).fill(i)) })),
        );
        for (const [i, { y }] of answers.entries()) {
          expect(y!.shape).toEqual([sizes[i], 2]);
          const values = y!.data as Float32Array;
          expect(values.every((value, k) => value === (k % 2 === 0 ? 9 * i + 0.5 : 0))).toBe(true);
        }
      }),
      { numRuns: 25, examples: [[[huge, 1, huge]], [[2_000, 2_000]]] },
    );
  });

  it('is what a worker of ours does, and one without it does not miss it', async () => {
    for (const shared of [true, false]) {
      const worker = new WorkerProcess(ownCommand(shared));
      const greeting = await worker.greeted();
      expect(greeting['shared']).toBe(shared ? SHARED_BYTES : undefined);
      await worker.close();
    }
  });
});

/** A worker that claims to have the memory mapped, and then answers as a test says. */
function liar(answer: string, greeting = `{"shared":${SHARED_BYTES}}`): WorkerProcess {
  const script = `
    const fs = require('node:fs');
    const say = (id, text, payload = 0) => {
      const b = Buffer.alloc(16 + text.length + payload);
      b.write('CLF1'); b.writeUInt32LE(id, 4); b.writeUInt32LE(text.length, 8); b.writeUInt32LE(payload, 12); b.write(text, 16);
      fs.writeSync(3, b);
    };
    say(0, ${JSON.stringify(greeting)}); fs.readSync(3, Buffer.alloc(65536)); ${answer}; setTimeout(() => {}, 10_000);`;
  return new WorkerProcess({ file: process.execPath, args: ['-e', script] });
}

describe.skipIf(!here)('a worker that lies about shared memory', () => {
  it.each([
    ['with a length over the memory', `say(1, '{"shared":${HALF + 1}}')`],
    ['with a length over outputBytes', `say(1, '{"shared":1025}')`],
    ['with a length that is none', `say(1, '{"shared":-1}')`],
    ['with text for a length', `say(1, '{"shared":"16384"}')`],
    ['with two payloads', `say(1, '{"shared":16}', 16)`],
    ['for a request that has not the memory', `say(1, '{}'); say(2, '{"shared":16}')`],
  ])('%s is ended', async (_, answer) => {
    const worker = liar(answer);
    await worker.greeted();
    const small = { ...limits, outputBytes: 1_024 };
    const answers = await Promise.all(
      [1, 2].map(() => worker.request({ op: 'run' }, [], small).catch((error: unknown) => error)),
    );
    expect(answers.some(error => isCloisterError(error, 'WORKER_CRASHED'))).toBe(true);
    expect(answers.map(String).join()).toContain('broke the protocol');
    await worker.close();
  });

  it('that it never mapped is ended', async () => {
    const worker = liar(`say(1, '{"shared":16}')`, '{}');
    await worker.greeted();
    const error = await worker.request({ op: 'run' }, [], limits).catch((cause: unknown) => cause);
    expect(String(error)).toContain('broke the protocol');
    await worker.close();
  });

  it('gets what it says when it is true (the control of the lies above)', async () => {
    const worker = liar(`say(1, '{"shared":16}')`);
    await worker.greeted();
    const { payload } = await worker.request({ op: 'run' }, [], { ...limits, outputBytes: 1_024 });
    expect([...payload]).toEqual(Array(16).fill(0));
    await worker.close();
  });
});
