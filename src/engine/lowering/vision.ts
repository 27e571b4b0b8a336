/**
 * Convolution, pooling, and what normalises their channels.
 * @module
 */
import type { Facts, Node, ValueId } from '../../graph/index.ts';
import { elementCount } from '../../tensor/index.ts';
import { type Draft, Unsupported, type View } from '../draft.ts';
import { BINARY_OPS, CHANNEL_BLOCK, POOL_OPS, REDUCE_OPS, UNARY_OPS, type Window, windowWords } from '../program.ts';
import { blockedForm, blockedVector, emitBlockedConv, emitBlockedPool, emitBlockedPoolAll } from './blocks.ts';
import { attribute, emitBinary, type Lowerings, number, numbers, refuseTraining } from './lowering.ts';
import { lowerPadding } from './movement.ts';
import { followTail } from './tail.ts';
import { lowerConvTranspose, refuseTransposed } from './transposed.ts';

/** Lowerings of `src/graph/ops/vision`. */
export const VISION: Lowerings = {
  Conv: { float: true, refuses: refuseWindow, lower: (d, node) => lowerConv(d, node) },
  ConvTranspose: {
    float: true,
    refuses: refuseTransposed,
    lower: (d, node) => lowerConvTranspose(d, node, foldBatchNormalization),
  },
  MaxPool: { float: true, refuses: refuseWindow, lower: (d, node) => lowerPool(d, node, 'max') },
  AveragePool: { float: true, refuses: refuseAveragePool, lower: lowerAveragePool },
  GlobalAveragePool: { float: true, lower: (d, node) => lowerGlobalPool(d, node, 'mean') },
  GlobalMaxPool: { float: true, lower: (d, node) => lowerGlobalPool(d, node, 'max') },
  Pad: { float: false, parameters: [1, 2, 3], lower: lowerPad },
  BatchNormalization: { float: true, refuses: refuseTraining, lower: lowerBatchNormalization },
};

function refuseWindow(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  const rank = inputs[0]?.shape.length ?? 4;
  if (rank !== 3 && rank !== 4) return `native windows are 1-D or 2-D, not ${rank - 2}-D`;
  if (node.op === 'MaxPool' && node.outputs[1] !== undefined) return 'it asks for the indices of its maxima';
  return undefined;
}

/** What a Conv or a pooling reads: its input, or what a Pad before it reads, and how far that pads in front of each axis. */
interface Source {
  readonly id: ValueId;
  readonly before: readonly number[];
}

/** The geometry of a Conv or pooling node; 1-D becomes 2-D of height 1. */
export function windowOf(
  d: Draft,
  node: Node,
  source: Source,
  kernel: readonly number[],
  outC: number,
  groups: number,
): Window {
  const x = d.shape(source.id);
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
    const before = source.before[i] ?? 0;
    if (autoPad === 'NOTSET') return before + pads[i]!;
    if (autoPad === 'VALID') return before;
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

function lowerConv(d: Draft, node: Node, source: Source = ownInput(node)): void {
  const [xId, wId] = [source.id, node.inputs[1]!];
  const weights = d.shape(wId);
  const outC = weights[0]!;
  const window = windowOf(d, node, source, weights.slice(2), outC, number(node, 'group', 1));
  const folded = foldBatchNormalization(d, node, () => d.read(wId), outC);
  const out = folded?.out ?? node.outputs[0]!;
  const constant = d.isConstant(wId) && (node.inputs[2] === undefined || d.isConstant(node.inputs[2]));
  const form = constant && !d.inSetup && d.bytes(wId) > 0 && d.bytes(out) > 0 ? blockedForm(d, xId, window) : undefined;
  if (form !== undefined) {
    const bias = folded?.bias ?? (node.inputs[2] === undefined ? undefined : d.read(node.inputs[2]));
    emitBlockedConv(d, form, window, xId, folded?.weights ?? d.read(wId), bias, out);
    return;
  }
  const spatial = weights.slice(2).map(() => 1);
  const hasBias = folded !== undefined || node.inputs[2] !== undefined;
  const tail = followTail(d, out, hasBias ? undefined : [outC, ...spatial]);
  const biasId = node.inputs[2] ?? tail.bias;
  const bias = folded?.bias ?? (biasId === undefined ? undefined : d.read(biasId));
  const kernel = folded?.weights ?? d.read(wId);
  const y = d.write(tail.out);
  if (y.length === 0) return;
  if (kernel.length === 0) throw new Unsupported('it has no input channels');
  const packs = d.isConstant(wId) && !d.inSetup;
  const weight = packs ? { packed: d.pack(kernel, { layout: 'conv', words: windowWords(window) }) } : kernel;
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

/** A BatchNormalization that alone follows the convolution `node`, multiplied at setup into `kernel`, its weights by output channel. */
function foldBatchNormalization(
  d: Draft,
  node: Node,
  kernel: () => View,
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
    const source = kernel();
    const weights = d.temporary(source.length);
    const each = source.length / 4 / channels;
    d.emit('binary', [source, scale, weights], [BINARY_OPS.mul, 2, channels, each, each, 1, 1, 0]);
    const before = node.inputs[2] === undefined ? undefined : d.vector('mul', d.read(node.inputs[2]), scale, channels);
    const bias = before === undefined ? shift : d.vector('add', before, shift, channels);
    return { weights, bias, out: next.outputs[0]! };
  });
}

