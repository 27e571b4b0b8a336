/**
 * Who shares a worker process with whom: nobody.
 */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openSandbox } from '../../sandbox/index.ts';
import { parseLent } from '../../sandbox/lending/index.ts';
import { parseLimits } from '../../sandbox/limits.ts';
import { evaluateInWorker, SupervisedModel } from '../../sandbox/supervisor.ts';
import { WorkerPool } from '../../sandbox/worker/pool.ts';
import { WorkerProcess } from '../../sandbox/worker/process.ts';
import { CloisterError, isCloisterError } from '../../src/base/index.ts';
import { Tensor } from '../../src/tensor/index.ts';
import { affineModel } from './tiny-model.ts';

const limits = parseLimits({ wallMs: 20_000 });
const SCRIPT = { source: '1', lent: parseLent(), seed: undefined, model: new Uint8Array(0), signal: undefined };
const bytesOf = { a: affineModel(), b: affineModel('z') };

/** The children of this process, the oldest first. */
function children(): readonly number[] {
  const text = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, 'utf8');
  return text.split(' ').filter(Boolean).map(Number);
}

const action = fc.oneof(
  fc.record({
    do: fc.constant('load' as const),
    tenant: fc.constantFrom('north', 'south'),
    model: fc.constantFrom('a' as const, 'b' as const),
  }),
  fc.record({
    do: fc.constantFrom('run' as const, 'reload' as const, 'crash' as const, 'close' as const),
    of: fc.nat({ max: 4 }),
    model: fc.constantFrom('a' as const, 'b' as const),
  }),
  fc.record({ do: fc.constant('evaluate' as const) }),
);

describe('a worker process', () => {
  it('serves one trust domain in its life, whatever is loaded, reloaded, killed and evaluated', async () => {
    const served = new Map<WorkerProcess, Set<string>>();
    const domains = new Set<string>();
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 3, maxLength: 8 }), async actions => {
        const pool = new WorkerPool(1);
        const take = pool.take.bind(pool);
        pool.take = domain => {
          const worker = take(domain);
          domains.add(domain);
          served.set(worker, (served.get(worker) ?? new Set()).add(domain));
          return worker;
        };
        const models: SupervisedModel[] = [];
        for (const step of actions) {
          if (step.do === 'evaluate') {
            await evaluateInWorker(pool, { ...SCRIPT, entries: new Map(), limits });
          } else if (step.do === 'load') {
            const { tenant, model } = step;
            models.push(await SupervisedModel.open({ pool, bytes: bytesOf[model], name: model, tenant, limits }));
          } else if (models.length > 0) {
            const model = models[step.of % models.length]!;
            if (step.do === 'reload') await model.reload(bytesOf[step.model]);
            if (step.do === 'crash') [...served.keys()].at(-1)!.kill(new CloisterError('WORKER_CRASHED', 'gone'));
            if (step.do === 'run') await model.run({ x: Tensor.of('f32', [[1, 1, 1]]) });
            if (step.do === 'close') models.splice(models.indexOf(model), 1).map(gone => gone.close());
          }
        }
        await pool.close();
      }),
      { numRuns: 8 },
    );
    for (const [worker, names] of served) expect([...names]).toEqual([worker.domain]);
    expect(new Set([...served.keys()].map(({ pid }) => pid)).size).toBe(served.size);
    expect(domains.size).toBeGreaterThan(2);
  }, 120_000);

  it('that was given away cannot be given away again, not even to the same domain', async () => {
    const worker = new WorkerProcess();
    worker.claim('one');
    for (const domain of ['one', 'two']) expect(() => worker.claim(domain)).toThrow(/one trust domain/);
    await worker.close();
  });

  it.skipIf(process.platform !== 'linux')('is not shared by equal models of two tenants', async () => {
    await using sandbox = await openSandbox({ warm: 0 });
    await using north = await sandbox.load(bytesOf.a, { tenant: 'north' });
    await using south = await sandbox.load(bytesOf.a, { tenant: 'south' });
    expect([north.tenant, south.tenant]).toEqual(['north', 'south']);
    expect(north.digest).toBe(south.digest);
    expect(children()).toHaveLength(2);
    process.kill(children()[0]!, 'SIGKILL');
    const x = Tensor.of('f32', [[1, 1, 1]]);
    for (const model of [north, south]) expect((await model.run({ x }))['y']!.toArray()).toEqual([[9.5, 0]]);
    expect([north.health().restarts, south.health().restarts]).toEqual([1, 0]);
  });

  it('has a tenant of a form that can be shown', async () => {
    await using sandbox = await openSandbox({ warm: 0 });
    const error = await sandbox.load(bytesOf.a, { tenant: 'a\u001b[2J' }).catch((cause: unknown) => cause);
    expect(isCloisterError(error, 'INVALID_ARGUMENT')).toBe(true);
  });
});
