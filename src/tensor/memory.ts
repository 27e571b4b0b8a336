/**
 * Memory types: what other libraries hold their tensors in, and how to come from there and go there. One table, one row per type;
 * nothing of those libraries is imported.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import { type ArrayOf, type BufferDType, DTYPES, type DType } from './dtype.ts';
import { elementCount, formatShape, type Shape } from './shape.ts';
import { type Nested, Tensor } from './tensor.ts';

/** What {@link toTensor} may be told, where the value does not say it. */
export interface MemoryHint {
  readonly dtype?: DType;
  readonly shape?: Shape;
}

/** One row: a type of memory. */
export interface MemoryType {
  /** How {@link fromTensor} is asked for it. */
  readonly name: string;
  /** Whether a value is of this type, by its form alone. */
  readonly recognises: (value: unknown) => boolean;
  /** The library's name of each dtype that it has. */
  readonly dtypes: Readonly<Partial<Record<DType, string>>>;
  /** `view`: the tensor shares the value's memory. `copy`: it does not. Some types share only some dtypes. */
  readonly read: (dtype: DType) => 'view' | 'copy';
  /** The same of {@link fromTensor}, for a contiguous tensor. */
  readonly write: (dtype: DType) => 'view' | 'copy';
  readonly toTensor: (value: never, hint: MemoryHint) => Tensor;
  /** Makes a value. `library` is the module that has the constructor, for types of a library. */
  readonly fromTensor: (tensor: Tensor, library: never) => unknown;
  /** How a value that {@link fromTensor} made is given back; what is not listed, the garbage collector takes. */
  readonly free: (value: never) => void;
}

const ARRAYS: readonly (readonly [{ readonly name: string }, DType])[] = [
  [Float32Array, 'f32'],
  [Float64Array, 'f64'],
  [Int8Array, 'i8'],
  [Uint8Array, 'u8'],
  [Uint8ClampedArray, 'u8'],
  [Int16Array, 'i16'],
  [Uint16Array, 'u16'],
  [Int32Array, 'i32'],
  [Uint32Array, 'u32'],
  [BigInt64Array, 'i64'],
  [BigUint64Array, 'u64'],
];

type AnyTyped = ArrayOf<BufferDType>;

/** The dtype that a typed array says by itself. Its name is asked, so that arrays of another realm count. */
function dtypeOf(value: object): DType | undefined {
  const name = Object.prototype.toString.call(value).slice(8, -1);
  return ARRAYS.find(([array]) => array.name === name)?.[1];
}

const isTyped = (value: unknown): value is AnyTyped => ArrayBuffer.isView(value) && dtypeOf(value) !== undefined;
const isHalf = (value: unknown): boolean =>
  ArrayBuffer.isView(value) && Object.prototype.toString.call(value) === '[object Float16Array]';
const isBuffer = (value: unknown): boolean =>
  value instanceof Uint8Array && value.constructor !== Uint8Array && value.constructor.name === 'Buffer';
const record = (value: unknown): Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : {};
const nothing = (): void => {};
const itself = Object.fromEntries(Object.keys(DTYPES).map(dtype => [dtype, dtype])) as Record<DType, string>;
const without = (...names: readonly DType[]): Readonly<Partial<Record<DType, string>>> =>
  Object.fromEntries(Object.entries(itself).filter(([dtype]) => !names.includes(dtype as DType)));

/** A tensor over `data`, which holds the elements of `dtype` in order. */
function over(dtype: DType, shape: Shape, data: ArrayBufferView): Tensor {
  const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
  return Tensor.fromBytes(dtype, shape, bytes);
}

/** The members that an onnxruntime tensor and its constructor have. */
interface OrtTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: AnyTyped | readonly string[];
  dispose?(): void;
}

interface TfTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  dataSync(): AnyTyped | readonly string[];
  dispose(): void;
}

interface ArrowVector {
  readonly length: number;
  readonly nullCount: number;
  toArray(): AnyTyped | readonly unknown[];
}

