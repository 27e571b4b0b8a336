/**
 * Convolutions with what follows them: a normalisation goes into the weights, a bias into the bias, an addition and an activation into
 * FusedConv. New weights are written as arithmetic on the old ones: whoever plans never loads them, and an executor computes what
 * depends on constants alone once.
 * @module
 */
import type { Graph, Node, ValueId } from '../graph.ts';
import { activationOf } from './products.ts';
import { type PassOptions, type PassResult, type Rewriter, type Rule, rewrite, tensorOf } from './rewriter.ts';

/** Returns `graph` with BatchNormalization after Conv as part of its weights and bias. */
export function foldNormalisation(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, { BatchNormalization: normalised }, options);
}

/** Returns `graph` with biases, residual additions and activations computed by the convolution before them. */
export function fuseConvolutions(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, RULES, options);
}

const RULES: Readonly<Record<string, Rule>> = {
  Add: (r, node) => biased(r, node) || added(r, node),
  Relu: activated,
  Tanh: activated,
  Sigmoid: activated,
  LeakyRelu: activated,
  HardSigmoid: activated,
  Clip: activated,
};

/** With f = scale / sqrt(variance + epsilon): weights times f, and (bias - mean) f + shift. */
function normalised(r: Rewriter, node: Node): boolean {
  const [x, scale, shift, mean, variance] = node.inputs;
  const conv = r.ownProducer(x, 'Conv');
  if (conv === undefined || node.opset < 7 || node.outputs.slice(1).some(id => id !== undefined)) return false;
  if (Number(node.attributes['training_mode'] ?? 0) !== 0 || Number(node.attributes['spatial'] ?? 1) !== 1)
    return false;
  const [, weights, bias] = conv.inputs;
  const constants = [weights, scale, shift, mean, variance, ...(bias === undefined ? [] : [bias])];
  if (!constants.every(id => r.isConstant(id))) return false;
  const { dtype } = r.facts(x!);
  if (dtype === 'string' || !constants.every(id => r.facts(id!).dtype === dtype)) return false;
  const binary = (op: string, a: ValueId | undefined, b: ValueId | undefined): ValueId | undefined =>
    a === undefined || b === undefined ? undefined : r.emit({ op, opset: 14, inputs: [a, b] });
  const epsilon = r.addConstant('epsilon', tensorOf(dtype, [], [Number(node.attributes['epsilon'] ?? 1e-5)]));
  const deviation = r.emit({ op: 'Sqrt', opset: 13, inputs: [binary('Add', variance, epsilon)] });
  const factor = binary('Div', scale, deviation);
  const rank = r.shape(weights!).length;
  const column = r.integers('column', [-1, ...new Array<number>(rank - 1).fill(1)]);
  if (factor === undefined) return false;
  const spread = r.emit({ op: 'Reshape', opset: 13, inputs: [factor, column] });
  const centred = bias === undefined ? mean : binary('Sub', bias, mean);
  const product = binary('Mul', centred, factor);
  const moved = bias === undefined ? binary('Sub', shift, product) : binary('Add', product, shift);
  const inputs = [conv.inputs[0], binary('Mul', weights, spread), moved];
  if (inputs.includes(undefined)) return false;
  return r.become({ ...conv, inputs }, node.outputs.slice(0, 1));
}

/** A constant that adds one number per channel becomes the bias, or is added to it. */
function biased(r: Rewriter, node: Node): boolean {
  if (node.opset < 7) return false;
  for (const i of [0, 1] as const) {
    const conv = r.ownProducer(node.inputs[i], 'Conv');
    const other = node.inputs[1 - i]!;
    if (conv === undefined || !r.isConstant(other) || !r.sameFacts(node.inputs[i]!, node.outputs[0]!)) continue;
    const rank = r.shape(node.inputs[i]!).length;
    const shape = r.shape(other);
    const channels = r.shape(conv.inputs[1]!)[0]!;
    const spread = shape.every((dim, axis) => dim === (axis === shape.length - rank + 1 ? channels : 1));
    if (!spread || shape.length < rank - 1 || shape.length > rank) continue;
    const flat = r.emit({ op: 'Reshape', opset: 13, inputs: [other, r.integers('flat', [-1])] });
    const before = conv.inputs[2];
    const bias =
      before === undefined || flat === undefined ? flat : r.emit({ op: 'Add', opset: 14, inputs: [before, flat] });
    if (bias === undefined || (before !== undefined && !r.isConstant(before))) continue;
    if (r.become({ ...conv, inputs: [conv.inputs[0], conv.inputs[1], bias] })) return true;
  }
  return false;
}

/** The attributes of a convolution that FusedConv has too. */
function fused(conv: Node): Pick<Node, 'op' | 'domain' | 'opset'> {
  return { ...conv, op: 'FusedConv', domain: 'com.microsoft', opset: 1 };
}

/** Another tensor of the same shape, added: the Z of FusedConv. */
function added(r: Rewriter, node: Node): boolean {
  if (node.opset < 7) return false;
  for (const i of [0, 1] as const) {
    const conv = r.ownProducer(node.inputs[i], 'Conv');
    const other = node.inputs[1 - i]!;
    if (conv === undefined || !r.sameFacts(node.inputs[i]!, other)) continue;
    const inputs = [conv.inputs[0], conv.inputs[1], conv.inputs[2], other];
    if (r.become({ ...fused(conv), inputs, attributes: conv.attributes })) return true;
  }
  return false;
}

/** An activation behind Conv, or behind a FusedConv that has none yet. */
function activated(r: Rewriter, node: Node): boolean {
  const id = node.inputs[0]!;
  const conv = r.isOwn(id) ? r.maker(id) : undefined;
  const plain = conv?.op === 'Conv' && conv.domain === '';
  const open =
    conv?.op === 'FusedConv' && conv.domain === 'com.microsoft' && conv.attributes['activation'] === undefined;
  const activation = activationOf(r, node);
  if (conv === undefined || !(plain || open) || activation === undefined) return false;
  const { name, params } = activation;
  const attributes = {
    ...conv.attributes,
    activation: name,
    ...(params.length > 0 ? { activation_params: params } : {}),
  };
  return r.become({ ...fused(conv), inputs: conv.inputs, attributes });
}
