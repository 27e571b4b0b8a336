/**
 * Sampling at computed places: GridSample, and AffineGrid that makes its grids.
 * @module
 */
import { formatShape, type Tensor } from '../../../tensor/index.ts';
import type { Facts } from '../../graph.ts';
import { dense, isBig, type Numbers } from '../loops.ts';
import {
  ANY,
  define,
  FLOATS,
  from,
  type InferContext,
  int,
  NUMBERS,
  type Operator,
  type OperatorVersion,
  type RunContext,
  string,
} from '../operator.ts';
import { volume } from './window.ts';

type Padding = 'zeros' | 'border' | 'reflection';

/** The modes of opset 16 have other names than those since 20. */
const MODES: Readonly<Record<string, 'linear' | 'nearest' | 'cubic'>> = {
  bilinear: 'linear',
  bicubic: 'cubic',
  linear: 'linear',
  nearest: 'nearest',
  cubic: 'cubic',
};

function inferGridSample(c: InferContext): readonly Facts[] {
  const names = c.node.opset < 20 ? ['bilinear', 'nearest', 'bicubic'] : ['linear', 'nearest', 'cubic'];
  const mode = c.string('mode');
  if (!names.includes(mode)) c.fail(`attribute mode: expected one of ${names.join(' ')}`);
  if (!['zeros', 'border', 'reflection'].includes(c.string('padding_mode'))) {
    c.fail('attribute padding_mode: expected zeros, border or reflection');
  }
  c.expect(0, mode === 'nearest' ? ANY : NUMBERS);
  c.expect(1, FLOATS);
  const { dtype, shape } = c.input(0);
  const grid = c.input(1).shape;
  if (c.node.opset < 20) c.rank(0, 4);
  if (shape.length < 3) c.fail(`expected a batch, channels and spatial axes, got ${formatShape(shape)}`);
  c.rank(1, shape.length);
  const axes = shape.length - 2;
  if (c.differ(grid.at(-1)!, axes)) c.fail(`expected a grid of ${axes} coordinates each, got ${formatShape(grid)}`);
  const batch = c.same(shape[0]!, grid[0]!, 'batches of the input and of the grid');
  return [{ dtype, shape: [batch, shape[1]!, ...grid.slice(1, -1)] }];
}

function runGridSample(c: RunContext): readonly Tensor[] {
  const x = c.operand(0);
  const out = c.allocate();
  if (out.size === 0) return [out];
  const sizes = x.shape.slice(2);
  const axes = sizes.length;
  const mode = MODES[c.string('mode')]!;
  const padding = c.string('padding_mode') as Padding;
  const aligned = c.number('align_corners') !== 0;
  const size = volume(sizes);
  const places = volume(c.shape().slice(2));
  const channels = x.shape[1]!;
  const grid = dense(c.operand(1));
  // Places are rounded as the grid is, so that what lies half-way between two pixels does so for every executor.
  const isSingle = c.operand(1).dtype === 'f32';
  const source = dense(x);
  const to = out.data as Numbers;
  const width = mode === 'nearest' ? 1 : mode === 'linear' ? 2 : 4;
  if (size === 0 && padding !== 'zeros') c.fail(`nothing to sample from ${formatShape(x.shape)}`);
  // The places that one sample reads on each axis, -1 for padding, and their weights; then their products.
  const taps = Array.from({ length: axes }, () => new Int32Array(width));
  const weights = Array.from({ length: axes }, () => new Float64Array(width));
  const combinations = width ** axes;
  const cells = new Int32Array(combinations);
  const factors = new Float64Array(combinations);
  const put = isBig(out) ? putBig : putNumber;
  for (let n = 0; n < x.shape[0]!; n++) {
    for (let place = 0; place < places; place++) {
      for (let axis = 0; axis < axes; axis++) {
        // Coordinates are listed from the last axis to the first.
        const coordinate = grid[(n * places + place) * axes + axes - 1 - axis]!;
        const x = denormalised(coordinate, sizes[axis]!, aligned);
        axisTaps(isSingle ? Math.fround(x) : x, sizes[axis]!, mode, padding, aligned, taps[axis]!, weights[axis]!);
      }
      combine(taps, weights, sizes, cells, factors);
      for (let channel = 0; channel < channels; channel++) {
        const plane = (n * channels + channel) * size;
        const at = (n * channels + channel) * places + place;
        if (mode === 'nearest') {
          if (cells[0]! >= 0) to[at] = source[plane + cells[0]!]!;
          continue;
        }
        let sum = 0;
        for (let i = 0; i < combinations; i++) {
          if (cells[i]! >= 0) sum += factors[i]! * Number(source[plane + cells[i]!]!);
        }
        put(to, at, sum);
      }
    }
  }
  return [out];
}

