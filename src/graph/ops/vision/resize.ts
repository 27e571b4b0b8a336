/**
 * Resampling on a grid: Resize and Upsample. Every mode is separable, so each axis is one pass over the tensor with a table of
 * taps: which input places an output place reads, and by which weights.
 * @module
 */
import { DTYPES, elementCount, formatShape, newArray, Tensor } from '../../../tensor/index.ts';
import type { Dim, Facts } from '../../graph.ts';
import { around, dense, isBig, type Numbers } from '../loops.ts';
import {
  ANY,
  define,
  FLOATS,
  float,
  floats,
  from,
  type InferContext,
  int,
  ints,
  NUMBERS,
  type Operator,
  type OperatorVersion,
  type RunContext,
  required,
  string,
} from '../operator.ts';

/** How an output place is found on the input's axis. */
type CoordinateMode = (typeof COORDINATE_MODES)[number];
const COORDINATE_MODES = [
  'half_pixel',
  'half_pixel_symmetric',
  'pytorch_half_pixel',
  'align_corners',
  'asymmetric',
  'tf_half_pixel_for_nn',
  'tf_crop_and_resize',
] as const;

/** Which neighbour is nearest. `simple` is the rule before there was a choice: down when growing, up when shrinking. */
type NearestMode = (typeof NEAREST_MODES)[number] | 'simple';
const NEAREST_MODES = ['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'] as const;

type Mode = 'nearest' | 'linear' | 'cubic';

/** What is done, over all axes. */
interface Plan {
  readonly mode: Mode;
  readonly coordinates: CoordinateMode;
  readonly nearest: NearestMode;
  readonly antialias: boolean;
  readonly cubicCoefficient: number;
  readonly excludeOutside: boolean;
  readonly extrapolation: number;
  /** One per axis of the tensor. */
  readonly scales: readonly number[];
  /** Where the region begins and ends, as parts of each axis; for `tf_crop_and_resize`. */
  readonly region: readonly (readonly [number, number])[];
}

/** The axes that are resized, in the order of the lists. */
function resizedAxes(c: InferContext): readonly number[] {
  const rank = c.input(0).shape.length;
  const axes = c.numbers('axes');
  return axes ? c.axes(axes, rank) : Array.from({ length: rank }, (_, i) => i);
}

function checkLength<T>(c: InferContext, what: string, list: readonly T[], expected: number): readonly T[] {
  if (list.length !== expected) c.fail(`${what}: expected ${expected} elements, got ${list.length}`);
  return list;
}

/** Before opset 11 the lists, the modes of coordinates and the region did not exist: there were scales alone. */
function isEarly(c: InferContext): boolean {
  return c.node.op === 'Upsample' || c.node.opset < 11;
}

/** What the node asks for, one number per resized axis; `values` is undefined where they are not known yet. */
type Request =
  | { readonly kind: 'scales'; readonly values: readonly number[] | undefined }
  | { readonly kind: 'sizes'; readonly values: readonly Dim[] | undefined };

function requestOf(c: InferContext, count: number): Request {
  if (c.has('height_scale')) {
    c.rank(0, 4);
    return { kind: 'scales', values: checkScales(c, [1, 1, c.number('height_scale'), c.number('width_scale')]) };
  }
  if (c.has('scales'))
    return { kind: 'scales', values: checkScales(c, checkLength(c, 'scales', c.numbers('scales')!, count)) };
  // An empty list is what exporters write for «not given».
  const isGiven = (index: number): boolean => c.inputs[index] !== undefined && c.inputs[index].shape[0] !== 0;
  if (!isEarly(c) && isGiven(3)) {
    if (isGiven(2)) c.fail('both scales and sizes are given');
    c.expect(3, ['i64']);
    c.rank(3, 1);
    const sizes = c.known(3);
    return { kind: 'sizes', values: sizes && checkLength(c, 'sizes', sizes, count) };
  }
  const index = isEarly(c) ? 1 : 2;
  if (!isGiven(index)) c.fail('neither scales nor sizes are given');
  c.expect(index, ['f32']);
  c.rank(index, 1);
  const scales = c.floats(index);
  return { kind: 'scales', values: scales && checkScales(c, checkLength(c, 'scales', scales, count)) };
}

