/**
 * Operators on quantised integers. Images lie channels-last between them: a value is put into the order of the graph when somebody
 * asks for it who does not know of the other.
 * @module
 */
import type { Facts, Node, ValueId } from '../../graph/index.ts';
import { DTYPES, type DType, elementCount, type Shape } from '../../tensor/index.ts';
import { broadcastStrides, type Draft, type DraftOperand, Unsupported, type View } from '../draft.ts';
import { floatWord, windowWords } from '../program.ts';
import { emitCopy, fromEnd, type Lowering, type Lowerings, number } from './lowering.ts';
import { windowOf } from './vision.ts';

/** Lowerings of `src/graph/ops/quantised`, in the domain of ONNX. */
export const QUANTISED: Lowerings = {
  QuantizeLinear: { float: false, refuses: refuseQuantize, lower: lowerQuantize },
  DequantizeLinear: { float: false, refuses: refuseDequantize, lower: lowerDequantize },
  DynamicQuantizeLinear: { float: false, lower: lowerDynamicQuantize },
  MatMulInteger: { float: false, lower: lowerMatMulInteger },
  QLinearMatMul: { float: false, parameters: [1, 2, 4, 5, 6, 7], lower: lowerQLinearMatMul },
  ConvInteger: { float: false, parameters: [2, 3], refuses: refuseWindow, lower: lowerConvInteger },
  QLinearConv: { float: false, parameters: [1, 2, 4, 5, 6, 7], refuses: refuseWindow, lower: lowerQLinearConv },
};

/** Lowerings of `src/graph/ops/quantised`, in the domain `com.microsoft`. */
export const MICROSOFT_QUANTISED: Lowerings = {
  QuantizeLinear: QUANTISED['QuantizeLinear']!,
  DequantizeLinear: QUANTISED['DequantizeLinear']!,
  QLinearConv: QUANTISED['QLinearConv']!,
  QLinearAdd: pair(0),
  QLinearMul: pair(1),
  QLinearGlobalAveragePool: { float: false, parameters: [1, 2, 3, 4], lower: lowerGlobalAveragePool },
  QLinearLeakyRelu: mapped(node => {
    const alpha = number(node, 'alpha', 0.01);
    return real => (real < 0 ? real * alpha : real);
  }),
  QLinearSigmoid: mapped(() => real => 1 / (1 + Math.exp(-real))),
  QLinearConcat: { float: false, refuses: refuseConcat, lower: lowerConcat },
};

// ---- what the integers stand for ----

/** The numbers of an input that is read while planning; `absent` where it is left out. */
function values(d: Draft, node: Node, input: number, absent: readonly number[] = [0]): readonly number[] {
  const id = node.inputs[input];
  if (id === undefined) return absent;
  const tensor = d.tensor(id);
  if (tensor === undefined) throw new Unsupported(`its input ${input} is computed`);
  return tensor.values().map(Number);
}

/** The one number of an input that is read while planning. */
function single(d: Draft, node: Node, input: number): number {
  const list = values(d, node, input);
  if (list.length !== 1) throw new Unsupported(`its input ${input} holds ${list.length} numbers`);
  return list[0]!;
}

/** A scale of a whole tensor. */
function scaleOf(d: Draft, node: Node, input: number): number {
  const scale = single(d, node, input);
  if (!(scale > 0 && scale < Number.POSITIVE_INFINITY)) throw new Unsupported('a scale is no positive number');
  return scale;
}

/** Integers as words of a step. */
function whole(...list: readonly number[]): readonly number[] {
  return list.map(value => value >>> 0);
}

function isSigned(dtype: DType): number {
  return Number(dtype === 'i8');
}

/** The least and the most that a byte holds. */
function rangeOf(dtype: DType): readonly [number, number] {
  return dtype === 'i8' ? [-128, 127] : [0, 255];
}

