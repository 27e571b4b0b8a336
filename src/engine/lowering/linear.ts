/**
 * Matrix products.
 * @module
 */
import type { Node, ValueId } from '../../graph/index.ts';
import { elementCount, type Shape } from '../../tensor/index.ts';
import {
  broadcastStrides,
  collapse,
  type Draft,
  type DraftOperand,
  epilogueWords,
  Unsupported,
  type View,
} from '../draft.ts';
import { floatWord, PROGRAM_LIMITS, UNARY_OPS } from '../program.ts';
import { attribute, emitBinary, type Lowerings, number } from './lowering.ts';
import { followTail, isChannelwise, type Tail } from './tail.ts';

/** Lowerings of `src/graph/ops/linear`. */
export const LINEAR: Lowerings = {
  MatMul: { float: true, lower: lowerMatMul },
  Gemm: { float: true, refuses: refuseOldGemm, lower: lowerGemm },
};

/** Lowerings of the products that passes make. */
export const LINEAR_FUSED: Lowerings = {
  FusedMatMul: { float: true, refuses: refuseBatchTurns, lower: lowerMatMul },
  FusedGemm: { float: true, refuses: refuseActivation, lower: lowerGemm },
};

interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly aTransposed: boolean;
  readonly bTransposed: boolean;
  readonly alpha: number;
  /** How many products there are, and which matrix of each operand belongs to which. */
  readonly batch: Shape;
  readonly aStrides: readonly number[];
  readonly bStrides: readonly number[];
}

/** What is done to a product where it is made. */
interface Finish {
  readonly bias?: View | undefined;
  readonly addend?: View | undefined;
  readonly words: readonly number[];
}

/** One GEMM step; B is packed once where it is constant and the same for all batches. */
function emitGemm(d: Draft, p: Product, a: View, bId: ValueId, y: View, finish: Finish): void {
  const { dims, strides } = collapse(p.batch, p.aStrides, p.bStrides);
  if (dims.length > PROGRAM_LIMITS.rank) throw new Unsupported(`its batch has ${dims.length} axes`);
  // A vector lies in memory as its transpose does, and the step has a way for contiguous ones.
  const aTransposed = p.aTransposed && p.m > 1;
  const bTransposed = p.bTransposed || p.n === 1;
  const packs = d.isConstant(bId) && !d.inSetup && strides[1]!.every((stride, i) => stride === 0 || dims[i] === 1);
  const source = d.read(bId);
  const b = packs ? { packed: d.pack(source, { layout: 'gemm', words: [p.k, p.n, Number(bTransposed)] }) } : source;
  const more = [finish.bias, finish.addend];
  d.emit(
    'gemm',
    [a, b, y, ...more.filter(view => view !== undefined)],
    [
      p.m,
      p.n,
      p.k,
      ...[aTransposed, bTransposed].map(Number),
      floatWord(p.alpha),
      ...finish.words,
      ...more.map(view => Number(view !== undefined)),
      dims.length,
      ...dims,
      ...strides[0]!,
      ...strides[1]!,
    ],
  );
}

/** One product (m,k) of (k,n), or of (n,k) transposed, with a bias for each column. */
export function emitProduct(
  d: Draft,
  { m, n, k, bTransposed }: Pick<Product, 'm' | 'n' | 'k' | 'bTransposed'>,
  a: View,
  b: DraftOperand,
  y: View,
  bias: View | undefined,
): void {
  const words = [0, Number(bTransposed), floatWord(1), ...epilogueWords('none'), Number(bias !== undefined), 0];
  d.emit('gemm', bias === undefined ? [a, b, y] : [a, b, y, bias], [m, n, k, ...words, 1, 1, 0, 0]);
}

function finishOf(d: Draft, tail: Tail, bias: ValueId | undefined = tail.bias): Finish {
  const view = (id: ValueId | undefined): View | undefined => (id === undefined ? undefined : d.read(id));
  return { bias: view(bias), addend: view(tail.addend), words: tail.words };
}

function refuseBatchTurns(node: Node): string | undefined {
  const turns = number(node, 'transBatchA', 0) !== 0 || number(node, 'transBatchB', 0) !== 0;
  return turns ? 'it moves the axes of a batch' : undefined;
}

/** MatMul and FusedMatMul. */
function lowerMatMul(d: Draft, node: Node): void {
  const [aId, bId] = [node.inputs[0]!, node.inputs[1]!];
  const isFused = node.op === 'FusedMatMul';
  const alpha = isFused ? number(node, 'alpha', 1) : 1;
  const turned = (name: string, shape: Shape): boolean => isFused && number(node, name, 0) !== 0 && shape.length > 1;
  const [aTransposed, bTransposed] = [turned('transA', d.shape(aId)), turned('transB', d.shape(bId))];
  const aShape = d.shape(aId).length === 1 ? [1, ...d.shape(aId)] : d.shape(aId);
  const bShape = d.shape(bId).length === 1 ? [...d.shape(bId), 1] : d.shape(bId);
  const m = aShape.at(aTransposed ? -1 : -2)!;
  const k = aShape.at(aTransposed ? -2 : -1)!;
  const n = bShape.at(bTransposed ? -2 : -1)!;
  const tail = followTail(d, node.outputs[0]!, d.shape(bId).length === 1 ? undefined : [n], true);
  const y = d.write(tail.out);
  if (y.length === 0) return;
  if (k === 0) throw new Unsupported('its inner size is 0');

  const [aBatch, bBatch] = [aShape.slice(0, -2), bShape.slice(0, -2)];
  const one = { n, k, alpha, aTransposed, bTransposed };
  let product: Product;
  if (elementCount(bBatch) === 1 && !aTransposed) {
    // The matrices of A lie one below the other.
    product = { ...one, m: m * elementCount(aBatch), batch: [], aStrides: [], bStrides: [] };
  } else {
    const rank = Math.max(aBatch.length, bBatch.length);
    const batch = Array.from({ length: rank }, (_, i) =>
      Math.max(aBatch[i - rank + aBatch.length] ?? 1, bBatch[i - rank + bBatch.length] ?? 1),
    );
    const [aStrides, bStrides] = [broadcastStrides(aBatch, batch), broadcastStrides(bBatch, batch)];
    product = { ...one, m, batch, aStrides, bStrides };
  }
  emitGemm(d, product, d.read(aId), bId, y, finishOf(d, tail));
}

