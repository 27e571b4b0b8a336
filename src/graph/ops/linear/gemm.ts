/**
 * Matrix multiplication in plain TypeScript: blocks of 4 x 4 results in registers over packed panels, sums in double precision.
 * @module
 */

import { newArray } from '../../../tensor/index.ts';

/** A typed array seen as floats. */
type Floats = Float32Array | Float64Array;

/** A matrix inside an array: where it starts, and the distances between neighbours down a column and along a row. */
export interface MatrixView {
  readonly data: Floats;
  readonly offset: number;
  readonly rowStride: number;
  readonly columnStride: number;
}

/** Rows of A that are packed at a time, so that a packed panel of B is read from cache again and again. */
const ROWS = 128;

/**
 * `c[i][j] += scale * sum_p a[i][p] * b[p][j]` with `a` m x k, `b` k x n and `c` m x n dense at `offset`.
 *
 * Products are summed in double precision and rounded once, when they are added to `c`: this is the oracle for faster kernels.
 */
export function matmulInto(
  m: number,
  n: number,
  k: number,
  a: MatrixView,
  b: MatrixView,
  c: { readonly data: Floats; readonly offset: number },
  scale = 1,
): void {
  if (m === 0 || n === 0 || k === 0) return;
  if (m === 1) {
    rowTimesMatrix(n, k, a, b, c, scale);
    return;
  }
  const aPanels = panel(0, Math.ceil(Math.min(m, ROWS) / 4) * 4 * k);
  const bPanel = panel(1, 4 * k);
  for (let top = 0; top < m; top += ROWS) {
    const rows = Math.min(ROWS, m - top);
    for (let i = 0; i < rows; i += 4)
      pack(
        aPanels,
        i * k,
        k,
        a.data,
        a.offset + (top + i) * a.rowStride,
        a.rowStride,
        a.columnStride,
        Math.min(4, rows - i),
      );
    for (let j = 0; j < n; j += 4) {
      const columns = Math.min(4, n - j);
      pack(bPanel, 0, k, b.data, b.offset + j * b.columnStride, b.columnStride, b.rowStride, columns);
      for (let i = 0; i < rows; i += 4) {
        block(
          k,
          aPanels,
          i * k,
          bPanel,
          c.data,
          c.offset + (top + i) * n + j,
          n,
          Math.min(4, rows - i),
          columns,
          scale,
        );
      }
    }
  }
}

/** Panels of at most this many elements are kept from call to call: many small products would else spend their time on making them. */
const KEPT_ELEMENTS = 2 ** 16;
const kept: Float64Array[] = [];

/** At least `length` elements of any value, to be used before the next call only. */
function panel(slot: 0 | 1, length: number): Float64Array {
  if (length > KEPT_ELEMENTS) return newArray('f64', length);
  kept[slot] ??= newArray('f64', KEPT_ELEMENTS);
  return kept[slot];
}

/** Lays 4 lanes side by side: `out[at + 4 p + lane] = data[from + lane * laneStride + p * step]`; missing lanes are zero. */
function pack(
  out: Float64Array,
  at: number,
  k: number,
  data: Floats,
  from: number,
  laneStride: number,
  step: number,
  lanes: number,
): void {
  if (lanes === 4) {
    // One pass, so that each cache line is met once where lanes are neighbours.
    for (let p = 0, to = at, source = from; p < k; p++, to += 4, source += step) {
      out[to] = data[source]!;
      out[to + 1] = data[source + laneStride]!;
      out[to + 2] = data[source + 2 * laneStride]!;
      out[to + 3] = data[source + 3 * laneStride]!;
    }
    return;
  }
  for (let lane = 0; lane < 4; lane++) {
    let to = at + lane;
    if (lane >= lanes) {
      for (let p = 0; p < k; p++, to += 4) out[to] = 0;
      continue;
    }
    let source = from + lane * laneStride;
    for (let p = 0; p < k; p++, to += 4, source += step) out[to] = data[source]!;
  }
}

/** One 4 x 4 block of results, of which `rows` x `columns` are stored. */
function block(
  k: number,
  a: Float64Array,
  aAt: number,
  b: Float64Array,
  c: Floats,
  at: number,
  stride: number,
  rows: number,
  columns: number,
  scale: number,
): void {
  let c00 = 0,
    c01 = 0,
    c02 = 0,
    c03 = 0;
  let c10 = 0,
    c11 = 0,
    c12 = 0,
    c13 = 0;
  let c20 = 0,
    c21 = 0,
    c22 = 0,
    c23 = 0;
  let c30 = 0,
    c31 = 0,
    c32 = 0,
    c33 = 0;
  for (let p = 0, q = aAt; p < 4 * k; p += 4, q += 4) {
    const b0 = b[p]!,
      b1 = b[p + 1]!,
      b2 = b[p + 2]!,
      b3 = b[p + 3]!;
    const a0 = a[q]!,
      a1 = a[q + 1]!,
      a2 = a[q + 2]!,
      a3 = a[q + 3]!;
    c00 += a0 * b0;
    c01 += a0 * b1;
    c02 += a0 * b2;
    c03 += a0 * b3;
    c10 += a1 * b0;
    c11 += a1 * b1;
    c12 += a1 * b2;
    c13 += a1 * b3;
    c20 += a2 * b0;
    c21 += a2 * b1;
    c22 += a2 * b2;
    c23 += a2 * b3;
    c30 += a3 * b0;
    c31 += a3 * b1;
    c32 += a3 * b2;
    c33 += a3 * b3;
  }
  storeRow(c, at, columns, scale, c00, c01, c02, c03);
  if (rows > 1) storeRow(c, at + stride, columns, scale, c10, c11, c12, c13);
  if (rows > 2) storeRow(c, at + 2 * stride, columns, scale, c20, c21, c22, c23);
  if (rows > 3) storeRow(c, at + 3 * stride, columns, scale, c30, c31, c32, c33);
}

function storeRow(
  c: Floats,
  at: number,
  columns: number,
  scale: number,
  c0: number,
  c1: number,
  c2: number,
  c3: number,
): void {
  c[at] = c[at]! + scale * c0;
  if (columns > 1) c[at + 1] = c[at + 1]! + scale * c1;
  if (columns > 2) c[at + 2] = c[at + 2]! + scale * c2;
  if (columns > 3) c[at + 3] = c[at + 3]! + scale * c3;
}

/** One row: packing would cost as much as the product. */
function rowTimesMatrix(
  n: number,
  k: number,
  a: MatrixView,
  b: MatrixView,
  c: { readonly data: Floats; readonly offset: number },
  scale: number,
): void {
  const sums = newArray('f64', n);
  for (let p = 0; p < k; p++) {
    const factor = a.data[a.offset + p * a.columnStride]!;
    let at = b.offset + p * b.rowStride;
    for (let j = 0; j < n; j++, at += b.columnStride) sums[j] = sums[j]! + factor * b.data[at]!;
  }
  for (let j = 0; j < n; j++) c.data[c.offset + j] = c.data[c.offset + j]! + scale * sums[j]!;
}
