/**
 * Lowering: how each operator becomes steps of a program. One entry per operator that the native backend runs.
 * @module
 */
import { type Attribute, type Facts, findVersion, type Node, OPERATORS, type ValueId } from '../graph/index.ts';
import { DTYPES, denseStrides, elementCount, formatShape, type Shape } from '../tensor/index.ts';
import { broadcastStrides, collapse, type Draft, epilogueWords, Unsupported, type View } from './draft.ts';
import {
  BINARY_OPS,
  floatWord,
  POOL_OPS,
  REDUCE_OPS,
  strideWords,
  UNARY_OPS,
  type Window,
  windowWords,
} from './program.ts';

/** One operator of the native backend. */
export interface Lowering {
  /** Inputs that are read while planning, not by a step: shapes, axes, bounds. */
  readonly parameters?: readonly number[];
  /** Computes in float32 only (its data inputs and its outputs). Otherwise any dtype moves through it. */
  readonly float: boolean;
  /** Why a node of this operator cannot be lowered, where that shows without the values of its parameters. */
  readonly refuses?: (node: Node, inputs: readonly (Facts | undefined)[]) => string | undefined;
  /** Adds the node's steps to the draft. May throw {@link Unsupported}. */
  readonly lower: (d: Draft, node: Node) => void;
}

/** The inputs of `node` that a step reads. */
export function dataInputs(node: Node): readonly ValueId[] {
  const parameters = findLowering(node)?.parameters ?? [];
  return node.inputs.filter((id, i): id is ValueId => id !== undefined && !parameters.includes(i));
}

/** The inputs of `node` that are read while planning. */
export function parameterInputs(node: Node): readonly ValueId[] {
  const parameters = findLowering(node)?.parameters ?? [];
  return node.inputs.filter((id, i): id is ValueId => id !== undefined && parameters.includes(i));
}

/** How `node` is lowered, if its operator is. */
export function findLowering(node: Node): Lowering | undefined {
  return node.domain === '' ? LOWERINGS.get(node.op) : undefined;
}

/** Why the native backend does not run `node`, whose inputs and outputs have these facts; undefined when it does. */
export function refusal(
  node: Node,
  inputs: readonly (Facts | undefined)[],
  outputs: readonly (Facts | undefined)[],
): string | undefined {
  const lowering = findLowering(node);
  if (lowering === undefined) return `no native kernel for ${node.domain === '' ? '' : `${node.domain}.`}${node.op}`;
  if (findVersion(OPERATORS, node) === undefined) return `${node.op} has no version for opset ${node.opset}`;
  const parameters = lowering.parameters ?? [];
  if (lowering.float) {
    const data = [...inputs.filter((_, i) => !parameters.includes(i)), ...outputs];
    const other = data.find(facts => facts !== undefined && facts.dtype !== 'f32');
    if (other !== undefined) return `native kernels compute in f32, not ${other.dtype}`;
  }
  return lowering.refuses?.(node, inputs);
}

const UNARY = {
  Relu: 'relu',
  Neg: 'neg',
  Abs: 'abs',
  Sqrt: 'sqrt',
  Exp: 'exp',
  Log: 'log',
  Tanh: 'tanh',
  Sigmoid: 'sigmoid',
  Erf: 'erf',
  Floor: 'floor',
  Ceil: 'ceil',
  Reciprocal: 'reciprocal',
} as const;
const BINARY = { Add: 'add', Sub: 'sub', Mul: 'mul', Div: 'div', Pow: 'pow' } as const;
const VARIADIC = { Sum: 'add', Mean: 'add', Min: 'min', Max: 'max' } as const;
const REDUCTIONS = { ReduceSum: 'sum', ReduceMean: 'mean', ReduceMax: 'max', ReduceMin: 'min' } as const;

