/**
 * Tensors across a border: descriptions as JSON, elements as one payload.
 *
 * The payload is the tensors in the order of their descriptions, each dense, row-major and little-endian, each starting at a
 * multiple of 64 bytes; the gaps are zeros, and nothing follows the last element.
 * @module
 */
import { isCloisterError } from '../src/base/index.ts';
import type { NamedTensors } from '../src/engine/index.ts';
import { DTYPES, type DType, Tensor } from '../src/tensor/index.ts';
import { isRecord, isSafeName, refuseGuest } from './untrusted.ts';

const ALIGN = 64;
const MAX_TENSORS = 4_096;
const MAX_RANK = 16;
const PADDING = new Uint8Array(ALIGN);

/** The description of one tensor. */
export interface TensorHead {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** How many bytes the elements take, where dtype and shape do not say it: for strings. */
  readonly bytes?: number;
}

/** Tensors ready to cross. `parts` view the tensors where these are contiguous. */
export interface PackedTensors {
  readonly heads: readonly TensorHead[];
  readonly parts: readonly Uint8Array[];
  readonly bytes: number;
}

/** Describes `tensors` and lines up their bytes. Copies only what is not contiguous, or is shared with another thread. */
export function packTensors(tensors: NamedTensors): PackedTensors {
  const heads: TensorHead[] = [];
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for (const name of Object.keys(tensors)) {
    const tensor = tensors[name]!;
    // Shared memory could be changed by another thread between two looks at it.
    const own = tensor.buffer === undefined || tensor.buffer instanceof ArrayBuffer ? tensor : tensor.clone();
    const elements = own.bytes();
    const { dtype, shape } = tensor;
    heads.push({ name, dtype, shape, ...(dtype === 'string' ? { bytes: elements.length } : {}) });
    const gap = padding(bytes);
    if (gap > 0) parts.push(PADDING.subarray(0, gap));
    parts.push(elements);
    bytes += gap + elements.length;
  }
  return { heads, parts, bytes };
}

/** The payload of {@link packTensors} in one new buffer. */
export function joinParts({ parts, bytes }: PackedTensors): Uint8Array<ArrayBuffer> {
  return joinBytes(parts, bytes);
}

/** `parts`, one behind another, in one new buffer. */
export function joinBytes(
  parts: readonly Uint8Array[],
  bytes: number = parts.reduce((sum, part) => sum + part.length, 0),
): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/**
 * The tensors that `heads` describe, as views of `payload`. The sender is not trusted: every name, dtype, shape and length is
 * checked, and no byte may be left over.
 *
 * @throws {CloisterError} `GUEST_FAILED` when they do not fit together.
 */
export function unpackTensors(heads: unknown, payload: Uint8Array): NamedTensors {
  if (!Array.isArray(heads) || heads.length > MAX_TENSORS) throw refuseGuest('tensors', 'a list of tensors', heads);
  const tensors: Record<string, Tensor> = Object.create(null);
  let at = 0;
  for (const head of heads as unknown[]) {
    if (!isRecord(head)) throw refuseGuest('tensors', 'a description', head);
    const { name, dtype, shape } = head;
    if (!isSafeName(name) || name in tensors) throw refuseGuest('tensors', 'a new name', name);
    if (typeof dtype !== 'string' || !Object.hasOwn(DTYPES, dtype)) throw refuseGuest('tensors', 'a dtype', dtype);
    if (!Array.isArray(shape) || shape.length > MAX_RANK) throw refuseGuest('tensors', 'a shape', shape);
    let count = 1;
    for (const dim of shape as unknown[]) {
      if (!Number.isSafeInteger(dim) || (dim as number) < 0) throw refuseGuest('tensors', 'a shape', dim);
      count *= dim as number;
    }
    const type = dtype as DType;
    const start = at + padding(at);
    const length = type === 'string' ? head['bytes'] : count * DTYPES[type].bytes;
    if (!Number.isSafeInteger(length) || (length as number) < 0) throw refuseGuest('tensors', 'a length', length);
    const end = start + (length as number);
    if (!(end <= payload.length)) throw refuseGuest('tensors', `at least ${end} bytes`, payload.length);
    const bytes = payload.subarray(start, end);
    if (type === 'bool' && bytes.some(byte => byte > 1)) throw refuseGuest('tensors', 'booleans of 0 and 1', 'others');
    tensors[name] = decode(type, shape as number[], bytes);
    at = end;
  }
  if (at !== payload.length) throw refuseGuest('tensors', `exactly ${at} bytes`, payload.length);
  return tensors;
}

function decode(dtype: DType, shape: readonly number[], bytes: Uint8Array): Tensor {
  try {
    return Tensor.fromBytes(dtype, shape, bytes);
  } catch (cause) {
    if (isCloisterError(cause)) throw refuseGuest('tensors', `elements of ${dtype}`, 'others');
    throw cause;
  }
}

function padding(at: number): number {
  return (ALIGN - (at % ALIGN)) % ALIGN;
}
