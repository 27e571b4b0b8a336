/**
 * Attention over queries, keys and values, and TensorScatter, which keeps the cache that it reads.
 * @module
 */
import { elementCount, formatShape, type Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { around, dense, type Numbers } from '../loops.ts';
import {
  ALL,
  ANY,
  define,
  FLOATS,
  float,
  from,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
  string,
} from '../operator.ts';
import { fitsInto } from './normalisation.ts';
import {
  attend,
  causal,
  joinRows,
  masked,
  padding,
  type RowBias,
  type ScoreStage,
  splitHeads,
} from './scaled-dot-product.ts';

/** The sizes in one application of attention. */
export interface AttentionSizes<Size = Dim> {
  readonly batch: Size;
  readonly heads: Size;
  readonly kvHeads: Size;
  readonly queries: Size;
  /** Keys that come in with this application, and those that the cache holds from before. */
  readonly keys: Size;
  readonly past: Size;
  readonly total: Size;
  readonly size: Size;
  readonly valueSize: Size;
}

/** The stages by `qk_matmul_output_mode`. */
const STAGES: readonly ScoreStage[] = ['scaled', 'capped', 'biased', 'softmax'];

/** Precisions for the softmax, by number in ONNX files. A double is at least as good as any of them. */
const PRECISIONS: readonly number[] = [1, 10, 11, 16];

/** Heads of a tensor of rank 4 are its axis 1; of one of rank 3, `attribute` says how many its last axis holds. */
function headsOf(c: InferContext, index: number, attribute: string): { heads: Dim; rows: Dim; size: Dim } {
  const { shape } = c.input(index);
  const declared = c.has(attribute) ? c.number(attribute) : undefined;
  if (declared !== undefined && declared < 1) c.fail(`attribute ${attribute}: expected at least 1, got ${declared}`);
  if (shape.length === 4) {
    const heads = declared === undefined ? shape[1]! : c.same(shape[1]!, declared, `${attribute} and input ${index}`);
    return { heads, rows: shape[2]!, size: shape[3]! };
  }
  if (declared === undefined) c.fail(`attribute ${attribute} is required with inputs of 3 dimensions`);
  return { heads: declared, rows: shape[1]!, size: headSize(c, shape[2]!, declared) };
}

/** The size of one of `heads` that lie side by side in `hidden`. */
export function headSize(c: InferContext, hidden: Dim, heads: number): Dim {
  return c.derive(`(${hidden}/${heads})`, [hidden], size => {
    if (size % heads !== 0) c.fail(`${size} cannot be cut into ${heads} heads`);
    return size / heads;
  });
}

/** The sum of a size in the past and a size that is added to it. */
export function plusPast(c: InferContext, past: Dim, added: Dim): Dim {
  return past === 0 ? added : c.derive(`(${past}+${added})`, [past, added], (a, b) => a + b);
}

function attentionSizes(c: InferContext): AttentionSizes {
  const rank = c.input(0).shape.length;
  if (rank !== 3 && rank !== 4) c.fail(`expected 3 or 4 dimensions, got ${formatShape(c.input(0).shape)}`);
  for (const index of [1, 2]) c.rank(index, rank);
  const [q, k, v] = [headsOf(c, 0, 'q_num_heads'), headsOf(c, 1, 'kv_num_heads'), headsOf(c, 2, 'kv_num_heads')];
  const kvHeads = c.same(k.heads, v.heads, 'heads of inputs 1 and 2');
  if (typeof q.heads === 'number' && typeof kvHeads === 'number' && q.heads !== 0 && q.heads % kvHeads !== 0) {
    c.fail(`${q.heads} heads cannot share ${kvHeads}`);
  }
  let batch = c.input(0).shape[0]!;
  for (const index of [1, 2]) batch = c.same(batch, c.input(index).shape[0]!, `batches of inputs 0 and ${index}`);
  const keys = c.same(k.rows, v.rows, 'lengths of inputs 1 and 2');
  const size = c.same(q.size, k.size, 'head sizes of inputs 0 and 1');
  const past = pastRows(c, 4, [batch, kvHeads], [size, v.size]);
  return {
    batch,
    heads: q.heads,
    kvHeads,
    queries: q.rows,
    keys,
    past,
    total: plusPast(c, past, keys),
    size,
    valueSize: v.size,
  };
}

/** How many rows the cached keys (input `index`) and values (the one after) have: (batch, heads, rows, size). */
export function pastRows(c: InferContext, index: number, lead: readonly Dim[], sizes: readonly [Dim, Dim]): Dim {
  if (!c.inputs[index] !== !c.inputs[index + 1]) c.fail('past keys and past values come together');
  if (!c.inputs[index]) return 0;
  const rows: Dim[] = [];
  for (const [i, size] of sizes.entries()) {
    c.rank(index + i, 4);
    const { shape } = c.input(index + i);
    for (const [axis, dim] of [...lead, shape[2]!, size].entries()) {
      c.same(dim, shape[axis]!, `axis ${axis} of input ${index + i}`);
    }
    rows.push(shape[2]!);
  }
  return c.same(rows[0]!, rows[1]!, 'lengths of past keys and values');
}

function inferAttention(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  c.expect(2, FLOATS);
  c.expect(3, ALL);
  c.expect(6, ['i64']);
  c.sameDType(0, 1);
  c.sameDType(1, 4);
  c.sameDType(2, 5);
  const sizes = attentionSizes(c);
  const { batch, heads, kvHeads, queries, total, valueSize } = sizes;
  checkMask(c, sizes);
  if (c.inputs[6]) {
    c.rank(6, 1);
    c.same(batch, c.input(6).shape[0]!, 'batches of inputs 0 and 6');
  }
  stageOf(c);
  if (c.has('softmax_precision') && !PRECISIONS.includes(c.number('softmax_precision'))) {
    c.fail(`attribute softmax_precision: ${c.number('softmax_precision')} is no float type`);
  }
  if (!(c.number('softcap') >= 0)) c.fail(`attribute softcap: expected at least 0, got ${c.number('softcap')}`);
  const [dtype, valueDType] = [c.input(0).dtype, c.input(2).dtype];
  const shape =
    c.input(0).shape.length === 4
      ? [batch, heads, queries, valueSize]
      : [batch, queries, heads === kvHeads ? c.input(2).shape[2]! : c.product([heads, valueSize])];
  const facts: readonly Facts[] = [
    { dtype, shape },
    { dtype, shape: [batch, kvHeads, total, sizes.size] },
    { dtype: valueDType, shape: [batch, kvHeads, total, valueSize] },
    { dtype, shape: [batch, heads, queries, total] },
  ];
  return facts.slice(0, Math.max(1, c.node.outputs.length));
}

function stageOf(c: InferContext): ScoreStage {
  const mode = c.number('qk_matmul_output_mode');
  return STAGES[mode] ?? c.fail(`attribute qk_matmul_output_mode: expected 0 to 3, got ${mode}`);
}

/** A mask broadcasts to the scores. From opset 24 on it may end early: the keys after its end are hidden. */
function checkMask(c: InferContext, { batch, heads, queries, total }: AttentionSizes): void {
  const shape = c.inputs[3]?.shape;
  if (!shape) return;
  const last = c.node.opset >= 24 ? (shape.at(-1) ?? c.fail('the mask is a scalar')) : total;
  if (typeof last === 'number' && typeof total === 'number' && last > total) {
    c.fail(`a mask of ${last} keys, of which there are ${total}`);
  }
  fitsInto(c, 3, [batch, heads, queries, last]);
}

function runAttention(c: RunContext): readonly Tensor[] {
  const sizes = attentionSizes(c) as AttentionSizes<number>;
  const { batch, heads, kvHeads, queries, total } = sizes;
  const flat = c.operand(0).shape.length === 3;
  const [query, newKey, newValue] = [heads, kvHeads, kvHeads].map((count, i) =>
    flat ? splitHeads(c.operand(i), count) : c.operand(i),
  ) as [Tensor, Tensor, Tensor];
  const key = c.tensors[4] ? joinRows(c.tensors[4], newKey) : newKey;
  const value = c.tensors[5] ? joinRows(c.tensors[5], newValue) : newValue;
  const out = c.allocate();
  const scores = c.node.outputs[3] === undefined ? undefined : c.allocate(3);
  attend(
    {
      query,
      key,
      value,
      scale: c.has('scale') ? c.number('scale') : 1 / Math.sqrt(sizes.size),
      softcap: c.number('softcap'),
      biases: attentionBiases(c, [batch, heads, queries, total], sizes.past),
    },
    flat ? splitHeads(out, heads) : out,
    scores && { stage: stageOf(c), scores },
  );
  return [out, key, value, ...(scores ? [scores] : [])].slice(0, c.outputs.length);
}

/**
 * What is added to the scores. A causal mask lets a query see the keys up to its own position, where the queries follow the past;
 * with a cache that is filled up to `nonpad_kv_seqlen` they are the last of those keys.
 */
function attentionBiases(
  c: RunContext,
  [batch, heads, queries, total]: readonly [number, number, number, number],
  past: number,
): readonly RowBias[] {
  const biases: RowBias[] = [];
  const mask = c.tensors[3];
  if (mask) {
    const keys = c.node.opset >= 24 ? mask.shape.at(-1)! : total;
    const plain = mask.dtype === 'bool' || mask.dtype === 'f32' || mask.dtype === 'f64';
    biases.push(masked(plain ? mask : mask.cast('f64'), [batch, heads, queries, keys]));
  }
  const filled = c.tensors[6]?.values().map(Number);
  if (c.number('is_causal') !== 0) {
    biases.push(causal(b => (c.tensors[4] || !filled ? past : filled[b]! - queries)));
  }
  if (filled) biases.push(padding(b => filled[b]!));
  return biases;
}

const attention23: OperatorVersion = {
  since: 23,
  inputs: [3, 6],
  outputs: [1, 4],
  attributes: {
    is_causal: int(0),
    kv_num_heads: int(),
    q_num_heads: int(),
    qk_matmul_output_mode: int(0),
    scale: float(),
    softcap: float(0),
    softmax_precision: int(),
  },
  infer: inferAttention,
  run: runAttention,
};

const WRITE_MODES: readonly string[] = ['linear', 'circular'];

/** Writes rows into a cache from an index of each sample on; a circular cache begins anew at its end. */
const tensorScatter: OperatorVersion = {
  since: 24,
  inputs: [2, 3],
  outputs: [1, 1],
  attributes: { axis: int(-2), mode: string('linear') },
  infer: c => {
    c.expect(0, ANY);
    c.sameDType(0, 1);
    c.expect(2, ['i64']);
    const { dtype, shape } = c.input(0);
    const axis = c.axis(c.number('axis'), shape.length);
    if (axis === 0) c.fail('axis 0 is the batch');
    if (!WRITE_MODES.includes(c.string('mode'))) {
      c.fail(`attribute mode: ${JSON.stringify(c.string('mode').slice(0, 20))} is unknown`);
    }
    c.rank(1, shape.length);
    for (const [i, dim] of c.input(1).shape.entries()) {
      const room = shape[i]!;
      if (i !== axis) c.same(room, dim, `axis ${i} of inputs 0 and 1`);
      else if (typeof dim === 'number' && typeof room === 'number' && dim > room) {
        c.fail(`${dim} rows into a cache of ${room}`);
      }
    }
    if (c.inputs[2]) {
      c.rank(2, 1);
      c.same(shape[0]!, c.input(2).shape[0]!, 'batches of inputs 0 and 2');
    }
    return [{ dtype, shape }];
  },
  run: c => {
    const out = c.operand(0).clone();
    const [to, update] = [out.data as Numbers, dense(c.operand(1))];
    const axis = c.axis(c.number('axis'), out.shape.length);
    const { outer, n: room, inner } = around(out.shape, axis);
    const rows = c.operand(1).shape[axis]!;
    const perSample = elementCount(out.shape.slice(1, axis));
    const starts = c.tensors[2]?.values().map(Number);
    const circular = c.string('mode') === 'circular';
    if (out.size === 0) return [out];
    for (let o = 0; o < outer; o++) {
      const start = starts?.[Math.floor(o / perSample)] ?? 0;
      if (start < 0 || (!circular && start + rows > room)) {
        c.fail(`rows ${start} to ${start + rows} of a cache of ${room}`);
      }
      for (let row = 0; row < rows; row++) {
        const at = (o * room + ((start + row) % room)) * inner;
        const source = (o * rows + row) * inner;
        for (let i = 0; i < inner; i++) to[at + i] = update[source + i]!;
      }
    }
    return [out];
  },
};

/** The operators of this file. */
export const ATTENTION: readonly Operator[] = [
  define('Attention', 'compute', attention23, from(24, attention23, { inputs: [3, 7] })),
  define('TensorScatter', 'compute', tensorScatter),
];
