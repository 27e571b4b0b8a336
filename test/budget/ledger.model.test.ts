import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { type Charge, type Ledger, openLedger, type Reservation, totalsOf } from '../../privacy/budget/index.ts';
import { encodeUtf8, microEpsilon } from '../../src/base/index.ts';
import { memoryStore, type Store } from '../../src/store/index.ts';
import { costing, Fault, FaultyStore, Holders } from './faults.ts';

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
const SCOPES = ['a', 'b'];

/** What a reader of the docstrings expects of the ledger, and nothing of how it is done. */
interface Model {
  limits: Record<string, number>;
  /** In order of reservation; the real handles stand at the same places. */
  held: {
    scope: string;
    cost: number;
    key: string;
    state: 'reserved' | 'charged' | 'released' | 'void' | 'lost';
    mine: boolean;
  }[];
}

interface Real {
  store: Store;
  holders: Holders;
  ledger: Ledger;
  handles: (Reservation | Charge)[];
}

const sum = (model: Model, scope: string, ...states: string[]): number =>
  model.held
    .filter(one => one.scope === scope && states.includes(one.state))
    .reduce((total, one) => total + one.cost, 0);
const spentOf = (model: Model, scope: string): number => sum(model, scope, 'charged', 'released', 'lost');
const reservedOf = (model: Model, scope: string): number => sum(model, scope, 'reserved');

async function open(real: Pick<Real, 'store' | 'holders'>, limits: Record<string, number>): Promise<Ledger> {
  return openLedger({
    store: real.store,
    clock: { now: () => 0 },
    budgets: SCOPES.map(scope => ({ scope, limit: microEpsilon(limits[scope]!) })),
    acknowledgeRaised: SCOPES,
    liveness: real.holders.next(),
    duplicateWaitMs: 0,
  });
}

async function agree(model: Model, real: Real): Promise<void> {
  for (const scope of await real.ledger.scopes()) {
    const { limit, spent, reserved } = scope;
    const expected = {
      limit: model.limits[scope.scope],
      spent: spentOf(model, scope.scope),
      reserved: reservedOf(model, scope.scope),
    };
    expect({ limit, spent, reserved }).toEqual(expected);
    const history = await real.ledger.history(scope.scope);
    expect(totalsOf(history)).toEqual(expected);
    history.forEach((entry, i) => {
      // Each entry carries the totals that follow from all up to it, and no step of the history is negative or over its limit.
      expect(totalsOf(history.slice(0, i + 1))).toEqual({
        limit: entry.limit,
        spent: entry.spent,
        reserved: entry.reserved,
      });
      expect(Math.min(Number(entry.spent), Number(entry.reserved))).toBeGreaterThanOrEqual(0);
      if (entry.kind === 'RESERVE')
        expect(Number(entry.spent) + Number(entry.reserved)).toBeLessThanOrEqual(Number(entry.limit));
    });
  }
}

type Step = fc.AsyncCommand<Model, Real>;

class Begin implements Step {
  readonly scope: string;
  readonly cost: number;
  readonly key: string;
  readonly how: 'reserve' | 'spend';
  constructor(scope: string, cost: number, key: string, how: 'reserve' | 'spend') {
    this.scope = scope;
    this.cost = cost;
    this.key = key;
    this.how = how;
  }
  check = () => true;
  async run(model: Model, real: Real): Promise<void> {
    const { scope, cost, key, how } = this;
    const request = {
      scope,
      event: costing(cost),
      requestDigest: digest(key),
      ...(key && { idempotencyKey: key }),
    };
    const attempt = real.ledger[how](request);
    const earlier = key && model.held.findLast(one => one.scope === scope && one.key === key && one.state !== 'void');
    if (earlier && earlier.cost !== cost) {
      await expect(attempt).rejects.toMatchObject({ code: 'IDEMPOTENCY_CONFLICT' });
    } else if (earlier && earlier.state === 'released') {
      const output = encodeUtf8(`answer ${model.held.indexOf(earlier)}`);
      expect(await attempt).toMatchObject({ kind: 'replay', output, cost });
    } else if (earlier) {
      await expect(attempt).rejects.toMatchObject({ code: earlier.state === 'lost' ? 'RELEASE_LOST' : 'LOCKED' });
    } else {
      const outcome = await attempt;
      const remaining = Math.max(0, model.limits[scope]! - spentOf(model, scope) - reservedOf(model, scope));
      if (cost > remaining) {
        expect(outcome).toMatchObject({ kind: 'refused', requested: cost, remaining });
      } else {
        const state = how === 'spend' ? 'charged' : 'reserved';
        expect(outcome.kind).toBe(state);
        real.handles[model.held.length] = outcome as Reservation | Charge;
        model.held.push({ scope, cost, key, state, mine: true });
      }
    }
    await agree(model, real);
  }
  toString = () => `${this.how}(${this.scope}, ${this.cost}, '${this.key}')`;
}