const LOWERINGS: ReadonlyMap<string, Lowering> = new Map(
  Object.entries({
    ...mapped(UNARY, unary),
    ...mapped(BINARY, binary),
    ...mapped(VARIADIC, variadic),
    ...mapped(REDUCTIONS, reduction),
    Clip: { float: true, parameters: [1, 2], lower: lowerClip },
    LeakyRelu: { float: true, lower: lowerLeakyRelu },
    MatMul: { float: true, lower: lowerMatMul },
    Gemm: { float: true, refuses: refuseOldGemm, lower: lowerGemm },
    Conv: { float: true, refuses: refuseWindow, lower: lowerConv },
    MaxPool: { float: true, refuses: refuseWindow, lower: (d, node) => lowerPool(d, node, 'max') },
    AveragePool: { float: true, refuses: refuseAveragePool, lower: lowerAveragePool },
    GlobalAveragePool: { float: true, lower: (d, node) => lowerGlobalPool(d, node, 'mean') },
    GlobalMaxPool: { float: true, lower: (d, node) => lowerGlobalPool(d, node, 'max') },
    BatchNormalization: { float: true, refuses: refuseTraining, lower: lowerBatchNormalization },
    Softmax: { float: true, lower: (d, node) => lowerSoftmax(d, node, false) },
    LogSoftmax: { float: true, lower: (d, node) => lowerSoftmax(d, node, true) },
    Transpose: { float: false, lower: lowerTranspose },
    Expand: { float: false, parameters: [1], lower: lowerExpand },
    Slice: { float: false, parameters: [1, 2, 3, 4], lower: lowerSlice },
    Split: { float: false, parameters: [1], lower: lowerSplit },
    Concat: { float: false, lower: lowerConcat },
    Identity: { float: false, lower: lowerAlias },
    Reshape: { float: false, parameters: [1], lower: lowerAlias },
    Flatten: { float: false, lower: lowerAlias },
    Squeeze: { float: false, parameters: [1], lower: lowerAlias },
    Unsqueeze: { float: false, parameters: [1], lower: lowerAlias },
    Dropout: { float: false, parameters: [1, 2], refuses: refuseTraining, lower: lowerAlias },
  } satisfies Record<string, Lowering>),
);

function mapped<K extends string>(
  names: Readonly<Record<string, K>>,
  make: (op: K) => Lowering,
): Record<string, Lowering> {
  return Object.fromEntries(Object.entries(names).map(([name, op]) => [name, make(op)]));
}

// ---- elementwise ----

function unary(op: keyof typeof UNARY_OPS): Lowering {
  return { float: true, lower: (d, node) => emitUnary(d, node, op, 0, 0) };
}

function emitUnary(d: Draft, node: Node, op: keyof typeof UNARY_OPS, p0: number, p1: number): void {
  const x = d.read(node.inputs[0]!);
  const y = d.write(node.outputs[0]!);
  if (y.length > 0) d.emit('unary', [x, y], [UNARY_OPS[op], floatWord(p0), floatWord(p1)], [0]);
}

function lowerClip(d: Draft, node: Node): void {
  const { lo, hi } = clipBounds(d, node);
  emitUnary(d, node, 'clip', lo, hi);
}

/** The bounds of a Clip, ordered: where the lower one is above the upper one, every result is the upper one. */
function clipBounds(d: Draft, node: Node): { lo: number; hi: number } {
  const bound = (input: number, name: string, absent: number): number => {
    const id = node.inputs[input];
    if (id === undefined) return node.opset < 11 ? number(node, name, absent) : absent;
    const value = d.tensor(id)?.values()[0];
    if (value === undefined) throw new Unsupported(`its ${name} is computed`);
    return Number(value);
  };
  const lo = bound(1, 'min', Number.NEGATIVE_INFINITY);
  const hi = bound(2, 'max', Number.POSITIVE_INFINITY);
  if (Number.isNaN(lo) || Number.isNaN(hi)) throw new Unsupported('a bound is not a number');
  return { lo: Math.min(lo, hi), hi };
}

function lowerLeakyRelu(d: Draft, node: Node): void {
  emitUnary(d, node, 'leakyRelu', number(node, 'alpha', 0.01), 0);
}

function binary(op: keyof typeof BINARY_OPS): Lowering {
  return {
    float: true,
    refuses: node => (node.opset < 7 ? 'before opset 7 it broadcasts in another way' : undefined),
    lower: (d, node) => {
      const [a, b] = [node.inputs[0]!, node.inputs[1]!];
      const out = node.outputs[0]!;
      emitBinary(d, op, d.read(a), d.shape(a), d.read(b), d.shape(b), d.write(out), d.shape(out));
    },
  };
}

function emitBinary(
  d: Draft,
  op: keyof typeof BINARY_OPS,
  a: View,
  aShape: Shape,
  b: View,
  bShape: Shape,
  y: View,
  shape: Shape,
): void {
  if (y.length === 0) return;
  const { dims, strides } = collapse(shape, broadcastStrides(aShape, shape), broadcastStrides(bShape, shape));
  const inPlace = [a, b].flatMap((operand, i) => (operand.length === y.length ? [i] : []));
  d.emit('binary', [a, b, y], [BINARY_OPS[op], dims.length, ...dims, ...strides[0]!, ...strides[1]!], inPlace);
}

