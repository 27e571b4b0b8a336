/**
 * Convolution and its transpose by their definition: one product at a time, in double precision.
 * @module
 */
import { Tensor } from '../../../../src/tensor/index.ts';
import { indicesOf } from '../any-node.ts';
import { numbers } from '../one-node.ts';

/** How windows lie, one entry per spatial axis. */
export interface Geometry {
  readonly strides: readonly number[];
  readonly dilations: readonly number[];
  readonly begin: readonly number[];
  readonly end: readonly number[];
  readonly groups: number;
}

export function plainGeometry(axes: number): Geometry {
  const all = (value: number): number[] => new Array<number>(axes).fill(value);
  return { strides: all(1), dilations: all(1), begin: all(0), end: all(0), groups: 1 };
}

const flat = (shape: readonly number[], index: readonly number[]): number =>
  index.reduce((sum, i, axis) => sum * shape[axis]! + i, 0);

/** Where tap `k` of the window at place `o` reads, or undefined outside of `sizes`. */
function place(o: readonly number[], k: readonly number[], g: Geometry, sizes: readonly number[]) {
  const at = o.map((i, axis) => i * g.strides[axis]! + k[axis]! * g.dilations[axis]! - g.begin[axis]!);
  return at.every((i, axis) => i >= 0 && i < sizes[axis]!) ? at : undefined;
}

/** `x` (N, C, ...) by `w` (M, C / groups, ...). */
export function convolve(x: Tensor, w: Tensor, bias: Tensor | undefined, g: Geometry): Tensor {
  const sizes = x.shape.slice(2);
  const kernel = w.shape.slice(2);
  const out = sizes.map((size, axis) => {
    const extent = (kernel[axis]! - 1) * g.dilations[axis]! + 1;
    return Math.floor((size + g.begin[axis]! + g.end[axis]! - extent) / g.strides[axis]!) + 1;
  });
  const shape = [x.shape[0]!, w.shape[0]!, ...out];
  const perOut = w.shape[0]! / g.groups;
  const [image, weights, shifts] = [numbers(x), numbers(w), bias && numbers(bias)];
  const values = Array.from(indicesOf(shape), ([n, m, ...o]) => {
    const first = Math.floor(m! / perOut) * w.shape[1]!;
    let sum = shifts?.[m!] ?? 0;
    for (const [c, ...k] of indicesOf(w.shape.slice(1))) {
      const at = place(o, k, g, sizes);
      if (at) sum += image[flat(x.shape, [n!, first + c!, ...at])]! * weights[flat(w.shape, [m!, c!, ...k])]!;
    }
    return sum;
  });
  return Tensor.from('f64', shape, Float64Array.from(values));
}

/** `y` (N, C, ...) spread by `w` (C, M / groups, ...). */
export function transposedConvolve(y: Tensor, w: Tensor, g: Geometry): Tensor {
  const kernel = w.shape.slice(2);
  const sizes = y.shape.slice(2).map((size, axis) => {
    const extent = (kernel[axis]! - 1) * g.dilations[axis]! + 1;
    return Math.max(0, (size - 1) * g.strides[axis]! + extent - g.begin[axis]! - g.end[axis]!);
  });
  const shape = [y.shape[0]!, w.shape[1]! * g.groups, ...sizes];
  const perIn = w.shape[0]! / g.groups;
  const out = new Float64Array(shape.reduce((product, size) => product * size, 1));
  const [image, weights] = [numbers(y), numbers(w)];
  for (const [n, c, ...o] of indicesOf(y.shape)) {
    const first = Math.floor(c! / perIn) * w.shape[1]!;
    for (const [m, ...k] of indicesOf(w.shape.slice(1))) {
      const at = place(o, k, g, sizes);
      if (!at) continue;
      const to = flat(shape, [n!, first + m!, ...at]);
      out[to] = out[to]! + image[flat(y.shape, [n!, c!, ...o])]! * weights[flat(w.shape, [c!, m!, ...k])]!;
    }
  }
  return Tensor.from('f64', shape, out);
}
