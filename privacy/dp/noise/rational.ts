/**
 * Positive rationals, and integer roots: what the parameters of exact noise are made of.
 * @module
 */

/** `numerator / denominator`, both positive. */
export interface Rational {
  readonly numerator: bigint;
  readonly denominator: bigint;
}

/** The rational in lowest terms, frozen. */
export function rational(numerator: bigint, denominator: bigint): Rational {
  let [a, b] = [numerator, denominator];
  while (b !== 0n) [a, b] = [b, a % b];
  return Object.freeze({ numerator: numerator / a, denominator: denominator / a });
}

/** The rational as an event holds it: JSON has no big integers. */
export function toDigits({ numerator, denominator }: Rational): { numerator: string; denominator: string } {
  return Object.freeze({ numerator: String(numerator), denominator: String(denominator) });
}

/** The largest integer whose square is at most `n`, for `n >= 0`. Newton's iteration from above, in integers. */
export function floorRoot(n: bigint): bigint {
  if (n < 2n) return n;
  let root = 1n << BigInt((n.toString(2).length + 1) >> 1); // at least the root
  for (;;) {
    const next = (root + n / root) >> 1n;
    if (next >= root) return root;
    root = next;
  }
}

/** The smallest integer whose square is at least `n`. */
export function ceilRoot(n: bigint): bigint {
  const root = floorRoot(n);
  return root * root === n ? root : root + 1n;
}

/** The rational that a positive float64 is, exactly: a power of two is its denominator. */
export function rationalOf(value: number): Rational {
  let scaled = value;
  let power = 0n;
  while (!Number.isInteger(scaled)) {
    scaled *= 2; // exact: away from the subnormals, or up to them
    power++;
  }
  return rational(BigInt(scaled), 1n << power);
}
