/**
 * Normalisation of rows: Softmax, LogSoftmax, Hardmax, LayerNormalization, RMSNormalization, LpNormalization.
 * @module
 */
import { type DType, elementCount, formatShape, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { around, dense, type Numbers } from '../loops.ts';
import {
  define,
  FLOATS,
  float,
  from,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
} from '../operator.ts';

/** The axis by the shape of the input; a scalar has none, and is normalised alone. */
function softmaxAxis(c: InferContext): number {
  const rank = c.input(0).shape.length;
  return c.axis(c.number('axis'), Math.max(rank, 1));
}

function inferSoftmax(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  softmaxAxis(c);
  return [c.input(0)];
}

/** Before opset 13 all axes from `axis` on were normalised together, after that the one axis. */
function runSoftmax(log: boolean, together: boolean): (c: RunContext) => readonly Tensor[] {
  return c => {
    const out = c.allocate();
    const shape = c.shape().length === 0 ? [1] : c.shape();
    const { outer, n, inner } = around(shape, softmaxAxis(c));
    if (together) softmaxInto(dense(c.operand(0)), out.data as Numbers, outer, n * inner, 1, log);
    else softmaxInto(dense(c.operand(0)), out.data as Numbers, outer, n, inner, log);
    return [out];
  };
}

/** Softmax of the middle axis of `outer x n x inner`. The largest element is subtracted, so that no exponential overflows. */
function softmaxInto(x: Numbers, y: Numbers, outer: number, n: number, inner: number, log: boolean): void {
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner; i++) {
      const start = o * n * inner + i;
      const end = start + n * inner;
      let largest = Number.NEGATIVE_INFINITY;
      for (let at = start; at < end; at += inner) largest = Math.max(largest, x[at]!);
      let sum = 0;
      for (let at = start; at < end; at += inner) sum += Math.exp(x[at]! - largest);
      const shift = Math.log(sum);
      for (let at = start; at < end; at += inner) {
        y[at] = log ? x[at]! - largest - shift : Math.exp(x[at]! - largest) / sum;
      }
    }
  }
}

function softmax(name: string, log: boolean): Operator {
  const modern: OperatorVersion = {
    since: 13,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes: { axis: int(-1) },
    infer: inferSoftmax,
    run: runSoftmax(log, false),
  };
  return define(name, 'compute', from(1, modern, { attributes: { axis: int(1) }, run: runSoftmax(log, true) }), modern);
}

/** One at the first largest element of the middle axis, zero elsewhere. */
function hardmaxInto(x: Numbers, y: Numbers, outer: number, n: number, inner: number): void {
  for (let o = 0; o < outer; o++) {
    for (let i = 0; i < inner && n > 0; i++) {
      const start = o * n * inner + i;
      let best = start;
      for (let at = start + inner; at < start + n * inner; at += inner) if (x[at]! > x[best]!) best = at;
      y[best] = 1;
    }
  }
}

function runHardmax(together: boolean): (c: RunContext) => readonly Tensor[] {
  return c => {
    const out = c.allocate();
    const shape = c.shape().length === 0 ? [1] : c.shape();
    const { outer, n, inner } = around(shape, softmaxAxis(c));
    if (together) hardmaxInto(dense(c.operand(0)), out.data as Numbers, outer, n * inner, 1);
    else hardmaxInto(dense(c.operand(0)), out.data as Numbers, outer, n, inner);
    return [out];
  };
}

const hardmax: OperatorVersion = {
  since: 13,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { axis: int(-1) },
  infer: inferSoftmax,
  run: runHardmax(false),
};

/** How the rows of a layer are scaled. */
export interface RowNorm {
  /** Whether the mean is taken off first; without it only the root mean square is divided by. */
  readonly centred: boolean;
  readonly epsilon: number;
  readonly scale: Numbers;
  readonly bias?: Numbers | undefined;
}

/**
 * Normalises each of `rows` rows of `n` elements of `x` into `y`: `(x - mean) / sqrt(variance + epsilon) * scale + bias`. The
 * means and the reciprocals of the deviations go into `means` and `inverses`, where given.
 */
export function normaliseRows(
  x: Numbers,
  y: Numbers,
  rows: number,
  n: number,
  norm: RowNorm,
  means?: Numbers,
  inverses?: Numbers,
): void {
  const { scale, bias } = norm;
  for (let row = 0; row < rows; row++) {
    const start = row * n;
    let mean = 0;
    if (norm.centred) {
      for (let i = 0; i < n; i++) mean += x[start + i]!;
      mean /= n;
    }
    let squares = 0;
    for (let i = 0; i < n; i++) squares += (x[start + i]! - mean) ** 2;
    const inverse = 1 / Math.sqrt(squares / n + norm.epsilon);
    if (bias) for (let i = 0; i < n; i++) y[start + i] = (x[start + i]! - mean) * inverse * scale[i]! + bias[i]!;
    else for (let i = 0; i < n; i++) y[start + i] = (x[start + i]! - mean) * inverse * scale[i]!;
    if (means) means[row] = mean;
    if (inverses) inverses[row] = inverse;
  }
}

/** The element types of statistics, by the number of the type in ONNX files. */
const STASH_TYPES: Readonly<Record<number, DType>> = { 1: 'f32', 10: 'f16', 11: 'f64', 16: 'bf16' };

