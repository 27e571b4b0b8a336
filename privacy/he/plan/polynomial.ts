/**
 * Polynomials in place of functions of one number. Pure.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';

/** `sum of coefficients[k] * T_k(x / radius)`, with T_k the Chebyshev polynomials: good for |x| up to `radius`. */
export interface Polynomial {
  readonly radius: number;
  readonly coefficients: readonly number[];
  /** The largest difference to the function over 4,097 points from -radius to radius. */
  readonly error: number;
}

const NODES = 1024;

/**
 * Returns the polynomial of at most `degree` that interpolation at many Chebyshev nodes, cut off, gives: within a small factor of the
 * best there is (Trefethen 2019, Approximation Theory and Approximation Practice, theorem 16.1).
 *
 * @param evaluate - The function, on many numbers at a time.
 * @param radius - Half the range, above 0.
 * @throws {CloisterError} `INVALID_ARGUMENT` on a bad radius or degree (1 to 31), or a function that is not finite there.
 * @example
 * ```ts
 * const square = fitPolynomial(x => x.map(value => value * value), 2, 2);
 * square.coefficients.map(c => Math.round(c * 1e9) / 1e9); // [2, 0, 2]: 2 T_0 + 2 T_2(x / 2)
 * ```
 */
export function fitPolynomial(evaluate: (x: Float64Array) => Float64Array, radius: number, degree: number): Polynomial {
  if (!Number.isFinite(radius) || radius <= 0)
    throw new CloisterError('INVALID_ARGUMENT', `a polynomial is fitted on a range of a radius above 0, got ${radius}`);
  if (!Number.isInteger(degree) || degree < 1 || degree > 31)
    throw new CloisterError('INVALID_ARGUMENT', `a polynomial has a degree from 1 to 31, got ${degree}`);
  const angles = Float64Array.from({ length: NODES }, (_, i) => (Math.PI * (i + 0.5)) / NODES);
  const values = evaluate(angles.map(angle => radius * Math.cos(angle)));
  if (!values.every(Number.isFinite))
    throw new CloisterError('INVALID_ARGUMENT', `the function is not finite within ${radius} of 0`);
  const coefficients = Array.from({ length: degree + 1 }, (_, k) => {
    const sum = values.reduce((total, value, i) => total + value * Math.cos(k * angles[i]!), 0);
    const coefficient = (sum * (k === 0 ? 1 : 2)) / NODES;
    return coefficient;
  });
  // What is only rounding would cost a product all the same: odd parts of even functions, and degrees that nothing needs.
  const largest = Math.max(...coefficients.map(Math.abs));
  const cleaned = coefficients.map(c => (Math.abs(c) < largest * 1e-12 ? 0 : c));
  while (cleaned.length > 1 && cleaned.at(-1) === 0) cleaned.pop();
  const points = Float64Array.from({ length: 4097 }, (_, i) => (radius * (i - 2048)) / 2048);
  const wanted = evaluate(points);
  const error = points.reduce(
    (most, x, i) => Math.max(most, Math.abs(evaluateChebyshev(cleaned, x / radius) - wanted[i]!)),
    0,
  );
  return Object.freeze({ radius, coefficients: Object.freeze(cleaned), error });
}

/** `sum of c[k] * T_k(t)`, by Clenshaw's recurrence. */
export function evaluateChebyshev(c: readonly number[], t: number): number {
  let [next, after] = [0, 0];
  for (let k = c.length - 1; k > 0; k--) [next, after] = [2 * t * next - after + c[k]!, next];
  return t * next - after + c[0]!;
}

/** `p = quotient * T_m + remainder` for a p of degree m to 2 m - 1 (Han & Ki 2019, https://eprint.iacr.org/2019/688, section 4). */
export function divideChebyshev(p: readonly number[], m: number): { quotient: number[]; remainder: number[] } {
  const quotient = new Array<number>(p.length - m).fill(0);
  const remainder = p.slice(0, m);
  // T_m T_j = (T_{m+j} + T_{m-j}) / 2, so the coefficient of T_{m+j} wants twice as much of T_j.
  for (let j = p.length - 1 - m; j > 0; j--) {
    quotient[j] = 2 * p[m + j]!;
    remainder[m - j] = remainder[m - j]! - p[m + j]!;
  }
  quotient[0] = p[m]!;
  return { quotient, remainder };
}
