/**
 * Convolution over one to three spatial axes: columns of the input, then a matrix product; plane by plane where each group has
 * one input channel.
 * @module
 */
import { formatShape, newArray, type Tensor } from '../../../tensor/index.ts';
import type { Facts } from '../../graph.ts';
import { matmulInto } from '../linear/gemm.ts';
import { dense, type Numbers } from '../loops.ts';
import { define, FLOATS, type InferContext, type Operator, type RunContext } from '../operator.ts';
import { gatherColumns } from './columns.ts';
import {
  CONVOLUTION_ATTRIBUTES,
  checkAutoPad,
  concreteWindow,
  kernelOfWeights,
  threeAxes,
  threeSizes,
  volume,
  type Window,
  windowShape,
} from './window.ts';
import { allFinite, convolveWinograd, transformWeights } from './winograd.ts';

function inferConv(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  c.sameDType(0, 1);
  c.sameDType(0, 2);
  checkAutoPad(c);
  const x = c.input(0).shape;
  const w = c.input(1).shape;
  if (x.length < 3 || x.length > 5)
    c.unsupported(`convolution has kernels for 1 to 3 spatial axes, got ${formatShape(x)}`);
  c.rank(1, x.length);
  const kernel = kernelOfWeights(c, w.slice(2));
  const groups = c.number('group');
  const [channels, perGroup, outputs] = [x[1]!, w[1]!, w[0]!];
  if (groups < 1 || (typeof outputs === 'number' && outputs % groups !== 0)) {
    c.fail(`${outputs} output channels cannot be cut into ${groups} groups`);
  }
  if (typeof channels === 'number' && typeof perGroup === 'number' && channels !== perGroup * groups) {
    c.fail(`the input has ${channels} channels, the weights want ${perGroup} x ${groups} groups`);
  }
  const bias = c.inputs[2]?.shape;
  if (bias && (bias.length !== 1 || c.differ(bias[0]!, outputs)))
    c.fail(`a bias of ${formatShape(bias)} for ${outputs} channels`);
  return [{ dtype: c.input(0).dtype, shape: [x[0]!, outputs, ...windowShape(c, x.slice(2), kernel)] }];
}

/** Columns and products are made for about this many elements at a time, whatever the image: they are to stay in cache. */
const COLUMN_ELEMENTS = 2 ** 16;

/** Fewer output places at a time than this would pack the weights more often than they are used. */
const LEAST_PLACES = 64;

function runConv(c: RunContext): readonly Tensor[] {
  const x = c.operand(0);
  const w = c.operand(1);
  const out = c.allocate();
  const [batch, channels] = x.shape as readonly [number, number];
  const [outputs, perGroup] = w.shape as readonly [number, number];
  const groups = c.number('group');
  const spatial = x.shape.slice(2);
  const window = threeAxes(concreteWindow(c, spatial, c.shape().slice(2), w.shape.slice(2)));
  const inSizes = threeSizes(spatial);
  const outSizes = threeSizes(c.shape().slice(2));
  const inVolume = volume(inSizes);
  const outVolume = volume(outSizes);
  const depth = perGroup * volume(window.kernel);
  const [image, weights, result] = [dense(x), dense(w), out.data as Numbers];
  const bias = c.tensors[2] ? dense(c.tensors[2]) : undefined;
  const perOut = outputs / groups;
  if (out.size === 0) return [out];
  // Padding reads as 0, and 0 times what is not finite is NaN: the plane by plane form leaves such products out.
  if (perGroup === 1 && allFinite(weights)) {
    for (let plane = 0; plane < batch * outputs; plane++) {
      const channel = plane % outputs;
      const source = (Math.floor(plane / outputs) * channels + Math.floor(channel / perOut)) * inVolume;
      const kernel = weights.subarray(channel * depth, (channel + 1) * depth);
      const to = result.subarray(plane * outVolume, (plane + 1) * outVolume);
      convolvePlane(image, source, inSizes, outSizes, window, kernel, bias?.[channel] ?? 0, to);
    }
    return [out];
  }
  if (
    image instanceof Float32Array &&
    weights instanceof Float32Array &&
    inSizes[0] === 1 &&
    suitsWinograd(window, perGroup, perOut, outVolume) &&
    allFinite(image) &&
    allFinite(weights)
  ) {
    for (let g = 0; g < groups; g++) {
      const transformed = transformWeights(weights, g * perOut * depth, perOut, perGroup);
      for (let n = 0; n < batch; n++) {
        convolveWinograd({
          image,
          source: (n * channels + g * perGroup) * inVolume,
          channels: perGroup,
          height: inSizes[1],
          width: inSizes[2],
          top: window.padBegin[1]!,
          left: window.padBegin[2]!,
          weights: transformed,
          outputs: perOut,
          bias: bias?.subarray(g * perOut, (g + 1) * perOut),
          result: result as Float32Array,
          to: (n * outputs + g * perOut) * outVolume,
          outHeight: outSizes[1],
          outWidth: outSizes[2],
        });
      }
    }
    return [out];
  }
  const perChunk = Math.min(outVolume, Math.max(LEAST_PLACES, Math.floor(COLUMN_ELEMENTS / Math.max(depth, perOut))));
  // A 1x1 kernel that walks over every place finds its columns in the image itself.
  const isPointwise =
    depth === perGroup &&
    inVolume === outVolume &&
    window.strides.every(stride => stride === 1) &&
    window.padBegin.every(pad => pad === 0);
  const columns = newLike(result, isPointwise ? 0 : depth * perChunk);
  const product = newArray('f64', perOut * perChunk);
  for (let n = 0; n < batch; n++) {
    for (let g = 0; g < groups; g++) {
      const source = (n * channels + g * perGroup) * inVolume;
      for (let start = 0; start < outVolume; start += perChunk) {
        const count = Math.min(perChunk, outVolume - start);
        product.fill(0);
        if (!isPointwise) gatherColumns(image, source, perGroup, inSizes, outSizes, window, start, count, columns);
        matmulInto(
          perOut,
          count,
          depth,
          { data: weights, offset: g * perOut * depth, rowStride: depth, columnStride: 1 },
          isPointwise
            ? { data: image, offset: source + start, rowStride: inVolume, columnStride: 1 }
            : { data: columns, offset: 0, rowStride: count, columnStride: 1 },
          { data: product, offset: 0 },
        );
        for (let o = 0; o < perOut; o++) {
          const channel = g * perOut + o;
          const shift = bias?.[channel] ?? 0;
          const to = (n * outputs + channel) * outVolume + start;
          for (let i = 0; i < count; i++) result[to + i] = product[o * count + i]! + shift;
        }
      }
    }
  }
  return [out];
}

