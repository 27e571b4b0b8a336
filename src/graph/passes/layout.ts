/**
 * Layout: Transposes move behind the nodes that do not care in which order axes stand, until they meet one that undoes them. What was
 * exported channels-last then runs channels-first. There are never more Transposes than before.
 * @module
 */
import type { Graph, Node, ValueId } from '../graph.ts';
import { orderOf } from './cancellation.ts';
import { reducedAxes } from './patterns.ts';
import { type PassOptions, type PassResult, type Replacement, type Rewriter, type Rule, rewrite } from './rewriter.ts';

/** Returns `graph` with Transposes as late as they can be without there being more of them. */
export function sinkTransposes(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, RULES, options);
}

/** Functions of one input, element by element. */
const UNARY =
  `Abs Ceil Celu Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Sigmoid
  Sign Softplus Softsign Sqrt Swish Tanh ThresholdedRelu Cast Clip`.split(/\s+/);

/** Functions of inputs that broadcast. */
const BROADCAST =
  `Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mul Or Pow Sub Sum Where Xor`.split(/\s+/);

const REDUCTIONS = `ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
  ReduceSumSquare`.split(/\s+/);

const RULES: Readonly<Record<string, Rule>> = {
  ...Object.fromEntries(UNARY.map(op => [op, unary])),
  ...Object.fromEntries(BROADCAST.map(op => [op, broadcast])),
  ...Object.fromEntries(REDUCTIONS.map(op => [op, reduction])),
  Concat: concat,
  Pad: pad,
  Softmax: softmax,
  LogSoftmax: softmax,
};

/** A Transpose whose result is needed once. */
function turned(
  r: Rewriter,
  id: ValueId | undefined,
): { readonly x: ValueId; readonly order: readonly number[] } | undefined {
  const node = r.ownProducer(id, 'Transpose');
  return node && { x: node.inputs[0]!, order: orderOf(r, node) };
}

/** The node before its Transpose: `replacement` is emitted, and its result transposed by `order`. */
function before(r: Rewriter, replacement: Replacement, order: readonly number[]): boolean {
  const made = r.emit(replacement);
  return made !== undefined && r.become({ op: 'Transpose', opset: 13, inputs: [made], attributes: { perm: order } });
}

function unary(r: Rewriter, node: Node): boolean {
  const first = turned(r, node.inputs[0]);
  if (first === undefined) return false;
  return before(r, { ...node, inputs: [first.x, ...node.inputs.slice(1)] }, first.order);
}

/** Operands that are all transposed in the same way, but for numbers and vectors that are the same wherever they stand. */
function broadcast(r: Rewriter, node: Node): boolean {
  if (node.opset < 8) return false;
  const turns = node.inputs.map(id => turned(r, id));
  const some = turns.find(turn => turn !== undefined);
  if (some === undefined) return false;
  const { order } = some;
  const inputs: (ValueId | undefined)[] = [];
  for (const [i, id] of node.inputs.entries()) {
    const turn = turns[i];
    if (turn && turn.order.join() === order.join()) inputs.push(turn.x);
    else if (turn === undefined && id !== undefined) inputs.push(placed(r, id, order));
    else return false;
  }
  return !inputs.includes(undefined) && before(r, { ...node, inputs }, order);
}

/** A constant of one axis at most, shaped so that it spreads over what is not transposed yet as it did over what was. */
function placed(r: Rewriter, id: ValueId, order: readonly number[]): ValueId | undefined {
  const shape = r.shape(id);
  const wide = shape.flatMap((dim, i) => (dim === 1 ? [] : [i]));
  if (wide.length === 0) return shape.length <= order.length ? id : undefined;
  const size = shape[wide[0]!]!;
  if (wide.length > 1 || shape.length > order.length || !r.isConstant(id) || typeof size !== 'number') return undefined;
  const axis = order[wide[0]! + order.length - shape.length]!;
  const column = [size, ...new Array<number>(order.length - axis - 1).fill(1)];
  if (column.length === shape.length && wide[0] === 0) return id;
  return r.emit({ op: 'Reshape', opset: 13, inputs: [id, r.integers('column', column)] });
}

function reduction(r: Rewriter, node: Node): boolean {
  const first = turned(r, node.inputs[0]);
  const axes = first && reducedAxes(r, node);
  if (first === undefined || axes === undefined || axes.length === 0) return false;
  const { x, order } = first;
  const moved = axes.map(axis => order[axis]!).sort((a, b) => a - b);
  const input = node.inputs.length > 1;
  const replacement = {
    ...node,
    inputs: input ? [x, r.integers('axes', moved)] : [x],
    attributes: input ? node.attributes : { ...node.attributes, axes: moved },
  };
  if (Number(node.attributes['keepdims'] ?? 1) !== 0) return before(r, replacement, order);
  const left = order.filter(axis => !moved.includes(axis));
  const ranks = left.toSorted((a, b) => a - b);
  const rest = left.map(axis => ranks.indexOf(axis));
  return rest.every((axis, i) => axis === i) ? r.become(replacement) : before(r, replacement, rest);
}

function concat(r: Rewriter, node: Node): boolean {
  const turns = node.inputs.map(id => turned(r, id));
  const order = turns[0]?.order;
  if (order === undefined || !turns.every(turn => turn?.order.join() === order.join())) return false;
  const attributes = { axis: axisOf(node, order) };
  return before(r, { ...node, inputs: turns.map(turn => turn!.x), attributes }, order);
}

/** Where the axis that `node` names was before it was moved by `order`. */
function axisOf(node: Node, order: readonly number[]): number {
  const axis = Number(node.attributes['axis'] ?? -1);
  return order[axis < 0 ? axis + order.length : axis]!;
}

function softmax(r: Rewriter, node: Node): boolean {
  const first = turned(r, node.inputs[0]);
  if (first === undefined || node.opset < 13) return false;
  return before(r, { ...node, inputs: [first.x], attributes: { axis: axisOf(node, first.order) } }, first.order);
}

function pad(r: Rewriter, node: Node): boolean {
  const first = turned(r, node.inputs[0]);
  const named = node.opset >= 18 && node.inputs[3] !== undefined;
  if (first === undefined || named || node.opset < 2) return false;
  const { x, order } = first;
  const rank = order.length;
  const pads =
    node.opset >= 11 ? r.elements(node.inputs[1]) : (node.attributes['pads'] as readonly number[] | undefined);
  if (pads?.length !== 2 * rank) return false;
  const moved = new Array<number>(2 * rank).fill(0);
  order.forEach((axis, i) => {
    moved[axis] = pads[i]!;
    moved[axis + rank] = pads[i + rank]!;
  });
  if (node.opset < 11)
    return before(r, { ...node, inputs: [x], attributes: { ...node.attributes, pads: moved } }, order);
  return before(r, { ...node, inputs: [x, r.integers('pads', moved), ...node.inputs.slice(2, 3)] }, order);
}
