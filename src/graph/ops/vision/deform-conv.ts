/**
 * Deformable convolution over two spatial axes: each tap of the kernel reads at a place that is moved by a learned offset.
 * @module
 */
import { formatShape, newArray, type Tensor } from '../../../tensor/index.ts';
import type { Facts } from '../../graph.ts';
import { matmulInto } from '../linear/gemm.ts';
import { dense, type Numbers } from '../loops.ts';
import { define, FLOATS, type InferContext, int, ints, type Operator, type RunContext } from '../operator.ts';
import { kernelOfWeights, readWindow, volume, type Window, windowShape } from './window.ts';

function inferDeformConv(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  for (let i = 1; i < c.inputs.length; i++) c.sameDType(0, i);
  const x = c.input(0).shape;
  if (x.length !== 4) c.unsupported(`deformable convolution has a kernel for 2 spatial axes, got ${formatShape(x)}`);
  c.rank(1, 4);
  c.rank(2, 4);
  c.rank(4, 4);
  const w = c.input(1).shape;
  const kernel = kernelOfWeights(c, w.slice(2));
  const [groups, offsetGroups] = [c.number('group'), c.number('offset_group')];
  const [channels, perGroup, outputs] = [x[1]!, w[1]!, w[0]!];
  const isCut = (size: Facts['shape'][number], parts: number): boolean =>
    parts >= 1 && (typeof size !== 'number' || size % parts === 0);
  if (!isCut(outputs, groups)) c.fail(`${outputs} output channels cannot be cut into ${groups} groups`);
  if (!isCut(channels, offsetGroups))
    c.fail(`${channels} channels cannot be cut into ${offsetGroups} groups of offsets`);
  if (typeof channels === 'number' && typeof perGroup === 'number' && channels !== perGroup * groups) {
    c.fail(`the input has ${channels} channels, the weights want ${perGroup} x ${groups} groups`);
  }
  const bias = c.inputs[3]?.shape;
  if (bias && (bias.length !== 1 || c.differ(bias[0]!, outputs)))
    c.fail(`a bias of ${formatShape(bias)} for ${outputs} channels`);
  const spatial = windowShape(c, x.slice(2), kernel);
  const check = (index: number, perPlace: number): void => {
    const shape = c.inputs[index]?.shape;
    if (!shape) return;
    const expected = [x[0]!, offsetGroups * volume(kernel) * perPlace, ...spatial];
    if (expected.some((dim, i) => c.differ(dim, shape[i]!))) {
      c.fail(`input ${index}: expected ${formatShape(expected)}, got ${formatShape(shape)}`);
    }
  };
  check(2, 2);
  check(4, 1);
  return [{ dtype: c.input(0).dtype, shape: [x[0]!, outputs, ...spatial] }];
}

/** Columns are made for about this many elements at a time. */
const COLUMN_ELEMENTS = 2 ** 18;

function runDeformConv(c: RunContext): readonly Tensor[] {
  const x = c.operand(0);
  const w = c.operand(1);
  const out = c.allocate();
  if (out.size === 0) return [out];
  const [batch, channels] = x.shape as readonly [number, number];
  const [outputs, perGroup] = w.shape as readonly [number, number];
  const groups = c.number('group');
  const perOut = outputs / groups;
  const window = readWindow(c, 2, w.shape.slice(2));
  const taps = volume(window.kernel);
  const depth = perGroup * taps;
  const places = volume(c.shape().slice(2));
  const perChunk = Math.min(places, Math.max(64, Math.floor(COLUMN_ELEMENTS / Math.max(depth, 1))));
  const columns = newArray('f64', depth * perChunk);
  const product = newArray('f64', perOut * perChunk);
  const [weights, result] = [dense(w), out.data as Numbers];
  const bias = c.tensors[3] ? dense(c.tensors[3]) : undefined;
  const sampler = samplerOf(c, window);
  for (let n = 0; n < batch; n++) {
    for (let group = 0; group < groups; group++) {
      for (let start = 0; start < places; start += perChunk) {
        const count = Math.min(perChunk, places - start);
        for (let i = 0; i < perGroup; i++) {
          sampler(n * channels + group * perGroup + i, start, count, columns, i * taps * count);
        }
        product.fill(0);
        matmulInto(
          perOut,
          count,
          depth,
          { data: weights, offset: group * perOut * depth, rowStride: depth, columnStride: 1 },
          { data: columns, offset: 0, rowStride: count, columnStride: 1 },
          { data: product, offset: 0 },
        );
        for (let o = 0; o < perOut; o++) {
          const channel = group * perOut + o;
          const shift = bias?.[channel] ?? 0;
          const to = (n * outputs + channel) * places + start;
          for (let i = 0; i < count; i++) result[to + i] = product[o * count + i]! + shift;
        }
      }
    }
  }
  return [out];
}

