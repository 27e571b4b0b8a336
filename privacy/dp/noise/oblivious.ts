/**
 * Exact noise from a table, in a time that does not depend on what is drawn.
 *
 * The table holds `T_k = P[|Y| <= k]`. A draw is a uniform number U in 96 bits, compared with every entry of the table in the
 * same few integer operations, without a branch on U or on the outcome: the magnitude is how many `T_k` are at most U. Where
 * the 96 bits of U are those of some `T_k` (once in 2^86 draws or more), further digits of both decide: the law is exact
 * (`oblivious.proof.md`).
 *
 * What the compiler and the processor make of that sequence is theirs: `npm run bench -- dp` times it.
 * @module
 */
import type { Bits } from './bits.ts';
import { exactly, expOf, type Interval, multiply } from './interval.ts';
import type { Rational } from './rational.ts';

/** Draws one sample, an integer of at most four digits: small integers alone are handled alike whatever they are. */
export type ObliviousSampler = (bits: Bits) => number;

/** The weight of 0 is 1; that of k + 1 is that of k times `exp(first) * exp(growth)^k`. Exponents are rational, `first` below 0. */
interface Weights {
  /** `[numerator, denominator]` */
  readonly first: readonly [bigint, bigint];
  readonly growth: readonly [bigint, bigint];
}

/** Four limbs of 24 bits for each entry, the lowest first. */
const LIMBS = 4;
const LIMB_BITS = 24;

/**
 * Returns a sampler of the discrete Gaussian distribution with parameter `sigmaSquared`, exactly, by a scan of a whole table;
 * `undefined` where the table would be long: outside 2^-20 to 1,024 (sigma 32: 363 entries).
 *
 * @example
 * ```ts
 * const draw = obliviousGaussian({ numerator: 100n, denominator: 1n });
 * Number.isInteger(draw?.(randomBits(osRandom))); // true
 * ```
 */
export function obliviousGaussian(sigmaSquared: Rational): ObliviousSampler | undefined {
  const { numerator: n, denominator: d } = sigmaSquared;
  return n > 1024n * d || n << 20n < d ? undefined : tableSampler(gaussianWeights(sigmaSquared), LIMBS);
}

/**
 * Returns a sampler of the discrete Laplace distribution with scale `scale`, exactly, by a scan of a whole table; `undefined`
 * where the table would be long: outside 2^-20 to 8 (536 entries).
 *
 * @example
 * ```ts
 * typeof obliviousLaplace({ numerator: 2n, denominator: 1n }); // 'function'
 * typeof obliviousLaplace({ numerator: 9n, denominator: 1n }); // 'undefined'
 * ```
 */
export function obliviousLaplace(scale: Rational): ObliviousSampler | undefined {
  const { numerator: t, denominator: s } = scale;
  return t > 8n * s || t << 20n < s ? undefined : tableSampler(laplaceWeights(scale), LIMBS);
}

/** Weights `exp(-k^2 / (2 sigma^2))`: ratios `exp(-(2 k + 1) / (2 sigma^2))`. */
export function gaussianWeights({ numerator: n, denominator: d }: Rational): Weights {
  return { first: [-d, 2n * n], growth: [-d, n] };
}

/** Weights `exp(-k s/t)`. */
export function laplaceWeights({ numerator: t, denominator: s }: Rational): Weights {
  return { first: [-s, t], growth: [0n, 1n] };
}

/** A sampler with limbs of one's choice: with one or two, a test can go through all bit strings, and ties are common. */
export function tableSampler(weights: Weights, limbs: number): ObliviousSampler {
  const places = limbs * LIMB_BITS;
  const digits = cumulative(weights, places);
  const table = new Int32Array(LIMBS * digits.length);
  digits.forEach((digit, k) => {
    const wide = digit << BigInt((LIMBS - limbs) * LIMB_BITS); // fewer limbs than four stand at the top
    for (let limb = 0; limb < LIMBS; limb++)
      table[LIMBS * k + limb] = Number((wide >> BigInt(LIMB_BITS * limb)) & 0xffffffn);
  });
  const size = table.length;
  return bits => {
    const negative = bits.take(1);
    const u3 = bits.take(LIMB_BITS);
    const u2 = limbs > 1 ? bits.take(LIMB_BITS) : 0;
    const u1 = limbs > 2 ? bits.take(LIMB_BITS) : 0;
    const u0 = limbs > 3 ? bits.take(LIMB_BITS) : 0;
    let above = 0; // entries larger than U
    let ties = 0;
    for (let at = 0; at < size; at += LIMBS) {
      // U - T_k limb by limb; a limb below zero borrows one from the next.
      const a = u0 - table[at]!;
      const b = u1 - table[at + 1]! + (a >> 31);
      const c = u2 - table[at + 2]! + (b >> 31);
      const d = u3 - table[at + 3]! + (c >> 31);
      above -= d >> 31;
      const apart = a | b | c | d;
      ties |= (apart - 1) & ~apart; // below zero only where `apart` is zero
    }
    let magnitude = size / LIMBS - above;
    if (ties < 0) {
      const u = (BigInt(u3) << 72n) | (BigInt(u2) << 48n) | (BigInt(u1) << 24n) | BigInt(u0);
      magnitude = settle(weights, u >> BigInt(96 - places), places, bits);
    }
    return (magnitude ^ -negative) + negative;
  };
}

/** The magnitude that belongs to a uniform number of which `start` is the first `first` digits, drawing more where it must. */
function settle(weights: Weights, start: bigint, first: number, bits: Bits): number {
  let u = start;
  for (let places = first; ; places += LIMB_BITS) {
    const digits = cumulative(weights, places);
    if (!digits.includes(u)) return digits.filter(digit => digit < u).length;
    u = (u << BigInt(LIMB_BITS)) | BigInt(bits.take(LIMB_BITS));
  }
}

/**
 * The first `places` binary digits of `P[|Y| <= k]`, exactly, for every k up to the first for which they are all ones.
 *
 * The weights are enclosed in intervals with rounding outwards; where an interval does not say the digits, its precision is
 * doubled.
 */
export function cumulative(weights: Weights, places: number): readonly bigint[] {
  for (let guard = 64; ; guard *= 2) {
    const digits = attempt(weights, places, guard);
    if (digits) return digits;
  }
}

function attempt({ first, growth }: Weights, places: number, guard: number): bigint[] | undefined {
  const p = BigInt(places + guard);
  const one = exactly(1n, p);
  const shrink = expOf(...growth, p);
  let ratio = expOf(...first, p);
  let weight = one;
  let sum = weight;
  const sums = [sum];
  // To where what is left out is below a millionth of the last digit.
  while (weight.hi > 1n << BigInt(guard - 24)) {
    weight = multiply(weight, ratio, p);
    ratio = multiply(ratio, shrink, p);
    sum = { lo: sum.lo + 2n * weight.lo, hi: sum.hi + 2n * weight.hi };
    sums.push(sum);
  }
  // The weights left out fall by the factor `ratio` or faster: their sum is at most weight * ratio / (1 - ratio).
  const rest = (weight.hi * ratio.hi) / (one.lo - ratio.hi) + 1n;
  const total: Interval = { lo: sum.lo, hi: sum.hi + 2n * rest };
  const digits: bigint[] = [];
  const ones = (1n << BigInt(places)) - 1n;
  for (const part of sums) {
    const lo = (part.lo << BigInt(places)) / total.hi;
    const hi = (part.hi << BigInt(places)) / total.lo;
    if (lo !== hi && lo !== ones) return undefined;
    digits.push(lo);
    if (lo === ones) return digits;
  }
  return undefined;
}
