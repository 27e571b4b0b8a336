import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import {
  type Budget,
  type Charge,
  type Ledger,
  type LedgerOptions,
  limitIn,
  openLedger,
  type SpendRequest,
  totalsOf,
  verifyHistory,
} from '../../privacy/budget/index.ts';
import { encodeUtf8 } from '../../src/base/index.ts';
import { memoryStore, type Store } from '../../src/store/index.ts';
import { costing, Holders } from './faults.ts';

const DAY_MS = 86_400_000;
const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
const gaussian = (noiseMultiplier: number) =>
  ({ kind: 'gaussian', noiseMultiplier, neighboring: 'add-remove' }) as const;

let store: Store;
let holders: Holders;
let now: number;
beforeEach(() => {
  store = memoryStore();
  holders = new Holders();
  now = 1000 * DAY_MS;
});

const open = (budget: Omit<Budget, 'scope'>, more: Partial<LedgerOptions> = {}): Promise<Ledger> =>
  openLedger({
    store,
    clock: { now: () => now },
    budgets: [{ scope: 's', ...budget }],
    liveness: holders.next(),
    duplicateWaitMs: 0,
    ...more,
  });
const request = (micro: number, more: Partial<SpendRequest> = {}): SpendRequest => ({
  ...{ scope: 's', event: costing(micro), requestDigest: digest(String(micro)) },
  ...more,
});
const spend = async (ledger: Ledger, micro: number, more: Partial<SpendRequest> = {}): Promise<Charge> => {
  const outcome = await ledger.spend(request(micro, more));
  if (outcome.kind !== 'charged') throw new Error(`${outcome.kind} ${JSON.stringify(outcome)}`);
  return outcome;
};
const accounts = async (ledger: Ledger): Promise<Record<string, [spent: unknown, reserved: unknown]>> =>
  Object.fromEntries((await ledger.accounts('s')).map(one => [`${one.kind} ${one.name}`, [one.spent, one.reserved]]));

