/**
 * Transposed convolution over one to three spatial axes: a matrix product makes columns, which are added up where they fall.
 * @module
 */
import { formatShape, newArray, type Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { matmulInto } from '../linear/gemm.ts';
import { dense, type Numbers } from '../loops.ts';
import { define, FLOATS, type InferContext, ints, type Operator, type RunContext } from '../operator.ts';
import {
  CONVOLUTION_ATTRIBUTES,
  checkAutoPad,
  kernelOfWeights,
  readWindow,
  threeAxes,
  threeSizes,
  volume,
  type Window,
} from './window.ts';

/** The sizes that only the transposed form has, one per spatial axis. */
interface Extras {
  /** Added at the end of each axis. */
  readonly outputPadding: readonly number[];
  /** Output sizes that are wanted; padding follows from them. */
  readonly outputShape: readonly number[] | undefined;
}

const MAX_EXTENT = 2 ** 31;

function readExtras(c: InferContext, axes: number): Extras {
  const list = (name: string): readonly number[] | undefined => {
    const values = c.numbers(name);
    if (values === undefined || values.length === 0) return undefined;
    if (values.length !== axes || values.some(value => value < 0 || value > MAX_EXTENT)) {
      c.fail(`attribute ${name}: expected ${axes} sizes of at least 0, got ${formatShape(values)}`);
    }
    return values;
  };
  return {
    outputPadding: list('output_padding') ?? new Array<number>(axes).fill(0),
    outputShape: list('output_shape'),
  };
}

/** How far `size` places reach before anything is cut off. */
function fullExtent(window: Window, extras: Extras, axis: number, size: number): number {
  const kernel = (window.kernel[axis]! - 1) * window.dilations[axis]! + 1;
  return (size - 1) * window.strides[axis]! + kernel + extras.outputPadding[axis]!;
}

function inferConvTranspose(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  c.sameDType(0, 1);
  c.sameDType(0, 2);
  checkAutoPad(c);
  const x = c.input(0).shape;
  const w = c.input(1).shape;
  if (x.length < 3 || x.length > 5)
    c.unsupported(`transposed convolution has kernels for 1 to 3 spatial axes, got ${formatShape(x)}`);
  c.rank(1, x.length);
  const [channels, perOut] = [c.same(x[1]!, w[0]!, 'channels of the input and of the weights'), w[1]!];
  const groups = c.number('group');
  if (groups < 1 || (typeof channels === 'number' && channels % groups !== 0)) {
    c.fail(`${channels} channels cannot be cut into ${groups} groups`);
  }
  const outputs = groups === 1 ? perOut : c.product([perOut, groups]);
  const bias = c.inputs[2]?.shape;
  if (bias && (bias.length !== 1 || c.differ(bias[0]!, outputs)))
    c.fail(`a bias of ${formatShape(bias)} for ${outputs} channels`);
  const kernel = kernelOfWeights(c, w.slice(2));
  const axes = kernel.length;
  const window = readWindow(c, axes, kernel);
  const extras = readExtras(c, axes);
  const auto = c.string('auto_pad');
  const spatial = x.slice(2).map((size, axis): Dim => {
    const wanted = extras.outputShape?.[axis];
    if (wanted !== undefined) return wanted;
    const stride = window.strides[axis]!;
    if (auto.startsWith('SAME')) {
      return c.derive(`(${size}*${stride})`, [size], known => known * stride);
    }
    const cut = auto === 'VALID' ? 0 : window.padBegin[axis]! + window.padEnd[axis]!;
    const rest = fullExtent(window, extras, axis, 1) - cut;
    return c.derive(`(${stride}*(${size}-1)+${rest})`, [size], known => {
      const out = fullExtent(window, extras, axis, known) - cut;
      return out >= 0 ? out : c.fail(`axis ${axis + 2}: ${cut} of padding cut off more than there is of ${out + cut}`);
    });
  });
  return [{ dtype: c.input(0).dtype, shape: [x[0]!, outputs, ...spatial] }];
}

/** How many places of the full extent are cut off before the output begins. */
function resolvePadding(c: RunContext, window: Window, extras: Extras, sizes: readonly number[]): Window {
  const auto = c.string('auto_pad');
  if (auto === 'VALID' && !extras.outputShape) {
    return { ...window, padBegin: window.padBegin.map(() => 0), padEnd: window.padEnd.map(() => 0) };
  }
  if (auto === 'NOTSET' && !extras.outputShape) return window;
  const out = c.shape().slice(2);
  const total = sizes.map((size, axis) => Math.max(0, fullExtent(window, extras, axis, size) - out[axis]!));
  const padBegin = total.map(pad => (auto === 'SAME_UPPER' ? Math.floor(pad / 2) : Math.ceil(pad / 2)));
  return { ...window, padBegin, padEnd: total.map((pad, axis) => pad - padBegin[axis]!) };
}

/** Columns are made for about this many elements at a time. */
const COLUMN_ELEMENTS = 2 ** 18;

/** A product of fewer rows than this would spend its time on packing. */
const LEAST_ROWS = 64;

function runConvTranspose(c: RunContext): readonly Tensor[] {
  const x = c.operand(0);
  const w = c.operand(1);
  const out = c.allocate();
  if (out.size === 0) return [out];
  const [batch, channels] = x.shape as readonly [number, number];
  const [perOut, outputs] = [w.shape[1]!, c.shape()[1]!];
  const groups = c.number('group');
  const perIn = channels / groups;
  const axes = x.shape.length - 2;
  const window = readWindow(c, axes, w.shape.slice(2));
  const resolved = threeAxes(resolvePadding(c, window, readExtras(c, axes), x.shape.slice(2)));
  const inSizes = threeSizes(x.shape.slice(2));
  const outSizes = threeSizes(c.shape().slice(2));
  const [inVolume, outVolume, taps] = [volume(inSizes), volume(outSizes), volume(resolved.kernel)];
  const [image, weights, result] = [dense(x), dense(w), out.data as Numbers];
  const bias = c.tensors[2] ? dense(c.tensors[2]) : undefined;
  // Output channels go in blocks, so that a product has rows enough; sums of a block are kept in double precision.
  const block = Math.min(perOut, Math.ceil(LEAST_ROWS / taps));
  const perGroup = Math.ceil(perOut / block);
  const perChunk = Math.min(inVolume, Math.max(LEAST_ROWS, Math.floor(COLUMN_ELEMENTS / (block * taps))));
  const columns = newArray('f64', block * taps * perChunk);
  const sums = newArray('f64', block * outVolume);
  for (let n = 0; n < batch; n++) {
    for (let at = 0; at < groups * perGroup; at++) {
      const group = Math.floor(at / perGroup);
      const first = (at % perGroup) * block;
      const count = Math.min(block, perOut - first);
      sums.fill(0);
      for (let start = 0; start < inVolume; start += perChunk) {
        const places = Math.min(perChunk, inVolume - start);
        columns.fill(0);
        matmulInto(
          count * taps,
          places,
          perIn,
          {
            data: weights,
            offset: (group * perIn * perOut + first) * taps,
            rowStride: 1,
            columnStride: perOut * taps,
          },
          {
            data: image,
            offset: (n * channels + group * perIn) * inVolume + start,
            rowStride: inVolume,
            columnStride: 1,
          },
          { data: columns, offset: 0 },
        );
        scatterColumns(columns, count, start, places, inSizes, outSizes, resolved, sums);
      }
      for (let o = 0; o < count; o++) {
        const channel = group * perOut + first + o;
        const shift = bias?.[channel] ?? 0;
        const to = (n * outputs + channel) * outVolume;
        for (let i = 0; i < outVolume; i++) result[to + i] = sums[o * outVolume + i]! + shift;
      }
    }
  }
  return [out];
}

/** Adds `columns[(channel, kernel place)][input place]`, of `count` input places from `start` on, to the places they fall on. */
function scatterColumns(
  columns: Float64Array,
  channels: number,
  start: number,
  count: number,
  inSizes: readonly [number, number, number],
  outSizes: readonly [number, number, number],
  { kernel, strides, dilations, padBegin }: Window,
  sums: Float64Array,
): void {
  const [, height, width] = inSizes;
  const [outDepth, outHeight, outWidth] = outSizes;
  const stride = strides[2]!;
  let row = 0;
  for (let channel = 0; channel < channels; channel++) {
    const plane = channel * outDepth * outHeight * outWidth;
    for (let kz = 0; kz < kernel[0]!; kz++) {
      for (let ky = 0; ky < kernel[1]!; ky++) {
        for (let kx = 0; kx < kernel[2]!; kx++, row += count) {
          const offset = kx * dilations[2]! - padBegin[2]!;
          let x = start % width;
          let line = Math.floor(start / width);
          for (let i = 0; i < count; line++, x = 0) {
            const z = Math.floor(line / height) * strides[0]! + kz * dilations[0]! - padBegin[0]!;
            const y = (line % height) * strides[1]! + ky * dilations[1]! - padBegin[1]!;
            const end = Math.min(width, x + count - i);
            if (z < 0 || z >= outDepth || y < 0 || y >= outHeight) {
              i += end - x;
              continue;
            }
            const to = plane + (z * outHeight + y) * outWidth;
            for (let place = x * stride + offset; x < end; x++, i++, place += stride) {
              if (place >= 0 && place < outWidth) sums[to + place] = sums[to + place]! + columns[row + i]!;
            }
          }
        }
      }
    }
  }
}

/** The operators of this file. */
export const CONV_TRANSPOSE: readonly Operator[] = [
  define('ConvTranspose', 'compute', {
    since: 1,
    inputs: [2, 3],
    outputs: [1, 1],
    attributes: {
      ...CONVOLUTION_ATTRIBUTES,
      output_padding: ints(),
      output_shape: ints(),
    },
    infer: inferConvTranspose,
    run: runConvTranspose,
  }),
];
