/**
 * The history of a scope: what its entries say, and the totals that follow from them.
 * @module
 */
import type { MicroEpsilon } from '../../src/base/index.ts';

/** What a scope holds at one moment, in micro-epsilon. */
export interface Totals {
  /** The most that may ever be spent. */
  readonly limit: MicroEpsilon;
  /** Charged, whether a release came of it or not. Never goes down. */
  readonly spent: MicroEpsilon;
  /** Promised and not charged yet. Counts against the limit as `spent` does. */
  readonly reserved: MicroEpsilon;
}

/** What a scope protects, and how its amounts are to be read. */
export interface ScopeTerms {
  /** Whose data one unit of protection covers: all records of one subject. */
  readonly unit: 'subject';
  /** Two datasets are neighbours if one is the other with all records of one subject added or removed. */
  readonly adjacency: 'add-remove';
  /** Pure differential privacy: losses add up. */
  readonly measure: 'pure';
}

/** What every entry says: its place, when and by whom it was written, and the totals after it. */
interface EntryHead extends Totals {
  /** Position in the scope's history: 0, 1, 2 … */
  readonly seq: number;
  /** The ledger's clock, milliseconds since 1970. Informative: no rule depends on it. */
  readonly at: number;
  /** Which opening of the ledger wrote it. */
  readonly epoch: number;
}

/** One entry of a scope's history. */
export type LedgerEntry = EntryHead &
  (
    | ({ readonly kind: 'SCOPE' } & ScopeTerms)
    /** The policy changed the limit. `raised` ones were acknowledged. */
    | { readonly kind: 'LIMIT'; readonly before: MicroEpsilon; readonly raised: boolean }
    | { readonly kind: 'RESERVE'; readonly id: string; readonly cost: MicroEpsilon; readonly requestDigest: string }
    | { readonly kind: 'CHARGE'; readonly id: string; readonly cost: MicroEpsilon }
    | { readonly kind: 'RELEASE'; readonly id: string; readonly cost: MicroEpsilon; readonly outputDigest: string }
    | { readonly kind: 'VOID'; readonly id: string; readonly cost: MicroEpsilon }
    /** Counted as spent without a release: the holder died or gave up. `was` is the state before. */
    | {
        readonly kind: 'FORFEIT';
        readonly id: string;
        readonly cost: MicroEpsilon;
        readonly was: 'reserved' | 'charged';
      }
    | { readonly kind: 'REFUSE'; readonly cost: MicroEpsilon; readonly requestDigest: string }
  );

/** An entry as its writer knows it: place, time and totals are added when it is written. */
export type EntryBody = LedgerEntry extends infer E
  ? E extends LedgerEntry
    ? Omit<E, keyof EntryHead>
    : never
  : never;

/**
 * Returns the totals that follow from a whole history, by replaying its entries. They equal the scope's row; a difference
 * means that the store was changed behind the ledger's back.
 */
export function totalsOf(history: readonly LedgerEntry[]): Totals {
  let limit = 0;
  let spent = 0;
  let reserved = 0;
  for (const entry of history) {
    switch (entry.kind) {
      case 'SCOPE':
      case 'LIMIT':
        limit = entry.limit;
        break;
      case 'RESERVE':
        reserved += entry.cost;
        break;
      case 'CHARGE':
        reserved -= entry.cost;
        spent += entry.cost;
        break;
      case 'VOID':
        reserved -= entry.cost;
        break;
      case 'FORFEIT':
        if (entry.was === 'reserved') {
          reserved -= entry.cost;
          spent += entry.cost;
        }
        break;
      case 'RELEASE':
      case 'REFUSE':
        break;
      default:
        entry satisfies never;
    }
  }
  return { limit: limit as MicroEpsilon, spent: spent as MicroEpsilon, reserved: reserved as MicroEpsilon };
}
