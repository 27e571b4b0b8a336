/**
 * The budget ledger: reserve, charge, release.
 * @module
 */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import { type Clock, CloisterError } from '../../src/base/index.ts';
import type { Store, Transaction } from '../../src/store/index.ts';
import type { DpEvent } from '../dp/event.ts';
import type { Adjacency } from '../dp/parameters.ts';
import {
  admit,
  type Book,
  charge,
  debit,
  decode,
  decodeEntry,
  forfeit,
  giveBack,
  type HeldRow,
  hashOf,
  listAccounts,
  loadOpen,
  loadScope,
  loadSettled,
  openBook,
  putOpen,
  record,
  type ScopeRow,
  type Shortage,
  settle,
  settleHolder,
  streamOf,
  type Wanted,
  type Written,
} from './book.ts';
import {
  type Amount,
  add,
  costIn,
  formatAmount,
  lastingOrder,
  type Measure,
  scalarOf,
  shareOf,
  subtract,
} from './currency.ts';
import type { Account, AuditHead, LedgerEntry, Parties, ScopeLimits, ScopeTerms, Totals } from './entry.ts';
import { type Liveness, processLiveness } from './liveness.ts';
import { isName, show } from './names.ts';
import { applyBudget, checkBudget } from './terms.ts';

/** A scope, what it counts in, and what may be spent in it. Amounts are of `limitIn`. */
export interface Budget {
  /** A name of 1 to 200 characters, such as `clinic-a/2026-q4`. */
  readonly scope: string;
  /** Default `pure`. */
  readonly measure?: Measure;
  /** Default `add-remove`. */
  readonly adjacency?: Adjacency;
  /** For the whole life of the scope. Never renewed. */
  readonly limit: Amount;
  /** For each block of data that a request names. New blocks bring new budget; the limit of the lifetime holds all the same. */
  readonly perBlock?: Amount;
  /** No subject is in two blocks: then the limit of the lifetime holds for each block instead of for their sum. */
  readonly disjointBlocks?: boolean;
  /** For each tenant that a request names. */
  readonly perTenant?: Amount;
  /** For each subject: see {@link Ledger.admit}. */
  readonly perSubject?: Amount;
  /** For each period of the clock. The data are the same in every period, so the loss grows with each. */
  readonly perPeriod?: {
    readonly limit: Amount;
    /** Length of a period, in whole days from 1970. */
    readonly days: number;
    /** That the loss over the lifetime grows with each period, up to the lifetime's limit. */
    readonly acknowledgeLifetimeGrowth: true;
    /** Up to when a jump of the clock over more than one period is right, in milliseconds since 1970. */
    readonly clockKnownUntil?: number;
  };
}

/** How {@link openLedger} opens. */
export interface LedgerOptions {
  readonly store: Store;
  readonly clock: Clock;
  /** The scopes of the policy. A scope that the store knows and the policy does not is kept, and spends no more. */
  readonly budgets: readonly Budget[];
  /** Scopes whose limits the policy may raise above the stored ones. Lowering needs no word. */
  readonly acknowledgeRaised?: readonly string[];
  /** How holders are told dead; default {@link processLiveness}. */
  readonly liveness?: Liveness;
  /** How long a duplicate waits for the request that came first with its key, before it is `LOCKED`. Default 30,000. */
  readonly duplicateWaitMs?: number;
  /** The audit log as it is now: every entry holds it. */
  readonly auditHead?: () => AuditHead;
  /**
   * More to write in the transaction that changes limits: the audit log's record of them. Called when the policy changes the limits of
   * scopes that the store knows, and only then. If it throws, nothing was changed.
   */
  readonly within?: (tx: Transaction, changes: readonly LimitChange[]) => Promise<void>;
}

/** A change of the limits of a scope, by the policy that the ledger was opened under. */
export interface LimitChange {
  readonly scope: string;
  readonly measure: Measure;
  /** Whether a limit rose or went, which somebody acknowledged. */
  readonly raised: boolean;
  /** What the scope has spent, as the audit log records it: see `scalarOf`. */
  readonly spentScalar: number;
  /** The limit of the lifetime after the change, as one number in the same way. */
  readonly limitScalar: number;
  /** Digest of the LIMIT entry, which has all limits before and after. */
  readonly entryDigest: string;
}

