/**
 * The cases of the self-test: for each operator that kernels compute, a node with random sizes and numbers.
 * @module
 */
import type { Attribute } from '../../graph/index.ts';
import type { Tensor } from '../../tensor/index.ts';
import { between, type Draw, drawShape, drawTensor, oneOf } from './draw.ts';

/** One node, and the tensors that it is given: those in `weights` are constants. */
export interface Case {
  readonly op: string;
  readonly inputs: readonly (Tensor | undefined)[];
  readonly weights?: readonly number[];
  /** How many outputs it has; 1 where left out. */
  readonly outputs?: number;
  readonly attributes?: Readonly<Record<string, Attribute>>;
  /**
   * How far a result may lie from the reference's: `atol + rtol * |reference|`. Integers are equal. A sum's bound grows with the number of
   * its terms and their size, which the case knows.
   */
  readonly rtol: number;
  readonly atol: number;
}

/** Draws one case. */
export type DrawCase = (draw: Draw) => Case;

/** Half a unit in the last place of float32. */
const U = 2 ** -24;
/** Of functions that are within a few units of the exact value, on both sides. */
const FEW_ULPS = 8 * U;

const f32 = (draw: Draw, shape: readonly number[], least?: number, most?: number): Tensor =>
  drawTensor(draw, 'f32', shape, least, most);

/** A sum of `k` products of numbers below 2: both sides err by at most g * 4k with g = ku / (1 - ku). */
const sumBound = (k: number): { readonly rtol: number; readonly atol: number } => {
  const g = ((k + 1) * U) / (1 - (k + 1) * U);
  return { rtol: FEW_ULPS, atol: 2 * g * 4 * (k + 1) };
};

const unary =
  (op: string, least = -6, most = 6): DrawCase =>
  draw => ({
    op,
    inputs: [f32(draw, drawShape(draw, between(draw, 1, 4), 9), least, most)],
    rtol: FEW_ULPS,
    atol: U / 8,
  });

const binary =
  (op: string, least = -2, most = 2): DrawCase =>
  draw => {
    const shape = drawShape(draw, between(draw, 1, 4), 7);
    const other = shape.map(size => (draw() < 0.3 ? 1 : size)).slice(between(draw, 0, shape.length - 1));
    const pair = [f32(draw, shape, least, most), f32(draw, other, least, most)];
    return { op, inputs: draw() < 0.5 ? pair : pair.toReversed(), rtol: FEW_ULPS, atol: U };
  };

const reduction =
  (op: string): DrawCase =>
  draw => {
    const shape = drawShape(draw, between(draw, 1, 4), 20);
    const axis = between(draw, 0, shape.length - 1);
    const axes = drawTensor(draw, 'i64', [1], axis, axis + 1);
    const keepdims = between(draw, 0, 1);
    return { op, inputs: [f32(draw, shape), axes], weights: [1], attributes: { keepdims }, ...sumBound(shape[axis]!) };
  };

const matMul: DrawCase = draw => {
  const [m, k, n] = [between(draw, 1, 70), between(draw, 1, 90), between(draw, 1, 70)];
  const batch = draw() < 0.4 ? drawShape(draw, between(draw, 1, 2), 3) : [];
  const weights = draw() < 0.6 ? [1] : [];
  const right = weights.length > 0 ? [k, n] : [...batch, k, n];
  return { op: 'MatMul', inputs: [f32(draw, [...batch, m, k]), f32(draw, right)], weights, ...sumBound(k) };
};

const gemm: DrawCase = draw => {
  const [m, k, n] = [between(draw, 1, 50), between(draw, 1, 60), between(draw, 1, 50)];
  const [transA, transB] = [between(draw, 0, 1), between(draw, 0, 1)];
  return {
    op: 'Gemm',
    inputs: [
      f32(draw, transA ? [k, m] : [m, k]),
      f32(draw, transB ? [n, k] : [k, n]),
      oneOf(draw, [undefined, f32(draw, [n]), f32(draw, [m, n])]),
    ],
    weights: draw() < 0.5 ? [1, 2] : [],
    attributes: { transA, transB, ...(draw() < 0.3 && { alpha: 0.5, beta: 2 }) },
    ...sumBound(k),
  };
};

