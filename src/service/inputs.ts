/**
 * What callers pass in as model inputs, and how it becomes tensors of the model's own types.
 * @module
 */
import { bindInputs } from '../../sandbox/binding.ts';
import type { ValueSummary } from '../../sandbox/index.ts';
import { CloisterError } from '../base/index.ts';
import type { NamedTensors } from '../engine/index.ts';
// Not the index of the room, which brings every operator along: the service starts in a fraction of the time.
import { parseNpy } from '../formats/npy.ts';
import { parseNpz } from '../formats/npz.ts';
import { parseTensorProto } from '../formats/onnx/tensor.ts';
import { bytesSource } from '../formats/source.ts';
import type { Dim } from '../graph/index.ts';
import { DTYPES, type DType, elementCount, type Nested, Tensor } from '../tensor/index.ts';

/**
 * One input. A {@link Tensor} must have the model's dtype and shape. A typed array of the dtype's kind, or a `Uint8Array` of
 * raw little-endian elements, takes the model's shape; at most one symbolic dimension is then found from its length. Nested
 * arrays are converted, and bring their own shape.
 */
export type InputValue = Tensor | ArrayBufferView | Nested;

/** Inputs by name. */
export type InputValues = Readonly<Record<string, InputValue>>;

/**
 * Returns `values` as tensors of exactly the types that the model asks for. Tensors and aligned arrays are shared, not copied.
 *
 * @throws {CloisterError} `INPUT_MISMATCH` on a missing or unknown name; `DTYPE_MISMATCH`; `SHAPE_MISMATCH`;
 *   `INVALID_ARGUMENT` on a value of no accepted form. Messages hold names, shapes and dtypes, never elements.
 */
export function decodeInputs(values: InputValues, specs: readonly ValueSummary[]): NamedTensors {
  if (typeof values !== 'object' || values === null || values instanceof Tensor || ArrayBuffer.isView(values)) {
    const came = values === null ? 'null' : ((values as object)?.constructor?.name ?? typeof values);
    throw new CloisterError('INPUT_MISMATCH', `expected a record of inputs by name, got ${came}`);
  }
  const byName = new Map(specs.map(spec => [spec.name, spec]));
  const tensors = Object.fromEntries(
    Object.entries(values).map(([name, value]) => {
      const spec = byName.get(name);
      return [name, spec ? decodeInput(spec, value) : (value as Tensor)]; // bindInputs names the unknown ones
    }),
  );
  bindInputs(specs, tensors);
  return tensors;
}

function decodeInput({ name, dtype, shape }: ValueSummary, value: InputValue): Tensor {
  if (value instanceof Tensor) return value;
  if (dtype === 'string' && ArrayBuffer.isView(value)) {
    const message = `input ${name}: expected strings, as nested arrays or a Tensor, got ${(value as object).constructor.name}`;
    throw new CloisterError('DTYPE_MISMATCH', message, { name, dtype });
  }
  if (value instanceof Uint8Array) {
    return Tensor.fromBytes(dtype, bindShape(name, shape, value.length / DTYPES[dtype].bytes), value);
  }
  if (ArrayBuffer.isView(value)) {
    const array = DTYPES[dtype].array;
    if (!(value instanceof array)) {
      const came = (value as object).constructor.name;
      throw new CloisterError('DTYPE_MISMATCH', `input ${name}: expected ${array.name} for ${dtype}, got ${came}`, {
        name,
        dtype,
      });
    }
    return Tensor.from(dtype as DType, bindShape(name, shape, value.length), value as never);
  }
  try {
    return Tensor.of(dtype, value);
  } catch (cause) {
    // The cause may quote elements; only its code and the name leave here.
    const code = cause instanceof CloisterError ? cause.code : 'INVALID_ARGUMENT';
    throw new CloisterError(
      code,
      `input ${name}: expected nested arrays of ${dtype === 'string' ? 'strings' : 'numbers'} with rows of equal length, for ${dtype}[${shape.join(',')}]`,
      {
        name,
      },
    );
  }
}

/** The model's shape with its one symbolic dimension, if any, found from the number of elements. */
function bindShape(name: string, shape: readonly Dim[], elements: number): readonly number[] {
  const open = shape.filter(dim => typeof dim === 'string');
  if (open.length > 1) {
    const message = `input ${name}: the model's shape [${shape.join(',')}] has ${open.length} open dimensions; pass a Tensor, whose shape is explicit`;
    throw new CloisterError('SHAPE_MISMATCH', message, { name, shape });
  }
  const known = elementCount(shape.filter(dim => typeof dim === 'number'));
  const size = elements / known;
  if (!Number.isInteger(size) || (open.length === 0 && size !== 1)) {
    const message = `input ${name}: expected [${shape.join(',')}], got ${elements} elements`;
    throw new CloisterError('SHAPE_MISMATCH', message, { name, shape, elements });
  }
  return shape.map(dim => (typeof dim === 'number' ? dim : size));
}

/**
 * Returns the tensor in a file of one ONNX TensorProto, as the ONNX test data come.
 *
 * @throws {CloisterError} `INVALID_MODEL`, `UNSUPPORTED_MODEL`, `MODEL_TOO_LARGE`.
 * @example
 * ```ts
 * const bytes = writeTensorProto('x', Tensor.of('f32', [[1, 2]]));
 * decodeTensorProto(bytes).toArray(); // [[1, 2]]
 * ```
 */
export function decodeTensorProto(bytes: Uint8Array): Tensor {
  return parseTensorProto(bytesSource(bytes)).tensor;
}

/**
 * Returns the array in an `.npy` file of NumPy.
 *
 * @throws {CloisterError} `INVALID_MODEL`, `UNSUPPORTED_MODEL` (also for pickled objects, which are programs), `MODEL_TOO_LARGE`.
 * @example
 * ```ts
 * decodeNpy(writeNpy(Tensor.of('f32', [[1, 2]]))).toArray(); // [[1, 2]]
 * ```
 */
export function decodeNpy(bytes: Uint8Array): Tensor {
  return parseNpy(bytes);
}

/**
 * Returns the arrays in an `.npz` file of NumPy, by name. What they unpack to is bounded by 1 GiB before anything is unpacked.
 *
 * @throws {CloisterError} as {@link decodeNpy}.
 * @example
 * ```ts
 * decodeNpz(writeNpz({ x: Tensor.of('f32', [1, 2]) })).get('x')?.shape; // [2]
 * ```
 */
export function decodeNpz(bytes: Uint8Array): ReadonlyMap<string, Tensor> {
  return parseNpz(bytes, { bytes: 2 ** 30 });
}
