/**
 * The gradient of attention, as that of the products and the softmax it is made of; and of rotary embedding, which turns back.
 * @module
 */
import type { ValueId } from '../graph.ts';
import { counter } from './einsum.ts';
import type { GradientContext, GradientRule } from './rule.ts';

/** (batch, heads, rows, size) from (batch, rows, heads * size), where heads lie side by side. */
function splitHeads(g: GradientContext, id: ValueId, heads: string): ValueId {
  if (g.rankOf(id) === 4) return id;
  return g.transpose(g.op('Reshape', [id, g.list([0, 0, g.number(heads), -1])]), [0, 2, 1, 3]);
}

/** Neighbouring query heads share a key head: (batch, key heads, queries per key head, rows, size). */
function groupHeads(g: GradientContext, query: ValueId, key: ValueId): ValueId {
  const per = g.op('Div', [g.sizeOf(query, 1), g.sizeOf(key, 1)]);
  const sizes = [g.sizeOf(query, 0), g.sizeOf(key, 1), per, g.sizeOf(query, 2), g.sizeOf(query, 3)];
  return g.reshape(query, g.op('Concat', sizes, { axis: 0 }));
}

/** Where a query sees a key, as far as the causal mask and the length of the cache say; undefined where they say nothing. */
function visible(g: GradientContext, query: ValueId, key: ValueId): ValueId | undefined {
  const keys = counter(g, key, 2);
  const filled = g.has(6) ? g.unsqueeze(g.input(6), [1, 2, 3]) : undefined;
  const inside = filled === undefined ? undefined : g.op('Less', [keys, filled]);
  if (!g.flag('is_causal')) return inside;
  const queries = g.unsqueeze(counter(g, query, 2), [1]);
  const past = g.has(4) ? g.sizeOf(g.input(4), 2) : filled && g.sub(filled, g.sizeOf(query, 2));
  const reach = past === undefined ? queries : g.add(queries, past);
  const causal = g.op('LessOrEqual', [keys, reach]);
  return inside === undefined ? causal : g.op('And', [causal, inside]);
}

/** What hides: a mask of conditions, or one of numbers that are added. From opset 24 on it may end before the keys do. */
function masks(g: GradientContext, key: ValueId): { readonly seen?: ValueId; readonly added?: ValueId } {
  if (!g.has(3)) return {};
  const mask = g.input(3);
  const [last, total] = [g.shape(mask).at(-1), g.shape(key)[2]];
  if (g.node.opset >= 24 && last !== total) g.unsupported('a mask that may end before the keys do');
  const { dtype } = g.facts(mask);
  if (dtype === 'bool') return { seen: mask };
  return { added: dtype === g.facts(g.input(0)).dtype ? mask : g.op('CastLike', [mask, g.input(0)]) };
}

const attention: GradientRule = g =>
  g.through(([q, k, v, , pastKey, pastValue]) => {
    const flat = g.rankOf(q!) === 3;
    const query = splitHeads(g, q!, 'q_num_heads');
    const grown = (past: ValueId | undefined, id: ValueId): ValueId => {
      const now = splitHeads(g, id, 'kv_num_heads');
      return past === undefined ? now : g.op('Concat', [past, now], { axis: 2 });
    };
    const [key, value] = [grown(pastKey, k!), grown(pastValue, v!)];
    const shared = g.shape(query)[1] !== g.shape(key)[1];
    const product = (left: ValueId, right: ValueId): ValueId => {
      if (!shared) return g.op('MatMul', [left, right]);
      const grouped = g.op('MatMul', [groupHeads(g, left, key), g.unsqueeze(right, [2])]);
      const sizes = [g.sizeOf(left, 0), g.sizeOf(left, 1), g.sizeOf(left, 2), g.sizeOf(right, 3)];
      return g.reshape(grouped, g.op('Concat', sizes, { axis: 0 }));
    };
    const size = g.op('Sqrt', [g.op('CastLike', [g.sizeOf(query, 3), query])]);
    const scaled = g.attribute('scale') === undefined ? g.div(query, size) : g.scale(query, g.number('scale'));
    const scores = product(scaled, g.transposeLast(key));
    const cap = g.number('softcap');
    const capped = cap > 0 ? g.scale(g.op('Tanh', [g.scale(scores, 1 / cap)]), cap) : scores;
    const { seen, added } = masks(g, key);
    const moved = added === undefined ? capped : g.add(capped, added);
    const places = [seen, visible(g, query, key)].filter(id => id !== undefined);
    const open = places.length < 2 ? places[0] : g.op('And', places);
    const low = g.scalar(Number.NEGATIVE_INFINITY);
    const biased = open === undefined ? moved : g.where(open, moved, low);
    const weights = softmax(g, moved, open);
    const result = product(weights, value);
    const joined = g.op('Reshape', [g.transpose(result, [0, 2, 1, 3]), g.list([0, 0, -1])]);
    const kept = [scores, capped, biased, weights][g.number('qk_matmul_output_mode')];
    return [flat ? joined : result, key, value, kept];
  });

/** Softmax over the keys that are seen. A query that sees none has no weights. */
function softmax(g: GradientContext, scores: ValueId, open: ValueId | undefined): ValueId {
  if (open === undefined) return g.op('Softmax', [scores], { axis: -1 });
  // Low but finite, so that a row of nothing else has a softmax; what is hidden weighs 0 besides. An infinity, as -3e38 is in half
  // precision, would make such a row NaN: the masks on both sides hide that too, but then no run computes it.
  const low = g.scalar(g.facts(scores).dtype === 'f16' ? -65504 : -3e38);
  return g.mask(open, g.op('Softmax', [g.where(open, scores, low)], { axis: -1 }));
}

/** By the input alone: turning by an angle is undone by turning back. */
const rotary: GradientRule = g => {
  if (g.needs(1) || g.needs(2)) g.unsupported('by the cosines and sines there is none');
  const { attributes, inputs } = g.node;
  return [g.op('RotaryEmbedding', [g.dy, g.input(1), g.neg(g.input(2)), ...inputs.slice(3)], attributes)];
};

/** The rules of this file. */
export const ATTENTION: Readonly<Record<string, GradientRule>> = { Attention: attention, RotaryEmbedding: rotary };
