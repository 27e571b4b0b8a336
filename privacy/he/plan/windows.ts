/**
 * Convolution and average pooling as matrices. Pure.
 * @module
 */
import type { Node } from '../../../src/graph/index.ts';
import { type Sparse, SparseBuilder } from './sparse.ts';

interface Axis {
  readonly size: number;
  readonly kernel: number;
  readonly stride: number;
  readonly dilation: number;
  readonly begin: number;
  readonly end: number;
  readonly out: number;
}

/** Three spatial axes, the outer ones trivial where there are fewer. */
function axesOf(node: Node, input: readonly number[], output: readonly number[], kernel: readonly number[]): Axis[] {
  const rank = kernel.length;
  const list = (name: string, fill: number, length = rank): readonly number[] =>
    (node.attributes[name] as readonly number[] | undefined) ?? new Array<number>(length).fill(fill);
  const [strides, dilations, pads] = [list('strides', 1), list('dilations', 1), list('pads', 0, 2 * rank)];
  const auto = String(node.attributes['auto_pad'] ?? 'NOTSET');
  const axes = kernel.map((taps, i): Axis => {
    const size = input[2 + i]!;
    const out = output[2 + i]!;
    const extent = (taps - 1) * dilations[i]! + 1;
    const total = Math.max(0, (out - 1) * strides[i]! + extent - size);
    const half = Math.floor(total / 2);
    const begin = auto === 'NOTSET' ? pads[i]! : auto === 'VALID' ? 0 : auto === 'SAME_LOWER' ? total - half : half;
    const end = auto === 'NOTSET' ? pads[rank + i]! : auto === 'VALID' ? 0 : total - begin;
    return { size, kernel: taps, stride: strides[i]!, dilation: dilations[i]!, begin, end, out };
  });
  const trivial: Axis = { size: 1, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0, out: 1 };
  return [...new Array<Axis>(3 - rank).fill(trivial), ...axes];
}

/** Calls `visit` with the place of each tap of the window at `at` that lies inside the input, and the tap's own place. */
function eachTap(axes: readonly Axis[], at: readonly number[], visit: (place: number, tap: number) => void): void {
  const [z, y, x] = axes as readonly [Axis, Axis, Axis];
  for (let kz = 0; kz < z.kernel; kz++) {
    const iz = at[0]! * z.stride - z.begin + kz * z.dilation;
    if (iz < 0 || iz >= z.size) continue;
    for (let ky = 0; ky < y.kernel; ky++) {
      const iy = at[1]! * y.stride - y.begin + ky * y.dilation;
      if (iy < 0 || iy >= y.size) continue;
      for (let kx = 0; kx < x.kernel; kx++) {
        const ix = at[2]! * x.stride - x.begin + kx * x.dilation;
        if (ix >= 0 && ix < x.size) visit((iz * y.size + iy) * x.size + ix, (kz * y.kernel + ky) * x.kernel + kx);
      }
    }
  }
}

function eachPlace(axes: readonly Axis[], visit: (at: readonly number[]) => void): void {
  const [z, y, x] = axes as readonly [Axis, Axis, Axis];
  for (let oz = 0; oz < z.out; oz++)
    for (let oy = 0; oy < y.out; oy++) for (let ox = 0; ox < x.out; ox++) visit([oz, oy, ox]);
}

function volume(axes: readonly Axis[], of: 'size' | 'kernel'): number {
  return axes.reduce((all, axis) => all * axis[of], 1);
}

/**
 * The matrix of a Conv node, from its input (1, C, ...) to its output (1, M, ...), both flattened.
 *
 * @param weights - (M, C / group, ...) flattened, with their shape.
 */
export function convolutionMatrix(
  node: Node,
  input: readonly number[],
  output: readonly number[],
  weights: { readonly shape: readonly number[]; readonly values: ArrayLike<number> },
): Sparse {
  const axes = axesOf(node, input, output, weights.shape.slice(2));
  const groups = Number(node.attributes['group'] ?? 1);
  const [outputs, perGroup] = weights.shape as readonly [number, number];
  const [plane, taps] = [volume(axes, 'size'), volume(axes, 'kernel')];
  const builder = new SparseBuilder(input[1]! * plane);
  for (let m = 0; m < outputs; m++) {
    const first = Math.floor((m * groups) / outputs) * perGroup;
    eachPlace(axes, at => {
      for (let c = 0; c < perGroup; c++) {
        eachTap(axes, at, (place, tap) => {
          builder.add((first + c) * plane + place, weights.values[(m * perGroup + c) * taps + tap]!);
        });
      }
      builder.endRow();
    });
  }
  return builder.build();
}

/** The matrix of an AveragePool node, or of GlobalAveragePool with a kernel of the whole plane. */
export function averagePoolMatrix(
  node: Node,
  input: readonly number[],
  output: readonly number[],
  kernel: readonly number[],
): Sparse {
  const axes = axesOf(node, input, output, kernel);
  const withPads = Number(node.attributes['count_include_pad'] ?? 0) !== 0;
  const plane = volume(axes, 'size');
  const builder = new SparseBuilder(input[1]! * plane);
  for (let channel = 0; channel < input[1]!; channel++) {
    eachPlace(axes, at => {
      const places: number[] = [];
      eachTap(axes, at, place => places.push(place));
      // A window that ceil_mode lets hang over the padding counts what lies within the padding.
      const padded = axes.reduce((all, { stride, begin, kernel: k, dilation, size, end }, i) => {
        const start = at[i]! * stride - begin;
        return all * Math.ceil((Math.min(start + k * dilation, size + end) - start) / dilation);
      }, 1);
      for (const place of places) builder.add(channel * plane + place, 1 / (withPads ? padded : places.length));
      builder.endRow();
    });
  }
  return builder.build();
}
