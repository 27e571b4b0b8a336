/**
 * The bounds of a statistic, as a plugin declares them. Pure.
 * @module
 */

/** Numbers of one contribution, at most. */
export const MAX_CELLS = 65_536;

/** What a statistic says of itself: every contribution has `length` numbers from `low` to `high`. */
export interface Bounds {
  readonly length: number;
  readonly low: number;
  readonly high: number;
}

/** Whether these are bounds that noise can be made for. */
export function isBounds(bounds: { readonly [K in keyof Bounds]: unknown }): bounds is Bounds {
  const { length, low, high } = bounds;
  const counted = Number.isSafeInteger(length) && (length as number) >= 1 && (length as number) <= MAX_CELLS;
  return counted && Number.isFinite(low) && Number.isFinite(high) && (low as number) < (high as number);
}