function lowerBatchNormalization(d: Draft, node: Node): void {
  const shape = d.shape(node.inputs[0]!);
  const channels = shape[1] ?? 1;
  if (emitBlockedNormalization(d, node, channels)) return;
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

/** A BatchNormalization with constant statistics of a value in blocks. */
function emitBlockedNormalization(d: Draft, node: Node, channels: number): boolean {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  if (!d.inBlocks(x) || !node.inputs.slice(1).every(id => id !== undefined && d.isConstant(id))) return false;
  const { scale, shift } = d.atSetup(() => scaleAndShift(d, node, channels));
  const [batch, , ...rest] = d.shape(x);
  const dims = [batch!, Math.ceil(channels / CHANNEL_BLOCK), elementCount(rest), CHANNEL_BLOCK];
  const dense = [dims[1]! * dims[2]! * CHANNEL_BLOCK, dims[2]! * CHANNEL_BLOCK, CHANNEL_BLOCK, 1];
  const perChannel = [0, CHANNEL_BLOCK, 0, 1];
  const scaled = d.temporary(d.blockedBytes(x));
  const words = (op: 'mul' | 'add') => [BINARY_OPS[op], dims.length, ...dims, ...dense, ...perChannel];
  d.emit('binary', [d.readBlocks(x), blockedVector(d, scale, channels), scaled], words('mul'), [0]);
  d.emit('binary', [scaled, blockedVector(d, shift, channels), d.writeBlocks(y)], words('add'), [0]);
  return true;
}

function lowerPool(d: Draft, node: Node, op: keyof typeof POOL_OPS, source: Source = ownInput(node)): void {
  const [input, output] = [source.id, node.outputs[0]!];
  const window = windowOf(d, node, source, numbers(node, 'kernel_shape') ?? [], d.shape(input)[1]!, 1);
  if (emitBlockedPool(d, input, output, window, op)) return;
  const y = d.write(output);
  if (y.length === 0) return;
  d.emit('pool', [d.read(input), y], [...windowWords(window), POOL_OPS[op]]);
}

function ownInput(node: Node): Source {
  return { id: node.inputs[0]!, before: [] };
}

/** A Pad: nothing where it pads by nothing, or where the convolution or pooling after it does it itself. */
function lowerPad(d: Draft, node: Node): void {
  const [x, y] = [node.inputs[0]!, node.outputs[0]!];
  const rank = d.shape(x).length;
  const list = (input: number, name: string): readonly number[] | undefined =>
    node.opset < 11 ? numbers(node, name) : d.tensor(node.inputs[input])?.values().map(Number);
  const pads = list(1, 'pads');
  if (pads === undefined) throw new Unsupported('its pads are computed');
  if (node.inputs[3] !== undefined) {
    lowerPadding(d, node);
    return;
  }
  if (pads.every(pad => pad === 0)) {
    d.alias(y, x);
    return;
  }
  const next = d.soleConsumer(y);
  const value = node.opset < 11 ? number(node, 'value', 0) : node.inputs[2] === undefined ? 0 : list(2, 'value')?.[0];
  const constant = (attribute(node, 'mode') ?? 'constant') === 'constant';
  const spatial = pads.every((pad, i) => pad >= 0 && (i % rank >= 2 || pad === 0));
  const explicit = ['NOTSET', 'VALID'].includes(String(next?.attributes['auto_pad'] ?? 'NOTSET'));
  const source: Source = { id: x, before: pads.slice(2, rank) };
  if (constant && spatial && explicit && next?.domain === '' && next.inputs[0] === y && !d.inSetup) {
    if (next.op === 'Conv' && value === 0 && next.inputs[1] !== y && next.inputs[2] !== y) {
      d.absorb(next);
      lowerConv(d, next, source);
      return;
    }
    // Nothing loses against the lowest number but an infinity, of which a border of nothing else is made in no model.
    if (next.op === 'MaxPool' && value !== undefined && value <= LOWEST && next.outputs[1] === undefined) {
      d.absorb(next);
      lowerPool(d, next, 'max', source);
      return;
    }
  }
  lowerPadding(d, node);
}

const LOWEST = -3.4028234663852886e38;

function refuseAveragePool(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  const odd = number(node, 'count_include_pad', 0) !== 0 && number(node, 'ceil_mode', 0) !== 0;
  return odd ? 'it rounds up and counts padding' : refuseWindow(node, inputs);
}

function lowerAveragePool(d: Draft, node: Node): void {
  lowerPool(d, node, number(node, 'count_include_pad', 0) !== 0 ? 'averageIncludePad' : 'average');
}

function lowerGlobalPool(d: Draft, node: Node, op: 'mean' | 'max'): void {
  if (emitBlockedPoolAll(d, node.inputs[0]!, node.outputs[0]!, op === 'mean' ? 'average' : 'max')) return;
  const shape = d.shape(node.inputs[0]!);
  const y = d.write(node.outputs[0]!);
  const inner = elementCount(shape.slice(2));
  if (y.length === 0) return;
  if (inner === 0) throw new Unsupported('it reduces nothing');
  d.emit('reduce', [d.read(node.inputs[0]!), y], [REDUCE_OPS[op], shape[0]! * shape[1]!, inner, 1]);
}
