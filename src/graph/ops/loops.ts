/**
 * The loops under the elementwise kernels: over one dense tensor, or over two that broadcast.
 * @module
 */
import { sameShape, type Tensor } from '../../tensor/index.ts';

/**
 * Any typed array, seen as numbers. Elements of the 64-bit integers are bigints at run time (see {@link isBig}); those of strings
 * are strings in a plain array, which kernels that only move elements need not know.
 */
export type Numbers = Float32Array | Float64Array;

/** The dense elements of a tensor, seen as numbers. */
export function dense(tensor: Tensor): Numbers {
  return tensor.elements() as Numbers;
}

/** Whether elements of the tensor are bigints. */
export function isBig(tensor: Tensor): boolean {
  return tensor.dtype === 'i64' || tensor.dtype === 'u64';
}

/** `out[i] = f(x[i])`; `out` is dense and of x's shape. */
export function mapInto(out: Tensor, x: Tensor, f: (x: number) => number): Tensor {
  const to = out.data as Numbers;
  const source = dense(x);
  for (let i = 0; i < to.length; i++) to[i] = f(source[i]!);
  return out;
}

/** `out[i] = f(a[i], b[i])` where a and b broadcast to the shape of `out`, which is dense. */
export function zipInto(out: Tensor, a: Tensor, b: Tensor, f: (a: number, b: number) => number): Tensor {
  const to = out.data as Numbers;
  const count = to.length;
  if (count === 0) return out;
  if (sameShape(a.shape, out.shape) && (sameShape(b.shape, out.shape) || b.size === 1)) {
    const x = dense(a);
    const y = dense(b);
    const only = y[0]!;
    if (b.size === 1) for (let i = 0; i < count; i++) to[i] = f(x[i]!, only);
    else for (let i = 0; i < count; i++) to[i] = f(x[i]!, y[i]!);
    return out;
  }
  const left = a.expand(out.shape);
  const right = b.expand(out.shape);
  const x = left.data as Numbers;
  const y = right.data as Numbers;
  const rank = out.shape.length;
  const inner = rank > 0 ? out.shape[rank - 1]! : 1;
  const xStep = rank > 0 ? left.strides[rank - 1]! : 0;
  const yStep = rank > 0 ? right.strides[rank - 1]! : 0;
  const index = new Array<number>(rank).fill(0);
  let xAt = left.offset;
  let yAt = right.offset;
  for (let at = 0; at < count; ) {
    for (let i = 0, p = xAt, q = yAt; i < inner; i++, p += xStep, q += yStep) to[at++] = f(x[p]!, y[q]!);
    for (let axis = rank - 2; axis >= 0; axis--) {
      const size = out.shape[axis]!;
      xAt += left.strides[axis]!;
      yAt += right.strides[axis]!;
      if (++index[axis]! < size) break;
      xAt -= size * left.strides[axis]!;
      yAt -= size * right.strides[axis]!;
      index[axis] = 0;
    }
  }
  return out;
}

/** Copies `count` elements from `start` on to `to`, from `at` on. For every dtype, strings too. */
export function copyRun(to: Numbers, at: number, from: Numbers, start: number, count: number): void {
  // A subarray costs more than a few elements, and the plain array of strings has none.
  if (count > 16 && ArrayBuffer.isView(to)) to.set(from.subarray(start, start + count), at);
  else for (let i = 0; i < count; i++) to[at + i] = from[start + i]!;
}

/** Where each element of a tensor of `shape` lies, in row-major order, when its axes have these non-negative strides. */
export function offsetsOf(shape: readonly number[], strides: readonly number[]): Uint32Array {
  const out = new Uint32Array(shape.reduce((size, dim) => size * dim, 1));
  const index = new Array<number>(shape.length).fill(0);
  let offset = 0;
  for (let at = 0; at < out.length; at++) {
    out[at] = offset;
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      offset += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      offset -= shape[axis]! * strides[axis]!;
      index[axis] = 0;
    }
  }
  return out;
}

/** A dense tensor as `outer x n x inner` around one axis: the sizes that axis-wise kernels loop over. */
export function around(shape: readonly number[], axis: number): { outer: number; n: number; inner: number } {
  const product = (dims: readonly number[]): number => dims.reduce((size, dim) => size * dim, 1);
  return { outer: product(shape.slice(0, axis)), n: shape[axis]!, inner: product(shape.slice(axis + 1)) };
}

/** Folds the elements from `start` on, in double precision. */
export function fold(values: Numbers, start: number, step: (sum: number, x: number) => number): number {
  let sum = start;
  for (let i = 0; i < values.length; i++) sum = step(sum, values[i]!);
  return sum;
}
