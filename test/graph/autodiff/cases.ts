/**
 * One or more cases for every rule of the registry, each form of its attributes and inputs among them.
 * @module
 */
import { type Attribute, type Graph, GraphBuilder } from '../../../src/graph/index.ts';
import { Tensor } from '../../../src/tensor/index.ts';
import { type Case, type Given, x } from './check.ts';

const i64 = (...values: number[]): Tensor => Tensor.of('i64', values);
const index = (values: number): Tensor => Tensor.of('i64', values);

/** A case of one operator: inputs, attributes, anything else. */
function of(
  op: string,
  inputs: readonly Given[],
  attributes: Readonly<Record<string, Attribute>> = {},
  more: Partial<Case> = {},
): Case {
  return { op, inputs, attributes, ...more };
}

/** Functions of one element, with the range they are smooth on. */
const UNARY: readonly Case[] = [
  ...['Neg', 'Exp', 'Sigmoid', 'Tanh', 'Erf', 'Sin', 'Cos', 'Atan', 'Sinh', 'Cosh', 'Asinh', 'Softplus', 'Mish'].map(
    op => of(op, [x([2, 3])]),
  ),
  ...['Sqrt', 'Log', 'Reciprocal'].map(op => of(op, [x([2, 3], 0.5, 3)])),
  of('Reciprocal', [x([4], -3, -0.5)]),
  ...['Asin', 'Acos', 'Atanh', 'Tan'].map(op => of(op, [x([2, 3], -0.8, 0.8)])),
  of('Acosh', [x([2, 3], 1.5, 3)]),
  ...['Abs', 'Relu', 'Sign', 'Softsign'].map(op => of(op, [x([7], -2, 2, { kinks: [0] })])),
  ...['Floor', 'Ceil'].map(op => of(op, [x([5], -2, 2, { kinks: [-2, -1, 0, 1, 2] })])),
  of('Round', [x([5], -2, 2, { kinks: [-1.5, -0.5, 0.5, 1.5] })]),
  of('LeakyRelu', [x([7], -2, 2, { kinks: [0] })], { alpha: 0.3 }),
  of('LeakyRelu', [x([7], -2, 2, { kinks: [0] })]),
  of('PRelu', [x([2, 3], -2, 2, { kinks: [0] }), x([3])]),
  of('PRelu', [x([2, 3], -2, 2, { kinks: [0] }), x([2, 1])]),
  of('Elu', [x([7], -2, 2, { kinks: [0] })], { alpha: 1.7 }),
  of('Selu', [x([7], -2, 2, { kinks: [0] })]),
  of('Selu', [x([7], -2, 2, { kinks: [0] })], { alpha: 0.7, gamma: 2 }),
  of('Celu', [x([7], -2, 2, { kinks: [0] })], { alpha: 0.6 }),
  of('HardSigmoid', [x([9], -5, 5, { kinks: [-2.5, 2.5] })]),
  of('HardSigmoid', [x([9], -5, 5, { kinks: [-1, 1] })], { alpha: 0.5, beta: 0.5 }),
  of('HardSwish', [x([9], -5, 5, { kinks: [-3, 3] })]),
  of('Swish', [x([5])], { alpha: 1.3 }),
  of('Gelu', [x([5])]),
  of('Gelu', [x([5])], { approximate: 'tanh' }),
  of('ThresholdedRelu', [x([7], -2, 2, { kinks: [0.7] })], { alpha: 0.7 }),
  of('Shrink', [x([9], -2, 2, { kinks: [-0.5, 0.5] })], { lambd: 0.5, bias: 0.3 }),
  of('Clip', [x([9], -2, 2, { kinks: [-1, 0.5] })], { min: -1, max: 0.5 }, { opset: 6 }),
  of('Clip', [x([9], -2, 2, { kinks: [-1] })], { min: -1 }, { opset: 6 }),
  of('Clip', [x([9], -2, 2, { kinks: [-1, 0.5] }), x([], 0, 0, { values: [-1] }), x([], 0, 0, { values: [0.5] })]),
  of('Clip', [x([9], -2, 2, { kinks: [0.5] }), undefined, x([], 0, 0, { values: [0.5] })]),
  of('Clip', [x([9], -2, 2, { kinks: [0.5] }), x([], 0, 0, { values: [0.5] })]),
];