function variadic(op: keyof typeof BINARY_OPS): Lowering {
  return {
    float: true,
    refuses: node => (node.opset < 8 ? 'before opset 8 it does not broadcast' : undefined),
    lower: (d, node) => {
      const out = node.outputs[0]!;
      const shape = d.shape(out);
      const [first, ...rest] = node.inputs.filter(id => id !== undefined);
      if (rest.length === 0) {
        d.alias(out, first!);
        return;
      }
      let sum = d.read(first!);
      let sumShape = d.shape(first!);
      rest.forEach((id, i) => {
        const last = i === rest.length - 1 && node.op !== 'Mean';
        const y = last ? d.write(out) : d.temporary(4 * elementCount(shape));
        emitBinary(d, op, sum, sumShape, d.read(id), d.shape(id), y, shape);
        sum = y;
        sumShape = shape;
      });
      if (node.op === 'Mean') emitBinary(d, 'div', sum, shape, d.scalar(rest.length + 1), [], d.write(out), shape);
    },
  };
}

// ---- matrix products ----

/** What follows a product and is computed with it: a bias per channel, then an activation. */
interface Tail {
  readonly out: ValueId;
  readonly bias: ValueId | undefined;
  readonly words: readonly number[];
}

/**
 * Follows the only consumers of `out`: an Add of a constant of shape `biasShape` (where one is given; leading ones
 * aside), then a Relu or a Clip. What it takes along is absorbed.
 */
function followTail(d: Draft, out: ValueId, biasShape: Shape | undefined): Tail {
  let bias: ValueId | undefined;
  let next = d.soleConsumer(out);
  if (biasShape !== undefined && next?.op === 'Add' && next.domain === '' && next.opset >= 7) {
    const other = next.inputs.find(id => id !== out);
    const sum = next.outputs[0]!;
    if (
      other !== undefined &&
      d.isConstant(other) &&
      isChannelwise(d.shape(other), biasShape) &&
      sameSize(d, sum, out)
    ) {
      bias = other;
      d.absorb(next);
      out = sum;
      next = d.soleConsumer(out);
    }
  }
  let words = epilogueWords('none');
  if (next?.domain === '' && next.inputs[0] === out && (next.op === 'Relu' || next.op === 'Clip')) {
    const bounds = next.op === 'Clip' ? tryBounds(d, next) : undefined;
    if (next.op === 'Relu') words = epilogueWords('relu');
    else if (bounds !== undefined) words = epilogueWords('clip', bounds.lo, bounds.hi);
    if (next.op === 'Relu' || bounds !== undefined) {
      d.absorb(next);
      out = next.outputs[0]!;
    }
  }
  return { out, bias, words };
}

function tryBounds(d: Draft, node: Node): { lo: number; hi: number } | undefined {
  try {
    return clipBounds(d, node);
  } catch (error) {
    if (error instanceof Unsupported) return undefined;
    throw error;
  }
}

function sameSize(d: Draft, a: ValueId, b: ValueId): boolean {
  return formatShape(d.shape(a)) === formatShape(d.shape(b));
}

/** Whether a tensor of `shape` adds one element per channel: it is `expected`, up to leading ones. */
function isChannelwise(shape: Shape, expected: Shape): boolean {
  const lead = shape.length - expected.length;
  return lead >= 0 && shape.every((size, i) => size === (i < lead ? 1 : expected[i - lead]));
}

interface Product {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly aTransposed: boolean;
  readonly bTransposed: boolean;
  readonly batches: number;
  readonly aShared: boolean;
  readonly bShared: boolean;
}

/** One GEMM step; B is packed once where it is constant and the same for all batches. */
function emitGemm(
  d: Draft,
  p: Product,
  a: View,
  b: ValueId | View,
  y: View,
  bias: View | undefined,
  words: readonly number[],
): void {
  const source = typeof b === 'number' ? d.read(b) : b;
  const packs = typeof b === 'number' && d.isConstant(b) && p.bShared && !d.inSetup;
  const weight = packs
    ? { packed: d.pack(source, { layout: 'gemm', k: p.k, n: p.n, transposed: p.bTransposed }) }
    : source;
  const flags = [p.aTransposed, p.bTransposed && !packs].map(Number);
  d.emit('gemm', bias === undefined ? [a, weight, y] : [a, weight, y, bias], [
    p.m,
    p.n,
    p.k,
    ...flags,
    p.batches,
    ...[p.aShared, p.bShared].map(Number),
    ...words,
  ]);
}

