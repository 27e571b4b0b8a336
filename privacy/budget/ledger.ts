/**
 * The budget ledger: reserve, charge, release.
 *
 * In the store: collection `budget.scope` (terms and totals by scope), `budget.reservation` (by id), `budget.output` (released
 * bytes by id), `budget.key` (idempotency keys, hashed), `budget.open` (`epoch/id` of what is reserved or charged and not
 * settled), `budget.holder` (epoch to process), `budget.epoch`; stream `budget/<scope>` (history). Every step changes the
 * scope's row and appends its entry in one transaction.
 * @module
 */
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

import {
  type Clock,
  CloisterError,
  canonicalJson,
  type Json,
  type MicroEpsilon,
  microEpsilon,
  toEpsilon,
  toHex,
} from '../../src/base/index.ts';
import type { Store, Transaction } from '../../src/store/index.ts';
import type { EntryBody, LedgerEntry, ScopeTerms, Totals } from './entry.ts';
import { type Liveness, processLiveness } from './liveness.ts';

/** A scope and what may be spent in it over its whole life. */
export interface Budget {
  /** A name of 1 to 200 characters, such as `clinic-a/2026-q4`. */
  readonly scope: string;
  /** In micro-epsilon, rounded down by `limitOf`. Never renewed. */
  readonly limit: MicroEpsilon;
}

/** How {@link openLedger} opens. */
export interface LedgerOptions {
  readonly store: Store;
  readonly clock: Clock;
  /** The scopes of the policy. A scope that the store knows and the policy does not is kept, and spends no more. */
  readonly budgets: readonly Budget[];
  /** Scopes whose limit the policy may raise above the stored one. Lowering needs no word. */
  readonly acknowledgeRaised?: readonly string[];
  /** How holders are told dead; default {@link processLiveness}. */
  readonly liveness?: Liveness;
  /** How long a duplicate waits for the request that came first with its key, before it is `LOCKED`. Default 30,000. */
  readonly duplicateWaitMs?: number;
}

/** What a request wants to spend, and what makes it the same request. */
export interface SpendRequest {
  readonly scope: string;
  /** At least one micro-epsilon, rounded up by `spendOf`. */
  readonly cost: MicroEpsilon;
  /** SHA-256 of the canonical request, 64 lower-case hexadecimal digits. */
  readonly requestDigest: string;
  /** 1 to 256 characters. Within a scope, one key is one request, charged once. */
  readonly idempotencyKey?: string;
}

/** Options of a ledger step whose outcome is `T`. */
export interface StepOptions<T> {
  /**
   * More to write in the step's own transaction, after the ledger's writes: the audit log's head, an outbox message. If it
   * throws, the step has not happened. Keep it short: the store waits for it. Not called for a {@link Replay}.
   */
  readonly within?: (tx: Transaction, outcome: T) => Promise<void>;
}

/** A promise of budget: nothing may be read for it yet. */
export interface Reservation {
  readonly kind: 'reserved';
  readonly id: string;
  readonly scope: string;
  readonly cost: MicroEpsilon;
  readonly totals: Totals;
}

/** A durable debit: private data may be read for it, once. */
export interface Charge {
  readonly kind: 'charged';
  readonly id: string;
  readonly scope: string;
  readonly cost: MicroEpsilon;
  /** Position of the CHARGE entry in the scope's history. */
  readonly seq: number;
  readonly totals: Totals;
}

/** The scope has not enough left. An ordinary outcome, made of public facts alone. */
export interface Refusal extends Totals {
  readonly kind: 'refused';
  readonly scope: string;
  readonly requested: MicroEpsilon;
  /** `limit - spent - reserved`, or 0. */
  readonly remaining: MicroEpsilon;
  /** Position of the REFUSE entry in the scope's history. */
  readonly seq: number;
}

/** The answer that an earlier request with the same key and digest was given. Free: it is the same bytes. */
export interface Replay {
  readonly kind: 'replay';
  readonly id: string;
  readonly scope: string;
  readonly cost: MicroEpsilon;
  /** A copy. */
  readonly output: Uint8Array;
  /** SHA-256 of `output`, hexadecimal. */
  readonly outputDigest: string;
}

/** The output of a charge is stored; from now on it may leave. */
export interface Settlement {
  readonly kind: 'released';
  readonly id: string;
  readonly scope: string;
  readonly cost: MicroEpsilon;
  /** SHA-256 of the output, hexadecimal. */
  readonly outputDigest: string;
  /** Position of the RELEASE entry in the scope's history. */
  readonly seq: number;
  readonly totals: Totals;
}

