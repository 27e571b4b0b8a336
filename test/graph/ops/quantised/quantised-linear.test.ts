import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { integerProduct } from '../../../../src/graph/ops/linear/integer-gemm.ts';
import { type DType, Tensor } from '../../../../src/tensor/index.ts';
import { byteOf, bytesOf, byteType, MICROSOFT, numbers, quantised, refusal, run, scale } from './quantised-world.ts';

const f32 = (values: readonly number[] | number): Tensor => Tensor.of('f32', values);

/** One product of two matrices with a zero point per row of `a` and per column of `b`, element by element. */
function sums(a: Tensor, b: Tensor, rowZeros: readonly number[], columnZeros: readonly number[]): readonly number[] {
  const [m, k, n] = [a.shape[0]!, a.shape[1]!, b.shape[1]!];
  const [x, y] = [numbers(a), numbers(b)];
  return Array.from({ length: m * n }, (_, at) => {
    const [i, j] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let p = 0; p < k; p++) sum += (x[i * k + p]! - rowZeros[i]!) * (y[p * n + j]! - columnZeros[j]!);
    return sum | 0;
  });
}

const sizes = fc.record({
  m: fc.integer({ min: 1, max: 9 }),
  k: fc.integer({ min: 0, max: 20 }),
  n: fc.integer({ min: 1, max: 9 }),
});

const matrices = fc.tuple(sizes, byteType, byteType).chain(([{ m, k, n }, left, right]) =>
  fc.record({
    a: bytesOf(left, [m, k]),
    b: bytesOf(right, [k, n]),
    rows: fc.array(byteOf(left), { minLength: m, maxLength: m }),
    columns: fc.array(byteOf(right), { minLength: n, maxLength: n }),
    aScale: scale,
    bScales: fc.array(scale, { minLength: n, maxLength: n }),
    yScale: scale,
  }),
);

describe('the integer product', () => {
  test('is exact at any depth, at the ends of the range', () => {
    for (const k of [1, 511, 512, 513, 1030, 4000]) {
      for (const [x, y] of [
        [255, 255],
        [-255, 255],
        [-255, -255],
      ] as const) {
        const [m, n] = [5, 7];
        const a = { data: new Int16Array(m * k).fill(x), offset: 0, rowStride: k, columnStride: 1 };
        const b = { data: new Int16Array(k * n).fill(y), offset: 0, rowStride: n, columnStride: 1 };
        const c = new Int32Array(m * n);
        integerProduct(m, n, k, a, b, c, 0);
        expect(new Set(c)).toEqual(new Set([k * x * y]));
      }
    }
  });

  test('agrees with a plain loop for matrices of every odd size, transposed and not, and adds to what is there', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 70 }),
        fc.integer({ min: 1, max: 11 }),
        fc.integer({ min: 1, max: 30 }),
        fc.boolean(),
        fc.nat(),
        (m, n, k, turned, seed) => {
          let state = seed;
          const next = (): number => {
            state = (Math.imul(state, 1103515245) + 12345) | 0;
            return ((state >>> 16) % 511) - 255;
          };
          const [x, y] = [Int16Array.from({ length: m * k }, next), Int16Array.from({ length: k * n }, next)];
          const c = new Int32Array(m * n + 1).fill(3);
          const b = { data: y, offset: 0, rowStride: turned ? 1 : n, columnStride: turned ? k : 1 };
          integerProduct(m, n, k, { data: x, offset: 0, rowStride: k, columnStride: 1 }, b, c, 1);
          expect(c[0]).toBe(3);
          for (let i = 0; i < m; i++) {
            for (let j = 0; j < n; j++) {
              let sum = 3;
              for (let p = 0; p < k; p++) sum += x[i * k + p]! * y[p * b.rowStride + j * b.columnStride]!;
              expect(c[1 + i * n + j]).toBe(sum);
            }
          }
        },
      ),
    );
  });
});

describe('MatMulInteger', () => {
  test('takes one zero point, one per row, or one per column', () => {
    fc.assert(
      fc.property(matrices, fc.boolean(), fc.boolean(), ({ a, b, rows, columns }, perRow, perColumn) => {
        const left = perRow ? rows : rows.map(() => rows[0]!);
        const right = perColumn ? columns : columns.map(() => columns[0]!);
        const aZero = Tensor.of(a.dtype, perRow ? rows : rows[0]!);
        const bZero = Tensor.of(b.dtype, perColumn ? columns : columns[0]!);
        const [y] = run('MatMulInteger', [a, b, aZero, bZero], { opset: 10 });
        expect(numbers(y!)).toEqual(sums(a, b, left, right));
      }),
    );
  });

  test('broadcasts batches, takes zero points of the rank of a batch, and promotes vectors', () => {
    const a = Tensor.of('u8', [[[1, 2]], [[3, 4]]]);
    const b = Tensor.of('i8', [
      [1, -1],
      [2, 0],
    ]);
    expect(run('MatMulInteger', [a, b], { opset: 10 })[0]!.toArray()).toEqual([[[5, -1]], [[11, -3]]]);
    const zeros = Tensor.of('u8', [[[1]], [[3]]]);
    expect(run('MatMulInteger', [a, b, zeros], { opset: 10 })[0]!.toArray()).toEqual([[[2, 0]], [[2, 0]]]);
    const v = Tensor.of('u8', [1, 2]);
    expect(run('MatMulInteger', [v, b], { opset: 10 })[0]!.toArray()).toEqual([5, -1]);
    expect(run('MatMulInteger', [v, v], { opset: 10 })[0]!.toArray()).toBe(5);
  });

  test('gives empty and zero products, and refuses sizes that differ', () => {
    const [a, b] = [Tensor.zeros('u8', [2, 0]), Tensor.zeros('u8', [0, 3])];
    expect(numbers(run('MatMulInteger', [a, b])[0]!)).toEqual([0, 0, 0, 0, 0, 0]);
    expect(run('MatMulInteger', [b, Tensor.zeros('u8', [3, 4])])[0]!.shape).toEqual([0, 4]);
    expect(refusal(() => run('MatMulInteger', [a, a]))).toContain('inner sizes 0 and 2 differ');
    const three = Tensor.of('u8', [1, 2, 3]);
    expect(refusal(() => run('MatMulInteger', [a, b, three]))).toContain('one per row');
    expect(refusal(() => run('MatMulInteger', [a, b, undefined, Tensor.of('u8', [1, 2])]))).toContain('one per column');
    expect(refusal(() => run('MatMulInteger', [a, b, Tensor.of('i8', 0)]))).toContain('one dtype');
  });
});