const convolution: DrawCase = draw => {
  const groups = oneOf(draw, [1, 1, 1, 2, 4]);
  const [inC, outC] = [groups * between(draw, 1, 9), groups * between(draw, 1, 9)];
  const kernel = [between(draw, 1, 4), between(draw, 1, 4)];
  const dilations = [between(draw, 1, 2), between(draw, 1, 2)];
  const strides = [between(draw, 1, 2), between(draw, 1, 2)];
  const extent = kernel.map((size, i) => (size - 1) * dilations[i]! + 1);
  const pads = [...extent, ...extent].map(size => between(draw, 0, size - 1));
  const size = extent.map(each => each + between(draw, 0, 14));
  const weights = draw() < 0.8 ? [1, 2] : [];
  return {
    op: 'Conv',
    inputs: [
      f32(draw, [between(draw, 1, 2), inC, ...size]),
      f32(draw, [outC, inC / groups, ...kernel]),
      draw() < 0.5 ? f32(draw, [outC]) : undefined,
    ],
    weights,
    attributes: { group: groups, kernel_shape: kernel, dilations, strides, pads },
    ...sumBound((inC / groups) * kernel[0]! * kernel[1]!),
  };
};

const depthwise: DrawCase = draw => {
  const channels = between(draw, 1, 40);
  const stride = between(draw, 1, 2);
  return {
    op: 'Conv',
    inputs: [f32(draw, [1, channels, between(draw, 3, 20), between(draw, 3, 20)]), f32(draw, [channels, 1, 3, 3])],
    weights: [1],
    attributes: { group: channels, kernel_shape: [3, 3], strides: [stride, stride], pads: [1, 1, 1, 1] },
    ...sumBound(9),
  };
};

const transposed: DrawCase = draw => {
  const groups = oneOf(draw, [1, 1, 2]);
  const [inC, perGroup] = [groups * between(draw, 1, 20), oneOf(draw, [16, between(draw, 1, 9)])];
  const kernel = [between(draw, 1, 4), between(draw, 1, 4)];
  const pads = [...kernel, ...kernel].map(size => between(draw, 0, Math.floor((size - 1) / 2)));
  return {
    op: 'ConvTranspose',
    inputs: [
      f32(draw, [between(draw, 1, 2), inC, between(draw, 1, 9), between(draw, 1, 9)]),
      f32(draw, [inC, perGroup, ...kernel]),
      draw() < 0.5 ? f32(draw, [groups * perGroup]) : undefined,
    ],
    weights: draw() < 0.8 ? [1, 2] : [],
    attributes: { group: groups, strides: [between(draw, 1, 3), between(draw, 1, 3)], pads },
    ...sumBound((inC / groups) * kernel[0]! * kernel[1]!),
  };
};

const pool =
  (op: string): DrawCase =>
  draw => {
    const kernel = [between(draw, 1, 4), between(draw, 1, 4)];
    const pads = [...kernel, ...kernel].map(size => between(draw, 0, size - 1));
    const size = kernel.map(each => each + between(draw, 0, 12));
    return {
      op,
      inputs: [f32(draw, [between(draw, 1, 2), between(draw, 1, 20), ...size])],
      attributes: { kernel_shape: kernel, pads, strides: [between(draw, 1, 3), between(draw, 1, 3)] },
      ...sumBound(16),
    };
  };

const globalPool =
  (op: string): DrawCase =>
  draw => ({ op, inputs: [f32(draw, [1, between(draw, 1, 20), ...drawShape(draw, 2, 12)])], ...sumBound(144) });

const softmax =
  (op: string): DrawCase =>
  draw => {
    const shape = drawShape(draw, between(draw, 1, 4), 40);
    const axis = between(draw, 0, shape.length - 1);
    return { op, inputs: [f32(draw, shape, -9, 9)], attributes: { axis }, rtol: 64 * U, atol: 16 * U };
  };

const layerNormalization: DrawCase = draw => {
  const shape = [...drawShape(draw, 2, 9), between(draw, 2, 90)];
  const n = shape.at(-1)!;
  return {
    op: 'LayerNormalization',
    inputs: [f32(draw, shape), f32(draw, [n]), f32(draw, [n])],
    weights: [1, 2],
    attributes: { axis: -1 },
    // Near-equal rows are divided by a small deviation, which carries the error of the mean.
    rtol: 1e-4,
    atol: 1e-4,
  };
};

const transpose: DrawCase = draw => {
  const shape = drawShape(draw, between(draw, 2, 4), 19);
  const perm = shape.map((_, i) => i);
  for (let i = perm.length - 1; i > 0; i--) {
    const j = between(draw, 0, i);
    [perm[i], perm[j]] = [perm[j]!, perm[i]!];
  }
  const dtype = oneOf(draw, ['f32', 'i64', 'u8', 'f16'] as const);
  return { op: 'Transpose', inputs: [drawTensor(draw, dtype, shape, 0, 100)], attributes: { perm }, rtol: 0, atol: 0 };
};

