/**
 * Random tensors for property tests: every dtype, any shape, the values that break things, and views whose elements lie anyhow.
 * @module
 */
import fc from 'fast-check';
import {
  DTYPES,
  type DType,
  elementCount,
  fromBf16Bits,
  fromF16Bits,
  newArray,
  Tensor,
  toBf16Bits,
  toF16Bits,
} from '../../src/tensor/index.ts';

/** Every dtype of a tensor. */
export const DTYPE_NAMES: readonly DType[] = Object.keys(DTYPES) as DType[];

/** What {@link shapes} may be told. */
export interface ShapesOptions {
  /** Default 0. */
  readonly minRank?: number;
  /** Default 4. */
  readonly maxRank?: number;
  /** The smallest size of an axis. Default 0: some shapes are empty. */
  readonly minSize?: number;
  /** Default 4. */
  readonly maxSize?: number;
}

/** What {@link elements} may be told. */
export interface ElementsOptions {
  /** Whether NaN, infinities, -0, subnormal numbers and the ends of the range come, often. Default true. */
  readonly special?: boolean;
  /** The smallest number, and the largest; the whole range of the dtype where left out, and then `special` values come too. */
  readonly range?: readonly [from: number, to: number];
}

/** What {@link tensors} may be told. */
export interface TensorsOptions<D extends DType = DType> extends ShapesOptions, ElementsOptions {
  /** One of these; all where left out. */
  readonly dtypes?: readonly D[];
  /** This shape, or one of these; any of {@link shapes} where left out. */
  readonly shape?: readonly number[] | fc.Arbitrary<readonly number[]>;
  /** Whether elements may lie in any order, with gaps, backwards or repeated, as views have them. Default true. */
  readonly views?: boolean;
}

/** Shapes, scalars and empty ones among them. */
export function shapes(options: ShapesOptions = {}): fc.Arbitrary<readonly number[]> {
  const { minRank = 0, maxRank = 4, minSize = 0, maxSize = 4 } = options;
  return fc.array(fc.integer({ min: minSize, max: maxSize }), { minLength: minRank, maxLength: maxRank });
}

/** `count` shapes that broadcast to one: axes are left out in front, or are 1. */
export function broadcastableShapes(
  count: number,
  options: ShapesOptions = {},
): fc.Arbitrary<readonly (readonly number[])[]> {
  return shapes(options).chain(shape => {
    const narrowed = fc
      .tuple(fc.nat(shape.length), fc.array(fc.boolean(), { minLength: shape.length, maxLength: shape.length }))
      .map(([from, ones]) => shape.map((size, axis) => (ones[axis] ? 1 : size)).slice(from));
    return fc.array(fc.oneof(fc.constant(shape), narrowed), { minLength: count, maxLength: count });
  });
}

/** Values that a tensor of `dtype` holds exactly: numbers, bigints for the 64-bit integers, 0 and 1 for bool, strings. */
export function elements(dtype: DType, options: ElementsOptions = {}): fc.Arbitrary<number | bigint | string> {
  const { special = true, range } = options;
  const { kind, bytes } = DTYPES[dtype];
  if (dtype === 'string') return fc.string({ unit: special ? 'binary' : 'grapheme', maxLength: 6 });
  if (dtype === 'bool') return fc.nat(1);
  if (kind === 'float') return floats(dtype, special, range);
  const signed = dtype.startsWith('i');
  const bits = BigInt(8 * bytes);
  const least = signed ? -(1n << (bits - 1n)) : 0n;
  const most = (1n << (signed ? bits - 1n : bits)) - 1n;
  const min = range ? BigInt(Math.ceil(Math.max(range[0], Number(least)))) : least;
  const max = range ? BigInt(Math.floor(Math.min(range[1], Number(most)))) : most;
  const small = fc.bigInt({ min: min > -9n ? min : -9n, max: max < 9n ? max : 9n });
  const any =
    range || !special ? fc.bigInt({ min, max }) : fc.oneof(fc.bigInt({ min, max }), fc.constantFrom(min, max));
  const values = range || min > 9n || max < -9n ? any : fc.oneof(small, any);
  return bytes === 8 ? values : values.map(Number);
}

