/**
 * Linear models and support vector machines: LinearClassifier, LinearRegressor, SVMClassifier, SVMRegressor.
 * @module
 */
import type { Tensor } from '../../../tensor/index.ts';
import type { Dim } from '../../graph.ts';
import type { Numbers } from '../loops.ts';
import {
  type AttributeSpec,
  defineIn,
  floats,
  type InferContext,
  int,
  ints,
  type Operator,
  type RunContext,
  required,
  string,
  strings,
} from '../operator.ts';
import {
  FEATURES,
  features,
  type Labels,
  labelsOf,
  labelTensor,
  logistic,
  ML,
  NO,
  postTransform,
  rowsOf,
  scorePair,
  scoreTensor,
  transformOf,
  transformScores,
  YES,
} from './scores.ts';

/** `out[row * outputs + o] = offsets[o] + sum_i x[row][i] * weights[o][i]`. */
function linear(
  x: Numbers,
  rows: number,
  width: number,
  weights: readonly number[],
  offsets: readonly number[],
  outputs: number,
): Float64Array {
  const matrix = Float64Array.from(weights);
  const out = new Float64Array(rows * outputs);
  for (let row = 0, at = 0; row < rows; row++) {
    for (let o = 0; o < outputs; o++, at++) {
      let sum = offsets[o] ?? 0;
      for (let i = 0, p = row * width, q = o * width; i < width; i++) sum += x[p + i]! * matrix[q + i]!;
      out[at] = sum;
    }
  }
  return out;
}

/** Fails unless there are `outputs * width` coefficients, as far as the width is known. */
function checkCoefficients(c: InferContext, outputs: number, width: Dim): void {
  const { length } = list(c, 'coefficients');
  if (length % outputs !== 0 || (typeof width === 'number' && length !== outputs * width)) {
    c.fail(`${length} coefficients for ${outputs} scores of rows of ${width}`);
  }
}

function list(c: InferContext, name: string): readonly number[] {
  return c.numbers(name) ?? [];
}

interface LinearClasses {
  readonly labels: Labels;
  /** Scores that the coefficients give. */
  readonly scores: number;
  /** One score for two labels: it becomes a pair. */
  readonly paired: boolean;
}

function linearClasses(c: InferContext): LinearClasses {
  const labels = labelsOf(c, 'classlabels_strings', 'classlabels_ints');
  const count = labels.values.length;
  const intercepts = list(c, 'intercepts').length;
  const { width } = rowsOf(c);
  let scores = intercepts === 0 ? count : intercepts;
  if (intercepts === 0 && count === 2 && list(c, 'coefficients').length === width) scores = 1;
  if (scores > 1 && scores !== count) c.fail(`${scores} intercepts for ${count} labels`);
  checkCoefficients(c, scores, width);
  return { labels, scores, paired: scores === 1 && count === 2 };
}

function runLinearClassifier(c: RunContext): readonly Tensor[] {
  const { rows, width } = rowsOf(c) as { rows: number; width: number };
  const { labels, scores, paired } = linearClasses(c);
  const transform = transformOf(c);
  const raw = linear(features(c.operand(0)), rows, width, list(c, 'coefficients'), list(c, 'intercepts'), scores);
  const best = new Int32Array(rows);
  if (scores > 1) {
    for (let row = 0; row < rows; row++) {
      best[row] = largest(raw, row * scores, scores);
      transformScores(transform, raw, row * scores, scores);
    }
    return [labelTensor(labels, best), scoreTensor(c, 1, raw)];
  }
  // One score says yes or no. Without a transform its opposite is 1 - score, as onnxruntime has it.
  const out = paired ? new Float64Array(2 * rows) : raw;
  for (let row = 0; row < rows; row++) {
    const score = raw[row]!;
    best[row] = paired ? Number(score > 0) : score > 0 ? YES : NO;
    if (paired) scorePair(transform, score, true, out, 2 * row);
    else transformScores(transform, out, row, 1);
  }
  return [labelTensor(labels, best), scoreTensor(c, 1, out)];
}

/** The index, from `at` on, of the first largest of `count` scores. */
function largest(scores: ArrayLike<number>, at: number, count: number): number {
  let best = 0;
  for (let i = 1; i < count; i++) if (scores[at + i]! > scores[at + best]!) best = i;
  return best;
}

function targetsOf(c: InferContext): number {
  const targets = c.number('targets');
  if (targets < 1) c.fail(`expected at least 1 target, got ${targets}`);
  const intercepts = list(c, 'intercepts').length;
  if (intercepts !== 0 && intercepts !== targets) c.fail(`${intercepts} intercepts for ${targets} targets`);
  checkCoefficients(c, targets, rowsOf(c).width);
  return targets;
}

