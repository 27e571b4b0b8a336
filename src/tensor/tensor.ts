/**
 * The tensor: a dtype, a shape, strides and an offset over a typed array. A view shares the array with what it was made of.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import { type ArrayOf, type BufferDType, DTYPES, type DType, type ElementOf } from './dtype.ts';
import { fromBf16Bits, fromF16Bits, toBf16Bits, toF16Bits } from './half.ts';
import { denseStrides, elementCount, formatShape, normaliseAxis, type Shape } from './shape.ts';
import { decodeStrings, encodeStrings } from './strings.ts';

/** Numbers, or strings, nested as deep as a tensor has dimensions. Booleans count as 0 and 1. */
export type Nested = number | bigint | boolean | string | readonly Nested[];

/** The shape that {@link Tensor.reshape} gives: what was asked for, where it is literal and leaves nothing open. */
export type Reshaped<T extends Shape> = -1 extends T[number] ? Shape : T;

/** What {@link Tensor.slice} takes from one axis: as in NumPy, negative counts from the end, and ends are clamped. */
export interface AxisSlice {
  readonly axis: number;
  readonly start?: number;
  readonly end?: number;
  /** Not 0; negative walks backwards. */
  readonly step?: number;
}

/**
 * An n-dimensional array. The description is frozen; the elements are not. `reshape`, `transpose`, `slice`, `expand`, `squeeze`
 * and `unsqueeze` return views: they share `data`, and what is written to one is seen in the other.
 *
 * @example
 * ```ts
 * const x = Tensor.of('f32', [[1, 2, 3], [4, 5, 6]]);
 * x.transpose().toArray(); // [[1, 4], [2, 5], [3, 6]]
 * ```
 */
export class Tensor<D extends DType = DType, S extends Shape = Shape> {
  readonly dtype: D;
  readonly shape: S;
  /** Distance between neighbours along each axis, in elements. 0 repeats, negative walks backwards. */
  readonly strides: readonly number[];
  /** Where the first element is in `data`, in elements. */
  readonly offset: number;
  /** The elements of this tensor and of every view of the same data. f16 and bf16 are raw bits. */
  readonly data: ArrayOf<D>;
  /** Number of elements. */
  readonly size: number;
  /** How the memory is given back, where this tensor is what holds it. */
  #release: (() => void) | undefined;

  /**
   * Describes `data` without copying it. The static constructors below are shorter where the elements are dense.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when some element would lie outside `data`, or `data` is of another type.
   */
  constructor(
    dtype: D,
    shape: S,
    data: ArrayOf<D>,
    strides: readonly number[] = denseStrides(shape),
    offset: number = 0,
  ) {
    this.dtype = dtype;
    // What is frozen already is nobody's to change: it can be shared.
    this.shape = (Object.isFrozen(shape) ? shape : Object.freeze([...shape])) as Shape as S;
    this.size = elementCount(shape);
    this.strides = Object.isFrozen(strides) ? strides : Object.freeze([...strides]);
    this.offset = offset;
    this.data = data;
    if (!(data instanceof DTYPES[dtype].array)) {
      const expected = DTYPES[dtype].array.name;
      throw new CloisterError('INVALID_ARGUMENT', `a ${dtype} tensor needs a ${expected}, got ${nameOf(data)}`);
    }
    let first = offset;
    let last = offset;
    for (let i = 0; i < shape.length; i++) {
      const reach = (shape[i]! - 1) * (strides[i] ?? Number.NaN);
      if (reach < 0) first += reach;
      else last += reach;
    }
    const inside = strides.length === shape.length && (this.size === 0 || (first >= 0 && last < data.length));
    if (!inside || !Number.isSafeInteger(last)) {
      this.#assertHeld();
      throw new CloisterError(
        'INVALID_ARGUMENT',
        `a tensor of shape ${formatShape(shape)}, strides ${formatShape(strides)} and offset ${offset} does not fit in ${data.length} elements`,
      );
    }
  }