describe('limits of one scope', () => {
  it('are debited together or not at all: lifetime, blocks, tenant', async () => {
    const ledger = await open({ limit: 100, perBlock: 40, perTenant: 50 });
    await spend(ledger, 30, { blocks: ['b1', 'b2'], tenant: 't1' });
    const full = await ledger.spend(request(15, { blocks: ['b2', 'b3'], tenant: 't2' }));
    expect(full).toMatchObject({ kind: 'refused', by: { kind: 'block', name: 'b2' }, spent: 30, remaining: 10 });
    const greedy = await ledger.spend(request(25, { blocks: ['b3'], tenant: 't1' }));
    expect(greedy).toMatchObject({ kind: 'refused', by: { kind: 'tenant', name: 't1' }, limit: 50, remaining: 20 });
    expect((greedy as { message: string }).message).toContain("tenant 't1' of scope 's'");
    expect(await accounts(ledger)).toEqual({ 'block b1': [30, 0], 'block b2': [30, 0], 'tenant t1': [30, 0] });
    for (const block of ['b3', 'b4']) await spend(ledger, 35, { blocks: [block], tenant: block });
    expect(await ledger.spend(request(1, { blocks: ['b5'], tenant: 'b5' }))).toMatchObject({
      by: { kind: 'lifetime' },
    });
    expect((await ledger.scopes())[0]).toMatchObject({ spent: 100, remaining: 0 });
    expect(verifyHistory(await ledger.history('s')).ok).toBe(true);
  });

  it('want to know which block and tenant a spend is of', async () => {
    const ledger = await open({ limit: 100, perBlock: 40, perTenant: 50 });
    for (const parties of [
      {},
      { blocks: [], tenant: 't' },
      { blocks: ['b'] },
      { blocks: [''], tenant: 't' },
      { blocks: ['b'], tenant: '\0' },
    ]) {
      await expect(ledger.spend(request(1, parties))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    expect(await ledger.history('s')).toHaveLength(1);
  });

  it('count a block that is named twice once', async () => {
    const ledger = await open({ limit: 100, perBlock: 40 });
    await spend(ledger, 30, { blocks: ['b', 'b'] });
    expect(await accounts(ledger)).toEqual({ 'block b': [30, 0] });
  });

  it('compose in parallel over disjoint blocks: the whole has lost what its worst block has', async () => {
    const ledger = await open({ limit: 100, disjointBlocks: true });
    await spend(ledger, 60, { blocks: ['a'] });
    await spend(ledger, 70, { blocks: ['b'] });
    await spend(ledger, 20, { blocks: ['a', 'b'] });
    expect((await ledger.scopes())[0]).toMatchObject({ spent: 90, remaining: 10 });
    expect(await ledger.spend(request(11, { blocks: ['b'] }))).toMatchObject({ by: { kind: 'block', name: 'b' } });
    await spend(ledger, 11, { blocks: ['a'] });
    expect((await ledger.scopes())[0]).toMatchObject({ spent: 91 });
    expect(totalsOf(await ledger.history('s'))).toEqual({ limit: 100, spent: 91, reserved: 0 });
  });

  it('hold what is reserved, give it back from every account, and charge it in every account', async () => {
    const ledger = await open({ limit: 100, perBlock: 40, perTenant: 50 });
    const parties = { blocks: ['b'], tenant: 't' };
    const first = await ledger.reserve(request(30, parties));
    expect(await ledger.reserve(request(11, parties))).toMatchObject({ kind: 'refused', reserved: 30 });
    if (first.kind !== 'reserved') throw new Error();
    await ledger.void(first);
    expect(await accounts(ledger)).toEqual({ 'block b': [0, 0], 'tenant t': [0, 0] });
    const second = await ledger.reserve(request(40, parties));
    if (second.kind !== 'reserved') throw new Error();
    await ledger.charge(second);
    const third = await ledger.reserve(request(10, { blocks: ['c'], tenant: 't' }));
    expect(third.kind).toBe('reserved');
    holders.kill();
    const next = await open({ limit: 100, perBlock: 40, perTenant: 50 });
    expect(await accounts(next)).toEqual({ 'block b': [40, 0], 'block c': [10, 0], 'tenant t': [50, 0] });
    expect((await next.scopes())[0]).toMatchObject({ spent: 50, reserved: 0 });
  });

  it('may not be loosened without a word, and a measure, an adjacency or the kind of blocks never', async () => {
    await open({ limit: 100, perBlock: 40, perTenant: 50 });
    for (const looser of [
      { limit: 101, perBlock: 40, perTenant: 50 },
      { limit: 100, perBlock: 41, perTenant: 50 },
      { limit: 100, perBlock: 40 },
    ]) {
      await expect(open(looser)).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
    }
    await open({ limit: 90, perBlock: 40, perTenant: 50, perSubject: 5 });
    const others: Omit<Budget, 'scope'>[] = [
      { measure: 'zcdp', limit: 10, perBlock: 4, perTenant: 5 },
      { adjacency: 'replace-one', limit: 10, perBlock: 4, perTenant: 5 },
      { disjointBlocks: true, limit: 10, perBlock: 4, perTenant: 5 },
    ];
    for (const other of others) {
      await expect(open(other, { acknowledgeRaised: ['s'] })).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
    }
    const raised = await open({ limit: 200 }, { acknowledgeRaised: ['s'] });
    expect((await raised.history('s')).map(entry => entry.kind)).toEqual(['SCOPE', 'LIMIT', 'LIMIT']);
  });

  it('in every measure keep the sums of every account, whatever happens in between', async () => {
    const step = fc.record({
      noise: fc.integer({ min: 3, max: 30 }),
      block: fc.constantFrom('a', 'b', 'c'),
      how: fc.constantFrom('spend', 'reserve-void', 'reserve-charge', 'reserve-leave'),
    });
    await fc.assert(
      fc.asyncProperty(fc.boolean(), fc.array(step, { maxLength: 25 }), async (disjointBlocks, steps) => {
        store = memoryStore();
        const limit = limitIn('zcdp', { rho: 0.2 });
        const perBlock = limitIn('zcdp', { rho: 0.1 });
        const ledger = await open({ measure: 'zcdp', limit, perBlock, disjointBlocks });
        const spent = new Map<string, bigint>();
        let sum = 0n;
        for (const { noise, block, how } of steps) {
          const wanted = request(1, { event: gaussian(noise), blocks: [block] });
          const cost = (10n ** 12n + 2n * BigInt(noise) ** 2n - 1n) / (2n * BigInt(noise) ** 2n);
          const fits =
            (spent.get(block) ?? 0n) + cost <= BigInt(perBlock as number) &&
            (disjointBlocks || sum + cost <= BigInt(limit as number));
          const outcome = await (how === 'spend' ? ledger.spend(wanted) : ledger.reserve(wanted));
          expect(outcome.kind !== 'refused').toBe(fits);
          if (outcome.kind === 'reserved' && how === 'reserve-void') await ledger.void(outcome);
          else if (outcome.kind === 'reserved' && how === 'reserve-charge') await ledger.charge(outcome);
          else if (outcome.kind === 'reserved' && how === 'reserve-leave') await ledger.forfeit(outcome);
          if (fits && how !== 'reserve-void') {
            sum += cost;
            spent.set(block, (spent.get(block) ?? 0n) + cost);
          }
        }
        const worst = [...spent.values()].reduce((most, one) => (one > most ? one : most), 0n);
        const [scope] = await ledger.scopes();
        expect(scope).toMatchObject({ spent: Number(disjointBlocks ? worst : sum), reserved: 0 });
        const history = await ledger.history('s');
        expect(verifyHistory(history).ok).toBe(true);
        for (const { name, spent: one, reserved } of await ledger.accounts('s')) {
          expect([one, reserved]).toEqual([Number(spent.get(name) ?? 0n), 0]);
        }
      }),
      { numRuns: 60 },
    );
  });
});

describe('limits of subjects', () => {
  it('admit each subject while it has enough, and say nothing of it anywhere', async () => {
    const ledger = await open({ limit: 1000, perSubject: 50 });
    const first = await spend(ledger, 30);
    expect(await ledger.admit(first, ['ann', 'bob'])).toEqual([true, true]);
    const second = await spend(ledger, 30);
    expect(await ledger.admit(second, ['ann', 'cid'])).toEqual([false, true]);
    const third = await spend(ledger, 20);
    expect(await ledger.admit(third, ['ann', 'bob', 'cid', 'dee'])).toEqual([true, true, true, true]);
    const everything = JSON.stringify([await ledger.scopes(), await ledger.accounts('s'), await ledger.history('s')]);
    expect(everything).not.toMatch(/ann|bob|cid|dee|subject":"/);
    expect((await ledger.scopes())[0]).toMatchObject({ spent: 80 });
    const keys = await store.transaction(tx => tx.list('budget.subject'));
    expect(keys.map(({ key }) => key).join()).toMatch(/^[0-9a-f]{64}(,[0-9a-f]{64}){3}$/);
  });

  it('outlive the process, take any name, and want a charge that is open', async () => {
    const ledger = await open({ limit: 1000, perSubject: 50 });
    const charge = await spend(ledger, 40);
    const names = ['\ud800', '', '\0', 'x'.repeat(1e6)];
    expect(await ledger.admit(charge, names)).toEqual(names.map(() => true));
    await ledger.release(charge, encodeUtf8('x'));
    await expect(ledger.admit(charge, ['a'])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    holders.kill();
    const next = await open({ limit: 1000, perSubject: 50 });
    expect(await next.admit(await spend(next, 40), names)).toEqual(names.map(() => false));
  });
});

describe('limits by period', () => {
  const perPeriod = { limit: 10, days: 30, acknowledgeLifetimeGrowth: true } as const;

  it('start anew, while the lifetime goes on: nothing is reset', async () => {
    const ledger = await open({ limit: 25, perPeriod });
    await spend(ledger, 10);
    expect(await ledger.spend(request(1))).toMatchObject({ kind: 'refused', by: { kind: 'period' } });
    now += 30 * DAY_MS;
    await spend(ledger, 10);
    now += 30 * DAY_MS;
    expect(await ledger.spend(request(6))).toMatchObject({ kind: 'refused', by: { kind: 'lifetime' }, spent: 20 });
    expect((await ledger.accounts('s')).map(account => account.spent)).toEqual([10, 10]);
  });

  it('are refused in a policy that does not say what they cost', async () => {
    const silent = { limit: 10, days: 30 } as unknown as typeof perPeriod;
    await expect(open({ limit: 25, perPeriod: silent })).rejects.toMatchObject({ code: 'INVALID_POLICY' });
    for (const days of [0, 0.5, -1, Number.NaN]) {
      const bad = { ...perPeriod, days };
      await expect(open({ limit: 25, perPeriod: bad })).rejects.toMatchObject({ code: 'INVALID_POLICY' });
    }
  });

  it('do not believe a clock that goes back, nor one that jumps, until somebody answers for it', async () => {
    const ledger = await open({ limit: 100, perPeriod });
    await spend(ledger, 10);
    const then = now;
    now -= 400 * DAY_MS;
    expect(await ledger.spend(request(1))).toMatchObject({ kind: 'refused', by: { kind: 'period' } });
    expect((await ledger.history('s')).at(-1)!.at).toBe(then);
    now = then + 90 * DAY_MS;
    const before = await ledger.history('s');
    await expect(ledger.spend(request(1))).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
    expect(await ledger.history('s')).toEqual(before);
    const known = await open({ limit: 100, perPeriod: { ...perPeriod, clockKnownUntil: now + DAY_MS } });
    await spend(known, 10);
    now += 90 * DAY_MS;
    await expect(known.spend(request(1))).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
  });
});

describe('plans', () => {
  const limit = limitIn('zcdp', { rho: 1 });

  it('are charged once for all steps, counted as they go, and give nothing back', async () => {
    const ledger = await open({ measure: 'zcdp', limit });
    const plan = await spend(ledger, 1, { event: gaussian(10), steps: 3 });
    expect(plan).toMatchObject({ cost: 3 * 0.005e12, steps: 3 });
    expect([await ledger.step(plan), await ledger.step(plan), await ledger.step(plan)]).toEqual([1, 2, 3]);
    await expect(ledger.step(plan)).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
    await ledger.release(plan, encodeUtf8('done'));
    await expect(ledger.step(plan)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const early = await spend(ledger, 1, { event: gaussian(10), steps: 100 });
    await ledger.step(early);
    await ledger.forfeit(early);
    expect((await ledger.scopes())[0]).toMatchObject({ spent: 103 * 0.005e12, reserved: 0 });
    expect((await ledger.history('s')).map(entry => entry.kind).join(' ')).toBe(
      'SCOPE CHARGE STEP STEP STEP RELEASE CHARGE STEP FORFEIT',
    );
    expect(await ledger.spend(request(1, { event: gaussian(10), steps: 98 }))).toMatchObject({ kind: 'refused' });
  });

  it('have a whole number of steps, and other charges have none', async () => {
    const ledger = await open({ measure: 'zcdp', limit });
    for (const steps of [0, -1, 0.5, Number.NaN, 1e10, '3' as unknown as number]) {
      await expect(ledger.spend(request(1, { event: gaussian(10), steps }))).rejects.toMatchObject({
        code: expect.stringMatching(/INVALID/),
      });
    }
    const charge = await spend(ledger, 1, { event: gaussian(10) });
    await expect(ledger.step(charge)).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
    expect((await ledger.history('s')).map(entry => entry.kind)).toEqual(['SCOPE', 'CHARGE']);
  });
});

describe('the same answer', () => {
  it('is given again for the same request on the same data, free; and paid for again where it was lost', async () => {
    const ledger = await open({ limit: 100 });
    const again = { sameAnswer: true };
    const lost = await spend(ledger, 10, again);
    await ledger.forfeit(lost);
    const charge = await spend(ledger, 10, again);
    await ledger.release(charge, encodeUtf8('noised'));
    expect(await ledger.spend(request(10, again))).toMatchObject({ kind: 'replay', output: encodeUtf8('noised') });
    expect(await ledger.spend(request(10))).toMatchObject({ kind: 'charged' });
    expect(await ledger.spend(request(11, again))).toMatchObject({ kind: 'charged' });
    expect((await ledger.scopes())[0]).toMatchObject({ spent: 41 });
  });
});

describe('the history', () => {
  it('holds the audit log as it was, and shows every change to what was written', async () => {
    let size = 0;
    const ledger = await open({ limit: 100 }, { auditHead: () => ({ size: size++, root: digest('root') }) });
    for (const cost of [1, 2, 3]) await ledger.release(await spend(ledger, cost), encodeUtf8('x'));
    const history = await ledger.history('s');
    expect(history.map(entry => entry.audit?.size)).toEqual(history.map((_, i) => i));
    const [state] = await ledger.scopes();
    expect(verifyHistory(history)).toEqual({ ok: true, head: state!.head });
    const changes: ((copy: Record<string, unknown>[]) => void)[] = [
      copy => copy.splice(2, 1),
      copy => copy.splice(1, 2),
      copy => copy.reverse(),
      copy => Object.assign(copy[1]!, { cost: 0 }),
      copy => Object.assign(copy[2]!, { outputDigest: digest('other') }),
      copy => Object.assign(copy[3]!, { at: 5 }),
      copy => Object.assign(copy[0]!, { limits: { lifetime: 1000 } }),
      copy => Object.assign(copy.at(-1)!, { spent: 5 }),
    ];
    for (const change of changes) {
      const copy = structuredClone(history) as unknown as Record<string, unknown>[];
      change(copy);
      expect(verifyHistory(copy as never)).toMatchObject({ ok: false });
    }
  });

  it('takes no more from a process that others took for dead', async () => {
    const first = await open({ limit: 100 });
    await spend(first, 10);
    holders.kill();
    const second = await open({ limit: 100 });
    await expect(first.spend(request(1))).rejects.toMatchObject({ code: 'LOCKED' });
    await spend(second, 10);
    expect((await second.scopes())[0]).toMatchObject({ spent: 20, reserved: 0 });
  });

  it('of another layout is neither read nor written', async () => {
    await store.transaction(tx => tx.put('budget.epoch', 'last', encodeUtf8('{"epoch":3}'), 0));
    await expect(open({ limit: 100 })).rejects.toMatchObject({ code: 'STORE_FAILED', detail: { layout: 1, known: 2 } });
  });
});
