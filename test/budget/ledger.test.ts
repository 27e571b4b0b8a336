import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';

import {
  type Charge,
  digestOfEntry,
  type Ledger,
  type LedgerOptions,
  openLedger,
  type Reservation,
  type SpendRequest,
  totalsOf,
  verifyHistory,
} from '../../privacy/budget/index.ts';
import { encodeUtf8, limitOf, type MicroEpsilon, microEpsilon, spendOf } from '../../src/base/index.ts';
import { memoryStore, type Store } from '../../src/store/index.ts';
import { costing, Holders } from './faults.ts';

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

describe('ledger', () => {
  let store: Store;
  let holders: Holders;
  let time: number;
  beforeEach(() => {
    store = memoryStore();
    holders = new Holders();
    time = 1_700_000_000_000;
  });
  const open = (epsilon = 1, more: Partial<LedgerOptions> = {}): Promise<Ledger> =>
    openLedger({
      store,
      clock: { now: () => time++ },
      budgets: [{ scope: 'clinic-a', limit: limitOf(epsilon) }],
      liveness: holders.next(),
      ...more,
    });
  const request = (epsilon: number, name = 'q', key?: string): SpendRequest => ({
    scope: 'clinic-a',
    event: costing(spendOf(epsilon)),
    requestDigest: digest(name),
    ...(key !== undefined && { idempotencyKey: key }),
  });
  const reserve = async (ledger: Ledger, ...args: Parameters<typeof request>): Promise<Reservation> => {
    const outcome = await ledger.reserve(request(...args));
    if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
    return outcome;
  };
  const spend = async (ledger: Ledger, ...args: Parameters<typeof request>): Promise<Charge> => {
    const outcome = await ledger.spend(request(...args));
    if (outcome.kind !== 'charged') throw new Error(outcome.kind);
    return outcome;
  };
  const state = async (ledger: Ledger) => {
    const [scope] = await ledger.scopes();
    expect(totalsOf(await ledger.history('clinic-a'))).toEqual({
      limit: scope!.limit,
      spent: scope!.spent,
      reserved: scope!.reserved,
    });
    return scope!;
  };

  it('reserves, charges, releases, and shows each step in the history', async () => {
    const ledger = await open(2);
    const reservation = await reserve(ledger, 0.5);
    expect(reservation).toMatchObject({ scope: 'clinic-a', cost: 500_000, totals: { spent: 0, reserved: 500_000 } });
    const charge = await ledger.charge(reservation);
    expect(charge).toMatchObject({ kind: 'charged', id: reservation.id, totals: { spent: 500_000, reserved: 0 } });
    const settlement = await ledger.release(charge, encodeUtf8('answer'));
    expect(settlement).toMatchObject({ kind: 'released', id: charge.id, outputDigest: digest('answer') });
    expect(await state(ledger)).toEqual({
      scope: 'clinic-a',
      unit: 'subject',
      adjacency: 'add-remove',
      measure: 'pure',
      limit: 2_000_000,
      spent: 500_000,
      reserved: 0,
      remaining: 1_500_000,
      limits: { lifetime: 2_000_000 },
      usedShare: 0.25,
      shown: { limit: 'epsilon 2', spent: 'epsilon 0.5', reserved: 'epsilon 0', remaining: 'epsilon 1.5' },
      spentScalar: 500_000,
      entries: 4,
      head: settlement.entryDigest,
      active: true,
    });
    const history = await ledger.history('clinic-a');
    expect(verifyHistory(history)).toEqual({ ok: true, head: settlement.entryDigest });
    expect(history.map(entry => [entry.seq, entry.kind])).toEqual([
      [0, 'SCOPE'],
      [1, 'RESERVE'],
      [2, 'CHARGE'],
      [3, 'RELEASE'],
    ]);
    expect(history[0]).toMatchObject({ adjacency: 'add-remove', unit: 'subject', measure: 'pure' });
    expect(history.map(entry => entry.at)).toEqual([0, 1, 2, 3].map(i => 1_700_000_000_000 + i));
    expect([charge.seq, settlement.seq]).toEqual([2, 3]);
    expect(await ledger.history('clinic-a', { from: 1, limit: 2 })).toEqual(history.slice(1, 3));
  });

  it('refuses what the limit does not hold, as a result, and writes the refusal down', async () => {
    const ledger = await open(1);
    await spend(ledger, 0.5);
    await reserve(ledger, 0.3);
    const refusal = await ledger.reserve(request(0.2000001));
    expect(refusal).toEqual({
      kind: 'refused',
      scope: 'clinic-a',
      requested: 200_001,
      limit: 1_000_000,
      spent: 500_000,
      reserved: 300_000,
      remaining: 200_000,
      measure: 'pure',
      by: { kind: 'lifetime', name: '' },
      message: "epsilon 0.200001 was asked for, and scope 'clinic-a' has epsilon 0.2 left of epsilon 1",
      spentAfter: 500_000,
      limitScalar: 1_000_000,
      seq: 3,
      entryDigest: digestOfEntry((await ledger.history('clinic-a'))[3]!),
    });
    expect((await ledger.history('clinic-a')).at(-1)).toMatchObject({ kind: 'REFUSE', cost: 200_001 });
    expect(await ledger.spend(request(0.2))).toMatchObject({ kind: 'charged' });
    expect(await state(ledger)).toMatchObject({ spent: 700_000, reserved: 300_000, remaining: 0 });
    expect(await ledger.reserve(request(5e-324))).toMatchObject({ kind: 'refused', requested: 1 });
  });

  it('refuses amounts that are none before anything is written', async () => {
    const ledger = await open();
    const before = await ledger.history('clinic-a');
    const bad = [Number.NaN, Number.POSITIVE_INFINITY, -1, 0, -0, 0.5, 2 ** 53, '1', 1n, null, undefined];
    for (const epsilon of bad as number[]) {
      if (epsilon === 0.5) continue;
      const event = { kind: 'pure', epsilon, neighboring: 'add-remove' } as const;
      for (const step of ['reserve', 'spend'] as const) {
        await expect(ledger[step]({ ...request(1), event })).rejects.toMatchObject({ code: 'DP_INVALID_PARAMETER' });
      }
    }
    for (const epsilon of [
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      -1,
      0,
      -0,
      -5e-324,
      1_000_001,
    ]) {
      expect(() => spendOf(epsilon)).toThrow(/epsilon/);
      expect(() => limitOf(epsilon)).toThrow(/epsilon/);
    }
    expect(await ledger.history('clinic-a')).toEqual(before);
    for (const limit of bad.filter(value => value !== 0) as MicroEpsilon[]) {
      const attempt = open(1, { budgets: [{ scope: 'new', limit }] });
      await expect(attempt).rejects.toMatchObject({ code: 'DP_INVALID_PARAMETER' });
    }
    expect(await ledger.scopes()).toHaveLength(1);
  });

  it('refuses unknown scopes, digests and keys of another form', async () => {
    const ledger = await open();
    await expect(ledger.reserve({ ...request(1), scope: 'clinic-b' })).rejects.toMatchObject({ code: 'UNKNOWN_SCOPE' });
    await expect(ledger.history('clinic-b')).rejects.toMatchObject({ code: 'UNKNOWN_SCOPE' });
    for (const requestDigest of ['', 'A'.repeat(64), 'a'.repeat(63), 3 as unknown as string]) {
      await expect(ledger.reserve({ ...request(1), requestDigest })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
    }
    for (const idempotencyKey of ['', '\0', 'x'.repeat(257), 3 as unknown as string]) {
      await expect(ledger.reserve({ ...request(1), idempotencyKey })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
    }
    for (const scope of ['', 'x'.repeat(201), 'a\0']) {
      const attempt = open(1, { budgets: [{ scope, limit: limitOf(1) }] });
      await expect(attempt).rejects.toMatchObject({ code: 'INVALID_POLICY' });
    }
    const twice = open(1, { budgets: [1, 2].map(epsilon => ({ scope: 'x', limit: limitOf(epsilon) })) });
    await expect(twice).rejects.toMatchObject({ code: 'INVALID_POLICY' });
    expect(await state(ledger)).toMatchObject({ spent: 0, reserved: 0 });
  });

  it('takes each step once, in order, and only by the ledger that holds it', async () => {
    const ledger = await open();
    const other = await open();
    const reservation = await reserve(ledger, 0.1);
    await expect(other.charge(reservation)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(other.void(reservation)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const premature = { ...reservation, kind: 'charged', seq: 0, steps: 1 } as const;
    await expect(ledger.release(premature, encodeUtf8('x'))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const charge = await ledger.charge(reservation);
    await expect(ledger.charge(reservation)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(ledger.void(reservation)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(other.release(charge, encodeUtf8('x'))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await ledger.release(charge, encodeUtf8('x'));
    await expect(ledger.release(charge, encodeUtf8('y'))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(ledger.forfeit(charge)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(ledger.charge({ ...reservation, id: 'made up' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await state(ledger)).toMatchObject({ spent: 100_000, reserved: 0 });
  });

  it('gives a voided reservation back, and frees its key', async () => {
    const ledger = await open(1);
    const reservation = await reserve(ledger, 1, 'q', 'key');
    await ledger.void(reservation);
    expect(await state(ledger)).toMatchObject({ spent: 0, reserved: 0, remaining: 1_000_000 });
    await expect(ledger.charge(reservation)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await spend(ledger, 0.5, 'another', 'key')).toMatchObject({ kind: 'charged' });
  });

  it('answers the same key and request with the same bytes for one charge', async () => {
    const ledger = await open(1);
    const charge = await spend(ledger, 0.5, 'q', 'key');
    const output = Uint8Array.of(0, 255, 7);
    await ledger.release(charge, output);
    output.fill(1);
    for (let i = 0; i < 3; i++) {
      const replay = await (i === 1
        ? ledger.reserve(request(0.5, 'q', 'key'))
        : ledger.spend(request(0.5, 'q', 'key')));
      if (replay.kind !== 'replay') throw new Error(replay.kind);
      expect(replay.output).toEqual(Uint8Array.of(0, 255, 7));
      expect(replay).toMatchObject({ id: charge.id, cost: 500_000 });
      replay.output.fill(9);
    }
    expect(await state(ledger)).toMatchObject({ spent: 500_000, reserved: 0 });
    await ledger.close();
    const reopened = await open(1);
    expect(await reopened.spend(request(0.5, 'q', 'key'))).toMatchObject({ output: Uint8Array.of(0, 255, 7) });
  });

  it('refuses the same key with another request or cost, and keeps scopes apart', async () => {
    const budgets = ['clinic-a', 'clinic-b'].map(scope => ({ scope, limit: limitOf(1) }));
    const ledger = await open(1, { budgets });
    await ledger.release(await spend(ledger, 0.1, 'q', 'key'), encodeUtf8('x'));
    for (const other of [request(0.1, 'other', 'key'), request(0.2, 'q', 'key')]) {
      await expect(ledger.spend(other)).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
    }
    expect(await ledger.spend({ ...request(0.1, 'q', 'key'), scope: 'clinic-b' })).toMatchObject({ kind: 'charged' });
    expect((await ledger.scopes()).map(scope => scope.spent)).toEqual([100_000, 100_000]);
  });

  it('charges concurrent duplicates once: the later ones wait for the first', async () => {
    const ledger = await open(1);
    let computed = 0;
    const serve = async (): Promise<Uint8Array> => {
      const outcome = await ledger.spend(request(0.4, 'q', 'key'));
      if (outcome.kind === 'replay') return outcome.output;
      if (outcome.kind === 'refused') throw new Error('refused');
      await sleep(30);
      const output = encodeUtf8(`answer ${++computed}`);
      await ledger.release(outcome, output);
      return output;
    };
    const answers = await Promise.all(Array.from({ length: 6 }, serve));
    expect(answers).toEqual(Array.from({ length: 6 }, () => encodeUtf8('answer 1')));
    expect(await state(ledger)).toMatchObject({ spent: 400_000, reserved: 0 });
  });

  it('lets a duplicate go ahead when the first gives its reservation back', async () => {
    const ledger = await open(1);
    const first = await reserve(ledger, 0.4, 'q', 'key');
    const second = ledger.reserve(request(0.4, 'q', 'key'));
    await sleep(30);
    await ledger.void(first);
    expect(await second).toMatchObject({ kind: 'reserved' });
  });

  it('says LOCKED to a duplicate that waited too long', async () => {
    const ledger = await open(1, { duplicateWaitMs: 50 });
    await reserve(ledger, 0.4, 'q', 'key');
    await expect(ledger.reserve(request(0.4, 'q', 'key'))).rejects.toMatchObject({ code: 'LOCKED' });
    expect(await state(ledger)).toMatchObject({ reserved: 400_000 });
  });

  it('never computes a charged request again for free: its key is RELEASE_LOST', async () => {
    const ledger = await open(1);
    const charge = await spend(ledger, 0.5, 'q', 'key');
    await ledger.forfeit(charge);
    await ledger.forfeit(charge);
    await expect(ledger.spend(request(0.5, 'q', 'key'))).rejects.toMatchObject({ code: 'RELEASE_LOST' });
    await expect(ledger.release(charge, encodeUtf8('late'))).rejects.toMatchObject({ code: 'RELEASE_LOST' });
    expect(await state(ledger)).toMatchObject({ spent: 500_000, reserved: 0 });
  });

  it('counts what a dead holder left as spent, and leaves the living alone', async () => {
    const dead = await open(1);
    const charged = await spend(dead, 0.1, 'a', 'a');
    const reserved = await reserve(dead, 0.2, 'b', 'b');
    const released = await spend(dead, 0.05, 'c', 'c');
    await dead.release(released, encodeUtf8('c'));
    holders.kill();
    const living = await open(1);
    const mine = await reserve(living, 0.3, 'd', 'd');
    const ledger = await open(1);
    expect(await state(ledger)).toMatchObject({ spent: 350_000, reserved: 300_000 });
    const forfeits = (await ledger.history('clinic-a')).filter(entry => entry.kind === 'FORFEIT');
    expect(forfeits.map(entry => [entry.id, entry.was]).sort()).toEqual([
      [charged.id, 'charged'],
      [reserved.id, 'reserved'],
    ]);
    for (const key of ['a', 'b']) {
      const again = ledger.spend(request(key === 'a' ? 0.1 : 0.2, key, key));
      await expect(again).rejects.toMatchObject({ code: 'RELEASE_LOST' });
    }
    expect(await ledger.spend(request(0.05, 'c', 'c'))).toMatchObject({ kind: 'replay', output: encodeUtf8('c') });
    // A holder that was wrongly taken for dead is told so when it comes back, before it can read anything.
    await expect(dead.charge(reserved)).rejects.toMatchObject({ code: 'RELEASE_LOST' });
    expect(await living.charge(mine)).toMatchObject({ kind: 'charged' });
    expect(await state(ledger)).toMatchObject({ spent: 650_000, reserved: 0 });
  });

  it('finds a holder dead that died after this ledger was opened, when its key comes up', async () => {
    const first = await open(1);
    await spend(first, 0.1, 'a', 'a');
    const survivor = await openLedger({
      store,
      clock: { now: () => time++ },
      budgets: [{ scope: 'clinic-a', limit: limitOf(1) }],
      liveness: { self: 'survivor', isDead: holder => holder !== 'survivor' },
    });
    await expect(survivor.spend(request(0.1, 'a', 'a'))).rejects.toMatchObject({ code: 'RELEASE_LOST' });
    expect(await state(survivor)).toMatchObject({ spent: 100_000, reserved: 0 });
  });

  it('gives back at its end what it had reserved, and forfeits what it had charged', async () => {
    const ledger = await open(1);
    const reserved = await reserve(ledger, 0.2, 'a', 'a');
    await spend(ledger, 0.1, 'b', 'b');
    await ledger.close();
    await ledger.close();
    await expect(ledger.charge(reserved)).rejects.toMatchObject({ code: 'CLOSED' });
    const next = await open(1);
    expect(await state(next)).toMatchObject({ spent: 100_000, reserved: 0 });
    expect(await next.reserve(request(0.2, 'a', 'a'))).toMatchObject({ kind: 'reserved' });
    await expect(next.reserve(request(0.1, 'b', 'b'))).rejects.toMatchObject({ code: 'RELEASE_LOST' });
  });

  it('lowers a limit when the policy does, also below what was spent', async () => {
    await spend(await open(1), 0.6);
    const lower = await open(0.5);
    expect(await state(lower)).toMatchObject({ limit: 500_000, spent: 600_000, remaining: 0 });
    expect((await lower.history('clinic-a')).at(-1)).toMatchObject({
      kind: 'LIMIT',
      before: { lifetime: 1_000_000 },
      raised: false,
    });
    expect(await lower.reserve(request(0.000001))).toMatchObject({ kind: 'refused', remaining: 0 });
  });

  it('changes no limit when what shall be written with it fails, and writes nothing with what is no change', async () => {
    const first = await open(1);
    const before = await first.history('clinic-a');
    const within = async (): Promise<void> => {
      throw new Error('the log is full');
    };
    await expect(open(0.5, { within })).rejects.toThrow('the log is full');
    expect(await first.history('clinic-a')).toEqual(before);
    expect(await state(await open(1, { within }))).toMatchObject({ limit: 1_000_000 });
  });

  it('raises a limit only when the scope is named, and writes it down', async () => {
    const first = await open(1);
    const before = await first.history('clinic-a');
    const budgets = [
      { scope: 'another', limit: limitOf(1) },
      { scope: 'clinic-a', limit: limitOf(2) },
    ];
    const attempt = open(2, { budgets, acknowledgeRaised: ['another'] });
    await expect(attempt).rejects.toMatchObject({
      code: 'POLICY_REFUSED',
      detail: { before: 1_000_000, limit: 2_000_000 },
    });
    expect(await first.history('clinic-a')).toEqual(before);
    expect(await first.scopes()).toHaveLength(1);
    const raised = await open(2, { acknowledgeRaised: ['clinic-a'] });
    expect(await state(raised)).toMatchObject({ limit: 2_000_000 });
    expect((await raised.history('clinic-a')).at(-1)).toMatchObject({
      kind: 'LIMIT',
      before: { lifetime: 1_000_000 },
      raised: true,
    });
  });

  it('keeps a scope that the policy no longer names, and spends nothing in it', async () => {
    await spend(await open(1), 0.6);
    const ledger = await open(1, { budgets: [{ scope: 'other', limit: limitOf(1) }] });
    expect(await ledger.scopes()).toMatchObject([
      { scope: 'clinic-a', spent: 600_000, active: false },
      { scope: 'other', spent: 0, active: true },
    ]);
    await expect(ledger.reserve(request(0.1))).rejects.toMatchObject({ code: 'UNKNOWN_SCOPE' });
    expect(await ledger.history('clinic-a')).toHaveLength(2);
  });

  it('writes what the caller adds in the same transaction, or nothing at all', async () => {
    const ledger = await open(1);
    const heads: string[] = [];
    const within =
      (fail = false) =>
      async (
        tx: Parameters<NonNullable<Parameters<Ledger['spend']>[1]>['within'] & object>[0],
        outcome: { kind: string },
      ) => {
        heads.push(outcome.kind);
        await tx.append('audit', encodeUtf8(outcome.kind));
        if (fail) throw new Error('the audit log fails');
      };
    const reservation = await ledger.reserve(request(0.1), { within: within() });
    await expect(ledger.charge(reservation as Reservation, { within: within(true) })).rejects.toThrow(
      'the audit log fails',
    );
    const charge = await ledger.charge(reservation as Reservation, { within: within() });
    await expect(ledger.release(charge, encodeUtf8('x'), { within: within(true) })).rejects.toThrow(
      'the audit log fails',
    );
    await ledger.release(charge, encodeUtf8('x'), { within: within() });
    await expect(ledger.spend(request(0.1), { within: within(true) })).rejects.toThrow('the audit log fails');
    await ledger.spend(request(2), { within: within() });
    const written = await store.transaction(tx => tx.read('audit', 0, 10));
    expect(written.map(entry => new TextDecoder().decode(entry.value))).toEqual([
      'reserved',
      'charged',
      'released',
      'refused',
    ]);
    expect(heads).toEqual(['reserved', 'charged', 'charged', 'released', 'released', 'charged', 'refused']);
    expect(await state(ledger)).toMatchObject({ spent: 100_000, reserved: 0 });
  });

  it('grants exactly what fits when many spend at once', async () => {
    const ledger = await open(1);
    const outcomes = await Promise.all(Array.from({ length: 300 }, (_, i) => ledger.spend(request(0.007, String(i)))));
    expect(outcomes.filter(outcome => outcome.kind === 'charged')).toHaveLength(142);
    expect(await state(ledger)).toMatchObject({ spent: 994_000, reserved: 0, remaining: microEpsilon(6000) });
  });

  it('notices a history that was changed behind its back', async () => {
    const ledger = await open(1);
    await store.transaction(tx => tx.append('budget/clinic-a', encodeUtf8('{}')));
    await expect(ledger.spend(request(0.1))).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });
});