/** What a request wants to spend, and what makes it the same request. */
export interface SpendRequest extends Parties {
  readonly scope: string;
  /** What the mechanism does; the ledger computes the cost from it, rounded up. For a plan: what each of its steps does. */
  readonly event: DpEvent;
  /** For an `approx` scope and an event without an epsilon of its own: the delta at which it is charged. */
  readonly delta?: number;
  /**
   * Makes the request a plan of so many steps, accounted as one event and charged at once. Queries may be chosen as it goes, its
   * parameters and this number may not. Stopping early gives nothing back.
   */
  readonly steps?: number;
  /** SHA-256 of the canonical request, 64 lower-case hexadecimal digits. */
  readonly requestDigest: string;
  /** 1 to 256 characters. Within a scope, one key is one request, charged once. */
  readonly idempotencyKey?: string;
  /**
   * That `requestDigest` covers the version of the data, so that an answer which was released for it before may be given again
   * instead of a new one. Default false.
   */
  readonly sameAnswer?: boolean;
}

/** Options of a ledger step whose outcome is `T`. */
export interface StepOptions<T> {
  /**
   * More to write in the step's own transaction, after the ledger's writes: the audit log's head, an outbox message. If it
   * throws, the step has not happened. Keep it short: the store waits for it. Not called for a {@link Replay}.
   */
  readonly within?: (tx: Transaction, outcome: T) => Promise<void>;
}

/** What a step of the ledger did to a scope. */
interface Step {
  readonly id: string;
  readonly scope: string;
  readonly measure: Measure;
  readonly cost: Amount;
  /** Position of the step's entry in the scope's history. */
  readonly seq: number;
  /** Digest of that entry: whoever keeps it can tell whether the history before it was changed. */
  readonly entryDigest: string;
  readonly totals: Totals;
  /** What the scope had spent before and after the step, as the audit log records it: one number, see `scalarOf`. */
  readonly spentBefore: number;
  readonly spentAfter: number;
  /** The limit of the lifetime, as one number in the same way. */
  readonly limitScalar: number;
}

/** A promise of budget: nothing may be read for it yet. */
export interface Reservation extends Step {
  readonly kind: 'reserved';
}

/** A durable debit: private data may be read for it, once; for a plan, once for each {@link Ledger.step}. */
export interface Charge extends Step {
  readonly kind: 'charged';
  /** How many steps a plan has; 1 for anything else. */
  readonly steps: number;
}

/** A limit of the scope has not enough left. An ordinary outcome, made of public facts alone. */
export interface Refusal extends Totals {
  readonly kind: 'refused';
  /** What was asked for, and what is left of what limit, in words. */
  readonly message: string;
  readonly scope: string;
  readonly measure: Measure;
  /** Whose limit: `limit`, `spent` and `reserved` are its. */
  readonly by: Account;
  readonly requested: Amount;
  /** `limit - spent - reserved`, or 0. */
  readonly remaining: Amount;
  /** What the scope has spent over its life, as the audit log records it. */
  readonly spentAfter: number;
  /** The limit of the lifetime, as one number in the same way. */
  readonly limitScalar: number;
  /** Position of the REFUSE entry in the scope's history. */
  readonly seq: number;
  readonly entryDigest: string;
}

/** The answer that an earlier request with the same key and digest was given. Free: it is the same bytes. */
export interface Replay {
  readonly kind: 'replay';
  readonly id: string;
  readonly scope: string;
  readonly cost: Amount;
  /** A copy. */
  readonly output: Uint8Array;
  /** SHA-256 of `output`, hexadecimal. */
  readonly outputDigest: string;
}

/** The output of a charge is stored; from now on it may leave. */
export interface Settlement extends Step {
  readonly kind: 'released';
  /** SHA-256 of the output, hexadecimal. */
  readonly outputDigest: string;
}

