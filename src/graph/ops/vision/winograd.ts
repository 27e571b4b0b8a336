/**
 * Convolution by 3 x 3 kernels with fewer products: each 2 x 2 block of outputs takes 16 products per channel instead of 36.
 *
 * An output is still made of the pixels under its own kernel and of nothing else. Transforms and sums are in double precision, and
 * the transforms only add, subtract and halve, so single precision results are as good as direct ones. What is infinite would
 * become NaN on the way; {@link allFinite} tells whether this may be used.
 *
 * @see Lavin & Gray 2015, Fast Algorithms for Convolutional Neural Networks, section 4.1, https://arxiv.org/abs/1509.09308
 * @module
 */
import { newArray } from '../../../tensor/index.ts';
import { matmulInto } from '../linear/gemm.ts';

/** One image of one group: where its channels begin, and what it is multiplied by. */
export interface WinogradTask {
  readonly image: Float32Array;
  /** Where the first of `channels` planes of `height` x `width` begins in `image`. */
  readonly source: number;
  readonly channels: number;
  readonly height: number;
  readonly width: number;
  /** Padding above and to the left. */
  readonly top: number;
  readonly left: number;
  /** As {@link transformWeights} made them, for `outputs` channels. */
  readonly weights: Float64Array;
  readonly outputs: number;
  readonly bias: ArrayLike<number> | undefined;
  readonly result: Float32Array;
  /** Where the first of `outputs` planes of `outHeight` x `outWidth` begins in `result`. */
  readonly to: number;
  readonly outHeight: number;
  readonly outWidth: number;
}

/** Products of 4 x 4 transformed pixels. */
const POINTS = 16;

/** Transformed pixels are made for about this many elements at a time: they are to stay in cache. */
const CHUNK_ELEMENTS = 2 ** 16;

/** Whether every element is a finite number. */
export function allFinite(values: Float32Array | Float64Array): boolean {
  // 0 times what is not finite is NaN, and NaN stays.
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += 0 * values[i]!;
  return sum === 0;
}

/** The kernels of `outputs` x `channels`, transformed: `u[(point * outputs + output) * channels + channel]`. */
export function transformWeights(
  weights: Float32Array,
  offset: number,
  outputs: number,
  channels: number,
): Float64Array {
  const pairs = outputs * channels;
  const u = newArray('f64', POINTS * pairs);
  const rows = new Float64Array(12);
  for (let pair = 0; pair < pairs; pair++) {
    const at = offset + pair * 9;
    for (let j = 0; j < 3; j++) {
      const [a, b, c] = [weights[at + j]!, weights[at + 3 + j]!, weights[at + 6 + j]!];
      rows[j] = a;
      rows[3 + j] = (a + b + c) / 2;
      rows[6 + j] = (a - b + c) / 2;
      rows[9 + j] = c;
    }
    for (let i = 0; i < 4; i++) {
      const [a, b, c] = [rows[3 * i]!, rows[3 * i + 1]!, rows[3 * i + 2]!];
      const to = 4 * i * pairs + pair;
      u[to] = a;
      u[to + pairs] = (a + b + c) / 2;
      u[to + 2 * pairs] = (a - b + c) / 2;
      u[to + 3 * pairs] = c;
    }
  }
  return u;
}

/** Convolves one image of one group, with stride and dilation 1. */
export function convolveWinograd(task: WinogradTask): void {
  const { channels, outputs, weights } = task;
  const across = Math.ceil(task.outWidth / 2);
  const tiles = across * Math.ceil(task.outHeight / 2);
  const perChunk = Math.min(tiles, Math.max(POINTS, Math.floor(CHUNK_ELEMENTS / (POINTS * channels))));
  const pixels = newArray('f64', POINTS * channels * perChunk);
  const products = newArray('f64', POINTS * outputs * perChunk);
  for (let first = 0; first < tiles; first += perChunk) {
    const count = Math.min(perChunk, tiles - first);
    transformPixels(task, first, count, across, pixels);
    products.fill(0);
    for (let point = 0; point < POINTS; point++) {
      matmulInto(
        outputs,
        count,
        channels,
        { data: weights, offset: point * outputs * channels, rowStride: channels, columnStride: 1 },
        { data: pixels, offset: point * channels * count, rowStride: count, columnStride: 1 },
        { data: products, offset: point * outputs * count },
      );
    }
    transformProducts(task, first, count, across, products);
  }
}