  /**
   * A tensor of zeros. Allocates.
   *
   * @throws {CloisterError} `OUT_OF_MEMORY` over the element limit, before allocating.
   * @example
   * ```ts
   * Tensor.zeros('f32', [2, 2]).toArray(); // [[0, 0], [0, 0]]
   * ```
   */
  static zeros<D extends DType, const S extends Shape>(dtype: D, shape: S): Tensor<D, S> {
    return Tensor.#owned(dtype, shape, newArray(dtype, elementCount(shape)));
  }

  /**
   * A tensor over exactly the elements of `data`, which it shares. f16 and bf16 elements are raw bits.
   *
   * @throws {CloisterError} `SHAPE_MISMATCH` when `shape` does not have as many elements as `data`.
   * @example
   * ```ts
   * Tensor.from('i32', [2, 2], Int32Array.of(1, 2, 3, 4)).toArray(); // [[1, 2], [3, 4]]
   * ```
   */
  static from<D extends DType, const S extends Shape>(dtype: D, shape: S, data: ArrayOf<D>): Tensor<D, S> {
    const size = elementCount(shape);
    if (size !== data.length) {
      const message = `shape ${formatShape(shape)} needs ${size} elements, got ${data.length}`;
      throw new CloisterError('SHAPE_MISMATCH', message, { shape: [...shape], elements: data.length });
    }
    return new Tensor(dtype, shape, data);
  }

  /**
   * A new tensor with the values of nested arrays. Values are converted as a typed array converts them; f16 and bf16 round to
   * nearest.
   *
   * @throws {CloisterError} `SHAPE_MISMATCH` when rows differ in length; `INVALID_ARGUMENT` on anything but numbers.
   * @example
   * ```ts
   * Tensor.of('f32', [[1, 2, 3], [4, 5, 6]]).shape; // [2, 3]
   * ```
   */
  static of<D extends DType>(dtype: D, values: Nested): Tensor<D> {
    const shape: number[] = [];
    for (let level: Nested = values; Array.isArray(level); level = level[0] as Nested) {
      shape.push(level.length);
      if (level.length === 0) break;
    }
    const out = Tensor.zeros(dtype, shape);
    const put = writer(out);
    let at = 0;
    const fill = (level: Nested, depth: number): void => {
      if (!Array.isArray(level)) {
        if (depth !== shape.length) throw ragged(shape);
        put(at++, level as Exclude<Nested, readonly Nested[]>);
        return;
      }
      if (depth >= shape.length || level.length !== shape[depth]) throw ragged(shape);
      for (const item of level) fill(item, depth + 1);
    };
    fill(values, 0);
    return out;
  }

  /**
   * The tensor whose dense little-endian elements are `bytes`. Shares them when they are aligned for the dtype (the caller then
   * does not write them), copies them otherwise. A string is its length in bytes as u32, then its UTF-8.
   *
   * @throws {CloisterError} `SHAPE_MISMATCH` when there are not exactly as many bytes as `shape` needs.
   * @example
   * ```ts
   * Tensor.fromBytes('u16', [2], Uint8Array.of(1, 0, 0, 1)).toArray(); // [1, 256]: little-endian
   * ```
   */
  static fromBytes<D extends DType, const S extends Shape>(dtype: D, shape: S, bytes: Uint8Array): Tensor<D, S> {
    const size = elementCount(shape);
    if (dtype === 'string') return new Tensor(dtype, shape, decodeStrings(bytes, size) as ArrayOf<D>);
    const width = DTYPES[dtype].bytes;
    if (size * width !== bytes.length) {
      const message = `a ${dtype} tensor of shape ${formatShape(shape)} needs ${size * width} bytes, got ${bytes.length}`;
      throw new CloisterError('SHAPE_MISMATCH', message, { shape: [...shape], bytes: bytes.length });
    }
    // Not slice(): a Node Buffer overrides it to return a view.
    const aligned = bytes.byteOffset % width === 0 ? bytes : new Uint8Array(bytes);
    return new Tensor(dtype, shape, viewArray(dtype, aligned.buffer, aligned.byteOffset, size) as ArrayOf<D>);
  }