/** The dtype that `names` gives for a library's name. */
function named(type: string, names: MemoryType['dtypes'], library: string): DType {
  const found = Object.entries(names).find(([, name]) => name === type)?.[0];
  if (found) return found as DType;
  throw new CloisterError('DTYPE_MISMATCH', `${library} ${JSON.stringify(type.slice(0, 40))} has no dtype here`);
}

const ORT_NAMES: MemoryType['dtypes'] = {
  f32: 'float32',
  f64: 'float64',
  f16: 'float16',
  i8: 'int8',
  u8: 'uint8',
  i16: 'int16',
  u16: 'uint16',
  i32: 'int32',
  u32: 'uint32',
  i64: 'int64',
  u64: 'uint64',
  bool: 'bool',
  string: 'string',
};
const TF_NAMES: MemoryType['dtypes'] = { f32: 'float32', i32: 'int32', bool: 'bool', string: 'string' };

/**
 * Every type of memory that tensors come from and go to. The first row that recognises a value reads it.
 *
 * | name | a value | elements |
 * |---|---|---|
 * | `tensor` | a {@link Tensor} | itself |
 * | `onnxruntime` | `Tensor` of onnxruntime-common | shared in, shared out |
 * | `tfjs` | `Tensor` of TensorFlow.js | copied: the library owns its memory |
 * | `arrow` | `Vector` of Apache Arrow: one column, without nulls | shared where the column is one chunk |
 * | `float16` | `Float16Array` | shared |
 * | `buffer` | Node's `Buffer`: raw little-endian bytes of the dtype that is asked for | shared where aligned |
 * | `typed` | a typed array | shared |
 * | `nested` | arrays in arrays | copied |
 */