const ARITHMETIC: readonly Case[] = [
  ...['Add', 'Sub', 'Mul', 'Div', 'Pow'].flatMap(op => [
    of(op, [x([2, 3], 0.5, 2), x([2, 3], 0.5, 2)]),
    of(op, [x([2, 3], 0.5, 2), x([3], 0.5, 2)]),
    of(op, [x([3, 1], 0.5, 2), x([2, 1, 4], 0.5, 2)]),
    of(op, [x([], 0.5, 2), x([2, 2], 0.5, 2)]),
    of(op, [x([2, 3, 2], 0.5, 2), x([3], 0.5, 2)], { broadcast: 1, axis: 1 }, { opset: 6 }),
    of(op, [x([2, 3], 0.5, 2), x([2, 3], 0.5, 2)], {}, { opset: 6 }),
  ]),
  of('Pow', [x([5], -2, 2, { kinks: [0] }), Tensor.of('f64', 3)]),
  of('Pow', [x([3], 0, 0, { values: [0, -1, 2] }), Tensor.of('f64', 2)]),
  of('Pow', [x([3], 0, 0, { values: [0, -1, 2] }), Tensor.of('i64', [0, 1, 2])]),
  ...['Min', 'Max'].flatMap(op => [
    of(op, [x([2, 3], -2, 2, { values: [0, 1, 2, 3, 4, 5] }), x([3], 0, 0, { values: [1.5, 2.5, 3.5] })]),
    of(op, [x([4])]),
    of(op, [x([1, 2], 0, 0, { values: [0, 3] }), x([2, 1], 0, 0, { values: [1, 2] }), x([], 0, 0, { values: [1.5] })]),
  ]),
  ...['Sum', 'Mean'].flatMap(op => [of(op, [x([2, 3]), x([3]), x([2, 1])]), of(op, [x([3])])]),
  of('Where', [Tensor.of('bool', [[true], [false]]), x([2, 3]), x([3])]),
  of('Where', [Tensor.of('bool', [true, false]), x([]), x([3, 1])]),
];

const CONSTANT: readonly Case[] = [
  of('Identity', [x([2, 2])]),
  of('Dropout', [x([2, 2])]),
  of(
    'Dropout',
    [x([2, 2]), Tensor.of('f64', 0.5), Tensor.of('bool', false)],
    {},
    {
      needsIntegers: 'whether it trains decides what it computes',
    },
  ),
  of('Cast', [x([2, 2])], { to: 11 }),
  of('CastLike', [x([2, 2]), Tensor.of('f64', 0)]),
  of('EyeLike', [x([2, 2])]),
];

const MATMUL: readonly Case[] = [
  of('MatMul', [x([2, 3]), x([3, 2])]),
  of('MatMul', [x([3]), x([3])]),
  of('MatMul', [x([3]), x([3, 2])]),
  of('MatMul', [x([2, 3]), x([3])]),
  of('MatMul', [x([2, 2, 3]), x([3, 2])]),
  of('MatMul', [x([2, 3]), x([2, 3, 2])]),
  of('MatMul', [x([2, 1, 2, 3]), x([3, 3, 1])]),
  of('MatMul', [x([3]), x([2, 3, 2])]),
  of('MatMul', [x([2, 2, 3]), x([3])]),
  ...[0, 1].flatMap(transA =>
    [0, 1].map(transB =>
      of('Gemm', [x(transA ? [3, 2] : [2, 3]), x(transB ? [4, 3] : [3, 4]), x([4])], {
        alpha: 0.7,
        beta: 1.3,
        transA,
        transB,
      }),
    ),
  ),
  of('Gemm', [x([2, 3]), x([3, 2]), x([2, 1])]),
  of('Gemm', [x([2, 3]), x([3, 2]), x([])]),
  of('Gemm', [x([2, 3]), x([3, 2])]),
];

