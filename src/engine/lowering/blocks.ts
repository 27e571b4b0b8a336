/**
 * Steps in the blocked layout. Convolutions bring values into it; what follows stays in it where it can.
 * @module
 */
import type { Node, ValueId } from '../../graph/index.ts';
import { elementCount, formatShape, type Shape } from '../../tensor/index.ts';
import type { Draft, View } from '../draft.ts';
import {
  BINARY_OPS,
  BLOCKED_ACTIVATIONS,
  BLOCKED_FORMS,
  CHANNEL_BLOCK,
  floatWord,
  type PackedWeight,
  POOL_OPS,
  type Window,
  windowWords,
} from '../program.ts';
import { clipBounds, number } from './lowering.ts';
import { isChannelwise } from './tail.ts';

const LAYOUTS = {
  full: 'blockedFull',
  fromPlain: 'blockedFromPlain',
  depthwise: 'blockedDepthwise',
} as const satisfies Record<keyof typeof BLOCKED_FORMS, PackedWeight['layout']>;

/** The form in which a convolution with constant weights of `x` is best computed in blocks; undefined where it is better plain. */
export function blockedForm(d: Draft, x: ValueId, w: Window): keyof typeof BLOCKED_FORMS | undefined {
  const inBlocks = d.inBlocks(x);
  if (w.groups > 1) {
    if (w.groups === w.inC && w.groups === w.outC) return inBlocks || w.inC >= CHANNEL_BLOCK ? 'depthwise' : undefined;
    const whole = [w.inC, w.outC].every(channels => (channels / w.groups) % CHANNEL_BLOCK === 0);
    return whole ? 'full' : undefined;
  }
  if (inBlocks) return 'full';
  if (w.outC < CHANNEL_BLOCK) return undefined;
  // Read plain, each channel is a short loop of its own, which pays for the few channels of a picture only.
  return w.inC >= CHANNEL_BLOCK ? 'full' : 'fromPlain';
}

/** What follows a convolution in blocks and is computed with it. */
export interface BlockedTail {
  readonly out: ValueId;
  readonly bias: View | undefined;
  readonly residual: ValueId | undefined;
  readonly activation: readonly number[];
}

/**
 * Follows the only consumers of `conv`, of `channels` channels: an Add of a constant per channel, where there is no bias yet; an Add of
 * another value of the same shape that is there by now, where `adds` is set; an activation. What it takes along is absorbed.
 */
export function followBlocked(
  d: Draft,
  conv: ValueId,
  channels: number,
  given: View | undefined,
  adds: boolean,
): BlockedTail {
  let bias = given;
  let residual: ValueId | undefined;
  let out = conv;
  for (;;) {
    const next = d.soleConsumer(out);
    if (next?.op !== 'Add' || next.domain !== '' || next.opset < 7) break;
    const other = next.inputs.find(id => id !== out);
    const sum = next.outputs[0]!;
    if (other === undefined || formatShape(d.shape(sum)) !== formatShape(d.shape(out))) break;
    const perChannel = [
      channels,
      ...d
        .shape(out)
        .slice(2)
        .map(() => 1),
    ];
    if (
      bias === undefined &&
      residual === undefined &&
      d.isConstant(other) &&
      isChannelwise(d.shape(other), perChannel)
    ) {
      bias = d.read(other);
    } else if (
      adds &&
      residual === undefined &&
      d.inBlocks(other) &&
      formatShape(d.shape(other)) === formatShape(d.shape(out))
    ) {
      residual = other;
    } else break;
    d.absorb(next);
    out = sum;
  }
  const next = d.soleConsumer(out);
  let activation = activationWords('clip', Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY);
  if (next?.domain === '' && next.inputs[0] === out) {
    const follows = activationOf(d, next);
    if (follows !== undefined) {
      activation = follows;
      d.absorb(next);
      out = next.outputs[0]!;
    }
  }
  return { out, bias, residual, activation };
}

/** One convolution in blocks, with what follows it. */
export function emitBlockedConv(
  d: Draft,
  form: keyof typeof BLOCKED_FORMS,
  window: Window,
  x: ValueId,
  weights: View,
  given: View | undefined,
  conv: ValueId,
): void {
  const tail = followBlocked(d, conv, window.outC, given, true);
  emitBlockedInto(d, form, window, x, weights, tail, () => d.writeBlocks(tail.out));
}

/** The step of a convolution in blocks, into what `write` gives. */
export function emitBlockedInto(
  d: Draft,
  form: keyof typeof BLOCKED_FORMS,
  window: Window,
  x: ValueId,
  weights: View,
  { bias, residual, activation }: Omit<BlockedTail, 'out'>,
  write: () => View,
): void {
  const operands = [
    form === 'fromPlain' ? d.read(x) : d.readBlocks(x),
    { packed: d.pack(weights, { layout: LAYOUTS[form], words: windowWords(window) }) },
    write(),
    ...(bias === undefined ? [] : [bias]),
    ...(residual === undefined ? [] : [d.readBlocks(residual)]),
  ];
  const flags = [bias, residual].map(operand => Number(operand !== undefined));
  d.emit('blockedConv', operands, [...windowWords(window), BLOCKED_FORMS[form], ...flags, ...activation]);
}

function activationWords(name: keyof typeof BLOCKED_ACTIVATIONS, a = 0, b = 0): readonly number[] {
  return [BLOCKED_ACTIVATIONS[name], floatWord(a), floatWord(b)];
}

