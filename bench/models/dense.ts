/**
 * Small dense models, as PyTorch exports them: Gemm with weights (out, in), then the activation.
 * @module
 */
import type { Graph } from '../../src/graph/index.ts';
import { Network } from './network.ts';

/** A multilayer perceptron: `widths[0]` features in, Relu between the layers, logits out. x is (batch, widths[0]). */
export function mlp(widths: readonly number[], { batch = 1, seed = 1 } = {}): Graph {
  const net = new Network('mlp', seed);
  let x = net.input('x', 'f32', [batch, widths[0]!]);
  widths.slice(1).forEach((width, i) => {
    const last = i === widths.length - 2;
    const before = widths[i]!;
    const inputs = [x, net.weights([width, before], Math.sqrt(2 / before)), net.weights([width], 0.1)];
    x = net.add('Gemm', inputs, { transB: 1 }, last ? { output: 'y' } : {});
    if (!last) x = net.add('Relu', [x]);
  });
  return net.build(x);
}

/** A logistic regression of `features` numbers. x is (batch, features), y is (batch, 1). */
export function logisticRegression(features: number, { batch = 1, seed = 2 } = {}): Graph {
  const net = new Network('logistic-regression', seed);
  const x = net.input('x', 'f32', [batch, features]);
  const z = net.add('Gemm', [x, net.weights([1, features], 0.3), net.weights([1], 0.3)], { transB: 1 });
  return net.build(net.add('Sigmoid', [z], {}, { output: 'y' }));
}
