/**
 * Attention recovered from its parts: the softmax of scaled products of queries and keys, perhaps masked, times values.
 * @module
 */
import type { Graph, Node, ValueId } from '../graph.ts';
import { orderOf } from './cancellation.ts';
import { type PassOptions, type PassResult, type Rewriter, rewrite } from './rewriter.ts';

/**
 * Returns `graph` with scaled dot-product attention over four axes (batch, heads, sequence, head size) as Attention; over three
 * (batch, sequence, heads side by side) where that is how its operands come and its result goes.
 */
export function recoverAttention(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, { MatMul: attention, Transpose: sideBySide }, options);
}

/** `softmax(q k^T * scale + mask) v`. */
function attention(r: Rewriter, node: Node): boolean {
  const [weights, v] = node.inputs as readonly [ValueId, ValueId];
  const softmax = r.ownProducer(weights, 'Softmax');
  if (softmax === undefined || r.shape(weights).length !== 4 || r.shape(v).length !== 4) return false;
  // Before opset 13 all axes from `axis` on were one; the last alone is the same in both.
  const axis = Number(softmax.attributes['axis'] ?? (softmax.opset < 13 ? 1 : -1));
  if (axis !== 3 && axis !== -1) return false;
  return scores(r, softmax.inputs[0]!).some(found => {
    const { q, k, scale, mask } = found;
    if (!(scale > 0) || [q, k].some(id => r.shape(id).length !== 4)) return false;
    const [of, to, from] = [r.shape(q), r.shape(k), r.shape(v)];
    // A product broadcasts its batches and heads; attention does not.
    const same = [0, 1].every(axis => of[axis] === to[axis] && of[axis] === from[axis]);
    if (!same || of[3] !== to[2] || to[3] !== from[2]) return false;
    const key = upright(r, k);
    if (key === undefined) return false;
    const inputs = [q, key, v, ...(mask === undefined ? [] : [mask])];
    return r.become({ op: 'Attention', opset: 23, inputs, attributes: { scale } });
  });
}

/** Attention between Transposes that put heads first and back: without them. */
function sideBySide(r: Rewriter, node: Node): boolean {
  const inner = swapsHeads(r, node) ? r.ownProducer(node.inputs[0], 'Attention') : undefined;
  if (inner === undefined || inner.outputs.slice(1).some(id => id !== undefined)) return false;
  const before = inner.inputs.slice(0, 3).map(id => r.ownProducer(id, 'Transpose'));
  if (!before.every(transpose => transpose !== undefined && swapsHeads(r, transpose))) return false;
  const [heads, kvHeads] = inner.inputs.slice(0, 2).map(id => r.shape(id!)[1]);
  const size = r.shape(node.outputs[0]!)[3];
  if (typeof heads !== 'number' || typeof kvHeads !== 'number' || typeof size !== 'number') return false;
  // A size of 0 in a Reshape is that of its input; heads of no elements leave -1 nothing to find.
  if (heads === 0 || before.some(transpose => r.shape(transpose!.inputs[0]!)[3] === 0)) return false;
  const joined = r.integers('joined', [0, 0, -1]);
  const operands = before.map(transpose =>
    r.emit({ op: 'Reshape', opset: 13, inputs: [transpose!.inputs[0], joined] }),
  );
  const flat = r.emit({
    ...inner,
    inputs: [...operands, ...inner.inputs.slice(3)],
    attributes: { ...inner.attributes, q_num_heads: heads, kv_num_heads: kvHeads },
  });
  if (flat === undefined) return false;
  return r.become({ op: 'Reshape', opset: 13, inputs: [flat, r.integers('heads', [0, 0, heads, size])] });
}

/** Whether a Transpose swaps the second and third of four axes. */
function swapsHeads(r: Rewriter, node: Node): boolean {
  return orderOf(r, node).join() === '0,2,1,3';
}

interface Scores {
  readonly q: ValueId;
  /** Keys, their last two axes swapped. */
  readonly k: ValueId;
  readonly scale: number;
  readonly mask: ValueId | undefined;
}

/** The ways to read `id` as scores: which of two summands is the mask shows only further up. */
function scores(r: Rewriter, id: ValueId): readonly Scores[] {
  const plain = scaledProduct(r, id);
  if (plain) return [{ ...plain, mask: undefined }];
  const sum = r.ownProducer(id, 'Add');
  if (sum === undefined || sum.opset < 7) return [];
  return [0, 1].flatMap(i => {
    const product = scaledProduct(r, sum.inputs[i]!);
    const mask = sum.inputs[1 - i]!;
    // A mask that is spread over the keys, or shorter than they are, would be read in another way.
    const shape = r.shape(mask);
    const keys = r.shape(id).at(-1);
    const fits = shape.length >= 2 && shape.length <= 4 && shape.at(-1) === keys && r.sameFacts(sum.inputs[i]!, id);
    return product && fits ? [{ ...product, mask }] : [];
  });
}

function scaledProduct(r: Rewriter, id: ValueId): Omit<Scores, 'mask'> | undefined {
  let at = id;
  let scale = 1;
  const factor = r.ownProducer(at, 'Mul', 'Div');
  if (factor !== undefined && factor.opset >= 7) {
    const swapped = factor.op === 'Mul' && r.scalar(factor.inputs[0]) !== undefined;
    const number = r.scalar(factor.inputs[swapped ? 0 : 1]);
    if (number === undefined || !r.sameFacts(factor.inputs[swapped ? 1 : 0]!, id)) return undefined;
    scale = factor.op === 'Mul' ? number : 1 / number;
    at = factor.inputs[swapped ? 1 : 0]!;
  }
  const product = r.ownProducer(at, 'MatMul');
  if (product === undefined) return undefined;
  const q = unscaled(r, product.inputs[0]!);
  return { q: q.id, k: product.inputs[1]!, scale: scale * q.scale };
}

/** Queries that were scaled before the product. */
function unscaled(r: Rewriter, id: ValueId): { readonly id: ValueId; readonly scale: number } {
  const node = r.ownProducer(id, 'Mul', 'Div');
  if (node === undefined || node.opset < 7) return { id, scale: 1 };
  const swapped = node.op === 'Mul' && r.scalar(node.inputs[0]) !== undefined;
  const number = r.scalar(node.inputs[swapped ? 0 : 1]);
  const x = node.inputs[swapped ? 1 : 0]!;
  if (number === undefined || !(number > 0) || !r.sameFacts(x, id)) return { id, scale: 1 };
  return { id: x, scale: node.op === 'Mul' ? number : 1 / number };
}

/** Keys with their last two axes swapped back. One Transpose goes for each that comes. */
function upright(r: Rewriter, id: ValueId): ValueId | undefined {
  const node = r.ownProducer(id, 'Transpose');
  if (node === undefined) return undefined;
  const order = orderOf(r, node);
  const back = [order[0]!, order[1]!, order[3]!, order[2]!];
  if (back.every((axis, i) => axis === i)) return node.inputs[0];
  return r.emit({ op: 'Transpose', opset: node.opset, inputs: [node.inputs[0]], attributes: { perm: back } });
}