/** What becomes of the sums of a product or a convolution: the last operands and words of its step. */
interface Sums {
  readonly aZero?: DraftOperand | undefined;
  readonly bZeros?: View | undefined;
  readonly bias?: View | undefined;
  /** Left out where the sums are the result. */
  readonly to?: { readonly factors: readonly number[]; readonly zero: number; readonly dtype: DType };
}

function sumOperands(d: Draft, sums: Sums): { operands: readonly DraftOperand[]; words: readonly number[] } {
  const { aZero, bZeros, bias, to } = sums;
  if (to?.factors.some(factor => !Number.isFinite(factor))) throw new Unsupported('a factor is not finite');
  const factors = to && d.inline(new Uint8Array(Float32Array.from(to.factors).buffer));
  const present = [aZero, bZeros, bias, factors].filter(operand => operand !== undefined);
  const kind = (count: number | undefined): number => (count === undefined ? 0 : count === 1 ? 1 : 2);
  return {
    operands: present,
    words: [
      Number(aZero !== undefined),
      kind(bZeros?.length),
      Number(bias !== undefined),
      kind(to?.factors.length),
      ...(to ? whole(to.zero, ...rangeOf(to.dtype)) : [0, 0, 0]),
    ],
  };
}

/** One byte for each number; undefined where all are 0. */
function bytes(d: Draft, list: readonly number[]): View | undefined {
  return list.every(value => value === 0) ? undefined : d.inline(Uint8Array.from(list, value => value & 255));
}

// ---- images ----

const IMAGES = new WeakMap<Draft, Map<ValueId, View>>();

function images(d: Draft): Map<ValueId, View> {
  const map = IMAGES.get(d) ?? new Map<ValueId, View>();
  IMAGES.set(d, map);
  return map;
}

/** Batch, channels and places of an image. */
function extentOf(shape: Shape): readonly [number, number, number] {
  return [shape[0]!, shape[1]!, elementCount(shape.slice(2))];
}

/** The bytes of an image, channels last. */
function readImage(d: Draft, id: ValueId): View {
  const known = images(d).get(id);
  if (known !== undefined) return known;
  const [batch, channels, places] = extentOf(d.shape(id));
  const x = d.read(id);
  if (channels === 1 || places === 1 || x.length === 0) return x;
  const image = d.temporary(x.length);
  emitCopy(d, x, 1, [batch, places, channels], [channels * places, 1, places], image);
  images(d).set(id, image);
  return image;
}

/** New bytes for an image, channels last. */
function writeImage(d: Draft, id: ValueId): View {
  const [batch, channels, places] = extentOf(d.shape(id));
  if (channels === 1 || places === 1 || d.bytes(id) === 0) return d.write(id);
  const image = d.temporary(d.bytes(id));
  images(d).set(id, image);
  const element = DTYPES[d.facts(id).dtype].bytes;
  d.defer(id, () => {
    emitCopy(d, image, element, [batch, channels, places], [channels * places, 1, channels], d.write(id));
  });
  return image;
}

/** Whether `id` lies channels-last already. */
function isImage(d: Draft, id: ValueId): boolean {
  return images(d).has(id);
}

// ---- between real numbers and integers ----

const BYTES: readonly (DType | undefined)[] = ['i8', 'u8'];

function refuseGrain(node: Node): string | undefined {
  return number(node, 'block_size', 0) === 0 ? undefined : 'its scales are those of blocks';
}

function refuseQuantize(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  const [x, scale, zero] = inputs;
  if (x?.dtype !== 'f32' || scale?.dtype !== 'f32') return `it quantises ${x?.dtype} with a scale of ${scale?.dtype}`;
  if (zero && !BYTES.includes(zero.dtype)) return `it quantises to ${zero.dtype}`;
  const named = number(node, 'output_dtype', 0);
  if (![0, 2, 3].includes(named) || ![0, 1].includes(number(node, 'precision', 0))) return 'it names another precision';
  return refuseGrain(node);
}