function lowerMatMul(d: Draft, node: Node): void {
  const [aId, bId] = [node.inputs[0]!, node.inputs[1]!];
  const aShape = d.shape(aId).length === 1 ? [1, ...d.shape(aId)] : d.shape(aId);
  const bShape = d.shape(bId).length === 1 ? [...d.shape(bId), 1] : d.shape(bId);
  const [m, k, n] = [aShape.at(-2)!, aShape.at(-1)!, bShape.at(-1)!];
  const tail = followTail(d, node.outputs[0]!, d.shape(bId).length === 1 ? undefined : [n]);
  const y = d.write(tail.out);
  if (y.length === 0) return;
  if (k === 0) throw new Unsupported('its inner size is 0');
  const bias = tail.bias === undefined ? undefined : d.read(tail.bias);

  const aBatch = aShape.slice(0, -2);
  const bBatch = bShape.slice(0, -2);
  const plain = { k, n, aTransposed: false, bTransposed: false };
  if (elementCount(bBatch) === 1) {
    const rows = m * elementCount(aBatch);
    emitGemm(d, { ...plain, m: rows, batches: 1, aShared: true, bShared: true }, d.read(aId), bId, y, bias, tail.words);
    return;
  }
  const rank = Math.max(aBatch.length, bBatch.length);
  const batch = Array.from({ length: rank }, (_, i) =>
    Math.max(aBatch[i - rank + aBatch.length] ?? 1, bBatch[i - rank + bBatch.length] ?? 1),
  );
  const batches = elementCount(batch);
  const aShared = elementCount(aBatch) === 1;
  const a = aShared ? d.read(aId) : spread(d, d.read(aId), aShape, [...batch, m, k]);
  const b = spread(d, d.read(bId), bShape, [...batch, k, n]);
  emitGemm(d, { ...plain, m, batches, aShared, bShared: false }, a, b, y, bias, tail.words);
}

/** A dense tensor of `shape` with the elements of `x`, repeated where they broadcast; `x` itself where none are. */
function spread(d: Draft, x: View, xShape: Shape, shape: Shape): View {
  if (elementCount(xShape) === elementCount(shape)) return x;
  const y = d.temporary(4 * elementCount(shape));
  emitCopy(d, x, 4, shape, broadcastStrides(xShape, shape), y);
  return y;
}

function refuseOldGemm(node: Node): string | undefined {
  return node.inputs[2] !== undefined && node.opset < 7 ? 'before opset 7 it broadcasts in another way' : undefined;
}

function lowerGemm(d: Draft, node: Node): void {
  const [aId, bId] = [node.inputs[0]!, node.inputs[1]!];
  const cId = number(node, 'beta', 1) === 0 ? undefined : node.inputs[2];
  const [aTransposed, bTransposed] = [number(node, 'transA', 0) !== 0, number(node, 'transB', 0) !== 0];
  const [alpha, beta] = [number(node, 'alpha', 1), number(node, 'beta', 1)];
  const shape = d.shape(node.outputs[0]!);
  const [m, n] = shape as [number, number];
  const k = d.shape(aId)[aTransposed ? 0 : 1]!;
  if (m * n > 0 && k === 0) throw new Unsupported('its inner size is 0');
  const product: Product = { m, n, k, aTransposed, bTransposed, batches: 1, aShared: true, bShared: true };

  const isBias = cId !== undefined && isChannelwise([...new Array<number>(2).fill(1), ...d.shape(cId)].slice(-2), [n]);
  if (alpha === 1 && (cId === undefined || (isBias && beta === 1))) {
    const tail = followTail(d, node.outputs[0]!, cId === undefined ? [n] : undefined);
    const biasId = cId ?? tail.bias;
    const y = d.write(tail.out);
    if (y.length > 0)
      emitGemm(d, product, d.read(aId), bId, y, biasId === undefined ? undefined : d.read(biasId), tail.words);
    return;
  }
  // alpha * A B + beta * C, one step after another; the steps in between run in place.
  let y = d.temporary(4 * m * n);
  if (y.length > 0) emitGemm(d, product, d.read(aId), bId, y, undefined, epilogueWords('none'));
  if (alpha !== 1) {
    const scaled = cId === undefined ? d.write(node.outputs[0]!) : d.temporary(4 * m * n);
    emitBinary(d, 'mul', y, shape, d.scalar(alpha), [], scaled, shape);
    y = scaled;
  }
  if (cId === undefined) return;
  let c = d.read(cId);
  if (beta !== 1) {
    const scaled = d.temporary(c.length);
    emitBinary(d, 'mul', c, d.shape(cId), d.scalar(beta), [], scaled, d.shape(cId));
    c = scaled;
  }
  emitBinary(d, 'add', y, shape, c, d.shape(cId), d.write(node.outputs[0]!), shape);
}