/** A scope as it stands. */
export interface ScopeState extends ScopeTerms, Totals {
  readonly scope: string;
  readonly limits: ScopeLimits;
  readonly remaining: Amount;
  /** What of the limit is spent or reserved: 0 to 1, and more where the limit was lowered below. */
  readonly usedShare: number;
  /** The amounts in words. */
  readonly shown: Readonly<Record<'limit' | 'spent' | 'reserved' | 'remaining', string>>;
  /** `spent` as the audit log records it: one number, that grows with each spend. */
  readonly spentScalar: number;
  /** Whether the policy of this ledger names it. */
  readonly active: boolean;
  /** Length of its history, and the digest of the last entry. */
  readonly entries: number;
  readonly head: string;
}

/** A block, tenant or period of a scope as it stands. */
export interface AccountState extends Account, Totals {
  readonly remaining: Amount;
  readonly usedShare: number;
  /** The amounts in words. */
  readonly shown: Readonly<Record<'limit' | 'spent' | 'reserved' | 'remaining', string>>;
}

/** The durable budget of one store. Several, in several processes, may share a store. */
export interface Ledger {
  /**
   * Sets the cost of the event aside, in every limit that applies or in none, or refuses. Durable when it resolves. A request
   * whose key is in use by an unfinished one waits for that one.
   *
   * @throws {CloisterError} `DP_INVALID_PARAMETER` (the event has no sound cost in the scope's measure; nothing is written),
   *   `UNKNOWN_SCOPE`, `IDEMPOTENCY_CONFLICT`, `RELEASE_LOST` (charged under this key, and no output was stored), `LOCKED` (the
   *   first request with this key did not finish in time, or this process was taken for dead), `POLICY_REFUSED` (the clock jumped
   *   over more than one period), `INVALID_ARGUMENT`, `CLOSED`, and what the store throws.
   */
  reserve(request: SpendRequest, options?: StepOptions<Reservation | Refusal>): Promise<Reservation | Refusal | Replay>;
  /**
   * Turns a reservation into a debit. Read no private byte before this has resolved.
   *
   * @throws {CloisterError} `RELEASE_LOST` when the reservation was counted as spent meanwhile (this process was taken for
   *   dead); `INVALID_ARGUMENT` when it is not this ledger's open reservation.
   */
  charge(reservation: Reservation, options?: StepOptions<Charge>): Promise<Charge>;
  /** {@link Ledger.reserve} and {@link Ledger.charge} in one durable step and one entry. */
  spend(request: SpendRequest, options?: StepOptions<Charge | Refusal>): Promise<Charge | Refusal | Replay>;
  /**
   * Starts the next step of a charged plan; returns its number, from 1. Durable before the step's data may be read.
   *
   * @throws {CloisterError} `POLICY_REFUSED` when the plan has no steps left; `RELEASE_LOST`, `INVALID_ARGUMENT` as for
   *   {@link Ledger.charge}.
   */
  step(plan: Charge): Promise<number>;
  /**
   * Debits the limit of each of `subjects` (distinct) with the cost of `charge`, and answers which of them still had enough: the
   * others must contribute nothing. The answer is private, as are errors that depend on it: let neither out. Without a limit
   * per subject, all are admitted.
   *
   * @throws {CloisterError} `RELEASE_LOST`, `INVALID_ARGUMENT` as for {@link Ledger.charge}.
   */
  admit(charge: Charge, subjects: readonly string[]): Promise<readonly boolean[]>;
  /**
   * Stores `output` (a copy) as the one answer of this charge, with its digest. Let nothing leave before this has resolved.
   *
   * @throws {CloisterError} `RELEASE_LOST`, `INVALID_ARGUMENT` as for {@link Ledger.charge}.
   */
  release(charge: Charge, output: Uint8Array, options?: StepOptions<Settlement>): Promise<Settlement>;
  /**
   * Gives back a reservation that was never charged; its key is free again.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when it was charged: what was charged stays spent.
   */
  void(reservation: Reservation): Promise<void>;
  /** Ends a reservation or charge that will have no output: its cost stays spent, its key answers `RELEASE_LOST`. */
  forfeit(held: Reservation | Charge): Promise<void>;
  /** Every scope that the store knows, by name. */
  scopes(): Promise<readonly ScopeState[]>;
  /**
   * The blocks, tenants and periods of a scope that anything was spent or reserved in.
   *
   * @throws {CloisterError} `UNKNOWN_SCOPE` when the store has no such scope.
   */
  accounts(scope: string): Promise<readonly AccountState[]>;
  /**
   * At most `limit` (default all) entries of a scope's history, from position `from` (default 0) on.
   *
   * @throws {CloisterError} `UNKNOWN_SCOPE` when the store has no such scope.
   */
  history(scope: string, range?: { readonly from?: number; readonly limit?: number }): Promise<readonly LedgerEntry[]>;
  /** Voids what this ledger had reserved, forfeits what it had charged and not released. The store stays open. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Opens the ledger in `store` under a policy, and settles what dead holders left: whatever they had reserved or charged and
 * not released counts as spent, for nobody can know what they read. What live processes hold is left alone.
 *
 * @throws {CloisterError} `INVALID_POLICY` on a bad or repeated scope name, or a limit per period whose growth is not
 *   acknowledged; `DP_INVALID_PARAMETER` on a bad limit; `POLICY_REFUSED` when the policy raises or drops a limit of a scope that
 *   `acknowledgeRaised` does not name, or gives a scope another measure, adjacency, period or kind of blocks (nothing is
 *   written); what the store throws.
 * @example
 * ```ts
 * const budgets = [{ scope: 'clinic-a', measure: 'zcdp', limit: limitIn('zcdp', { rho: 0.5 }) }] as const;
 * await using ledger = await openLedger({ store: memoryStore(), clock: systemClock, budgets });
 * const event = { kind: 'gaussian', noiseMultiplier: 2, neighboring: 'add-remove' } as const;
 * const charge = await ledger.spend({ scope: 'clinic-a', event, requestDigest: '0'.repeat(64) });
 * if (charge.kind === 'charged') await ledger.release(charge, encodeUtf8('the noised answer'));
 * const [state] = await ledger.scopes();
 * state?.remaining; // 375000000000: 0.375, in units of 1e-12
 * ```
 */
export async function openLedger(options: LedgerOptions): Promise<Ledger> {
  const budgets = new Map<string, Budget>();
  for (const budget of options.budgets) {
    checkBudget(budget);
    const { scope } = budget;
    if (budgets.has(scope)) throw new CloisterError('INVALID_POLICY', `scope '${scope}' is given twice`, { scope });
    budgets.set(scope, budget);
  }
  const { store, clock, auditHead } = options;
  const liveness = options.liveness ?? processLiveness();
  const epoch = await store.transaction(async tx => {
    const book = await openBook({ tx, clock, auditHead }, liveness);
    const changes: LimitChange[] = [];
    for (const budget of budgets.values()) {
      const change = await applyBudget(book, budget, options.acknowledgeRaised ?? []);
      if (change) changes.push(change);
    }
    if (changes.length > 0) await options.within?.(tx, changes);
    for (const row of await tx.list('budget.holder')) {
      const { holder } = decode<{ holder: string }>(row.value);
      if (liveness.isDead(holder)) await settleHolder(book, Number(row.key), 'dead');
    }
    return book.epoch;
  });
  return new StoreLedger(options, budgets, liveness, epoch);
}

/** What became of an earlier request. */
type Earlier = Replay | { readonly kind: 'lost'; readonly id: string } | { readonly kind: 'pending' };

const POLL_MS = 20;
const MOST_EVENT_CHARACTERS = 16_384;
const MOST_STEPS = 1e9;

class StoreLedger implements Ledger {
  readonly #options: LedgerOptions;
  readonly #budgets: ReadonlyMap<string, Budget>;
  readonly #liveness: Liveness;
  readonly #epoch: number;
  /** Ids that somebody in this process holds a handle of. */
  readonly #held = new Set<string>();
  #closed: Promise<void> | undefined;