  /**
   * A tensor over memory that something else provides: part of an `ArrayBuffer` or `SharedArrayBuffer`, a mapped file, the heap of
   * a WebAssembly module. Nothing is copied. The tensor is what holds the memory: `release` runs when it is disposed of.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when the elements do not lie inside `buffer`, at a multiple of their size.
   * @example
   * ```ts
   * const shared = new SharedArrayBuffer(64);
   * {
   *   using x = Tensor.external('f32', [4], shared, { byteOffset: 16, release: () => {} });
   *   x.size; // 4
   * }
   * ```
   */
  static external<D extends BufferDType, const S extends Shape>(
    dtype: D,
    shape: S,
    buffer: ArrayBufferLike,
    options: { readonly byteOffset?: number; readonly release?: () => void } = {},
  ): Tensor<D, S> {
    const { byteOffset = 0, release } = options;
    const size = elementCount(shape);
    const width = DTYPES[dtype].bytes;
    const inside =
      Number.isSafeInteger(byteOffset) && byteOffset >= 0 && byteOffset + size * width <= buffer.byteLength;
    if (!inside || byteOffset % width !== 0) {
      const message = `a ${dtype} tensor of shape ${formatShape(shape)} does not fit at byte ${byteOffset} of ${buffer.byteLength}, a multiple of ${width}`;
      throw new CloisterError('INVALID_ARGUMENT', message);
    }
    const tensor = new Tensor(dtype, shape, viewArray(dtype, buffer, byteOffset, size) as ArrayOf<D>);
    tensor.#release = release;
    return tensor;
  }

