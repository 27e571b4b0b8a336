import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { at, compute, indicesOf } from '../any-node.ts';
import { infer, random, refusal } from '../one-node.ts';

const size = fc.integer({ min: 0, max: 4 });
const shift = fc.integer({ min: -6, max: 6 });

describe('Trilu', () => {
  test('keeps what is on or beyond the diagonal', () => {
    fc.assert(
      fc.property(fc.array(size, { minLength: 2, maxLength: 3 }), shift, fc.boolean(), (shape, k, upper) => {
        const x = random(1, shape);
        const [y] = compute('Trilu', [x, Tensor.of('i64', k)], { attributes: { upper: Number(upper) } });
        for (const index of indicesOf(shape)) {
          const [row, column] = index.slice(-2) as [number, number];
          const kept = upper ? column >= row + k : column <= row + k;
          expect(at(y!, index)).toBe(kept ? at(x, index) : 0);
        }
      }),
    );
  });

  test('takes a diagonal of any size, every dtype, and no list', () => {
    const x = Tensor.of('bool', [
      [1, 1],
      [1, 1],
    ]);
    expect(compute('Trilu', [x])[0]!.toArray()).toEqual([
      [1, 1],
      [0, 1],
    ]);
    expect(compute('Trilu', [x, Tensor.of('i64', 2n ** 62n)])[0]!.toArray()).toEqual([
      [0, 0],
      [0, 0],
    ]);
    expect(
      compute('Trilu', [
        Tensor.of('bf16', [
          [1, 2],
          [3, 4],
        ]),
      ])[0]!.toArray(),
    ).toEqual([
      [1, 2],
      [0, 4],
    ]);
    expect(refusal(() => compute('Trilu', [Tensor.of('f32', [1])]))).toContain('at least 2 dimensions');
  });
});

describe('EyeLike', () => {
  test('has ones on one diagonal', () => {
    fc.assert(
      fc.property(size, size, shift, (rows, columns, k) => {
        const [y] = compute('EyeLike', [Tensor.zeros('f16', [rows, columns])], { attributes: { k } });
        expect(y!.dtype).toBe('f16');
        for (const [i, j] of indicesOf([rows, columns])) expect(at(y!, [i!, j!])).toBe(j! - i! === k ? 1 : 0);
      }),
    );
  });

  test('is of the dtype that it is told, bool and halves too', () => {
    for (const [code, dtype, one] of [
      [9, 'bool', 1],
      [7, 'i64', 1n],
      [10, 'f16', 1],
      [16, 'bf16', 1],
    ] as const) {
      const [y] = compute('EyeLike', [Tensor.zeros('i32', [1, 2])], { attributes: { dtype: code } });
      expect([y!.dtype, y!.values()[0]]).toEqual([dtype, one]);
    }
    const eye = (shape: readonly number[], attributes: Readonly<Record<string, number>> = {}): string =>
      refusal(() => compute('EyeLike', [Tensor.zeros('f32', shape)], { attributes }));
    expect(eye([2])).toContain('expected 2 dimensions');
    expect(eye([2, 2], { dtype: 8 })).toContain('UNSUPPORTED_MODEL');
  });
});

describe('OneHot', () => {
  test('is undone by ArgMax, along any axis', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 3 }),
        fc.nat(),
        fc.nat(99),
        (shape, pick, seed) => {
          const depth = 4;
          const axis = (pick % (shape.length + 1)) - (seed % 2 ? shape.length + 1 : 0);
          const given = Tensor.from(
            'f64',
            shape,
            Float64Array.from(random(seed, shape).values() as number[], x => Math.floor(x * depth)),
          ).cast('i32');
          const [y] = compute('OneHot', [given, Tensor.of('i64', depth), Tensor.of('f32', [0, 1])], {
            attributes: { axis },
          });
          const [back] = compute('ArgMax', [y!], { attributes: { axis, keepdims: 0 } });
          expect(back!.values()).toEqual(
            given.values().map(i => BigInt(Number(i) < 0 ? Number(i) + depth : Number(i))),
          );
          expect((y!.values() as number[]).reduce((sum, x) => sum + x, 0)).toBe(given.size);
        },
      ),
    );
  });

  test('leaves a row off whose index is outside; negative ones are, before opset 11', () => {
    const inputs = [Tensor.of('i64', [-1, 3, -4, 1]), Tensor.of('f32', 3), Tensor.of('string', ['.', 'x'])];
    const rows = (opset: number): string[] =>
      (compute('OneHot', inputs, { opset })[0]!.toArray() as string[][]).map(row => row.join(''));
    expect(rows(11)).toEqual(['..x', '...', '...', '.x.']);
    expect(rows(9)).toEqual(['...', '...', '...', '.x.']);
  });

  test('refuses a depth that is none, and values that are not two', () => {
    const of = (depth: Tensor, values: Tensor): string =>
      refusal(() => compute('OneHot', [Tensor.of('i64', [0]), depth, values]));
    expect(of(Tensor.of('i64', -1), Tensor.of('f32', [0, 1]))).toContain('a depth of -1');
    expect(of(Tensor.of('i64', [1, 2]), Tensor.of('f32', [0, 1]))).toContain('single value');
    expect(of(Tensor.of('i64', 1), Tensor.of('f32', [0, 1, 2]))).toContain('off and the on value');
    expect(of(Tensor.of('i64', 2n ** 40n), Tensor.of('f32', [0, 1]))).toContain('cannot exist');
    const shape = infer('OneHot', [
      { dtype: 'i64', shape: ['N'] },
      { dtype: 'i64', shape: [] },
      { dtype: 'f32', shape: [2] },
    ])[0]!.shape;
    expect(shape[0]).toBe('N');
    expect(typeof shape[1]).toBe('string');
  });
});
