/**
 * Matrix products with what stands around them: MatMul, Add and an activation as Gemm or FusedGemm, transposes and factors into
 * FusedMatMul.
 * @module
 */
import type { Attribute, Graph, Node, ValueId } from '../graph.ts';
import { orderOf } from './cancellation.ts';
import { type PassOptions, type PassResult, type Rewriter, type Rule, rewrite } from './rewriter.ts';

/** Returns `graph` with a bias and an activation computed by the product before them. */
export function fuseProducts(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, PRODUCTS, options);
}

/** Returns `graph` with transposes of operands, and factors of a product, as attributes of FusedMatMul. */
export function fuseTransposes(graph: Graph, options: PassOptions = {}): PassResult {
  return rewrite(graph, TRANSPOSES, options);
}

/** Activations that fused products and convolutions know, with their parameters in the order of `activation_params`. */
const ACTIVATIONS: Readonly<Record<string, readonly (readonly [name: string, absent: number])[]>> = {
  Relu: [],
  Tanh: [],
  Sigmoid: [],
  LeakyRelu: [['alpha', 0.01]],
  HardSigmoid: [
    ['alpha', 0.2],
    ['beta', 0.5],
  ],
};

/** An activation as fused operators name it, with its parameters; undefined where `node` is none. */
export function activationOf(
  r: Rewriter,
  node: Node,
): { readonly name: string; readonly params: readonly number[] } | undefined {
  if (node.domain !== '') return undefined;
  if (node.op === 'Clip') {
    const bound = (i: number, name: string, absent: number): number | undefined =>
      node.opset < 11
        ? ((node.attributes[name] as number | undefined) ?? absent)
        : node.inputs[i] === undefined
          ? absent
          : r.scalar(node.inputs[i]);
    const low = bound(1, 'min', -3.4028234663852886e38);
    const high = bound(2, 'max', 3.4028234663852886e38);
    return low === undefined || high === undefined ? undefined : { name: 'Clip', params: [low, high] };
  }
  const parameters = Object.hasOwn(ACTIVATIONS, node.op) ? ACTIVATIONS[node.op] : undefined;
  return (
    parameters && { name: node.op, params: parameters.map(([name, absent]) => Number(node.attributes[name] ?? absent)) }
  );
}

const PRODUCTS: Readonly<Record<string, Rule>> = {
  Add: biased,
  Relu: activated,
  Tanh: activated,
  Sigmoid: activated,
  LeakyRelu: activated,
};

/** `x w + b` as Gemm. A Gemm without a bias takes one too. */
function biased(r: Rewriter, node: Node): boolean {
  if (node.opset < 7) return false;
  for (const i of [0, 1] as const) {
    const product = r.ownProducer(node.inputs[i], 'MatMul', 'Gemm');
    const bias = node.inputs[1 - i]!;
    if (product === undefined || (product.op === 'Gemm' && (product.inputs[2] !== undefined || product.opset < 7)))
      continue;
    if (r.shape(product.inputs[0]!).length !== 2 || r.shape(product.inputs[1]!).length !== 2) continue;
    // The bias may not make the result larger, and Gemm knows at most two axes.
    if (r.shape(bias).length > 2 || !r.sameFacts(node.inputs[i]!, node.outputs[0]!)) continue;
    // Without a bias its factor said nothing.
    const attributes = product.op === 'Gemm' ? { ...product.attributes, beta: 1 } : {};
    const opset = Math.max(product.opset, 9);
    if (r.become({ op: 'Gemm', opset, inputs: [product.inputs[0], product.inputs[1], bias], attributes })) return true;
  }
  return false;
}

/** Gemm, then an activation, as FusedGemm. */
function activated(r: Rewriter, node: Node): boolean {
  const gemm = r.ownProducer(node.inputs[0], 'Gemm');
  const activation = activationOf(r, node);
  if (gemm === undefined || gemm.opset < 7 || activation === undefined) return false;
  const { alpha, beta, transA, transB } = gemm.attributes;
  const kept = Object.entries({ alpha, beta, transA, transB }).filter(([, value]) => value !== undefined);
  const params = ['activation_alpha', 'activation_beta'].slice(0, activation.params.length);
  return r.become({
    op: 'FusedGemm',
    domain: 'com.microsoft',
    opset: 1,
    inputs: gemm.inputs,
    attributes: {
      ...Object.fromEntries(kept as [string, Attribute][]),
      activation: activation.name,
      ...Object.fromEntries(params.map((name, i) => [name, activation.params[i]!])),
    },
  });
}

const TRANSPOSES: Readonly<Record<string, Rule>> = {
  MatMul: transposed,
  Gemm: gemmTransposed,
  Mul: scaled,
  Div: scaled,
};

/** The value before a Transpose that swaps its last two axes. */
function beforeSwap(r: Rewriter, id: ValueId | undefined): ValueId | undefined {
  const node = r.ownProducer(id, 'Transpose');
  if (node === undefined) return undefined;
  const order = orderOf(r, node);
  const rank = order.length;
  const swaps =
    rank >= 2 && order.every((axis, i) => axis === (i < rank - 2 ? i : i === rank - 2 ? rank - 1 : rank - 2));
  return swaps ? node.inputs[0] : undefined;
}

function transposed(r: Rewriter, node: Node): boolean {
  const [a, b] = [beforeSwap(r, node.inputs[0]), beforeSwap(r, node.inputs[1])];
  if (a === undefined && b === undefined) return false;
  return r.become({
    op: 'FusedMatMul',
    domain: 'com.microsoft',
    opset: 1,
    inputs: [a ?? node.inputs[0], b ?? node.inputs[1]],
    attributes: { transA: a === undefined ? 0 : 1, transB: b === undefined ? 0 : 1, alpha: 1 },
  });
}

function gemmTransposed(r: Rewriter, node: Node): boolean {
  const [a, b] = [beforeSwap(r, node.inputs[0]), beforeSwap(r, node.inputs[1])];
  if (a === undefined && b === undefined) return false;
  const flag = (name: string, turned: boolean): number =>
    (Number(node.attributes[name] ?? 0) !== 0) === turned ? 0 : 1;
  return r.become({
    ...node,
    inputs: [a ?? node.inputs[0], b ?? node.inputs[1], ...node.inputs.slice(2)],
    attributes: {
      ...node.attributes,
      transA: flag('transA', a !== undefined),
      transB: flag('transB', b !== undefined),
    },
  });
}

/** A constant factor behind a FusedMatMul. A MatMul alone gains nothing by it. */
function scaled(r: Rewriter, node: Node): boolean {
  if (node.opset < 7) return false;
  for (const i of node.op === 'Mul' ? ([0, 1] as const) : ([0] as const)) {
    const factor = r.scalar(node.inputs[1 - i]);
    const id = node.inputs[i]!;
    const product = r.isOwn(id) ? r.maker(id) : undefined;
    if (factor === undefined || product?.op !== 'FusedMatMul' || product.domain !== 'com.microsoft') continue;
    if (!Number.isFinite(factor) || factor === 0 || !r.sameFacts(id, node.outputs[0]!)) continue;
    const before = Number(product.attributes['alpha'] ?? 1);
    const alpha = node.op === 'Mul' ? before * factor : before / factor;
    if (r.become({ ...product, attributes: { ...product.attributes, alpha } })) return true;
  }
  return false;
}
