/**
 * The history of a scope: what its entries say, what follows from them, and how each holds the one before it.
 * @module
 */
import { hash } from 'node:crypto';

import { canonicalJson, type Json } from '../../src/base/index.ts';
import type { DpEvent } from '../dp/event.ts';
import type { Adjacency } from '../dp/parameters.ts';
import { type Amount, add, equal, larger, type Measure, subtract, zeroOf } from './currency.ts';

/** What a scope holds at one moment, in units of its measure. */
export interface Totals {
  /** The most that may ever be spent. */
  readonly limit: Amount;
  /** Charged, whether a release came of it or not. Never goes down. */
  readonly spent: Amount;
  /** Promised and not charged yet. Counts against the limit as `spent` does. */
  readonly reserved: Amount;
}

/** What a scope protects, and how its amounts are to be read. Never changes. */
export interface ScopeTerms {
  /** Whose data one unit of protection covers: all records of one subject. */
  readonly unit: 'subject';
  /** When two datasets are neighbours. */
  readonly adjacency: Adjacency;
  /** What amounts count: see `Measure`. */
  readonly measure: Measure;
  /** Whether no subject is in two blocks. Then the loss of the whole is the largest of its blocks, not their sum. */
  readonly disjointBlocks?: true;
  /** Length of a period of the clock, where there is a limit for each. */
  readonly periodMs?: number;
}

/** The limits of a scope. All that apply to a spend must hold it. */
export interface ScopeLimits {
  readonly lifetime: Amount;
  readonly perBlock?: Amount;
  readonly perTenant?: Amount;
  readonly perPeriod?: Amount;
  readonly perSubject?: Amount;
}

/** Which limit of a scope. A subject's is never named to anybody. */
export interface Account {
  readonly kind: 'lifetime' | 'block' | 'tenant' | 'period';
  /** The block, the tenant, the number of the period since 1970; '' for the lifetime. */
  readonly name: string;
}

/** What of a request says which limits apply. */
export interface Parties {
  readonly blocks?: readonly string[];
  readonly tenant?: string;
}

/** Size and root of the audit log. */
export interface AuditHead {
  readonly size: number;
  readonly root: string;
}

/** What every entry says: its place, when and by whom it was written, what came before it, and the totals after it. */
interface EntryHead extends Totals {
  /** Position in the scope's history: 0, 1, 2 … */
  readonly seq: number;
  /** Milliseconds since 1970: the ledger's clock, or the time of the entry before where that is later. */
  readonly at: number;
  /** Which opening of the ledger wrote it. */
  readonly epoch: number;
  /** SHA-256 of the entry before, as {@link digestOfEntry} gives it; 64 zeros for the first. */
  readonly prev: string;
  /** The audit log as it was then, where there is one. */
  readonly audit?: AuditHead;
}

/** What is spent on what: the part of an entry that a request gives. */
interface Spend extends Parties {
  readonly id: string;
  readonly cost: Amount;
  readonly requestDigest: string;
  readonly event: DpEvent;
  /** Steps that a plan declares. */
  readonly steps?: number;
}

/** One entry of a scope's history. */
export type LedgerEntry = EntryHead &
  (
    | ({ readonly kind: 'SCOPE'; readonly limits: ScopeLimits } & ScopeTerms)
    /** The policy changed a limit. `raised` ones were acknowledged. */
    | { readonly kind: 'LIMIT'; readonly before: ScopeLimits; readonly limits: ScopeLimits; readonly raised: boolean }
    | ({ readonly kind: 'RESERVE' } & Spend)
    /** `direct`: there was no reservation before it. */
    | ({ readonly kind: 'CHARGE'; readonly direct: boolean } & Spend)
    /** A plan goes on to its step number `step`, from 1. Costs nothing: all steps were charged. */
    | { readonly kind: 'STEP'; readonly id: string; readonly step: number }
    | { readonly kind: 'RELEASE'; readonly id: string; readonly cost: Amount; readonly outputDigest: string }
    | ({ readonly kind: 'VOID'; readonly id: string; readonly cost: Amount } & Parties)
    /** Counted as spent without a release: the holder died or gave up. `was` is the state before. */
    | ({
        readonly kind: 'FORFEIT';
        readonly id: string;
        readonly cost: Amount;
        readonly was: 'reserved' | 'charged';
      } & Parties)
    /** `by` had not enough left. */
    | ({
        readonly kind: 'REFUSE';
        readonly cost: Amount;
        readonly requestDigest: string;
        readonly event: DpEvent;
        readonly by: Account;
      } & Parties)
  );

