/**
 * Attention recovered from its parts: the softmax of scaled products of queries and keys, perhaps masked, times values.
 * @module
 */
import type { Graph, Node, ValueId } from '../graph.ts';
import { orderOf } from './cancellation.ts';
import { type PassOptions, type PassResult, type Rewriter, rewrite } from './rewriter.ts';

/** Returns `graph` with scaled dot-product attention over four axes (batch, heads, sequence, head size) as Attention. */
export function recoverAttention(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, { MatMul: attention }, options);
}

/** `softmax(q k^T * scale + mask) v`. */
function attention(r: Rewriter, node: Node): boolean {
  const [weights, v] = node.inputs as readonly [ValueId, ValueId];
  const softmax = r.only(weights, 'Softmax');
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
  const sum = r.only(id, 'Add');
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
  const factor = r.only(at, 'Mul', 'Div');
  if (factor !== undefined && factor.opset >= 7) {
    const swapped = factor.op === 'Mul' && r.scalar(factor.inputs[0]) !== undefined;
    const number = r.scalar(factor.inputs[swapped ? 0 : 1]);
    if (number === undefined || !r.sameFacts(factor.inputs[swapped ? 1 : 0]!, id)) return undefined;
    scale = factor.op === 'Mul' ? number : 1 / number;
    at = factor.inputs[swapped ? 1 : 0]!;
  }
  const product = r.only(at, 'MatMul');
  if (product === undefined) return undefined;
  const q = unscaled(r, product.inputs[0]!);
  return { q: q.id, k: product.inputs[1]!, scale: scale * q.scale };
}

/** Queries that were scaled before the product. */
function unscaled(r: Rewriter, id: ValueId): { readonly id: ValueId; readonly scale: number } {
  const node = r.only(id, 'Mul', 'Div');
  if (node === undefined || node.opset < 7) return { id, scale: 1 };
  const swapped = node.op === 'Mul' && r.scalar(node.inputs[0]) !== undefined;
  const number = r.scalar(node.inputs[swapped ? 0 : 1]);
  const x = node.inputs[swapped ? 1 : 0]!;
  if (number === undefined || !(number > 0) || !r.sameFacts(x, id)) return { id, scale: 1 };
  return { id: x, scale: node.op === 'Mul' ? number : 1 / number };
}

/** Keys with their last two axes swapped back. One Transpose goes for each that comes. */
function upright(r: Rewriter, id: ValueId): ValueId | undefined {
  const node = r.only(id, 'Transpose');
  if (node === undefined) return undefined;
  const order = orderOf(r, node);
  const back = [order[0]!, order[1]!, order[3]!, order[2]!];
  if (back.every((axis, i) => axis === i)) return node.inputs[0];
  return r.emit({ op: 'Transpose', opset: node.opset, inputs: [node.inputs[0]], attributes: { perm: back } });
}
