/**
 * Det: determinants of the innermost matrices.
 * @module
 */
import { formatShape, newArray } from '../../../tensor/index.ts';
import { dense, type Numbers } from '../loops.ts';
import { define, FLOATS, type Operator } from '../operator.ts';

/** The determinant of the n x n matrix in `m`, which is overwritten: elimination with the largest pivot of each column. */
function determinant(m: Float64Array, n: number): number {
  let result = 1;
  for (let k = 0; k < n; k++) {
    let pivot = k;
    for (let i = k + 1; i < n; i++) if (Math.abs(m[i * n + k]!) > Math.abs(m[pivot * n + k]!)) pivot = i;
    const head = m[pivot * n + k]!;
    if (head === 0) return 0;
    if (pivot !== k) {
      result = -result;
      for (let j = k; j < n; j++) {
        const kept = m[k * n + j]!;
        m[k * n + j] = m[pivot * n + j]!;
        m[pivot * n + j] = kept;
      }
    }
    result *= head;
    for (let i = k + 1; i < n; i++) {
      const factor = m[i * n + k]! / head;
      if (factor === 0) continue;
      for (let j = k + 1; j < n; j++) m[i * n + j] = m[i * n + j]! - factor * m[k * n + j]!;
    }
  }
  return result;
}

/** The operators of this file. */
export const DETERMINANT: readonly Operator[] = [
  define('Det', 'compute', {
    since: 11,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes: {},
    infer: c => {
      c.expect(0, FLOATS);
      const { dtype, shape } = c.input(0);
      if (shape.length < 2 || c.differ(shape.at(-1)!, shape.at(-2)!)) {
        c.fail(`expected square matrices, got ${formatShape(shape)}`);
      }
      return [{ dtype, shape: shape.slice(0, -2) }];
    },
    run: c => {
      const x = c.operand(0);
      const n = x.shape.at(-1)!;
      const out = c.allocate();
      const source = dense(x);
      const matrix = newArray('f64', n * n);
      for (let i = 0; i < out.size; i++) {
        matrix.set(source.subarray(i * n * n, (i + 1) * n * n));
        (out.data as Numbers)[i] = determinant(matrix, n);
      }
      return [out];
    },
  }),
];