function putNumber(to: Numbers, at: number, value: number): void {
  to[at] = value;
}

function putBig(to: Numbers, at: number, value: number): void {
  (to as unknown as BigInt64Array)[at] = Number.isFinite(value) ? BigInt(Math.trunc(value)) : 0n;
}

/** From a coordinate that is -1 at the first end of the axis and 1 at the last to one in pixels. */
function denormalised(coordinate: number, size: number, aligned: boolean): number {
  return aligned ? ((coordinate + 1) / 2) * (size - 1) : ((coordinate + 1) * size - 1) / 2;
}

/** Fills in which places of one axis are read at coordinate `at`, and by which weights. */
function axisTaps(
  at: number,
  size: number,
  mode: 'linear' | 'nearest' | 'cubic',
  padding: Padding,
  aligned: boolean,
  taps: Int32Array,
  weights: Float64Array,
): void {
  // Ends are the centres of the outer pixels, or their outer edges.
  const [least, most] = aligned ? [0, size - 1] : [-0.5, size - 0.5];
  let x = mode === 'nearest' ? roundHalfEven(at) : at;
  if (x < least || x > most) {
    if (padding === 'border') x = Math.min(Math.max(x, 0), size - 1);
    else if (padding === 'reflection') x = reflect(x, least, most);
  }
  if (mode === 'nearest') {
    taps[0] = padded(x, size, padding, least, most);
    weights[0] = 1;
    return;
  }
  const first = Math.floor(x) - (taps.length >> 1) + 1;
  for (let i = 0; i < taps.length; i++) {
    taps[i] = padded(first + i, size, padding, least, most);
    weights[i] = mode === 'linear' ? 1 - Math.abs(x - first - i) : cubicWeight(Math.abs(x - first - i));
  }
}

/** The place that a whole coordinate reads, -1 for none. */
function padded(x: number, size: number, padding: Padding, least: number, most: number): number {
  if (x >= 0 && x < size) return x;
  if (padding === 'zeros' || size === 0) return -1;
  if (padding === 'border') return x > 0 ? size - 1 : 0;
  return Math.min(Math.max(Math.trunc(reflect(x, least, most)) || 0, 0), size - 1);
}

/** Mirrors `x` at the ends until it lies between them. */
function reflect(x: number, least: number, most: number): number {
  const range = most - least;
  if (range <= 0 || !Number.isFinite(x)) return least;
  const inside = Math.abs(x - least) % (2 * range);
  return inside <= range ? least + inside : most - (inside - range);
}

function roundHalfEven(x: number): number {
  const down = Math.floor(x);
  const rest = x - down;
  if (rest !== 0.5) return rest < 0.5 ? down : down + 1;
  return down % 2 === 0 ? down : down + 1;
}

