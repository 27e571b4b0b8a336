/**
 * Exact samples of the discrete Laplace distribution, and exact facts about it.
 *
 * With scale t/s, `P[Y = y] = (1 - p) / (1 + p) * p^|y|` for every integer y, where `p = exp(-s/t)`. No float is used in the
 * sampler: every decision compares uniform integers (`discrete-laplace.proof.md`).
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import { bernoulliExp, bigBernoulliExp, bigUniform, geometric, uniform } from './bernoulli.ts';
import type { Bits } from './bits.ts';
import type { Rational } from './rational.ts';

/** The scale t/s of the noise, in the unit of the query: a positive rational. */
export type NoiseScale = Rational;

/**
 * Draws one sample of the discrete Laplace distribution with scale `numerator / denominator`, exactly.
 *
 * Its running time depends on the sample, as that of every rejection sampler does: who can time single draws to some
 * hundred nanoseconds learns about the noise. Draw behind a boundary that hides it.
 *
 * @param scale - Scale t/s; both parts positive, of any size, not necessarily reduced. Parts below 2^53 take a fast path.
 * @param bits - Independent uniform bits, from `randomBits(osRandom)` in production.
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when a part is not positive.
 * @see Canonne, Kamath & Steinke 2020, Algorithms 1 and 2, https://arxiv.org/abs/2004.00010
 * @example
 * ```ts
 * const noise = sampleDiscreteLaplace({ numerator: 2n, denominator: 1n }, randomBits(osRandom));
 * typeof noise; // 'bigint'
 * ```
 */
export function sampleDiscreteLaplace(scale: NoiseScale, bits: Bits): bigint {
  const { numerator, denominator } = scale;
  if (numerator <= 0n || denominator <= 0n) {
    throw new CloisterError('DP_INVALID_PARAMETER', `a noise scale is positive, got ${numerator}/${denominator}`);
  }
  return numerator <= Number.MAX_SAFE_INTEGER && denominator <= Number.MAX_SAFE_INTEGER
    ? sampleInNumbers(Number(numerator), Number(denominator), bits)
    : sampleInBigInts(numerator, denominator, bits);
}

/** The sampler for a scale t/s with t and s from 1 to 2^53 - 1. Takes the same bits to the same sample as {@link sampleInBigInts}. */
export function sampleInNumbers(t: number, s: number, bits: Bits): bigint {
  for (;;) {
    const u = uniform(t, bits);
    if (!bernoulliExp(u, t, bits)) continue;
    const v = geometric(bits);
    const negative = bits.take(1) === 1;
    const x = u + t * v; // exact when at most 2^53 - 1; a larger sum does not round below that
    const y =
      x <= Number.MAX_SAFE_INTEGER ? BigInt((x - (x % s)) / s) : (BigInt(u) + BigInt(t) * BigInt(v)) / BigInt(s);
    if (negative && y === 0n) continue;
    return negative ? -y : y;
  }
}

/** The sampler for any positive rational scale t/s. */
export function sampleInBigInts(t: bigint, s: bigint, bits: Bits): bigint {
  for (;;) {
    const u = bigUniform(t, bits);
    if (!bigBernoulliExp(u, t, bits)) continue;
    const v = geometric(bits);
    const negative = bits.take(1) === 1;
    const y = (u + t * BigInt(v)) / s;
    if (negative && y === 0n) continue;
    return negative ? -y : y;
  }
}

/**
 * Returns the smallest integer b with `P[|Y| <= b] >= percent / 100`: the half-width of the error bar of one noised integer.
 * Exact: the comparison is made in interval arithmetic with 160 binary places, never in floats.
 *
 * @param percent - Coverage, an integer from 1 to 99.
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when `percent` or `scale` is not of that form.
 * @example
 * ```ts
 * errorBar({ numerator: 2n, denominator: 1n }, 95); // 6n: a count with epsilon 0.5 is within 6, 19 times in 20
 * ```
 */
export function errorBar({ numerator: t, denominator: s }: NoiseScale, percent = 95): bigint {
  if (!Number.isInteger(percent) || percent < 1 || percent > 99 || t <= 0n || s <= 0n) {
    const message = `an error bar needs a whole percentage from 1 to 99 and a positive scale, got ${percent} and ${t}/${s}`;
    throw new CloisterError('DP_INVALID_PARAMETER', message);
  }
  if (s >= 64n * t) return 0n; // P[Y != 0] < 2 exp(-64)
  // P[|Y| > b] = 2 p^(b+1) / (1 + p) <= alpha  <=>  exp((b+1) s/t) + exp(b s/t) >= 2 / alpha, with alpha = 1 - percent/100.
  const covers = (b: bigint): boolean =>
    (expBelow((b + 1n) * s, t) + expBelow(b * s, t)) * BigInt(100 - percent) >= 200n << PLACES;
  let high = 1n;
  while (!covers(high)) high *= 2n;
  let low = -1n; // does not cover; `high` does
  while (high - low > 1n) {
    const middle = (low + high) >> 1n;
    if (covers(middle)) high = middle;
    else low = middle;
  }
  return high;
}

const PLACES = 160n;

/** A lower bound of exp(n/d) with {@link PLACES} binary places, within a relative 2^-140 for exponents up to 64 or so. */
function expBelow(n: bigint, d: bigint): bigint {
  let halvings = 0n;
  while (n >> halvings >= d) halvings++;
  const x = (n << PLACES) / (d << halvings); // in [0, 1), rounded down
  let term = 1n << PLACES;
  let sum = term;
  for (let k = 1n; term > 0n; k++) {
    term = (term * x) / (k << PLACES);
    sum += term;
  }
  for (; halvings > 0n; halvings--) sum = (sum * sum) >> PLACES;
  return sum;
}
