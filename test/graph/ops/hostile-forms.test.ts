import { expect, test } from 'vitest';
import { runNode } from '../../../src/graph/index.ts';
import type { Nested } from '../../../src/tensor/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import { type NodeForm, nodeOf } from './any-node.ts';
import { refusal } from './one-node.ts';

const i64 = (values: Nested): Tensor => Tensor.of('i64', values);
const f32 = (values: Nested): Tensor => Tensor.of('f32', values);
const none = (...shape: readonly number[]): Tensor => Tensor.zeros('f32', shape);

type Row = readonly [what: string, op: string, inputs: readonly (Tensor | undefined)[], form?: NodeForm];

/** Sizes, counts, axes and values at which a kernel might crash, hang or allocate what no machine has. */
const REFUSED: readonly Row[] = [
  ['takes 2^62 of one element', 'TopK', [f32([1]), i64([2n ** 62n])], { outputs: 2 }],
  ['sorts along an axis of a scalar', 'TopK', [f32(1), i64([1])], { outputs: 2 }],
  ['has no k', 'TopK', [f32([1]), i64([])], { outputs: 2 }],
  ['is NaN deep', 'OneHot', [i64([0]), f32(Number.NaN), f32([0, 1])]],
  ['is 2^40 deep', 'OneHot', [i64([0]), i64(2n ** 40n), f32([0, 1])]],
  ['is of an unknown dtype', 'EyeLike', [none(3, 3)], { attributes: { dtype: 99 } }],
  ['picks from a scalar', 'GatherElements', [f32(1), i64(0)]],
  ['writes to a scalar', 'ScatterElements', [f32(1), i64(0), f32(1)]],
  ['has tuples without an axis', 'ScatterND', [f32([1, 2]), i64(0), f32([3])]],
  ['adds up a scalar', 'CumSum', [f32(3), i64(0)]],
  ['has no axis', 'CumSum', [f32([3]), i64([])]],
  [
    'names ten axes',
    'Einsum',
    new Array(10).fill(f32([1, 2])),
    { attributes: { equation: 'a,b,c,d,e,f,g,h,i,j->abcdefghij' } },
  ],
  ['makes 10^12 elements', 'Einsum', new Array(4).fill(none(1000)), { attributes: { equation: 'a,b,c,d->abcd' } }],
  ['names a prototype', 'Einsum', [f32([1])], { attributes: { equation: 'a->__proto__' } }],
  ['repeats 2^40 times', 'Tile', [f32([1]), i64([2n ** 40n])]],
  ['counts to 2^62', 'Range', [i64(0), i64(2n ** 62n), i64(1)]],
  ['counts from NaN', 'Range', [f32(Number.NaN), f32(1), f32(1)]],
  ['counts from nothing', 'Range', [f32([]), f32(1), f32(1)]],
  ['cuts backwards', 'Split', [f32([1, 2, 3]), i64([-1, 4])], { outputs: 2 }],
  ['has more parts than are looked at', 'Split', [none(2, 130), Tensor.zeros('i64', [300])], { outputs: 2 }],
  ['starts at more axes than there are', 'Slice', [f32([1]), ...new Array(2).fill(Tensor.zeros('i64', [300]))]],
  ['pads more sides than there are', 'Pad', [f32([1]), Tensor.zeros('i64', [300])]],
  ['sums more axes than there are', 'ReduceSum', [f32(1), Tensor.zeros('i64', [300])]],
  ['is of two dtypes', 'Min', [f32([1]), Tensor.zeros('u64', [1])], { opset: 6 }],
  ['drops at no ratio', 'Dropout', [f32([1]), f32([]), Tensor.of('bool', 1)]],
  ['has an empty bound', 'Clip', [f32([1]), f32([])]],
  ['has an empty diagonal', 'Trilu', [f32([[1]]), i64([])]],
  ['has a bound of no length', 'NonMaxSuppression', [none(1, 2, 4), none(1, 1, 2), i64([])]],
  [
    'has one row as long as many',
    'StringSplit',
    [Tensor.from('string', [1e5], ['a,'.repeat(1e4), ...new Array(1e5 - 1).fill('')])],
    { outputs: 2, attributes: { delimiter: ',' } },
  ],
];

for (const [what, op, inputs, form] of REFUSED) {
  test(`what ${what} is refused: ${op}`, () => {
    const message = refusal(() => runNode(nodeOf(op, inputs, form), inputs));
    expect(message).toMatch(/^(SHAPE_MISMATCH|UNSUPPORTED_MODEL|INVALID_GRAPH|OUT_OF_MEMORY): /);
  });
}

/** Odd, but each has a meaning. */
const ODD: readonly (readonly [string, string, readonly Tensor[], NodeForm, readonly Nested[]])[] = [
  ['nothing of nothing', 'TopK', [none(0), i64([0])], { outputs: 2 }, [[], []]],
  ['a diagonal beyond 2^52', 'EyeLike', [none(1, 1)], { attributes: { k: -(2 ** 53 - 1) } }, [[[0]]]],
  ['rows without columns', 'Trilu', [none(2, 0), i64(1)], {}, [[[], []]]],
  ['a tuple of no indices', 'ScatterND', [f32([1, 2]), Tensor.zeros('i64', [1, 0]), f32([[3, 4]])], {}, [[3, 4]]],
  ['the unique scalar', 'Unique', [f32(3)], { outputs: 4 }, [[3], [0n], [0n], [1n]]],
  [
    'rows without elements',
    'Unique',
    [none(2, 0)],
    { outputs: 4, attributes: { axis: 0 } },
    [[[]], [0n], [0n, 0n], [2n]],
  ],
  ['a scalar under a condition', 'Compress', [f32(3), Tensor.of('bool', [1])], {}, [[3]]],
  ['no boxes', 'NonMaxSuppression', [none(1, 0, 4), none(1, 1, 0), i64([3])], {}, [[]]],
  ['sequences of no steps', 'ReverseSequence', [none(0, 2), i64([0, 0])], {}, [[]]],
  [
    'an exponent of 2^64 - 1',
    'Pow',
    [i64([3]), Tensor.of('u64', [2n ** 64n - 1n])],
    {},
    [[BigInt.asIntN(64, -6148914691236517205n)]],
  ],
  ['a negative power', 'Pow', [i64([2]), i64([-(2n ** 63n)])], {}, [[0n]]],
  ['a remainder by 0', 'Mod', [i64([2]), i64([0])], {}, [[0n]]],
  ['NaN and more than 2^63 as integers', 'Cast', [f32([Number.NaN, -Infinity])], { attributes: { to: 7 } }, [[0n, 0n]]],
  ['the largest of nothing', 'ReduceMax', [none(2, 0), i64([1])], {}, [[[-Infinity], [-Infinity]]]],
];

test.each(ODD)('%s has a meaning: %s', (_, op, inputs, form, outputs) => {
  const results = runNode(nodeOf(op, inputs, form), inputs);
  expect(results.slice(0, outputs.length).map(tensor => tensor.toArray())).toEqual(outputs);
});