  constructor(options: LedgerOptions, budgets: ReadonlyMap<string, Budget>, liveness: Liveness, epoch: number) {
    this.#options = options;
    this.#budgets = budgets;
    this.#liveness = liveness;
    this.#epoch = epoch;
  }

  async reserve(
    request: SpendRequest,
    options: StepOptions<Reservation | Refusal> = {},
  ): Promise<Reservation | Refusal | Replay> {
    return this.#begin(request, 'reserve', options, held => ({ kind: 'reserved', ...held }) satisfies Reservation);
  }

  async spend(request: SpendRequest, options: StepOptions<Charge | Refusal> = {}): Promise<Charge | Refusal | Replay> {
    const { steps = 1 } = request;
    return this.#begin(request, 'charge', options, held => ({ kind: 'charged', ...held, steps }) satisfies Charge);
  }

  async charge(reservation: Reservation, options: StepOptions<Charge> = {}): Promise<Charge> {
    return this.#run(async book => {
      const held = await loadHeld(book, reservation?.id, 'reserved');
      const written = await charge(book, held);
      const outcome: Charge = Object.freeze({ kind: 'charged', ...stepOf(held, written), steps: held.steps ?? 1 });
      await options.within?.(book.tx, outcome);
      return outcome;
    });
  }

  async step(plan: Charge): Promise<number> {
    return this.#run(async book => {
      const held = await loadHeld(book, plan?.id, 'charged');
      const step = (held.stepsTaken ?? 0) + 1;
      if (step > (held.steps ?? 0)) {
        const message = `the plan ${held.id} declares ${held.steps ?? 0} steps, and all were taken`;
        throw new CloisterError('POLICY_REFUSED', message, { id: held.id, steps: held.steps ?? 0 });
      }
      await record(book, held.scope, await loadScope(book.tx, held.scope), { kind: 'STEP', id: held.id, step });
      await putOpen(book, { ...held, stepsTaken: step });
      return step;
    });
  }

  async admit(charged: Charge, subjects: readonly string[]): Promise<readonly boolean[]> {
    return this.#run(async book => admit(book, await loadHeld(book, charged?.id, 'charged'), subjects));
  }

  async release(charged: Charge, output: Uint8Array, options: StepOptions<Settlement> = {}): Promise<Settlement> {
    if (!(output instanceof Uint8Array)) {
      throw new CloisterError('INVALID_ARGUMENT', `the output of a release is a Uint8Array, got ${typeof output}`);
    }
    const bytes = output.slice();
    const outputDigest = sha256(bytes);
    const settlement = await this.#run(async book => {
      const held = await loadHeld(book, charged?.id, 'charged');
      const { id, scope, cost, answerHash } = held;
      await book.tx.put('budget.output', id, bytes, 0);
      const row = await loadScope(book.tx, scope);
      const written = await record(book, scope, row, { kind: 'RELEASE', id, cost, outputDigest });
      await settle(book, { ...held, state: 'released', outputDigest });
      if (answerHash !== undefined) {
        const stored = await book.tx.get('budget.answer', answerHash);
        await book.tx.put('budget.answer', answerHash, new TextEncoder().encode(id), stored?.revision ?? 0);
      }
      const outcome: Settlement = Object.freeze({ kind: 'released', ...stepOf(held, written), outputDigest });
      await options.within?.(book.tx, outcome);
      return outcome;
    });
    this.#held.delete(charged.id);
    return settlement;
  }

  async void(reservation: Reservation): Promise<void> {
    await this.#run(async book => giveBack(book, await loadHeld(book, reservation?.id, 'reserved')));
    this.#held.delete(reservation.id);
  }

  async forfeit(held: Reservation | Charge): Promise<void> {
    await this.#run(async book => {
      if (typeof held?.id === 'string' && (await loadSettled(book.tx, held.id))?.state === 'forfeited') return;
      await forfeit(book, await loadHeld(book, held?.id, 'reserved', 'charged'));
    });
    this.#held.delete(held.id);
  }

  async scopes(): Promise<readonly ScopeState[]> {
    return this.#run(async ({ tx }) =>
      (await tx.list('budget.scope')).map(({ key: scope, value }) => {
        const { terms, at: _, ...row } = decode<ScopeRow>(value);
        const spentScalar = scalarOf(terms.measure, row.spent);
        const active = this.#budgets.has(scope);
        return Object.freeze({ scope, ...terms, ...row, ...viewOf(terms.measure, row), spentScalar, active });
      }),
    );
  }

  async accounts(scope: string): Promise<readonly AccountState[]> {
    return this.#run(async ({ tx }) => {
      const { limits, terms } = await this.#known(tx, scope);
      const limitOf = { block: limits.perBlock, tenant: limits.perTenant, period: limits.perPeriod };
      return (await listAccounts(tx, scope)).map(account => {
        const limit = limitOf[account.kind as 'block'] ?? limits.lifetime;
        const totals = { limit, spent: account.spent, reserved: account.reserved };
        return Object.freeze({ ...account, limit, ...viewOf(terms.measure, totals) });
      });
    });
  }

  async history(scope: string, range: { from?: number; limit?: number } = {}): Promise<readonly LedgerEntry[]> {
    return this.#run(async ({ tx }) => {
      await this.#known(tx, scope);
      const entries = await tx.read(streamOf(scope), range.from ?? 0, range.limit ?? Number.MAX_SAFE_INTEGER);
      return entries.map(({ seq, value }) => decodeEntry(seq, value));
    });
  }

  async close(): Promise<void> {
    this.#closed ??= this.#options.store.transaction(tx => settleHolder(this.#book(tx), this.#epoch, 'closing'));
    await this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #book(tx: Transaction): Book {
    const { clock, auditHead } = this.#options;
    return { tx, clock, epoch: this.#epoch, auditHead };
  }

  async #run<T>(body: (book: Book) => Promise<T>): Promise<T> {
    if (this.#closed) throw new CloisterError('CLOSED', 'the ledger is closed');
    return this.#options.store.transaction(tx => body(this.#book(tx)));
  }

  /** The way in of {@link reserve} and {@link spend}: the idempotency key, the limits, then what `grant` makes of it. */
  async #begin<T extends Reservation | Charge>(
    request: SpendRequest,
    how: 'reserve' | 'charge',
    { within }: StepOptions<T | Refusal>,
    grant: (step: Step) => T,
  ): Promise<T | Refusal | Replay> {
    const wanted = this.#read(request);
    const { scope } = wanted;
    const deadline = performance.now() + (this.#options.duplicateWaitMs ?? 30_000);
    for (;;) {
      let id: string | undefined;
      try {
        const outcome: T | Refusal | Earlier = await this.#run(async book => {
          // An epoch that others have settled for dead may spend no more: nobody would settle it again.
          if (!(await book.tx.get('budget.holder', String(book.epoch)))) throw fenced();
          const earlier = await this.#earlier(book, request, wanted);
          if (earlier) return earlier;
          const verdict = await debit(book, wanted, how);
          const { row, seq } = verdict.written;
          const { measure } = row.terms;
          if (verdict.kind === 'held') {
            id = verdict.held.id;
            this.#held.add(id);
            const granted = Object.freeze(grant(stepOf(verdict.held, verdict.written)));
            await within?.(book.tx, granted);
            return granted;
          }
          const refusal: Refusal = Object.freeze({
            ...{ kind: 'refused', message: refusalMessage(scope, measure, wanted.cost, verdict.shortage) },
            ...{ scope, measure, requested: wanted.cost, ...verdict.shortage },
            ...{
              spentAfter: scalarOf(measure, row.spent),
              limitScalar: scalarOf(measure, row.limit),
              seq,
              entryDigest: row.head,
            },
          });
          await within?.(book.tx, refusal);
          return refusal;
        });
        if (outcome.kind === 'lost') throw lost(outcome.id);
        if (outcome.kind !== 'pending') return outcome;
      } catch (error) {
        // If the commit did happen after all, nobody holds it: the next request with this key forfeits it.
        if (id !== undefined) this.#held.delete(id);
        throw error;
      }
      if (performance.now() >= deadline) {
        const message = 'another request with this idempotency key is still at work; try again later';
        throw new CloisterError('LOCKED', message, { scope });
      }
      await sleep(POLL_MS);
    }
  }

  /** Checks a request, and computes what it costs. Nothing is read or written. */
  #read(request: SpendRequest): Wanted {
    const { scope, requestDigest, idempotencyKey, tenant, steps, delta, sameAnswer } = request;
    const invalid = (message: string): CloisterError => new CloisterError('INVALID_ARGUMENT', message, { scope });
    if (typeof requestDigest !== 'string' || !/^[0-9a-f]{64}$/.test(requestDigest)) {
      throw invalid('requestDigest is a SHA-256 of 64 lower-case hexadecimal digits');
    }
    if (idempotencyKey !== undefined && !isName(idempotencyKey, 256)) {
      throw invalid(`an idempotency key has 1 to 256 characters, got ${show(idempotencyKey)}`);
    }
    if (tenant !== undefined && !isName(tenant, 200)) {
      throw invalid(`the name of a tenant has 1 to 200 characters, got ${show(tenant)}`);
    }
    const blocks = request.blocks && [...new Set(request.blocks)].sort();
    for (const block of blocks ?? []) {
      if (!isName(block, 200)) throw invalid(`the name of a block has 1 to 200 characters, got ${show(block)}`);
    }
    if (steps !== undefined && !(Number.isInteger(steps) && steps >= 1 && steps <= MOST_STEPS)) {
      throw invalid(`a plan has 1 to ${MOST_STEPS} steps, got ${String(steps)}`);
    }
    const budget = this.#budgets.get(scope);
    if (!budget) throw this.#unknown(scope);
    const event: DpEvent =
      steps === undefined ? request.event : { kind: 'self-composition', event: request.event, count: steps };
    const { measure = 'pure', adjacency = 'add-remove' } = budget;
    const cost = costIn(measure, event, { adjacency, delta });
    if (JSON.stringify(event).length > MOST_EVENT_CHARACTERS) {
      const message = `an event in a ledger has at most ${MOST_EVENT_CHARACTERS} characters of JSON: state repetitions by self-composition`;
      throw new CloisterError('DP_INVALID_PARAMETER', message, { scope });
    }
    const clockKnownUntil = budget.perPeriod?.clockKnownUntil;
    return {
      ...{ scope, cost, event, requestDigest },
      ...(blocks && { blocks }),
      ...(tenant !== undefined && { tenant }),
      ...(steps !== undefined && { steps }),
      ...(idempotencyKey !== undefined && { keyHash: hashOf(scope, idempotencyKey) }),
      ...(sameAnswer === true && { answerHash: hashOf(scope, requestDigest) }),
      ...(clockKnownUntil !== undefined && { clockKnownUntil }),
    };
  }

  /** What became of the request that came before with this key, or is the same; undefined if none did. */
  async #earlier(
    book: Book,
    request: SpendRequest,
    { keyHash, answerHash, cost }: Wanted,
  ): Promise<Earlier | undefined> {
    if (keyHash !== undefined) {
      const key = await book.tx.get('budget.key', keyHash);
      if (key) {
        const { id, epoch } = decode<{ id: string; epoch: number }>(key.value);
        const held = (await loadOpen(book.tx, epoch, id)) ?? (await loadSettled(book.tx, id));
        if (!held) throw new CloisterError('STORE_FAILED', `reservation ${id} is gone from the store`, { id });
        if (held.requestDigest !== request.requestDigest || !sameCost(held.cost, cost)) {
          const message = `idempotency key '${request.idempotencyKey}' was used in scope '${held.scope}' for another request`;
          throw new CloisterError('IDEMPOTENCY_CONFLICT', message, { scope: held.scope, id });
        }
        if (held.state === 'released') return replay(book.tx, held);
        if (held.state === 'forfeited') return { kind: 'lost', id };
        if (await this.#isHeld(book.tx, held)) return { kind: 'pending' };
        await forfeit(book, held);
        return { kind: 'lost', id };
      }
    }
    if (answerHash === undefined) return undefined;
    const answer = await book.tx.get('budget.answer', answerHash);
    const settled = answer && (await loadSettled(book.tx, new TextDecoder().decode(answer.value)));
    return settled && sameCost(settled.cost, cost) ? replay(book.tx, settled) : undefined;
  }

  async #isHeld(tx: Transaction, held: HeldRow): Promise<boolean> {
    if (held.epoch === this.#epoch) return this.#held.has(held.id);
    const holder = await tx.get('budget.holder', String(held.epoch));
    return holder !== undefined && !this.#liveness.isDead(decode<{ holder: string }>(holder.value).holder);
  }

  async #known(tx: Transaction, scope: string): Promise<ScopeRow> {
    const row = isName(scope, 200) ? await tx.get('budget.scope', scope) : undefined;
    if (!row) throw this.#unknown(scope);
    return decode<ScopeRow>(row.value);
  }

  #unknown(scope: unknown): CloisterError {
    const known = [...this.#budgets.keys()].sort();
    const message = known.length > 0 ? `in the policy; it names ${known.join(', ')}` : 'in this ledger';
    return new CloisterError('UNKNOWN_SCOPE', `no scope ${show(scope)} ${message}`, { known });
  }
}