/** Keys' kernel with coefficient -0.75. */
function cubicWeight(d: number): number {
  const a = -0.75;
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

/** All combinations of one tap per axis: the cell in the plane, -1 where any axis pads, and the product of weights. */
function combine(
  taps: readonly Int32Array[],
  weights: readonly Float64Array[],
  sizes: readonly number[],
  cells: Int32Array,
  factors: Float64Array,
): void {
  let count = 1;
  cells[0] = 0;
  factors[0] = 1;
  for (let axis = 0; axis < taps.length; axis++) {
    const [own, by] = [taps[axis]!, weights[axis]!];
    // From the end, so that what is still to be read is not overwritten.
    for (let i = count - 1; i >= 0; i--) {
      const [cell, factor] = [cells[i]!, factors[i]!];
      for (let j = own.length - 1; j >= 0; j--) {
        cells[i * own.length + j] = cell < 0 || own[j]! < 0 ? -1 : cell * sizes[axis]! + own[j]!;
        factors[i * own.length + j] = factor * by[j]!;
      }
    }
    count *= own.length;
  }
}

const gridSample: OperatorVersion = {
  since: 20,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { align_corners: int(0), mode: string('linear'), padding_mode: string('zeros') },
  infer: inferGridSample,
  run: runGridSample,
};

function inferAffineGrid(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  c.expect(1, ['i64']);
  c.rank(0, 3);
  c.rank(1, 1);
  const { dtype, shape } = c.input(0);
  const [batch, rows, columns] = shape as readonly [Facts['shape'][0], Facts['shape'][0], Facts['shape'][0]];
  const length = c.input(1).shape[0]!;
  const axes = typeof rows === 'number' ? rows : typeof length === 'number' ? length - 2 : undefined;
  if (axes === undefined) return c.unsupported('how many axes the grid has must be known before the model runs');
  if (axes !== 2 && axes !== 3) c.fail(`expected 2 or 3 rows of coefficients, got ${formatShape(shape)}`);
  if (c.differ(columns, axes + 1) || c.differ(length, axes + 2)) {
    c.fail(`coefficients of ${formatShape(shape)} do not fit a size of ${length} elements`);
  }
  const size = c.known(1);
  if (size?.some(dim => typeof dim === 'number' && dim < 0)) {
    c.fail(`expected sizes of at least 0, got ${formatShape(size)}`);
  }
  const n = size ? c.same(batch, size[0]!, 'batches of the coefficients and of the size') : batch;
  const spatial = size ? size.slice(2) : Array.from({ length: axes }, () => c.fresh());
  return [{ dtype, shape: [n, ...spatial, axes] }];
}

function runAffineGrid(c: RunContext): readonly Tensor[] {
  const out = c.allocate();
  const aligned = c.number('align_corners') !== 0;
  const theta = dense(c.operand(0));
  const sizes = c.shape().slice(1, -1);
  const axes = sizes.length;
  const places = volume(sizes);
  const to = out.data as Numbers;
  const index = new Array<number>(axes).fill(0);
  // From the last axis to the first, as coordinates are listed; then 1 for the translation.
  const point = new Float64Array(axes + 1).fill(1);
  for (let n = 0, at = 0; n < c.shape()[0]!; n++) {
    index.fill(0);
    for (let place = 0; place < places; place++) {
      for (let axis = 0; axis < axes; axis++) {
        point[axes - 1 - axis] = normalised(index[axis]!, sizes[axis]!, aligned);
      }
      for (let row = 0; row < axes; row++, at++) {
        let sum = 0;
        const first = (n * axes + row) * (axes + 1);
        for (let i = 0; i <= axes; i++) sum += theta[first + i]! * point[i]!;
        to[at] = sum;
      }
      for (let axis = axes - 1; axis >= 0 && ++index[axis]! === sizes[axis]; axis--) index[axis] = 0;
    }
  }
  return [out];
}

/** The coordinate of a pixel on an axis from -1 to 1; a lone pixel whose corners are aligned is in the middle. */
function normalised(index: number, size: number, aligned: boolean): number {
  if (!aligned) return (2 * index + 1) / size - 1;
  return size === 1 ? 0 : (2 * index) / (size - 1) - 1;
}

/** The operators of this file. */
export const GRID_SAMPLE: readonly Operator[] = [
  define(
    'GridSample',
    'compute',
    from(16, gridSample, {
      attributes: { align_corners: int(0), mode: string('bilinear'), padding_mode: string('zeros') },
    }),
    gridSample,
  ),
  define('AffineGrid', 'compute', {
    since: 20,
    inputs: [2, 2],
    outputs: [1, 1],
    attributes: { align_corners: int(0) },
    infer: inferAffineGrid,
    run: runAffineGrid,
  }),
];
