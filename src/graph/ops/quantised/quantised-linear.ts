/**
 * Products of quantised matrices: MatMulInteger and QLinearMatMul, and of com.microsoft DynamicQuantizeMatMul,
 * MatMulIntegerToFloat and QGemm.
 * @module
 */
import { broadcastShapes, formatShape, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { type IntegerMatrix, integerProduct } from '../linear/integer-gemm.ts';
import { dense, type Numbers } from '../loops.ts';
import {
  define,
  defineIn,
  float,
  from,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
} from '../operator.ts';
import { BYTES, centred, expectSingle, quantisedRange, saturate } from './quantisation.ts';
import { quantiseDynamically } from './quantise.ts';

/** NumPy's matmul: vectors are promoted to matrices, leading axes broadcast. */
function productShape(c: InferContext, a: readonly Dim[], b: readonly Dim[]): readonly Dim[] {
  if (a.length === 0 || b.length === 0) {
    c.fail(`expected at least 1 dimension, got ${formatShape(a)} and ${formatShape(b)}`);
  }
  const inner = b.length === 1 ? b[0]! : b.at(-2)!;
  if (c.differ(a.at(-1)!, inner)) {
    c.fail(`${formatShape(a)} x ${formatShape(b)}: inner sizes ${a.at(-1)} and ${inner} differ`);
  }
  const batch = c.broadcast(a.slice(0, -2), b.slice(0, -2));
  return [...batch, ...(a.length > 1 ? [a.at(-2)!] : []), ...(b.length > 1 ? [b.at(-1)!] : [])];
}

/**
 * Parameters (scales or zero points) of a matrix: one for all of it, a list of one per row (or column), or of the rank of the
 * matrix with size 1 along its rows (or columns).
 */
export function checkParameters(c: InferContext, index: number, matrix: readonly Dim[], side: 'row' | 'column'): void {
  const shape = c.inputs[index]?.shape;
  if (!shape || shape.length === 0 || (shape.length === 1 && shape[0] === 1)) return;
  const lines = side === 'row' ? matrix.at(-2) : matrix.at(-1);
  const list = matrix.length >= 2 && shape.length === 1 && !c.differ(shape[0]!, lines ?? 1);
  const expected = side === 'row' ? [...matrix.slice(0, -1), 1] : [...matrix.slice(0, -2), 1, matrix.at(-1)!];
  const nested =
    matrix.length >= 2 &&
    shape.length === matrix.length &&
    shape.every((dim, i) => dim === 1 || !c.differ(dim, expected[i]!));
  if (!list && !nested) {
    c.fail(
      `input ${index}: expected one value or one per ${side} of ${formatShape(matrix)}, got ${formatShape(shape)}`,
    );
  }
}

/** Parameters with the axes of a matrix of `rank`, so that they broadcast over it. */
function alongMatrix(parameters: Tensor, rank: number, side: 'row' | 'column'): Tensor {
  if (parameters.size === 1) return parameters.reshape(new Array<number>(rank).fill(1));
  const list = parameters.shape.length === 1;
  if (!list) return parameters;
  const lead = new Array<number>(Math.max(rank - 2, 0)).fill(1);
  return parameters.reshape(side === 'row' ? [...lead, parameters.size, 1] : [...lead, 1, parameters.size]);
}

/** The distances of the elements of a matrix from its zero points, dense. */
function centredMatrix(x: Tensor, zeros: Tensor | undefined, side: 'row' | 'column'): Int16Array {
  if (!zeros || zeros.size === 1) return centred(x, zeros ? Number(dense(zeros)[0]!) : 0);
  const each = dense(alongMatrix(zeros, x.shape.length, side).expand(x.shape));
  const source = dense(x);
  const out = new Int16Array(source.length);
  for (let i = 0; i < out.length; i++) out[i] = source[i]! - each[i]!;
  return out;
}

/** A product of matrices, as whole numbers. */
export interface WholeProduct {
  /** The axes before the matrices, and the size of a matrix. */
  readonly batch: readonly number[];
  readonly m: number;
  readonly n: number;
  readonly sums: Int32Array;
}

/** The product of two integer tensors of the ranks that matmul takes, with their zero points taken off. */
export function wholeProduct(
  a: Tensor,
  aZeros: Tensor | undefined,
  b: Tensor,
  bZeros: Tensor | undefined,
): WholeProduct {
  const left = a.shape.length === 1 ? a.unsqueeze([0]) : a;
  const right = b.shape.length === 1 ? b.unsqueeze([1]) : b;
  const [m, k, n] = [left.shape.at(-2)!, left.shape.at(-1)!, right.shape.at(-1)!];
  const batch = broadcastShapes(left.shape.slice(0, -2), right.shape.slice(0, -2));
  const count = batch.reduce((size, dim) => size * dim, 1);
  const sums = Tensor.zeros('i32', [count, m, n]).data;
  const x = Tensor.from('i16', left.shape, centredMatrix(left, aZeros, 'row')).expand([...batch, m, k]);
  const y = Tensor.from('i16', right.shape, centredMatrix(right, bZeros, 'column')).expand([...batch, k, n]);
  if (sums.length > 0) {
    for (let i = 0; i < count; i++) {
      integerProduct(m, n, k, matrixAt(x, batch, i), matrixAt(y, batch, i), sums, i * m * n);
    }
  }
  return { batch, m, n, sums };
}

/** The `index`-th matrix of a batch. */
function matrixAt(tensor: Tensor<'i16'>, batch: readonly number[], index: number): IntegerMatrix {
  let offset = tensor.offset;
  let rest = index;
  for (let axis = batch.length - 1; axis >= 0; axis--) {
    offset += (rest % batch[axis]!) * tensor.strides[axis]!;
    rest = Math.floor(rest / batch[axis]!);
  }
  return { data: tensor.data, offset, rowStride: tensor.strides.at(-2)!, columnStride: tensor.strides.at(-1)! };
}

/** Parameters for each row (or column) of each matrix of a product: dense `batch x m` (or `batch x n`). */
function eachLine(parameters: Tensor, product: WholeProduct, side: 'row' | 'column'): Numbers {
  const { batch, m, n } = product;
  if (product.sums.length === 0) return new Float32Array(0);
  const lines = side === 'row' ? [...batch, m, 1] : [...batch, 1, n];
  return dense(alongMatrix(parameters, lines.length, side).expand(lines));
}

/** Calls `visit` with each element of a product, in order: where it is, its row in the batch, and its column in the batch. */
function eachElement(product: WholeProduct, visit: (at: number, row: number, column: number) => void): void {
  const { m, n, sums } = product;
  if (sums.length === 0) return;
  for (let i = 0, at = 0, row = 0; at < sums.length; i++) {
    for (let r = 0; r < m; r++, row++) {
      for (let column = i * n; column < (i + 1) * n; column++, at++) visit(at, row, column);
    }
  }
}

const matMulInteger: OperatorVersion = {
  since: 10,
  inputs: [2, 4],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, BYTES);
    c.expect(1, BYTES);
    c.sameDType(0, 2);
    c.sameDType(1, 3);
    const [a, b] = [c.input(0).shape, c.input(1).shape];
    const shape = productShape(c, a, b);
    checkParameters(c, 2, a, 'row');
    checkParameters(c, 3, b, 'column');
    return [{ dtype: 'i32', shape }];
  },
  run: c => {
    const { sums } = wholeProduct(c.operand(0), c.tensors[2], c.operand(1), c.tensors[3]);
    return [Tensor.from('i32', c.shape(), sums)];
  },
};