function stepOf({ id, scope, cost }: HeldRow, { row, seq, spentBefore }: Written): Step {
  const { limit, spent, reserved, terms, head } = row;
  const { measure } = terms;
  const totals = Object.freeze({ limit, spent, reserved });
  const recorded = {
    spentBefore: scalarOf(measure, spentBefore),
    spentAfter: scalarOf(measure, spent),
    limitScalar: scalarOf(measure, limit),
  };
  return { id, scope, measure, cost, seq, entryDigest: head, totals, ...recorded };
}

async function replay(tx: Transaction, { id, scope, cost, outputDigest }: HeldRow): Promise<Replay> {
  const output = (await tx.get('budget.output', id))?.value;
  if (!output || outputDigest === undefined || sha256(output) !== outputDigest) {
    throw new CloisterError('STORE_FAILED', `the stored output of ${id} is not the one that was released`, { id });
  }
  return Object.freeze({ kind: 'replay', id, scope, cost, output, outputDigest });
}

/** The reservation `id`, if this ledger holds it in one of `states`. */
async function loadHeld(book: Book, id: unknown, ...states: HeldRow['state'][]): Promise<HeldRow> {
  if (!isName(id, 1000)) throw new CloisterError('INVALID_ARGUMENT', `no reservation ${show(id)} in this ledger`);
  const held = await loadOpen(book.tx, book.epoch, id);
  if (held && states.includes(held.state)) return held;
  const settled = held ?? (await loadSettled(book.tx, id));
  if (settled?.state === 'forfeited') throw lost(id);
  const is = settled ? `is ${settled.state}` : 'is none that is open in this ledger';
  const message = `${id} must be ${states.join(' or ')} by this ledger for this step, and ${is}`;
  throw new CloisterError('INVALID_ARGUMENT', message, { id, state: settled?.state });
}