  static #owned<D extends DType, S extends Shape>(dtype: D, shape: S, data: ArrayOf<D>): Tensor<D, S> {
    const tensor = new Tensor(dtype, shape, data);
    // Asking a small array for its buffer makes one: not before it is given back.
    if (dtype !== 'string') tensor.#release = () => void (data as Uint8Array<ArrayBuffer>).buffer.transfer(0);
    return tensor;
  }

  /**
   * Gives the memory back at once, where this tensor is what holds it: one that `zeros`, `of`, `clone` or `cast` made, or
   * `external` memory. Every view of it is lost too, and says so when its elements are asked for (`CLOSED`). A view, and a tensor
   * over an array of the caller's, hold nothing: then nothing happens. Without it the garbage collector does the same, later.
   * Harmless twice.
   * @example
   * ```ts
   * {
   *   using big = Tensor.zeros('f32', [1000, 1000]);
   *   big.slice({ axis: 0, end: 2 }).shape; // [2, 1000]
   * } // four megabytes are free again
   * ```
   */
  [Symbol.dispose](): void {
    const release = this.#release;
    this.#release = undefined;
    release?.();
  }

  /** Whether the elements lie dense and in row-major order, from `offset` on. */
  get isContiguous(): boolean {
    let step = 1;
    for (let i = this.shape.length - 1; i >= 0; i--) {
      const dim = this.shape[i]!;
      if (dim === 0) return true;
      if (dim !== 1 && this.strides[i] !== step) return false;
      step *= dim;
    }
    return true;
  }

  /**
   * The same elements in another shape. A view whenever strides can say it, which is always so for a contiguous tensor; a copy
   * otherwise. One dimension may be -1: it takes what is left.
   *
   * @throws {CloisterError} `SHAPE_MISMATCH` when the element counts differ.
   * @example
   * ```ts
   * Tensor.of('i32', [1, 2, 3, 4]).reshape([2, -1]).toArray(); // [[1, 2], [3, 4]]
   * ```
   */
  reshape<const T extends Shape>(shape: T): Tensor<D, Reshaped<T>> {
    const target = [...shape];
    const open = target.indexOf(-1);
    if (open >= 0) {
      const known = target.reduce((product, dim, i) => (i === open ? product : product * dim), 1);
      target[open] = known > 0 && this.size % known === 0 ? this.size / known : 0;
    }
    if (elementCount(target) !== this.size) {
      const message = `reshape: ${formatShape(this.shape)} has ${this.size} elements, ${formatShape(shape)} does not`;
      throw new CloisterError('SHAPE_MISMATCH', message, { from: [...this.shape], to: [...shape] });
    }
    if (this.isContiguous) return this.#reshaped(target, denseStrides(target));
    const strides = regroup(this.shape, this.strides, target);
    if (strides) return this.#reshaped(target, strides);
    return this.clone().#reshaped(target, denseStrides(target));
  }

  #reshaped<T extends Shape>(shape: Shape, strides: readonly number[]): Tensor<D, T> {
    return new Tensor(this.dtype, shape as T, this.data, strides, this.offset);
  }

  /**
   * A view with the axes in another order: axis `i` of the result is axis `order[i]` of this. Reversed without `order`.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when `order` is not a permutation of the axes.
   */
  transpose(order: readonly number[] = this.shape.map((_, i) => this.shape.length - 1 - i)): Tensor<D> {
    const rank = this.shape.length;
    const axes = order.map(axis => normaliseAxis(axis, rank, 'transpose'));
    if (axes.length !== rank || new Set(axes).size !== rank) {
      const message = `transpose: expected a permutation of ${rank} axes, got ${formatShape(order)}`;
      throw new CloisterError('INVALID_ARGUMENT', message);
    }
    return new Tensor(
      this.dtype,
      axes.map(axis => this.shape[axis]!),
      this.data,
      axes.map(axis => this.strides[axis]!),
      this.offset,
    );
  }

  /**
   * A view of part of each named axis.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` on an unknown axis, one named twice, or a step of 0.
   * @example
   * ```ts
   * Tensor.of('i32', [0, 1, 2, 3, 4]).slice({ axis: 0, start: -1, end: 0, step: -2 }).toArray(); // [4, 2]
   * ```
   */
  slice(...axes: readonly AxisSlice[]): Tensor<D> {
    const shape = [...this.shape];
    const strides = [...this.strides];
    let offset = this.offset;
    const seen = new Set<number>();
    for (const cut of axes) {
      const axis = normaliseAxis(cut.axis, shape.length, 'slice');
      if (seen.has(axis)) throw new CloisterError('INVALID_ARGUMENT', `slice: axis ${axis} is named twice`);
      seen.add(axis);
      const { first, length, step } = sliceRange(shape[axis]!, cut.start, cut.end, cut.step);
      if (length > 0) offset += first * strides[axis]!;
      shape[axis] = length;
      strides[axis] = strides[axis]! * step;
    }
    return new Tensor(this.dtype, shape, this.data, strides, offset);
  }

  /**
   * A view in which dimensions of size 1 (and new leading ones) repeat without being copied.
   *
   * @throws {CloisterError} `SHAPE_MISMATCH` when a dimension is neither 1 nor the wanted size.
   */
  expand<const T extends Shape>(shape: T): Tensor<D, T> {
    const lead = shape.length - this.shape.length;
    const strides = shape.map((dim, i) => {
      const own = i < lead ? 1 : this.shape[i - lead]!;
      if (own === dim) return i < lead ? 0 : this.strides[i - lead]!;
      if (own === 1) return 0;
      const message = `expand: ${formatShape(this.shape)} to ${formatShape(shape)}: sizes ${own} and ${dim} differ`;
      throw new CloisterError('SHAPE_MISMATCH', message, { from: [...this.shape], to: [...shape] });
    });
    if (lead < 0) {
      const message = `expand: ${formatShape(this.shape)} has more dimensions than ${formatShape(shape)}`;
      throw new CloisterError('SHAPE_MISMATCH', message, { from: [...this.shape], to: [...shape] });
    }
    return new Tensor(this.dtype, shape, this.data, strides, this.offset);
  }

  /**
   * A view without the named axes, or without every axis of size 1.
   *
   * @throws {CloisterError} `SHAPE_MISMATCH` when a named axis is not of size 1.
   */
  squeeze(axes?: readonly number[]): Tensor<D> {
    const rank = this.shape.length;
    const drop = new Set(axes?.map(axis => normaliseAxis(axis, rank, 'squeeze')));
    const keep: number[] = [];
    for (let i = 0; i < rank; i++) {
      if (axes ? !drop.has(i) : this.shape[i] !== 1) keep.push(i);
      else if (this.shape[i] !== 1) {
        const message = `squeeze: axis ${i} of ${formatShape(this.shape)} is ${this.shape[i]}, not 1`;
        throw new CloisterError('SHAPE_MISMATCH', message, { shape: [...this.shape], axis: i });
      }
    }
    return this.#view(
      keep.map(i => this.shape[i]!),
      keep.map(i => this.strides[i]!),
    );
  }

  /** A view with axes of size 1 put in, at these positions of the result. */
  unsqueeze(axes: readonly number[]): Tensor<D> {
    const rank = this.shape.length + axes.length;
    const put = new Set(axes.map(axis => normaliseAxis(axis, rank, 'unsqueeze')));
    if (put.size !== axes.length) {
      throw new CloisterError('INVALID_ARGUMENT', `unsqueeze: expected distinct axes, got ${formatShape(axes)}`);
    }
    const shape: number[] = [];
    const strides: number[] = [];
    let from = 0;
    for (let i = 0; i < rank; i++) {
      shape.push(put.has(i) ? 1 : this.shape[from]!);
      strides.push(put.has(i) ? 0 : this.strides[from++]!);
    }
    return this.#view(shape, strides);
  }

  /** This tensor if it is contiguous, else a dense copy. */
  contiguous(): Tensor<D, S> {
    return this.isContiguous ? this : this.clone();
  }

  /** A dense copy. */
  clone(): Tensor<D, S> {
    this.#assertHeld();
    const out = newArray(this.dtype, this.size);
    const { data } = this;
    if (this.isContiguous && !Array.isArray(data)) (out as Uint8Array).set(this.elements() as Uint8Array);
    else copyStrided(this.shape, data as ArrayLike<number>, this.offset, this.strides, out as Record<number, number>);
    return Tensor.#owned(this.dtype, this.shape, out);
  }

  /** The elements in row-major order: a view of `data` when contiguous, a copy otherwise. f16 and bf16 are raw bits. */
  elements(): ArrayOf<D> {
    const { data, offset, size } = this.contiguous();
    this.#assertHeld();
    if (offset === 0 && data.length === size) return data;
    if (Array.isArray(data)) return data.slice(offset, offset + size) as ArrayOf<D>;
    return data.subarray(offset, offset + size) as ArrayOf<D>;
  }

  /** The buffer under the elements, which views share; undefined for strings, which lie in none. */
  get buffer(): ArrayBufferLike | undefined {
    const data: ArrayOf<DType> = this.data;
    return Array.isArray(data) ? undefined : data.buffer;
  }

  /** The elements as dense little-endian bytes: a view of `data` when contiguous, a copy otherwise. Strings as {@link Tensor.fromBytes} reads them. */
  bytes(): Uint8Array {
    const dense: ArrayOf<DType> = this.elements();
    return Array.isArray(dense)
      ? encodeStrings(dense)
      : new Uint8Array(dense.buffer, dense.byteOffset, dense.byteLength);
  }

  /** {@link Tensor.bytes}, as a copy that the caller owns. */
  toBytes(): Uint8Array {
    const bytes = this.bytes();
    return this.dtype === 'string' ? bytes : bytes.slice();
  }

  /** The values as nested arrays: bigint for the 64-bit integers, strings, numbers otherwise; f16 and bf16 are decoded. */
  toArray(): Nested {
    const values = this.values();
    let at = 0;
    const build = (depth: number): Nested => {
      if (depth === this.shape.length) return values[at++]!;
      return Array.from({ length: this.shape[depth]! }, () => build(depth + 1));
    };
    return build(0);
  }

  /** The values in row-major order, in a plain array: bigint for the 64-bit integers, strings; f16 and bf16 are decoded. */
  values(): ElementOf<D>[] {
    const decode = decoderOf(this.dtype);
    const dense = this.elements();
    if (decode) return Array.from(dense as Uint16Array, decode) as ElementOf<D>[];
    return Array.from(dense as ArrayLike<number>) as ElementOf<D>[];
  }

  /**
   * A copy in another dtype. Floats become integers by truncation towards zero and then modulo 2^bits (NaN and infinities
   * become 0), bool is `value != 0`, f16 and bf16 round to nearest.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` between text and numbers: how a number is spelt is not a matter of its type.
   */
  cast<E extends DType>(dtype: E): Tensor<E, S> {
    const out = Tensor.zeros(dtype, this.shape);
    const put = writer(out);
    // Not by values(): a list of numbers takes four times what halves do, out of the heap.
    const decode = decoderOf(this.dtype);
    const dense = this.elements() as unknown as ArrayLike<ElementOf<D>>;
    for (let i = 0; i < dense.length; i++) put(i, decode ? decode(dense[i] as number) : dense[i]!);
    return out;
  }

  #assertHeld(): void {
    const { buffer } = this;
    if (buffer instanceof ArrayBuffer && buffer.detached) {
      throw new CloisterError('CLOSED', 'the memory of this tensor was given back');
    }
  }

  #view(shape: Shape, strides: readonly number[]): Tensor<D> {
    return new Tensor(this.dtype, shape, this.data, strides, this.offset);
  }
}