/** `v[(point * channels + channel) * count + tile]`: blocks of 4 x 4 pixels, two apart; padding reads as 0. */
function transformPixels(task: WinogradTask, first: number, count: number, across: number, v: Float64Array): void {
  const { image, channels, height, width } = task;
  const border = new Float32Array(16);
  const step = channels * count;
  for (let channel = 0; channel < channels; channel++) {
    const plane = task.source + channel * height * width;
    for (let tile = 0; tile < count; tile++) {
      const y = 2 * Math.floor((first + tile) / across) - task.top;
      const x = 2 * ((first + tile) % across) - task.left;
      const to = channel * count + tile;
      if (y >= 0 && y + 4 <= height && x >= 0 && x + 4 <= width) {
        transformBlock(image, plane + y * width + x, width, v, to, step);
        continue;
      }
      for (let i = 0; i < 16; i++) {
        const [row, column] = [y + (i >> 2), x + (i & 3)];
        const isInside = row >= 0 && row < height && column >= 0 && column < width;
        border[i] = isInside ? image[plane + row * width + column]! : 0;
      }
      transformBlock(border, 0, 4, v, to, step);
    }
  }
}

/** One block of 4 x 4 pixels: rows first, then columns; results lie `step` apart. */
function transformBlock(d: Float32Array, at: number, width: number, v: Float64Array, to: number, step: number): void {
  for (let i = 0, place = to; i < 4; i++) {
    // Row i of the transform: 0 - 2, 1 + 2, 2 - 1, 1 - 3.
    const plus = at + (i === 0 ? 0 : i === 2 ? 2 : 1) * width;
    const other = at + (i === 0 || i === 1 ? 2 : i === 2 ? 1 : 3) * width;
    const sign = i === 1 ? 1 : -1;
    const a = d[plus]! + sign * d[other]!;
    const b = d[plus + 1]! + sign * d[other + 1]!;
    const c = d[plus + 2]! + sign * d[other + 2]!;
    const e = d[plus + 3]! + sign * d[other + 3]!;
    v[place] = a - c;
    v[place + step] = b + c;
    v[place + 2 * step] = c - b;
    v[place + 3 * step] = b - e;
    place += 4 * step;
  }
}

/** Blocks of 2 x 2 outputs from `m[(point * outputs + output) * count + tile]`; what lies beyond an odd edge is left out. */
function transformProducts(task: WinogradTask, first: number, count: number, across: number, m: Float64Array): void {
  const { outputs, outHeight, outWidth, result, bias } = task;
  const step = outputs * count;
  for (let output = 0; output < outputs; output++) {
    const shift = bias?.[output] ?? 0;
    const plane = task.to + output * outHeight * outWidth;
    for (let tile = 0; tile < count; tile++) {
      const y = 2 * Math.floor((first + tile) / across);
      const x = 2 * ((first + tile) % across);
      const at = output * count + tile;
      for (let i = 0; i < 2 && y + i < outHeight; i++) {
        // Row i of the transform: 0 + 1 + 2, 1 - 2 - 3.
        const [p, q, r, sign] = i === 0 ? [0, 4, 8, 1] : [4, 8, 12, -1];
        const a = m[at + p * step]! + sign * (m[at + q * step]! + m[at + r * step]!);
        const b = m[at + (p + 1) * step]! + sign * (m[at + (q + 1) * step]! + m[at + (r + 1) * step]!);
        const c = m[at + (p + 2) * step]! + sign * (m[at + (q + 2) * step]! + m[at + (r + 2) * step]!);
        const e = m[at + (p + 3) * step]! + sign * (m[at + (q + 3) * step]! + m[at + (r + 3) * step]!);
        const to = plane + (y + i) * outWidth + x;
        result[to] = a + b + c + shift;
        if (x + 1 < outWidth) result[to + 1] = b - c - e + shift;
      }
    }
  }
}