/** A scope as it stands. */
export interface ScopeState extends ScopeTerms, Totals {
  readonly scope: string;
  readonly remaining: MicroEpsilon;
  /** Whether the policy of this ledger names it. */
  readonly active: boolean;
}

/** The durable budget of one store. Several, in several processes, may share a store. */
export interface Ledger {
  /**
   * Sets `cost` aside, all or nothing, or refuses. Durable when it resolves. A request whose key is in use by an unfinished
   * one waits for that one.
   *
   * @throws {CloisterError} `DP_INVALID_PARAMETER` (the cost is no positive amount; nothing is written), `UNKNOWN_SCOPE`,
   *   `IDEMPOTENCY_CONFLICT`, `RELEASE_LOST` (charged under this key, and no output was stored), `LOCKED` (the first request
   *   with this key did not finish in time), `INVALID_ARGUMENT`, `CLOSED`, and what the store throws.
   */
  reserve(request: SpendRequest, options?: StepOptions<Reservation | Refusal>): Promise<Reservation | Refusal | Replay>;
  /**
   * Turns a reservation into a debit. Read no private byte before this has resolved.
   *
   * @throws {CloisterError} `RELEASE_LOST` when the reservation was counted as spent meanwhile (this process was taken for
   *   dead); `INVALID_ARGUMENT` when it is not this ledger's open reservation.
   */
  charge(reservation: Reservation, options?: StepOptions<Charge>): Promise<Charge>;
  /** {@link Ledger.reserve} and {@link Ledger.charge} in one durable step. */
  spend(request: SpendRequest, options?: StepOptions<Charge | Refusal>): Promise<Charge | Refusal | Replay>;
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
 * @throws {CloisterError} `INVALID_POLICY` on a bad or repeated scope name; `DP_INVALID_PARAMETER` on a bad limit;
 *   `POLICY_REFUSED` when the policy raises a limit that `acknowledgeRaised` does not name (nothing is written); what the
 *   store throws.
 * @example
 * ```ts
 * const budgets = [{ scope: 'clinic-a', limit: limitOf(2) }];
 * await using ledger = await openLedger({ store: memoryStore(), clock: systemClock, budgets });
 * const charge = await ledger.spend({ scope: 'clinic-a', cost: spendOf(0.5), requestDigest: '0'.repeat(64) });
 * if (charge.kind === 'charged') await ledger.release(charge, encodeUtf8('the noised answer'));
 * const [state] = await ledger.scopes();
 * state?.remaining; // 1500000
 * ```
 */
export async function openLedger(options: LedgerOptions): Promise<Ledger> {
  const budgets = new Map<string, MicroEpsilon>();
  for (const { scope, limit } of options.budgets) {
    if (!isName(scope, 200))
      throw new CloisterError('INVALID_POLICY', `a scope name has 1 to 200 characters, got ${show(scope)}`);
    if (budgets.has(scope)) throw new CloisterError('INVALID_POLICY', `scope '${scope}' is given twice`, { scope });
    budgets.set(scope, microEpsilon(limit));
  }
  const liveness = options.liveness ?? processLiveness();
  const epoch = await options.store.transaction(async tx => {
    const book = await openBook(tx, liveness, options.clock);
    for (const [scope, limit] of budgets) await applyLimit(book, scope, limit, options.acknowledgeRaised ?? []);
    for (const row of await tx.list('budget.holder')) {
      const { holder } = decode<{ holder: string }>(row.value);
      if (liveness.isDead(holder)) await settleHolder(book, Number(row.key), 'dead');
    }
    return book.epoch;
  });
  return new StoreLedger(options, budgets, liveness, epoch);
}

const POLL_MS = 20;

// The platform's own, several times as fast as the portable ones of the ground floor.
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { fatal: true });

type State = 'reserved' | 'charged' | 'released' | 'void' | 'forfeited';

interface ReservationRow {
  readonly id: string;
  readonly scope: string;
  readonly cost: MicroEpsilon;
  readonly epoch: number;
  readonly state: State;
  readonly requestDigest: string;
  /** Hash of the idempotency key, if there was one. */
  readonly keyHash?: string;
  readonly outputDigest?: string;
}

interface ScopeRow extends ScopeTerms, Totals {
  /** Length of the history, so that a row and a stream that do not belong together are found out. */
  readonly entries: number;
}