/** Fills `columns[at + tap * count + i]` with what a tap reads of one channel of one image for output place `start + i`. */
type Sampler = (plane: number, start: number, count: number, columns: Float64Array, at: number) => void;

function samplerOf(c: RunContext, { kernel, strides, dilations, padBegin }: Window): Sampler {
  const [, channels, height, width] = c.operand(0).shape as readonly [number, number, number, number];
  const [outHeight, outWidth] = c.shape().slice(2) as unknown as readonly [number, number];
  const image = dense(c.operand(0));
  const offsets = dense(c.operand(2));
  const mask = c.tensors[4] ? dense(c.tensors[4]) : undefined;
  const offsetGroups = c.number('offset_group');
  const [places, taps] = [outHeight * outWidth, volume(kernel)];
  return (plane, start, count, columns, at) => {
    const n = Math.floor(plane / channels);
    const group = Math.floor((plane % channels) / (channels / offsetGroups));
    const first = (n * offsetGroups + group) * taps;
    let to = at;
    for (let tap = 0; tap < taps; tap++) {
      const ky = Math.floor(tap / kernel[1]!) * dilations[0]! - padBegin[0]!;
      const kx = (tap % kernel[1]!) * dilations[1]! - padBegin[1]!;
      for (let place = start; place < start + count; place++, to++) {
        const down = offsets[(first + tap) * 2 * places + place]!;
        const along = offsets[((first + tap) * 2 + 1) * places + place]!;
        const y = Math.floor(place / outWidth) * strides[0]! + ky + down;
        const x = (place % outWidth) * strides[1]! + kx + along;
        const value = bilinear(image, plane * height * width, height, width, y, x);
        columns[to] = mask ? value * mask[(first + tap) * places + place]! : value;
      }
    }
  };
}

/** The value between four pixels; outside of the image pixels are 0. */
function bilinear(image: Numbers, plane: number, height: number, width: number, y: number, x: number): number {
  if (!(y > -1 && y < height && x > -1 && x < width)) return 0;
  const [top, left] = [Math.floor(y), Math.floor(x)];
  const [down, along] = [y - top, x - left];
  const row = plane + top * width + left;
  let value = 0;
  if (top >= 0) {
    if (left >= 0) value += (1 - down) * (1 - along) * image[row]!;
    if (left + 1 < width) value += (1 - down) * along * image[row + 1]!;
  }
  if (top + 1 < height) {
    if (left >= 0) value += down * (1 - along) * image[row + width]!;
    if (left + 1 < width) value += down * along * image[row + width + 1]!;
  }
  return value;
}

/** The operators of this file. */
export const DEFORM_CONV: readonly Operator[] = [
  define('DeformConv', 'compute', {
    since: 19,
    inputs: [3, 5],
    outputs: [1, 1],
    attributes: {
      dilations: ints(),
      group: int(1),
      kernel_shape: ints(),
      offset_group: int(1),
      pads: ints(),
      strides: ints(),
    },
    infer: inferDeformConv,
    run: runDeformConv,
  }),
];