function inferQLinearMatMul(c: InferContext): readonly Facts[] {
  const [a, b] = [c.input(0).shape, c.input(3).shape];
  for (const [tensor, scale, zero] of [
    [0, 1, 2],
    [3, 4, 5],
  ] as const) {
    c.expect(tensor, BYTES);
    c.expect(scale, c.node.opset >= 21 ? ['f32', 'f16', 'bf16'] : ['f32']);
    c.sameDType(tensor, zero);
  }
  c.expect(6, c.node.opset >= 21 ? ['f32', 'f16', 'bf16'] : ['f32']);
  c.expect(7, BYTES);
  const shape = productShape(c, a, b);
  for (const index of [1, 2]) checkParameters(c, index, a, 'row');
  for (const index of [4, 5]) checkParameters(c, index, b, 'column');
  for (const index of [6, 7]) checkParameters(c, index, a.length > 1 && b.length > 1 ? shape : a, 'row');
  return [{ dtype: c.input(7).dtype, shape }];
}

function runQLinearMatMul(c: RunContext): readonly Tensor[] {
  const product = wholeProduct(c.operand(0), c.operand(2), c.operand(3), c.operand(5));
  const [rows, columns] = [eachLine(c.operand(1), product, 'row'), eachLine(c.operand(4), product, 'column')];
  const [scales, zeros] = [eachLine(c.operand(6), product, 'row'), eachLine(c.operand(7), product, 'row')];
  const out = c.allocate();
  const to = out.data as Numbers;
  const [least, most] = quantisedRange(out.dtype);
  eachElement(product, (at, row, column) => {
    const factor = Math.fround(Math.fround(rows[row]! * columns[column]!) / scales[row]!);
    to[at] = saturate(Math.fround(Math.fround(product.sums[at]!) * factor), zeros[row]!, least, most);
  });
  return [out];
}

