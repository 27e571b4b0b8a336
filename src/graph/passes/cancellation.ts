/**
 * Cancellation: nodes that give back what they were given, alone or together with the node before them. Exact, NaN and -0 included.
 * @module
 */
import type { DType } from '../../tensor/index.ts';
import type { Graph, Node, ValueId } from '../graph.ts';
import { isFloat, type PassOptions, type PassResult, type Rewriter, type Rule, rewrite, sameDims } from './rewriter.ts';

/** Returns `graph` without the nodes that change nothing, and without pairs of which one undoes the other. */
export function cancel(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, RULES, options);
}

const RULES: Readonly<Record<string, Rule>> = {
  Identity: (r, node) => r.alias(node.inputs[0]!),
  Dropout: dropout,
  Cast: cast,
  CastLike: (r, node) => sameDType(r, node) && r.alias(node.inputs[0]!),
  Transpose: transpose,
  Reshape: (r, node) => view(r, node) || reshape(r, node) || unfolded(r, node),
  Flatten: view,
  Squeeze: view,
  Unsqueeze: view,
  Expand: (r, node) => sameShape(r, node) && r.alias(node.inputs[0]!),
  Tile: tile,
  Slice: slice,
  Concat: (r, node) => node.inputs.length === 1 && r.alias(node.inputs[0]!),
  Sum: single,
  Mean: single,
  Max: single,
  Min: single,
  Pad: pad,
  Add: (r, node) => neutral(r, node, 0, node.opset) || neutral(r, node, 1, node.opset),
  Sub: (r, node) => neutral(r, node, 1, node.opset),
  Mul: (r, node) => neutral(r, node, 0, node.opset) || neutral(r, node, 1, node.opset),
  Div: (r, node) => neutral(r, node, 1, node.opset),
  Pow: (r, node) => neutral(r, node, 1, node.opset),
  Neg: undo,
  Not: undo,
  Relu: again,
  Abs: again,
  Floor: again,
  Ceil: again,
  Round: again,
};

/** Output 0 as facts that are equal to those of input 0, symbols included. */
function sameShape(r: Rewriter, node: Node): boolean {
  return sameDims(r.shape(node.inputs[0]!), r.shape(node.outputs[0]!));
}

function sameDType(r: Rewriter, node: Node): boolean {
  return r.facts(node.inputs[0]!).dtype === r.facts(node.outputs[0]!).dtype;
}

/** In inference Dropout is the identity; its mask, where something reads it, is not. */
function dropout(r: Rewriter, node: Node): boolean {
  const mask = node.outputs[1];
  if (mask !== undefined && (r.uses(mask) > 0 || r.isOutput(mask))) return false;
  if (node.inputs[2] !== undefined && r.scalar(node.inputs[2]) !== 0) return false;
  return r.alias(node.inputs[0]!);
}

/** Dtypes into which every value of a dtype goes without loss, so that a Cast through one of them says no more than one without. */
const WIDER: Readonly<Partial<Record<DType, readonly DType[]>>> = {
  bool: ['i8', 'u8', 'i16', 'u16', 'i32', 'u32', 'i64', 'u64', 'f16', 'bf16', 'f32', 'f64'],
  f16: ['f32', 'f64'],
  bf16: ['f32', 'f64'],
  f32: ['f64'],
  i8: ['i16', 'i32', 'i64', 'f32', 'f64'],
  u8: ['i16', 'u16', 'i32', 'u32', 'i64', 'u64', 'f32', 'f64'],
  i16: ['i32', 'i64', 'f32', 'f64'],
  u16: ['i32', 'u32', 'i64', 'u64', 'f32', 'f64'],
  i32: ['i64', 'f64'],
  u32: ['i64', 'u64', 'f64'],
};

function cast(r: Rewriter, node: Node): boolean {
  const x = node.inputs[0]!;
  if (sameDType(r, node)) return r.alias(x);
  const inner = r.producer(x, 'Cast');
  const from = inner?.inputs[0];
  if (inner === undefined || from === undefined) return false;
  const { dtype } = r.facts(from);
  if (!WIDER[dtype]?.includes(r.facts(x).dtype)) return false;
  if (dtype === r.facts(node.outputs[0]!).dtype) return r.alias(from);
  return r.become({ ...node, inputs: [from] });
}

/** The order of axes that a Transpose gives its output. */
export function orderOf(r: Rewriter, node: Node): readonly number[] {
  const rank = r.shape(node.inputs[0]!).length;
  const perm = node.attributes['perm'] as readonly number[] | undefined;
  return perm?.map(axis => (axis < 0 ? axis + rank : axis)) ?? Array.from({ length: rank }, (_, i) => rank - 1 - i);
}

function transpose(r: Rewriter, node: Node): boolean {
  const x = node.inputs[0]!;
  const order = orderOf(r, node);
  if (order.every((axis, i) => axis === i)) return r.alias(x);
  const inner = r.producer(x, 'Transpose');
  if (inner === undefined) return false;
  const first = orderOf(r, inner);
  const both = order.map(axis => first[axis]!);
  if (both.every((axis, i) => axis === i)) return r.alias(inner.inputs[0]!);
  return r.become({ ...node, inputs: [inner.inputs[0]!], attributes: { perm: both } });
}

const VIEWS = ['Reshape', 'Flatten', 'Squeeze', 'Unsqueeze'] as const;