export const MEMORY_TYPES: readonly MemoryType[] = Object.freeze([
  {
    name: 'tensor',
    recognises: value => value instanceof Tensor,
    dtypes: itself,
    read: () => 'view',
    write: () => 'view',
    toTensor: (value: Tensor) => value,
    fromTensor: tensor => tensor,
    free: nothing,
  },
  {
    name: 'onnxruntime',
    recognises: value => {
      const { type, dims, data } = record(value);
      return typeof type === 'string' && Array.isArray(dims) && (isTyped(data) || isHalf(data) || Array.isArray(data));
    },
    dtypes: ORT_NAMES,
    read: dtype => (dtype === 'string' ? 'copy' : 'view'),
    write: dtype => (dtype === 'string' ? 'copy' : 'view'),
    toTensor: ({ type, dims, data }: OrtTensor) => {
      const dtype = named(type, ORT_NAMES, 'onnxruntime');
      if (dtype === 'string') return Tensor.of('string', data as readonly string[]).reshape(dims);
      return over(dtype, dims, data as AnyTyped);
    },
    fromTensor: (
      tensor,
      ort: { readonly Tensor: new (type: string, data: unknown, dims: readonly number[]) => unknown },
    ) => {
      const { dtype } = tensor;
      const data = dtype === 'string' ? tensor.values() : tensor.elements();
      return new ort.Tensor(ORT_NAMES[dtype]!, data, [...tensor.shape]);
    },
    free: (value: OrtTensor) => value.dispose?.(),
  },
  {
    name: 'tfjs',
    recognises: value => {
      const { dtype, shape, dataSync, dispose } = record(value);
      return (
        typeof dtype === 'string' &&
        Array.isArray(shape) &&
        typeof dataSync === 'function' &&
        typeof dispose === 'function'
      );
    },
    dtypes: TF_NAMES,
    read: () => 'copy',
    write: () => 'copy',
    toTensor: (value: TfTensor) => {
      const dtype = named(value.dtype, TF_NAMES, 'tfjs');
      const data = value.dataSync();
      if (dtype === 'string') return Tensor.of('string', data as readonly string[]).reshape(value.shape);
      return over(dtype, value.shape, data as AnyTyped).clone();
    },
    fromTensor: (tensor, tf: { tensor(data: unknown, shape: readonly number[], dtype: string): unknown }) => {
      const data = tensor.dtype === 'string' ? tensor.values() : tensor.elements().slice();
      return tf.tensor(data, [...tensor.shape], TF_NAMES[tensor.dtype]!);
    },
    free: (value: TfTensor) => value.dispose(),
  },
  {
    name: 'arrow',
    recognises: value => {
      const { length, nullCount, toArray, type } = record(value);
      return (
        typeof length === 'number' &&
        typeof nullCount === 'number' &&
        typeof toArray === 'function' &&
        type !== undefined
      );
    },
    dtypes: without('f16', 'bf16', 'bool', 'string'),
    read: () => 'view',
    write: () => 'view',
    toTensor: (value: ArrowVector, { shape = [value.length] }) => {
      if (value.nullCount > 0) {
        throw new CloisterError('INVALID_ARGUMENT', `an Arrow column with ${value.nullCount} nulls: a tensor has none`);
      }
      const data = value.toArray();
      const dtype = isTyped(data) ? dtypeOf(data) : undefined;
      if (!dtype) throw new CloisterError('DTYPE_MISMATCH', 'an Arrow column of this type has no dtype here');
      return over(dtype, shape, data as AnyTyped);
    },
    fromTensor: (tensor, arrow: { makeVector(data: unknown): unknown }) => {
      if (tensor.shape.length !== 1) {
        const message = `an Arrow column is one-dimensional, got ${formatShape(tensor.shape)}`;
        throw new CloisterError('SHAPE_MISMATCH', message, { shape: [...tensor.shape] });
      }
      return arrow.makeVector(tensor.elements());
    },
    free: nothing,
  },
  {
    name: 'float16',
    recognises: isHalf,
    dtypes: { f16: 'float16' },
    read: () => 'view',
    write: () => 'view',
    toTensor: (value: Uint16Array, { shape = [value.length] }) => over('f16', shape, value),
    fromTensor: tensor => {
      const { Float16Array } = globalThis as unknown as {
        readonly Float16Array?: new (buffer: ArrayBufferLike, offset: number, length: number) => unknown;
      };
      if (!Float16Array)
        throw new CloisterError('UNSUPPORTED_MODEL', 'this runtime has no Float16Array: take `typed`, raw bits');
      const bits = tensor.elements() as Uint16Array;
      return new Float16Array(bits.buffer, bits.byteOffset, bits.length);
    },
    free: nothing,
  },
  {
    name: 'buffer',
    recognises: isBuffer,
    dtypes: without('string'),
    read: () => 'view',
    write: () => 'view',
    toTensor: (value: Uint8Array, { dtype = 'u8', shape }) => {
      const width = DTYPES[dtype].bytes;
      return over(dtype, shape ?? [Math.floor(value.length / width)], value);
    },
    fromTensor: (
      tensor,
      node: { readonly Buffer: { from(buffer: ArrayBufferLike, at: number, length: number): unknown } },
    ) => {
      const bytes = tensor.bytes();
      return node.Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    },
    free: nothing,
  },
  {
    name: 'typed',
    recognises: isTyped,
    dtypes: without('string'),
    read: () => 'view',
    write: () => 'view',
    toTensor: (value: AnyTyped, { dtype, shape = [value.length] }) => {
      const own = dtypeOf(value)!;
      // f16, bf16 and bool have no array of their own: the bits lie in one of another type, if the caller says so.
      const stored = dtype !== undefined && dtype !== own && DTYPES[dtype].array.name === DTYPES[own].array.name;
      if (dtype !== undefined && dtype !== own && !stored) {
        throw new CloisterError('DTYPE_MISMATCH', `a ${value.constructor.name} holds ${own}, not ${dtype}`);
      }
      return over(dtype ?? own, shape, value);
    },
    fromTensor: tensor => tensor.elements(),
    free: nothing,
  },
  {
    name: 'nested',
    recognises: value =>
      Array.isArray(value) ||
      typeof value === 'number' ||
      typeof value === 'bigint' ||
      typeof value === 'boolean' ||
      typeof value === 'string',
    dtypes: itself,
    read: () => 'copy',
    write: () => 'copy',
    toTensor: (value: Nested, { dtype, shape }) => {
      const tensor = Tensor.of(dtype ?? guess(value), value);
      return shape ? tensor.reshape(shape) : tensor;
    },
    fromTensor: tensor => tensor.toArray(),
    free: nothing,
  },
] satisfies readonly MemoryType[]) as readonly MemoryType[];