function refuseDequantize(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  const [x, scale] = inputs;
  if (scale?.dtype !== 'f32' || (x?.dtype !== 'i32' && !BYTES.includes(x?.dtype))) {
    return `it dequantises ${x?.dtype} with a scale of ${scale?.dtype}`;
  }
  return [0, 1].includes(number(node, 'output_dtype', 0)) ? refuseGrain(node) : 'it names another dtype';
}

/** Sizes before, along and behind the axis of the scales. */
function grainOf(d: Draft, node: Node): readonly [number, number, number] {
  const shape = d.shape(node.inputs[0]!);
  const count = elementCount(d.shape(node.inputs[1]!));
  if (count === 1) return [1, 1, elementCount(shape)];
  const axis = fromEnd(number(node, 'axis', 1), shape.length);
  return [elementCount(shape.slice(0, axis)), count, elementCount(shape.slice(axis + 1))];
}

function lowerQuantize(d: Draft, node: Node): void {
  const [x, scales, zeros] = node.inputs.map(id => (id === undefined ? undefined : d.read(id)));
  const y = d.write(node.outputs[0]!);
  if (y.length === 0) return;
  const range = rangeOf(d.facts(node.outputs[0]!).dtype);
  d.emit('quantize', [x!, y, scales!, ...(zeros ? [zeros] : [])], [...grainOf(d, node), ...whole(...range)]);
}

function lowerDequantize(d: Draft, node: Node): void {
  const [x, scales, zeros] = node.inputs.map(id => (id === undefined ? undefined : d.read(id)));
  const y = d.write(node.outputs[0]!);
  if (y.length === 0) return;
  const { dtype } = d.facts(node.inputs[0]!);
  const type = dtype === 'i32' ? 2 : isSigned(dtype);
  d.emit('dequantize', [x!, y, scales!, ...(zeros ? [zeros] : [])], [...grainOf(d, node), type]);
}

function lowerDynamicQuantize(d: Draft, node: Node): void {
  const x = d.read(node.inputs[0]!);
  const [y, scale, zero] = [x.length / 4, 4, 1].map((bytes, i) => {
    const id = node.outputs[i];
    return id === undefined ? d.temporary(bytes) : d.write(id);
  }) as [View, View, View];
  if (y.length === 0) throw new Unsupported('it quantises nothing');
  d.emit('dynamicQuantize', [x, y, scale, zero], []);
}

// ---- products ----

function lowerMatMulInteger(d: Draft, node: Node): void {
  const [aZero, bZeros] = [node.inputs[2], node.inputs[3]];
  if (aZero !== undefined && elementCount(d.shape(aZero)) !== 1) throw new Unsupported('A has a zero point per row');
  emitProduct(d, node, node.inputs[0]!, node.inputs[1]!, () => ({
    aZero: aZero === undefined ? undefined : d.read(aZero),
    bZeros: bZeros === undefined ? undefined : d.read(bZeros),
  }));
}

function lowerQLinearMatMul(d: Draft, node: Node): void {
  const [aScale, yScale] = [scaleOf(d, node, 1), scaleOf(d, node, 6)];
  const factors = values(d, node, 4).map(scale => Math.fround(Math.fround(aScale * scale) / yScale));
  const to = { factors, zero: single(d, node, 7), dtype: d.facts(node.outputs[0]!).dtype };
  const n = d.shape(node.inputs[3]!).length === 1 ? 1 : d.shape(node.inputs[3]!).at(-1)!;
  if (factors.length !== 1 && factors.length !== n) throw new Unsupported('B has a scale per matrix');
  const zeros = values(d, node, 5);
  emitProduct(d, node, node.inputs[0]!, node.inputs[3]!, () => ({
    aZero: bytes(d, [single(d, node, 2)]),
    bZeros: bytes(d, zeros),
    to,
  }));
}

