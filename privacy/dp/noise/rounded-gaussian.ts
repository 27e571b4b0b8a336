/**
 * Exact samples of the normal distribution, rounded down to integers.
 *
 * What adds them to an integer vector is the Gaussian mechanism followed by rounding down, so whatever holds for Gaussian
 * noise holds for it: subsampling, trees, filters of Gaussian differential privacy. Of the discrete Gaussian much of that is
 * not known.
 * @module
 */
import { bernoulliExp, uniform } from './bernoulli.ts';
import type { Bits } from './bits.ts';

/** A uniform number in [0, 1) whose binary digits are drawn as they are asked for, in pieces of 24. */
type LazyUniform = number[];

/**
 * Draws `floor(2^shift N)` for a standard normal N, exactly, for a shift from 0 to 24 (`rounded-gaussian.proof.md`).
 *
 * @see Karney 2016, Algorithm N, https://arxiv.org/abs/1303.6257
 */
export function sampleRoundedGaussian(shift: number, bits: Bits): number {
  for (;;) {
    // k with probability proportional to exp(-k^2 / 2): exp(-1/2)^k, then exp(-1/2)^(k (k - 1)).
    let k = 0;
    while (bernoulliExp(1, 2, bits)) k++;
    if (!allSucceed(k * (k - 1), () => bernoulliExp(1, 2, bits))) continue;
    // x in [0, 1) with probability proportional to exp(-x (2 k + x) / 2), in k + 1 trials of one (k + 1)th of the exponent.
    const x: LazyUniform = [];
    if (!allSucceed(k + 1, () => keeps(k, x, bits))) continue;
    const magnitude = k * 2 ** shift + (digit(x, 0, bits) >>> (24 - shift));
    return bits.take(1) === 1 ? -magnitude - 1 : magnitude;
  }
}

function allSucceed(count: number, trial: () => boolean): boolean {
  for (let i = 0; i < count; i++) if (!trial()) return false;
  return true;
}

/** True with probability exp(-x (2 k + x) / (2 k + 2)): von Neumann's run of falling numbers, each thinned by (2 k + x) / (2 k + 2). */
function keeps(k: number, x: LazyUniform, bits: Bits): boolean {
  let before = x;
  for (let length = 0; ; length++) {
    const next: LazyUniform = [];
    if (!isLess(next, before, bits) || !isThinned(k, x, bits)) return length % 2 === 0;
    before = next;
  }
}

/** True with probability (2 k + x) / (2 k + 2). */
function isThinned(k: number, x: LazyUniform, bits: Bits): boolean {
  const part = uniform(2 * k + 2, bits);
  return part < 2 * k || (part === 2 * k && isLess([], x, bits));
}

function isLess(a: LazyUniform, b: LazyUniform, bits: Bits): boolean {
  for (let i = 0; ; i++) {
    const [left, right] = [digit(a, i, bits), digit(b, i, bits)];
    if (left !== right) return left < right;
  }
}

function digit(x: LazyUniform, i: number, bits: Bits): number {
  while (x.length <= i) x.push(bits.take(24));
  return x[i]!;
}
