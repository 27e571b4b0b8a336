/**
 * Sparse matrices, by rows: what a chain of linear layers comes to. Pure.
 * @module
 */

/** `rows` by `columns`; row i has the entries `start[i]` to `start[i + 1]` of `column` and `value`, columns ascending and distinct. */
export interface Sparse {
  readonly rows: number;
  readonly columns: number;
  readonly start: Uint32Array;
  readonly column: Uint32Array;
  readonly value: Float64Array;
}

/** Collects entries row by row. */
export class SparseBuilder {
  readonly #columns: number;
  readonly #start: number[] = [0];
  readonly #column: number[] = [];
  readonly #value: number[] = [];
  readonly #row = new Map<number, number>();

  constructor(columns: number) {
    this.#columns = columns;
  }

  /** Adds to an entry of the row that is being collected. */
  add(column: number, value: number): void {
    if (value !== 0) this.#row.set(column, (this.#row.get(column) ?? 0) + value);
  }

  /** Ends the row. */
  endRow(): void {
    for (const [column, value] of [...this.#row].sort(([a], [b]) => a - b)) {
      if (value === 0) continue;
      this.#column.push(column);
      this.#value.push(value);
    }
    this.#row.clear();
    this.#start.push(this.#column.length);
  }

  build(): Sparse {
    return {
      rows: this.#start.length - 1,
      columns: this.#columns,
      start: Uint32Array.from(this.#start),
      column: Uint32Array.from(this.#column),
      value: Float64Array.from(this.#value),
    };
  }
}

export function identity(size: number): Sparse {
  const all = Uint32Array.from({ length: size + 1 }, (_, i) => i);
  return {
    rows: size,
    columns: size,
    start: all,
    column: all.subarray(0, size),
    value: new Float64Array(size).fill(1),
  };
}

/** `a` times `b`. The product with a matrix that only moves elements costs one pass over `b`. */
export function product(a: Sparse, b: Sparse): Sparse {
  const builder = new SparseBuilder(b.columns);
  for (let i = 0; i < a.rows; i++) {
    for (let k = a.start[i]!; k < a.start[i + 1]!; k++) {
      const row = a.column[k]!;
      for (let j = b.start[row]!; j < b.start[row + 1]!; j++) builder.add(b.column[j]!, a.value[k]! * b.value[j]!);
    }
    builder.endRow();
  }
  return builder.build();
}

export function sum(a: Sparse, b: Sparse): Sparse {
  const builder = new SparseBuilder(a.columns);
  for (let i = 0; i < a.rows; i++) {
    for (const part of [a, b])
      for (let k = part.start[i]!; k < part.start[i + 1]!; k++) builder.add(part.column[k]!, part.value[k]!);
    builder.endRow();
  }
  return builder.build();
}

/** The rows of `a` times one factor each. */
export function scaleRows(a: Sparse, factor: ArrayLike<number>): Sparse {
  const value = a.value.slice();
  for (let i = 0; i < a.rows; i++)
    for (let k = a.start[i]!; k < a.start[i + 1]!; k++) value[k] = value[k]! * factor[i]!;
  return { ...a, value };
}

/** `a` times a vector, plus `into`. */
export function apply(a: Sparse, x: ArrayLike<number>, into: Float64Array): void {
  for (let i = 0; i < a.rows; i++) {
    let total = into[i]!;
    for (let k = a.start[i]!; k < a.start[i + 1]!; k++) total += a.value[k]! * x[a.column[k]!]!;
    into[i] = total;
  }
}

/** The largest sum of absolute values of a row: how much larger an output can be than the inputs. */
export function rowNorm(a: Sparse): number {
  let most = 0;
  for (let i = 0; i < a.rows; i++) {
    let total = 0;
    for (let k = a.start[i]!; k < a.start[i + 1]!; k++) total += Math.abs(a.value[k]!);
    most = Math.max(most, total);
  }
  return most;
}
