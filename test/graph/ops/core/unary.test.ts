import { expect, test } from 'vitest';
import { Tensor } from '../../../../src/tensor/index.ts';
import { numbers, run } from '../one-node.ts';

test('Round takes halves to the even neighbour', () => {
  const x = Tensor.of('f32', [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 2.4999, -1.7]);
  expect(numbers(run('Round', [x])[0]!).map(value => value + 0)).toEqual([-2, -2, 0, 0, 2, 2, 2, -2]);
});

test.each([
  ['f32', 11],
  ['f32', 13],
  ['i32', 13],
  ['i64', 13],
] as const)('Clip has its upper bound where the bounds cross (%s, opset %s)', (dtype, opset) => {
  const [x, low, high] = [[0, 5, 9], 6, 3].map(values => Tensor.of(dtype, values));
  expect(run('Clip', [x, low, high], { opset })[0]!.values().map(Number)).toEqual([3, 3, 3]);
});

test('Clip-6 has its upper bound where the bounds cross', () => {
  const form = { opset: 6, attributes: { min: 6, max: 3 } };
  expect(numbers(run('Clip', [Tensor.of('f32', [0, 5, 9])], form)[0]!)).toEqual([3, 3, 3]);
});
