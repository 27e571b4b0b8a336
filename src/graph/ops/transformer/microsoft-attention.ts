/**
 * Attention as onnxruntime's optimiser writes it (`com.microsoft`): with the projection in it, or after it.
 * @module
 */
import { formatShape, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { matmulInto } from '../linear/gemm.ts';
import { dense, type Numbers, zipInto } from '../loops.ts';
import {
  defineIn,
  FLOATS,
  float,
  type InferContext,
  int,
  ints,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
} from '../operator.ts';
import { headSize, pastRows, plusPast } from './attention.ts';
import { fitsInto } from './normalisation.ts';
import { attend, causal, joinRows, masked, type RowBias, splitHeads } from './scaled-dot-product.ts';

/** The number of heads, which no head size is divided by before it is checked. */
export function headCount(c: InferContext): number {
  const heads = c.number('num_heads');
  return heads >= 1 ? heads : c.fail(`attribute num_heads: expected at least 1, got ${heads}`);
}

/** A scale of zero means the one that the paper has. */
export function scaleOf(c: InferContext, size: number): number {
  const scale = c.has('scale') ? c.number('scale') : 0;
  return scale === 0 ? 1 / Math.sqrt(size) : scale;
}

/** Which keys are padding: a mask of zeros and ones, or where each sequence ends (and, in a second half, where it starts). */
export function checkPadding(
  c: InferContext,
  index: number,
  batch: Dim,
  queries: Dim,
  total: Dim,
  starts: boolean,
): void {
  const shape = c.inputs[index]?.shape;
  if (!shape) return;
  c.expect(index, ['i32']);
  if (shape.length > 3) c.unsupported(`a padding mask of ${formatShape(shape)} has no kernel`);
  if (shape.length === 0) c.fail(`input ${index}: a scalar is no mask`);
  if (shape.length === 1) {
    const [length] = shape as readonly [Dim];
    const known = typeof length === 'number' && typeof batch === 'number';
    if (known && length !== batch && !(starts && length === 2 * batch)) {
      c.unsupported(`a padding mask of ${length} numbers for a batch of ${batch} has no kernel`);
    }
    return;
  }
  const expected = shape.length === 2 ? [batch, total] : [batch, queries, total];
  for (const [i, dim] of shape.entries()) c.same(expected[i]!, dim, `axis ${i} of the padding mask`);
}

/** Adds `mask_filter_value` to the scores of padding: low, but not as low as nothing at all. */
export function paddingBias(c: RunContext, index: number, batch: number, queries: number): readonly RowBias[] {
  const mask = c.tensors[index];
  if (!mask) return [];
  const filter = c.number('mask_filter_value');
  const values = dense(mask);
  if (mask.shape.length === 1) {
    const bounded = mask.shape[0] === 2 * batch && batch > 0;
    return [
      (bias, b) => {
        const [start, end] = [bounded ? values[batch + b]! : 0, values[b]!];
        for (let key = 0; key < bias.length; key++) if (key < start || key >= end) bias[key]! += filter;
      },
    ];
  }
  const perQuery = mask.shape.length === 3;
  return [
    (bias, b, _, query) => {
      const start = (perQuery ? b * queries + query : b) * bias.length;
      for (let key = 0; key < bias.length; key++) if (!(values[start + key]! > 0)) bias[key]! += filter;
    },
  ];
}

/** A bias of shape (batch or 1, heads or 1, queries, total). */
function scoreBias(c: RunContext, index: number, shape: readonly [number, number, number, number]): readonly RowBias[] {
  return c.tensors[index] ? [masked(c.tensors[index], shape)] : [];
}

interface ProjectedSizes {
  readonly batch: Dim;
  readonly rows: Dim;
  readonly heads: number;
  /** Widths of the projected queries, keys and values, side by side in the weights. */
  readonly widths: readonly [Dim, Dim, Dim];
  readonly past: Dim;
}

/** The inputs of Attention, in order. */
const [INPUT, WEIGHTS, BIAS, MASK, PAST, SCORE_BIAS] = [0, 1, 2, 3, 4, 5];

function projectedSizes(c: InferContext): ProjectedSizes {
  c.rank(INPUT, 3);
  c.rank(WEIGHTS, 2);
  const [batch, rows, inputSize] = c.input(INPUT).shape as readonly [Dim, Dim, Dim];
  const [from, width] = c.input(WEIGHTS).shape as readonly [Dim, Dim];
  c.same(inputSize, from, 'sizes of inputs 0 and 1');
  const heads = headCount(c);
  const third = c.derive(`(${width}/3)`, [width], all => (all % 3 === 0 ? all / 3 : -1));
  const widths = c.numbers('qkv_hidden_sizes') ?? [third, third, third];
  const [q, k, v] = widths as readonly [Dim, Dim, Dim];
  const known = widths.every(size => typeof size === 'number') && typeof width === 'number';
  if (widths.length !== 3 || q !== k || (known && (q as number) + (k as number) + (v as number) !== width)) {
    c.fail(`queries, keys and values of ${formatShape(widths)} in weights of ${width} columns`);
  }
  for (const size of widths) {
    if (typeof size === 'number' && (size < 0 || size % heads !== 0))
      c.fail(`${size} cannot be cut into ${heads} heads`);
  }
  const past = c.inputs[PAST]?.shape;
  if (past && past.length !== 5) c.fail(`the past must have 5 dimensions, got ${formatShape(past)}`);
  if (past && c.differ(q, v)) c.fail('with a past, keys and values are of one size');
  return { batch, rows, heads, widths: [q, k, v], past: past?.[3] ?? 0 };
}

function inferAttention(c: InferContext): readonly Facts[] {
  c.expect(INPUT, FLOATS);
  for (const index of [WEIGHTS, BIAS, PAST, SCORE_BIAS]) c.sameDType(INPUT, index);
  if (c.number('do_rotary') !== 0) c.unsupported('rotary embedding inside has no kernel');
  if (c.number('past_present_share_buffer') !== 0 || c.inputs[6]) c.unsupported('a shared buffer has no kernel');
  const { batch, rows, heads, widths, past } = projectedSizes(c);
  if (c.inputs[BIAS]) {
    c.rank(BIAS, 1);
    c.same(c.input(WEIGHTS).shape[1]!, c.input(BIAS).shape[0]!, 'columns of inputs 1 and 2');
  }
  const total = plusPast(c, past, rows);
  const size = headSize(c, widths[2], heads);
  const expected = [2, batch, heads, past, size];
  for (const [i, dim] of (c.inputs[PAST]?.shape ?? []).entries()) c.same(expected[i]!, dim, `axis ${i} of the past`);
  checkPadding(c, MASK, batch, rows, total, true);
  fitsInto(c, SCORE_BIAS, [batch, heads, rows, total]);
  const { dtype } = c.input(INPUT);
  const facts: readonly Facts[] = [
    { dtype, shape: [batch, rows, widths[2]] },
    { dtype, shape: [2, batch, heads, total, size] },
  ];
  if (c.node.outputs[1] === undefined) return facts.slice(0, 1);
  if (c.differ(widths[1], widths[2])) c.fail('keys and values of two sizes cannot be kept in one tensor');
  return facts;
}

function runAttention(c: RunContext): readonly Tensor[] {
  const { batch, rows, heads, widths } = projectedSizes(c);
  const [queries, keys] = widths as readonly [number, number, number];
  const projected = project(c, c.operand(WEIGHTS).shape[1]!);
  return attendProjected(c, projected, { heads, queries, keys, past: c.tensors[PAST] }, total => {
    const shape = [batch as number, heads, rows as number, total] as const;
    return [...paddingBias(c, MASK, shape[0], shape[2]), ...scoreBias(c, SCORE_BIAS, shape)];
  });
}

/** How queries, keys and values lie side by side, in columns, and what came before them. */
export interface Projected {
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  /** (2, batch, heads, rows, size): keys and values of earlier rows. */
  readonly past: Tensor | undefined;
}

/**
 * Attention over `projected` (batch, rows, columns): the output, and with it the keys and values so far where the node asks for them.
 * `biases` are told how many keys there are, the past included.
 */
export function attendProjected(
  c: RunContext,
  projected: Tensor,
  { heads, queries, keys, past }: Projected,
  biases: (total: number) => readonly RowBias[],
): readonly Tensor[] {
  const part = (start: number, end: number): Tensor => splitHeads(projected.slice({ axis: 2, start, end }), heads);
  const query = part(0, queries);
  const before = past?.shape[3] ?? 0;
  const [key, value] = [part(queries, queries + keys), part(queries + keys, projected.shape[2]!)].map((added, i) =>
    past ? joinRows(past.slice({ axis: 0, start: i, end: i + 1 }).squeeze([0]), added) : added,
  ) as [Tensor, Tensor];
  const out = c.allocate();
  attend(
    {
      query,
      key,
      value,
      scale: scaleOf(c, query.shape[3]!),
      softcap: 0,
      biases: [...biases(key.shape[2]!), ...(c.number('unidirectional') ? [causal(() => before)] : [])],
    },
    splitHeads(out, heads),
  );
  if (c.outputs.length < 2) return [out];
  const present = c.allocate(1);
  (present.data as Numbers).set(dense(key));
  (present.data as Numbers).set(dense(value), key.size);
  return [out, present];
}

/** The input times the weights, plus the bias: (batch, rows, columns). */
function project(c: RunContext, columns: number): Tensor {
  const [x, weights] = [c.operand(INPUT), c.operand(WEIGHTS)];
  const [batch, rows, size] = x.shape as readonly [number, number, number];
  const shape = [batch, rows, columns];
  const out = c.tensors[BIAS] ? c.tensors[BIAS].expand(shape).clone() : Tensor.zeros(x.dtype, shape);
  const matrix = (data: Numbers, width: number) => ({ data, offset: 0, rowStride: width, columnStride: 1 });
  const into = { data: out.data as Numbers, offset: 0 };
  matmulInto(batch * rows, columns, size, matrix(dense(x), size), matrix(dense(weights), columns), into);
  return out;
}

const attention: OperatorVersion = {
  since: 1,
  inputs: [2, 7],
  outputs: [1, 2],
  attributes: {
    do_rotary: int(0),
    mask_filter_value: float(-10000),
    num_heads: required(int()),
    past_present_share_buffer: int(0),
    qkv_hidden_sizes: ints(),
    rotary_embedding_dim: int(),
    scale: float(),
    unidirectional: int(0),
  },
  infer: inferAttention,
  run: runAttention,
};

/** The inputs of MultiHeadAttention, in order. */
const [QUERY, KEY, VALUE, PROJECTION_BIAS, PADDING, ADDED, PAST_KEY] = [0, 1, 2, 3, 4, 5, 6];

/** How queries, keys and values come: three tensors, keys and values in one, all in one, or keys and values already in heads. */
type Layout = 'separate' | 'packedKv' | 'packedQkv' | 'cached';

interface HeadSizes {
  readonly layout: Layout;
  readonly batch: Dim;
  readonly heads: number;
  readonly queries: Dim;
  readonly keys: Dim;
  readonly size: Dim;
  readonly valueSize: Dim;
}

function headSizes(c: InferContext): HeadSizes {
  const heads = headCount(c);
  const query = c.input(QUERY).shape;
  const [key, value] = [c.inputs[KEY]?.shape, c.inputs[VALUE]?.shape];
  if (query.length === 5) {
    if (key || value) c.fail('queries, keys and values come in one tensor, and again');
    for (const [axis, size] of [
      [2, heads],
      [3, 3],
    ] as const)
      c.same(query[axis]!, size, `axis ${axis} of input 0`);
    const [batch, rows, , , size] = query as readonly Dim[] as readonly [Dim, Dim, Dim, Dim, Dim];
    return { layout: 'packedQkv', batch, heads, queries: rows, keys: rows, size, valueSize: size };
  }
  c.rank(QUERY, 3);
  const [batch, queries, hidden] = query as readonly [Dim, Dim, Dim];
  const size = headSize(c, hidden, heads);
  const common = { batch, heads, queries, size };
  if (!key) return c.fail('input 1 is missing');
  const agree = (shape: readonly Dim[], expected: readonly (Dim | undefined)[], index: number): void => {
    c.rank(index, expected.length);
    for (const [axis, dim] of expected.entries()) {
      if (dim !== undefined) c.same(dim, shape[axis]!, `axis ${axis} of input ${index}`);
    }
  };
  if (key.length === 5) {
    if (value) c.fail('keys and values come in one tensor, and values again');
    agree(key, [batch, undefined, heads, 2, size], KEY);
    return { ...common, layout: 'packedKv', keys: key[1]!, valueSize: size };
  }
  if (!value) return c.fail('input 2 is missing');
  if (key.length === 4) {
    agree(key, [batch, heads, undefined, size], KEY);
    agree(value, [batch, heads, key[2], undefined], VALUE);
    return { ...common, layout: 'cached', keys: key[2]!, valueSize: value[3]! };
  }
  agree(key, [batch, undefined, hidden], KEY);
  agree(value, [batch, key[1], undefined], VALUE);
  return { ...common, layout: 'separate', keys: key[1]!, valueSize: headSize(c, value[2]!, heads) };
}

function inferMultiHead(c: InferContext): readonly Facts[] {
  c.expect(QUERY, FLOATS);
  for (const index of [KEY, VALUE, PROJECTION_BIAS, ADDED, PAST_KEY, PAST_KEY + 1]) c.sameDType(QUERY, index);
  if (c.inputs[8] || c.inputs[9]) c.unsupported('a shared buffer has no kernel');
  if (c.node.outputs[3] !== undefined) c.unsupported('the output of scores has no kernel');
  const { layout, batch, heads, queries, keys, size, valueSize } = headSizes(c);
  if (c.number('unidirectional') !== 0 && c.differ(queries, keys)) {
    // Which of the keys come before a query is not said where they are not of the same tokens.
    c.unsupported(`a causal mask of ${queries} queries over ${keys} keys has no kernel`);
  }
  const past = pastRows(c, PAST_KEY, [batch, heads], [size, valueSize]);
  if (past !== 0 && layout === 'cached') c.fail('keys and values of the past come twice');
  const total = plusPast(c, past, keys);
  const widths = [size, size, valueSize].map(part => c.product([heads, part])) as [Dim, Dim, Dim];
  if (c.inputs[PROJECTION_BIAS]) {
    c.rank(PROJECTION_BIAS, 1);
    const [length] = c.input(PROJECTION_BIAS).shape;
    if (widths.every(width => typeof width === 'number')) {
      c.same(elementSum(widths as number[]), length!, 'the sizes of queries, keys and values, and the bias');
    }
  }
  checkPadding(c, PADDING, batch, queries, total, false);
  fitsInto(c, ADDED, [batch, heads, queries, total]);
  const { dtype } = c.input(QUERY);
  return [
    // Where values come side by side, the name of their whole width says more than that of a product.
    { dtype, shape: [batch, queries, layout === 'separate' ? c.input(VALUE).shape[2]! : widths[2]] },
    { dtype, shape: [batch, heads, total, size] },
    { dtype, shape: [batch, heads, total, valueSize] },
  ];
}

function elementSum(sizes: readonly number[]): number {
  return sizes.reduce((sum, size) => sum + size, 0);
}

/** Queries, keys and values as (batch, heads, rows, size), before their biases. */
function inHeads(c: RunContext, { layout, heads }: HeadSizes): readonly [Tensor, Tensor, Tensor] {
  /** The `at`-th of the tensors that lie side by side along axis 3. */
  const packed = (index: number, at: number): Tensor =>
    c
      .operand(index)
      .slice({ axis: 3, start: at, end: at + 1 })
      .squeeze([3])
      .transpose([0, 2, 1, 3]);
  if (layout === 'packedQkv') return [packed(QUERY, 0), packed(QUERY, 1), packed(QUERY, 2)];
  const query = splitHeads(c.operand(QUERY), heads);
  if (layout === 'packedKv') return [query, packed(KEY, 0), packed(KEY, 1)];
  if (layout === 'cached') return [query, c.operand(KEY), c.operand(VALUE)];
  return [query, splitHeads(c.operand(KEY), heads), splitHeads(c.operand(VALUE), heads)];
}

function runMultiHead(c: RunContext): readonly Tensor[] {
  const sizes = headSizes(c);
  const { heads } = sizes;
  const bias = c.tensors[PROJECTION_BIAS];
  let start = 0;
  const [query, newKey, newValue] = inHeads(c, sizes).map((x, i) => {
    const width = heads * x.shape[3]!;
    start += width;
    // Keys and values that were in heads before have had their bias.
    if (!bias || (i > 0 && sizes.layout === 'cached')) return x;
    const part = bias.slice({ axis: 0, start: start - width, end: start }).reshape([1, heads, 1, x.shape[3]!]);
    return zipInto(Tensor.zeros(x.dtype, x.shape), x, part, (a, b) => a + b);
  }) as [Tensor, Tensor, Tensor];
  const key = c.tensors[PAST_KEY] ? joinRows(c.tensors[PAST_KEY], newKey) : newKey;
  const value = c.tensors[PAST_KEY + 1] ? joinRows(c.tensors[PAST_KEY + 1]!, newValue) : newValue;
  const out = c.allocate();
  const shape = [query.shape[0]!, heads, query.shape[2]!, key.shape[2]!] as const;
  attend(
    {
      query,
      key,
      value,
      scale: scaleOf(c, query.shape[3]!),
      softcap: 0,
      biases: [
        ...paddingBias(c, PADDING, shape[0], shape[2]),
        ...scoreBias(c, ADDED, shape),
        ...(c.number('unidirectional') ? [causal(() => shape[3] - shape[2])] : []),
      ],
    },
    splitHeads(out, heads),
  );
  return [out, key, value];
}

const multiHeadAttention: OperatorVersion = {
  since: 1,
  inputs: [1, 10],
  outputs: [1, 4],
  attributes: {
    mask_filter_value: float(-10000),
    num_heads: required(int()),
    scale: float(),
    unidirectional: int(0),
  },
  infer: inferMultiHead,
  run: runMultiHead,
};

/** The operators of this file. */
export const MICROSOFT_ATTENTION: readonly Operator[] = [
  defineIn('com.microsoft', 'Attention', 'compute', attention),
  defineIn('com.microsoft', 'MultiHeadAttention', 'compute', multiHeadAttention),
];
