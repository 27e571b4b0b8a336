/**
 * Losses of classifiers: NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss.
 * @module
 */
import { elementCount, Tensor } from '../../../tensor/index.ts';
import type { Facts } from '../../graph.ts';
import { dense, type Numbers } from '../loops.ts';
import {
  define,
  FLOATS,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
  string,
} from '../operator.ts';

const REDUCTIONS: readonly string[] = ['none', 'sum', 'mean'];

/** Scores are (batch, classes, places...), labels (batch, places...), weights (classes). */
function inferLoss(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  c.expect(1, ['i32', 'i64']);
  c.sameDType(0, 2);
  const { dtype, shape } = c.input(0);
  if (shape.length < 2) c.fail(`scores need a batch and classes, got ${shape.length} dimensions`);
  c.rank(1, shape.length - 1);
  const labels = c.input(1).shape.map((dim, i) => c.same(dim, shape[i === 0 ? 0 : i + 1]!, `axis ${i} of the labels`));
  if (c.inputs[2]) {
    c.rank(2, 1);
    c.same(c.input(2).shape[0]!, shape[1]!, 'classes and weights');
  }
  const reduction = c.string('reduction');
  if (!REDUCTIONS.includes(reduction)) {
    c.fail(`attribute reduction: expected ${REDUCTIONS.join(', ')}, got ${JSON.stringify(reduction.slice(0, 20))}`);
  }
  return [{ dtype, shape: reduction === 'none' ? labels : [] }];
}

/** The loss of every label under `logs`, weighted and reduced. A mean is over the weights; without any it is NaN. */
function lossOf(c: RunContext, logs: Numbers): Tensor {
  const out = c.allocate();
  const { shape } = c.operand(0);
  const classes = shape[1]!;
  const places = elementCount(shape.slice(2));
  const labels = c.operand(1).elements();
  const weights = c.tensors[2] && dense(c.tensors[2]);
  const ignored = c.has('ignore_index') ? c.number('ignore_index') : undefined;
  const each = c.string('reduction') === 'none' ? (out.data as Numbers) : undefined;
  let [sum, total] = [0, 0];
  for (let at = 0; at < labels.length; at++) {
    const label = Number(labels[at]!);
    if (label === ignored) continue;
    if (!(label >= 0 && label < classes)) c.fail(`label ${label} is none of ${classes} classes`);
    const weight = weights ? weights[label]! : 1;
    const loss = -logs[(Math.floor(at / places) * classes + label) * places + (at % places)]! * weight;
    if (each) each[at] = loss;
    sum += loss;
    total += weight;
  }
  if (!each) (out.data as Numbers)[0] = c.string('reduction') === 'mean' ? sum / total : sum;
  return out;
}

/** The logarithm of the softmax over the classes, in double precision. */
function logSoftmax(x: Tensor): Tensor<'f64'> {
  const [batch, classes] = x.shape as readonly [number, number];
  const places = elementCount(x.shape.slice(2));
  const scores = dense(x);
  const out = Tensor.zeros('f64', x.shape);
  const to = out.data;
  // Without places there may be any number of classes.
  if (out.size === 0) return out;
  for (let b = 0; b < batch; b++) {
    for (let place = 0; place < places; place++) {
      const start = b * classes * places + place;
      const end = start + classes * places;
      let largest = Number.NEGATIVE_INFINITY;
      for (let at = start; at < end; at += places) largest = Math.max(largest, scores[at]!);
      let sum = 0;
      for (let at = start; at < end; at += places) sum += Math.exp(scores[at]! - largest);
      // The largest score is taken away on its own: of two large numbers that are close, the difference is exact.
      const rest = Math.log(sum);
      for (let at = start; at < end; at += places) to[at] = scores[at]! - largest - rest;
    }
  }
  return out;
}

const negativeLogLikelihood: OperatorVersion = {
  since: 12,
  inputs: [2, 3],
  outputs: [1, 1],
  attributes: { ignore_index: int(), reduction: string('mean') },
  infer: inferLoss,
  run: c => [lossOf(c, dense(c.operand(0)))],
};

const softmaxCrossEntropy: OperatorVersion = {
  ...negativeLogLikelihood,
  outputs: [1, 2],
  infer: c => [...inferLoss(c), c.input(0)],
  run: c => {
    const logs = logSoftmax(c.operand(0));
    return [lossOf(c, logs.data), logs.cast(c.outputs[1]!.dtype)];
  },
};

/** The operators of this file. */
export const LOSSES: readonly Operator[] = [
  define('NegativeLogLikelihoodLoss', 'compute', negativeLogLikelihood),
  define('SoftmaxCrossEntropyLoss', 'compute', softmaxCrossEntropy),
];