function emitProduct(d: Draft, node: Node, aId: ValueId, bId: ValueId, sumsOf: () => Sums): void {
  const out = node.outputs[0]!;
  const aShape = d.shape(aId).length === 1 ? [1, ...d.shape(aId)] : d.shape(aId);
  const bShape = d.shape(bId).length === 1 ? [...d.shape(bId), 1] : d.shape(bId);
  const [m, k, n] = [aShape.at(-2)!, aShape.at(-1)!, bShape.at(-1)!];
  const y = d.write(out);
  if (y.length === 0) return;
  if (k === 0) throw new Unsupported('its inner size is 0');
  const sums = sumsOf();
  const zeros = sums.bZeros?.length ?? 1;
  if (zeros !== 1 && zeros !== n) throw new Unsupported('B has a zero point per matrix');
  const [aBatch, bBatch] = [aShape.slice(0, -2), bShape.slice(0, -2)];
  const signs = [isSigned(d.facts(aId).dtype), isSigned(d.facts(bId).dtype)];
  const tail = sumOperands(d, sums);
  const emit = (a: View, b: DraftOperand, sizes: readonly number[]): void => {
    d.emit('int8Gemm', [a, b, y, ...tail.operands], [...sizes, 0, ...signs, ...tail.words]);
  };
  if (elementCount(bBatch) === 1) {
    const words = [1, 1, k, n, 0, signs[1]!];
    const packs = d.isConstant(bId) && !d.inSetup;
    const b = packs ? { packed: d.pack(d.read(bId), { layout: 'int8', words }) } : d.read(bId);
    emit(d.read(aId), b, [m * elementCount(aBatch), n, k, 1, 1, 1]);
    return;
  }
  const rank = Math.max(aBatch.length, bBatch.length);
  const batch = Array.from({ length: rank }, (_, i) =>
    Math.max(aBatch[i - rank + aBatch.length] ?? 1, bBatch[i - rank + bBatch.length] ?? 1),
  );
  const aShared = elementCount(aBatch) === 1;
  const a = aShared ? d.read(aId) : spread(d, d.read(aId), aShape, [...batch, m, k]);
  emit(a, spread(d, d.read(bId), bShape, [...batch, k, n]), [m, n, k, elementCount(batch), Number(aShared), 0]);
}

/** The bytes of `x` as often as they broadcast into `shape`; `x` itself where they do not. */
function spread(d: Draft, x: View, xShape: Shape, shape: Shape): View {
  if (elementCount(xShape) === elementCount(shape)) return x;
  const y = d.temporary(elementCount(shape));
  emitCopy(d, x, 1, shape, broadcastStrides(xShape, shape), y);
  return y;
}

// ---- convolutions ----

function refuseWindow(node: Node, inputs: readonly (Facts | undefined)[]): string | undefined {
  const rank = inputs[0]?.shape.length ?? 4;
  if (number(node, 'channels_last', 0) !== 0) return 'its channels are last';
  return rank === 3 || rank === 4 ? undefined : `native windows are 1-D or 2-D, not ${rank - 2}-D`;
}

function lowerConvInteger(d: Draft, node: Node): void {
  emitConvolution(d, node, node.inputs[1]!, values(d, node, 3), {
    aZero: bytes(d, [single(d, node, 2)]),
  });
}

function lowerQLinearConv(d: Draft, node: Node): void {
  const [xScale, yScale] = [scaleOf(d, node, 1), scaleOf(d, node, 6)];
  const factors = values(d, node, 4).map(scale => Math.fround(Math.fround(xScale * scale) / yScale));
  const bias = node.inputs[8];
  emitConvolution(d, node, node.inputs[3]!, values(d, node, 5), {
    aZero: bytes(d, [single(d, node, 2)]),
    bias: bias === undefined ? undefined : d.read(bias),
    to: { factors, zero: single(d, node, 7), dtype: d.facts(node.outputs[0]!).dtype },
  });
}