function checkScales(c: InferContext, scales: readonly number[]): readonly number[] {
  for (const scale of scales) {
    if (!(scale > 0 && Number.isFinite(scale))) c.fail(`expected scales above 0, got ${scale}`);
  }
  return scales;
}

/** `floor(size * scale)` in single precision, as the format defines it: 10 * 0.7 is 7. */
function scaled(size: number, scale: number): number {
  return Math.floor(Math.fround(size * scale));
}

function inferResize(c: InferContext): readonly Facts[] {
  c.expect(0, ANY);
  if (!isEarly(c)) c.expect(1, FLOATS);
  checkModes(c);
  const { dtype, shape } = c.input(0);
  const axes = resizedAxes(c);
  const request = requestOf(c, axes.length);
  const result: Dim[] = [...shape];
  if (request.kind === 'scales') {
    if (policyOf(c) !== 'stretch') c.fail('keep_aspect_ratio_policy needs sizes, not scales');
    axes.forEach((axis, i) => {
      result[axis] = request.values ? resizedDim(c, shape[axis]!, request.values[i]!) : c.fresh();
    });
    return [{ dtype, shape: result }];
  }
  const sizes = request.values;
  const ratio = sizes && keptRatio(c, axes, sizes);
  axes.forEach((axis, i) => {
    if (!sizes || ratio === 'unknown') {
      result[axis] = c.fresh();
      return;
    }
    const size = sizes[i]!;
    if (typeof size === 'number' && size < 0) c.fail(`expected sizes of at least 0, got ${formatShape(sizes)}`);
    if (shape[axis] === 0 && size !== 0) c.fail(`axis ${axis} is empty: there is nothing to resize`);
    result[axis] = ratio === undefined ? size : Math.floor(ratio * (shape[axis] as number) + 0.5);
  });
  return [{ dtype, shape: result }];
}

/** A scale of 1 keeps even a size that is not known. */
function resizedDim(c: InferContext, size: Dim, scale: number): Dim {
  return scale === 1 ? size : c.derive(`floor(${size}*${scale})`, [size], known => scaled(known, scale));
}

/** The one scale of all axes that keeps their ratio; undefined where axes are stretched. */
function keptRatio(c: InferContext, axes: readonly number[], wanted: readonly Dim[]): number | 'unknown' | undefined {
  const policy = policyOf(c);
  if (policy === 'stretch' || axes.length === 0) return undefined;
  const ratios = axes.map((axis, i) => {
    const [size, target] = [c.input(0).shape[axis]!, wanted[i]!];
    if (size === 0) c.fail(`axis ${axis} is empty: it has no ratio to keep`);
    return typeof size === 'number' && typeof target === 'number' ? target / size : Number.NaN;
  });
  if (ratios.some(Number.isNaN)) return 'unknown';
  return policy === 'not_larger' ? Math.min(...ratios) : Math.max(...ratios);
}

function policyOf(c: InferContext): string {
  return c.has('keep_aspect_ratio_policy') ? c.string('keep_aspect_ratio_policy') : 'stretch';
}

function checkModes(c: InferContext): void {
  const oneOf = (name: string, values: readonly string[]): void => {
    if (c.has(name) && !values.includes(c.string(name))) {
      c.fail(
        `attribute ${name}: expected one of ${values.join(' ')}, got ${JSON.stringify(c.string(name).slice(0, 40))}`,
      );
    }
  };
  const { opset } = c.node;
  oneOf('mode', isEarly(c) ? ['nearest', 'linear', 'bilinear'] : ['nearest', 'linear', 'cubic']);
  oneOf('nearest_mode', NEAREST_MODES);
  oneOf(
    'coordinate_transformation_mode',
    COORDINATE_MODES.filter(mode => {
      if (mode === 'tf_half_pixel_for_nn') return opset < 13;
      return mode !== 'half_pixel_symmetric' || opset >= 19;
    }),
  );
  oneOf('keep_aspect_ratio_policy', ['stretch', 'not_larger', 'not_smaller']);
  const isNearest = c.string('mode') === 'nearest';
  if (!isNearest && !NUMBERS.includes(c.input(0).dtype)) {
    c.fail(`mode ${c.string('mode')} needs numbers to interpolate, got ${c.input(0).dtype}`);
  }
  if (isNearest && c.has('antialias') && c.number('antialias') !== 0) {
    c.unsupported('antialias is for the modes linear and cubic');
  }
}