/** What one transaction of the ledger works with. */
interface Book {
  readonly tx: Transaction;
  readonly clock: Clock;
  readonly epoch: number;
}

class StoreLedger implements Ledger {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #scopes: ReadonlySet<string>;
  readonly #liveness: Liveness;
  readonly #epoch: number;
  readonly #duplicateWaitMs: number;
  /** Ids that somebody in this process holds a handle of. */
  readonly #held = new Set<string>();
  #closed: Promise<void> | undefined;

  constructor(options: LedgerOptions, budgets: ReadonlyMap<string, unknown>, liveness: Liveness, epoch: number) {
    this.#store = options.store;
    this.#clock = options.clock;
    this.#scopes = new Set(budgets.keys());
    this.#liveness = liveness;
    this.#epoch = epoch;
    this.#duplicateWaitMs = options.duplicateWaitMs ?? 30_000;
  }

  async reserve(
    request: SpendRequest,
    options: StepOptions<Reservation | Refusal> = {},
  ): Promise<Reservation | Refusal | Replay> {
    return this.#begin(request, options, async (_, reservation) => reservation);
  }

  async spend(request: SpendRequest, options: StepOptions<Charge | Refusal> = {}): Promise<Charge | Refusal | Replay> {
    return this.#begin(request, options, (book, reservation) => chargeReservation(book, reservation.id));
  }