/** How the bits of a half are read. */
function decoderOf(dtype: DType): ((bits: number) => number) | undefined {
  return dtype === 'f16' ? fromF16Bits : dtype === 'bf16' ? fromBf16Bits : undefined;
}

/**
 * A zeroed typed array for `length` elements of `dtype`; empty strings for `string`.
 *
 * @throws {CloisterError} `OUT_OF_MEMORY` when the runtime has no room for it.
 */
export function newArray<D extends DType>(dtype: D, length: number): ArrayOf<D> {
  try {
    const array = new DTYPES[dtype].array(length) as ArrayOf<D>;
    return dtype === 'string' ? ((array as string[]).fill('') as ArrayOf<D>) : array;
  } catch (cause) {
    const bytes = length * DTYPES[dtype].bytes;
    throw new CloisterError('OUT_OF_MEMORY', `no room for ${length} elements of ${dtype}`, { bytes }, { cause });
  }
}

/**
 * What {@link AxisSlice} selects of an axis of `size`: the first index, how many, and the step between them.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when `step` is 0 or not an integer.
 */
export function sliceRange(
  size: number,
  start: number | undefined,
  end: number | undefined,
  step: number = 1,
): { readonly first: number; readonly length: number; readonly step: number } {
  if (!Number.isInteger(step) || step === 0) {
    throw new CloisterError('INVALID_ARGUMENT', `slice: expected a step that is an integer other than 0, got ${step}`);
  }
  const from = (index: number): number => (index < 0 ? index + size : index);
  if (step > 0) {
    const first = Math.min(Math.max(from(start ?? 0), 0), size);
    const last = Math.min(Math.max(from(end ?? size), 0), size);
    return { first, length: Math.max(0, Math.ceil((last - first) / step)), step };
  }
  const first = Math.min(Math.max(from(start ?? size - 1), -1), size - 1);
  const last = Math.min(Math.max(end === undefined ? -1 : from(end), -1), size - 1);
  return { first, length: Math.max(0, Math.ceil((last - first) / step)), step };
}

