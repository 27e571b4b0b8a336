/**
 * Attention whose projection is quantised: QAttention of com.microsoft.
 * @module
 */
import { formatShape, type Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { defineIn, float, type InferContext, int, type Operator, type RunContext, required } from '../operator.ts';
import { headSize, plusPast } from '../transformer/attention.ts';
import { attendProjected, checkPadding, headCount, paddingBias } from '../transformer/microsoft-attention.ts';
import { BYTES, expectSingle } from './quantisation.ts';
import { checkParameters, realProduct, wholeProduct } from './quantised-linear.ts';

/** The inputs, in order. */
const [INPUT, WEIGHTS, BIAS, INPUT_SCALE, WEIGHT_SCALE, MASK, INPUT_ZERO, WEIGHT_ZERO, PAST] = [
  0, 1, 2, 3, 4, 5, 6, 7, 8,
];

interface Sizes {
  readonly batch: Dim;
  readonly rows: Dim;
  readonly heads: number;
  /** Width of the queries, of the keys and of the values, which lie side by side in the weights. */
  readonly width: Dim;
  readonly past: Dim;
}

function sizesOf(c: InferContext): Sizes {
  c.rank(INPUT, 3);
  c.rank(WEIGHTS, 2);
  const [batch, rows, from] = c.input(INPUT).shape as readonly [Dim, Dim, Dim];
  const [inner, columns] = c.input(WEIGHTS).shape as readonly [Dim, Dim];
  c.same(from, inner, 'sizes of inputs 0 and 1');
  const heads = headCount(c);
  const width = c.derive(`(${columns}/3)`, [columns], all => {
    return all % (3 * heads) === 0 ? all / 3 : c.fail(`${all} columns cannot be cut into three times ${heads} heads`);
  });
  const past = c.inputs[PAST]?.shape;
  if (past && past.length !== 5) c.fail(`the past must have 5 dimensions, got ${formatShape(past)}`);
  return { batch, rows, heads, width, past: past?.[3] ?? 0 };
}

function inferQAttention(c: InferContext): readonly Facts[] {
  c.expect(INPUT, BYTES);
  c.expect(WEIGHTS, BYTES);
  c.expect(BIAS, ['f32', 'f16']);
  for (const index of [INPUT_SCALE, WEIGHT_SCALE, PAST]) c.sameDType(BIAS, index);
  c.sameDType(INPUT, INPUT_ZERO);
  c.sameDType(WEIGHTS, WEIGHT_ZERO);
  expectSingle(c, INPUT_SCALE, INPUT_ZERO);
  if (c.number('do_rotary') !== 0) c.unsupported('rotary embedding inside has no kernel');
  if (c.number('past_present_share_buffer') !== 0) c.unsupported('a shared buffer has no kernel');
  const { batch, rows, heads, width, past } = sizesOf(c);
  const weights = c.input(WEIGHTS).shape;
  for (const index of [WEIGHT_SCALE, WEIGHT_ZERO]) checkParameters(c, index, weights, 'column');
  c.rank(BIAS, 1);
  c.same(weights[1]!, c.input(BIAS).shape[0]!, 'columns of inputs 1 and 2');
  const total = plusPast(c, past, rows);
  const present: readonly Dim[] = [2, batch, heads, total, headSize(c, width, heads)];
  for (const [i, dim] of (c.inputs[PAST]?.shape ?? []).entries()) {
    c.same(i === 3 ? past : present[i]!, dim, `axis ${i} of the past`);
  }
  checkPadding(c, MASK, batch, rows, total, true);
  const { dtype } = c.input(BIAS);
  const facts: readonly Facts[] = [
    { dtype, shape: [batch, rows, width] },
    { dtype, shape: present },
  ];
  return c.node.outputs[1] === undefined ? facts.slice(0, 1) : facts;
}

function runQAttention(c: RunContext): readonly Tensor[] {
  const { batch, rows, heads, width } = sizesOf(c) as Sizes & Readonly<Record<'batch' | 'rows' | 'width', number>>;
  const product = wholeProduct(c.operand(INPUT), c.tensors[INPUT_ZERO], c.operand(WEIGHTS), c.tensors[WEIGHT_ZERO]);
  const scales = [c.operand(INPUT_SCALE), c.operand(WEIGHT_SCALE)] as const;
  const projected = realProduct(product, ...scales, c.operand(BIAS), [batch, rows, 3 * width]);
  const layout = { heads, queries: width, keys: width, past: c.tensors[PAST] };
  return attendProjected(c, projected, layout, () => paddingBias(c, MASK, batch, rows));
}

/** The operators of this file. */
export const QUANTISED_ATTENTION: readonly Operator[] = [
  defineIn('com.microsoft', 'QAttention', 'compute', {
    since: 1,
    inputs: [5, 9],
    outputs: [1, 2],
    attributes: {
      do_rotary: int(0),
      mask_filter_value: float(-10000),
      num_heads: required(int()),
      past_present_share_buffer: int(0),
      scale: float(),
      unidirectional: int(0),
    },
    infer: inferQAttention,
    run: runQAttention,
  }),
];
