/**
 * What a model that keeps failing costs, and whom: the breaker for all of its requests, the quarantine for the one that is at fault.
 */
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { Breaker } from '../../sandbox/breaker.ts';
import { type LimitsInput, parseLimits } from '../../sandbox/limits.ts';
import { MAX_ENDED_WORKERS, Quarantine } from '../../sandbox/quarantine.ts';
import { SupervisedModel } from '../../sandbox/supervisor.ts';
import { packTensors } from '../../sandbox/tensors.ts';
import { WorkerPool } from '../../sandbox/worker/pool.ts';
import { CloisterError, isCloisterError } from '../../src/base/index.ts';
import type { NamedTensors } from '../../src/engine/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { CRASH, HANG, LIE } from './scripted-worker.ts';

const crashed = new CloisterError('WORKER_CRASHED', 'it died');

function refused(breaker: Breaker): CloisterError | undefined {
  try {
    breaker.leave(breaker.enter());
    return undefined;
  } catch (error) {
    return error as CloisterError;
  }
}

describe('a breaker', () => {
  it('refuses for a while after five failures in a row, twice as long each time, and lets one in to decide', () => {
    let now = 0;
    const breaker = new Breaker('the model', () => now);
    for (let i = 0; i < 5; i++) {
      expect(refused(breaker)).toBeUndefined();
      breaker.failed(crashed);
    }
    for (const ms of [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
      expect(breaker.state).toMatchObject({ kind: 'open', retryAfterMs: ms });
      expect(refused(breaker)).toMatchObject({ code: 'GUEST_REFUSED', detail: { retryAfterMs: ms }, cause: crashed });
      now += ms - 1;
      expect(refused(breaker)?.detail).toMatchObject({ retryAfterMs: 1 });
      now += 1;
      expect(breaker.state.kind).toBe('half-open');
      const probe = breaker.enter();
      expect(probe).toBe(true);
      expect(refused(breaker)?.code, 'a second one beside the one that decides').toBe('GUEST_REFUSED');
      breaker.failed(crashed);
      breaker.leave(probe);
    }
    now += 30_000;
    const probe = breaker.enter();
    breaker.succeeded();
    breaker.leave(probe);
    expect(breaker.state).toEqual({ kind: 'closed', failures: 0 });
  });

  it('lets the next one decide when the first came to no verdict', () => {
    let now = 0;
    const breaker = new Breaker('the model', () => now);
    breaker.failedToLoad(crashed);
    now += 500;
    breaker.leave(breaker.enter());
    expect(breaker.enter()).toBe(true);
  });

  it('never refuses before the fifth failure since the last answer, and never lets in two at once when it is half-open', () => {
    const step = fc.oneof(
      { weight: 6, arbitrary: fc.constantFrom('enter', 'fail', 'answer', 'nothing') },
      fc.record({ wait: fc.integer({ min: 1, max: 40_000 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), steps => {
        let now = 0;
        let inARow = 0;
        const breaker = new Breaker('the model', () => now);
        const inside: boolean[] = [];
        for (const step of steps) {
          if (typeof step === 'object') now += step.wait;
          else if (step === 'enter') {
            const { kind } = breaker.state;
            try {
              inside.push(breaker.enter());
              expect(kind).not.toBe('open');
              expect(inside.filter(Boolean).length).toBeLessThanOrEqual(1);
            } catch (error) {
              expect(isCloisterError(error, 'GUEST_REFUSED')).toBe(true);
              expect(inARow).toBeGreaterThanOrEqual(5);
            }
          } else if (inside.length > 0) {
            const probe = inside.shift()!;
            if (step === 'fail') {
              breaker.failed(crashed);
              inARow++;
            }
            if (step === 'answer') {
              breaker.succeeded();
              inARow = 0;
            }
            breaker.leave(probe);
          }
        }
      }),
      { numRuns: 500 },
    );
  });
});

const inputs = (...values: readonly number[]) => packTensors({ x: Tensor.of('f32', [values]) });

describe('a quarantine', () => {
  it('holds what ended two workers in a row, and nothing else', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.constantFrom('ended', 'answered')), { maxLength: 60 }),
        events => {
          const quarantine = new Quarantine();
          const ended = new Map<number, number>();
          for (const [value, event] of events) {
            quarantine[event as 'ended' | 'answered'](inputs(value, 1, 1));
            ended.set(value, event === 'ended' ? (ended.get(value) ?? 0) + 1 : 0);
          }
          for (let value = 0; value < 6; value++) {
            expect(quarantine.holds(inputs(value, 1, 1))).toBe((ended.get(value) ?? 0) >= MAX_ENDED_WORKERS);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it('tells inputs apart by name, shape and every element', () => {
    const quarantine = new Quarantine();
    const one = packTensors({ x: Tensor.of('f32', [[1, 2]]), y: Tensor.of('f32', [3]) });
    for (let i = 0; i < MAX_ENDED_WORKERS; i++) quarantine.ended(one);
    const others: NamedTensors[] = [
      { x: Tensor.of('f32', [[1, 2]]), z: Tensor.of('f32', [3]) },
      { x: Tensor.of('f32', [[1], [2]]), y: Tensor.of('f32', [3]) },
      { x: Tensor.of('f32', [[1, 2]]), y: Tensor.of('f32', [4]) },
      { x: Tensor.of('i32', [[1, 2]]), y: Tensor.of('f32', [3]) },
    ];
    expect(others.map(other => quarantine.holds(packTensors(other)))).toEqual([false, false, false, false]);
    expect(quarantine.holds(one)).toBe(true);
  });

  it('forgets after ten minutes, and the oldest first when it is full', () => {
    let now = 0;
    const quarantine = new Quarantine(() => now);
    for (let i = 0; i < 3_000; i++) for (let k = 0; k < MAX_ENDED_WORKERS; k++) quarantine.ended(inputs(i, 0, 0));
    expect(quarantine.size).toBe(1_024);
    expect(quarantine.holds(inputs(0, 0, 0))).toBe(false);
    expect(quarantine.holds(inputs(2_999, 0, 0))).toBe(true);
    now += 600_000;
    expect(quarantine.holds(inputs(2_999, 0, 0))).toBe(false);
    expect(quarantine.size).toBe(0);
  });

  it('says nothing of the inputs, neither in its error nor in what can be seen of it', () => {
    const quarantine = new Quarantine();
    const secret = inputs(0.1234567, 0, 0);
    for (let k = 0; k < MAX_ENDED_WORKERS; k++) quarantine.ended(secret);
    const error = (() => {
      try {
        quarantine.assertFree(secret);
      } catch (cause) {
        return cause as CloisterError;
      }
    })();
    expect(error?.code).toBe('REQUEST_QUARANTINED');
    expect(JSON.stringify(error)).toBe(JSON.stringify({ ...error!.toJSON() }));
    expect(error!.detail).toEqual({ workers: MAX_ENDED_WORKERS });
    expect(JSON.stringify(quarantine)).toBe('{}');
  });
});

describe('a model', () => {
  const orders = join(tmpdir(), `orders-${process.pid}`);
  const script = fileURLToPath(new URL('scripted-worker.ts', import.meta.url));
  let pool: WorkerPool | undefined;
  afterEach(async () => {
    await pool?.close();
    rmSync(orders, { force: true });
  });

  async function load(limits: LimitsInput = {}): Promise<SupervisedModel> {
    pool = new WorkerPool(0, { file: process.execPath, args: ['--no-warnings', script, orders] });
    return await SupervisedModel.open({ pool, bytes: Uint8Array.of(7), name: 'odd', limits: parseLimits(limits) });
  }
  const x = (...values: [number, number, number]) => ({ x: Tensor.of('f32', [values]) });
  const codeOf = async (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'answered',
      (error: unknown) => (isCloisterError(error) ? error.code : String(error)),
    );

  it('refuses inputs that ended two workers, at once and without a worker more; others go on', async () => {
    const model = await load();
    const all = await Promise.all([x(CRASH, 0, 0), x(1, 0, 0), x(2, 0, 0)].map(item => codeOf(model.run(item))));
    expect(all).toEqual(['WORKER_CRASHED', 'answered', 'answered']);
    expect(model.health()).toMatchObject({ quarantined: 1, restarts: 2 });
    expect(await codeOf(model.run(x(CRASH, 0, 0)))).toBe('REQUEST_QUARANTINED');
    expect(await codeOf(model.run(x(1, 0, 0)))).toBe('answered');
    expect(model.health().restarts).toBe(2);
  });

  it('is asked all the same on behalf of one that must not depend on others', async () => {
    const model = await load();
    expect(await codeOf(model.run(x(CRASH, 0, 0)))).toBe('WORKER_CRASHED');
    expect(await codeOf(model.run(x(CRASH, 0, 0), { independent: true }))).toBe('WORKER_CRASHED');
    expect(await codeOf(model.run(x(CRASH, 0, 0)))).toBe('REQUEST_QUARANTINED');
  });

  it.each([
    ['wallMs', HANG, 'LIMIT_EXCEEDED'],
    ['a false answer', LIE, 'GUEST_FAILED'],
  ])('refuses inputs that ended two workers by %s, which are not tried again by themselves', async (_, order, code) => {
    const model = await load({ wallMs: 300 });
    const inputs = x(order, 0, 0);
    expect(await codeOf(model.run(inputs))).toBe(code);
    expect(await codeOf(model.run(x(1, 0, 0)))).toBe('answered');
    expect(model.health()).toMatchObject({ quarantined: 0, restarts: 1 });
    expect(await codeOf(model.run(inputs))).toBe(code);
    expect(await codeOf(model.run(inputs))).toBe('REQUEST_QUARANTINED');
  });

  it('that ends one worker after the other is refused, and served again when a request is answered', async () => {
    const model = await load();
    const codes: string[] = [];
    for (let i = 0; i < 4; i++) codes.push(await codeOf(model.run(x(CRASH, i, 0))));
    // Two workers each; the fifth failure opened the breaker, and the third request, already let in, waited to be tried again.
    expect(codes).toEqual(['WORKER_CRASHED', 'WORKER_CRASHED', 'WORKER_CRASHED', 'GUEST_REFUSED']);
    expect(model.health().breaker).toMatchObject({ kind: 'open', failures: 6 });
    const error = (await model.run(x(1, 0, 0)).catch((cause: unknown) => cause)) as CloisterError;
    expect(error).toMatchObject({ code: 'GUEST_REFUSED', cause: { code: 'WORKER_CRASHED' } });
    const waiting = codeOf(model.run(x(5, 0, 0), { independent: true }));
    expect(await waiting).toBe('answered');
    expect(model.health().breaker).toEqual({ kind: 'closed', failures: 0 });
    expect(await codeOf(model.run(x(1, 0, 0)))).toBe('answered');
  });

  it('that cannot be loaded again is refused for a while, by the same breaker', async () => {
    const model = await load({ wallMs: 400 });
    writeFileSync(orders, 'crash');
    expect(await codeOf(model.run(x(CRASH, 0, 0)))).toMatch(/^(GUEST_REFUSED|WORKER_CRASHED)$/);
    expect(model.health().breaker.kind).toBe('open');
    expect(await codeOf(model.run(x(1, 0, 0)))).toBe('GUEST_REFUSED');
    const independent = codeOf(model.run(x(1, 0, 0), { independent: true }));
    rmSync(orders);
    expect(await independent).toBe('answered');
    expect(model.health()).toMatchObject({ breaker: { kind: 'closed' }, restarts: 1 });
  });

  it('that cannot be loaded for a moment costs no request that it had let in', async () => {
    const model = await load();
    writeFileSync(orders, 'crash');
    const waiting = [x(CRASH, 0, 0), x(1, 0, 0), x(2, 0, 0)].map(item => codeOf(model.run(item)));
    await expect.poll(() => model.health().breaker.kind, { timeout: 10_000 }).toBe('open');
    expect(await codeOf(model.run(x(3, 0, 0)))).toBe('GUEST_REFUSED');
    rmSync(orders);
    expect(await Promise.all(waiting)).toEqual(['WORKER_CRASHED', 'answered', 'answered']);
  });

  it('that is refused can be told to wait no longer', async () => {
    const model = await load({ wallMs: 400 });
    writeFileSync(orders, 'crash');
    await codeOf(model.run(x(CRASH, 0, 0)));
    const abort = AbortSignal.timeout(50);
    expect(await codeOf(model.run(x(1, 0, 0), { independent: true, signal: abort }))).toBe('ABORTED');
    const waiting = codeOf(model.run(x(1, 0, 0), { independent: true }));
    await model.close();
    expect(await waiting).toBe('CLOSED');
  });
});
