/**
 * Einsum: products of operands summed over the labels that the result does not name. Operands are contracted from left to right,
 * two at a time, and a label is summed as soon as nothing to the right of it needs it.
 * @module
 */
import { elementCount, formatShape, MAX_RANK, Tensor } from '../../../tensor/index.ts';
import type { Dim } from '../../graph.ts';
import { dense, type Numbers } from '../loops.ts';
import {
  define,
  type InferContext,
  MANY,
  NUMBERS,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  string,
} from '../operator.ts';

/** A label of an axis: a letter, or the number of an axis under an ellipsis, counted from its end. */
type Label = string;

interface Equation {
  /** The labels of each operand's axes, in order. */
  readonly operands: readonly (readonly Label[])[];
  readonly result: readonly Label[];
  /** The size of each label; sizes of 1 stretch. */
  readonly sizes: ReadonlyMap<Label, Dim>;
}

/** A subscript as letters and at most one ellipsis. */
function parseTerm(c: InferContext, term: string): readonly Label[] {
  const parts = term.split('...');
  if (parts.length > 2 || !parts.every(part => /^[A-Za-z]*$/.test(part))) {
    c.fail(`attribute equation: cannot read the term ${JSON.stringify(term.slice(0, 40))}`);
  }
  return parts.length === 2 ? [...parts[0]!, '...', ...parts[1]!] : [...term];
}

/** The equation with every ellipsis spelt out for the ranks of the inputs. */
function readEquation(c: InferContext): Equation {
  const [left = '', right, ...more] = c.string('equation').replaceAll(' ', '').split('->');
  const terms = left.split(',').map(term => parseTerm(c, term));
  if (terms.length !== c.inputs.length || more.length > 0) {
    c.fail(`attribute equation: ${terms.length} terms for ${c.inputs.length} inputs`);
  }
  const sizes = new Map<Label, Dim>();
  let widest = 0;
  const spell = (term: readonly Label[], covered: number): readonly Label[] =>
    term.flatMap(label => (label === '...' ? Array.from({ length: covered }, (_, i) => String(covered - i)) : [label]));
  const operands = terms.map((term, i) => {
    const { shape } = c.input(i);
    const covered = term.includes('...') ? shape.length - (term.length - 1) : 0;
    const labels = covered < 0 ? [] : spell(term, covered);
    if (labels.length !== shape.length) {
      c.fail(`attribute equation: term ${i} ${JSON.stringify(term.join('').slice(0, 40))} for ${formatShape(shape)}`);
    }
    widest = Math.max(widest, covered);
    labels.forEach((label, axis) => {
      sizes.set(label, c.broadcast([sizes.get(label) ?? 1], [shape[axis]!])[0]!);
    });
    return labels;
  });
  if (right === undefined) {
    // Without a right side: the ellipsis, then every letter that stands once, in order of the alphabet.
    const all = terms.flat();
    const once = all.filter(label => label !== '...' && all.indexOf(label) === all.lastIndexOf(label)).sort();
    return { operands, result: spell(['...', ...once], widest), sizes };
  }
  const result = spell(parseTerm(c, right), widest);
  for (const label of result) if (!sizes.has(label)) c.fail(`attribute equation: no operand has the label ${label}`);
  if (new Set(result).size !== result.length) c.fail('attribute equation: the result names a label twice');
  return { operands, result, sizes };
}

/** Doubles, or bigints where the elements are of 64 bits, with one label per axis. */
interface Term {
  readonly labels: readonly Label[];
  readonly tensor: Tensor;
}

/**
 * An operand with each label once: of a repeated one the diagonal, whose stride is the sum of theirs. An axis of size 1 under a
 * label of another size is left out, as it multiplies every element alike.
 */
function termOf(tensor: Tensor, labels: readonly Label[], sizes: ReadonlyMap<Label, Dim>): Term {
  const full = labels.flatMap((label, axis) => (tensor.shape[axis] === sizes.get(label) ? [{ label, axis }] : []));
  const distinct = [...new Set(full.map(({ label }) => label))];
  const strides = distinct.map(label =>
    full.reduce((sum, at) => (at.label === label ? sum + tensor.strides[at.axis]! : sum), 0),
  );
  const shape = distinct.map(label => sizes.get(label) as number);
  return { labels: distinct, tensor: new Tensor(tensor.dtype, shape, tensor.data, strides, tensor.offset) };
}

/** The axes of `term` in the order of `labels`, dense. */
function arrange(term: Term, labels: readonly Label[]): Numbers {
  return dense(term.tensor.transpose(labels.map(label => term.labels.indexOf(label))));
}

