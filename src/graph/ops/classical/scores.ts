/**
 * What the classical models share: rows of features, class labels, and what is made of scores before they leave.
 * @module
 */
import { type DType, Tensor } from '../../../tensor/index.ts';
import type { Dim } from '../../graph.ts';
import { dense, isBig, type Numbers } from '../loops.ts';
import type { AttributeSpec, InferContext, RunContext } from '../operator.ts';

/** The domain of the operators of classical models. */
export const ML = 'ai.onnx.ml';

/** The element types that features come in. */
export const FEATURES: readonly DType[] = ['f32', 'f64', 'i64', 'i32'];

/** A list of strings, which {@link InferContext.numbers} would not call so. */
export function stringList(c: InferContext, name: string): readonly string[] | undefined {
  return c.numbers(name) as unknown as readonly string[] | undefined;
}

/** The elements as floats. 64-bit integers are rounded to doubles. */
export function features(tensor: Tensor): Numbers {
  return isBig(tensor) ? Float64Array.from(tensor.elements() as BigInt64Array, Number) : dense(tensor);
}

/** Input 0 as rows: `[N, C]`, or `[C]` for one row. */
export function rowsOf(c: InferContext): { readonly rows: Dim; readonly width: Dim } {
  const { shape } = c.input(0);
  if (shape.length === 1) return { rows: 1, width: shape[0]! };
  c.rank(0, 2);
  return { rows: shape[0]!, width: shape[1]! };
}

/** The labels of classes: text, or integers. */
export type Labels =
  | { readonly dtype: 'string'; readonly values: readonly string[] }
  | { readonly dtype: 'i64'; readonly values: readonly number[] };

/** The labels that one of two attributes lists. */
export function labelsOf(c: InferContext, strings: string, integers: string): Labels {
  const text = stringList(c, strings) ?? [];
  const numbers = c.numbers(integers) ?? [];
  if (text.length > 0 === numbers.length > 0) c.fail(`expected labels in one of ${strings} and ${integers}`);
  return text.length > 0 ? { dtype: 'string', values: text } : { dtype: 'i64', values: numbers };
}

/** The labels with these indices, as a tensor. An index of -1 and -2 is the answer no and yes of a model without two labels. */
export function labelTensor(labels: Labels, indices: Int32Array): Tensor {
  if (labels.dtype === 'string') {
    const values = Array.from(indices, i => (i < 0 ? (i === YES ? '1' : '0') : labels.values[i]!));
    return Tensor.from('string', [indices.length], values);
  }
  const values = labels.values.map(BigInt);
  const out = new BigInt64Array(indices.length);
  for (let i = 0; i < out.length; i++) {
    const index = indices[i]!;
    out[i] = index < 0 ? (index === YES ? 1n : 0n) : values[index]!;
  }
  return Tensor.from('i64', [indices.length], out);
}

/** See {@link labelTensor}. */
export const NO = -1;
export const YES = -2;

/** What becomes of the scores of a row. */
export type Transform = 'NONE' | 'SOFTMAX' | 'LOGISTIC' | 'SOFTMAX_ZERO' | 'PROBIT';

/** In the order in which TreeEnsemble-5 numbers them. */
export const TRANSFORMS: readonly Transform[] = ['NONE', 'SOFTMAX', 'LOGISTIC', 'SOFTMAX_ZERO', 'PROBIT'];

export const postTransform: AttributeSpec = { type: 'string', default: 'NONE' };

export function transformOf(c: InferContext): Transform {
  const name = c.string('post_transform');
  const known = TRANSFORMS.find(transform => transform === name);
  return known ?? c.fail(`no post_transform ${JSON.stringify(name.slice(0, 40))}`);
}

export function logistic(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/**
 * The normal quantile of `p` by Winitzki's formula for the inverse error function (constant 0.147, relative error under 2e-3), which
 * is what the other executors of these models compute, so that scores agree.
 */
function probit(p: number): number {
  const x = 2 * p - 1;
  const log = Math.log((1 - x) * (1 + x));
  const half = 2 / (Math.PI * 0.147) + log / 2;
  return Math.SQRT2 * Math.sign(x) * Math.sqrt(Math.sqrt(half * half - log / 0.147) - half);
}

/** Transforms the `count` scores from `at` on. */
export function transformScores(transform: Transform, scores: Float64Array, at: number, count: number): void {
  const end = at + count;
  switch (transform) {
    case 'NONE':
      return;
    case 'LOGISTIC':
      for (let i = at; i < end; i++) scores[i] = logistic(scores[i]!);
      return;
    case 'PROBIT':
      for (let i = at; i < end; i++) scores[i] = probit(scores[i]!);
      return;
    case 'SOFTMAX':
    case 'SOFTMAX_ZERO': {
      // SOFTMAX_ZERO: a score of zero means that nothing spoke for the class; it stays zero.
      const keepsZero = transform === 'SOFTMAX_ZERO';
      let largest = Number.NEGATIVE_INFINITY;
      for (let i = at; i < end; i++) largest = Math.max(largest, scores[i]!);
      let sum = 0;
      for (let i = at; i < end; i++) {
        const score = scores[i]!;
        scores[i] = keepsZero && Math.abs(score) <= 1e-7 ? 0 : Math.exp(score - largest);
        sum += scores[i]!;
      }
      if (sum !== 0) for (let i = at; i < end; i++) scores[i] = scores[i]! / sum;
      return;
    }
    default:
      transform satisfies never;
  }
}

/**
 * Writes the scores of two classes of which one score tells both: the second class has it, the first its opposite. That is
 * `1 - score` where scores are taken for probabilities, `-score` where they are margins.
 */
export function scorePair(
  transform: Transform,
  score: number,
  probability: boolean,
  scores: Float64Array,
  at: number,
): void {
  const complement = transform === 'PROBIT' || (transform === 'NONE' && probability);
  scores[at] = complement ? 1 - score : -score;
  scores[at + 1] = score;
  transformScores(transform, scores, at, 2);
}

/** Output `index` with these elements, in the dtype that was inferred. */
export function scoreTensor(c: RunContext, index: number, scores: Float64Array): Tensor {
  const out = c.allocate(index);
  (out.data as Numbers).set(scores);
  return out;
}
