/**
 * The primes of a context: those that SEAL's `CoeffModulus::Create` takes, so that a plan knows them before SEAL is loaded. Pure.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';

/**
 * Returns one prime for each of `bits`: primes p with p = 1 mod 2 * `degree`, of exactly that many bits. Of one size the largest ones
 * are taken, and handed out from the smallest to the largest, as SEAL does.
 *
 * @param bits - Sizes from 2 to 60, in the order of the modulus chain, the special prime last.
 * @throws {CloisterError} `INVALID_ARGUMENT` when there are not enough primes of a size.
 */
export function contextPrimes(degree: number, bits: readonly number[]): readonly bigint[] {
  const primes = findPrimes(degree, bits);
  if (primes === undefined) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `there are not enough primes of ${[...new Set(bits)].join(', ')} bits that are 1 mod ${2 * degree}`,
      { degree, bits },
    );
  }
  return primes;
}

/** {@link contextPrimes}, or undefined where there are not enough. */
export function findPrimes(degree: number, bits: readonly number[]): readonly bigint[] | undefined {
  const step = BigInt(2 * degree);
  const pools = new Map<number, bigint[]>();
  for (const size of new Set(bits)) {
    const count = bits.filter(other => other === size).length;
    const found = largest(size, count, step);
    if (found.length < count) return undefined;
    pools.set(size, found);
  }
  return Object.freeze(bits.map(size => pools.get(size)!.pop()!));
}

/** The `count` largest primes of `bits` bits that are 1 mod `step`, largest first; fewer where there are no more. */
function largest(bits: number, count: number, step: bigint): bigint[] {
  const found: bigint[] = [];
  const least = bits >= 2 && bits <= 60 ? 1n << BigInt(bits - 1) : 0n;
  const top = least * 2n - 1n;
  let candidate = (top / step) * step + 1n;
  if (candidate > top) candidate -= step;
  for (; least > 0n && candidate > least && found.length < count; candidate -= step)
    if (isPrime(candidate)) found.push(candidate);
  return found;
}

// Miller-Rabin with these bases decides every number below 3.3 * 10^24 (Sorenson & Webster 2015).
const BASES = [2n, 3n, 5n, 7n, 11n, 13n, 17n, 19n, 23n, 29n, 31n, 37n, 41n];

function isPrime(n: bigint): boolean {
  for (const base of BASES) if (n % base === 0n) return n === base;
  let odd = n - 1n;
  let twos = 0;
  for (; odd % 2n === 0n; odd /= 2n) twos++;
  return BASES.every(base => {
    let x = power(base, odd, n);
    if (x === 1n || x === n - 1n) return true;
    for (let i = 1; i < twos; i++) {
      x = (x * x) % n;
      if (x === n - 1n) return true;
    }
    return false;
  });
}

function power(base: bigint, exponent: bigint, modulus: bigint): bigint {
  let result = 1n;
  for (let [square, rest] = [base % modulus, exponent]; rest > 0n; rest >>= 1n, square = (square * square) % modulus)
    if (rest & 1n) result = (result * square) % modulus;
  return result;
}
