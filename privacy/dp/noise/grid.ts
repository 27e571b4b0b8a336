/**
 * Floats on a grid of powers of two: what makes integer noise fit for them.
 *
 * A float64 is a sum of powers of two down to 2^-1074, and which of them it has tells about the computation behind it (Mironov
 * 2012). So values are rounded to whole steps before noise is added, the noise is whole steps, and what leaves is a multiple of
 * the step, exactly: its low digits say nothing.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import {
  type Adjacency,
  type L1Sensitivity,
  l1Sensitivity,
  type NeighboringOption,
  type SquaredL2Sensitivity,
  squaredL2Sensitivity,
} from '../parameters.ts';
import { floorRoot } from './rational.ts';

/** A grid, and the part of it that values are clamped to. Plain and frozen. */
export interface Grid {
  /** Distance of neighbours on the grid: a power of two. */
  readonly step: number;
  /** Least and greatest value, multiples of the step. */
  readonly low: number;
  readonly high: number;
  /** What stands for a value that is no number. */
  readonly impute: number;
}

/** What {@link floatGrid} is told. */
export interface GridOptions {
  /** The step is 2 to this power: an integer from -512 to 512. */
  readonly exponent: number;
  /** Values are clamped to these; rounded to the grid, inwards. */
  readonly low: number;
  readonly high: number;
  /** What stands for NaN; default the middle. Clamped and rounded like a value. */
  readonly impute?: number;
}

/**
 * Returns a grid with the step `2^exponent` between two bounds.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when the exponent is no integer from -512 to 512, the bounds are not finite and in
 *   order with a point of the grid between them, or are more than 2^53 - 1 steps from 0.
 * @example
 * ```ts
 * const grid = floatGrid({ exponent: -2, low: 0, high: 10 });
 * grid.step; // 0.25
 * ```
 */
export function floatGrid({ exponent, low, high, impute }: GridOptions): Grid {
  if (!Number.isInteger(exponent) || exponent < -512 || exponent > 512) {
    throw refusal(
      `exponent is an integer from -512 to 512, got ${typeof exponent === 'number' ? exponent : typeof exponent}`,
    );
  }
  const step = 2 ** exponent;
  if (![low, high, impute ?? 0].every(bound => typeof bound === 'number' && Number.isFinite(bound))) {
    throw refusal('low, high and impute are finite numbers');
  }
  // Division by a power of two is exact, or rounds something below any integer's reach.
  const [first, last] = [Math.ceil(low / step), Math.floor(high / step)];
  if (!(first <= last)) throw refusal(`there is no multiple of 2^${exponent} from low to high, got ${low} and ${high}`);
  if (!Number.isSafeInteger(first) || !Number.isSafeInteger(last)) {
    throw refusal(`bounds are within 2^53 - 1 steps of 0, got ${low} and ${high} with a step of 2^${exponent}`);
  }
  const filler = Math.min(last, Math.max(first, Math.round((impute ?? (first * step) / 2 + (last * step) / 2) / step)));
  return Object.freeze({ step, low: (first + 0) * step, high: (last + 0) * step, impute: (filler + 0) * step });
}

/**
 * Returns `value` in whole steps of `grid`: the nearest of them, between its bounds. What is no number, and NaN, is the imputed
 * value. Never throws; never -0.
 *
 * @example
 * ```ts
 * quantise(floatGrid({ exponent: -2, low: 0, high: 10 }), 1.3); // 5
 * ```
 */
export function quantise({ step, low, high, impute }: Grid, value: unknown): number {
  const number = typeof value === 'bigint' ? Number(value) : value;
  const known = typeof number === 'number' && !Number.isNaN(number) ? number : impute;
  const inside = known < low ? low : known > high ? high : known;
  return Math.round(inside / step) + 0;
}

/**
 * Returns the L1 sensitivity, in steps, of a vector of floats that is rounded to a grid: at most `cells` of them change, by
 * `change` in sum. Rounding adds one step for each.
 *
 * @param change - L1 sensitivity of the floats as they are computed, rounding errors included; in their own unit.
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when `change` or `cells` is out of range, or the sum above 2^30.
 * @example
 * ```ts
 * gridL1Sensitivity(floatGrid({ exponent: -2, low: 0, high: 10 }), { change: 1, cells: 1 }); // 5: four steps, and one
 * ```
 */
export function gridL1Sensitivity<A extends Adjacency = 'add-remove'>(
  grid: Grid,
  { change, cells, neighboring }: { readonly change: number; readonly cells: number } & NeighboringOption<A>,
): L1Sensitivity<A> {
  return l1Sensitivity(Math.floor(inSteps(grid, change, cells)) + cells, neighboring as A);
}

/**
 * Returns the squared L2 sensitivity, in steps, of a vector of floats that is rounded to a grid: at most `cells` of them change,
 * by `change` in the L2 norm. With r steps of change, `(r + sqrt(cells))^2`, rounded up in r and down to an integer, which the
 * square is.
 *
 * @param change - L2 sensitivity of the floats as they are computed, rounding errors included; in their own unit.
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when `change` or `cells` is out of range, or the square above 2^53 - 1.
 * @example
 * ```ts
 * gridSquaredL2Sensitivity(floatGrid({ exponent: -2, low: 0, high: 10 }), { change: 1, cells: 1 }); // 25
 * ```
 */
export function gridSquaredL2Sensitivity<A extends Adjacency = 'add-remove'>(
  grid: Grid,
  { change, cells, neighboring }: { readonly change: number; readonly cells: number } & NeighboringOption<A>,
): SquaredL2Sensitivity<A> {
  const r = BigInt(Math.ceil(inSteps(grid, change, cells)));
  const c = BigInt(cells);
  return squaredL2Sensitivity(Number(r * r + c + floorRoot(4n * r * r * c)), neighboring as A);
}

function inSteps({ step }: Grid, change: number, cells: number): number {
  if (typeof change !== 'number' || !(change > 0) || !(change / step <= Number.MAX_SAFE_INTEGER)) {
    throw refusal(
      `a change is above 0 and at most 2^53 - 1 steps, got ${typeof change === 'number' ? change : typeof change}`,
    );
  }
  if (!Number.isSafeInteger(cells) || cells < 1 || cells > 65_536) {
    throw refusal(`an answer has 1 to 65,536 cells, got ${String(cells)}`);
  }
  return change / step;
}

function refusal(message: string): CloisterError {
  return new CloisterError('DP_INVALID_PARAMETER', `grid: ${message}`);
}