  async charge(reservation: Reservation, options: StepOptions<Charge> = {}): Promise<Charge> {
    return this.#run(async book => {
      const charge = await chargeReservation(book, reservation.id);
      await options.within?.(book.tx, charge);
      return charge;
    });
  }

  async release(charge: Charge, output: Uint8Array, options: StepOptions<Settlement> = {}): Promise<Settlement> {
    if (!(output instanceof Uint8Array)) {
      throw new CloisterError('INVALID_ARGUMENT', `the output of a release is a Uint8Array, got ${typeof output}`);
    }
    const bytes = output.slice();
    const outputDigest = sha256(bytes);
    const settlement = await this.#run(async book => {
      const row = await loadHeld(book, charge.id, 'charged');
      await book.tx.put('budget.output', row.id, bytes, 0);
      const { id, scope, cost } = row;
      const entry = { kind: 'RELEASE', id, cost, outputDigest } as const;
      const { seq, totals } = await record(book, scope, await loadScope(book.tx, scope), entry);
      await settle(book.tx, row, { state: 'released', outputDigest });
      const outcome: Settlement = Object.freeze({ kind: 'released', id, scope, cost, outputDigest, seq, totals });
      await options.within?.(book.tx, outcome);
      return outcome;
    });
    this.#held.delete(charge.id);
    return settlement;
  }

  async void(reservation: Reservation): Promise<void> {
    await this.#run(async book => voidReservation(book, await loadHeld(book, reservation.id, 'reserved')));
    this.#held.delete(reservation.id);
  }

  async forfeit(held: Reservation | Charge): Promise<void> {
    await this.#run(async book => {
      const row = await load(book.tx, held.id);
      if (row.state === 'forfeited') return;
      await forfeitReservation(book, await loadHeld(book, held.id, 'reserved', 'charged'));
    });
    this.#held.delete(held.id);
  }

  async scopes(): Promise<readonly ScopeState[]> {
    return this.#run(async ({ tx }) =>
      (await tx.list('budget.scope')).map(({ key: scope, value }) => {
        const { entries: _, ...row } = decode<ScopeRow>(value);
        return Object.freeze({ scope, ...row, remaining: remainingOf(row), active: this.#scopes.has(scope) });
      }),
    );
  }

  async history(scope: string, range: { from?: number; limit?: number } = {}): Promise<readonly LedgerEntry[]> {
    return this.#run(async ({ tx }) => {
      if (!isName(scope, 200) || !(await tx.get('budget.scope', scope))) throw this.#unknown(scope);
      const entries = await tx.read(streamOf(scope), range.from ?? 0, range.limit ?? Number.MAX_SAFE_INTEGER);
      return entries.map(({ seq, value }) => Object.freeze({ ...decode<LedgerEntry>(value), seq }));
    });
  }

  async close(): Promise<void> {
    this.#closed ??= this.#store.transaction(tx =>
      settleHolder({ tx, clock: this.#clock, epoch: this.#epoch }, this.#epoch, 'closing'),
    );
    await this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #run<T>(body: (book: Book) => Promise<T>): Promise<T> {
    if (this.#closed) throw new CloisterError('CLOSED', 'the ledger is closed');
    return this.#store.transaction(tx => body({ tx, clock: this.#clock, epoch: this.#epoch }));
  }

  /** The way in of {@link reserve} and {@link spend}: the idempotency key, the limit, then what `grant` makes of it. */
  async #begin<T extends Reservation | Charge>(
    request: SpendRequest,
    { within }: StepOptions<T | Refusal>,
    grant: (book: Book, reservation: Reservation) => Promise<T>,
  ): Promise<T | Refusal | Replay> {
    checkRequest(request);
    if (!this.#scopes.has(request.scope)) throw this.#unknown(request.scope);
    const keyHash = request.idempotencyKey === undefined ? undefined : hashKey(request.scope, request.idempotencyKey);
    const deadline = performance.now() + this.#duplicateWaitMs;
    for (;;) {
      let id: string | undefined;
      try {
        const outcome = await this.#run(async book => {
          const earlier = keyHash === undefined ? undefined : await this.#earlier(book, request, keyHash);
          if (earlier) return earlier;
          const verdict = await openReservation(book, request, keyHash);
          const result = verdict.kind === 'refused' ? verdict : await grant(book, verdict);
          if (result.kind !== 'refused') {
            id = result.id;
            this.#held.add(id);
          }
          await within?.(book.tx, result);
          return result;
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
        throw new CloisterError('LOCKED', message, { scope: request.scope });
      }
      await sleep(POLL_MS);
    }
  }

  /** What became of the request that used this key before; undefined if none did. */
  async #earlier(
    book: Book,
    request: SpendRequest,
    keyHash: string,
  ): Promise<Replay | { kind: 'lost'; id: string } | { kind: 'pending' } | undefined> {
    const key = await book.tx.get('budget.key', keyHash);
    if (!key) return undefined;
    const row = await load(book.tx, decode<{ id: string }>(key.value).id);
    const { id, scope, cost } = row;
    if (row.requestDigest !== request.requestDigest || cost !== request.cost) {
      const message = `idempotency key '${request.idempotencyKey}' was used in scope '${scope}' for another request`;
      throw new CloisterError('IDEMPOTENCY_CONFLICT', message, { scope, id });
    }
    if (row.state === 'released') {
      const output = (await book.tx.get('budget.output', id))?.value;
      if (!output || sha256(output) !== row.outputDigest) {
        throw new CloisterError('STORE_FAILED', `the stored output of ${id} is not the one that was released`, { id });
      }
      return Object.freeze({ kind: 'replay', id, scope, cost, output, outputDigest: row.outputDigest });
    }
    if (row.state === 'forfeited') return { kind: 'lost', id };
    if (await this.#isHeld(book.tx, row)) return { kind: 'pending' };
    await forfeitReservation(book, row);
    return { kind: 'lost', id };
  }

  async #isHeld(tx: Transaction, row: ReservationRow): Promise<boolean> {
    if (row.epoch === this.#epoch) return this.#held.has(row.id);
    const holder = await tx.get('budget.holder', String(row.epoch));
    return holder !== undefined && !this.#liveness.isDead(decode<{ holder: string }>(holder.value).holder);
  }

  #unknown(scope: unknown): CloisterError {
    const known = [...this.#scopes].sort();
    return new CloisterError('UNKNOWN_SCOPE', `no scope ${show(scope)} in the policy; it names ${known.join(', ')}`, {
      known,
    });
  }
}

/** Takes the next epoch, and writes down who has it. */
async function openBook(tx: Transaction, liveness: Liveness, clock: Clock): Promise<Book> {
  const row = await tx.get('budget.epoch', 'last');
  const epoch = row ? decode<{ epoch: number }>(row.value).epoch + 1 : 1;
  await tx.put('budget.epoch', 'last', encode({ epoch }), row?.revision ?? 0);
  await tx.put('budget.holder', String(epoch), encode({ holder: liveness.self }), 0);
  return { tx, clock, epoch };
}

async function applyLimit(book: Book, scope: string, limit: MicroEpsilon, raisable: readonly string[]): Promise<void> {
  const row = await book.tx.get('budget.scope', scope);
  if (!row) {
    const terms = { unit: 'subject', adjacency: 'add-remove', measure: 'pure' } as const;
    const totals = { limit, spent: microEpsilon(0), reserved: microEpsilon(0) };
    await record(book, scope, { ...terms, ...totals, entries: 0 }, { kind: 'SCOPE', ...terms });
    return;
  }
  const before = decode<ScopeRow>(row.value);
  if (limit === before.limit) return;
  const raised = limit > before.limit;
  if (raised && !raisable.includes(scope)) {
    const message =
      `scope '${scope}' has a lifetime limit of ${toEpsilon(before.limit)}, the policy says ${toEpsilon(limit)}: ` +
      'name the scope in acknowledgeRaised to raise it';
    throw new CloisterError('POLICY_REFUSED', message, { scope, before: before.limit, limit });
  }
  await record(book, scope, { ...before, limit }, { kind: 'LIMIT', before: before.limit, raised });
}

/** Sets the cost aside if the scope has it, and writes down the answer either way. */
async function openReservation(
  book: Book,
  request: SpendRequest,
  keyHash: string | undefined,
): Promise<Reservation | Refusal> {
  const { scope, cost, requestDigest } = request;
  const before = await loadScope(book.tx, scope);
  const remaining = remainingOf(before);
  if (cost > remaining) {
    const { seq, totals } = await record(book, scope, before, { kind: 'REFUSE', cost, requestDigest });
    return Object.freeze({ kind: 'refused', scope, requested: cost, remaining, seq, ...totals });
  }
  const id = `${scope}#${before.entries}`; // the place of its RESERVE entry
  const after = { ...before, reserved: microEpsilon(before.reserved + cost) };
  const { totals } = await record(book, scope, after, { kind: 'RESERVE', id, cost, requestDigest });
  const row: ReservationRow = {
    ...{ id, scope, cost, epoch: book.epoch, state: 'reserved', requestDigest },
    ...(keyHash !== undefined && { keyHash }),
  };
  await book.tx.put('budget.reservation', id, encode({ ...row }), 0);
  await book.tx.put('budget.open', openKey(row), new Uint8Array(0), 0);
  if (keyHash !== undefined) await book.tx.put('budget.key', keyHash, encode({ id }), 0);
  return Object.freeze({ kind: 'reserved', id, scope, cost, totals });
}

async function chargeReservation(book: Book, id: string): Promise<Charge> {
  const row = await loadHeld(book, id, 'reserved');
  const before = await loadScope(book.tx, row.scope);
  const { scope, cost } = row;
  const { seq, totals } = await record(book, scope, spendReserved(before, cost), { kind: 'CHARGE', id, cost });
  await advance(book.tx, row, { state: 'charged' });
  return Object.freeze({ kind: 'charged', id, scope, cost, seq, totals });
}

async function voidReservation(book: Book, row: ReservationRow): Promise<void> {
  const before = await loadScope(book.tx, row.scope);
  const after = { ...before, reserved: microEpsilon(before.reserved - row.cost) };
  await record(book, row.scope, after, { kind: 'VOID', id: row.id, cost: row.cost });
  await settle(book.tx, row, { state: 'void' });
  if (row.keyHash !== undefined) await book.tx.remove('budget.key', row.keyHash, 1);
}

async function forfeitReservation(book: Book, row: ReservationRow): Promise<void> {
  const before = await loadScope(book.tx, row.scope);
  const was = row.state === 'charged' ? 'charged' : 'reserved';
  const after = was === 'charged' ? before : spendReserved(before, row.cost);
  await record(book, row.scope, after, { kind: 'FORFEIT', id: row.id, cost: row.cost, was });
  await settle(book.tx, row, { state: 'forfeited' });
}

/** Ends an epoch: what it left open is forfeited, or, if its own ledger says that it closes, given back where uncharged. */
async function settleHolder(book: Book, epoch: number, why: 'dead' | 'closing'): Promise<void> {
  const prefix = `${epoch}/`;
  for (const { key } of await book.tx.list('budget.open', prefix)) {
    const row = await load(book.tx, key.slice(prefix.length));
    if (why === 'closing' && row.state === 'reserved') await voidReservation(book, row);
    else await forfeitReservation(book, row);
  }
  const holder = await book.tx.get('budget.holder', String(epoch));
  if (holder) await book.tx.remove('budget.holder', String(epoch), holder.revision);
}

/** Writes a scope's row and the entry that explains the change. */
async function record(
  book: Book,
  scope: string,
  after: ScopeRow,
  body: EntryBody,
): Promise<{ seq: number; totals: Totals }> {
  const { limit, spent, reserved } = after;
  const totals = Object.freeze({ limit, spent, reserved });
  const entry = { ...body, ...totals, at: book.clock.now(), epoch: book.epoch };
  const seq = await book.tx.append(streamOf(scope), encode(entry));
  if (seq !== after.entries) {
    const message = `scope '${scope}' should have ${after.entries} entries, and has ${seq}: the store was changed from outside`;
    throw new CloisterError('STORE_FAILED', message, { scope });
  }
  // Each entry writes the row once, so the row's revision is the number of entries.
  await book.tx.put('budget.scope', scope, encode({ ...after, entries: seq + 1 }), after.entries);
  return { seq, totals };
}

function spendReserved(before: ScopeRow, cost: MicroEpsilon): ScopeRow {
  return { ...before, reserved: microEpsilon(before.reserved - cost), spent: microEpsilon(before.spent + cost) };
}

async function loadScope(tx: Transaction, scope: string): Promise<ScopeRow> {
  const row = await tx.get('budget.scope', scope);
  if (!row) throw new CloisterError('STORE_FAILED', `scope '${scope}' is gone from the store`, { scope });
  return decode<ScopeRow>(row.value);
}

async function load(tx: Transaction, id: string): Promise<ReservationRow> {
  const row = typeof id === 'string' && id !== '' ? await tx.get('budget.reservation', id) : undefined;
  if (!row) throw new CloisterError('INVALID_ARGUMENT', `no reservation ${show(id)} in this ledger`);
  return decode<ReservationRow>(row.value);
}

/** The reservation `id`, if this ledger holds it in one of `states`. */
async function loadHeld(book: Book, id: string, ...states: State[]): Promise<ReservationRow> {
  const row = await load(book.tx, id);
  if (row.state === 'forfeited') throw lost(id);
  if (row.epoch !== book.epoch || !states.includes(row.state)) {
    const holder = row.epoch === book.epoch ? 'this ledger' : 'another';
    const message = `${id} must be ${states.join(' or ')} by this ledger for this step, and is ${row.state} by ${holder}`;
    throw new CloisterError('INVALID_ARGUMENT', message, { id, state: row.state });
  }
  return row;
}

/** Writes a reservation's next state. It was written once to be reserved, and once more to be charged. */
async function advance(tx: Transaction, before: ReservationRow, next: Partial<ReservationRow>): Promise<void> {
  await tx.put('budget.reservation', before.id, encode({ ...before, ...next }), before.state === 'reserved' ? 1 : 2);
}

/** Writes a reservation's last state. */
async function settle(tx: Transaction, before: ReservationRow, last: Partial<ReservationRow>): Promise<void> {
  await advance(tx, before, last);
  await tx.remove('budget.open', openKey(before), 1);
}

function lost(id: string): CloisterError {
  const message = `${id} was charged and has no stored output; it stays spent, and is never computed again for free`;
  return new CloisterError('RELEASE_LOST', message, { id });
}

function checkRequest({ scope, cost, requestDigest, idempotencyKey }: SpendRequest): void {
  if (microEpsilon(cost) === 0)
    throw new CloisterError('DP_INVALID_PARAMETER', 'a release costs at least one micro-epsilon, got 0');
  if (typeof requestDigest !== 'string' || !/^[0-9a-f]{64}$/.test(requestDigest)) {
    throw new CloisterError('INVALID_ARGUMENT', 'requestDigest is a SHA-256 of 64 lower-case hexadecimal digits', {
      scope,
    });
  }
  if (idempotencyKey !== undefined && !isName(idempotencyKey, 256)) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `an idempotency key has 1 to 256 characters, got ${show(idempotencyKey)}`,
      { scope },
    );
  }
}

function isName(value: unknown, most: number): value is string {
  if (typeof value !== 'string' || value.length < 1 || value.length > most) return false;
  return value.isWellFormed() && !value.includes('\0');
}

function show(value: unknown): string {
  return typeof value === 'string' ? `'${value.slice(0, 200)}'` : typeof value;
}

function remainingOf({ limit, spent, reserved }: Totals): MicroEpsilon {
  return microEpsilon(Math.max(0, limit - spent - reserved)); // a lowered limit may lie below what was spent
}

function streamOf(scope: string): string {
  return `budget/${scope}`;
}

function openKey({ epoch, id }: ReservationRow): string {
  return `${epoch}/${id}`;
}

function hashKey(scope: string, key: string): string {
  return sha256(encode([scope, key]));
}

function sha256(bytes: Uint8Array): string {
  return toHex(createHash('sha256').update(bytes).digest());
}

function encode(value: Json): Uint8Array {
  return encoder.encode(canonicalJson(value));
}

function decode<T>(bytes: Uint8Array): T {
  return JSON.parse(decoder.decode(bytes)) as T;
}