function floats(dtype: DType, special: boolean, range: ElementsOptions['range']): fc.Arbitrary<number> {
  const round = (value: number): number => {
    if (dtype === 'f16') return fromF16Bits(toF16Bits(value));
    if (dtype === 'bf16') return fromBf16Bits(toBf16Bits(value));
    return dtype === 'f32' ? Math.fround(value) : value;
  };
  if (range) return fc.double({ min: range[0], max: range[1], noNaN: true }).map(round);
  const tame = fc.double({ min: -8, max: 8, noNaN: true }).map(round);
  if (!special) return tame;
  const bits: Readonly<Record<string, () => fc.Arbitrary<number>>> = {
    f16: () => fc.nat(0xffff).map(fromF16Bits),
    bf16: () => fc.nat(0xffff).map(fromBf16Bits),
    f32: () => fc.float(),
    f64: () => fc.double(),
  };
  const odd = fc.constantFrom(0, -0, 1, -1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
  return fc.oneof(tame, bits[dtype]!(), odd);
}

/** A dense tensor of these values, in row-major order. */
export function tensorOf<D extends DType>(
  dtype: D,
  shape: readonly number[],
  values: readonly (number | bigint | string)[],
): Tensor<D> {
  const data = newArray(dtype, elementCount(shape));
  const put = data as unknown as Record<number, unknown>;
  const encode = dtype === 'f16' ? toF16Bits : dtype === 'bf16' ? toBf16Bits : undefined;
  for (let i = 0; i < values.length; i++) put[i] = encode ? encode(Number(values[i])) : values[i];
  return Tensor.from(dtype, shape, data);
}

/**
 * Tensors of these dtypes and shapes. Shrinks to small dense tensors of zeros.
 *
 * @example
 * ```ts
 * const [x] = fc.sample(tensors({ dtypes: ['f32'], shape: [2, 3] }), 1);
 * x?.shape; // [2, 3]
 * ```
 */
export function tensors<D extends DType = DType>(options: TensorsOptions<D> = {}): fc.Arbitrary<Tensor<D>> {
  const { dtypes = DTYPE_NAMES as readonly D[], shape, views = true } = options;
  const anyShape = Array.isArray(shape)
    ? fc.constant(shape)
    : ((shape as fc.Arbitrary<readonly number[]>) ?? shapes(options));
  return fc.tuple(fc.constantFrom(...dtypes), anyShape).chain(([dtype, of]) => {
    const size = elementCount(of);
    const dense = fc
      .array(elements(dtype, options), { minLength: size, maxLength: size })
      .map(values => tensorOf(dtype, of, values));
    return views ? dense.chain(tensor => viewsOf(tensor)) : dense;
  });
}

/** Views that show what `tensor` shows: its elements in another order in memory, with gaps, backwards, or repeated where they can be. */
export function viewsOf<D extends DType>(tensor: Tensor<D>): fc.Arbitrary<Tensor<D>> {
  const axes = tensor.shape.map((_, axis) => axis);
  const perAxis = <T>(of: fc.Arbitrary<T>): fc.Arbitrary<T[]> =>
    fc.array(of, { minLength: axes.length, maxLength: axes.length });
  const placed = fc
    .record({
      order: fc.shuffledSubarray(axes, { minLength: axes.length }),
      steps: perAxis(fc.constantFrom(1, 2, -1, -3)),
      lead: fc.nat(3),
      repeat: fc.boolean(),
    })
    .map(layout => place(tensor, layout));
  return fc.oneof(fc.constant(tensor), placed);
}

/** How {@link laidOut} places elements. */
export type LayoutName = 'shifted' | 'transposed' | 'stepped' | 'backwards' | 'scattered' | 'repeated';

/** The names of all layouts. */
export const LAYOUT_NAMES: readonly LayoutName[] = [
  'shifted',
  'transposed',
  'stepped',
  'backwards',
  'scattered',
  'repeated',
];

/**
 * A view that shows what `tensor` shows, whose elements lie in another way among junk (NaN, where there is one). `repeated` has a
 * stride of 0 along the axes on which all elements are equal.
 */
export function laidOut<D extends DType>(tensor: Tensor<D>, layout: LayoutName): Tensor<D> {
  const axes = tensor.shape.map((_, axis) => axis);
  switch (layout) {
    case 'shifted':
      return place(tensor, { lead: 3 });
    case 'transposed':
      return place(tensor, { order: axes.toReversed() });
    case 'stepped':
      return place(tensor, { steps: axes.map(() => 2), lead: 1 });
    case 'backwards':
      return place(tensor, { steps: axes.map(() => -1) });
    case 'scattered':
      return place(tensor, { order: axes.toReversed(), steps: axes.map(axis => (axis % 2 === 0 ? -2 : 3)), lead: 5 });
    case 'repeated':
      return place(tensor, { repeat: true });
  }
}

/** Where elements go: the order of the axes in memory, slowest first, the gap and direction along each, and junk in front. */
interface Placement {
  readonly order?: readonly number[];
  readonly steps?: readonly number[];
  readonly lead?: number;
  readonly repeat?: boolean;
}

function place<D extends DType>(tensor: Tensor<D>, placement: Placement): Tensor<D> {
  const { shape, dtype, size } = tensor;
  const { order = shape.map((_, axis) => axis), steps = shape.map(() => 1), lead = 0, repeat = false } = placement;
  const raw = tensor.elements() as unknown as ArrayLike<unknown>;
  const strides = new Array<number>(shape.length).fill(0);
  let offset = lead;
  let room = 1;
  for (const axis of order.toReversed()) {
    if (repeat && isRepeated(shape, raw, axis)) continue;
    const step = steps[axis]!;
    strides[axis] = room * step;
    if (step < 0) offset -= (shape[axis]! - 1) * room * step;
    room *= shape[axis]! * Math.abs(step);
  }
  if (size === 0) return new Tensor(dtype, shape, newArray(dtype, 0), strides, 0);
  const data = junk(dtype, lead + room + 2);
  const put = data as unknown as Record<number, unknown>;
  const index = shape.map(() => 0);
  for (let i = 0; i < size; i++) {
    put[index.reduce((at, place, axis) => at + place * strides[axis]!, offset)] = raw[i];
    for (let axis = shape.length - 1; axis >= 0 && ++index[axis]! === shape[axis]; axis--) index[axis] = 0;
  }
  return new Tensor(dtype, shape, data, strides, offset);
}

/** Whether all elements along `axis` are equal, everywhere. */
function isRepeated(shape: readonly number[], raw: ArrayLike<unknown>, axis: number): boolean {
  const inner = shape.slice(axis + 1).reduce((product, size) => product * size, 1);
  const size = shape[axis]!;
  for (let i = 0; i < raw.length; i++) {
    const along = Math.floor(i / inner) % size;
    if (!Object.is(raw[i], raw[i - along * inner])) return false;
  }
  return size > 1;
}

const JUNK: Readonly<Partial<Record<DType, unknown>>> = {
  f32: Number.NaN,
  f64: Number.NaN,
  f16: 0x7e00,
  bf16: 0x7fc0,
  i64: -12_345n,
  u64: 12_345n,
  string: 'junk',
  bool: 1,
};

function junk<D extends DType>(dtype: D, length: number): ReturnType<typeof newArray<D>> {
  const data = newArray(dtype, length);
  (data as unknown as { fill(value: unknown): void }).fill(JUNK[dtype] ?? 111);
  return data;
}