function planOf(c: RunContext): Plan {
  const shape = c.operand(0).shape;
  const out = c.shape();
  const axes = resizedAxes(c);
  const early = isEarly(c);
  const request = requestOf(c, axes.length);
  const ratio = request.kind === 'sizes' ? keptRatio(c, axes, request.values!) : undefined;
  const scales = shape.map(() => 1);
  axes.forEach((axis, i) => {
    const given = request.kind === 'scales' ? request.values![i]! : (ratio as number | undefined);
    scales[axis] = given ?? out[axis]! / shape[axis]!;
  });
  const coordinates = early ? 'asymmetric' : (c.string('coordinate_transformation_mode') as CoordinateMode);
  const mode = c.string('mode');
  return {
    mode: mode === 'bilinear' ? 'linear' : (mode as Mode),
    coordinates,
    nearest: early ? 'simple' : (c.string('nearest_mode') as NearestMode),
    antialias: c.has('antialias') && c.number('antialias') !== 0,
    cubicCoefficient: early ? -0.75 : c.number('cubic_coeff_a'),
    excludeOutside: !early && c.number('exclude_outside') !== 0,
    extrapolation: early ? 0 : c.number('extrapolation_value'),
    scales,
    region: coordinates === 'tf_crop_and_resize' ? regionOf(c, axes) : shape.map(() => [0, 1] as const),
  };
}

/** The region of interest of each axis: all begins, then all ends, in the order of `axes`. */
function regionOf(c: RunContext, axes: readonly number[]): readonly (readonly [number, number])[] {
  const region = c.shape().map((): readonly [number, number] => [0, 1]);
  const roi = c.tensors[1]?.values().map(Number);
  if (!roi) c.fail('tf_crop_and_resize needs a region');
  else {
    checkLength(c, 'roi', roi, 2 * axes.length);
    axes.forEach((axis, i) => {
      region[axis] = [roi[i]!, roi[axes.length + i]!];
    });
  }
  return region;
}

/**
 * Where output place `index` of an axis lies on the input's axis. `resized` is the length that the scale gives, which need not be
 * whole, and `count` the number of places there are.
 */
function originalCoordinate(
  mode: CoordinateMode,
  index: number,
  size: number,
  count: number,
  scale: number,
  [begin, end]: readonly [number, number],
): number {
  const resized = scale * size;
  switch (mode) {
    case 'half_pixel':
      return (index + 0.5) / scale - 0.5;
    case 'half_pixel_symmetric':
      // The centre stays where it is, whatever rounding the length has suffered.
      return (size / 2) * (1 - count / resized) + (index + 0.5) / scale - 0.5;
    case 'pytorch_half_pixel':
      return resized === 1 ? -0.5 : (index + 0.5) / scale - 0.5;
    case 'align_corners':
      return resized === 1 ? 0 : (index * (size - 1)) / (resized - 1);
    case 'asymmetric':
      return index / scale;
    case 'tf_half_pixel_for_nn':
      return (index + 0.5) / scale;
    case 'tf_crop_and_resize':
      return resized === 1
        ? 0.5 * (begin + end) * (size - 1)
        : begin * (size - 1) + (index * (end - begin) * (size - 1)) / (resized - 1);
  }
  return mode satisfies never;
}

/** The taps of one axis: output place `i` reads `places[i * width + j]` by `weights[i * width + j]`. */
interface Taps {
  readonly width: number;
  readonly places: Int32Array;
  readonly weights: Float64Array;
  /** Output places that lie outside the region, and get the extrapolation value. */
  readonly outside: Uint8Array | undefined;
}

