/**
 * Normalisation along axes: Softmax, LogSoftmax, BatchNormalization (inference), LayerNormalization.
 * @module
 */
import { formatShape, type Tensor } from '../../tensor/index.ts';
import type { Facts } from '../graph.ts';
import { around, dense, type Numbers } from './loops.ts';
import {
  define,
  FLOATS,
  float,
  from,
  type InferContext,
  int,
  ints,
  type Operator,
  type OperatorVersion,
  type RunContext,
} from './operator.ts';

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

function inferBatchNormalization(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  if (c.has('spatial') && c.number('spatial') === 0)
    c.unsupported('only statistics per channel (spatial = 1) have a kernel');
  if (c.has('training_mode') && c.number('training_mode') !== 0) c.unsupported('training mode has no kernel');
  if (c.node.outputs.slice(1).some(id => id !== undefined)) c.unsupported('the outputs of training have no kernel');
  const { shape } = c.input(0);
  if (shape.length < 2) c.fail(`expected a batch and channels, got ${formatShape(shape)}`);
  for (let i = 1; i < 5; i++) {
    c.rank(i, 1);
    c.expect(i, FLOATS);
    c.same(shape[1]!, c.input(i).shape[0]!, `channels of inputs 0 and ${i}`);
  }
  return [c.input(0)];
}

function runBatchNormalization(c: RunContext): readonly Tensor[] {
  const out = c.allocate();
  const to = out.data as Numbers;
  const [x, scale, bias, mean, variance] = [0, 1, 2, 3, 4].map(i => dense(c.operand(i)));
  const { outer, n, inner } = around(c.shape(), 1);
  const epsilon = c.number('epsilon');
  for (let o = 0, at = 0; o < outer; o++) {
    for (let channel = 0; channel < n; channel++) {
      const factor = scale![channel]! / Math.sqrt(variance![channel]! + epsilon);
      const shift = bias![channel]! - mean![channel]! * factor;
      for (let i = 0; i < inner; i++, at++) to[at] = x![at]! * factor + shift;
    }
  }
  return [out];
}

const batch7: OperatorVersion = {
  since: 7,
  inputs: [5, 5],
  outputs: [1, 5],
  attributes: { epsilon: float(1e-5), momentum: float(0.9), spatial: int(1) },
  infer: inferBatchNormalization,
  run: runBatchNormalization,
};

const batch9 = from(9, batch7, { attributes: { epsilon: float(1e-5), momentum: float(0.9) } });

function inferLayerNormalization(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  const { dtype, shape } = c.input(0);
  if (c.number('stash_type') !== 1) c.unsupported('statistics are computed in float32 or wider (stash_type = 1)');
  const axis = c.axis(c.number('axis'), shape.length);
  const normalised = shape.slice(axis);
  for (const index of [1, 2]) {
    c.sameDType(0, index);
    const given = c.inputs[index]?.shape;
    if (given && c.broadcast(normalised, given).some((dim, i) => c.differ(dim, normalised[i] ?? 0))) {
      c.fail(`input ${index} of ${formatShape(given)} does not broadcast into ${formatShape(normalised)}`);
    }
  }
  const statistic: Facts = { dtype: 'f32', shape: shape.map((dim, i) => (i < axis ? dim : 1)) };
  return [{ dtype, shape }, statistic, statistic];
}

function runLayerNormalization(c: RunContext): readonly Tensor[] {
  const out = c.allocate();
  const to = out.data as Numbers;
  const x = dense(c.operand(0));
  const shape = c.shape();
  const axis = c.axis(c.number('axis'), shape.length);
  const n = shape.slice(axis).reduce((size, dim) => size * dim, 1);
  const rows = shape.slice(0, axis).reduce((size, dim) => size * dim, 1);
  const scale = dense(c.operand(1).expand(shape.slice(axis)));
  const bias = c.tensors[2] ? dense(c.tensors[2].expand(shape.slice(axis))) : undefined;
  const [means, inverses] = [c.allocate(1), c.allocate(2)];
  for (let row = 0; row < rows; row++) {
    const start = row * n;
    let sum = 0;
    for (let i = 0; i < n; i++) sum += x[start + i]!;
    const mean = sum / n;
    let squares = 0;
    for (let i = 0; i < n; i++) squares += (x[start + i]! - mean) ** 2;
    const inverse = 1 / Math.sqrt(squares / n + c.number('epsilon'));
    for (let i = 0; i < n; i++) to[start + i] = (x[start + i]! - mean) * inverse * scale[i]! + (bias?.[i] ?? 0);
    (means.data as Numbers)[row] = mean;
    (inverses.data as Numbers)[row] = inverse;
  }
  return [out, means, inverses];
}

/** The operators of this file. */
export const NORMALISATION: readonly Operator[] = [
  softmax('Softmax', false),
  softmax('LogSoftmax', true),
  define(
    'BatchNormalization',
    'compute',
    from(1, batch7, {
      attributes: { ...batch7.attributes, is_test: int(0), consumed_inputs: ints() },
    }),
    batch7,
    batch9,
    from(14, batch9, { outputs: [1, 3], attributes: { ...batch9.attributes, training_mode: int(0) } }),
  ),
  define('LayerNormalization', 'compute', {
    since: 17,
    inputs: [2, 3],
    outputs: [1, 3],
    attributes: { axis: int(-1), epsilon: float(1e-5), stash_type: int(1) },
    infer: inferLayerNormalization,
    run: runLayerNormalization,
  }),
];