/** Fails unless input `index`, where present, can be repeated to fill `shape` without making it larger. */
export function fitsInto(c: InferContext, index: number, shape: readonly Dim[]): void {
  const given = c.inputs[index]?.shape;
  if (given && c.broadcast(shape, given).some((dim, i) => c.differ(dim, shape[i] ?? 0))) {
    c.fail(`input ${index} of ${formatShape(given)} does not broadcast into ${formatShape(shape)}`);
  }
}

/** The rows are the axes from `axis` on. One statistic of each row per axis before it, whose other axes are 1. */
function inferRows(c: InferContext): { readonly shape: readonly Dim[]; readonly statistic: Facts } {
  c.expect(0, FLOATS);
  const { shape } = c.input(0);
  const axis = c.axis(c.number('axis'), shape.length);
  for (const index of [1, 2]) fitsInto(c, index, shape.slice(axis));
  const dtype = STASH_TYPES[c.number('stash_type')] ?? c.fail(`stash_type ${c.number('stash_type')} is no float type`);
  return { shape, statistic: { dtype, shape: shape.map((dim, i) => (i < axis ? dim : 1)) } };
}

function inferLayerNormalization(c: InferContext): readonly Facts[] {
  c.sameDType(0, 1);
  c.sameDType(0, 2);
  const { shape, statistic } = inferRows(c);
  return [{ dtype: c.input(0).dtype, shape }, statistic, statistic];
}

/** The result is of the scale's dtype, which need not be that of the input. */
function inferRmsNormalization(c: InferContext): readonly Facts[] {
  c.expect(1, FLOATS);
  const { shape, statistic } = inferRows(c);
  return [{ dtype: c.input(1).dtype, shape }, statistic];
}

/** Statistics are computed in double precision whatever `stash_type` says, and rounded to it where they are outputs. */
function runRows(centred: boolean): (c: RunContext) => readonly Tensor[] {
  return c => {
    const out = c.allocate();
    const shape = c.shape();
    const axis = c.axis(c.number('axis'), shape.length);
    const row = shape.slice(axis);
    const rows = elementCount(shape.slice(0, axis));
    const scale = dense(c.operand(1).expand(row));
    const bias = c.tensors[2] ? dense(c.tensors[2].expand(row)) : undefined;
    const norm: RowNorm = { centred, epsilon: c.number('epsilon'), scale, bias };
    const [means, inverses] = [new Float64Array(rows), new Float64Array(rows)];
    normaliseRows(dense(c.operand(0)), out.data as Numbers, rows, elementCount(row), norm, means, inverses);
    const statistic = (values: Float64Array): Tensor =>
      Tensor.from('f64', c.shape(1), values).cast(c.outputs[1]!.dtype);
    return centred ? [out, statistic(means), statistic(inverses)] : [out, statistic(inverses)];
  };
}

const layerNormalization: OperatorVersion = {
  since: 17,
  inputs: [2, 3],
  outputs: [1, 3],
  attributes: { axis: int(-1), epsilon: float(1e-5), stash_type: int(1) },
  infer: inferLayerNormalization,
  run: runRows(true),
};

const rmsNormalization: OperatorVersion = {
  ...layerNormalization,
  since: 23,
  inputs: [2, 2],
  outputs: [1, 1],
  infer: inferRmsNormalization,
  run: runRows(false),
};

/** Divides by the sum of absolute values or by the Euclidean length. A vector of zeros stays one. */
const lpNormalization: OperatorVersion = {
  since: 1,
  inputs: [1, 1],
  outputs: [1, 1],
  attributes: { axis: int(-1), p: int(2) },
  infer: c => {
    c.expect(0, FLOATS);
    c.axis(c.number('axis'), c.input(0).shape.length);
    if (c.number('p') !== 1 && c.number('p') !== 2) c.fail(`attribute p: expected 1 or 2, got ${c.number('p')}`);
    return [c.input(0)];
  },
  run: c => {
    const out = c.allocate();
    const [x, y] = [dense(c.operand(0)), out.data as Numbers];
    const { outer, n, inner } = around(c.shape(), c.axis(c.number('axis'), c.shape().length));
    const euclidean = c.number('p') === 2;
    for (let o = 0; o < outer; o++) {
      for (let i = 0; i < inner; i++) {
        const start = o * n * inner + i;
        const end = start + n * inner;
        let sum = 0;
        for (let at = start; at < end; at += inner) sum += euclidean ? x[at]! * x[at]! : Math.abs(x[at]!);
        const norm = euclidean ? Math.sqrt(sum) : sum;
        for (let at = start; at < end; at += inner) y[at] = norm === 0 ? 0 : x[at]! / norm;
      }
    }
    return [out];
  },
};

/** The operators of this file. */
export const NORMALISATION: readonly Operator[] = [
  softmax('Softmax', false),
  softmax('LogSoftmax', true),
  define('Hardmax', 'compute', from(1, hardmax, { attributes: { axis: int(1) }, run: runHardmax(true) }), hardmax),
  // onnxruntime writes both names into graphs of any opset; ONNX has had the first since 17, and the second never.
  define('LayerNormalization', 'compute', from(1, layerNormalization), layerNormalization),
  define('SimplifiedLayerNormalization', 'compute', from(1, rmsNormalization, { outputs: [1, 2] })),
  define('RMSNormalization', 'compute', rmsNormalization),
  define('LpNormalization', 'compute', lpNormalization),
];