const SHAPE: readonly Case[] = [
  of('Reshape', [x([2, 3]), i64(3, -1)]),
  of('Reshape', [x([2, 3]), i64(0, 1, 3)]),
  of('Reshape', [x([2, 0]), i64(0, 3)], { allowzero: 1 }),
  of('Flatten', [x([2, 3, 2])], { axis: 2 }),
  of('Transpose', [x([2, 3, 2])], { perm: [1, 2, 0] }),
  of('Transpose', [x([2, 3])]),
  of('Squeeze', [x([1, 2, 1]), i64(0, -1)], {}, { fixed: [0] }),
  of('Squeeze', [x([1, 2, 1])], {}, { fixed: [0] }),
  of('Unsqueeze', [x([2, 3]), i64(0, -1)]),
  of('Unsqueeze', [x([2, 3])], { axes: [1] }, { opset: 11 }),
  of('Expand', [x([3, 1]), i64(2, 1, 4)]),
  of('Expand', [x([2, 3]), i64(1)]),
];

const REDUCTION: readonly Case[] = [
  'ReduceSum',
  'ReduceMean',
  'ReduceMax',
  'ReduceMin',
  'ReduceProd',
  'ReduceL1',
  'ReduceL2',
  'ReduceSumSquare',
  'ReduceLogSum',
  'ReduceLogSumExp',
].flatMap(op => {
  const a = x([2, 3, 2], 0.5, 2, { distinct: true });
  return [
    of(op, [a, i64(1)]),
    of(op, [a, i64(-1, 0)], { keepdims: 0 }),
    of(op, [a], { keepdims: 0 }),
    of(op, [a]),
    of(op, [a], { noop_with_empty_axes: 1 }),
    of(op, [a], { noop_with_empty_axes: 1, keepdims: 0 }),
    of(op, [a], { axes: [-2], keepdims: 0 }, { opset: 11 }),
    of(op, [x([], 0.5, 2)]),
    of(op, [x([2, 2], -2, -0.5, { distinct: true }), i64(0)].slice(0, op === 'ReduceLogSum' ? 0 : 2)),
  ].filter(({ inputs }) => inputs.length > 0);
});

const PRODUCTS: readonly Case[] = [
  of(
    'ReduceProd',
    [x([3, 3], 0, 0, { values: [0, 2, 3, 0, 0, 2, 1, 2, 3] }), i64(1)],
    {},
    {
      once: 'beside zeros the gradient of the gradient is that of the branch taken, not of the product',
    },
  ),
  of('ReduceL2', [x([2, 2], 0.5, 1)], {}),
  of('ReduceL2', [x([2, 2], 0, 0, { values: [0, 0, 3, 4] }), i64(1)], {}, { once: 'a norm has a kink at 0' }),
];

