/**
 * Activations recovered from the arithmetic that exporters write for them: Gelu, Swish, HardSwish, Mish.
 * @module
 */
import type { Graph, Node, ValueId } from '../graph.ts';
import { besides, isPower, near, productAt, productOf } from './patterns.ts';
import { isFloat, type PassOptions, type PassResult, type Rewriter, rewrite } from './rewriter.ts';

/** Returns `graph` with products that spell an activation as that activation. */
export function recoverActivations(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, { Mul: recover, Div: recover }, options);
}

/** A product of x, a function of x, and a number. */
function recover(r: Rewriter, node: Node): boolean {
  const out = node.outputs[0]!;
  if (node.opset < 7 || !isFloat(r.facts(out))) return false;
  if (node.op === 'Div') {
    // HardSwish may be divided by 6 at the end.
    if (r.scalar(node.inputs[1]) === undefined) return false;
  }
  const product =
    node.op === 'Mul'
      ? productAt(r, node)
      : divided(productAt(r, { ...node, inputs: [node.inputs[0]] }), r.scalar(node.inputs[1])!);
  if (product.values.length !== 2) return false;
  return product.values.some((x, i) => {
    const gate = product.values[1 - i]!;
    return r.sameFacts(x, out) && activation(r, x, gate, product.factor);
  });
}

function divided(product: ReturnType<typeof productAt>, by: number): ReturnType<typeof productAt> {
  return { factor: product.factor / by, values: product.values };
}

/** Puts `factor * x * gate` down as one node, where `gate` is the right function of x. */
function activation(r: Rewriter, x: ValueId, gate: ValueId, factor: number): boolean {
  const facts = r.facts(x);
  const node = r.ownProducer(gate, 'Add', 'Sigmoid', 'HardSigmoid', 'Clip', 'Tanh');
  const inner = node?.inputs[0];
  if (node === undefined || inner === undefined) return false;
  switch (node.op) {
    case 'Add':
      return near(factor, 0.5, facts) && gelu(r, x, node);
    case 'Sigmoid': {
      const argument = productOf(r, inner);
      if (factor !== 1 || argument.values.length !== 1 || argument.values[0] !== x) return false;
      return r.become({ op: 'Swish', opset: 24, inputs: [x], attributes: { alpha: argument.factor } });
    }
    case 'HardSigmoid': {
      const { alpha = 0.2, beta = 0.5 } = node.attributes as { readonly alpha?: number; readonly beta?: number };
      if (inner !== x || factor !== 1 || !near(alpha, 1 / 6, facts) || !near(beta, 0.5, facts)) return false;
      return r.become({ op: 'HardSwish', opset: 14, inputs: [x] });
    }
    case 'Clip': {
      const { min, max } = node.attributes;
      const [low, high] = node.opset < 11 ? [min, max] : [r.scalar(node.inputs[1]), r.scalar(node.inputs[2])];
      if (low !== 0 || high !== 6 || !near(factor, 1 / 6, facts)) return false;
      if (besides(r, r.ownProducer(inner, 'Add'), 3) !== x) return false;
      return r.become({ op: 'HardSwish', opset: 14, inputs: [x] });
    }
    default: {
      const softplus = r.ownProducer(inner, 'Softplus');
      if (factor !== 1 || softplus?.inputs[0] !== x) return false;
      return r.become({ op: 'Mish', opset: 18, inputs: [x] });
    }
  }
}

/** `1 + erf(x / sqrt 2)`, or `1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))` in either spelling. */
function gelu(r: Rewriter, x: ValueId, sum: Node): boolean {
  const facts = r.facts(x);
  const inner = r.ownProducer(besides(r, sum, 1), 'Erf', 'Tanh');
  if (inner === undefined) return false;
  const argument = productOf(r, inner.inputs[0]!);
  if (inner.op === 'Erf') {
    if (!isPower(argument, facts, Math.SQRT1_2, x)) return false;
    return r.become({ op: 'Gelu', opset: 20, inputs: [x] });
  }
  return (
    isTanhArgument(r, x, argument) &&
    r.become({ op: 'Gelu', opset: 20, inputs: [x], attributes: { approximate: 'tanh' } })
  );
}

function isTanhArgument(r: Rewriter, x: ValueId, argument: ReturnType<typeof productOf>): boolean {
  const facts = r.facts(x);
  if (!near(argument.factor, Math.sqrt(2 / Math.PI), facts)) return false;
  // x + 0.044715 x^3, or x (1 + 0.044715 x^2).
  const rest = argument.values.length === 1 ? argument.values : argument.values.filter(value => value !== x);
  const sum = rest.length === 1 && argument.values.length <= 2 ? r.ownProducer(rest[0], 'Add') : undefined;
  if (sum === undefined || sum.opset < 7) return false;
  if (argument.values.length === 2) {
    const square = besides(r, sum, 1);
    return square !== undefined && isPower(productOf(r, square), facts, 0.044715, x, 2);
  }
  const [a, b] = sum.inputs as readonly [ValueId, ValueId];
  const cube = a === x ? b : b === x ? a : undefined;
  return cube !== undefined && isPower(productOf(r, cube), facts, 0.044715, x, 3);
}