/** The dtype of the first leaf: numbers are f32, as most models want them. */
function guess(value: Nested): DType {
  let leaf: unknown = value;
  while (Array.isArray(leaf)) leaf = leaf[0];
  if (typeof leaf === 'bigint') return 'i64';
  if (typeof leaf === 'boolean') return 'bool';
  return typeof leaf === 'string' ? 'string' : 'f32';
}

/**
 * Returns `value` as a tensor: any type of {@link MEMORY_TYPES}. Shares its memory where the table says `view`; the caller then
 * keeps the value alive and unchanged as long as the tensor is used.
 *
 * @param hint - `dtype` and `shape` where the value does not say them: bytes, flat arrays, columns.
 * @throws {CloisterError} `INVALID_ARGUMENT` on a value of no known type; `DTYPE_MISMATCH`; `SHAPE_MISMATCH`.
 * @example
 * ```ts
 * toTensor(new Float32Array([1, 2, 3, 4]), { shape: [2, 2] }).toArray(); // [[1, 2], [3, 4]]
 * ```
 */
export function toTensor(value: unknown, hint: MemoryHint = {}): Tensor {
  const type = MEMORY_TYPES.find(row => row.recognises(value));
  if (!type) {
    const came = value === null ? 'null' : ((value as object)?.constructor?.name ?? typeof value);
    const names = MEMORY_TYPES.map(({ name }) => name).join(', ');
    throw new CloisterError('INVALID_ARGUMENT', `a ${came} is no memory of a known type (${names})`);
  }
  if (hint.shape) elementCount(hint.shape);
  const tensor = type.toTensor(value as never, hint);
  const wrongType = hint.dtype !== undefined && hint.dtype !== tensor.dtype;
  if (wrongType)
    throw new CloisterError('DTYPE_MISMATCH', `expected ${hint.dtype}, got ${type.name} of ${tensor.dtype}`);
  if (
    hint.shape &&
    (hint.shape.length !== tensor.shape.length || hint.shape.some((dim, i) => dim !== tensor.shape[i]))
  ) {
    const message = `expected ${formatShape(hint.shape)}, got ${type.name} of ${formatShape(tensor.shape)}`;
    throw new CloisterError('SHAPE_MISMATCH', message, { expected: [...hint.shape], came: [...tensor.shape] });
  }
  return tensor;
}

/**
 * Returns `tensor` as a value of the type `name`. Shares the memory of a contiguous tensor where the table says `view`.
 *
 * @param library - The module of the library, for `onnxruntime`, `tfjs`, `arrow`, and `node:buffer` for `buffer`.
 * @throws {CloisterError} `INVALID_ARGUMENT` on an unknown name or without the library; `DTYPE_MISMATCH` where the library has no
 *   such dtype.
 * @example
 * ```ts
 * fromTensor(Tensor.of('i32', [[1, 2], [3, 4]]), 'typed'); // Int32Array.of(1, 2, 3, 4)
 * ```
 */
export function fromTensor(tensor: Tensor, name: string, library?: object): unknown {
  const type = MEMORY_TYPES.find(row => row.name === name);
  if (!type) {
    const names = MEMORY_TYPES.map(row => row.name).join(', ');
    throw new CloisterError('INVALID_ARGUMENT', `no memory is called ${JSON.stringify(name.slice(0, 40))}: ${names}`);
  }
  if (!type.dtypes[tensor.dtype]) throw new CloisterError('DTYPE_MISMATCH', `${name} has no ${tensor.dtype}`);
  if (type.fromTensor.length > 1 && !library) {
    throw new CloisterError('INVALID_ARGUMENT', `${name}: pass the module of the library, which has the constructor`);
  }
  return type.fromTensor(tensor, library as never);
}