function runLinearRegressor(c: RunContext): readonly Tensor[] {
  const { rows, width } = rowsOf(c) as { rows: number; width: number };
  const targets = targetsOf(c);
  const scores = linear(features(c.operand(0)), rows, width, list(c, 'coefficients'), list(c, 'intercepts'), targets);
  for (let row = 0; row < rows; row++) transformScores(transformOf(c), scores, row * targets, targets);
  return [scoreTensor(c, 0, scores)];
}

/** K(a, b) over `width` features. */
type Kernel = (a: Numbers, p: number, b: Numbers, q: number, width: number) => number;

function dot(a: Numbers, p: number, b: Numbers, q: number, width: number): number {
  let sum = 0;
  for (let i = 0; i < width; i++) sum += a[p + i]! * b[q + i]!;
  return sum;
}

function kernelOf(c: InferContext): Kernel {
  const params = list(c, 'kernel_params');
  if (params.length !== 0 && params.length !== 3) {
    c.fail(`kernel_params: expected gamma, coef0 and degree, got ${params.length} numbers`);
  }
  const [gamma, coef0, degree] = [params[0] ?? 0, params[1] ?? 0, params[2] ?? 0];
  const name = c.string('kernel_type');
  switch (name) {
    case 'LINEAR':
      return dot;
    case 'POLY':
      return (...args) => (gamma * dot(...args) + coef0) ** degree;
    case 'SIGMOID':
      return (...args) => Math.tanh(gamma * dot(...args) + coef0);
    case 'RBF':
      return (a, p, b, q, width) => {
        let sum = 0;
        for (let i = 0; i < width; i++) {
          const difference = a[p + i]! - b[q + i]!;
          sum += difference * difference;
        }
        return Math.exp(-gamma * sum);
      };
    default:
      return c.fail(`no kernel_type ${JSON.stringify(name.slice(0, 40))}`);
  }
}

/** Fails unless the support vectors are `count` rows of `width` features. */
function checkVectors(c: InferContext, count: number, width: Dim): void {
  const { length } = list(c, 'support_vectors');
  if (length % count !== 0 || (typeof width === 'number' && length !== count * width)) {
    c.fail(`support_vectors: ${length} numbers for ${count} vectors of ${width}`);
  }
}

/** A support vector machine that decides between pairs of classes, or (without support vectors) one linear score per class. */
interface Machine {
  readonly labels: Labels;
  /** Support vectors of each class; empty where there are none. */
  readonly perClass: readonly number[];
  readonly vectors: number;
  /** Whether scores become probabilities. */
  readonly calibrated: boolean;
  /** Scores of a row when it leaves. */
  readonly columns: number;
}

function machineOf(c: InferContext): Machine {
  const labels = labelsOf(c, 'classlabels_strings', 'classlabels_ints');
  const classes = labels.values.length;
  const { width } = rowsOf(c);
  const perClass = list(c, 'vectors_per_class');
  if (perClass.some(count => count < 0)) c.fail('vectors_per_class: a count below 0');
  const vectors = perClass.reduce((sum, count) => sum + count, 0);
  const [rho, a, b] = [list(c, 'rho'), list(c, 'prob_a'), list(c, 'prob_b')];
  if (vectors === 0) {
    if (rho.length === 0) c.fail('rho is missing');
    checkCoefficients(c, classes, width);
    return { labels, perClass: [], vectors: 0, calibrated: false, columns: classes };
  }
  const pairs = (classes * (classes - 1)) / 2;
  if (classes < 2) c.fail('a support vector machine needs at least 2 classes');
  if (perClass.length !== classes) c.fail(`vectors_per_class names ${perClass.length} classes, there are ${classes}`);
  if (rho.length < pairs) c.fail(`rho: expected ${pairs} numbers, got ${rho.length}`);
  const coefficients = list(c, 'coefficients').length;
  if (coefficients !== (classes - 1) * vectors) {
    c.fail(`${coefficients} coefficients for ${vectors} vectors of ${classes} classes`);
  }
  checkVectors(c, vectors, width);
  const calibrated = a.length > 0 || b.length > 0;
  if (calibrated && (a.length < pairs || b.length < pairs)) {
    c.fail(`expected ${pairs} numbers in prob_a and prob_b, got ${a.length} and ${b.length}`);
  }
  // Without probabilities the scores are those of the pairs; of two classes, that one score and its opposite.
  const columns = calibrated ? classes : Math.max(pairs, 2);
  return { labels, perClass, vectors, calibrated, columns };
}

