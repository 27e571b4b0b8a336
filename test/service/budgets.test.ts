import { describe, expect, test } from 'vitest';
import { verifyHistory } from '../../privacy/budget/index.ts';
import type { ReleaseReply } from '../../src/service/index.ts';
import { record, request, SCOPE, World } from './world.ts';

const released = (reply: ReleaseReply): Extract<ReleaseReply, { kind: 'released' }> => {
  if (reply.kind !== 'released') throw new Error(reply.message);
  return reply;
};

describe('a release in a scope that counts in rho', () => {
  test('gets Gaussian noise, costs exactly its rho, and says so in the log', async () => {
    const life = await new World().start({ budget: { measure: 'zcdp', rho: 0.3 } });
    const { epsilon: _, ...ask } = request();
    for (const rho of [0.1, 0.1]) {
      expect(released(await life.model.release({ ...ask, rho })).event.kind).toBe('discrete-gaussian');
    }
    const refused = await life.model.release({ ...ask, rho: 0.2 });
    expect(refused).toMatchObject({ kind: 'refused', measure: 'zcdp', by: { kind: 'lifetime' } });
    const records = await life.records();
    expect(records.map(({ action }) => action).slice(-5)).toEqual(['charge', 'release', 'charge', 'release', 'refuse']);
    const budgets = records.flatMap(({ budget }) => (budget ? [budget] : []));
    expect(budgets[0]).toEqual({
      scope: SCOPE,
      measure: 'zcdp',
      before: 0,
      after: 100_000_000_000,
      limit: 300_000_000_000,
    });
    expect(budgets.at(-1)).toMatchObject({ before: budgets.at(-2)!.after, after: budgets.at(-2)!.after });
    const history = await life.ledger.history(SCOPE);
    expect(verifyHistory(history)).toMatchObject({ ok: true, head: records.at(-1)!.commitments?.['ledger']?.slice(7) });
  });

  test('gets continuous Gaussian noise, rounded, where the scope counts in mu, and costs at most twice its rho', async () => {
    const life = await new World().start({ budget: { measure: 'gdp', mu: 0.5 } });
    const { epsilon: _, ...ask } = request();
    expect(released(await life.model.release({ ...ask, rho: 0.1 })).event.kind).toBe('gaussian');
    const { spent } = await life.scope();
    expect(spent).toBeLessThanOrEqual(200_000_000_000);
    expect(spent).toBeGreaterThan(199_999_000_000);
    expect(await life.model.release({ ...ask, rho: 0.1 })).toMatchObject({ kind: 'refused', measure: 'gdp' });
    await expect(life.model.release(request())).rejects.toMatchObject({ code: 'DP_INVALID_PARAMETER' });
  });

  test('wants one of epsilon and rho, in range, before anything is charged', async () => {
    const life = await new World().start({ budget: { measure: 'zcdp', rho: 0.3 } });
    const { epsilon: _, ...ask } = request();
    const bad = [Number.NaN, Number.POSITIVE_INFINITY, 0, -0, -1, 5e-324, 2 ** 53, '1', 1n].map(rho => ({ rho }));
    for (const loss of [{}, { epsilon: 1, rho: 1 }, ...bad]) {
      await expect(life.model.release({ ...ask, ...(loss as object) })).rejects.toMatchObject({
        code: 'DP_INVALID_PARAMETER',
      });
    }
    expect(await life.ledger.history(SCOPE)).toHaveLength(1);
  });
});

test('subjects without budget are left out, and the answer to the caller is of the same form', async () => {
  const life = await new World().start({ budget: { epsilon: 1000, perSubject: { epsilon: 400 } } });
  // At epsilon 400 the noise is 0 but with probability 1e-173.
  const ask = (...subjects: string[]) =>
    life.model.release(request({ epsilon: 400, records: [...subjects, ...subjects].map(record) }));
  const first = released(await ask('ann', 'bob'));
  expect(first.value).toEqual([2]);
  const second = released(await ask('ann', 'bob', 'cid'));
  expect(second.value).toEqual([1]);
  expect(Object.keys(second)).toEqual(Object.keys(first));
});

test('the same question on the same data gets the stored answer, free; on other data it is paid for', async () => {
  const life = await new World().start();
  const first = released(await life.model.release(request({ dataset: 'v1' })));
  const again = released(await life.model.release(request({ dataset: 'v1' })));
  expect(again).toMatchObject({ value: first.value, replayed: true });
  expect(released(await life.model.release(request({ dataset: 'v2' }))).replayed).toBe(false);
  expect(released(await life.model.release(request())).replayed).toBe(false);
  expect((await life.scope()).spent).toBe(1_500_000);
});

test('each actor has a limit, and blocks have theirs', async () => {
  const budget = { epsilon: 2, perTenant: { epsilon: 0.5 }, perBlock: { epsilon: 1 } };
  const life = await new World().start({ budget });
  const ask = (actor: string) => life.model.release({ ...request({ blocks: ['w47'] }), actor });
  expect((await ask('ward')).kind).toBe('released');
  expect(await ask('ward')).toMatchObject({ kind: 'refused', by: { kind: 'tenant', name: 'ward' } });
  expect((await ask('lab')).kind).toBe('released');
  expect(await ask('icu')).toMatchObject({ kind: 'refused', by: { kind: 'block', name: 'w47' } });
  await expect(life.model.release(request())).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
});
