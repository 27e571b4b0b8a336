/**
 * Transposed convolution as a convolution: of stride 1, with the kernel turned, and with an output channel for each phase.
 *
 * Along an axis of stride s, output s q + r (phase r) adds the inputs q + t times the places p + r - s t of the kernel, p being the padding
 * that is cut off in front. So the kernel, filled up to whole strides with zeros, is one kernel of stride 1 for each phase, read backwards
 * in steps of s. The phases are channels of one convolution; a copy puts them side by side.
 * @module
 */
import type { Facts, Node, ValueId } from '../../graph/index.ts';
import { type Draft, Unsupported, type View } from '../draft.ts';
import { CHANNEL_BLOCK, PAD_MODES, type Window, windowWords } from '../program.ts';
import { blockedForm, emitBlockedConv, emitBlockedInto, followBlocked } from './blocks.ts';
import { attribute, emitCopy, number, numbers } from './lowering.ts';
import { followTail } from './tail.ts';

/** Why a ConvTranspose is not lowered, where it is not. */
export function refuseTransposed(_: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  const rank = inputs[0]?.shape.length ?? 4;
  return rank === 3 || rank === 4 ? undefined : `native windows are 1-D or 2-D, not ${rank - 2}-D`;
}

/** One spatial axis: of the operator, and of the convolution that stands for it. */
interface Axis {
  readonly size: number;
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  readonly out: number;
  /** Zeros in front of the kernel, and how many whole strides it then has. */
  readonly before: number;
  readonly taps: number;
  /** Distance of the taps in the input. */
  readonly step: number;
  /** Zeros in front of the input; below 0, what is cut off. */
  readonly pad: number;
  /** Outputs of a phase. */
  readonly places: number;
}

const NO_AXIS: Axis = {
  ...{ size: 1, kernel: 1, stride: 1, dilation: 1, out: 1 },
  ...{ before: 0, taps: 1, step: 1, pad: 0, places: 1 },
};

function axesOf(d: Draft, node: Node): readonly [Axis, Axis] {
  const sizes = d.shape(node.inputs[0]!).slice(2);
  const kernels = d.shape(node.inputs[1]!).slice(2);
  const outs = d.shape(node.outputs[0]!).slice(2);
  const list = (name: string, absent: number): readonly number[] => {
    const values = numbers(node, name) ?? [];
    return values.length > 0 ? values : new Array<number>(2 * sizes.length).fill(absent);
  };
  const [strides, dilations, pads] = [list('strides', 1), list('dilations', 1), list('pads', 0)];
  const extras = list('output_padding', 0);
  const auto = String(attribute(node, 'auto_pad') ?? 'NOTSET');
  const wanted = (numbers(node, 'output_shape') ?? []).length > 0;
  const axes = sizes.map((size, i): Axis => {
    const [kernel, stride, dilation, out] = [kernels[i]!, strides[i]!, dilations[i]!, outs[i]!];
    const total = Math.max(0, (size - 1) * stride + (kernel - 1) * dilation + 1 + extras[i]! - out);
    const half = auto === 'SAME_UPPER' ? Math.floor(total / 2) : Math.ceil(total / 2);
    const cut = wanted || auto.startsWith('SAME') ? half : auto === 'VALID' ? 0 : pads[i]!;
    const given = { size, kernel, stride, dilation, out };
    if (stride === 1) {
      return { ...given, before: 0, taps: kernel, step: dilation, pad: (kernel - 1) * dilation - cut, places: out };
    }
    const last = Math.ceil(cut / stride);
    const before = last * stride - cut;
    const taps = Math.ceil((before + (kernel - 1) * dilation + 1) / stride);
    return { ...given, before, taps, step: 1, pad: taps - 1 - last, places: Math.ceil(out / stride) };
  });
  return axes.length === 1 ? [NO_AXIS, axes[0]!] : (axes as [Axis, Axis]);
}

/** A step that pads `x` with zeros, or cuts it: `dims` become `to`, with `before` zeros in front of each. */
function emitPad(d: Draft, x: View, dims: readonly number[], to: readonly number[], before: readonly number[]): View {
  if (dims.every((size, i) => size === to[i] && before[i] === 0)) return x;
  const y = d.temporary(4 * to.reduce((product, size) => product * size, 1));
  const words = [4, PAD_MODES.constant, dims.length, ...dims, ...to, ...before.map(size => size >>> 0)];
  d.emit('pad', [x, d.scalar(0), y], words);
  return y;
}