function runSvmClassifier(c: RunContext): readonly Tensor[] {
  const { rows, width } = rowsOf(c) as { rows: number; width: number };
  const machine = machineOf(c);
  const transform = transformOf(c);
  const { labels, columns, vectors, calibrated } = machine;
  const classes = labels.values.length;
  const x = features(c.operand(0));
  const rho = list(c, 'rho');
  const best = new Int32Array(rows);
  if (vectors === 0) {
    const offsets = labels.values.map(() => rho[0]!);
    const scores = linear(x, rows, width, list(c, 'coefficients'), offsets, classes);
    for (let row = 0; row < rows; row++) {
      best[row] = largest(scores, row * classes, classes);
      transformScores(transform, scores, row * classes, classes);
    }
    return [labelTensor(labels, best), scoreTensor(c, 1, scores)];
  }
  const decide = pairwise(c, machine, width);
  const scores = new Float64Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const { decisions, votes } = decide(x, row * width);
    best[row] = largest(votes, 0, classes);
    const at = row * columns;
    if (calibrated) {
      scores.set(probabilities(decisions, list(c, 'prob_a'), list(c, 'prob_b'), classes), at);
      transformScores(transform, scores, at, columns);
    } else if (classes === 2) scorePair(transform, decisions[0]!, false, scores, at);
    else {
      scores.set(decisions, at);
      transformScores(transform, scores, at, columns);
    }
  }
  return [labelTensor(labels, best), scoreTensor(c, 1, scores)];
}

/** For one row, the decision between each pair of classes (i, j), i < j, and how many each class won; a decision over 0 is for i. */
type Decide = (x: Numbers, at: number) => { readonly decisions: Float64Array; readonly votes: Int32Array };

/**
 * As libsvm stores it: a support vector of class i has one coefficient for each other class, in `classes - 1` rows of one column per
 * vector; that against class j is in row `j` if j < i, else in row `j - 1`.
 */
function pairwise(c: RunContext, { labels, perClass, vectors }: Machine, width: number): Decide {
  const classes = labels.values.length;
  const kernel = kernelOf(c);
  const support = Float64Array.from(list(c, 'support_vectors'));
  const coefficients = Float64Array.from(list(c, 'coefficients'));
  const rho = list(c, 'rho');
  const starts = perClass.map((_, i) => perClass.slice(0, i).reduce((sum, count) => sum + count, 0));
  const near = new Float64Array(vectors);
  const decisions = new Float64Array((classes * (classes - 1)) / 2);
  const votes = new Int32Array(classes);
  /** What the vectors of `own` say in the decision against a class whose coefficients are in `row`. */
  const part = (own: number, row: number): number =>
    dot(coefficients, row * vectors + starts[own]!, near, starts[own]!, perClass[own]!);
  return (x, at) => {
    for (let v = 0; v < vectors; v++) near[v] = kernel(x, at, support, v * width, width);
    votes.fill(0);
    for (let i = 0, pair = 0; i < classes; i++) {
      for (let j = i + 1; j < classes; j++, pair++) {
        const decision = part(i, j - 1) + part(j, i) + rho[pair]!;
        decisions[pair] = decision;
        const winner = decision > 0 ? i : j;
        votes[winner] = votes[winner]! + 1;
      }
    }
    return { decisions, votes };
  };
}

/**
 * Class probabilities from pairwise ones, which Platt's sigmoids make of the decisions.
 * @see Wu, Lin & Weng 2004, second approach, algorithm 2, https://www.jmlr.org/papers/v5/wu04a.html
 */
function probabilities(
  decisions: Float64Array,
  a: readonly number[],
  b: readonly number[],
  classes: number,
): Float64Array {
  const r = new Float64Array(classes * classes);
  for (let i = 0, pair = 0; i < classes; i++) {
    for (let j = i + 1; j < classes; j++, pair++) {
      const p = logistic(-(decisions[pair]! * a[pair]! + b[pair]!));
      r[i * classes + j] = Math.min(Math.max(p, 1e-7), 1 - 1e-7);
      r[j * classes + i] = 1 - r[i * classes + j]!;
    }
  }
  const q = new Float64Array(classes * classes);
  for (let i = 0; i < classes; i++) {
    for (let j = 0; j < classes; j++) {
      if (i === j) continue;
      const against = r[j * classes + i]!;
      q[i * classes + i] = q[i * classes + i]! + against * against;
      q[i * classes + j] = -against * r[i * classes + j]!;
    }
  }
  const p = new Float64Array(classes).fill(1 / classes);
  const qp = new Float64Array(classes);
  for (let round = 0; round < 100; round++) {
    let pqp = 0;
    for (let i = 0; i < classes; i++) {
      qp[i] = dot(q, i * classes, p, 0, classes);
      pqp += p[i]! * qp[i]!;
    }
    let error = 0;
    for (let i = 0; i < classes; i++) error = Math.max(error, Math.abs(qp[i]! - pqp));
    if (!(error >= 0.005 / classes)) break;
    for (let i = 0; i < classes; i++) {
      const diagonal = q[i * classes + i]!;
      const step = (pqp - qp[i]!) / diagonal;
      p[i] = p[i]! + step;
      pqp = (pqp + step * (step * diagonal + 2 * qp[i]!)) / (1 + step) / (1 + step);
      for (let j = 0; j < classes; j++) {
        qp[j] = (qp[j]! + step * q[i * classes + j]!) / (1 + step);
        p[j] = p[j]! / (1 + step);
      }
    }
  }
  return p;
}

