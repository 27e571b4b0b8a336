/**
 * Exact trials: uniform integers, and events of probability exp(-x) for rational x. No float decides anything.
 *
 * Each comes for numbers below 2^53 and for BigInts; both ask for the same bits in the same order, so that a sampler may go
 * over from one to the other in the middle of a draw.
 * @module
 */
import type { Bits } from './bits.ts';

/** A uniform integer from 0 to n - 1, by rejection: as many bits as n - 1 has, in pieces of 24, the highest first. */
export function uniform(n: number, bits: Bits): number {
  if (n > PIECE) return wideUniform(n, bits);
  const count = 32 - Math.clz32(n - 1);
  for (;;) {
    const value = bits.take(count);
    if (value < n) return value;
  }
}

const PIECE = 2 ** 24;

/** {@link uniform} where more than 24 bits are needed: two pieces, or three. */
function wideUniform(n: number, bits: Bits): number {
  const rest = 32 - Math.clz32(Math.floor((n - 1) / PIECE)); // bits beyond 24; a power of two divides exactly
  for (;;) {
    const first = bits.take(24);
    const value =
      rest <= 24
        ? first * (1 << rest) + bits.take(rest)
        : (first * PIECE + bits.take(24)) * (1 << (rest - 24)) + bits.take(rest - 24);
    if (value < n) return value;
  }
}

export function bigUniform(n: bigint, bits: Bits): bigint {
  const count = n === 1n ? 0 : (n - 1n).toString(2).length;
  for (;;) {
    let value = 0n;
    for (let left = count; left > 0; left -= 24) {
      const piece = Math.min(left, 24);
      value = (value << BigInt(piece)) | BigInt(bits.take(piece));
    }
    if (value < n) return value;
  }
}

/** True with probability exp(-n/d), for n >= 0 and d >= 1, both below 2^53 (CKS20 Algorithm 1, its second half). */
export function bernoulliExpOf(n: number, d: number, bits: Bits): boolean {
  return n < d ? bernoulliExp(n, d, bits) : bernoulliExpAbove(n, d, bits);
}

/** {@link bernoulliExpOf} for n >= d: apart, so that the common case is small enough to be compiled into its callers. */
function bernoulliExpAbove(n: number, d: number, bits: Bits): boolean {
  const rest = n % d;
  for (let whole = (n - rest) / d; whole > 0; whole--) if (!bernoulliExpOne(bits)) return false;
  return bernoulliExp(rest, d, bits);
}

export function bigBernoulliExpOf(n: bigint, d: bigint, bits: Bits): boolean {
  for (let whole = n / d; whole > 0n; whole--) if (!bernoulliExpOne(bits)) return false;
  return bigBernoulliExp(n % d, d, bits);
}

/** True with probability exp(-u/t), for 0 <= u <= t (CKS20 Algorithm 1, its first half). */
export function bernoulliExp(u: number, t: number, bits: Bits): boolean {
  // Bernoulli(u / (t k)) as Bernoulli(1/k) and Bernoulli(u/t): no product, so nothing can overflow. The first 1/k is certain.
  if (uniform(t, bits) >= u) return true;
  for (let k = 2; ; k++) if (uniform(k, bits) !== 0 || uniform(t, bits) >= u) return (k & 1) === 1;
}

export function bigBernoulliExp(u: bigint, t: bigint, bits: Bits): boolean {
  let k = 1;
  while (uniform(k, bits) === 0 && bigUniform(t, bits) < u) k++;
  return k % 2 === 1;
}

/** The number of successes of Bernoulli(exp(-1)) before the first failure. */
export function geometric(bits: Bits): number {
  let v = 0;
  while (bernoulliExpOne(bits)) v++;
  return v;
}

/** True with probability exp(-1). */
function bernoulliExpOne(bits: Bits): boolean {
  if (bits.take(1) === 1) return false; // the most likely end, told apart for its speed
  for (let k = 3; ; k++) if (uniform(k, bits) !== 0) return (k & 1) === 1;
}
