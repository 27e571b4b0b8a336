import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type DType, Tensor } from '../../../../src/tensor/index.ts';
import { indicesOf } from '../any-node.ts';
import { numbers, refusal, run } from '../one-node.ts';

const size = fc.integer({ min: 0, max: 9 });
const INTEGERS = ['i32', 'u32', 'i64', 'u64'] as const;

/** Integers of any size: what does not fit the dtype wraps, at each step as at the end. */
const tensorOf = (dtype: DType, shape: readonly number[], least: bigint, most: bigint): fc.Arbitrary<Tensor> => {
  const length = shape.reduce((product, dim) => product * dim, 1);
  return fc
    .array(fc.bigInt({ min: least, max: most }), { minLength: length, maxLength: length })
    .map(values => Tensor.of('i64', values).reshape(shape).cast(dtype));
};

/** Exact products of the values as they are in `dtype`, cut to its bits. */
function exactProduct(a: Tensor, b: Tensor): readonly bigint[] {
  const [k, n] = b.shape as readonly [number, number];
  const [x, y] = [a.values(), b.values()].map(values => values.map(value => BigInt(value))) as [bigint[], bigint[]];
  const bits = a.dtype.endsWith('64') ? 64 : 32;
  return Array.from(indicesOf([a.shape[0]!, n]), ([i, j]) => {
    let sum = 0n;
    for (let p = 0; p < k; p++) sum += x[i! * k + p]! * y[p * n + j!]!;
    return a.dtype.startsWith('u') ? BigInt.asUintN(bits, sum) : BigInt.asIntN(bits, sum);
  });
}

describe('products of integers', () => {
  test.each(INTEGERS)('wrap in %s as machine integers do', dtype => {
    const problem = fc
      .tuple(size, size, size)
      .chain(([m, k, n]) =>
        fc.tuple(tensorOf(dtype, [m, k], -(2n ** 40n), 2n ** 40n), tensorOf(dtype, [k, n], -(2n ** 40n), 2n ** 40n)),
      );
    fc.assert(
      fc.property(problem, ([a, b]) => {
        const expected = exactProduct(a, b);
        expect(
          run('MatMul', [a, b], { opset: 9 })[0]!
            .values()
            .map(value => BigInt(value)),
        ).toEqual(expected);
        expect(
          run('Gemm', [a, b], { opset: 11 })[0]!
            .values()
            .map(value => BigInt(value)),
        ).toEqual(expected);
      }),
      { numRuns: 50 },
    );
  });

  test.each(INTEGERS)('are scaled and shifted by Gemm in %s', dtype => {
    const [a, b, c] = [
      [
        [1, 2],
        [3, 4],
      ],
      [
        [5, 6],
        [7, 8],
      ],
      [100, 200],
    ].map(values => Tensor.of(dtype, values));
    const gemm = (attributes: Record<string, number>): readonly number[] =>
      run('Gemm', [a, b, c], { attributes })[0]!.values().map(Number);
    expect(gemm({})).toEqual([119, 222, 143, 250]);
    expect(gemm({ alpha: 2, beta: 3, transA: 1 })).toEqual([352, 660, 376, 688]);
    expect(gemm({ beta: 0 })).toEqual([19, 22, 43, 50]);
    expect(gemm({ alpha: 0.5, beta: 0 })).toEqual([9, 11, 21, 25]);
  });

  test('came with opset 9', () => {
    const a = Tensor.of('i32', [[1]]);
    expect(refusal(() => run('MatMul', [a, a], { opset: 8 }))).toMatch(/UNSUPPORTED_MODEL.*expected one of f32/);
    expect(refusal(() => run('Gemm', [a, a, a], { opset: 7 }))).toMatch(/UNSUPPORTED_MODEL.*expected one of f32/);
  });
});

describe('products of floats', () => {
  test('are exact on small integers, of any size and layout', () => {
    // Sizes around the blocks of 4 and the panels of 64 rows.
    const sizes = fc.tuple(fc.constantFrom(1, 3, 4, 5, 63, 66), fc.constantFrom(1, 2, 17), fc.constantFrom(1, 3, 4, 9));
    const problem = fc.tuple(sizes, fc.boolean(), fc.boolean(), fc.nat(1000));
    const fill = (shape: readonly number[], seed: number): Tensor => {
      const length = shape.reduce((product, dim) => product * dim, 1);
      return Tensor.from(
        'f32',
        shape,
        Float32Array.from({ length }, (_, i) => ((i * 7919 + seed * 31) % 17) - 8),
      );
    };
    fc.assert(
      fc.property(problem, ([[m, k, n], transA, transB, seed]) => {
        const a = transA ? fill([k, m], seed).transpose() : fill([m, k], seed);
        const b = transB ? fill([n, k], seed + 1).transpose() : fill([k, n], seed + 1);
        const expected = exactProduct(a.cast('i32'), b.cast('i32')).map(Number);
        expect(numbers(run('MatMul', [a, b])[0]!)).toEqual(expected.map(value => value + 0));
      }),
      { numRuns: 60 },
    );
  });

  test('are summed in double precision', () => {
    // In single precision 2^24 + 1 - 2^24 is 0.
    const a = Tensor.of('f32', [[2 ** 24, 1, -(2 ** 24)]]);
    for (const rows of [1, 2]) {
      const [y] = run('MatMul', [a.expand([rows, 3]), Tensor.of('f32', [[1], [1], [1]])]);
      expect(numbers(y!)).toEqual(new Array(rows).fill(1));
    }
  });
});