/** Whether the fewer products of Winograd's way pay for its transforms. */
function suitsWinograd(window: Window, channels: number, outputs: number, places: number): boolean {
  const steps = [...window.strides, ...window.dilations];
  const isPlain = steps.every(step => step === 1) && window.padBegin[0] === 0 && window.padEnd[0] === 0;
  const is3x3 = isPlain && formatShape(window.kernel) === '[1,3,3]';
  return is3x3 && channels >= 8 && outputs >= 8 && places >= 64;
}

/** One input plane by one kernel: the sum of shifted, scaled planes, row by row. Columns would cost more than they save here. */
function convolvePlane(
  image: Numbers,
  source: number,
  inSizes: readonly [number, number, number],
  outSizes: readonly [number, number, number],
  { kernel, strides, dilations, padBegin }: Window,
  weights: Numbers,
  shift: number,
  to: Numbers,
): void {
  const [depth, height, width] = inSizes;
  const [outDepth, outHeight, outWidth] = outSizes;
  const stride = strides[2]!;
  const sums = newArray('f64', outWidth);
  let at = 0;
  for (let oz = 0; oz < outDepth; oz++) {
    for (let oy = 0; oy < outHeight; oy++, at += outWidth) {
      sums.fill(shift);
      for (let kz = 0; kz < kernel[0]!; kz++) {
        const z = oz * strides[0]! + kz * dilations[0]! - padBegin[0]!;
        if (z < 0 || z >= depth) continue;
        for (let ky = 0; ky < kernel[1]!; ky++) {
          const y = oy * strides[1]! + ky * dilations[1]! - padBegin[1]!;
          if (y < 0 || y >= height) continue;
          const line = source + (z * height + y) * width;
          const tap = (kz * kernel[1]! + ky) * kernel[2]!;
          for (let kx = 0; kx < kernel[2]!; kx++) {
            const weight = weights[tap + kx]!;
            const offset = kx * dilations[2]! - padBegin[2]!;
            // The output places whose tap lies inside the row.
            const first = Math.max(0, Math.ceil(-offset / stride));
            const end = Math.min(outWidth, Math.floor((width - 1 - offset) / stride) + 1);
            for (let ox = first, x = line + offset + first * stride; ox < end; ox++, x += stride) {
              sums[ox] = sums[ox]! + weight * image[x]!;
            }
          }
        }
      }
      for (let ox = 0; ox < outWidth; ox++) to[at + ox] = sums[ox]!;
    }
  }
}

function newLike(array: Numbers, length: number): Numbers {
  return newArray(array instanceof Float64Array ? 'f64' : 'f32', length);
}

/** The operators of this file. */
export const CONVOLUTION: readonly Operator[] = [
  define('Conv', 'compute', {
    since: 1,
    inputs: [2, 3],
    outputs: [1, 1],
    attributes: CONVOLUTION_ATTRIBUTES,
    infer: inferConv,
    run: runConv,
  }),
];
