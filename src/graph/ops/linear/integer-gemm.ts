/**
 * Matrix multiplication of small integers with exact sums: the kernel under every quantised product.
 *
 * A double holds integers up to 2^53, a sum of products of bytes needs far less. So two columns of B travel in one double, the
 * second shifted up by 26 bits, and one multiplication makes two products. Before the lower sum could reach half of 2^26 the
 * two are taken apart and added to the 32-bit result. Measured at 4.6 G multiply-adds per second where one column per double
 * gives 2.4 and 32-bit integers 2.1 (64 x 96 x 784, one core).
 * @module
 */

/** A matrix inside an array of integers from -255 to 255: where it starts, and the distances between neighbours. */
export interface IntegerMatrix {
  readonly data: Int16Array;
  readonly offset: number;
  readonly rowStride: number;
  readonly columnStride: number;
}

/** Where the second column of a pair lies in a double. */
const SHIFT = 2 ** 26;

/** At most so many products of 255 * 255 at most sum up to less than half of 2^26: 512 * 65025 < 2^25. */
const DEPTH = 512;

/** Adding and subtracting it rounds to a multiple of 2^26, so it leaves the second sum of a pair, shifted. */
const UPPER = 6755399441055744 * SHIFT;

/** Rows of A that are packed at a time, so that a packed panel of B is read from cache again and again. */
const ROWS = 64;

/**
 * `c[i][j] += sum_p a[i][p] * b[p][j]` with `a` m x k, `b` k x n and `c` m x n dense at `at`. Elements of `a` and `b` are from
 * -255 to 255. Sums are exact; those beyond 32 bits wrap, as integers do.
 */
export function integerProduct(
  m: number,
  n: number,
  k: number,
  a: IntegerMatrix,
  b: IntegerMatrix,
  c: Int32Array,
  at: number,
): void {
  if (m === 0 || n === 0 || k === 0) return;
  if (m === 1) {
    rowProduct(n, k, a, b, c, at);
    return;
  }
  const aPanels = new Float64Array(Math.ceil(Math.min(m, ROWS) / 4) * 4 * Math.min(k, DEPTH));
  const bPanel = new Float64Array(2 * Math.min(k, DEPTH));
  for (let start = 0; start < k; start += DEPTH) {
    const depth = Math.min(DEPTH, k - start);
    for (let top = 0; top < m; top += ROWS) {
      const rows = Math.min(ROWS, m - top);
      for (let i = 0; i < rows; i += 4) packRows(aPanels, i * depth, a, top + i, Math.min(4, rows - i), start, depth);
      for (let j = 0; j < n; j += 4) {
        const columns = Math.min(4, n - j);
        packColumns(bPanel, b, j, columns, start, depth);
        for (let i = 0; i < rows; i += 4) {
          block(depth, aPanels, i * depth, bPanel, c, at + (top + i) * n + j, n, Math.min(4, rows - i), columns);
        }
      }
    }
  }
}

/** Lays 4 rows side by side: `out[at + 4 p + lane] = a[row + lane][start + p]`; missing rows are zero. */
function packRows(
  out: Float64Array,
  at: number,
  a: IntegerMatrix,
  row: number,
  rows: number,
  start: number,
  depth: number,
): void {
  const { data } = a;
  for (let lane = 0; lane < 4; lane++) {
    let to = at + lane;
    if (lane >= rows) {
      for (let p = 0; p < depth; p++, to += 4) out[to] = 0;
      continue;
    }
    let from = a.offset + (row + lane) * a.rowStride + start * a.columnStride;
    for (let p = 0; p < depth; p++, to += 4, from += a.columnStride) out[to] = data[from]!;
  }
}

/** Lays 4 columns side by side in pairs: `out[2 p]` holds columns 0 and 1, `out[2 p + 1]` columns 2 and 3. */
function packColumns(
  out: Float64Array,
  b: IntegerMatrix,
  column: number,
  columns: number,
  start: number,
  depth: number,
): void {
  const { data, rowStride, columnStride: step } = b;
  let from = b.offset + start * rowStride + column * step;
  if (columns === 4) {
    for (let p = 0; p < 2 * depth; p += 2, from += rowStride) {
      out[p] = data[from]! + data[from + step]! * SHIFT;
      out[p + 1] = data[from + 2 * step]! + data[from + 3 * step]! * SHIFT;
    }
    return;
  }
  for (let p = 0; p < 2 * depth; p += 2, from += rowStride) {
    out[p] = data[from]! + (columns > 1 ? data[from + step]! * SHIFT : 0);
    out[p + 1] = columns > 2 ? data[from + 2 * step]! : 0;
  }
}

/** One 4 x 4 block of results, of which `rows` x `columns` are added to `c`. */
function block(
  depth: number,
  a: Float64Array,
  aAt: number,
  b: Float64Array,
  c: Int32Array,
  at: number,
  stride: number,
  rows: number,
  columns: number,
): void {
  let c00 = 0,
    c02 = 0,
    c10 = 0,
    c12 = 0,
    c20 = 0,
    c22 = 0,
    c30 = 0,
    c32 = 0;
  for (let p = 0, q = aAt; p < 2 * depth; p += 2, q += 4) {
    const b0 = b[p]!,
      b2 = b[p + 1]!;
    const a0 = a[q]!,
      a1 = a[q + 1]!,
      a2 = a[q + 2]!,
      a3 = a[q + 3]!;
    c00 += a0 * b0;
    c02 += a0 * b2;
    c10 += a1 * b0;
    c12 += a1 * b2;
    c20 += a2 * b0;
    c22 += a2 * b2;
    c30 += a3 * b0;
    c32 += a3 * b2;
  }
  addRow(c, at, columns, c00, c02);
  if (rows > 1) addRow(c, at + stride, columns, c10, c12);
  if (rows > 2) addRow(c, at + 2 * stride, columns, c20, c22);
  if (rows > 3) addRow(c, at + 3 * stride, columns, c30, c32);
}

/** Takes two pairs of sums apart. */
function addRow(c: Int32Array, at: number, columns: number, c0: number, c2: number): void {
  const upper = c0 + UPPER - UPPER;
  c[at] = c[at]! + (c0 - upper);
  if (columns > 1) c[at + 1] = c[at + 1]! + upper / SHIFT;
  if (columns > 2) {
    const last = c2 + UPPER - UPPER;
    c[at + 2] = c[at + 2]! + (c2 - last);
    if (columns > 3) c[at + 3] = c[at + 3]! + last / SHIFT;
  }
}

/** One row: packing would cost as much as the product. */
function rowProduct(n: number, k: number, a: IntegerMatrix, b: IntegerMatrix, c: Int32Array, at: number): void {
  for (let p = 0; p < k; p++) {
    const factor = a.data[a.offset + p * a.columnStride]!;
    if (factor === 0) continue;
    let from = b.offset + p * b.rowStride;
    for (let j = 0; j < n; j++, from += b.columnStride) c[at + j] = (c[at + j]! + Math.imul(factor, b.data[from]!)) | 0;
  }
}