// ---- convolution and pooling ----

function refuseWindow(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  const rank = inputs[0]?.shape.length ?? 4;
  if (rank !== 3 && rank !== 4) return `native windows are 1-D or 2-D, not ${rank - 2}-D`;
  if (node.op === 'MaxPool' && node.outputs[1] !== undefined) return 'it asks for the indices of its maxima';
  return undefined;
}

/** The geometry of a Conv or pooling node; 1-D becomes 2-D of height 1. */
function windowOf(d: Draft, node: Node, kernel: readonly number[], outC: number, groups: number): Window {
  const x = d.shape(node.inputs[0]!);
  const y = d.shape(node.outputs[0]!);
  const spatial = x.length - 2;
  const ones = new Array<number>(spatial).fill(1);
  const list = (name: string, absent: readonly number[]): readonly number[] => {
    const values = numbers(node, name) ?? [];
    return values.length > 0 ? values : absent;
  };
  const strides = list('strides', ones);
  const dilations = list('dilations', ones);
  const pads = list('pads', new Array<number>(2 * spatial).fill(0));
  const autoPad = node.attributes['auto_pad'] ?? 'NOTSET';
  const begin = ones.map((_, i) => {
    if (autoPad === 'NOTSET') return pads[i]!;
    if (autoPad === 'VALID') return 0;
    const extent = (kernel[i]! - 1) * dilations[i]! + 1;
    const total = Math.max(0, (y[2 + i]! - 1) * strides[i]! + extent - x[2 + i]!);
    return autoPad === 'SAME_LOWER' ? Math.ceil(total / 2) : Math.floor(total / 2);
  });
  const axis = (list: readonly number[], i: number, absent: number): number =>
    spatial === 2 ? list[i]! : i === 0 ? absent : list[0]!;
  const window: Window = {
    batch: x[0]!,
    inC: x[1]!,
    inH: axis(x.slice(2), 0, 1),
    inW: axis(x.slice(2), 1, 1),
    outC,
    outH: axis(y.slice(2), 0, 1),
    outW: axis(y.slice(2), 1, 1),
    kernelH: axis(kernel, 0, 1),
    kernelW: axis(kernel, 1, 1),
    strideH: axis(strides, 0, 1),
    strideW: axis(strides, 1, 1),
    dilationH: axis(dilations, 0, 1),
    dilationW: axis(dilations, 1, 1),
    padTop: axis(begin, 0, 0),
    padLeft: axis(begin, 1, 0),
    groups,
  };
  for (const side of ['H', 'W'] as const) {
    const extent = (window[`kernel${side}`] - 1) * window[`dilation${side}`] + 1;
    const pad = side === 'H' ? window.padTop : window.padLeft;
    const last = (window[`out${side}`] - 1) * window[`stride${side}`];
    if (pad < 0 || pad >= extent || last >= window[`in${side}`] + pad) {
      throw new Unsupported('some window lies wholly in the padding');
    }
  }
  return window;
}

function lowerConv(d: Draft, node: Node): void {
  const [xId, wId] = [node.inputs[0]!, node.inputs[1]!];
  const weights = d.shape(wId);
  const outC = weights[0]!;
  const window = windowOf(d, node, weights.slice(2), outC, number(node, 'group', 1));
  const folded = foldBatchNormalization(d, node, outC);
  const out = folded?.out ?? node.outputs[0]!;
  const spatial = weights.slice(2).map(() => 1);
  const hasBias = folded !== undefined || node.inputs[2] !== undefined;
  const tail = followTail(d, out, hasBias ? undefined : [outC, ...spatial]);
  const biasId = node.inputs[2] ?? tail.bias;
  const bias = folded?.bias ?? (biasId === undefined ? undefined : d.read(biasId));
  const source = folded?.weights ?? d.read(wId);
  const y = d.write(tail.out);
  if (y.length === 0) return;
  if (source.length === 0) throw new Unsupported('it has no input channels');
  const packs = d.isConstant(wId) && !d.inSetup;
  const weight = packs ? { packed: d.pack(source, { layout: 'conv', window }) } : source;
  const operands = [d.read(xId), weight, y, ...(bias === undefined ? [] : [bias])];
  d.emit('conv', operands, [...windowWords(window), ...tail.words]);
}