function checkSvmRegressor(c: InferContext): { readonly vectors: number } {
  const vectors = c.number('n_supports');
  const { width } = rowsOf(c);
  if (vectors < 0) c.fail(`n_supports: ${vectors}`);
  if (list(c, 'rho').length === 0) c.fail('rho is missing');
  kernelOf(c);
  if (vectors === 0) checkCoefficients(c, 1, width);
  else {
    const { length } = list(c, 'coefficients');
    if (length !== vectors) c.fail(`${length} coefficients for ${vectors} support vectors`);
    checkVectors(c, vectors, width);
  }
  return { vectors };
}

function runSvmRegressor(c: RunContext): readonly Tensor[] {
  const { rows, width } = rowsOf(c) as { rows: number; width: number };
  const { vectors } = checkSvmRegressor(c);
  const transform = transformOf(c);
  const oneClass = c.number('one_class') !== 0;
  const kernel = kernelOf(c);
  const x = features(c.operand(0));
  const coefficients = Float64Array.from(list(c, 'coefficients'));
  const support = Float64Array.from(list(c, 'support_vectors'));
  const scores = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    let sum = list(c, 'rho')[0]!;
    if (vectors === 0) sum += dot(x, row * width, coefficients, 0, width);
    else for (let v = 0; v < vectors; v++) sum += coefficients[v]! * kernel(x, row * width, support, v * width, width);
    scores[row] = oneClass ? (sum > 0 ? 1 : -1) : sum;
    if (!oneClass) transformScores(transform, scores, row, 1);
  }
  return [scoreTensor(c, 0, scores)];
}

const LABELS: Readonly<Record<string, AttributeSpec>> = { classlabels_strings: strings, classlabels_ints: ints() };
const MACHINE: Readonly<Record<string, AttributeSpec>> = {
  kernel_type: string('LINEAR'),
  kernel_params: floats,
  support_vectors: floats,
  coefficients: floats,
  rho: floats,
  post_transform: postTransform,
};

/** The operators of this file. */
export const ML_LINEAR: readonly Operator[] = [
  defineIn(ML, 'LinearClassifier', 'compute', {
    since: 1,
    inputs: [1, 1],
    outputs: [2, 2],
    attributes: {
      coefficients: required(floats),
      intercepts: floats,
      multi_class: int(0),
      post_transform: postTransform,
      ...LABELS,
    },
    infer: c => {
      c.expect(0, FEATURES);
      transformOf(c);
      const { labels, scores, paired } = linearClasses(c);
      const { rows } = rowsOf(c);
      return [
        { dtype: labels.dtype, shape: [rows] },
        { dtype: 'f32', shape: [rows, paired ? 2 : scores] },
      ];
    },
    run: runLinearClassifier,
  }),
  defineIn(ML, 'LinearRegressor', 'compute', {
    since: 1,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes: { coefficients: floats, intercepts: floats, targets: int(1), post_transform: postTransform },
    infer: c => {
      c.expect(0, FEATURES);
      transformOf(c);
      return [{ dtype: 'f32', shape: [rowsOf(c).rows, targetsOf(c)] }];
    },
    run: runLinearRegressor,
  }),
  defineIn(ML, 'SVMClassifier', 'compute', {
    since: 1,
    inputs: [1, 1],
    outputs: [2, 2],
    attributes: { ...MACHINE, ...LABELS, vectors_per_class: ints(), prob_a: floats, prob_b: floats },
    infer: c => {
      c.expect(0, FEATURES);
      transformOf(c);
      kernelOf(c);
      const { labels, columns } = machineOf(c);
      const { rows } = rowsOf(c);
      return [
        { dtype: labels.dtype, shape: [rows] },
        { dtype: 'f32', shape: [rows, columns] },
      ];
    },
    run: runSvmClassifier,
  }),
  defineIn(ML, 'SVMRegressor', 'compute', {
    since: 1,
    inputs: [1, 1],
    outputs: [1, 1],
    attributes: { ...MACHINE, one_class: int(0), n_supports: int(0) },
    infer: c => {
      c.expect(0, FEATURES);
      transformOf(c);
      checkSvmRegressor(c);
      return [{ dtype: 'f32', shape: [rowsOf(c).rows, 1] }];
    },
    run: runSvmRegressor,
  }),
];