/** Weights are packed, with their zero points where the convolution is depthwise. */
function emitConvolution(d: Draft, node: Node, wId: ValueId, zeros: readonly number[], sums: Sums): void {
  const xId = node.inputs[0]!;
  const out = node.outputs[0]!;
  const [outC, depth, ...kernel] = d.shape(wId) as [number, number, ...number[]];
  const groups = number(node, 'group', 1);
  if (d.bytes(out) === 0) {
    d.write(out);
    return;
  }
  if (d.bytes(wId) === 0) throw new Unsupported('it has no input channels');
  const window = windowOf(d, node, { id: xId, before: [] }, kernel, outC, groups);
  const [xSigned, wSigned] = [isSigned(d.facts(xId).dtype), isSigned(d.facts(wId).dtype)];
  const packs = d.isConstant(wId) && !d.inSetup;
  const x = readImage(d, xId);
  const weights = d.read(wId);
  const emit = (kind: 'int8Conv' | 'int8Depthwise', w: DraftOperand, all: Sums): void => {
    const tail = sumOperands(d, all);
    const operands = [x, w, writeImage(d, out), ...tail.operands];
    d.emit(kind, operands, [...windowWords(window), xSigned, wSigned, ...tail.words]);
  };
  if (packs && groups === outC && depth === 1 && window.inC === outC) {
    const centred = d.atSetup(() => {
      const each = d.inline(Uint8Array.from({ length: outC }, (_, i) => zeros[zeros.length === 1 ? 0 : i]! & 255));
      const both = d.temporary(weights.length + outC);
      d.emit('concat', [both, weights, each], [1]);
      return both;
    });
    const words = [outC, window.kernelH, window.kernelW, wSigned];
    emit('int8Depthwise', { packed: d.pack(centred, { layout: 'int8Depthwise', words }) }, sums);
    return;
  }
  const words = [groups, window.kernelH * window.kernelW, depth, outC / groups, 1, wSigned];
  const w = packs ? { packed: d.pack(weights, { layout: 'int8', words }) } : weights;
  emit('int8Conv', w, { ...sums, bZeros: bytes(d, zeros) });
}

// ---- the QLinear operators of com.microsoft ----

/** Two operands that broadcast, byte by byte: addition (0) or multiplication (1). */
function pair(op: number): Lowering {
  return {
    float: false,
    parameters: [1, 2, 4, 5, 6, 7],
    lower: (d, node) => {
      const scales = [1, 4, 6].map(input => floatWord(scaleOf(d, node, input)));
      const [aZero, bZero, zero] = [2, 5, 7].map(input => single(d, node, input)) as [number, number, number];
      const out = node.outputs[0]!;
      const { dtype } = d.facts(out);
      const shape = d.shape(out);
      const count = elementCount(shape);
      const [aId, bId] = [node.inputs[0]!, node.inputs[3]!];
      const aligned = [aId, bId].every(id => d.shape(id).join() === shape.join());
      const asImages = aligned && shape.length > 2 && (isImage(d, aId) || isImage(d, bId));
      const view = (id: ValueId): View => {
        if (asImages) return readImage(d, id);
        return id === bId && d.bytes(id) === 1 ? d.read(id) : spread(d, d.read(id), d.shape(id), shape);
      };
      const [a, b] = [view(aId), view(bId)];
      const y = asImages ? writeImage(d, out) : d.write(out);
      if (count === 0) return;
      const words = [op, isSigned(dtype), ...whole(aZero, bZero), ...scales, ...whole(zero, ...rangeOf(dtype))];
      d.emit('int8Binary', [a, b, y], words, b.length === y.length ? [0, 1] : [0]);
    },
  };
}

