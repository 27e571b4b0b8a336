import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { numbers, run } from '../one-node.ts';

const { NEGATIVE_INFINITY } = Number;

describe('ReduceLogSumExp', () => {
  test('neither overflows nor vanishes', () => {
    const x = Tensor.of('f32', [
      [1000, 1000],
      [-1000, -1000],
    ]);
    const [large, small] = numbers(
      run('ReduceLogSumExp', [x, Tensor.of('i64', [1])], { attributes: { keepdims: 0 } })[0]!,
    );
    expect(large).toBeCloseTo(1000 + Math.LN2, 3);
    expect(small).toBeCloseTo(-1000 + Math.LN2, 3);
  });

  test('of nothing but minus infinity is minus infinity, and of infinity is infinity', () => {
    const x = Tensor.of('f32', [
      [NEGATIVE_INFINITY, NEGATIVE_INFINITY],
      [NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
    ]);
    const [y] = run('ReduceLogSumExp', [x, Tensor.of('i64', [1])], { attributes: { keepdims: 0 } });
    expect(numbers(y!)).toEqual([NEGATIVE_INFINITY, Number.POSITIVE_INFINITY]);
  });
});

describe.each([
  ['ArgMax', [3, 1, 3, 3, 2]],
  ['ArgMin', [-3, -1, -3, -3, -2]],
])('%s', (op, values) => {
  test.each([
    [0, 0n],
    [1, 3n],
  ])('gives the first of equals, or the last on request (%s)', (select, wanted) => {
    const attributes = { axis: 0, keepdims: 0, select_last_index: select };
    expect(run(op, [Tensor.of('f32', values)], { attributes })[0]!.values()).toEqual([wanted]);
  });

  test.each([
    [0, 1n],
    [1, 4n],
  ])('finds NaN before any number, wherever it stands (%s)', (select, wanted) => {
    const attributes = { axis: 0, keepdims: 0, select_last_index: select };
    const x = Tensor.of('f32', [NEGATIVE_INFINITY, Number.NaN, Number.POSITIVE_INFINITY, 5, Number.NaN, 7]);
    expect(run(op, [x], { attributes })[0]!.values()).toEqual([wanted]);
  });
});
