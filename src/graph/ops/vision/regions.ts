/**
 * Pooling of regions of interest to one size: RoiAlign and MaxRoiPool.
 * @module
 */
import { formatShape, type Tensor } from '../../../tensor/index.ts';
import type { Facts } from '../../graph.ts';
import { dense, type Numbers } from '../loops.ts';
import {
  define,
  FLOATS,
  float,
  from,
  type InferContext,
  int,
  ints,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  string,
} from '../operator.ts';

/** The most samples along each axis of a bin that a node may ask for. */
const MAX_SAMPLING_RATIO = 1024;

function inferRoiAlign(c: InferContext): readonly Facts[] {
  c.expect(0, FLOATS);
  c.sameDType(0, 1);
  c.expect(2, ['i64']);
  c.rank(0, 4);
  c.rank(1, 2);
  c.rank(2, 1);
  const { dtype, shape } = c.input(0);
  const regions = c.input(1).shape;
  if (c.differ(regions[1]!, 4)) c.fail(`expected regions of 4 coordinates, got ${formatShape(regions)}`);
  const count = c.same(regions[0]!, c.input(2).shape[0]!, 'numbers of regions and of batch indices');
  const [height, width] = [c.number('output_height'), c.number('output_width')];
  if (height < 1 || width < 1) c.fail(`expected an output of at least 1x1, got ${height}x${width}`);
  if (!['avg', 'max'].includes(c.string('mode'))) c.fail('attribute mode: expected avg or max');
  const ratio = c.number('sampling_ratio');
  if (ratio < 0) c.fail(`attribute sampling_ratio: expected at least 0, got ${ratio}`);
  if (ratio > MAX_SAMPLING_RATIO) c.unsupported(`a sampling_ratio of ${ratio}; at most ${MAX_SAMPLING_RATIO} here`);
  if (
    c.has('coordinate_transformation_mode') &&
    !['half_pixel', 'output_half_pixel'].includes(c.string('coordinate_transformation_mode'))
  ) {
    c.fail('attribute coordinate_transformation_mode: expected half_pixel or output_half_pixel');
  }
  return [{ dtype, shape: [count, shape[1]!, height, width] }];
}

/** Samples of the bins along one axis. Those of bin `b` are from `first[b]` to before `first[b + 1]`. */
interface AxisSamples {
  readonly first: readonly number[];
  /** The neighbours of each sample, and the weight of the upper one. */
  readonly low: readonly number[];
  readonly high: readonly number[];
  readonly rest: readonly number[];
  /** Samples per bin, with those that lie outside of the map. */
  readonly perBin: number;
}

function sampleAxis(start: number, extent: number, bins: number, ratio: number, size: number): AxisSamples {
  const bin = extent / bins;
  const perBin = ratio > 0 ? ratio : Math.max(0, Math.ceil(bin));
  const step = bin / perBin;
  const out = { first: [0], low: [] as number[], high: [] as number[], rest: [] as number[], perBin };
  for (let b = 0; b < bins; b++) {
    const origin = start + b * bin;
    // Only samples on the map are walked over: a region may be far larger than it.
    const from = step > 0 ? Math.max(0, Math.floor((-1 - origin) / step) - 1) : 0;
    const end = step > 0 ? Math.min(perBin, Math.ceil((size - origin) / step) + 1) : Math.min(perBin, ratio);
    for (let i = from; i < end; i++) {
      const at = origin + (i + 0.5) * step;
      if (!(at >= -1 && at <= size)) continue;
      const inside = Math.min(Math.max(at, 0), size - 1);
      const low = Math.floor(inside);
      out.low.push(low);
      out.high.push(Math.min(low + 1, size - 1));
      out.rest.push(inside - low);
    }
    out.first.push(out.low.length);
  }
  return out;
}