const qLinearMatMul: OperatorVersion = {
  since: 10,
  inputs: [8, 8],
  outputs: [1, 1],
  attributes: {},
  infer: inferQLinearMatMul,
  run: runQLinearMatMul,
};

/** A bias of a product is added to its columns. */
function checkBias(c: InferContext, index: number, columns: Dim): void {
  c.rank(index, 1);
  const bias = c.inputs[index];
  if (bias) c.same(bias.shape[0]!, columns, `bias and columns`);
}

/** A product as float32: sums times the scales of rows and columns, and a bias per column. */
export function realProduct(
  product: WholeProduct,
  aScales: Tensor,
  bScales: Tensor,
  bias: Tensor | undefined,
  shape: readonly number[],
): Tensor {
  const [rows, columns] = [eachLine(aScales, product, 'row'), eachLine(bScales, product, 'column')];
  const shift = bias && dense(bias);
  const to = Tensor.zeros('f32', shape).data;
  eachElement(product, (at, row, column) => {
    const real = product.sums[at]! * Math.fround(rows[row]! * columns[column]!);
    to[at] = shift ? real + shift[column % product.n]! : real;
  });
  return Tensor.from('f32', shape, to);
}

/** A is quantised as DynamicQuantizeLinear does, then multiplied as MatMulIntegerToFloat does. */
const dynamicQuantizeMatMul: OperatorVersion = {
  since: 1,
  inputs: [3, 5],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, ['f32']);
    c.expect(1, BYTES);
    c.expect(2, ['f32']);
    c.sameDType(1, 3);
    c.expect(4, ['f32']);
    const [a, b] = [c.input(0).shape, c.input(1).shape];
    const shape = productShape(c, a, b);
    for (const index of [2, 3]) checkParameters(c, index, b, 'column');
    checkBias(c, 4, b.length > 1 ? b.at(-1)! : 1);
    return [{ dtype: 'f32', shape }];
  },
  run: c => {
    const { bytes, scale, zero } = quantiseDynamically(dense(c.operand(0)));
    const a = Tensor.from('u8', c.operand(0).shape, bytes);
    const product = wholeProduct(a, Tensor.of('u8', zero), c.operand(1), c.tensors[3]);
    return [realProduct(product, Tensor.of('f32', scale), c.operand(2), c.tensors[4], c.shape())];
  },
};

const matMulIntegerToFloat: OperatorVersion = {
  since: 1,
  inputs: [4, 7],
  outputs: [1, 1],
  attributes: {},
  infer: c => {
    c.expect(0, BYTES);
    c.expect(1, BYTES);
    c.expect(2, ['f32', 'f16']);
    for (const index of [3, 6]) c.sameDType(2, index);
    c.sameDType(0, 4);
    c.sameDType(1, 5);
    const [a, b] = [c.input(0).shape, c.input(1).shape];
    const shape = productShape(c, a, b);
    for (const index of [2, 4]) checkParameters(c, index, a, 'row');
    for (const index of [3, 5]) checkParameters(c, index, b, 'column');
    checkBias(c, 6, b.length > 1 ? b.at(-1)! : 1);
    return [{ dtype: c.input(2).dtype, shape }];
  },
  run: c => {
    const product = wholeProduct(c.operand(0), c.tensors[4], c.operand(1), c.tensors[5]);
    return [realProduct(product, c.operand(2), c.operand(3), c.tensors[6], c.shape())];
  },
};

