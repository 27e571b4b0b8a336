/**
 * Numbers between bounds, in fixed point: what a table or a threshold is computed in, so that rounding is never in doubt.
 * @module
 */

/** Between `lo` and `hi`, both in units of 2^-places. */
export interface Interval {
  readonly lo: bigint;
  readonly hi: bigint;
}

/** `value` itself. */
export function exactly(value: bigint, places: bigint): Interval {
  return { lo: value << places, hi: value << places };
}

/** The product of two intervals that are not negative. */
export function multiply(a: Interval, b: Interval, places: bigint): Interval {
  return { lo: (a.lo * b.lo) >> places, hi: -((-a.hi * b.hi) >> places) };
}

/**
 * Encloses `exp(n/d)` for any integer n and positive d, within some hundred units of the last place where it is at most 1.
 *
 * The exponent is halved until it is below 1; the Taylor series of its absolute value is summed with every term rounded
 * down, and falls short by less than four units for each, those left out among them; then the result is squared as
 * often, and turned over for a negative exponent.
 */
export function expOf(n: bigint, d: bigint, places: bigint): Interval {
  const size = n < 0n ? -n : n;
  let halvings = 0n;
  while (2n * (size >> halvings) >= d) halvings++;
  // Squaring doubles the relative error each time, so the series is summed in that many more places.
  const wide = places + halvings + 16n;
  const one = 1n << wide;
  const x = (size << wide) / (d << halvings);
  let term = one;
  let sum = term;
  let terms = 1n;
  for (; term > 0n; terms++) {
    term = (term * x) / (terms << wide);
    sum += term;
  }
  // The error e of a term grows to e/k + 1/k + 1 in the next: its own rounding, that of x, and what it came with. Below 3.
  let value: Interval = { lo: sum, hi: sum + 4n * terms + 4n };
  for (; halvings > 0n; halvings--) value = multiply(value, value, wide);
  if (n < 0n) value = { lo: (one * one) / value.hi, hi: -((-one * one) / value.lo) + 1n };
  const drop = wide - places;
  return { lo: value.lo >> drop, hi: -(-value.hi >> drop) };
}
