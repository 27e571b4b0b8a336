/**
 * Normalisation of sums and of embeddings, as onnxruntime's optimiser writes it (`com.microsoft`).
 * @module
 */
import { elementCount, formatShape, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { dense, type Numbers, zipInto } from '../loops.ts';
import {
  defineIn,
  FLOATS,
  float,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
} from '../operator.ts';
import { normaliseRows } from './normalisation.ts';

/** Where the optional inputs of a normalised sum are: with a mean (`beta` is added at the end) or without. */
interface SkipRoles {
  readonly beta?: number;
  readonly bias: number;
}

const CENTRED: SkipRoles = { beta: 3, bias: 4 };
const SIMPLIFIED: SkipRoles = { bias: 3 };

const plus = (x: number, y: number): number => x + y;

/** The results: normalised sum, means, reciprocals of the deviations, the sum itself. */
function inferSkip({ beta, bias }: SkipRoles): (c: InferContext) => readonly Facts[] {
  return c => {
    c.expect(0, FLOATS);
    const { dtype, shape } = c.input(0);
    if (shape.length !== 2 && shape.length !== 3) c.fail(`expected 2 or 3 dimensions, got ${formatShape(shape)}`);
    c.sameDType(0, 1);
    // What is skipped may be one sample for the whole batch.
    const skip = c.input(1).shape;
    if (skip.length > shape.length)
      c.fail(`input 1 of ${formatShape(skip)} has more dimensions than ${formatShape(shape)}`);
    for (const [i, dim] of skip.entries()) {
      const at = shape.length - skip.length + i;
      if (dim !== 1 || at > 0) c.same(shape[at]!, dim, `axis ${at} of inputs 0 and 1`);
    }
    for (const index of [2, beta, bias]) {
      if (index === undefined || !(index === 2 || c.inputs[index])) continue;
      c.sameDType(0, index);
      c.rank(index, 1);
      c.same(shape.at(-1)!, c.input(index).shape[0]!, `sizes of inputs 0 and ${index}`);
    }
    if (beta === undefined && c.node.outputs[1] !== undefined)
      c.unsupported('the mean of a norm without one has no kernel');
    const statistic: Facts = { dtype: 'f32', shape: [...shape.slice(0, -1), 1] };
    return [{ dtype, shape }, statistic, statistic, { dtype, shape }];
  };
}

function runSkip({ beta, bias }: SkipRoles): (c: RunContext) => readonly Tensor[] {
  return c => {
    const sum = zipInto(c.allocate(3), c.operand(0), c.operand(1), plus);
    if (c.tensors[bias]) zipInto(sum, sum, c.tensors[bias], plus);
    const out = c.allocate();
    const size = c.shape().at(-1)!;
    const rows = elementCount(c.shape().slice(0, -1));
    const shift = beta === undefined ? undefined : c.tensors[beta];
    const norm = {
      centred: beta !== undefined,
      epsilon: c.number('epsilon'),
      scale: dense(c.operand(2)),
      bias: shift && dense(shift),
    };
    const [means, inverses] = [c.allocate(1), c.allocate(2)];
    const statistics = [means.data as Numbers, inverses.data as Numbers] as const;
    normaliseRows(dense(sum), out.data as Numbers, rows, size, norm, ...statistics);
    return [out, means, inverses, sum];
  };
}

const skipLayerNormalization: OperatorVersion = {
  since: 1,
  inputs: [3, 5],
  outputs: [1, 4],
  attributes: { epsilon: float(1e-12) },
  infer: inferSkip(CENTRED),
  run: runSkip(CENTRED),
};

const skipSimplified: OperatorVersion = {
  ...skipLayerNormalization,
  inputs: [3, 4],
  infer: inferSkip(SIMPLIFIED),
  run: runSkip(SIMPLIFIED),
};

/** The inputs of EmbedLayerNormalization, in order. */
const [IDS, SEGMENT_IDS, WORDS, POSITIONS, SEGMENTS, GAMMA, BETA, MASK, POSITION_IDS] = [0, 1, 2, 3, 4, 5, 6, 7, 8];

/** Segments come as ids and a table, or not at all. */
function inferEmbedding(c: InferContext): readonly Facts[] {
  c.rank(IDS, 2);
  const [batch, rows] = c.input(IDS).shape as readonly [Dim, Dim];
  for (const index of [IDS, SEGMENT_IDS, MASK, POSITION_IDS]) c.expect(index, ['i32', 'i64']);
  if (!c.inputs[SEGMENT_IDS] !== !c.inputs[SEGMENTS]) c.fail('ids of segments and their embedding come together');
  for (const index of [SEGMENT_IDS, MASK, POSITION_IDS]) {
    if (!c.inputs[index]) continue;
    c.rank(index, 2);
    const [first, second] = c.input(index).shape as readonly [Dim, Dim];
    if (index !== POSITION_IDS || first !== 1) c.same(batch, first, `batches of inputs 0 and ${index}`);
    c.same(rows, second, `lengths of inputs 0 and ${index}`);
  }
  const { dtype } = c.input(WORDS);
  c.expect(WORDS, FLOATS);
  c.rank(WORDS, 2);
  const size = c.input(WORDS).shape[1]!;
  for (const index of [POSITIONS, SEGMENTS, GAMMA, BETA]) {
    if (index === SEGMENTS && !c.inputs[SEGMENTS]) continue;
    c.rank(index, index === GAMMA || index === BETA ? 1 : 2);
    c.same(size, c.input(index).shape.at(-1)!, `sizes of inputs ${WORDS} and ${index}`);
    c.sameDType(WORDS, index);
  }
  const facts: Facts = { dtype, shape: [batch, rows, size] };
  return [facts, { dtype: 'i32', shape: [batch] }, facts];
}

function runEmbedding(c: RunContext): readonly Tensor[] {
  const [batch, rows, size] = c.shape() as [number, number, number];
  const sum = c.allocate(2);
  const to = sum.data as Numbers;
  const add = (table: number, ids: ArrayLike<number>, at: (index: number) => number): void => {
    const from = dense(c.operand(table));
    const known = c.operand(table).shape[0]!;
    for (let index = 0, start = 0; index < batch * rows; index++, start += size) {
      const id = ids[at(index)]!;
      if (!(id >= 0 && id < known)) c.fail(`an index is outside an embedding of ${known}`);
      for (let i = 0; i < size; i++) to[start + i]! += from[id * size + i]!;
    }
  };
  const numbers = (index: number): readonly number[] => c.operand(index).values().map(Number);
  add(WORDS, numbers(IDS), index => index);
  const positions = c.tensors[POSITION_IDS] ? numbers(POSITION_IDS) : Array.from({ length: rows }, (_, i) => i);
  add(POSITIONS, positions, index => (positions.length === rows ? index % rows : index));
  if (c.tensors[SEGMENT_IDS]) add(SEGMENTS, numbers(SEGMENT_IDS), index => index);
  const out = c.allocate();
  normaliseRows(to, out.data as Numbers, batch * rows, size, {
    centred: true,
    epsilon: c.number('epsilon'),
    scale: dense(c.operand(GAMMA)),
    bias: dense(c.operand(BETA)),
  });
  return [out, lengths(c, batch, rows), sum];
}

/** How many words of each sample the mask lets through; zeros without a mask. */
function lengths(c: RunContext, batch: number, rows: number): Tensor {
  const mask = c.tensors[MASK]?.values().map(Number);
  const counts = new Int32Array(batch);
  mask?.forEach((value, i) => {
    if (value === 1) counts[Math.floor(i / rows)]! += 1;
  });
  return Tensor.from('i32', [batch], counts);
}

/** The operators of this file. */
export const MICROSOFT_NORMALISATION: readonly Operator[] = [
  defineIn('com.microsoft', 'SkipLayerNormalization', 'compute', skipLayerNormalization),
  defineIn('com.microsoft', 'SkipSimplifiedLayerNormalization', 'compute', skipSimplified),
  defineIn('com.microsoft', 'EmbedLayerNormalization', 'compute', {
    since: 1,
    // Two of the first seven may be left out; the rule fails where another one is.
    inputs: [1, 9],
    outputs: [1, 3],
    attributes: { epsilon: float(1e-12), mask_index_type: int() },
    infer: inferEmbedding,
    run: runEmbedding,
  }),
];