/** The weights of the convolution: (group, channel, phase) by input channel of the group by tap. */
function arrange(
  d: Draft,
  source: View,
  [inC, perGroup]: readonly [number, number],
  groups: number,
  axes: readonly [Axis, Axis],
): View {
  const [h, w] = axes;
  const planes = inC * perGroup;
  // Dilation in strides: zeros between the places of the kernel.
  const [dh, dw] = axes.map(axis => (axis.stride > 1 ? axis.dilation : 1)) as [number, number];
  const spread = emitPad(
    d,
    source,
    [planes, h.kernel, 1, w.kernel, 1],
    [planes, h.kernel, dh, w.kernel, dw],
    [0, 0, 0, 0, 0],
  );
  const [rows, columns] = [h.taps * h.stride, w.taps * w.stride];
  const filled = emitPad(
    d,
    spread,
    [planes, h.kernel * dh, w.kernel * dw],
    [planes, rows, columns],
    [0, h.before, w.before],
  );
  const y = d.temporary(4 * planes * rows * columns);
  const plane = rows * columns;
  const perIn = inC / groups;
  const shape = [groups, perGroup, h.stride, w.stride, perIn, h.taps, w.taps];
  const strides = [perIn * perGroup * plane, plane, columns, 1, perGroup * plane, -h.stride * columns, -w.stride];
  emitCopy(d, filled, 4, shape, strides, y);
  return y;
}

/** Rows, a channel's phases side by side, with all channels of a phase side by side. */
function phasesFirst(d: Draft, source: View, channels: number, phases: number): View {
  const y = d.temporary(source.length);
  const each = source.length / 4 / channels / phases;
  emitCopy(d, source, 4, [phases, channels, each], [each, phases * each, 1], y);
  return y;
}

/** Each of `channels` elements `phases` times. */
function repeated(d: Draft, source: View, channels: number, phases: number): View {
  if (phases === 1) return source;
  const y = d.temporary(4 * channels * phases);
  emitCopy(d, source, 4, [channels, phases], [1, 0], y);
  return y;
}

/** What folds into the weights: a normalisation of the output's channels. */
export type Fold = (
  d: Draft,
  node: Node,
  weights: () => View,
  channels: number,
) => { weights: View; bias: View; out: ValueId } | undefined;

export function lowerConvTranspose(d: Draft, node: Node, fold: Fold): void {
  const [xId, wId, biasId] = [node.inputs[0]!, node.inputs[1]!, node.inputs[2]];
  const axes = axesOf(d, node);
  const [h, w] = axes;
  const groups = number(node, 'group', 1);
  const [batch, inC] = d.shape(xId) as [number, number];
  const perGroup = d.shape(wId)[1]!;
  const channels = groups * perGroup;
  const phases = h.stride * w.stride;
  const made = node.outputs[0]!;
  if (d.bytes(made) === 0) {
    d.write(made);
    return;
  }
  if (d.bytes(xId) === 0 || d.bytes(wId) === 0) throw new Unsupported('it has no inputs to add up');
  const ready = d.isConstant(wId);
  const arranged = (): View => {
    const make = (): View => arrange(d, d.read(wId), [inC, perGroup], groups, axes);
    return ready ? d.atSetup(make) : make();
  };
  const folded = fold(d, node, arranged, channels);
  const out = folded?.out ?? made;
  const weights = folded?.weights ?? arranged();

  // A window begins inside the input, in padding that is smaller than the kernel; where it would not, the input is padded or cut before.
  const fits = axes.map(({ size, taps, step, pad, places }) => {
    const extent = (taps - 1) * step + 1;
    return { good: pad >= 0 && pad < extent && places - 1 < size + pad, whole: places - 1 + extent };
  }) as [{ good: boolean; whole: number }, { good: boolean; whole: number }];
  const [inH, inW] = axes.map((axis, i) => (fits[i]!.good ? axis.size : fits[i]!.whole)) as [number, number];
  const window: Window = {
    ...{ batch, inC, inH, inW, outC: channels * phases, outH: h.places, outW: w.places, groups },
    ...{ kernelH: h.taps, kernelW: w.taps, strideH: 1, strideW: 1, dilationH: h.step, dilationW: w.step },
    ...{ padTop: fits[0].good ? h.pad : 0, padLeft: fits[1].good ? w.pad : 0 },
  };
  const direct = fits.every(fit => fit.good);
  const constant = ready && (biasId === undefined || d.isConstant(biasId)) && !d.inSetup;
  const given = folded?.bias ?? (biasId === undefined ? undefined : d.read(biasId));
  const form = constant && direct ? blockedForm(d, xId, window) : undefined;

  if (form !== undefined && phases === 1) {
    emitBlockedConv(d, form, window, xId, weights, given, out);
    return;
  }
  if (form !== undefined) {
    lowerBlocked(d, { form, window, x: xId, weights, given, out, axes, channels });
    return;
  }
  const perChannel = [channels, ...axes.slice(4 - d.shape(xId).length).map(() => 1)];
  const tail = followTail(d, out, given === undefined ? perChannel : undefined);
  const added = given ?? (tail.bias === undefined ? undefined : d.read(tail.bias));
  const repeat = (source: View): View => repeated(d, source, channels, phases);
  const fixed = biasId === undefined || d.isConstant(biasId);
  const bias = added && (fixed ? d.atSetup(() => repeat(added)) : repeat(added));
  const before = axes.map((axis, i) => (fits[i]!.good ? 0 : axis.pad));
  const x = emitPad(d, d.read(xId), [batch * inC, h.size, w.size], [batch * inC, inH, inW], [0, ...before]);
  const result = phases === 1 ? d.write(tail.out) : d.temporary(4 * batch * window.outC * h.places * w.places);
  const packs = ready && !d.inSetup;
  const kernel = packs ? { packed: d.pack(weights, { layout: 'conv', words: windowWords(window) }) } : weights;
  d.emit('conv', [x, kernel, result, ...(bias === undefined ? [] : [bias])], [...windowWords(window), ...tail.words]);
  if (phases > 1) interleavePlanes(d, result, batch * channels, axes, () => d.write(tail.out));
}