const NORMALISATION: readonly Case[] = [
  ...['Softmax', 'LogSoftmax'].flatMap(op => [
    of(op, [x([2, 3])]),
    of(op, [x([2, 3, 2])], { axis: 1 }),
    of(op, [x([2, 3, 2])], { axis: 1 }, { opset: 11 }),
    of(op, [x([])]),
  ]),
  of('Hardmax', [x([2, 3], -2, 2, { distinct: true })]),
  of('BatchNormalization', [x([2, 3, 2]), x([3]), x([3]), x([3]), x([3], 0.5, 2)], { epsilon: 1e-2 }),
  of('BatchNormalization', [x([2, 3]), x([3]), x([3]), x([3]), x([3], 0.5, 2)], {}, { opset: 9 }),
  of(
    'BatchNormalization',
    [x([4, 2, 2]), x([2]), x([2]), x([2]), x([2], 0.5, 2)],
    { training_mode: 1 },
    { outputs: 3 },
  ),
  ...[14, 15].flatMap(opset => [
    of(
      'BatchNormalization',
      [x([4, 2, 2]), x([2]), x([2]), x([2]), x([2], 0.5, 2)],
      { training_mode: 1, momentum: 0.7 },
      { outputs: 3, opset },
    ),
    of('BatchNormalization', [x([4, 2, 2]), x([2]), x([2]), x([2]), x([2], 0.5, 2)], {}, { opset }),
    of('BatchNormalization', [x([4, 2, 2]), x([2]), x([2]), x([2]), x([2], 0.5, 2)], { training_mode: 1 }, { opset }),
  ]),
  // Before opset 14 the outputs tell, and before 7 an attribute, whether it trains.
  of('BatchNormalization', [x([4, 2, 2]), x([2]), x([2]), x([2]), x([2], 0.5, 2)], {}, { outputs: 5, opset: 9 }),
  of(
    'BatchNormalization',
    [x([4, 2, 2]), x([2, 2]), x([2, 2]), x([2, 2]), x([2, 2], 0.5, 2)],
    { spatial: 0 },
    { outputs: 5, opset: 7 },
  ),
  of('BatchNormalization', [x([4, 2, 2]), x([2]), x([2]), x([2]), x([2], 0.5, 2)], {}, { outputs: 5, opset: 6 }),
  of('BatchNormalization', [x([4, 2]), x([2]), x([2]), x([2]), x([2], 0.5, 2)], { is_test: 1 }, { opset: 6 }),
  of('LayerNormalization', [x([2, 4]), x([4]), x([4])], { epsilon: 1e-2 }),
  of('LayerNormalization', [x([2, 2, 3]), x([2, 3])], { axis: 1, epsilon: 1e-2 }),
  of('LayerNormalization', [x([2, 4]), x([4]), x([4])], { stash_type: 11, epsilon: 1e-2 }, { outputs: 3 }),
  of('RMSNormalization', [x([2, 4]), x([4])], { epsilon: 1e-2 }),
  of('RMSNormalization', [x([2, 2, 3]), x([3])], { axis: 1, epsilon: 1e-2 }),
  of('SimplifiedLayerNormalization', [x([2, 4]), x([4])], { epsilon: 1e-2 }),
  of('InstanceNormalization', [x([2, 3, 4]), x([3]), x([3])], { epsilon: 1e-2 }),
  of('LpNormalization', [x([2, 3], 0.5, 2)]),
  of('LpNormalization', [x([2, 3], -2, -0.5)], { p: 1, axis: 0 }),
  of('MeanVarianceNormalization', [x([2, 3, 2, 2])]),
  of('MeanVarianceNormalization', [x([2, 3, 4])], { axes: [-1] }),
  of('MeanVarianceNormalization', [x([2, 3, 4])], { across_channels: 1 }, { opset: 8 }),
  of('MeanVarianceNormalization', [x([2, 3, 4])], { normalize_variance: 0 }, { opset: 8 }),
  of('GroupNormalization', [x([2, 4, 3]), x([4]), x([4])], { num_groups: 2, epsilon: 1e-2 }),
  of('GroupNormalization', [x([2, 4, 3]), x([2]), x([2])], { num_groups: 2, epsilon: 1e-2 }, { opset: 18 }),
];

const CONVOLUTION: readonly Case[] = [
  of('Conv', [x([2, 2, 5]), x([3, 2, 3]), x([3])], { pads: [1, 0], strides: [2] }, { fixed: [1] }),
  of('Conv', [x([1, 2, 4, 4]), x([2, 2, 2, 3])], { dilations: [2, 1] }, { fixed: [1] }),
  of('Conv', [x([1, 4, 3, 3]), x([4, 2, 2, 2]), x([4])], { group: 2, pads: [1, 0, 1, 1] }, { fixed: [1] }),
  of('Conv', [x([1, 2, 5, 4]), x([1, 2, 3, 2])], { auto_pad: 'SAME_UPPER', strides: [2, 3] }, { fixed: [1] }),
  of('Conv', [x([1, 1, 5, 4]), x([1, 1, 2, 2])], { auto_pad: 'SAME_LOWER' }, { fixed: [1] }),
  of('Conv', [x([1, 1, 3, 2, 3]), x([1, 1, 2, 2, 2])], { pads: [0, 1, 0, 0, 0, 1] }, { fixed: [1] }),
  of('ConvTranspose', [x([2, 2, 3]), x([2, 3, 3]), x([3])], { strides: [2], pads: [1, 0] }, { fixed: [1] }),
  of('ConvTranspose', [x([1, 2, 2, 3]), x([2, 1, 2, 2])], { strides: [3, 2], output_padding: [2, 1] }, { fixed: [1] }),
  of('ConvTranspose', [x([1, 4, 2, 2]), x([4, 1, 2, 3])], { group: 2, dilations: [2, 1] }, { fixed: [1] }),
  of(
    'ConvTranspose',
    [x([1, 1, 3, 2]), x([1, 2, 3, 3])],
    { strides: [2, 3], auto_pad: 'SAME_UPPER' },
    { fixed: [0, 1] },
  ),
  of('ConvTranspose', [x([1, 1, 3, 2]), x([1, 2, 2, 2])], { strides: [2, 2], output_shape: [7, 3] }, { fixed: [0, 1] }),
  of('ConvTranspose', [x([1, 1, 3]), x([1, 1, 2])], { dilations: [3], output_padding: [2] }, { fixed: [0, 1] }),
];

