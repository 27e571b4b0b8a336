/**
 * A budget in memory: for analyses that end with their process. What must survive a crash belongs in a ledger.
 * @module
 */
import type { DpEvent } from '../dp/event.ts';
import type { Adjacency } from '../dp/parameters.ts';
import { type Amount, add, assertAmount, costIn, fits, type Measure, subtract, zeroOf } from './currency.ts';

/** How {@link openFilter} counts. */
export interface FilterOptions {
  readonly measure: Measure;
  /** As `limitIn` gives it. */
  readonly limit: Amount;
  /** Default `add-remove`. */
  readonly adjacency?: Adjacency;
}

/** A budget that admits spends as long as they fit. Each takes the same time, however many came before. */
export interface Filter {
  readonly measure: Measure;
  readonly limit: Amount;
  /** What was admitted so far. */
  spent(): Amount;
  /** What is left; an `rdp` filter may admit on even where most orders have nothing left. */
  remaining(): Amount;
  /**
   * Spends `cost`, as {@link costIn} gives it, if it fits; answers whether it did. What does not fit leaves no trace: a smaller
   * one may fit later.
   *
   * @throws {CloisterError} `DP_INVALID_PARAMETER` when `cost` is no amount of the measure.
   */
  spend(cost: Amount): boolean;
  /** The cost of `event` here, for {@link spend}; `delta` as in a `SpendRequest`. */
  cost(event: DpEvent, delta?: number): Amount;
}

/**
 * Returns a filter: the sum of what it admits keeps `limit`, also when each event is chosen after the answers to those before it.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when `limit` is no amount of the measure.
 * @example
 * ```ts
 * const filter = openFilter({ measure: 'gdp', limit: limitIn('gdp', { mu: 1 }) });
 * const cost = filter.cost({ kind: 'gaussian', noiseMultiplier: 1.25, neighboring: 'add-remove' });
 * filter.spend(cost); // true
 * filter.spend(cost); // false
 * filter.remaining(); // 360000000000: 1 - 1 / 1.25^2, in units of 1e-12
 * ```
 */
export function openFilter({ measure, limit, adjacency = 'add-remove' }: FilterOptions): Filter {
  assertAmount(measure, limit, 'a limit');
  let spent = zeroOf(measure);
  return Object.freeze({
    measure,
    limit,
    spent: () => spent,
    remaining: () => subtract(limit, spent),
    cost: (event: DpEvent, delta?: number) => costIn(measure, event, { adjacency, delta }),
    spend(cost: Amount): boolean {
      assertAmount(measure, cost, 'a cost');
      if (!fits(measure, limit, spent, cost)) return false;
      spent = add(spent, cost);
      return true;
    },
  });
}