/** Copies elements that lie at `strides` into dense row-major `out`. */
function copyStrided(
  shape: Shape,
  data: ArrayLike<number | bigint>,
  offset: number,
  strides: readonly number[],
  out: Record<number, number | bigint>,
): void {
  if (shape.includes(0)) return;
  const rank = shape.length;
  const inner = rank > 0 ? shape[rank - 1]! : 1;
  const step = rank > 0 ? strides[rank - 1]! : 0;
  const index = new Array<number>(rank).fill(0);
  let from = offset;
  let at = 0;
  for (;;) {
    for (let i = 0, p = from; i < inner; i++, p += step) out[at++] = data[p]!;
    let axis = rank - 2;
    for (; axis >= 0; axis--) {
      from += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      from -= shape[axis]! * strides[axis]!;
      index[axis] = 0;
    }
    if (axis < 0) return;
  }
}

/** The strides by which `target` can view elements that lie at `strides`, or undefined where no strides can. */
function regroup(shape: Shape, strides: readonly number[], target: Shape): readonly number[] | undefined {
  const axes = shape.map((dim, i) => ({ dim, stride: strides[i]! })).filter(axis => axis.dim !== 1);
  const out = new Array<number>(target.length).fill(0);
  let a = 0;
  let t = 0;
  while (a < axes.length) {
    // The smallest runs of source and target axes that hold equally many elements.
    let have = axes[a]!.dim;
    let aEnd = a + 1;
    while (t < target.length && target[t] === 1) t++;
    if (t >= target.length) return undefined;
    let want = target[t]!;
    let tEnd = t + 1;
    while (have !== want) {
      if (have < want) {
        if (aEnd >= axes.length) return undefined;
        have *= axes[aEnd++]!.dim;
      } else {
        if (tEnd >= target.length) return undefined;
        want *= target[tEnd++]!;
      }
    }
    // A run of source axes can be cut anew only if it is dense in itself.
    for (let i = a; i + 1 < aEnd; i++) {
      if (axes[i]!.stride !== axes[i + 1]!.stride * axes[i + 1]!.dim) return undefined;
    }
    let step = axes[aEnd - 1]!.stride;
    for (let i = tEnd - 1; i >= t; i--) {
      out[i] = step;
      step *= target[i]!;
    }
    a = aEnd;
    t = tEnd;
  }
  return out;
}