const window = { kernel_shape: [3, 2], strides: [2, 1], pads: [1, 0, 1, 1] };
const POOLING: readonly Case[] = [
  of('MaxPool', [x([1, 2, 4, 3], -3, 3, { distinct: true })], { kernel_shape: [2, 2] }),
  of('MaxPool', [x([2, 1, 5, 3], -3, 3, { distinct: true })], { ...window, ceil_mode: 1 }),
  of('MaxPool', [x([1, 2, 6], -3, 3, { distinct: true })], { kernel_shape: [2], dilations: [2] }),
  of(
    'MaxPool',
    [x([1, 2, 3, 3], -3, 3, { distinct: true })],
    { kernel_shape: [2, 2], storage_order: 1 },
    {
      outputs: 2,
      weigh: [0],
    },
  ),
  of('MaxPool', [x([1, 2, 4], -3, 3, { distinct: true })], { kernel_shape: [2] }, { outputs: 2, weigh: [0] }),
  of('MaxPool', [x([1, 2, 4], -3, 3, { distinct: true })], { kernel_shape: [2], auto_pad: 'SAME_UPPER' }, { opset: 1 }),
  of('AveragePool', [x([1, 2, 4, 3])], { kernel_shape: [2, 2] }),
  of('AveragePool', [x([2, 1, 5, 3])], window),
  of('AveragePool', [x([2, 1, 5, 3])], { ...window, count_include_pad: 1 }),
  of('AveragePool', [x([2, 1, 6, 3])], { ...window, count_include_pad: 1, ceil_mode: 1 }),
  of('AveragePool', [x([2, 1, 6, 3])], { ...window, ceil_mode: 1 }),
  of('AveragePool', [x([1, 1, 7])], { kernel_shape: [3], dilations: [2], auto_pad: 'SAME_LOWER' }),
  of('AveragePool', [x([1, 1, 2, 3, 2])], { kernel_shape: [2, 2, 2] }),
  of('GlobalAveragePool', [x([2, 2, 3, 2])]),
  of('GlobalMaxPool', [x([2, 2, 3, 2], -3, 3, { distinct: true })]),
];

