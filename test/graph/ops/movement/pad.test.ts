import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { indicesOf } from '../any-node.ts';
import { numbers, random, refusal, run } from '../one-node.ts';

/** One row, padded at opset 25. */
const padded = (values: readonly number[], pads: readonly number[], mode: string): readonly number[] =>
  numbers(run('Pad', [Tensor.of('f32', values), Tensor.of('i64', pads)], { attributes: { mode }, opset: 25 })[0]!);

describe('Pad', () => {
  test.each([
    ['constant', [2, 1], [0, 0, 1, 2, 3, 0]],
    ['edge', [2, 1], [1, 1, 1, 2, 3, 3]],
    ['reflect', [2, 1], [3, 2, 1, 2, 3, 2]],
    ['reflect', [5, 0], [2, 1, 2, 3, 2, 1, 2, 3]],
    ['wrap', [2, 4], [2, 3, 1, 2, 3, 1, 2, 3, 1]],
    ['constant', [-1, 2], [2, 3, 0, 0]],
    ['edge', [-1, -1], [2]],
    ['constant', [-3, 0], []],
  ])('%s by %j', (mode, pads, expected) => {
    expect(padded([1, 2, 3], pads, mode)).toEqual(expected);
  });

  test('puts each element where the pads before it say, in any number of dimensions', () => {
    const shapes = fc.array(
      fc.tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: -1, max: 2 }), fc.integer({ min: 0, max: 2 })),
      { maxLength: 4 },
    );
    fc.assert(
      fc.property(shapes, axes => {
        const shape = axes.map(([size]) => size);
        const before = axes.map(([size, begin]) => Math.max(begin, -size));
        const x = random(1, shape);
        const values = numbers(x);
        const pads = Tensor.of('i64', [...before, ...axes.map(([, , end]) => end)]);
        const [y] = run('Pad', [x, pads, Tensor.of('f64', 9)], { opset: 13 });
        const expected = Array.from(indicesOf(y!.shape), index => {
          const from = index.map((i, axis) => i - before[axis]!);
          if (from.some((i, axis) => i < 0 || i >= shape[axis]!)) return 9;
          return values[from.reduce((sum, i, axis) => sum * shape[axis]! + i, 0)];
        });
        expect(numbers(y!)).toEqual(expected);
      }),
    );
  });

  test('pads the axes that are named', () => {
    const inputs = [Tensor.of('i32', [[1, 2]]), Tensor.of('i64', [0, 1]), Tensor.of('i32', 7), Tensor.of('i64', [-1])];
    expect(run('Pad', inputs, { opset: 18 })[0]!.toArray()).toEqual([[1, 2, 7]]);
  });

  test('reads views, and pads text', () => {
    const x = Tensor.of('f32', [
      [1, 2],
      [3, 4],
    ]).transpose();
    expect(run('Pad', [x, Tensor.of('i64', [0, 1, 0, 0])])[0]!.toArray()).toEqual([
      [0, 1, 3],
      [0, 2, 4],
    ]);
    const names = Tensor.of('string', ['a']);
    expect(run('Pad', [names, Tensor.of('i64', [1, 0]), Tensor.of('string', '-')])[0]!.values()).toEqual(['-', 'a']);
  });

  test('took its pads as attributes before', () => {
    const x = Tensor.of('f32', [1]);
    expect(numbers(run('Pad', [x], { opset: 1, attributes: { paddings: [1, 0], value: 5 } })[0]!)).toEqual([5, 1]);
    expect(numbers(run('Pad', [x], { opset: 2, attributes: { pads: [1, 0], value: 5 } })[0]!)).toEqual([5, 1]);
  });

  test('makes nothing of nothing at once, however long the other axis', () => {
    const [y] = run('Pad', [Tensor.zeros('f32', [0, 1]), Tensor.of('i64', [0, 0, 0, 2 ** 31 - 3])]);
    expect(y!.shape).toEqual([0, 2 ** 31 - 2]);
  });

  test.each([
    ['a mode that came later', [1, 0], { mode: 'wrap' }, 18, /mode.*wrap/],
    ['a list of another length', [1, 0, 0], {}, 18, /expected 2 paddings, got 3/],
    ['cutting more than there is', [-4, 0], {}, 18, /cannot be cut by 4/],
    ['a size without bound', [2 ** 40, 0], {}, 18, /cannot exist/],
  ] as const)('refuses %s', (_, pads, attributes, opset, message) => {
    const of = () => run('Pad', [Tensor.of('f32', [1, 2, 3]), Tensor.of('i64', pads)], { attributes, opset });
    expect(refusal(of)).toMatch(message);
  });

  test('refuses to repeat what is not there', () => {
    const of = () => run('Pad', [Tensor.zeros('f32', [0]), Tensor.of('i64', [1, 0])], { attributes: { mode: 'edge' } });
    expect(refusal(of)).toMatch(/nothing to repeat/);
  });
});