function tapsOf(plan: Plan, axis: number, size: number, count: number): Taps {
  const scale = plan.scales[axis]!;
  const coordinate = (i: number): number =>
    originalCoordinate(plan.coordinates, i, size, count, scale, plan.region[axis]!);
  // A smaller scale spreads the filter, so that every input place counts when shrinking.
  const spread = plan.antialias ? Math.min(scale, 1) : 1;
  const reach = plan.mode === 'nearest' ? 0 : Math.ceil((plan.mode === 'cubic' ? 2 : 1) / spread);
  const width = Math.max(1, 2 * reach);
  const length = elementCount([count, width]);
  const places = newArray('i32', length);
  const weights = newArray('f64', length);
  const outside = plan.coordinates === 'tf_crop_and_resize' ? newArray('u8', count) : undefined;
  for (let i = 0; i < count; i++) {
    const x = coordinate(i);
    if (outside && !(x >= 0 && x <= size - 1)) outside[i] = 1;
    const at = i * width;
    if (plan.mode === 'nearest') {
      places[at] = clamp(nearestPlace(x, plan.nearest, scale), size);
      weights[at] = 1;
      continue;
    }
    // The left neighbour is below x, not at it: the rest is in (0, 1].
    const base = Math.ceil(x) - 1;
    let sum = 0;
    for (let j = 0; j < width; j++) {
      const place = base + 1 - reach + j;
      const excluded = plan.excludeOutside && (place < 0 || place >= size);
      const weight = excluded ? 0 : kernelWeight(plan, spread * (place - x));
      places[at + j] = clamp(place, size);
      weights[at + j] = weight;
      sum += weight;
    }
    if ((plan.antialias || plan.excludeOutside) && sum !== 0) {
      for (let j = 0; j < width; j++) weights[at + j] = weights[at + j]! / sum;
    }
  }
  return { width, places, weights, outside };
}

function kernelWeight(plan: Plan, distance: number): number {
  const d = Math.abs(distance);
  if (plan.mode === 'linear') return Math.max(0, 1 - d);
  const a = plan.cubicCoefficient;
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}

function nearestPlace(x: number, mode: NearestMode, scale: number): number {
  switch (mode) {
    case 'simple':
      return scale < 1 ? Math.ceil(x) : Math.floor(x);
    case 'round_prefer_floor':
      return Math.ceil(x - 0.5);
    case 'round_prefer_ceil':
      return Math.floor(x + 0.5);
    case 'floor':
      return Math.floor(x);
    case 'ceil':
      return Math.ceil(x);
  }
  return mode satisfies never;
}

/** The nearest place inside; NaN, which a region of NaN gives, is the first. */
function clamp(place: number, size: number): number {
  return place > 0 ? Math.min(place, size - 1) : 0;
}

function runResize(c: RunContext): readonly Tensor[] {
  const x = c.operand(0);
  const shape = c.shape();
  if (elementCount(shape) === 0) return [c.allocate()];
  const plan = planOf(c);
  const moved = shape
    .map((_, axis) => axis)
    .filter(
      axis => shape[axis] !== x.shape[axis] || plan.scales[axis] !== 1 || plan.coordinates === 'tf_crop_and_resize',
    )
    // Axes that shrink come first, so that nothing in between is larger than both ends.
    .sort((a, b) => shape[a]! / x.shape[a]! - shape[b]! / x.shape[b]!);
  const taps = moved.map(axis => tapsOf(plan, axis, x.shape[axis]!, shape[axis]!));
  const result = plan.mode === 'nearest' ? pick(x, moved, taps, shape) : blend(c, x, moved, taps, shape);
  moved.forEach((axis, i) => {
    if (taps[i]!.outside) fillOutside(result, axis, taps[i]!.outside!, plan.extrapolation);
  });
  return [result];
}

/** Nearest: elements are copied, so any dtype will do. */
function pick(x: Tensor, moved: readonly number[], taps: readonly Taps[], shape: readonly number[]): Tensor {
  let current = x;
  for (let i = 0; i < moved.length; i++) {
    const axis = moved[i]!;
    const next = Tensor.zeros(
      x.dtype,
      current.shape.map((dim, j) => (j === axis ? shape[axis]! : dim)),
    );
    const { outer, n, inner } = around(current.shape, axis);
    const [source, to, { places }] = [dense(current), next.data as Numbers, taps[i]!];
    let at = 0;
    for (let o = 0; o < outer; o++) {
      for (let p = 0; p < places.length; p++) {
        const first = (o * n + places[p]!) * inner;
        for (let k = 0; k < inner; k++) to[at++] = source[first + k]!;
      }
    }
    current = next;
  }
  return current === x ? x.clone() : current;
}