function activationOf(d: Draft, node: Node): readonly number[] | undefined {
  switch (node.op) {
    case 'Relu':
      return activationWords('clip', 0, Number.POSITIVE_INFINITY);
    case 'Clip': {
      // Bounds that are computed stay with a node of their own.
      if (node.inputs.slice(1).some(id => id !== undefined && d.tensor(id) === undefined)) return undefined;
      const { lo, hi } = clipBounds(d, node);
      return activationWords('clip', lo, hi);
    }
    case 'LeakyRelu':
      return activationWords('leakyRelu', number(node, 'alpha', 0.01));
    case 'Sigmoid':
      return activationWords('sigmoid');
    case 'Tanh':
      return activationWords('tanh');
    case 'HardSigmoid':
      return activationWords('hardSigmoid', number(node, 'alpha', 0.2), number(node, 'beta', 0.5));
    case 'HardSwish':
      return activationWords('hardSwish', Math.fround(1 / 6), 0.5);
    default:
      return undefined;
  }
}

/** Pools `x` in blocks where it is there in blocks; false where it is not. */
export function emitBlockedPool(d: Draft, x: ValueId, y: ValueId, window: Window, op: keyof typeof POOL_OPS): boolean {
  if (!d.inBlocks(x)) return false;
  d.emit('blockedPool', [d.readBlocks(x), d.writeBlocks(y)], [...windowWords(window), POOL_OPS[op]]);
  return true;
}

/** The mean or the maximum of each channel of `x`, where it is there in blocks. */
export function emitBlockedPoolAll(d: Draft, x: ValueId, y: ValueId, op: 'max' | 'average'): boolean {
  if (!d.inBlocks(x)) return false;
  const [batch, channels, ...rest] = d.shape(x);
  d.emit('blockedPoolAll', [d.readBlocks(x), d.writeBlocks(y)], [POOL_OPS[op], batch!, channels!, elementCount(rest)]);
  return true;
}

/**
 * `a op b` in blocks, where one of them is there in blocks and the other is too, is as large, is one element, or is a
 * constant per channel.
 */
export function emitBlockedBinary(d: Draft, op: keyof typeof BINARY_OPS, a: ValueId, b: ValueId, y: ValueId): boolean {
  const shape = d.shape(y);
  if (!d.inBlocks(a) && !d.inBlocks(b)) return false;
  const [batch, channels, ...rest] = shape as readonly [number, number, ...number[]];
  const [blocks, pixels] = [Math.ceil(channels / CHANNEL_BLOCK), elementCount(rest)];
  const [left, right] = [blockedOperand(d, a, shape), blockedOperand(d, b, shape)];
  if (left === undefined || right === undefined) return false;
  const views = [left.view(), right.view()] as const;
  const out = d.writeBlocks(y);
  const inPlace = views.flatMap((view, i) => (view.length === out.length ? [i] : []));
  const dims = [batch, blocks, pixels, CHANNEL_BLOCK];
  d.emit('binary', [...views, out], [BINARY_OPS[op], dims.length, ...dims, ...left.strides, ...right.strides], inPlace);
  return true;
}

/** A value over (batch, blocks, pixels, channels of a block) of a result of `shape`; strides of 0 repeat it. */
export interface BlockedOperand {
  readonly view: () => View;
  readonly strides: readonly number[];
}

/** How `id` is read by a step whose result, of `shape`, is in blocks; undefined where it cannot be. */
export function blockedOperand(d: Draft, id: ValueId, shape: Shape): BlockedOperand | undefined {
  const [, channels, ...rest] = shape as readonly [number, number, ...number[]];
  const [blocks, pixels] = [Math.ceil(channels / CHANNEL_BLOCK), elementCount(rest)];
  const vector = [1, channels, ...rest.map(() => 1)];
  const own = d.shape(id);
  if (elementCount(own) === 1 && own.length <= shape.length) return { view: () => d.read(id), strides: [0, 0, 0, 0] };
  if (formatShape(own) === formatShape(shape)) {
    const strides = [blocks * pixels * CHANNEL_BLOCK, pixels * CHANNEL_BLOCK, CHANNEL_BLOCK, 1];
    return { view: () => d.readBlocks(id), strides };
  }
  if (
    d.inBlocks(id) &&
    own.length === shape.length &&
    own[1] === channels &&
    elementCount(own) === own[0]! * channels
  ) {
    return {
      view: () => d.readBlocks(id),
      strides: [own[0] === 1 ? 0 : blocks * CHANNEL_BLOCK, CHANNEL_BLOCK, 0, 1],
    };
  }
  if (d.isConstant(id) && own.length <= shape.length && isChannelwise(own, vector.slice(1))) {
    return { view: () => blockedVector(d, d.read(id), channels), strides: [0, CHANNEL_BLOCK, 0, 1] };
  }
  return undefined;
}

/** A constant of one float32 per channel, filled up to whole blocks at setup. */
export function blockedVector(d: Draft, source: View, channels: number): View {
  return d.atSetup(() => {
    const y = d.temporary(4 * CHANNEL_BLOCK * Math.ceil(channels / CHANNEL_BLOCK));
    d.emit('toBlocks', [source, y], [1, channels, 1]);
    return y;
  });
}

/** Joins channels in blocks, where all parts are there in blocks and none but the last has an unfinished one. */
export function emitBlockedConcat(d: Draft, node: Node, axis: number): boolean {
  const parts = node.inputs.filter(id => id !== undefined);
  const whole = parts.slice(0, -1).every(id => d.shape(id)[1]! % CHANNEL_BLOCK === 0);
  if (axis !== 1 || !whole || !parts.every(id => d.inBlocks(id))) return false;
  const y = node.outputs[0]!;
  const views = parts.map(id => d.readBlocks(id));
  d.emit('concat', [d.writeBlocks(y), ...views], [d.shape(y)[0]!]);
  return true;
}
