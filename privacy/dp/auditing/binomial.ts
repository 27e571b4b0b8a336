/**
 * Exact confidence bounds for a probability, from counts.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';

/** Two bounds of a probability, each one-sided at the same error. */
export interface ProbabilityBounds {
  readonly lower: number;
  readonly upper: number;
}

/**
 * Returns the Clopper-Pearson bounds of a probability of which `successes` were seen in `trials` independent trials: the true
 * one lies below `lower` with probability at most `error`, and above `upper` with probability at most `error`, whatever it is.
 *
 * `lower` is the p at which so many successes or more have probability `error`, `upper` the p at which so many or fewer have
 * it; both found by bisection on the incomplete beta function in floats, and moved outwards by a relative 1e-9 for its
 * rounding.
 *
 * @param successes - An integer from 0 to `trials`.
 * @param trials - An integer from 1 to 2^30.
 * @param error - Above 0 and below 1/2.
 * @throws {CloisterError} `INVALID_ARGUMENT` when an argument is out of range.
 * @see Clopper & Pearson 1934, Biometrika 26(4)
 * @example
 * ```ts
 * const { lower, upper } = clopperPearson(0, 100, 0.05);
 * lower; // 0
 * upper.toFixed(4); // '0.0295': 1 - 0.05^(1/100)
 * ```
 */
export function clopperPearson(successes: number, trials: number, error: number): ProbabilityBounds {
  if (!Number.isInteger(trials) || trials < 1 || trials > 2 ** 30)
    throw new CloisterError('INVALID_ARGUMENT', `trials is an integer from 1 to 2^30, got ${String(trials)}`);
  if (!Number.isInteger(successes) || successes < 0 || successes > trials)
    throw new CloisterError('INVALID_ARGUMENT', `successes is an integer from 0 to ${trials}, got ${successes}`);
  if (!(error > 0 && error < 0.5))
    throw new CloisterError('INVALID_ARGUMENT', `error lies between 0 and 1/2, got ${String(error)}`);
  const failures = trials - successes;
  // P[X >= k] = I_p(k, n - k + 1), which increases with p; P[X <= k] = 1 - I_p(k + 1, n - k) = I_{1-p}(n - k, k + 1).
  const lower = successes === 0 ? 0 : border(p => incompleteBeta(p, successes, failures + 1) <= error) * (1 - 1e-9);
  const upper = failures === 0 ? 1 : border(p => incompleteBeta(1 - p, failures, successes + 1) > error) * (1 + 1e-9);
  return Object.freeze({ lower, upper: Math.min(1, upper) });
}

/** Where `below` turns from true to false between 0 and 1, to a relative 1e-13. */
function border(below: (p: number) => boolean): number {
  let [low, high] = [0, 1];
  for (let i = 0; i < 150 && high - low > 1e-13 * high; i++) {
    const middle = (low + high) / 2;
    if (below(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/** The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22) with the modified Lentz method. */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  // The fraction converges fast for x < (a + 1) / (a + b + 2); beyond, I_x(a, b) = 1 - I_{1-x}(b, a).
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const front = Math.exp(a * Math.log(x) + b * Math.log1p(-x) + logGamma(a + b) - logGamma(a) - logGamma(b)) / a;
  const tiny = 1e-300;
  let c = 1;
  let d = 1 - ((a + b) * x) / (a + 1);
  d = 1 / (Math.abs(d) < tiny ? tiny : d);
  let fraction = d;
  for (let m = 1; m < 1_000_000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / nonZero(1 + even * d, tiny);
    c = nonZero(1 + even / c, tiny);
    fraction *= d * c;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / nonZero(1 + odd * d, tiny);
    c = nonZero(1 + odd / c, tiny);
    fraction *= d * c;
    if (Math.abs(d * c - 1) < 1e-15) break;
  }
  return front * fraction;
}

function nonZero(value: number, tiny: number): number {
  return Math.abs(value) < tiny ? tiny : value;
}

/** ln Gamma(x) for x >= 1, by Stirling's series (DLMF 5.11.1) from 15 on and the recurrence below. */
function logGamma(x: number): number {
  let shift = 0;
  let at = x;
  for (; at < 15; at++) shift += Math.log(at);
  const r = 1 / (at * at);
  const series = (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - (r * 1) / 1188)))) / at;
  return (at - 0.5) * Math.log(at) - at + 0.5 * Math.log(2 * Math.PI) + series - shift;
}
