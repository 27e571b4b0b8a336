/**
 * A BERT-like encoder in the operators of a PyTorch export: nothing is fused but, from opset 17 on, LayerNormalization.
 * @module
 */
import type { Graph, ValueId } from '../../src/graph/index.ts';
import { Network } from './network.ts';

/** The sizes of an encoder. */
export interface BertShape {
  readonly layers: number;
  readonly hidden: number;
  readonly heads: number;
  readonly sequence: number;
  /** Width of the feed-forward part; four times `hidden` unless said otherwise. */
  readonly inner?: number;
  /** Distinct tokens; 1,000 unless said otherwise, so that the file is about the encoder. */
  readonly vocabulary?: number;
  readonly batch?: number;
  /** LayerNormalization as one operator of opset 17, or as the nine that exporters wrote before. */
  readonly layerNorm?: 'operator' | 'decomposed';
  readonly seed?: number;
}

/** Multiply-adds of the matrix products of one run, times two. */
export function bertFlops({ layers, hidden, sequence, inner = 4 * hidden, batch = 1 }: BertShape): number {
  const weights = 4 * hidden * hidden + 2 * hidden * inner;
  return 2 * batch * sequence * layers * (weights + 2 * sequence * hidden);
}

/**
 * The encoder: `input_ids`, `attention_mask` and `token_type_ids`, all i64 (batch, sequence), to `last_hidden_state` (batch,
 * sequence, hidden).
 */
export function bert(shape: BertShape): Graph {
  const { layers, hidden, heads, sequence, vocabulary = 1000, batch = 1, layerNorm = 'operator', seed = 3 } = shape;
  const { inner = 4 * hidden } = shape;
  const width = hidden / heads;
  const net = new Network('bert-like', seed);
  const tokens = ['input_ids', 'attention_mask', 'token_type_ids'].map(name =>
    net.input(name, 'i64', [batch, sequence]),
  );
  const [ids, mask, types] = tokens as [ValueId, ValueId, ValueId];

  const dense = (x: ValueId, from: number, to: number): ValueId => {
    const product = net.add('MatMul', [x, net.weights([from, to], 1 / Math.sqrt(from))]);
    return net.add('Add', [net.weights([to], 0.05), product]);
  };
  const norm = (x: ValueId, output?: string): ValueId => {
    const [scale, bias] = [net.weights([hidden], 0.05, 1), net.weights([hidden], 0.05)];
    const last = output === undefined ? {} : { output };
    if (layerNorm === 'operator')
      return net.add('LayerNormalization', [x, scale, bias], { axis: -1, epsilon: 1e-12 }, last);
    const centred = net.add('Sub', [x, net.add('ReduceMean', [x], { axes: [-1] })]);
    const squares = net.add('Pow', [centred, net.scalar(2)]);
    const variance = net.add('Add', [net.add('ReduceMean', [squares], { axes: [-1] }), net.scalar(1e-12)]);
    const normal = net.add('Div', [centred, net.add('Sqrt', [variance])]);
    return net.add('Add', [net.add('Mul', [normal, scale]), bias], {}, last);
  };
  // (batch, sequence, hidden) to (batch, heads, sequence, width); keys to (batch, heads, width, sequence).
  const split = (x: ValueId, perm: readonly number[]): ValueId =>
    net.add('Transpose', [net.add('Reshape', [x, net.sizes(batch, sequence, heads, width)])], { perm });
  const gelu = (x: ValueId): ValueId => {
    const erf = net.add('Erf', [net.add('Div', [x, net.scalar(Math.SQRT2)])]);
    return net.add('Mul', [net.add('Mul', [x, net.add('Add', [erf, net.scalar(1)])]), net.scalar(0.5)]);
  };

  const words = net.add('Gather', [net.weights([vocabulary, hidden], 1), ids]);
  const typed = net.add('Add', [words, net.add('Gather', [net.weights([2, hidden], 0.5), types])]);
  let x = norm(net.add('Add', [typed, net.weights([1, sequence, hidden], 0.5)]));
  // 0 where a token may be looked at, the lowest float where not: (batch, 1, 1, sequence).
  const seen = net.add('Cast', [net.add('Unsqueeze', [mask, net.sizes(1, 2)])], { to: 1 });
  const hiddenness = net.add('Mul', [net.add('Sub', [net.scalar(1), seen]), net.scalar(-3.4028234663852886e38)]);

  for (let layer = 0; layer < layers; layer++) {
    const query = split(dense(x, hidden, hidden), [0, 2, 1, 3]);
    const key = split(dense(x, hidden, hidden), [0, 2, 3, 1]);
    const value = split(dense(x, hidden, hidden), [0, 2, 1, 3]);
    const scores = net.add('Div', [net.add('MatMul', [query, key]), net.scalar(Math.sqrt(width))]);
    const attention = net.add('Softmax', [net.add('Add', [scores, hiddenness])], { axis: -1 });
    const mixed = net.add('Transpose', [net.add('MatMul', [attention, value])], { perm: [0, 2, 1, 3] });
    const joined = net.add('Reshape', [mixed, net.sizes(batch, sequence, hidden)]);
    x = norm(net.add('Add', [dense(joined, hidden, hidden), x]));
    const wide = gelu(dense(x, hidden, inner));
    const sum = net.add('Add', [dense(wide, inner, hidden), x]);
    x = norm(sum, layer === layers - 1 ? 'last_hidden_state' : undefined);
  }
  return net.build(x);
}