/** Stores a JavaScript value at a position of a fresh dense tensor, converting as {@link Tensor.cast} says. */
function writer(out: Tensor): (at: number, value: number | bigint | boolean | string) => void {
  const number = (value: number | bigint | boolean | string): number => {
    if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') return Number(value);
    throw new CloisterError('INVALID_ARGUMENT', `a tensor holds numbers, got ${nameOf(value)}`);
  };
  const data = out.data as Record<number, number | bigint | string>;
  switch (out.dtype) {
    case 'string':
      return (at, value) => {
        if (typeof value !== 'string') {
          throw new CloisterError('INVALID_ARGUMENT', `a tensor of strings holds strings, got ${nameOf(value)}`);
        }
        data[at] = value;
      };
    case 'f16':
      return (at, value) => {
        data[at] = toF16Bits(number(value));
      };
    case 'bf16':
      return (at, value) => {
        data[at] = toBf16Bits(number(value));
      };
    case 'bool':
      return (at, value) => {
        data[at] = number(value) === 0 ? 0 : 1;
      };
    case 'i64':
    case 'u64':
      return (at, value) => {
        data[at] = typeof value === 'bigint' ? value : wholeBigInt(number(value));
      };
    default:
      // A bigint is cut to 32 bits first, so that it wraps as an integer does, not as a double rounds.
      return DTYPES[out.dtype].kind === 'int'
        ? (at, value) => {
            data[at] = typeof value === 'bigint' ? Number(BigInt.asUintN(32, value)) : number(value);
          }
        : (at, value) => {
            data[at] = number(value);
          };
  }
}

function wholeBigInt(value: number): bigint {
  return Number.isFinite(value) ? BigInt(Math.trunc(value)) : 0n;
}

function viewArray(dtype: BufferDType, buffer: ArrayBufferLike, at: number, length: number): ArrayOf<BufferDType> {
  const View = DTYPES[dtype].array as unknown as new (
    buffer: ArrayBufferLike,
    at: number,
    length: number,
  ) => ArrayOf<BufferDType>;
  return new View(buffer, at, length);
}

function ragged(shape: Shape): CloisterError {
  return new CloisterError('SHAPE_MISMATCH', `expected nested arrays of shape ${formatShape(shape)}, got ragged ones`);
}

function nameOf(value: unknown): string {
  return typeof value === 'object' && value !== null ? (value.constructor?.name ?? 'object') : typeof value;
}