const MOVEMENT: readonly Case[] = [
  of('Concat', [x([2, 1]), x([2, 3]), x([2, 2])], { axis: -1 }),
  of('Concat', [x([2])], { axis: 0 }),
  of('Split', [x([5, 2]), i64(2, 3)], {}, { outputs: 2 }),
  of('Split', [x([5, 2]), i64(2, 1, 2)], {}, { outputs: 3, weigh: [0, 2] }),
  of('Split', [x([2, 5])], { axis: 1, num_outputs: 2 }, { outputs: 2 }),
  of('Split', [x([2, 4])], { axis: 1, split: [1, 3] }, { outputs: 2, opset: 11 }),
  of('Slice', [x([5, 4]), i64(1), i64(-1)]),
  of('Slice', [x([5, 4]), i64(-1, 3), i64(-6, 0), i64(0, -1), i64(-2, -1)]),
  of('Slice', [x([5, 4]), i64(1, 0), i64(100, 3), i64(1, 0), i64(2, 1)]),
  of('Slice', [x([5, 4])], { starts: [1, -3], ends: [4, 100], axes: [1, 0] }, { opset: 9 }),
  of('Gather', [
    x([4, 3]),
    Tensor.of('i64', [
      [0, 3],
      [-1, 0],
    ]),
  ]),
  of('Gather', [x([2, 4, 3]), Tensor.of('i32', [2, 2, 0])], { axis: 1 }),
  of('Gather', [x([2, 3]), index(-1)], { axis: -1 }),
  of(
    'GatherElements',
    [
      x([3, 3]),
      Tensor.of('i64', [
        [0, 1],
        [2, 0],
      ]),
    ],
    { axis: 1 },
  ),
  of('GatherElements', [
    x([3, 2]),
    Tensor.of('i64', [
      [0, -1],
      [0, 0],
    ]),
  ]),
  of('GatherND', [
    x([2, 3, 2]),
    Tensor.of('i64', [
      [0, 1],
      [1, -1],
      [0, 1],
    ]),
  ]),
  of('GatherND', [x([2, 3, 2]), Tensor.of('i64', [[[1]], [[0]]])], { batch_dims: 1 }),
  of(
    'GatherND',
    [
      x([2, 2, 3]),
      Tensor.of('i64', [
        [[0], [2]],
        [[1], [1]],
      ]),
    ],
    { batch_dims: 2 },
  ),
  of('Scatter', [x([3]), i64(2, 0), x([2])], {}, { opset: 9 }),
  of(
    'ScatterElements',
    [
      x([3, 3]),
      Tensor.of('i64', [
        [0, 1],
        [2, 0],
      ]),
      x([2, 2]),
    ],
    { axis: 1 },
  ),
  of('ScatterElements', [x([3]), i64(1, 1, -1), x([3])], { reduction: 'add' }),
  of('ScatterND', [x([4, 2]), Tensor.of('i64', [[2], [0]]), x([2, 2])]),
  of(
    'ScatterND',
    [
      x([4, 2]),
      Tensor.of('i64', [
        [2, 1],
        [2, 1],
      ]),
      x([2]),
    ],
    { reduction: 'add' },
  ),
  of('Pad', [x([2, 3]), i64(1, 0, 0, 2)]),
  of('Pad', [x([2, 3]), i64(1, -1, 0, 2), x([])]),
  of('Pad', [x([2, 3]), i64(1, 2), x([]), i64(-1)]),
  of('Pad', [x([2, 3])], { pads: [1, 0, 0, 2], value: 3 }, { opset: 10 }),
  of('Pad', [x([2, 3])], { paddings: [1, 0, 0, 2] }, { opset: 1 }),
  of('Pad', [x([3, 3]), i64(1, 2, 0, 1)], { mode: 'reflect' }),
  of('Pad', [x([3, 2]), i64(1, 2, 0, 1)], { mode: 'edge' }),
  of('Pad', [x([3, 2]), i64(2, 1), undefined, i64(0)], { mode: 'wrap' }, { needsIntegers: 'axes that wrap' }),
  of('Pad', [x([2, 3]), i64(1, 2), undefined, i64(-1)], { mode: 'edge' }, { needsIntegers: 'axes that repeat' }),
  of('Tile', [x([2, 3]), i64(3, 2)]),
  of('Tile', [x([2, 3]), i64(1, 2)]),
  ...[0, 1].flatMap(exclusive => [0, 1].map(reverse => of('CumSum', [x([2, 3]), index(-1)], { exclusive, reverse }))),
  of('Trilu', [x([3, 3])]),
  of('Trilu', [x([2, 3, 4]), index(1)], { upper: 0 }),
  of('Compress', [x([3, 2]), Tensor.of('bool', [true, false, true])], { axis: 0 }),
  of('Compress', [x([3, 2]), Tensor.of('bool', [false, true, false, true])]),
  of('ReverseSequence', [x([3, 2, 2]), i64(2, 3)]),
  of('ReverseSequence', [x([2, 3]), i64(1, 3)], { batch_axis: 0, time_axis: 1 }),
  of('DepthToSpace', [x([1, 4, 1, 2])], { blocksize: 2 }),
  of('SpaceToDepth', [x([1, 1, 2, 4])], { blocksize: 2 }),
  of('TopK', [x([2, 5], -2, 2, { distinct: true }), i64(3)], {}, { outputs: 2, weigh: [0] }),
  of('TopK', [x([4, 2], -2, 2, { distinct: true }), i64(2)], { axis: 0, largest: 0 }, { outputs: 2, weigh: [0] }),
];

const convolution = { kernel_shape: [2, 3], strides: [2, 1], pads: [1, 0, 0, 1], dilations: [1, 1], group: 2 };
const OWN: readonly Case[] = [
  of('ConvInputGradient', [x([1, 2, 2, 3]), x([2, 1, 2, 3]), i64(1, 2, 4, 4)], convolution, { fixed: [1] }),
  of('ConvWeightGradient', [x([1, 2, 4, 4]), x([1, 2, 2, 3])], convolution),
  of('AveragePoolGradient', [x([1, 1, 2, 3]), i64(1, 1, 4, 3)], {
    kernel_shape: [3, 2],
    strides: [2, 1],
    pads: [1, 0, 0, 1],
  }),
  of('SliceGradient', [x([2, 2]), i64(4, 2), i64(3), i64(-100), i64(0), i64(-2)]),
].map(given => ({ ...given, domain: 'cloister', opset: 1 }));

