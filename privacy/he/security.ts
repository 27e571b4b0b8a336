/**
 * How large the modulus may be. Pure.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';

/**
 * The most bits that all primes of a context together (data primes and the special one) may have at 128 bits of classical security,
 * ternary secrets, by ring degree.
 *
 * @see Bossuat et al. 2024, Security Guidelines for Implementing Homomorphic Encryption, Table 5.2,
 *   https://eprint.iacr.org/2024/463. SEAL's own table is that of 2018, and a few bits more generous.
 */
export const MODULUS_BITS: ReadonlyMap<number, number> = new Map([
  [1024, 26],
  [2048, 53],
  [4096, 106],
  [8192, 214],
  [16_384, 430],
  [32_768, 868],
]);

/**
 * Refuses parameters below 128 bits of security.
 *
 * @throws {CloisterError} `HE_INSECURE_PARAMETERS` when the degree is not in {@link MODULUS_BITS} or the modulus is over its bound.
 * @example
 * ```ts
 * assertSecure(8192, 192); // nothing: 192 bits are within 214
 * ```
 */
export function assertSecure(degree: number, bits: number): void {
  const most = MODULUS_BITS.get(degree);
  if (most === undefined) {
    throw new CloisterError(
      'HE_INSECURE_PARAMETERS',
      `a ring degree is one of ${[...MODULUS_BITS.keys()].join(', ')}, got ${String(degree)}`,
      { degree },
    );
  }
  if (!Number.isInteger(bits) || bits < 1 || bits > most) {
    throw new CloisterError(
      'HE_INSECURE_PARAMETERS',
      `at degree ${degree} the primes may have ${most} bits together, got ${String(bits)}: fewer levels, smaller primes or a larger degree`,
      { degree, bits, most },
    );
  }
}