describe('QLinearMatMul', () => {
  test('is the quantised product of what its inputs stand for', () => {
    fc.assert(
      fc.property(matrices, byteType, ({ a, b, rows, columns, aScale, bScales, yScale }, dtype) => {
        const zero = Tensor.of(dtype, 7);
        const inputs = [a, f32(aScale), Tensor.of(a.dtype, rows), b, f32(bScales), Tensor.of(b.dtype, columns)];
        const [y] = run('QLinearMatMul', [...inputs, f32(yScale), zero], { opset: 10 });
        const n = bScales.length;
        const whole = sums(a, b, rows, columns);
        const factor = bScales.map(by => Math.fround(Math.fround(aScale * by) / yScale));
        expect(numbers(y!)).toEqual(whole.map((sum, at) => quantised(Math.fround(sum * factor[at % n]!), 1, 7, dtype)));
      }),
    );
  });

  test('takes scales in half precision from opset 21 on', () => {
    const x = Tensor.of('u8', [[2, 4]]);
    const w = Tensor.of('u8', [[1], [1]]);
    const inputs = (by: DType): readonly Tensor[] => {
      const [s, z] = [Tensor.of(by, 0.5), Tensor.of('u8', 0)];
      return [x, s, z, w, s, z, s, z];
    };
    for (const by of ['f32', 'f16', 'bf16'] as const) {
      expect(run('QLinearMatMul', inputs(by), { opset: 21 })[0]!.toArray()).toEqual([[3]]);
    }
    expect(refusal(() => run('QLinearMatMul', inputs('f16'), { opset: 10 }))).toContain('f16');
  });
});

describe('the products of com.microsoft', () => {
  test('MatMulIntegerToFloat is the product of what its inputs stand for, with a bias', () => {
    fc.assert(
      fc.property(matrices, ({ a, b, rows, columns, aScale, bScales }) => {
        const inputs = [a, b, f32(aScale), f32(bScales), Tensor.of(a.dtype, rows), Tensor.of(b.dtype, columns)];
        const [y] = run('MatMulIntegerToFloat', [...inputs, f32(bScales)], { domain: MICROSOFT });
        const n = bScales.length;
        const expected = sums(a, b, rows, columns).map((sum, at) =>
          Math.fround(sum * Math.fround(aScale * bScales[at % n]!) + bScales[at % n]!),
        );
        expect(numbers(y!)).toEqual(expected);
      }),
    );
  });

  test('DynamicQuantizeMatMul is DynamicQuantizeLinear, then the product', () => {
    fc.assert(
      fc.property(
        matrices,
        fc.array(fc.float({ noNaN: true, min: -9, max: 9 }), { minLength: 200 }),
        (given, reals) => {
          const { b, columns, bScales } = given;
          const a = Tensor.from('f32', given.a.shape, Float32Array.from(reals.slice(0, given.a.size)));
          const [q, s, z] = run('DynamicQuantizeLinear', [a], { outputs: 3 });
          const zeros = Tensor.of(b.dtype, columns);
          const [y] = run('DynamicQuantizeMatMul', [a, b, f32(bScales), zeros, f32(bScales)], { domain: MICROSOFT });
          const [want] = run('MatMulIntegerToFloat', [q!, b, s!, f32(bScales), z, zeros, f32(bScales)], {
            domain: MICROSOFT,
          });
          expect(numbers(y!)).toEqual(numbers(want!));
        },
      ),
    );
  });

  test('QGemm adds a whole bias, transposes, and gives bytes or floats', () => {
    const a = Tensor.of('u8', [
      [1, 2],
      [3, 4],
    ]);
    const b = Tensor.of('i8', [
      [1, 0],
      [2, -1],
    ]);
    const zero = Tensor.of('u8', 0);
    const bias = Tensor.of('i32', [10, 20]);
    const inputs = [a, f32(0.5), zero, b, f32([1, 2]), Tensor.of('i8', [0, 0]), bias];
    const plain = run('QGemm', inputs, { domain: MICROSOFT, attributes: { transA: 1, transB: 1, alpha: 2 } });
    // [[1,3],[2,4]] x [[1,2],[0,-1]] = [[1,-1],[2,0]]; plus bias; times 2 * 0.5 * [1,2]
    expect(plain[0]!.toArray()).toEqual([
      [11, 38],
      [12, 40],
    ]);
    const whole = run('QGemm', [...inputs, f32(4), Tensor.of('u8', 3)], { domain: MICROSOFT });
    // [[1,2],[3,4]] x [[1,0],[2,-1]] = [[5,-2],[11,-4]]; plus bias; times 0.5 * [1,2] / 4
    expect(whole[0]!.toArray()).toEqual([
      [5, 7],
      [6, 7],
    ]);
  });
});