class Go implements Step {
  readonly how: 'charge' | 'release' | 'void' | 'forfeit';
  readonly pick: number;
  constructor(how: 'charge' | 'release' | 'void' | 'forfeit', pick: number) {
    this.how = how;
    this.pick = pick;
  }
  check = (model: Model) => model.held.length > 0;
  async run(model: Model, real: Real): Promise<void> {
    const at = this.pick % model.held.length;
    const one = model.held[at]!;
    const handle = real.handles[at] as Reservation & Charge;
    const steps = {
      charge: { from: ['reserved'], to: 'charged', run: () => real.ledger.charge(handle) },
      release: {
        from: ['charged'],
        to: 'released',
        run: () => real.ledger.release(handle, encodeUtf8(`answer ${at}`)),
      },
      void: { from: ['reserved'], to: 'void', run: () => real.ledger.void(handle) },
      forfeit: { from: ['reserved', 'charged'], to: 'lost', run: () => real.ledger.forfeit(handle) },
    } as const;
    const { from, to, run } = steps[this.how];
    if (one.state === 'lost' && this.how === 'forfeit') await run();
    else if (one.state === 'lost') await expect(run()).rejects.toMatchObject({ code: 'RELEASE_LOST' });
    else if (!one.mine || !(from as readonly string[]).includes(one.state)) {
      await expect(run()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    } else {
      await run();
      one.state = to;
    }
    await agree(model, real);
  }
  toString = () => `${this.how}(${this.pick})`;
}

class Reopen implements Step {
  readonly how: 'close' | 'crash';
  readonly limits: Record<string, number>;
  constructor(how: 'close' | 'crash', limits: Record<string, number>) {
    this.how = how;
    this.limits = limits;
  }
  check = () => true;
  async run(model: Model, real: Real): Promise<void> {
    if (this.how === 'close') await real.ledger.close();
    else real.holders.kill();
    for (const one of model.held) {
      if (one.state === 'charged' || (one.state === 'reserved' && this.how === 'crash')) one.state = 'lost';
      else if (one.state === 'reserved') one.state = 'void';
      one.mine = false;
    }
    real.ledger = await open(real, this.limits);
    model.limits = { ...this.limits };
    await agree(model, real);
  }
  toString = () => `${this.how}, reopen(${JSON.stringify(this.limits)})`;
}

describe('ledger against its model', () => {
  const scope = fc.constantFrom(...SCOPES);
  const cost = fc.integer({ min: 1, max: 40 });
  const limits = fc.record({ a: fc.integer({ min: 0, max: 120 }), b: fc.integer({ min: 0, max: 120 }) });
  const steps: fc.Arbitrary<Step>[] = [
    fc
      .tuple(scope, cost, fc.constantFrom('', '', 'k1', 'k2'), fc.constantFrom('reserve' as const, 'spend' as const))
      .map(args => new Begin(...args)),
    fc
      .tuple(
        fc.constantFrom('charge' as const, 'release' as const, 'release' as const, 'void' as const, 'forfeit' as const),
        fc.nat(30),
      )
      .map(args => new Go(...args)),
    fc.tuple(fc.constantFrom('close' as const, 'crash' as const), limits).map(args => new Reopen(...args)),
  ];

  it('does what the model does, and is never overspent', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.commands([steps[0]!, steps[0]!, steps[1]!, steps[1]!, steps[2]!], { maxCommands: 40 }),
        async commands => {
          await fc.asyncModelRun(async () => {
            const world = { store: memoryStore(), holders: new Holders() };
            const start = { a: 100, b: 60 };
            const ledger = await open(world, start);
            return { model: { limits: start, held: [] } as Model, real: { ...world, ledger, handles: [] } };
          }, commands);
        },
      ),
      { numRuns: process.env['CLOISTER_SLOW'] ? 1000 : 100 },
    );
  }, 120_000);
});