/** What a transposed convolution with several phases is, once it goes in blocks. */
interface Blocked {
  readonly form: Exclude<ReturnType<typeof blockedForm>, undefined>;
  readonly window: Window;
  readonly x: ValueId;
  readonly weights: View;
  readonly given: View | undefined;
  readonly out: ValueId;
  readonly axes: readonly [Axis, Axis];
  readonly channels: number;
}

function lowerBlocked(d: Draft, { form, window, x, weights, given, out, axes, channels }: Blocked): void {
  const [h, w] = axes;
  const { batch, outC } = window;
  const phases = outC / channels;
  const pixels = h.places * w.places;
  const tail = followBlocked(d, out, channels, given, false);
  const bias = tail.bias && d.atSetup(() => repeated(d, tail.bias!, channels, phases));
  const blocks = Math.ceil(outC / CHANNEL_BLOCK);
  const result = d.temporary(4 * batch * blocks * CHANNEL_BLOCK * pixels);
  const { activation, residual } = tail;
  if (window.groups > 1 || channels % CHANNEL_BLOCK !== 0) {
    emitBlockedInto(d, form, window, x, weights, { bias, residual, activation }, () => result);
    const plain = d.temporary(4 * batch * outC * pixels);
    d.emit('fromBlocks', [result, plain], [batch, outC, pixels]);
    interleavePlanes(d, plain, batch * channels, axes, () => d.write(tail.out));
    return;
  }
  // With the phases in front, a block holds channels of one phase, and goes to its place as a whole.
  const ordered = d.atSetup(() => phasesFirst(d, weights, channels, phases));
  const perPhase = bias && d.atSetup(() => phasesFirst(d, bias, channels, phases));
  emitBlockedInto(d, form, window, x, ordered, { bias: perPhase, residual, activation }, () => result);
  const count = channels / CHANNEL_BLOCK;
  const [inBlock, inPhase] = [pixels * CHANNEL_BLOCK, count * pixels * CHANNEL_BLOCK];
  const shape = [batch, count, h.places, h.stride, w.places, w.stride, CHANNEL_BLOCK];
  const row = w.places * CHANNEL_BLOCK;
  const strides = [phases * inPhase, inBlock, row, w.stride * inPhase, CHANNEL_BLOCK, inPhase, 1];
  interleave(d, result, shape, strides, axes, CHANNEL_BLOCK, () => d.writeBlocks(tail.out));
}

function interleavePlanes(
  d: Draft,
  source: View,
  planes: number,
  axes: readonly [Axis, Axis],
  write: () => View,
): void {
  const [h, w] = axes;
  const pixels = h.places * w.places;
  const shape = [planes, h.places, h.stride, w.places, w.stride];
  const strides = [h.stride * w.stride * pixels, w.places, w.stride * pixels, 1, pixels];
  interleave(d, source, shape, strides, axes, 1, write);
}

/** Puts phases side by side: `shape` over `strides` of `source` is the output, of `unit` elements a place, up to its last strides. */
function interleave(
  d: Draft,
  source: View,
  shape: readonly number[],
  strides: readonly number[],
  [h, w]: readonly [Axis, Axis],
  unit: number,
  write: () => View,
): void {
  const [height, width] = [h.places * h.stride, w.places * w.stride];
  if (height === h.out && width === w.out) {
    emitCopy(d, source, 4, shape, strides, write());
    return;
  }
  const whole = d.temporary(source.length);
  emitCopy(d, source, 4, shape, strides, whole);
  const planes = source.length / 4 / unit / height / width;
  const y = write();
  const words = [4, PAD_MODES.constant, 3, planes, height, width * unit, planes, h.out, w.out * unit, 0, 0, 0];
  d.emit('pad', [whole, d.scalar(0), y], words);
}