/** Sums over pairs: `out[b, l, r] = sum over k of x[b, l, k] * y[b, r, k]`, where k are the labels that `keep` has not. */
function contract(c: RunContext, x: Term, y: Term, keep: ReadonlySet<Label>, limit: number): Term {
  const inX = new Set(x.labels);
  const inY = new Set(y.labels);
  const [left, right] = [dropUnneeded(x, new Set([...keep, ...inY])), dropUnneeded(y, new Set([...keep, ...inX]))];
  const both = left.labels.filter(label => inY.has(label));
  const batch = both.filter(label => keep.has(label));
  const summed = both.filter(label => !keep.has(label));
  const onlyLeft = left.labels.filter(label => !inY.has(label));
  const onlyRight = right.labels.filter(label => !inX.has(label));
  const size = (labels: readonly Label[], term: Term): number =>
    labels.reduce((product, label) => product * term.tensor.shape[term.labels.indexOf(label)]!, 1);
  const [B, L, R, K] = [size(batch, left), size(onlyLeft, left), size(onlyRight, right), size(summed, left)];
  const labels = [...batch, ...onlyLeft, ...onlyRight];
  if (labels.length > MAX_RANK || B * L * R > limit) {
    c.unsupported(`an intermediate result of ${labels.length} labels and ${B * L * R} elements is too large`);
  }
  const shape = [
    ...[...batch, ...onlyLeft].map(label => left.tensor.shape[left.labels.indexOf(label)]!),
    ...onlyRight.map(label => right.tensor.shape[right.labels.indexOf(label)]!),
  ];
  const out = Tensor.zeros(left.tensor.dtype, shape);
  const to = out.data as Numbers;
  const a = arrange(left, [...batch, ...onlyLeft, ...summed]);
  const b = arrange(right, [...batch, ...onlyRight, ...summed]);
  const zero = zeroOf(out);
  for (let batchAt = 0, at = 0; batchAt < B; batchAt++) {
    for (let l = 0; l < L; l++) {
      for (let r = 0; r < R; r++, at++) {
        let sum = zero;
        for (let k = 0, p = (batchAt * L + l) * K, q = (batchAt * R + r) * K; k < K; k++) sum += a[p++]! * b[q++]!;
        to[at] = sum;
      }
    }
  }
  return { labels, tensor: out };
}

/** The term summed over the labels that `keep` has not. */
function dropUnneeded(term: Term, keep: ReadonlySet<Label>): Term {
  const labels = term.labels.filter(label => keep.has(label));
  if (labels.length === term.labels.length) return term;
  const values = arrange(term, [...labels, ...term.labels.filter(label => !keep.has(label))]);
  const out = Tensor.zeros(
    term.tensor.dtype,
    labels.map(label => term.tensor.shape[term.labels.indexOf(label)]!),
  );
  const to = out.data as Numbers;
  const count = term.tensor.size / Math.max(out.size, 1);
  for (let i = 0, at = 0; i < to.length; i++) {
    let sum = zeroOf(out);
    for (let j = 0; j < count; j++) sum += values[at++]!;
    to[i] = sum;
  }
  return { labels, tensor: out };
}

/** Zero as the elements of `tensor` have it: arithmetic on bigints needs a bigint. */
function zeroOf(tensor: Tensor): number {
  return (tensor.dtype === 'i64' ? 0n : 0) as number;
}

function runEinsum(c: RunContext): readonly Tensor[] {
  const { operands, result, sizes } = readEquation(c);
  const dtype = c.outputs[0]!.dtype;
  // u64 has the products and sums of i64, modulo 2^64.
  const wide = dtype === 'i64' || dtype === 'u64' ? 'i64' : 'f64';
  const out = c.shape();
  // An outer product in the middle is larger than what comes in and goes out; by how much is bounded.
  const room = c.tensors.reduce((sum, tensor) => sum + tensor!.size, elementCount(out));
  const limit = Math.max(room, Math.min(64 * room + 2 ** 16, 2 ** 27));
  const terms = operands.map((labels, i) => termOf(c.operand(i).cast(wide), labels, sizes));
  const lastUse = new Map(terms.flatMap(({ labels }, i) => labels.map(label => [label, i] as const)));
  for (const label of result) lastUse.set(label, terms.length);
  const keepAfter = (i: number): ReadonlySet<Label> =>
    new Set([...lastUse].flatMap(([label, last]) => (last > i ? [label] : [])));
  let all = dropUnneeded(terms[0]!, keepAfter(0));
  for (let i = 1; i < terms.length; i++) all = contract(c, all, terms[i]!, keepAfter(i), limit);
  return [
    all.tensor
      .transpose(result.map(label => all.labels.indexOf(label)))
      .contiguous()
      .cast(dtype),
  ];
}

const einsum: OperatorVersion = {
  since: 12,
  inputs: [1, MANY],
  outputs: [1, 1],
  attributes: { equation: required(string()) },
  infer: c => {
    c.inputs.forEach((_, i) => {
      c.expect(i, NUMBERS);
      c.sameDType(0, i);
    });
    const { result, sizes } = readEquation(c);
    return [{ dtype: c.input(0).dtype, shape: result.map(label => sizes.get(label)!) }];
  },
  run: runEinsum,
};

/** The operators of this file. */
export const EINSUM: readonly Operator[] = [define('Einsum', 'compute', einsum)];