function refuseOldGemm(node: Node): string | undefined {
  return node.inputs[2] !== undefined && node.opset < 7 ? 'before opset 7 it broadcasts in another way' : undefined;
}

/** What FusedGemm may apply: to the result where it is made, or in a step of its own. */
const ACTIVATIONS: Readonly<Record<string, keyof typeof UNARY_OPS>> = {
  Relu: 'relu',
  Clip: 'clip',
  Tanh: 'tanh',
  Sigmoid: 'sigmoid',
  LeakyRelu: 'leakyRelu',
};

function refuseActivation(node: Node): string | undefined {
  const name = String(attribute(node, 'activation') ?? '');
  if (name !== '' && !Object.hasOwn(ACTIVATIONS, name)) return `its activation is ${name}`;
  const [lo, hi] = activationParameters(node, ACTIVATIONS[name]);
  return Number.isNaN(lo) || Number.isNaN(hi) ? 'a bound is not a number' : undefined;
}

/** Gemm and FusedGemm. */
function lowerGemm(d: Draft, node: Node): void {
  const [aId, bId] = [node.inputs[0]!, node.inputs[1]!];
  const [alpha, beta] = [number(node, 'alpha', 1), number(node, 'beta', 1)];
  const cId = beta === 0 ? undefined : node.inputs[2];
  const [aTransposed, bTransposed] = [number(node, 'transA', 0) !== 0, number(node, 'transB', 0) !== 0];
  const out = node.outputs[0]!;
  const shape = d.shape(out);
  const [m, n] = shape as [number, number];
  const k = d.shape(aId)[aTransposed ? 0 : 1]!;
  if (m * n > 0 && k === 0) throw new Unsupported('its inner size is 0');
  const product: Product = { m, n, k, aTransposed, bTransposed, alpha, batch: [], aStrides: [], bStrides: [] };

  const cShape = cId === undefined ? [] : [1, 1, ...d.shape(cId)].slice(-2);
  const isBias = cId !== undefined && isChannelwise(cShape, [n]);
  const isAddend = cId !== undefined && !isBias && cShape[0] === m && cShape[1] === n;
  if (node.op === 'Gemm' && cId === undefined) {
    const tail = followTail(d, out, [n], true);
    const y = d.write(tail.out);
    if (y.length > 0) emitGemm(d, product, d.read(aId), bId, y, finishOf(d, tail));
    return;
  }
  if (node.op === 'Gemm' && isBias && beta === 1) {
    const tail = followTail(d, out, undefined, true);
    const y = d.write(tail.out);
    if (y.length > 0) emitGemm(d, product, d.read(aId), bId, y, finishOf(d, tail, cId));
    return;
  }
  if (m * n === 0) {
    d.write(out);
    return;
  }

  let c = cId === undefined ? undefined : d.read(cId);
  if (c !== undefined && beta !== 1) {
    const scaled = d.temporary(c.length);
    emitBinary(d, 'mul', c, d.shape(cId!), d.scalar(beta), [], scaled, d.shape(cId!));
    c = scaled;
  }
  const joins = c === undefined || isBias || isAddend;
  const activation = node.op === 'FusedGemm' ? ACTIVATIONS[String(attribute(node, 'activation'))] : undefined;
  const [p0, p1] = activationParameters(node, activation);
  const within = joins && (activation === 'relu' || activation === 'clip');
  const steps = Number(!joins) + Number(activation !== undefined && !within);
  let y = steps === 0 ? d.write(out) : d.temporary(4 * m * n);
  emitGemm(d, product, d.read(aId), bId, y, {
    bias: isBias ? c : undefined,
    addend: isAddend ? c : undefined,
    words: within ? epilogueWords(activation, p0, p1) : epilogueWords('none'),
  });
  if (!joins) {
    const sum = steps === 1 ? d.write(out) : d.temporary(4 * m * n);
    emitBinary(d, 'add', y, shape, c!, d.shape(cId!), sum, shape);
    y = sum;
  }
  if (activation !== undefined && !within) {
    d.emit('unary', [y, d.write(out)], [UNARY_OPS[activation], floatWord(p0), floatWord(p1)], [0]);
  }
}

function activationParameters(node: Node, activation: keyof typeof UNARY_OPS | undefined): readonly [number, number] {
  const alpha = (absent: number): number => number(node, 'activation_alpha', absent);
  if (activation === 'leakyRelu') return [alpha(0.01), 0];
  if (activation !== 'clip') return [0, 0];
  const hi = number(node, 'activation_beta', Number.POSITIVE_INFINITY);
  return [Math.min(alpha(Number.NEGATIVE_INFINITY), hi), hi];
}