const concat: DrawCase = draw => {
  const shape = drawShape(draw, between(draw, 1, 4), 7);
  const axis = between(draw, 0, shape.length - 1);
  const inputs = Array.from({ length: between(draw, 1, 4) }, () => f32(draw, shape.with(axis, between(draw, 1, 9))));
  return { op: 'Concat', inputs, attributes: { axis }, rtol: 0, atol: 0 };
};

const gather: DrawCase = draw => {
  const shape = drawShape(draw, between(draw, 1, 3), 12);
  const axis = between(draw, 0, shape.length - 1);
  const indices = drawTensor(
    draw,
    oneOf(draw, ['i64', 'i32'] as const),
    [between(draw, 1, 9)],
    -shape[axis]!,
    shape[axis]!,
  );
  return { op: 'Gather', inputs: [f32(draw, shape), indices], attributes: { axis }, rtol: 0, atol: 0 };
};

const matMulInteger: DrawCase = draw => {
  const [m, k, n] = [between(draw, 1, 40), between(draw, 1, 90), between(draw, 1, 40)];
  const [left, right] = [oneOf(draw, ['u8', 'i8'] as const), oneOf(draw, ['u8', 'i8'] as const)];
  const whole = (dtype: 'u8' | 'i8', shape: readonly number[]): Tensor =>
    drawTensor(draw, dtype, shape, dtype === 'u8' ? 0 : -128, dtype === 'u8' ? 256 : 128);
  return {
    op: 'MatMulInteger',
    inputs: [whole(left, [m, k]), whole(right, [k, n]), whole(left, []), whole(right, [])],
    weights: draw() < 0.7 ? [1, 2, 3] : [2, 3],
    rtol: 0,
    atol: 0,
  };
};

const quantizeLinear: DrawCase = draw => ({
  op: 'QuantizeLinear',
  inputs: [f32(draw, drawShape(draw, 2, 30), -9, 9), f32(draw, [], 0.01, 0.1), drawTensor(draw, 'u8', [], 0, 256)],
  weights: [1, 2],
  rtol: 0,
  atol: 0,
});

const recurrent =
  (op: 'LSTM' | 'GRU', gates: number): DrawCase =>
  draw => {
    const [steps, batch, input, hidden] = [
      between(draw, 1, 6),
      between(draw, 1, 3),
      between(draw, 1, 20),
      between(draw, 1, 20),
    ];
    return {
      op,
      inputs: [
        f32(draw, [steps, batch, input]),
        f32(draw, [1, gates * hidden, input], -0.5, 0.5),
        f32(draw, [1, gates * hidden, hidden], -0.5, 0.5),
        f32(draw, [1, 2 * gates * hidden], -0.5, 0.5),
      ],
      weights: [1, 2, 3],
      outputs: op === 'LSTM' ? 3 : 2,
      attributes: { hidden_size: hidden },
      rtol: 1e-4,
      atol: 1e-5,
    };
  };

/** By the name that a report gives them. */
export const CASES: Readonly<Record<string, DrawCase>> = {
  Relu: unary('Relu'),
  Tanh: unary('Tanh'),
  Sigmoid: unary('Sigmoid'),
  Exp: unary('Exp'),
  Erf: unary('Erf'),
  Sqrt: unary('Sqrt', 0),
  Log: unary('Log', 0.01),
  Neg: unary('Neg'),
  Add: binary('Add'),
  Sub: binary('Sub'),
  Mul: binary('Mul'),
  Div: binary('Div', 0.5, 2),
  Min: binary('Min'),
  Max: binary('Max'),
  Pow: binary('Pow', 0.5, 2),
  ReduceSum: reduction('ReduceSum'),
  ReduceMean: reduction('ReduceMean'),
  ReduceMax: reduction('ReduceMax'),
  Softmax: softmax('Softmax'),
  LogSoftmax: softmax('LogSoftmax'),
  LayerNormalization: layerNormalization,
  MatMul: matMul,
  Gemm: gemm,
  Conv: convolution,
  'Conv, depthwise': depthwise,
  ConvTranspose: transposed,
  MaxPool: pool('MaxPool'),
  AveragePool: pool('AveragePool'),
  GlobalAveragePool: globalPool('GlobalAveragePool'),
  Transpose: transpose,
  Concat: concat,
  Gather: gather,
  MatMulInteger: matMulInteger,
  QuantizeLinear: quantizeLinear,
  LSTM: recurrent('LSTM', 4),
  GRU: recurrent('GRU', 3),
};