/** A change of shape that leads back to a shape that the same elements had before. */
function view(r: Rewriter, node: Node): boolean {
  const shape = r.shape(node.outputs[0]!);
  let x: ValueId = node.inputs[0]!;
  if (isVague(r, node)) return false;
  // A chain shortens by one in each walk at least, so a few steps are enough.
  for (let steps = 0; steps < 4; steps++) {
    if (sameDims(r.shape(x), shape)) return r.alias(x);
    const inner = r.producer(x, ...VIEWS);
    if (inner === undefined || isVague(r, inner)) return false;
    x = inner.inputs[0]!;
  }
  return false;
}

/** A Squeeze that takes away what turns out to be 1 when the model runs. */
function isVague(r: Rewriter, node: Node): boolean {
  if (node.op !== 'Squeeze' || node.inputs[1] !== undefined || node.attributes['axes'] !== undefined) return false;
  return r.shape(node.inputs[0]!).some(dim => typeof dim === 'string');
}

/** Reshape of what was reshaped before: the first shape does not matter, unless sizes are copied from it. */
function reshape(r: Rewriter, node: Node): boolean {
  const inner = r.producer(node.inputs[0], ...VIEWS);
  if (inner === undefined || node.inputs.length !== 2) return false;
  const wanted = r.elements(node.inputs[1]);
  if (wanted === undefined) return false;
  if (wanted.includes(0) && node.attributes['allowzero'] !== 1) return false;
  return r.become({ ...node, inputs: [inner.inputs[0]!, node.inputs[1]] });
}

/**
 * A product of rows that were folded into a matrix and are unfolded again, as TensorFlow writes its dense layers: MatMul takes
 * any number of leading axes as they are.
 */
function unfolded(r: Rewriter, node: Node): boolean {
  const product = r.ownProducer(node.inputs[0], 'MatMul');
  const folded = r.producer(product?.inputs[0], 'Reshape');
  const [x, w] = [folded?.inputs[0], product?.inputs[1]];
  if (product === undefined || x === undefined || w === undefined || r.shape(w).length !== 2) return false;
  const [from, to] = [r.shape(x), r.shape(node.outputs[0]!)];
  if (from.length < 2 || from.at(-1) !== r.shape(w)[0] || r.shape(product.inputs[0]!).length !== 2) return false;
  if (r.shape(product.inputs[0]!)[1] !== r.shape(w)[0]) return false;
  if (!sameDims([...from.slice(0, -1), r.shape(w)[1]!], to)) return false;
  return r.become({ ...product, inputs: [x, w] });
}

function tile(r: Rewriter, node: Node): boolean {
  return r.elements(node.inputs[1])?.every(times => times === 1) === true && r.alias(node.inputs[0]!);
}

function single(r: Rewriter, node: Node): boolean {
  return node.inputs.length === 1 && r.alias(node.inputs[0]!);
}

/** A Slice that takes everything, forwards. */
function slice(r: Rewriter, node: Node): boolean {
  const attribute = (name: string): readonly number[] | undefined =>
    node.attributes[name] as readonly number[] | undefined;
  const fromInputs = node.opset >= 10;
  const starts = fromInputs ? r.elements(node.inputs[1]) : attribute('starts');
  const ends = fromInputs ? r.elements(node.inputs[2]) : attribute('ends');
  const steps = fromInputs && node.inputs[4] !== undefined ? r.elements(node.inputs[4]) : starts?.map(() => 1);
  const given = fromInputs ? (node.inputs[3] === undefined ? null : r.elements(node.inputs[3])) : attribute('axes');
  if (starts === undefined || ends === undefined || steps === undefined) return false;
  if (fromInputs && given === undefined) return false;
  const axes = given ?? starts.map((_, i) => i);
  const shape = r.shape(node.inputs[0]!);
  const whole = starts.every((start, i) => {
    const dim = shape.at(axes[i]!);
    // What is clamped to the end takes in any size that a tensor can have.
    return start === 0 && steps[i] === 1 && ends[i]! >= (typeof dim === 'number' ? dim : 2 ** 31 - 1);
  });
  return whole && r.alias(node.inputs[0]!);
}

function pad(r: Rewriter, node: Node): boolean {
  const pads =
    node.opset >= 11
      ? r.elements(node.inputs[1])
      : ((node.attributes['pads'] ?? node.attributes['paddings']) as readonly number[] | undefined);
  return pads?.every(size => size === 0) === true && r.alias(node.inputs[0]!);
}

/** An operand that changes nothing: `x * 1`, `x / 1`, `x ** 1`, `x - 0`, and `x + -0`, since `-0 + 0` is `0`. */
function neutral(r: Rewriter, node: Node, operand: 0 | 1, opset: number): boolean {
  if (opset < 7) return false;
  const x = node.inputs[1 - operand]!;
  if (!r.sameFacts(x, node.outputs[0]!)) return false;
  const values = r.elements(node.inputs[operand]);
  if (values === undefined || values.length === 0) return false;
  const one = node.op === 'Mul' || node.op === 'Div' || node.op === 'Pow';
  const wanted = one ? 1 : node.op === 'Add' && isFloat(r.facts(x)) ? -0 : 0;
  const same = isFloat(r.facts(x)) ? Object.is : (a: number, b: number): boolean => a === b;
  return values.every(value => same(value, wanted)) && r.alias(x);
}

/** `Neg(Neg(x))`, `Not(Not(x))`. */
function undo(r: Rewriter, node: Node): boolean {
  const inner = r.producer(node.inputs[0], node.op);
  return inner !== undefined && r.alias(inner.inputs[0]!);
}

/** `f(f(x))` where f gives back what it gave. */
function again(r: Rewriter, node: Node): boolean {
  return r.producer(node.inputs[0], node.op) !== undefined && r.alias(node.inputs[0]!);
}
