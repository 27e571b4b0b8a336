/**
 * Shape arithmetic: element counts that are checked before anything is allocated, strides, broadcasting.
 * @module
 */
import { CloisterError } from '../base/index.ts';

/** Sizes of the dimensions, outermost first; `[]` is a scalar. */
export type Shape = readonly number[];

/** The most dimensions a tensor has here; native kernels have the same limit. */
export const MAX_RANK = 8;

/** The most elements a tensor has unless the caller sets a lower limit: 2^31 - 1. */
export const MAX_ELEMENTS: number = 2 ** 31 - 1;

/**
 * Returns how many elements a tensor of `shape` has, having checked every dimension and every partial product, so that the
 * number may be allocated.
 *
 * @param limitElements - The most that is allowed.
 * @throws {CloisterError} `INVALID_ARGUMENT` on a dimension that is not a non-negative integer, or more than
 *   {@link MAX_RANK} dimensions; `OUT_OF_MEMORY` when the count passes the limit.
 * @example
 * ```ts
 * elementCount([2, 3, 4]); // 24
 * ```
 */
export function elementCount(shape: Shape, limitElements: number = MAX_ELEMENTS): number {
  if (shape.length > MAX_RANK) {
    throw new CloisterError('INVALID_ARGUMENT', `expected at most ${MAX_RANK} dimensions, got ${shape.length}`);
  }
  let count = 1;
  let largest = 1; // the product without the zeros: a zero must not hide a dimension that no index can reach
  for (const dim of shape) {
    if (!Number.isSafeInteger(dim) || dim < 0) {
      const came = formatShape(shape);
      throw new CloisterError('INVALID_ARGUMENT', `expected dimensions that are integers of at least 0, got ${came}`);
    }
    count *= dim;
    largest *= Math.max(dim, 1);
    if (largest > limitElements) {
      const message = `a tensor of shape ${formatShape(shape)} passes the limit of ${limitElements} elements`;
      throw new CloisterError('OUT_OF_MEMORY', message, { shape: [...shape], limitElements });
    }
  }
  return count;
}

/**
 * The strides, in elements, of a dense row-major tensor of `shape`.
 * @example
 * ```ts
 * denseStrides([2, 3, 4]); // [12, 4, 1]
 * ```
 */
export function denseStrides(shape: Shape): readonly number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= Math.max(shape[i]!, 1);
  }
  return Object.freeze(strides);
}

/** Whether two shapes are the same. */
export function sameShape(a: Shape, b: Shape): boolean {
  return a.length === b.length && a.every((dim, i) => dim === b[i]);
}

/** `[2,3]`, as messages show a shape. Symbolic dimensions are shown by name. */
export function formatShape(shape: readonly (number | string)[]): string {
  return `[${shape.join(',')}]`;
}

/**
 * Returns the shape to which `a` and `b` broadcast (NumPy's rule: aligned at the end, equal or 1).
 *
 * @param where - What to name in the message: the operation, or a node.
 * @throws {CloisterError} `SHAPE_MISMATCH` when two sizes differ and neither is 1.
 * @example
 * ```ts
 * broadcastShapes([4, 1], [3]); // [4, 3]
 * ```
 */
export function broadcastShapes(a: Shape, b: Shape, where = 'broadcast'): Shape {
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const left = a[a.length - rank + i] ?? 1;
    const right = b[b.length - rank + i] ?? 1;
    if (left !== right && left !== 1 && right !== 1) {
      const message = `${where}: ${formatShape(a)} with ${formatShape(b)}: sizes ${left} and ${right} differ`;
      throw new CloisterError('SHAPE_MISMATCH', message, { lhs: [...a], rhs: [...b] });
    }
    out[i] = left === 1 ? right : left;
  }
  return Object.freeze(out);
}

/**
 * Returns `axis` as an index from 0, where negative axes count from the end.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when it is not an integer from `-rank` to `rank - 1`.
 * @example
 * ```ts
 * normaliseAxis(-1, 4); // 3
 * ```
 */
export function normaliseAxis(axis: number, rank: number, where = 'axis'): number {
  if (!Number.isInteger(axis) || axis < -rank || axis >= rank) {
    throw new CloisterError('INVALID_ARGUMENT', `${where}: expected an axis of a rank ${rank} tensor, got ${axis}`);
  }
  return axis < 0 ? axis + rank : axis;
}