/** Scale and shift per channel, of `channels` float32 each: what a BatchNormalization does at inference. */
function scaleAndShift(d: Draft, node: Node, channels: number): { scale: View; shift: View } {
  const [gamma, beta, mean, variance] = node.inputs.slice(1, 5).map(id => d.read(id!)) as [View, View, View, View];
  const safe = d.vector('add', variance, d.scalar(number(node, 'epsilon', 1e-5)), channels);
  const root = d.temporary(4 * channels);
  d.emit('unary', [safe, root], [UNARY_OPS.sqrt, 0, 0]);
  const scale = d.vector('div', gamma, root, channels);
  return { scale, shift: d.vector('sub', beta, d.vector('mul', mean, scale, channels), channels) };
}

/** A BatchNormalization that alone follows the Conv `node`, multiplied into its weights at setup. */
function foldBatchNormalization(
  d: Draft,
  node: Node,
  channels: number,
): { weights: View; bias: View; out: ValueId } | undefined {
  const next = d.soleConsumer(node.outputs[0]!);
  const wId = node.inputs[1]!;
  const constants = [wId, node.inputs[2], ...(next?.inputs.slice(1) ?? [])].filter(id => id !== undefined);
  if (next?.op !== 'BatchNormalization' || next.domain !== '' || next.inputs[0] !== node.outputs[0]) return undefined;
  if (!constants.every(id => d.isConstant(id)) || refuseTraining(next) !== undefined || d.bytes(wId) === 0)
    return undefined;
  d.absorb(next);
  return d.atSetup(() => {
    const { scale, shift } = scaleAndShift(d, next, channels);
    const source = d.read(wId);
    const weights = d.temporary(source.length);
    const each = source.length / 4 / channels;
    d.emit('binary', [source, scale, weights], [BINARY_OPS.mul, 2, channels, each, each, 1, 1, 0]);
    const before = node.inputs[2] === undefined ? undefined : d.vector('mul', d.read(node.inputs[2]), scale, channels);
    const bias = before === undefined ? shift : d.vector('add', before, shift, channels);
    return { weights, bias, out: next.outputs[0]! };
  });
}

function refuseTraining(node: Node): string | undefined {
  const training = number(node, 'training_mode', 0) !== 0;
  return training || node.outputs.slice(1).some(id => id !== undefined) ? 'it asks for training outputs' : undefined;
}

function lowerBatchNormalization(d: Draft, node: Node): void {
  const shape = d.shape(node.inputs[0]!);
  const channels = shape[1] ?? 1;
  const x = d.read(node.inputs[0]!);
  const constant = node.inputs.slice(1).every(id => id !== undefined && d.isConstant(id));
  const affine = (): { scale: View; shift: View } => scaleAndShift(d, node, channels);
  const y = d.temporary(x.length);
  const out = d.write(node.outputs[0]!);
  if (x.length === 0) return;
  const { scale, shift } = constant ? d.atSetup(affine) : affine();
  const perChannel = [channels, ...shape.slice(2).map(() => 1)];
  emitBinary(d, 'mul', x, shape, scale, perChannel, y, shape);
  emitBinary(d, 'add', y, shape, shift, perChannel, out, shape);
}

function lowerPool(d: Draft, node: Node, op: keyof typeof POOL_OPS): void {
  const y = d.write(node.outputs[0]!);
  if (y.length === 0) return;
  const window = windowOf(d, node, numbers(node, 'kernel_shape') ?? [], d.shape(node.inputs[0]!)[1]!, 1);
  d.emit('pool', [d.read(node.inputs[0]!), y], [...windowWords(window), POOL_OPS[op]]);
}

function refuseAveragePool(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  const odd = number(node, 'count_include_pad', 0) !== 0 && number(node, 'ceil_mode', 0) !== 0;
  return odd ? 'it rounds up and counts padding' : refuseWindow(node, inputs);
}