describe('ledger under faults', () => {
  const LIMIT = 100;
  /** What the outside world saw before the crash. */
  interface Witness {
    /** Costs for which private data was read: a charge was acknowledged. */
    read: number;
    /** Answers that left, by key. */
    left: Map<string, string>;
  }

  const openOn = (store: Store, holders: Holders): Promise<Ledger> =>
    openLedger({
      store,
      clock: { now: () => 0 },
      budgets: [{ scope: 's', limit: microEpsilon(LIMIT) }],
      liveness: holders.next(),
      duplicateWaitMs: 0,
    });

  async function live(store: Store, holders: Holders, witness: Witness): Promise<void> {
    const ledger = await openOn(store, holders);
    const request = (key: string, cost: number) => ({
      scope: 's',
      event: costing(cost),
      requestDigest: digest(key),
      idempotencyKey: key,
    });
    for (const [key, cost, how] of [
      ['one', 30, 'reserve'],
      ['two', 30, 'spend'],
      ['three', 20, 'void'],
      ['four', 15, 'forfeit'],
      ['five', 60, 'reserve'],
      ['six', 25, 'spend'],
    ] as const) {
      const outcome = await (how === 'spend' ? ledger.spend(request(key, cost)) : ledger.reserve(request(key, cost)));
      if (outcome.kind === 'refused' || outcome.kind === 'replay') continue;
      if (how === 'void') {
        await ledger.void(outcome as Reservation);
        continue;
      }
      const charge = outcome.kind === 'charged' ? outcome : await ledger.charge(outcome);
      witness.read += cost;
      if (how === 'forfeit') {
        await ledger.forfeit(charge);
        continue;
      }
      await ledger.release(charge, encodeUtf8(`answer ${key}`));
      witness.left.set(key, `answer ${key}`);
    }
    await ledger.close();
  }

  it('is sound after a crash at every point: nothing read unpaid, nothing answered twice, never overspent', async () => {
    const whole = new FaultyStore(memoryStore());
    await live(whole, new Holders(), { read: 0, left: new Map() });
    expect(whole.reached).toBeGreaterThan(100);
    for (let point = 0; point < whole.reached; point++) {
      const store = memoryStore();
      const holders = new Holders();
      const witness: Witness = { read: 0, left: new Map() };
      await expect(live(new FaultyStore(store, point), holders, witness)).rejects.toBeInstanceOf(Fault);
      holders.kill();
      const ledger = await openOn(store, holders);
      const [scope] = await ledger.scopes();
      const history = await ledger.history('s');
      const { limit, spent, reserved } = scope!;
      expect(totalsOf(history)).toEqual({ limit, spent, reserved });
      expect(reserved).toBe(0);
      expect(spent).toBeGreaterThanOrEqual(witness.read);
      expect(spent).toBeLessThanOrEqual(LIMIT);
      for (const [key, output] of witness.left) {
        const event = costing(key === 'six' ? 25 : 30);
        const replay = await ledger.spend({ scope: 's', event, requestDigest: digest(key), idempotencyKey: key });
        expect(replay).toMatchObject({ kind: 'replay', output: encodeUtf8(output) });
      }
      // A second life spends on: still never over the limit.
      await live(store, holders, { read: 0, left: new Map() }).catch(error => {
        expect(error).toMatchObject({ code: 'RELEASE_LOST' });
      });
      expect((await ledger.scopes())[0]!.spent).toBeLessThanOrEqual(LIMIT);
      await ledger.close();
    }
  }, 60_000);

  it('forfeits what was written and never acknowledged, when its key is used again in the same process', async () => {
    for (const how of ['reserve', 'spend'] as const) {
      const faulty = new FaultyStore(memoryStore());
      const ledger = await openOn(faulty, new Holders());
      const request = { scope: 's', event: costing(10), requestDigest: digest('q'), idempotencyKey: 'key' };
      const before = faulty.reached;
      await ledger[how]({ ...request, idempotencyKey: 'trial' });
      const points = faulty.reached - before;
      faulty.failAt = faulty.reached + points - 1; // the commit is done, its answer is lost
      await expect(ledger[how](request)).rejects.toBeInstanceOf(Fault);
      faulty.failAt = Number.POSITIVE_INFINITY;
      await expect(ledger[how](request)).rejects.toMatchObject({ code: 'RELEASE_LOST' });
      const [scope] = await ledger.scopes();
      expect(Number(scope!.spent) + Number(scope!.reserved)).toBe(20);
    }
  });
});
