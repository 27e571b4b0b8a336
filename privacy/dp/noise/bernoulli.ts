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
  const high = Math.floor((n - 1) / 2 ** 24); // a power of two divides exactly
  const count = high > 0 ? 56 - Math.clz32(high) : 32 - Math.clz32(n - 1);
  for (;;) {
    let value = 0;
    for (let left = count; left > 0; left -= 24) {
      const piece = Math.min(left, 24);
      value = value * 2 ** piece + bits.take(piece);
    }
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
  let k = 1;
  // Bernoulli(u / (t k)) as Bernoulli(1/k) and Bernoulli(u/t): no product, so nothing can overflow.
  while (uniform(k, bits) === 0 && uniform(t, bits) < u) k++;
  return k % 2 === 1;
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
  let k = 1;
  while (uniform(k, bits) === 0) k++;
  return k % 2 === 1;
}