function inferQGemm(c: InferContext): readonly Facts[] {
  for (const [tensor, scale, zero] of [
    [0, 1, 2],
    [3, 4, 5],
  ] as const) {
    c.expect(tensor, BYTES);
    c.expect(scale, ['f32']);
    c.sameDType(tensor, zero);
    c.rank(tensor, 2);
  }
  c.expect(6, ['i32']);
  c.expect(7, ['f32']);
  c.expect(8, BYTES);
  expectSingle(c, 1, 2, 7, 8);
  const a = c.number('transA') ? c.input(0).shape.toReversed() : c.input(0).shape;
  const b = c.number('transB') ? c.input(3).shape.toReversed() : c.input(3).shape;
  const shape = productShape(c, a, b);
  for (const index of [4, 5]) {
    const given = c.input(index).shape;
    if (given.length > 1) c.fail(`input ${index}: expected one value or one per column, got ${formatShape(given)}`);
    checkParameters(c, index, b, 'column');
  }
  const bias = c.inputs[6]?.shape;
  if (bias) {
    const wide = c.broadcast(shape, bias);
    if (wide.length !== 2 || wide.some((dim, i) => c.differ(dim, shape[i]!))) {
      c.fail(`the bias ${formatShape(bias)} does not broadcast into ${formatShape(shape)}`);
    }
  }
  if (c.inputs[8] && !c.inputs[7]) c.fail('a zero point of the output without its scale');
  return [{ dtype: c.inputs[7] ? (c.inputs[8]?.dtype ?? c.input(0).dtype) : 'f32', shape }];
}

function runQGemm(c: RunContext): readonly Tensor[] {
  const a = c.number('transA') ? c.operand(0).transpose() : c.operand(0);
  const b = c.number('transB') ? c.operand(3).transpose() : c.operand(3);
  const product = wholeProduct(a, c.operand(2), b, c.operand(5));
  const { n, sums } = product;
  if (c.tensors[6]) {
    const bias = dense(c.tensors[6].expand(c.shape()));
    for (let i = 0; i < sums.length; i++) sums[i] = sums[i]! + bias[i]!;
  }
  const first = c.number('alpha') * dense(c.operand(1))[0]!;
  const columns = dense(c.operand(4));
  const factors = Float32Array.from({ length: n }, (_, j) => first * columns[columns.length === 1 ? 0 : j]!);
  const out = c.allocate();
  const to = out.data as Numbers;
  if (out.dtype === 'f32') {
    eachElement(product, (at, _, column) => {
      to[at] = sums[at]! * factors[column]!;
    });
    return [out];
  }
  const scale = dense(c.operand(7))[0]!;
  const zero = c.tensors[8] ? dense(c.tensors[8])[0]! : 0;
  const [least, most] = quantisedRange(out.dtype);
  for (let j = 0; j < n; j++) factors[j] = factors[j]! / scale;
  eachElement(product, (at, _, column) => {
    to[at] = saturate(Math.fround(Math.fround(sums[at]!) * factors[column]!), zero, least, most);
  });
  return [out];
}

/** The operators of this file. */
export const QUANTISED_LINEAR: readonly Operator[] = [
  define('MatMulInteger', 'compute', matMulInteger),
  define('QLinearMatMul', 'compute', qLinearMatMul, from(21, qLinearMatMul)),
  defineIn('com.microsoft', 'DynamicQuantizeMatMul', 'compute', dynamicQuantizeMatMul),
  defineIn('com.microsoft', 'MatMulIntegerToFloat', 'compute', matMulIntegerToFloat),
  defineIn('com.microsoft', 'QGemm', 'compute', {
    since: 1,
    inputs: [6, 9],
    outputs: [1, 1],
    attributes: { alpha: float(1), transA: int(0), transB: int(0) },
    infer: inferQGemm,
    run: runQGemm,
  }),
];