/** The body of a chain: `tanh(x) * y + 3`. */
function chainBody(): Graph {
  const b = new GraphBuilder('body');
  const [first, second] = ['a', 'b'].map(name => b.input(name, { dtype: 'f64', shape: [] }));
  const three = b.constant('three', Tensor.of('f64', 3));
  const product = b.node({ op: 'Mul', inputs: [b.node({ op: 'Tanh', inputs: [first] })[0], second] })[0];
  b.output(b.node({ op: 'Add', inputs: [product, three] })[0]!);
  return b.build();
}

const CHAIN: readonly Case[] = [
  of('Chain', [x([2, 3]), x([3])], { body: chainBody() }, { domain: 'cloister', opset: 1 }),
];

/** One of two branches: `tanh(x) * y` of the same shape as x and y, or `x + x` alone, with `x * 2` as a second output of both. */
function branch(product: boolean): Graph {
  const b = new GraphBuilder('branch');
  const [first, second] = ['a', 'b'].map(name => b.input(name, { dtype: 'f64', shape: ['K', 3] }));
  const one = product
    ? b.node({ op: 'Mul', inputs: [b.node({ op: 'Tanh', inputs: [first] })[0], second] })[0]!
    : b.node({ op: 'Add', inputs: [first, first] })[0]!;
  b.output(one);
  b.output(b.node({ op: 'Mul', inputs: [first, b.constant('two', Tensor.of('f64', product ? 2 : 3))] })[0]!);
  return b.build();
}

const branches = { then_branch: branch(true), else_branch: branch(false) };
const CONTROL: readonly Case[] = [
  of('If', [Tensor.of('bool', true), x([2, 3]), x([2, 3])], branches, { outputs: 2 }),
  of('If', [Tensor.of('bool', false), x([2, 3]), x([2, 3])], branches, { outputs: 2 }),
];

const einsum = (equation: string, ...shapes: readonly (readonly number[])[]): Case =>
  of(
    'Einsum',
    shapes.map(shape => x(shape)),
    { equation },
  );

const EINSUM: readonly Case[] = [
  einsum('ij,jk->ik', [2, 3], [3, 2]),
  einsum('ij,jk', [2, 3], [3, 2]),
  einsum('ij->j', [2, 3]),
  einsum('ij->', [2, 3]),
  einsum('ij->ji', [2, 3]),
  einsum('ii->i', [3, 3]),
  einsum('ii', [3, 3]),
  einsum('iij,jk->ik', [2, 2, 3], [3, 2]),
  einsum('bij,bjk->bik', [2, 2, 3], [2, 3, 2]),
  einsum('i,j->ij', [2], [3]),
  einsum('i,i,ij->', [2], [2], [2, 3]),
  einsum('...ij,...jk->...ik', [2, 2, 3], [3, 2]),
  einsum('...i->...', [2, 2, 3]),
  einsum('a...,b...->...ab', [2, 3], [2, 1]),
  einsum('ij,kj->ik', [2, 1], [2, 3]),
  einsum('kj,ji', [2, 3], [3, 4]),
  einsum('...kj,...ji', [2, 2, 3], [3, 1]),
  einsum(' ij, jk -> ik ', [2, 3], [3, 2]),
  einsum('...i,...i->...', [2, 3, 2], [3, 2]),
];

