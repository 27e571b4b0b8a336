import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { at, compute, indicesOf } from '../any-node.ts';
import { random, refusal } from '../one-node.ts';

const flag = fc.integer({ min: 0, max: 1 });
const dims = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 3 });

const SCANS = [
  ['CumSum', 0, (a: number, b: number) => a + b],
  ['CumProd', 1, (a: number, b: number) => a * b],
] as const;

describe.each(SCANS)('%s', (op, none, step) => {
  test('folds everything up to each element, or everything from it on', () => {
    fc.assert(
      fc.property(dims, fc.nat(), flag, flag, fc.nat(99), (shape, pick, exclusive, reverse, seed) => {
        const axis = pick % shape.length;
        const x = random(seed, shape);
        const [y] = compute(op, [x, Tensor.of('i32', axis - shape.length)], { attributes: { exclusive, reverse } });
        for (const index of indicesOf(shape)) {
          const lane = Array.from({ length: shape[axis]! }, (_, i) => at(x, index.with(axis, i)) as number);
          const here = index[axis]!;
          const part = reverse ? lane.slice(here + exclusive).reverse() : lane.slice(0, here + 1 - exclusive);
          expect(at(y!, index)).toBe(part.reduce(step, none));
        }
      }),
    );
  });

  test('is the same from the other end of the reversed list', () => {
    const x = random(1, [7]);
    const back = x.slice({ axis: 0, step: -1 });
    const axis = Tensor.of('i64', 0);
    for (const exclusive of [0, 1]) {
      const forward = compute(op, [x, axis], { attributes: { exclusive } })[0]!;
      const backward = compute(op, [back, axis], { attributes: { exclusive, reverse: 1 } })[0]!;
      expect(backward.slice({ axis: 0, step: -1 }).toArray()).toEqual(forward.toArray());
    }
  });

  test('refuses an axis that is none, or more than one', () => {
    expect(refusal(() => compute(op, [random(1, [2]), Tensor.of('i64', 1)]))).toContain('axis');
    expect(refusal(() => compute(op, [random(1, [2]), Tensor.of('i64', [0, 0])]))).toContain('single value');
  });

  test('gives an empty result for an empty axis', () => {
    expect(compute(op, [Tensor.zeros('f32', [2, 0]), Tensor.of('i64', 1)])[0]!.shape).toEqual([2, 0]);
  });
});

test('running totals of integers wrap, of halves are rounded once', () => {
  const axis = Tensor.of('i64', 0);
  expect(compute('CumSum', [Tensor.of('i32', [2 ** 31 - 1, 1]), axis])[0]!.toArray()).toEqual([
    2 ** 31 - 1,
    -(2 ** 31),
  ]);
  expect(compute('CumSum', [Tensor.of('u64', [2n ** 64n - 1n, 2n]), axis])[0]!.toArray()).toEqual([2n ** 64n - 1n, 1n]);
  expect(compute('CumProd', [Tensor.of('u32', [2 ** 31, 3]), axis])[0]!.toArray()).toEqual([2 ** 31, 2 ** 31]);
  expect(compute('CumProd', [Tensor.of('i64', [2n ** 62n, 3n]), axis])[0]!.toArray()).toEqual([
    2n ** 62n,
    -(2n ** 62n),
  ]);
  expect(compute('CumSum', [Tensor.of('f16', [2048, 1, 1]), axis])[0]!.toArray()).toEqual([2048, 2048, 2050]);
});
