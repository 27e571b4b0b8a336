/**
 * The patches of an image as columns of a matrix, for convolutions of floats and of integers.
 * @module
 */
import type { Numbers } from '../loops.ts';
import type { Window } from './window.ts';

/**
 * Writes `columns[(channel, kernel place)][output place]` for `count` output places from `start` on, so that a convolution is a matrix
 * product; padding reads as 0. `image` is one image of (channels, depth, height, width), from element `from` on; `columns` has at least
 * channels x kernel x `count` elements.
 */
export function gatherColumns<A extends Numbers | Int16Array>(
  image: A,
  from: number,
  channels: number,
  inSizes: readonly [number, number, number],
  outSizes: readonly [number, number, number],
  window: Window,
  start: number,
  count: number,
  columns: A,
): void {
  const [depth, height, width] = inSizes;
  const [, outHeight, outWidth] = outSizes;
  const { kernel, strides, dilations, padBegin } = window;
  let row = 0;
  for (let channel = 0; channel < channels; channel++) {
    const plane = from + channel * depth * height * width;
    for (let kz = 0; kz < kernel[0]!; kz++) {
      for (let ky = 0; ky < kernel[1]!; ky++) {
        for (let kx = 0; kx < kernel[2]!; kx++, row += count) {
          let ox = start % outWidth;
          let oy = Math.floor(start / outWidth) % outHeight;
          let oz = Math.floor(start / (outWidth * outHeight));
          for (let i = 0; i < count; ) {
            const z = oz * strides[0]! + kz * dilations[0]! - padBegin[0]!;
            const y = oy * strides[1]! + ky * dilations[1]! - padBegin[1]!;
            const inside = z >= 0 && z < depth && y >= 0 && y < height;
            const line = plane + (z * height + y) * width;
            const end = Math.min(outWidth, ox + count - i);
            for (let x = ox * strides[2]! + kx * dilations[2]! - padBegin[2]!; ox < end; ox++, i++, x += strides[2]!) {
              columns[row + i] = inside && x >= 0 && x < width ? image[line + x]! : 0;
            }
            ox = 0;
            if (++oy === outHeight) {
              oy = 0;
              oz++;
            }
          }
        }
      }
    }
  }
}