function lowerGlobalAveragePool(d: Draft, node: Node): void {
  const last = number(node, 'channels_last', 0) !== 0;
  const id = node.inputs[0]!;
  const out = node.outputs[0]!;
  const shape = d.shape(id);
  const channels = last ? shape.at(-1)! : shape[1]!;
  const places = elementCount(shape.slice(1)) / channels;
  const x = last ? d.read(id) : readImage(d, id);
  const y = d.write(out);
  if (y.length === 0) return;
  if (places === 0) throw new Unsupported('it averages nothing');
  const { dtype } = d.facts(out);
  const factor = scaleOf(d, node, 1) / (scaleOf(d, node, 3) * places);
  const words = new Uint32Array(Float64Array.of(factor).buffer);
  d.emit(
    'int8Mean',
    [x, y],
    [
      ...[shape[0]!, places, channels, isSigned(dtype)],
      ...whole(single(d, node, 2)),
      ...words,
      ...whole(single(d, node, 4), ...rangeOf(dtype)),
    ],
  );
}

function refuseConcat(node: Node): string | undefined {
  return node.inputs.length % 3 === 2 ? undefined : 'it lacks a scale or a zero point';
}

/** A scale and a zero point of a whole tensor. */
interface Quantisation {
  readonly scale: number;
  readonly zero: number;
}

function quantisationOf(d: Draft, node: Node, scale: number, zero: number): Quantisation {
  return { scale: scaleOf(d, node, scale), zero: single(d, node, zero) };
}

/** 1.5 * 2^52: a double of this size has no fraction, so adding it rounds to an integer, ties to even. */
const WHOLE = 6755399441055744;

/** What each byte becomes whose real number is mapped by `f` and quantised anew, by its bits. */
function tableOf(dtype: DType, from: Quantisation, to: Quantisation, f: (real: number) => number): Uint8Array {
  const table = new Uint8Array(256);
  const [least, most] = rangeOf(dtype);
  for (let value = least; value <= most; value++) {
    const real = Math.fround(f(Math.fround((value - from.zero) * from.scale)));
    const steps = Math.min(Math.max(Math.fround(real / to.scale), least - to.zero), most - to.zero);
    table[value & 255] = (steps + WHOLE - WHOLE + to.zero) & 255;
  }
  return table;
}

/** A function of single bytes, of which there are 256. */
function mapped(of: (node: Node) => (real: number) => number): Lowering {
  return {
    float: false,
    parameters: [1, 2, 3, 4],
    lower: (d, node) => {
      const [id, out] = [node.inputs[0]!, node.outputs[0]!];
      const { dtype } = d.facts(out);
      const table = tableOf(dtype, quantisationOf(d, node, 1, 2), quantisationOf(d, node, 3, 4), of(node));
      const asImage = isImage(d, id);
      const x = asImage ? readImage(d, id) : d.read(id);
      const y = asImage ? writeImage(d, out) : d.write(out);
      if (y.length > 0) d.emit('int8Lookup', [x, d.inline(table), y], [], [0]);
    },
  };
}

function lowerConcat(d: Draft, node: Node): void {
  const out = node.outputs[0]!;
  const shape = d.shape(out);
  const axis = fromEnd(number(node, 'axis', 0), shape.length);
  const to = quantisationOf(d, node, 0, 1);
  const parts = node.inputs.flatMap((id, i) => (i >= 2 && i % 3 === 2 ? [{ id: id!, at: i }] : []));
  const asImages = axis === 1 && shape.length > 2 && parts.every(({ id }) => isImage(d, id));
  const views = parts.flatMap(({ id, at }) => {
    const x = asImages ? readImage(d, id) : d.read(id);
    const from = quantisationOf(d, node, at + 1, at + 2);
    if (x.length === 0) return [];
    if (from.scale === to.scale && from.zero === to.zero) return [x];
    const y = d.temporary(x.length);
    d.emit('int8Lookup', [x, d.inline(tableOf(d.facts(out).dtype, from, to, real => real)), y], []);
    return [y];
  });
  const y = asImages ? writeImage(d, out) : d.write(out);
  if (y.length === 0) return;
  const outer = asImages ? elementCount(shape) / shape[1]! : elementCount(shape.slice(0, axis));
  d.emit('concat', [y, ...views], [outer]);
}