function lowerAveragePool(d: Draft, node: Node): void {
  lowerPool(d, node, number(node, 'count_include_pad', 0) !== 0 ? 'averageIncludePad' : 'average');
}

function lowerGlobalPool(d: Draft, node: Node, op: keyof typeof REDUCE_OPS): void {
  const shape = d.shape(node.inputs[0]!);
  const y = d.write(node.outputs[0]!);
  const inner = elementCount(shape.slice(2));
  if (y.length === 0) return;
  if (inner === 0) throw new Unsupported('it reduces nothing');
  d.emit('reduce', [d.read(node.inputs[0]!), y], [REDUCE_OPS[op], shape[0]! * shape[1]!, inner, 1]);
}

// ---- along an axis ----

function lowerSoftmax(d: Draft, node: Node, log: boolean): void {
  const shape = d.shape(node.inputs[0]!);
  const x = d.read(node.inputs[0]!);
  const y = d.write(node.outputs[0]!);
  if (y.length === 0) return;
  // Before opset 13 everything from the axis on is one long axis.
  const flattens = node.opset < 13;
  const axis = fromEnd(number(node, 'axis', flattens ? 1 : -1), shape.length);
  const n = flattens ? elementCount(shape.slice(axis)) : (shape[axis] ?? 1);
  const inner = flattens ? 1 : elementCount(shape.slice(axis + 1));
  d.emit('softmax', [x, y], [elementCount(shape.slice(0, axis)), n, inner, Number(log)], [0]);
}

function reduction(op: keyof typeof REDUCE_OPS): Lowering {
  return { float: true, parameters: [1], lower: (d, node) => lowerReduce(d, node, op) };
}

function lowerReduce(d: Draft, node: Node, op: keyof typeof REDUCE_OPS): void {
  const [xId, out] = [node.inputs[0]!, node.outputs[0]!];
  const shape = d.shape(xId);
  const given = node.inputs[1] === undefined ? numbers(node, 'axes') : d.tensor(node.inputs[1])?.values().map(Number);
  if (node.inputs[1] !== undefined && given === undefined) throw new Unsupported('its axes are computed');
  if ((given ?? []).length === 0 && number(node, 'noop_with_empty_axes', 0) !== 0) {
    d.alias(out, xId);
    return;
  }
  const all = (given ?? []).length === 0;
  const axes = new Set((given ?? []).map(axis => fromEnd(axis, shape.length)));
  // Neighbouring axes of the same fate are one axis; then each reduced one is a step, the innermost first.
  const runs: { size: number; reduced: boolean }[] = [];
  shape.forEach((size, i) => {
    if (size === 1) return;
    const reduced = all || axes.has(i);
    const last = runs.at(-1);
    if (last?.reduced === reduced) last.size *= size;
    else runs.push({ size, reduced });
  });
  if (d.bytes(out) > 0 && d.bytes(xId) === 0) throw new Unsupported('it reduces nothing');
  const reduced = runs.filter(run => run.reduced).length;
  if (reduced === 0) {
    d.alias(out, xId);
    return;
  }
  if (d.bytes(out) === 0) {
    d.write(out);
    return;
  }
  let x = d.read(xId);
  for (let left = reduced; left > 0; left--) {
    const at = runs.findLastIndex(run => run.reduced);
    const outer = runs.slice(0, at).reduce((product, run) => product * run.size, 1);
    const inner = runs.slice(at + 1).reduce((product, run) => product * run.size, 1);
    const y = left === 1 ? d.write(out) : d.temporary(4 * outer * inner);
    d.emit('reduce', [x, y], [REDUCE_OPS[op], outer, runs[at]!.size, inner]);
    runs.splice(at, 1);
    x = y;
  }
}

// ---- moving ----

function lowerAlias(d: Draft, node: Node): void {
  if (
    node.op === 'Dropout' &&
    node.inputs[2] !== undefined &&
    Number(d.tensor(node.inputs[2])?.values()[0] ?? 1) !== 0
  ) {
    throw new Unsupported('it drops at inference');
  }
  d.alias(node.outputs[0]!, node.inputs[0]!);
}

/**
 * Copies `x`, read from its first byte at `strides` (elements), into the dense `y` of `shape`. Negative strides start
 * at the end.
 */
function emitCopy(d: Draft, x: View, elementBytes: number, shape: Shape, strides: readonly number[], y: View): void {
  const {
    dims,
    strides: [collapsed],
  } = collapse(shape, strides);
  d.emit('copy', [x, y], [elementBytes, dims.length, ...dims, ...collapsed!.flatMap(stride => strideWords(stride))]);
}

