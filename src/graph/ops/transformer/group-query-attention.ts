/**
 * GroupQueryAttention (`com.microsoft`): attention of decoders, with rotary embedding and a cache that is filled step by step.
 * @module
 */
import { formatShape, type Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { dense, type Numbers } from '../loops.ts';
import {
  defineIn,
  FLOATS,
  float,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  string,
} from '../operator.ts';
import { headSize, pastRows } from './attention.ts';
import { fitsInto } from './normalisation.ts';
import { turn } from './rotary.ts';
import { attend, causal, masked, padding, type RowBias, splitHeads } from './scaled-dot-product.ts';

/** The inputs, in order. */
const [QUERY, KEY, VALUE, PAST_KEY, PAST_VALUE, LENGTHS, TOTAL, COS, SIN, POSITIONS, SCORE_BIAS, SINK] = [
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
];

interface Sizes<Size> {
  readonly batch: Size;
  readonly rows: Size;
  readonly heads: number;
  readonly kvHeads: number;
  readonly size: Size;
  /** Rows of the cache before and after, and how many of the latter are in use at most. */
  readonly past: Size;
  readonly present: Size;
  readonly total: Size;
}

function sizesOf(c: InferContext): Sizes<Dim> {
  const [heads, kvHeads] = [c.number('num_heads'), c.number('kv_num_heads')];
  if (heads < 1 || kvHeads < 1 || heads % kvHeads !== 0) c.fail(`${heads} heads cannot share ${kvHeads}`);
  c.rank(QUERY, 3);
  const [batch, rows, hidden] = c.input(QUERY).shape as readonly [Dim, Dim, Dim];
  if (!c.inputs[KEY] !== !c.inputs[VALUE]) c.fail('keys and values come together, or with the queries');
  const size = headSize(c, hidden, c.inputs[KEY] ? heads : heads + 2 * kvHeads);
  for (const index of [KEY, VALUE]) {
    if (!c.inputs[index]) continue;
    c.rank(index, 3);
    for (const [axis, dim] of [batch, rows, c.product([kvHeads, size])].entries()) {
      c.same(c.input(index).shape[axis]!, dim, `axis ${axis} of input ${index}`);
    }
  }
  const past = pastRows(c, PAST_KEY, [batch, kvHeads], [size, size]);
  if (c.differ(c.product(c.input(TOTAL).shape), 1)) c.fail(`input ${TOTAL}: expected one number`);
  const total = c.known(TOTAL)?.[0] ?? c.fresh();
  if (typeof total === 'number' && typeof past === 'number' && typeof rows === 'number') {
    // A cache is as large as all rows so far, or larger and used in place; nothing makes it larger than that.
    if (total < rows || total > past + rows) c.fail(`${rows} rows after ${past} cannot make a total of ${total}`);
  }
  const present = past === 0 ? total : c.derive(`max(${past},${total})`, [past, total], Math.max);
  return { batch, rows, heads, kvHeads, size, past, present, total };
}

function inferGroupQuery(c: InferContext): readonly Facts[] {
  c.expect(QUERY, FLOATS);
  for (const index of [KEY, VALUE, PAST_KEY, PAST_VALUE, COS, SIN, SCORE_BIAS, SINK]) c.sameDType(QUERY, index);
  for (const index of [LENGTHS, TOTAL]) c.expect(index, ['i32']);
  c.expect(POSITIONS, ['i64']);
  refuseNewer(c);
  const sizes = sizesOf(c);
  const { batch, rows, heads, kvHeads, size, present, total } = sizes;
  for (const [index, expected] of [
    [LENGTHS, batch],
    [SINK, heads],
  ] as const) {
    if (index === SINK && !c.inputs[SINK]) continue;
    const { shape } = c.input(index);
    c.same(c.product(shape), expected, `input ${index} of ${formatShape(shape)}`);
  }
  if (c.number('do_rotary') !== 0) checkCaches(c, sizes);
  fitsInto(c, SCORE_BIAS, [batch, heads, rows, total]);
  const { dtype } = c.input(QUERY);
  const cache: Facts = { dtype, shape: [batch, kvHeads, present, size] };
  return [{ dtype, shape: [batch, rows, c.product([heads, size])] }, cache, cache];
}

/** What the operator may be asked for that has no kernel here. */
function refuseNewer(c: InferContext): void {
  if (c.inputs.slice(SINK + 1).some(facts => facts !== undefined)) c.unsupported('scales and norms have no kernel');
  if (c.string('k_quant_type') !== 'NONE' || c.string('v_quant_type') !== 'NONE') {
    c.unsupported('a quantised cache has no kernel');
  }
  if (c.number('sliding_window_cache') !== 0) c.unsupported('a cache of a window has no kernel');
  if (c.number('qk_output') !== 0 || c.node.outputs[3] !== undefined)
    c.unsupported('the output of scores has no kernel');
}

/** Cosines and sines are (positions, pairs); at most whole heads are turned. */
function checkCaches(c: InferContext, { batch, rows, size }: Sizes<Dim>): void {
  for (const index of [COS, SIN]) c.rank(index, 2);
  const [cos, sin] = [c.input(COS).shape, c.input(SIN).shape];
  for (const [axis, dim] of cos.entries()) c.same(dim, sin[axis]!, `axis ${axis} of the caches`);
  const pairs = cos[1]!;
  if (typeof pairs === 'number' && typeof size === 'number' && 2 * pairs > size) {
    c.fail(`${2 * pairs} elements of heads of ${size} cannot be turned`);
  }
  if (!c.inputs[POSITIONS]) return;
  c.rank(POSITIONS, 2);
  const [first, second] = c.input(POSITIONS).shape as readonly [Dim, Dim];
  c.same(batch, first, 'batches of queries and positions');
  c.same(rows, second, 'lengths of queries and positions');
}

function runGroupQuery(c: RunContext): readonly Tensor[] {
  const sizes = sizesOf(c) as Sizes<number>;
  const { batch, rows, heads, size, total } = sizes;
  const before = rowsBefore(c, sizes);
  const [query, newKey, newValue] = inHeads(c, sizes);
  const turned = (x: Tensor): Tensor => (c.number('do_rotary') !== 0 ? rotate(c, x, sizes, before) : x);
  const [key, value] = [c.allocate(1), c.allocate(2)];
  fill(key, c.tensors[PAST_KEY], turned(newKey), before);
  fill(value, c.tensors[PAST_VALUE], newValue, before);
  const out = c.allocate();
  const scale = c.has('scale') && c.number('scale') !== 0 ? c.number('scale') : 1 / Math.sqrt(size);
  const biases: RowBias[] = [
    c.number('causal') !== 0 ? causal(b => before[b]!) : padding(b => before[b]! + rows),
    ...window(c, before),
    ...(c.tensors[SCORE_BIAS] ? [masked(c.tensors[SCORE_BIAS], [batch, heads, rows, total])] : []),
  ];
  const sinks = c.tensors[SINK] ? dense(c.tensors[SINK]) : undefined;
  const smooth = c.number('smooth_softmax') !== 0;
  attend(
    {
      query: turned(query),
      key,
      value,
      scale,
      softcap: c.number('softcap'),
      biases,
      ...(sinks ? { sink: (head: number) => sinks[head]! } : smooth ? { sink: () => 0 } : {}),
    },
    splitHeads(out, heads),
  );
  return [out, key, value];
}

/** How many rows of each sample's cache are in use already: none while a prompt is read, where all rows are new. */
function rowsBefore(c: RunContext, { batch, rows, past, total }: Sizes<number>): Int32Array {
  const lengths = c.operand(LENGTHS).values().map(Number);
  return Int32Array.from({ length: batch }, (_, b) => {
    const length = lengths[b]! + 1;
    const before = rows === total ? 0 : length - rows;
    if (length < 1 || length > total || before < 0 || before > past) {
      c.fail(`sample ${b}: ${rows} rows after ${past} cannot make ${length} of at most ${total}`);
    }
    return before;
  });
}

/** Queries, keys and values as (batch, heads, rows, size): three tensors, or side by side in one. */
function inHeads(c: RunContext, { heads, kvHeads, size }: Sizes<number>): readonly [Tensor, Tensor, Tensor] {
  if (c.tensors[KEY]) {
    return [
      splitHeads(c.operand(QUERY), heads),
      splitHeads(c.operand(KEY), kvHeads),
      splitHeads(c.operand(VALUE), kvHeads),
    ];
  }
  const part = (first: number, count: number): Tensor =>
    splitHeads(c.operand(QUERY).slice({ axis: 2, start: first * size, end: (first + count) * size }), count);
  return [part(0, heads), part(heads, kvHeads), part(heads + kvHeads, kvHeads)];
}

/** A copy whose heads are turned by the angles of their positions. */
function rotate(c: RunContext, x: Tensor, { rows, size, total }: Sizes<number>, before: Int32Array): Tensor {
  const out = x.clone();
  const data = out.data as Numbers;
  const [known, pairs] = c.operand(COS).shape as readonly [number, number];
  const caches = { cos: dense(c.operand(COS)), sin: dense(c.operand(SIN)), pairs };
  const given = c.tensors[POSITIONS]?.values().map(Number);
  const interleaved = c.number('rotary_interleaved') !== 0;
  const heads = x.shape[1]!;
  for (let i = 0, start = 0; start < data.length; i++, start += size) {
    const [b, row] = [Math.floor(i / rows / heads), i % rows];
    // Of the positions of a prompt only the first is read.
    const position = !given ? before[b]! + row : rows === total ? given[0]! + row : given[b * rows + row]!;
    if (position < 0 || position >= known) c.fail(`a position is outside a cache of ${known}`);
    turn(data, data, start, caches, position, interleaved);
  }
  return out;
}

/** Writes what a cache held, and new rows after it, into its next state; what is not in use is zero. */
function fill(cache: Tensor, past: Tensor | undefined, added: Tensor, before: Int32Array): void {
  const [batch, heads, capacity, size] = cache.shape as readonly [number, number, number, number];
  const to = cache.data as Numbers;
  const old = past && dense(past);
  const oldRows = past?.shape[2] ?? 0;
  const fresh = dense(added);
  const width = added.shape[2]! * size;
  for (let i = 0; i < batch * heads; i++) {
    const used = before[Math.floor(i / heads)]! * size;
    if (old) to.set(old.subarray(i * oldRows * size, i * oldRows * size + used), i * capacity * size);
    to.set(fresh.subarray(i * width, (i + 1) * width), i * capacity * size + used);
  }
}

/** Hides the keys before the last `local_window_size`, of which the query's own is one. */
function window(c: RunContext, before: Int32Array): readonly RowBias[] {
  const size = c.number('local_window_size');
  if (size < 1) return [];
  return [
    (bias, batch, _, query) => {
      bias.fill(Number.NEGATIVE_INFINITY, 0, Math.max(0, before[batch]! + query + 1 - size));
    },
  ];
}

const groupQueryAttention: OperatorVersion = {
  since: 1,
  // The rule fails where one of the inputs that must be there is not; some before the last of them may be left out.
  inputs: [1, 16],
  outputs: [1, 4],
  attributes: {
    causal: int(1),
    do_rotary: int(0),
    k_quant_type: string('NONE'),
    kv_cache_bit_width: int(),
    kv_num_heads: required(int()),
    local_window_size: int(-1),
    num_heads: required(int()),
    qk_norm_epsilon: float(1e-6),
    qk_output: int(0),
    rotary_interleaved: int(0),
    scale: float(),
    sliding_window_cache: int(0),
    smooth_softmax: int(0),
    softcap: float(0),
    v_quant_type: string('NONE'),
  },
  infer: inferGroupQuery,
  run: runGroupQuery,
};

/** The operators of this file. */
export const GROUP_QUERY_ATTENTION: readonly Operator[] = [
  defineIn('com.microsoft', 'GroupQueryAttention', 'compute', groupQueryAttention),
];