function runRoiAlign(c: RunContext): readonly Tensor[] {
  const x = c.operand(0);
  const [batch, channels, height, width] = x.shape as readonly [number, number, number, number];
  const out = c.allocate();
  if (out.size === 0 || x.size === 0) return [out];
  const [count, , rows, columns] = c.shape() as readonly [number, number, number, number];
  const [source, regions, to] = [dense(x), dense(c.operand(1)), out.data as Numbers];
  const batches = c.operand(2).elements() as BigInt64Array;
  const scale = c.number('spatial_scale');
  const ratio = c.number('sampling_ratio');
  // Before opset 16 pixels were not shifted by a half, and every region was at least one pixel wide.
  const isHalfPixel =
    c.has('coordinate_transformation_mode') && c.string('coordinate_transformation_mode') === 'half_pixel';
  const pool = c.string('mode') === 'avg' ? averageBin : maximumBin;
  for (let r = 0; r < count; r++) {
    const n = Number(batches[r]!);
    if (n < 0 || n >= batch) c.fail(`region ${r} is of batch ${n}, there are ${batch}`);
    const [x0, y0, x1, y1] = [0, 1, 2, 3].map(i => regions[r * 4 + i]! * scale - (isHalfPixel ? 0.5 : 0)) as [
      number,
      number,
      number,
      number,
    ];
    if (![x0, y0, x1, y1].every(Number.isFinite)) c.fail(`region ${r} has coordinates that are no numbers`);
    const least = isHalfPixel ? Number.NEGATIVE_INFINITY : 1;
    const vertical = sampleAxis(y0, Math.max(y1 - y0, least), rows, ratio, height);
    const horizontal = sampleAxis(x0, Math.max(x1 - x0, least), columns, ratio, width);
    for (let channel = 0; channel < channels; channel++) {
      const plane = (n * channels + channel) * height * width;
      let at = (r * channels + channel) * rows * columns;
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          to[at++] = pool(source, plane, width, vertical, row, horizontal, column);
        }
      }
    }
  }
  return [out];
}

type PoolBin = (
  source: Numbers,
  plane: number,
  width: number,
  vertical: AxisSamples,
  row: number,
  horizontal: AxisSamples,
  column: number,
) => number;

const averageBin: PoolBin = (source, plane, width, vertical, row, horizontal, column) => {
  let sum = 0;
  for (let i = vertical.first[row]!; i < vertical.first[row + 1]!; i++) {
    const [top, bottom, down] = [
      vertical.low[i]! * width + plane,
      vertical.high[i]! * width + plane,
      vertical.rest[i]!,
    ];
    for (let j = horizontal.first[column]!; j < horizontal.first[column + 1]!; j++) {
      const [left, right, along] = [horizontal.low[j]!, horizontal.high[j]!, horizontal.rest[j]!];
      sum +=
        (1 - down) * ((1 - along) * source[top + left]! + along * source[top + right]!) +
        down * ((1 - along) * source[bottom + left]! + along * source[bottom + right]!);
    }
  }
  return sum / Math.max(1, vertical.perBin * horizontal.perBin);
};

/** The format takes the maximum over the weighted neighbours of each sample, not over their sums; outside is 0. */
const maximumBin: PoolBin = (source, plane, width, vertical, row, horizontal, column) => {
  const [firstRow, endRow] = [vertical.first[row]!, vertical.first[row + 1]!];
  const [firstColumn, endColumn] = [horizontal.first[column]!, horizontal.first[column + 1]!];
  const onMap = (endRow - firstRow) * (endColumn - firstColumn);
  let best = onMap > 0 && onMap === vertical.perBin * horizontal.perBin ? Number.NEGATIVE_INFINITY : 0;
  for (let i = firstRow; i < endRow; i++) {
    const [top, bottom, down] = [
      vertical.low[i]! * width + plane,
      vertical.high[i]! * width + plane,
      vertical.rest[i]!,
    ];
    for (let j = firstColumn; j < endColumn; j++) {
      const [left, right, along] = [horizontal.low[j]!, horizontal.high[j]!, horizontal.rest[j]!];
      best = Math.max(
        best,
        (1 - down) * (1 - along) * source[top + left]!,
        (1 - down) * along * source[top + right]!,
        down * (1 - along) * source[bottom + left]!,
        down * along * source[bottom + right]!,
      );
    }
  }
  return best;
};