/** Linear and cubic: weighted sums in double precision, rounded once at the end; towards zero where the dtype is of integers. */
function blend(
  c: RunContext,
  x: Tensor,
  moved: readonly number[],
  taps: readonly Taps[],
  shape: readonly number[],
): Tensor {
  let sizes = x.shape;
  let current: Numbers = isBig(x) ? Float64Array.from(x.elements() as BigInt64Array, Number) : dense(x);
  for (let i = 0; i < moved.length; i++) {
    const axis = moved[i]!;
    const { outer, n, inner } = around(sizes, axis);
    sizes = sizes.map((dim, j) => (j === axis ? shape[axis]! : dim));
    const next = newArray('f64', elementCount(sizes));
    blendAxis(current, outer, n, inner, taps[i]!, next);
    current = next;
  }
  const out = c.allocate();
  if (isBig(out)) {
    const to = out.data as BigInt64Array;
    for (let i = 0; i < to.length; i++) to[i] = Number.isFinite(current[i]!) ? BigInt(Math.trunc(current[i]!)) : 0n;
    return out;
  }
  const [least, most] = rangeOf(out);
  const to = out.data as Numbers;
  for (let i = 0; i < to.length; i++) to[i] = Math.min(Math.max(current[i]!, least), most);
  return out;
}

function blendAxis(
  source: Numbers,
  outer: number,
  n: number,
  inner: number,
  { width, places, weights }: Taps,
  to: Float64Array,
): void {
  const count = places.length / width;
  if (inner === 1) {
    for (let o = 0, at = 0; o < outer; o++) {
      for (let p = 0; p < places.length; p += width, at++) {
        let sum = 0;
        for (let j = p; j < p + width; j++) sum += weights[j]! === 0 ? 0 : weights[j]! * source[o * n + places[j]!]!;
        to[at] = sum;
      }
    }
    return;
  }
  for (let o = 0; o < outer; o++) {
    for (let p = 0; p < count; p++) {
      const at = (o * count + p) * inner;
      for (let j = p * width; j < (p + 1) * width; j++) {
        const weight = weights[j]!;
        if (weight === 0) continue;
        const first = (o * n + places[j]!) * inner;
        for (let k = 0; k < inner; k++) to[at + k] = to[at + k]! + weight * source[first + k]!;
      }
    }
  }
}

/** What the dtype holds: a cubic overshoots the values that it passes through. */
function rangeOf(tensor: Tensor): readonly [number, number] {
  const { kind, bytes } = DTYPES[tensor.dtype];
  if (kind !== 'int') return [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
  const bits = 8 * bytes;
  return tensor.dtype.startsWith('u') ? [0, 2 ** bits - 1] : [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1];
}

function fillOutside(out: Tensor, axis: number, outside: Uint8Array, value: number): void {
  const fill = Tensor.of('f64', value).cast(out.dtype).elements()[0]! as number;
  const { outer, n, inner } = around(out.shape, axis);
  const to = out.data as Numbers;
  for (let o = 0; o < outer; o++) {
    for (let p = 0; p < n; p++) if (outside[p]) to.fill(fill, (o * n + p) * inner, (o * n + p + 1) * inner);
  }
}

const resize10: OperatorVersion = {
  since: 10,
  inputs: [2, 2],
  outputs: [1, 1],
  attributes: { mode: string('nearest') },
  infer: inferResize,
  run: runResize,
};

const resize11 = from(11, resize10, {
  inputs: [1, 4],
  attributes: {
    mode: string('nearest'),
    coordinate_transformation_mode: string('half_pixel'),
    nearest_mode: string('round_prefer_floor'),
    cubic_coeff_a: float(-0.75),
    exclude_outside: int(0),
    extrapolation_value: float(0),
  },
});

const resize18 = from(18, resize11, {
  attributes: {
    ...resize11.attributes,
    antialias: int(0),
    axes: ints(),
    keep_aspect_ratio_policy: string('stretch'),
  },
});

/** Before opset 9 the scales were attributes; in opset 1, of two axes only. */
const upsample7 = from(7, resize10, {
  inputs: [1, 1],
  attributes: { mode: string('nearest'), scales: required(floats) },
});

/** The operators of this file. */
export const RESIZE: readonly Operator[] = [
  define('Resize', 'compute', resize10, resize11, resize18),
  define(
    'Upsample',
    'compute',
    from(1, upsample7, {
      attributes: { mode: string('nearest'), height_scale: required(float()), width_scale: required(float()) },
    }),
    upsample7,
    from(9, resize10),
  ),
];