function sameCost(a: Amount, b: Amount): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** What follows from totals. */
function viewOf(
  measure: Measure,
  { limit, spent, reserved }: Totals,
): Pick<ScopeState, 'remaining' | 'usedShare' | 'shown'> {
  const used = add(spent, reserved);
  const remaining = subtract(limit, used); // a lowered limit may lie below what was spent: then 0
  const place = lastingOrder(limit, used);
  const words = (amount: Amount): string => formatAmount(measure, amount, place);
  const shown = { limit: words(limit), spent: words(spent), reserved: words(reserved), remaining: words(remaining) };
  return { remaining, usedShare: shareOf(measure, limit, spent, reserved), shown };
}

function refusalMessage(scope: string, measure: Measure, cost: Amount, shortage: Shortage): string {
  const { by, limit, remaining, spent, reserved } = shortage;
  const place = lastingOrder(limit, add(add(spent, reserved), cost));
  const whose = by.kind === 'lifetime' ? `scope '${scope}'` : `${by.kind} '${by.name}' of scope '${scope}'`;
  const [asked, left, most] = [cost, remaining, limit].map(amount => formatAmount(measure, amount, place));
  return `${asked} was asked for, and ${whose} has ${left} left of ${most}`;
}

function lost(id: string): CloisterError {
  const message = `${id} was charged and has no stored output; it stays spent, and is never computed again for free`;
  return new CloisterError('RELEASE_LOST', message, { id });
}

function fenced(): CloisterError {
  const message = 'another process took this one for dead and settled what it held; open the ledger again';
  return new CloisterError('LOCKED', message);
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
