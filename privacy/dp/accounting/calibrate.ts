/**
 * The other way round: the parameter at which an event costs no more than a target.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import type { DpEvent } from '../event.ts';
import { type Account, upperEpsilon } from './account.ts';

/** What {@link calibrate} aims at. */
export interface CalibrationOptions {
  readonly epsilon: number;
  readonly delta: number;
  /** Whether a larger parameter costs less, as more noise does, or more, as a higher sampling rate does. Default `falling`. */
  readonly cost?: 'falling' | 'rising';
  /** The parameter is looked for between these. Default 1e-6 and 1e9 (`falling`), 1e-9 and 1 (`rising`). */
  readonly between?: readonly [number, number];
}

/** A parameter, and the account that shows what it costs. */
export interface Calibration {
  readonly value: number;
  readonly account: Account;
}

/**
 * Returns the cheapest parameter at which `make(parameter)` costs at most `epsilon` at `delta`, within 0.002 % (1e-9 where the cost is a
 * closed form). Never overshoots: the account of the very value that is returned has `upper <= epsilon`. The cost has to be
 * monotone in the parameter.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when the target is out of range, or not reached between the bounds of the search.
 * @example
 * ```ts
 * const { value } = calibrate(x => ({ kind: 'gaussian', noiseMultiplier: x, neighboring: 'add-remove' }), { epsilon: 1, delta: 1e-5 });
 * value.toFixed(6); // '3.730632'
 * ```
 */
export function calibrate(make: (parameter: number) => DpEvent, options: CalibrationOptions): Calibration {
  const { epsilon, delta, cost = 'falling' } = options;
  if (!(epsilon > 0 && epsilon < Number.POSITIVE_INFINITY)) {
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      `a target epsilon is a finite number above 0, got ${String(epsilon)}`,
    );
  }
  const [low, high] = options.between ?? (cost === 'falling' ? [1e-6, 1e9] : [1e-9, 1]);
  const sign = cost === 'falling' ? 1 : -1;
  const [dear, cheap] = sign > 0 ? [low, high] : [high, low];
  // Quick bounds first: what they allow is allowed, and is near.
  const quick = (x: number): Account => upperEpsilon(make(x), delta, 'quick');
  let start: number | undefined;
  if (quick(cheap).upper <= epsilon) {
    start = solve(x => quick(x).upper, epsilon, dear, cheap, 1e-3);
  }
  const full = (x: number): Account => upperEpsilon(make(x), delta, 'full');
  const from = start ?? cheap;
  const first = full(from);
  if (!(first.upper <= epsilon)) {
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      `no parameter from ${low} to ${high} costs at most epsilon ${epsilon} at delta ${delta}`,
    );
  }
  const closed =
    first.method === 'gdp' || first.method === 'pure' || first.method === 'exact' || first.method === 'zcdp';
  const value = solve(x => full(x).upper, epsilon, dear, from, closed ? 1e-10 : 1.5e-5);
  return { value, account: full(value) };
}

/**
 * The parameter nearest to `dear` whose cost is at most `target`, within `relative`; `cheap` is one. Costs are nearly a power of the
 * parameter: secants in logarithms, within a bracket that is widened from `cheap` and then only shrinks.
 */
function solve(costOf: (x: number) => number, target: number, dear: number, cheap: number, relative: number): number {
  let good = Math.log(cheap);
  let goodCost = Math.log(Math.max(costOf(cheap), 1e-300));
  const goal = Math.log(target);
  const limit = Math.log(dear);
  const towards = Math.sign(limit - good);
  let bad: number | undefined;
  let badCost = 0;
  let slope = 1;
  let stride = 0.02;
  for (let i = 0; i < 200; i++) {
    if (bad !== undefined && Math.abs(bad - good) < relative) break;
    let next: number;
    if (bad === undefined) {
      // Outwards until the target is crossed: as far as the last slope says, and a little more.
      const need = Number.isFinite(goodCost) ? ((goal - goodCost) / slope) * 1.02 + relative * 4 : stride;
      next = good + towards * Math.min(Math.max(need, relative * 4), Math.max(1, stride));
      stride *= 2;
      if ((next - limit) * towards >= 0) next = limit;
    } else {
      const share = Number.isFinite(badCost) ? (goal - goodCost) / (badCost - goodCost) : 0.5;
      // Late rounds close in from both sides: a step short of the secant, then one beyond it.
      const margin = relative * 0.4 * (i % 2 === 0 ? -1 : 1);
      next = good + (bad - good) * Math.min(0.98, Math.max(0.02, share)) + margin * towards;
      if (i > 12 && i % 3 === 0) next = (good + bad) / 2;
      if ((next - good) * (next - bad) >= 0) next = (good + bad) / 2;
    }
    const cost = costOf(Math.exp(next));
    const log = cost > 0 ? Math.log(cost) : -700;
    if (cost <= target) {
      if (bad === undefined && Number.isFinite(goodCost) && next !== good && log > goodCost) {
        slope = Math.min(4, Math.max(0.2, (log - goodCost) / Math.abs(next - good)));
      }
      [good, goodCost] = [next, log];
      if (bad === undefined && next === limit) break;
    } else [bad, badCost] = [next, log];
  }
  // The log and back may have moved it: step towards the cheap side until it holds.
  let value = Math.exp(good);
  for (let i = 1; !(costOf(value) <= target) && i < 1e6; i *= 8) value = Math.exp(good - towards * i * 2 ** -50);
  return value;
}