const roiAlign: OperatorVersion = {
  since: 10,
  inputs: [3, 3],
  outputs: [1, 1],
  attributes: {
    mode: string('avg'),
    output_height: int(1),
    output_width: int(1),
    sampling_ratio: int(0),
    spatial_scale: float(1),
  },
  infer: inferRoiAlign,
  run: runRoiAlign,
};

const maxRoiPool: OperatorVersion = {
  since: 1,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { pooled_shape: required(ints()), spatial_scale: float(1) },
  infer: c => {
    c.expect(0, FLOATS);
    c.sameDType(0, 1);
    c.rank(0, 4);
    c.rank(1, 2);
    const { dtype, shape } = c.input(0);
    const regions = c.input(1).shape;
    if (c.differ(regions[1]!, 5)) c.fail(`expected regions of a batch and 4 corners, got ${formatShape(regions)}`);
    const pooled = c.numbers('pooled_shape')!;
    if (pooled.length !== 2 || pooled.some(size => size < 1)) {
      c.fail(`attribute pooled_shape: expected 2 sizes of at least 1, got ${formatShape(pooled)}`);
    }
    return [{ dtype, shape: [regions[0]!, shape[1]!, ...pooled] }];
  },
  run: runMaxRoiPool,
};

function runMaxRoiPool(c: RunContext): readonly Tensor[] {
  const x = c.operand(0);
  const [batch, channels, height, width] = x.shape as readonly [number, number, number, number];
  const out = c.allocate();
  const [count, , rows, columns] = c.shape() as readonly [number, number, number, number];
  const [source, regions, to] = [dense(x), dense(c.operand(1)), out.data as Numbers];
  const scale = c.number('spatial_scale');
  let at = 0;
  for (let r = 0; r < count; r++) {
    const n = regions[r * 5]!;
    if (!(Number.isInteger(n) && n >= 0 && n < batch)) c.fail(`region ${r} is of batch ${n}, there are ${batch}`);
    const [x0, y0, x1, y1] = [1, 2, 3, 4].map(i => roundAway(regions[r * 5 + i]! * scale)) as [
      number,
      number,
      number,
      number,
    ];
    const [down, along] = [Math.max(y1 - y0 + 1, 1) / rows, Math.max(x1 - x0 + 1, 1) / columns];
    for (let channel = 0; channel < channels; channel++) {
      const plane = (n * channels + channel) * height * width;
      for (let row = 0; row < rows; row++) {
        const top = Math.max(0, Math.floor(row * down) + y0);
        const bottom = Math.min(height, Math.ceil((row + 1) * down) + y0);
        for (let column = 0; column < columns; column++, at++) {
          const left = Math.max(0, Math.floor(column * along) + x0);
          const right = Math.min(width, Math.ceil((column + 1) * along) + x0);
          // A bin without pixels is 0.
          let best = bottom > top && right > left ? Number.NEGATIVE_INFINITY : 0;
          for (let y = top; y < bottom; y++) {
            for (let i = left; i < right; i++) best = Math.max(best, source[plane + y * width + i]!);
          }
          to[at] = best;
        }
      }
    }
  }
  return [out];
}

function roundAway(x: number): number {
  return x < 0 ? -Math.round(-x) : Math.round(x);
}

/** The operators of this file. */
export const REGIONS: readonly Operator[] = [
  define(
    'RoiAlign',
    'compute',
    roiAlign,
    from(16, roiAlign, {
      attributes: { ...roiAlign.attributes, coordinate_transformation_mode: string('half_pixel') },
    }),
  ),
  define('MaxRoiPool', 'compute', maxRoiPool),
];