function lowerTranspose(d: Draft, node: Node): void {
  const shape = d.shape(node.inputs[0]!);
  const order = numbers(node, 'perm') ?? shape.map((_, i) => shape.length - 1 - i);
  const dense = denseStrides(shape);
  strided(
    d,
    node.inputs[0]!,
    node.outputs[0]!,
    order.map(axis => dense[axis]!),
    0,
  );
}

function lowerExpand(d: Draft, node: Node): void {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  strided(d, x, y, broadcastStrides(d.shape(x), d.shape(y)), 0);
}

function lowerSlice(d: Draft, node: Node): void {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const shape = d.shape(x);
  const list = (input: number, name: string): readonly number[] | undefined => {
    if (node.opset < 10) return numbers(node, name);
    if (node.inputs[input] === undefined) return undefined;
    const values = d.tensor(node.inputs[input])?.values().map(Number);
    if (values === undefined) throw new Unsupported(`its ${name} are computed`);
    return values;
  };
  const starts = list(1, 'starts') ?? [];
  const axes = list(3, 'axes') ?? starts.map((_, i) => i);
  const steps = list(4, 'steps') ?? starts.map(() => 1);
  const strides = [...denseStrides(shape)];
  let first = 0;
  starts.forEach((start, i) => {
    const axis = fromEnd(axes[i]!, shape.length);
    const [size, step] = [shape[axis]!, steps[i]!];
    const from = start < 0 ? start + size : start;
    first += Math.min(Math.max(from, 0), step < 0 ? size - 1 : size) * strides[axis]!;
    strides[axis]! *= step;
  });
  strided(d, x, y, strides, first);
}

function lowerSplit(d: Draft, node: Node): void {
  const x = node.inputs[0]!;
  const axis = fromEnd(number(node, 'axis', 0), d.shape(x).length);
  const strides = denseStrides(d.shape(x));
  let first = 0;
  for (const y of node.outputs) {
    // A part that nobody asked for has no size here to step over.
    if (y === undefined) throw new Unsupported('one of its outputs is left out');
    strided(d, x, y, strides, first);
    first += d.shape(y)[axis]! * strides[axis]!;
  }
}

/**
 * `y` = the elements of `x` at `strides` from element `first`. Takes the bytes between the lowest and the highest of
 * them.
 */
function strided(d: Draft, x: ValueId, y: ValueId, strides: readonly number[], first: number): void {
  const shape = d.shape(y);
  const source = d.read(x);
  const target = d.write(y);
  if (target.length === 0) return;
  const element = DTYPES[d.facts(y).dtype].bytes;
  let low = first;
  let high = first;
  strides.forEach((stride, i) => {
    if (stride < 0) low += stride * (shape[i]! - 1);
    else high += stride * (shape[i]! - 1);
  });
  const view = { buffer: source.buffer, offset: source.offset + low * element, length: (high - low + 1) * element };
  emitCopy(d, view, element, shape, strides, target);
}

function lowerConcat(d: Draft, node: Node): void {
  const out = node.outputs[0]!;
  const axis = fromEnd(number(node, 'axis', 0), d.shape(out).length);
  const outer = elementCount(d.shape(out).slice(0, axis));
  const parts = node.inputs.filter(id => id !== undefined).map(id => d.read(id));
  const filled = parts.filter(part => part.length > 0);
  if (filled.length > MAX_PARTS) throw new Unsupported(`it joins more than ${MAX_PARTS} tensors`);
  const y = d.write(out);
  if (y.length > 0) d.emit('concat', [y, ...filled], [outer]);
}

const MAX_PARTS = 1023;

// ---- attributes ----

/** An integer or float attribute; where it is absent, the operator's default, or `absent`. */
function number(node: Node, name: string, absent: number): number {
  const value = attribute(node, name);
  return typeof value === 'number' ? value : absent;
}

function numbers(node: Node, name: string): readonly number[] | undefined {
  const value = attribute(node, name);
  return Array.isArray(value) ? (value as readonly number[]) : undefined;
}

function attribute(node: Node, name: string): Attribute | undefined {
  return node.attributes[name] ?? findVersion(OPERATORS, node)?.attributes[name]?.default;
}

function fromEnd(axis: number, rank: number): number {
  return axis < 0 ? axis + rank : axis;
}