const heads = { q_num_heads: 2, kv_num_heads: 2 };
const ATTENTION: readonly Case[] = [
  of('Attention', [x([1, 2, 3, 2]), x([1, 2, 4, 2]), x([1, 2, 4, 3])]),
  of('Attention', [x([2, 2, 4]), x([2, 3, 4]), x([2, 3, 6])], { ...heads, scale: 0.7 }),
  of('Attention', [x([1, 4, 2, 2]), x([1, 2, 3, 2]), x([1, 2, 3, 2])]),
  of('Attention', [x([1, 2, 8]), x([1, 3, 4]), x([1, 3, 4])], { q_num_heads: 4, kv_num_heads: 2 }),
  of('Attention', [x([1, 1, 3, 2]), x([1, 1, 3, 2]), x([1, 1, 3, 2])], { is_causal: 1, softcap: 2 }),
  of('Attention', [x([1, 1, 2, 2]), x([1, 1, 3, 2]), x([1, 1, 3, 2]), x([2, 3])], {}, { opset: 23 }),
  of(
    'Attention',
    [
      x([1, 1, 2, 2]),
      x([1, 1, 3, 2]),
      x([1, 1, 3, 2]),
      Tensor.of('bool', [
        [true, false, true],
        [false, false, false],
      ]),
    ],
    {},
    { opset: 23 },
  ),
  ...[0, 1, 2, 3].map(mode =>
    of(
      'Attention',
      [x([1, 1, 2, 2]), x([1, 1, 2, 2]), x([1, 1, 2, 2]), x([2, 3]), x([1, 1, 1, 2]), x([1, 1, 1, 2])],
      { qk_matmul_output_mode: mode, softcap: 3 },
      { outputs: 4, opset: 23 },
    ),
  ),
  of(
    'Attention',
    [x([1, 1, 2, 2]), x([1, 1, 2, 2]), x([1, 1, 2, 2]), undefined, x([1, 1, 2, 2]), x([1, 1, 2, 2])],
    { is_causal: 1 },
    { outputs: 3 },
  ),
  of(
    'Attention',
    [x([1, 1, 2, 2]), x([1, 1, 2, 2]), x([1, 1, 2, 2]), undefined, x([1, 1, 2, 2]), x([1, 1, 2, 2]), i64(3)],
    { is_causal: 1 },
    { outputs: 3 },
  ),
  of('Attention', [x([2, 1, 2, 2]), x([2, 1, 4, 2]), x([2, 1, 4, 2]), undefined, undefined, undefined, i64(3, 2)], {
    is_causal: 1,
  }),
  of(
    'RotaryEmbedding',
    [
      x([1, 2, 3, 4]),
      Tensor.of('f64', [
        [1, 0.5],
        [0.2, 0.3],
        [0.1, -0.4],
      ]),
      Tensor.of('f64', [
        [0, 0.5],
        [0.7, -0.3],
        [0.6, 0.4],
      ]),
      Tensor.of('i64', [[2, 0, 1]]),
    ],
    {},
    { fixed: [0] },
  ),
  of(
    'RotaryEmbedding',
    [x([1, 2, 8]), Tensor.of('f64', [[[1], [0.2]]]), Tensor.of('f64', [[[0.5], [-0.3]]])],
    { num_heads: 2, rotary_embedding_dim: 2, interleaved: 1 },
    { fixed: [0] },
  ),
];

const LABELS = Tensor.of('i64', [
  [2n, 0n],
  [1n, 1n],
]);

const LOSSES: readonly Case[] = ['NegativeLogLikelihoodLoss', 'SoftmaxCrossEntropyLoss'].flatMap(op => [
  ...['none', 'sum', 'mean'].flatMap(reduction => [
    of(op, [x([2, 3, 2]), LABELS], { reduction }),
    of(op, [x([2, 3, 2]), LABELS, x([3], 0.2, 1)], { reduction, ignore_index: 1 }),
  ]),
  of(op, [x([3, 4]), i64(3, -5, 0), x([4], 0.2, 1)], { ignore_index: -5 }),
  of(op, [x([2, 2]), Tensor.of('i32', [1, 0])], {}, { opset: 12 }),
  ...(op.startsWith('Softmax') ? [of(op, [x([2, 3]), i64(2, 0), x([3], 0.2, 1)], {}, { outputs: 2 })] : []),
]);

export const CASES: readonly Case[] = [
  ...ATTENTION,
  ...CHAIN,
  ...CONTROL,
  ...EINSUM,
  ...LOSSES,
  ...UNARY,
  ...ARITHMETIC,
  ...CONSTANT,
  ...MATMUL,
  ...SHAPE,
  ...REDUCTION,
  ...PRODUCTS,
  ...NORMALISATION,
  ...CONVOLUTION,
  ...POOLING,
  ...MOVEMENT,
  ...OWN,
];
