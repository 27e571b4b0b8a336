/**
 * Whether two sides computed the same.
 * @module
 */

/** One output of either side. */
export interface Output {
  readonly data: ArrayLike<number | bigint>;
  readonly shape: readonly number[];
}

/** How far a result may be from the expected one. */
export interface Tolerance {
  /** Part of the expected element; 1e-3 unless said otherwise. */
  readonly relative?: number;
  /** Part of the largest expected magnitude of the output, for sums that cancel; 1e-5 unless said otherwise. */
  readonly ofLargest?: number;
}

/**
 * The largest `|came - expected|` as a part of what is allowed: at most 1 where they agree. Infinite where an output is missing, has
 * another shape, or is not a number on one side only. Names are those of `expected`.
 */
export function disagreement(
  expected: Readonly<Record<string, Output>>,
  came: Readonly<Record<string, Output>>,
  { relative = 1e-3, ofLargest = 1e-5 }: Tolerance = {},
): number {
  let worst = 0;
  for (const [name, want] of Object.entries(expected)) {
    const have = came[name];
    if (have?.shape.join() !== want.shape.join()) return Number.POSITIVE_INFINITY;
    let largest = 0;
    for (let i = 0; i < want.data.length; i++) {
      const size = Math.abs(Number(want.data[i]));
      if (size > largest && size < Number.POSITIVE_INFINITY) largest = size;
    }
    for (let i = 0; i < want.data.length; i++) {
      const [a, b] = [Number(want.data[i]), Number(have.data[i])];
      if (Object.is(a, b) || a === b) continue;
      const part = Math.abs(a - b) / (relative * Math.abs(a) + ofLargest * largest);
      // NaN, where one side is one or both are infinite, must not pass for small.
      if (!(part <= worst)) worst = Number.isNaN(part) ? Number.POSITIVE_INFINITY : part;
    }
  }
  return worst;
}
