/**
 * Convolution of quantised images: ConvInteger and QLinearConv, and the QLinearConv of com.microsoft, which may have its channels
 * last.
 * @module
 */
import { formatShape, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { integerProduct } from '../linear/integer-gemm.ts';
import { dense, type Numbers } from '../loops.ts';
import {
  define,
  defineIn,
  type InferContext,
  int,
  type Operator,
  type OperatorVersion,
  type RunContext,
} from '../operator.ts';
import { gatherColumns } from '../vision/columns.ts';
import {
  CONVOLUTION_ATTRIBUTES,
  checkAutoPad,
  concreteWindow,
  threeAxes,
  threeSizes,
  type Window,
  windowShape,
} from '../vision/window.ts';
import { BYTES, centred, expectSingle, quantisationOf, quantisedRange, saturate } from './quantisation.ts';

/** Where the channels of the input and output are: after the batch, or last. */
function channelsLast(c: InferContext): boolean {
  return c.has('channels_last') && c.number('channels_last') !== 0;
}

/** A shape with its last axis moved behind the batch. */
function channelsSecond(shape: readonly Dim[]): readonly Dim[] {
  return [shape[0]!, shape.at(-1)!, ...shape.slice(1, -1)];
}

/** The output shape of a convolution, channels after the batch, from image `x` and weights at input `weights`. */
function convolutionShape(c: InferContext, x: readonly Dim[], weights: number): readonly Dim[] {
  checkAutoPad(c);
  const w = c.input(weights).shape;
  if (x.length < 3 || x.length > 5) {
    c.unsupported(`convolution has kernels for 1 to 3 spatial axes, got ${formatShape(x)}`);
  }
  c.rank(weights, x.length);
  const declared = c.numbers('kernel_shape');
  if (declared && declared.length !== x.length - 2) c.fail(`attribute kernel_shape: expected ${x.length - 2} sizes`);
  const kernel = w.slice(2).map((dim, i) => {
    const size = declared?.[i] ?? dim;
    if (typeof size === 'string') c.unsupported(`size ${size} of the kernel must be known before the model runs`);
    return typeof size === 'number' && !c.differ(size, dim)
      ? size
      : c.fail(`kernel axis ${i}: ${size} is not ${dim} of the weights`);
  });
  const groups = c.number('group');
  const [channels, perGroup, outputs] = [x[1]!, w[1]!, w[0]!];
  if (groups < 1 || (typeof outputs === 'number' && outputs % groups !== 0)) {
    c.fail(`${outputs} output channels cannot be cut into ${groups} groups`);
  }
  if (typeof channels === 'number' && typeof perGroup === 'number' && channels !== perGroup * groups) {
    c.fail(`the input has ${channels} channels, the weights want ${perGroup} x ${groups} groups`);
  }
  return [x[0]!, outputs, ...windowShape(c, x.slice(2), kernel)];
}

/** Scales or zero points of the weights: one, or one per output channel. */
function checkPerChannel(c: InferContext, index: number, outputs: Dim): void {
  const shape = c.inputs[index]?.shape;
  if (!shape || shape.length === 0) return;
  if (shape.length > 1 || (c.differ(shape[0]!, 1) && c.differ(shape[0]!, outputs))) {
    c.fail(`input ${index}: expected one value or one per output channel, got ${formatShape(shape)}`);
  }
}

/** The weights less their zero points, dense. */
function centredWeights(w: Tensor, zeros: Tensor | undefined): Int16Array {
  if (!zeros || zeros.size === 1) return centred(w, zeros ? Number(dense(zeros)[0]!) : 0);
  const each = dense(zeros);
  const source = dense(w);
  const out = new Int16Array(source.length);
  const perOutput = source.length / each.length;
  for (let o = 0, at = 0; o < each.length; o++) {
    for (let i = 0; i < perOutput; i++, at++) out[at] = source[at]! - each[o]!;
  }
  return out;
}

/** Columns are made for at most this many elements at a time, whatever the image. */
const COLUMN_ELEMENTS = 2 ** 21;

/** An image and weights that are to be convolved: their zero points are taken off, so padding is 0. */
interface Convolution {
  readonly image: Int16Array;
  readonly shape: readonly number[];
  readonly weights: Int16Array;
  readonly weightShape: readonly number[];
  readonly outShape: readonly number[];
  readonly groups: number;
}

/** The sums of products, `batch x outputs x places`. */
function convolve(c: RunContext, convolution: Convolution): Int32Array {
  const { image, shape, weights, weightShape, outShape, groups } = convolution;
  const out = Tensor.zeros('i32', outShape).data;
  if (out.length === 0 || weights.length === 0) return out;
  const [batch, channels] = shape as readonly [number, number];
  const [outputs, perGroup] = weightShape as readonly [number, number];
  const window = threeAxes(concreteWindow(c, shape.slice(2), outShape.slice(2), weightShape.slice(2)));
  const inSizes = threeSizes(shape.slice(2));
  const outSizes = threeSizes(outShape.slice(2));
  const inVolume = inSizes[0] * inSizes[1] * inSizes[2];
  const outVolume = outSizes[0] * outSizes[1] * outSizes[2];
  const depth = perGroup * window.kernel[0]! * window.kernel[1]! * window.kernel[2]!;
  const perOut = outputs / groups;
  const pointwise = depth === perGroup && inVolume === outVolume && isPlain(window);
  const perChunk = Math.max(1, Math.min(outVolume, Math.floor(COLUMN_ELEMENTS / depth)));
  const direct = pointwise || perOut === 1;
  const columns = direct ? new Int16Array(0) : new Int16Array(depth * perChunk);
  const product = perChunk < outVolume && !direct ? new Int32Array(perOut * perChunk) : undefined;
  for (let n = 0; n < batch; n++) {
    for (let g = 0; g < groups; g++) {
      const from = (n * channels + g * perGroup) * inVolume;
      const to = (n * outputs + g * perOut) * outVolume;
      const rows = { data: weights, offset: g * perOut * depth, rowStride: depth, columnStride: 1 };
      if (pointwise) {
        const places = { data: image, offset: from, rowStride: inVolume, columnStride: 1 };
        integerProduct(perOut, outVolume, depth, rows, places, out, to);
        continue;
      }
      if (perOut === 1) {
        addPlane(image, from, perGroup, inSizes, outSizes, window, weights, g * depth, out, to);
        continue;
      }
      for (let start = 0; start < outVolume; start += perChunk) {
        const count = Math.min(perChunk, outVolume - start);
        gatherColumns(image, from, perGroup, inSizes, outSizes, window, start, count, columns);
        const places = { data: columns, offset: 0, rowStride: count, columnStride: 1 };
        if (!product) {
          integerProduct(perOut, count, depth, rows, places, out, to);
          continue;
        }
        product.fill(0);
        integerProduct(perOut, count, depth, rows, places, product, 0);
        for (let o = 0; o < perOut; o++) {
          out.set(product.subarray(o * count, (o + 1) * count), to + o * outVolume + start);
        }
      }
    }
  }
  return out;
}

/** Whether each output place sees the input place of its own index. */
function isPlain(window: Window): boolean {
  return window.strides.every(stride => stride === 1) && [...window.padBegin, ...window.padEnd].every(pad => pad === 0);
}

/** Adds one output channel: each weight times the part of the image that it meets. */
function addPlane(
  image: Int16Array,
  from: number,
  channels: number,
  inSizes: readonly [number, number, number],
  outSizes: readonly [number, number, number],
  window: Window,
  weights: Int16Array,
  weightAt: number,
  out: Int32Array,
  to: number,
): void {
  const [depth, height, width] = inSizes;
  const [outDepth, outHeight, outWidth] = outSizes;
  const { kernel, strides, dilations, padBegin } = window;
  let at = weightAt;
  for (let channel = 0; channel < channels; channel++) {
    const plane = from + channel * depth * height * width;
    for (let kz = 0; kz < kernel[0]!; kz++) {
      for (let ky = 0; ky < kernel[1]!; ky++) {
        for (let kx = 0; kx < kernel[2]!; kx++) {
          const factor = weights[at++]!;
          if (factor === 0) continue;
          const step = strides[2]!;
          const shift = kx * dilations[2]! - padBegin[2]!;
          const first = shift < 0 ? Math.ceil(-shift / step) : 0;
          const end = Math.min(outWidth, Math.ceil((width - shift) / step));
          for (let oz = 0; oz < outDepth; oz++) {
            const z = oz * strides[0]! + kz * dilations[0]! - padBegin[0]!;
            if (z < 0 || z >= depth) continue;
            for (let oy = 0; oy < outHeight; oy++) {
              const y = oy * strides[1]! + ky * dilations[1]! - padBegin[1]!;
              if (y < 0 || y >= height) continue;
              const line = to + (oz * outHeight + oy) * outWidth;
              let source = plane + (z * height + y) * width + first * step + shift;
              for (let ox = line + first; ox < line + end; ox++, source += step) {
                out[ox] = (out[ox]! + Math.imul(factor, image[source]!)) | 0;
              }
            }
          }
        }
      }
    }
  }
}

const convInteger: OperatorVersion = {
  since: 10,
  inputs: [2, 4],
  outputs: [1, 1],
  attributes: CONVOLUTION_ATTRIBUTES,
  infer: c => {
    c.expect(0, BYTES);
    c.expect(1, BYTES);
    c.sameDType(0, 2);
    c.sameDType(1, 3);
    expectSingle(c, 2);
    const shape = convolutionShape(c, c.input(0).shape, 1);
    checkPerChannel(c, 3, c.input(1).shape[0]!);
    return [{ dtype: 'i32', shape }];
  },
  run: c => {
    const [x, w] = [c.operand(0), c.operand(1)];
    const zero = c.tensors[2] ? Number(dense(c.tensors[2])[0]!) : 0;
    const sums = convolve(c, {
      image: centred(x, zero),
      shape: x.shape,
      weights: centredWeights(w, c.tensors[3]),
      weightShape: w.shape,
      outShape: c.shape(),
      groups: c.number('group'),
    });
    return [Tensor.from('i32', c.shape(), sums)];
  },
};

function inferQLinearConv(c: InferContext): readonly Facts[] {
  c.expect(0, BYTES);
  c.expect(3, BYTES);
  c.expect(7, BYTES);
  for (const scale of [1, 4, 6]) c.expect(scale, ['f32']);
  c.sameDType(0, 2);
  c.sameDType(3, 5);
  c.expect(8, ['i32']);
  expectSingle(c, 1, 2, 6, 7);
  const given = c.input(0).shape;
  if (given.length < 3) c.fail(`expected a batch, channels and spatial axes, got ${formatShape(given)}`);
  const last = channelsLast(c);
  const shape = convolutionShape(c, last ? channelsSecond(given) : given, 3);
  for (const index of [4, 5]) checkPerChannel(c, index, shape[1]!);
  c.rank(8, 1);
  const bias = c.inputs[8];
  if (bias) c.same(bias.shape[0]!, shape[1]!, 'bias and output channels');
  return [
    { dtype: c.inputs[7]?.dtype ?? c.input(0).dtype, shape: last ? [shape[0]!, ...shape.slice(2), shape[1]!] : shape },
  ];
}

function runQLinearConv(c: RunContext): readonly Tensor[] {
  const last = channelsLast(c);
  const [given, w] = [c.operand(0), c.operand(3)];
  const rank = given.shape.length;
  const inner = Array.from({ length: rank - 2 }, (_, i) => i + 1);
  const x = last ? given.transpose([0, rank - 1, ...inner]) : given;
  const shape = c.shape();
  const outShape = last ? (channelsSecond(shape) as readonly number[]) : shape;
  const input = quantisationOf(c, 1, 2);
  const output = quantisationOf(c, 6, 7);
  const sums = convolve(c, {
    image: centred(x, input.zero),
    shape: x.shape,
    weights: centredWeights(w, c.tensors[5]),
    weightShape: w.shape,
    outShape,
    groups: c.number('group'),
  });
  const scales = dense(c.operand(4));
  const bias = c.tensors[8] ? (dense(c.tensors[8]) as unknown as Int32Array) : undefined;
  const out = Tensor.zeros(c.outputs[0]!.dtype, outShape);
  const to = out.data as Numbers;
  const [least, most] = quantisedRange(out.dtype);
  const [batch, outputs] = outShape as readonly [number, number];
  const volume = sums.length === 0 ? 0 : sums.length / (batch * outputs);
  for (let plane = 0, at = 0; at < sums.length; plane++) {
    const channel = plane % outputs;
    const shift = bias ? bias[channel]! : 0;
    const factor = Math.fround(Math.fround(input.scale * scales[scales.length === 1 ? 0 : channel]!) / output.scale);
    for (const end = at + volume; at < end; at++) {
      to[at] = saturate(Math.fround(Math.fround((sums[at]! + shift) | 0) * factor), output.zero, least, most);
    }
  }
  return [last ? out.transpose([0, ...inner.map(axis => axis + 1), 1]) : out];
}

const qLinearConv: OperatorVersion = {
  since: 10,
  inputs: [8, 9],
  outputs: [1, 1],
  attributes: CONVOLUTION_ATTRIBUTES,
  infer: inferQLinearConv,
  run: runQLinearConv,
};

/** The operators of this file. */
export const QUANTISED_CONVOLUTION: readonly Operator[] = [
  define('ConvInteger', 'compute', convInteger),
  define('QLinearConv', 'compute', qLinearConv),
  defineIn('com.microsoft', 'QLinearConv', 'compute', {
    ...qLinearConv,
    since: 1,
    attributes: { ...CONVOLUTION_ATTRIBUTES, channels_last: int(0) },
  }),
];