/** An entry as its writer knows it: place, time, chain and totals are added when it is written. */
export type EntryBody = LedgerEntry extends infer E
  ? E extends LedgerEntry
    ? Omit<E, keyof EntryHead>
    : never
  : never;

/** What comes before the first entry. */
export const NO_ENTRY: string = '0'.repeat(64);

/** SHA-256 of an entry's canonical JSON without `seq`, which its place in the chain says; 64 hexadecimal digits. */
export function digestOfEntry({ seq: _, ...entry }: LedgerEntry): string {
  return hash('sha256', canonicalJson(entry as unknown as Json));
}

/**
 * Returns the totals that follow from a whole history, by replaying its entries. They equal the scope's row; a difference
 * means that the store was changed behind the ledger's back.
 */
export function totalsOf(history: readonly LedgerEntry[]): Totals {
  const first = history[0];
  const terms = first?.kind === 'SCOPE' ? first : undefined;
  const zero = zeroOf(terms?.measure ?? 'pure');
  const blocks = new Map<string, Amount>();
  let [limit, spent, reserved] = [zero, zero, zero];
  const spend = (cost: Amount, parties: Parties): void => {
    if (!terms?.disjointBlocks) {
      spent = add(spent, cost);
      return;
    }
    for (const block of parties.blocks ?? []) {
      blocks.set(block, add(blocks.get(block) ?? zero, cost));
      spent = larger(spent, blocks.get(block)!);
    }
  };
  for (const entry of history) {
    switch (entry.kind) {
      case 'SCOPE':
      case 'LIMIT':
        limit = entry.limits.lifetime;
        break;
      case 'RESERVE':
        reserved = add(reserved, entry.cost);
        break;
      case 'CHARGE':
        if (!entry.direct) reserved = subtract(reserved, entry.cost);
        spend(entry.cost, entry);
        break;
      case 'VOID':
        reserved = subtract(reserved, entry.cost);
        break;
      case 'FORFEIT':
        if (entry.was === 'reserved') {
          reserved = subtract(reserved, entry.cost);
          spend(entry.cost, entry);
        }
        break;
      case 'STEP':
      case 'RELEASE':
      case 'REFUSE':
        break;
      default:
        entry satisfies never;
    }
  }
  return { limit, spent, reserved };
}

/** Whether a history is whole. */
export type HistoryVerdict =
  | { readonly ok: true /** Digest of the last entry. */; readonly head: string }
  | {
      readonly ok: false /** The first entry that is not as it should be. */;
      readonly seq: number;
      readonly reason: string;
    };

/**
 * Verifies a whole history from its entries alone: each holds the digest of the one before it, positions and times only go up, and
 * the last totals follow from all. Linear in the number of entries.
 *
 * @example
 * ```ts
 * await using ledger = await openLedger({
 *   store: memoryStore(),
 *   clock: systemClock,
 *   budgets: [{ scope: 'clinic-a', limit: limitOf(2) }],
 * });
 * verifyHistory(await ledger.history('clinic-a')).ok; // true
 * ```
 */
export function verifyHistory(history: readonly LedgerEntry[]): HistoryVerdict {
  let head = NO_ENTRY;
  let at = Number.NEGATIVE_INFINITY;
  for (const [seq, entry] of history.entries()) {
    const refuse = (reason: string): HistoryVerdict => ({ ok: false, seq, reason });
    if (entry.seq !== seq) return refuse(`entry ${entry.seq} stands at place ${seq}`);
    if ((entry.kind === 'SCOPE') !== (seq === 0)) return refuse('a history starts with its scope, once');
    if (entry.prev !== head) return refuse('it does not hold the digest of the entry before it');
    if (entry.at < at) return refuse('it is older than the entry before it');
    head = digestOfEntry(entry);
    at = entry.at;
  }
  const { limit, spent, reserved } = history.at(-1) ?? totalsOf([]);
  const totals = totalsOf(history);
  if (equal(totals.limit, limit) && equal(totals.spent, spent) && equal(totals.reserved, reserved)) {
    return { ok: true, head };
  }
  return { ok: false, seq: history.length - 1, reason: 'its totals do not follow from the entries' };
}
