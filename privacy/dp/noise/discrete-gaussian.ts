/**
 * Exact samples of the discrete Gaussian distribution.
 *
 * With parameter `sigmaSquared = n/d`, `P[Y = y]` is proportional to `exp(-y^2 d / (2 n))` over all integers y. The sampler
 * draws discrete Laplace proposals and keeps some; every decision compares uniform integers (`discrete-gaussian.proof.md`).
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import {
  bernoulliExp,
  bernoulliExpOf,
  bigBernoulliExp,
  bigBernoulliExpOf,
  bigUniform,
  geometric,
  uniform,
} from './bernoulli.ts';
import type { Bits } from './bits.ts';
import { ceilRoot, floorRoot, type Rational } from './rational.ts';

/** Draws one sample: an integer, a bigint where it may be beyond 2^53. */
export type Sampler = (bits: Bits) => number | bigint;

/**
 * Returns a sampler of the discrete Gaussian distribution with parameter `sigmaSquared`, exactly. Its variance is at most
 * `sigmaSquared`, and next to equal from 1 on.
 *
 * Its running time depends on the sample, as that of every rejection sampler does: who can time single draws to some
 * hundred nanoseconds learns about the noise. Where that matters, `obliviousGaussian` draws from a table.
 *
 * @param sigmaSquared - In the squared unit of the query; both parts positive, of any size. Where twice their product times the
 *   squared proposal scale is below 2^53 (`sigmaSquared` to about 6 million for integers) numbers are used, else BigInts.
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when a part is not positive.
 * @see Canonne, Kamath & Steinke 2020, Algorithm 3, https://arxiv.org/abs/2004.00010
 * @example
 * ```ts
 * const draw = discreteGaussian({ numerator: 100n, denominator: 1n });
 * Number.isInteger(draw(randomBits(osRandom))); // true
 * ```
 */
export function discreteGaussian(sigmaSquared: Rational): Sampler {
  const { numerator: n, denominator: d } = checkSigma(sigmaSquared);
  const t = floorRoot(n / d) + 1n;
  if (2n * n * d * t * t > Number.MAX_SAFE_INTEGER) return bits => gaussianInBigInts(n, d, t, bits);
  const [small, divisor, proposal] = [Number(n), Number(d), Number(t)];
  return bits => gaussianInNumbers(small, divisor, proposal, bits);
}

/** The largest integer whose square is below 2^53. */
const MOST_ROOT = 94_906_265;

/** The sampler for `2 n d t^2 <= 2^53 - 1`. Takes the same bits to the same sample as {@link gaussianInBigInts}. */
export function gaussianInNumbers(n: number, d: number, t: number, bits: Bits): number {
  const scale = 2 * n * d * t * t;
  const step = d * t;
  for (;;) {
    const u = uniform(t, bits);
    if (!bernoulliExp(u, t, bits)) continue;
    const v = geometric(bits);
    const negative = bits.take(1) === 1;
    const y = u + t * v;
    if (negative && y === 0) continue;
    const a = y * step - n; // exact when below 2^53; a larger value does not round below MOST_ROOT
    const kept =
      a <= MOST_ROOT && a >= -MOST_ROOT ? bernoulliExpOf(a * a, scale, bits) : keepsInBigInts(y, step, n, scale, bits);
    if (kept) return negative ? -y : y;
  }
}

/** The last trial of {@link gaussianInNumbers}, for proposals whose square is over 2^53: some 50 sigma away. */
function keepsInBigInts(y: number, step: number, n: number, scale: number, bits: Bits): boolean {
  return bigBernoulliExpOf((BigInt(y) * BigInt(step) - BigInt(n)) ** 2n, BigInt(scale), bits);
}

/** The sampler for any positive rational `n/d`, with proposals of scale `t`. */
export function gaussianInBigInts(n: bigint, d: bigint, t: bigint, bits: Bits): bigint {
  for (;;) {
    const u = bigUniform(t, bits);
    if (!bigBernoulliExp(u, t, bits)) continue;
    const y = u + t * BigInt(geometric(bits));
    // The sign comes before the test, as in numbers.
    const negative = bits.take(1) === 1;
    if (negative && y === 0n) continue;
    if (bigBernoulliExpOf((y * d * t - n) ** 2n, 2n * n * d * t * t, bits)) return negative ? -y : y;
  }
}

/**
 * Returns an integer b with `P[|Y| <= b] >= 0.95`: the half-width of the error bar of one noised integer, at most two above the
 * smallest. `1.96 sigma`, rounded up: the tail of the discrete Gaussian beyond b + 1 is at most that of the normal beyond b.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when a part is not positive.
 * @see Canonne, Kamath & Steinke 2020, on utility: P[Y >= m] <= P[N(0, sigma^2) >= m - 1], https://arxiv.org/abs/2004.00010
 * @example
 * ```ts
 * gaussianErrorBar({ numerator: 100n, denominator: 1n }); // 20n
 * ```
 */
export function gaussianErrorBar(sigmaSquared: Rational): bigint {
  const { numerator: n, denominator: d } = checkSigma(sigmaSquared);
  // P[|N(0, 1)| > 1.96] = 0.049996. ceil(sqrt(x)) for a rational x is that of ceil(x).
  const square = 196n * 196n * n;
  const unit = 10_000n * d;
  return ceilRoot((square + unit - 1n) / unit);
}

function checkSigma(sigmaSquared: Rational): Rational {
  const { numerator, denominator } = sigmaSquared;
  if (numerator <= 0n || denominator <= 0n) {
    throw new CloisterError('DP_INVALID_PARAMETER', `sigma squared is positive, got ${numerator}/${denominator}`);
  }
  return sigmaSquared;
}
