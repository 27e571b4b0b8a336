/**
 * safetensors: named tensors as ranges of a file.
 *
 * | offset | size | meaning |
 * |---|---|---|
 * | 0 | 8 | N, the length of the header: unsigned, little-endian, at most 100,000,000 |
 * | 8 | N | JSON object in UTF-8: name -> `{dtype, shape, data_offsets: [begin, end]}`; `__metadata__` -> strings |
 * | 8 + N | rest | the tensors' bytes, little-endian, row-major; offsets count from here |
 *
 * Refused, as the format's own reader does: a header that does not begin with `{`, offsets out of bounds, tensors that overlap or
 * leave holes, a length that is not shape times dtype, bytes after the last tensor. Also refused: duplicate keys, which JSON
 * parsers resolve silently, each in its own way.
 * @see https://github.com/huggingface/safetensors#format
 * @module
 */
import { CloisterError, concatBytes, encodeUtf8 } from '../base/index.ts';
import { DTYPES, type DType, elementCount, type Tensor } from '../tensor/index.ts';
import { entriesOf, parseJsonObject } from './json.ts';
import type { ModelSource } from './source.ts';

/** One tensor of a file, whose bytes are still there. */
export interface StoredTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Where its little-endian bytes are, from the beginning of the file. */
  readonly offset: number;
  readonly length: number;
}

/** A whole file. */
export interface Safetensors {
  /** By name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** What a file may ask of its reader. */
export interface SafetensorsLimits {
  /** Bytes of the header; the format itself allows no more than 100,000,000. */
  readonly headerBytes: number;
  readonly tensors: number;
}

/** Limits that real files stay far below. */
export const DEFAULT_SAFETENSORS_LIMITS: SafetensorsLimits = Object.freeze({
  headerBytes: 16 * 2 ** 20,
  tensors: 100_000,
});

const FORMAT_HEADER_BYTES = 100_000_000;

/** Element types by their name in the format; the 8-bit floats have none here. */
const NAMES: Readonly<Record<string, DType>> = {
  F64: 'f64',
  F32: 'f32',
  F16: 'f16',
  BF16: 'bf16',
  I64: 'i64',
  I32: 'i32',
  I16: 'i16',
  I8: 'i8',
  U64: 'u64',
  U32: 'u32',
  U16: 'u16',
  U8: 'u8',
  BOOL: 'bool',
};

/**
 * Returns what a safetensors file holds, as ranges: no tensor is read.
 *
 * @throws {CloisterError} `INVALID_MODEL` with what breaks the format; `MODEL_TOO_LARGE`; `UNSUPPORTED_MODEL` for an element type
 *   that has no dtype here.
 * @example
 * ```ts
 * const header = encodeUtf8('{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}  '); // padded to 56 bytes
 * const file = concatBytes(Uint8Array.of(56, 0, 0, 0, 0, 0, 0, 0), header, new Uint8Array(8));
 * parseSafetensors(bytesSource(file)).tensors.get('w'); // { dtype: 'f32', shape: [2], offset: 64, length: 8 }
 * ```
 */
export function parseSafetensors(source: ModelSource, limits: Partial<SafetensorsLimits> = {}): Safetensors {
  const { headerBytes, tensors: most } = { ...DEFAULT_SAFETENSORS_LIMITS, ...limits };
  if (source.size < 8) fail(`expected a header length in 8 bytes, the file has ${source.size}`);
  const prefix = source.read(0, 8);
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(source.size - 8)) fail(`a header of ${length} bytes, in a file of ${source.size}`);
  const cap = Math.min(headerBytes, FORMAT_HEADER_BYTES);
  if (length > BigInt(cap)) {
    throw new CloisterError('MODEL_TOO_LARGE', `a header of ${length} bytes passes the limit of ${cap}`, {
      limit: 'headerBytes',
      most: cap,
    });
  }
  const start = 8 + Number(length);
  const header = parseHeader(source.read(8, Number(length)));
  const metadata = new Map<string, string>();
  const found: (StoredTensor & { readonly name: string })[] = [];
  for (const [name, entry] of header) {
    if (name === '__metadata__') {
      for (const [key, value] of objectOf(entry, name)) {
        metadata.set(key, typeof value === 'string' ? value : fail(`__metadata__.${quote(key)} is not a string`));
      }
      continue;
    }
    if (found.length === most) {
      throw new CloisterError('MODEL_TOO_LARGE', `more than ${most} tensors`, { limit: 'tensors', most });
    }
    found.push({ name, ...storedTensor(name, objectOf(entry, name), start, source.size) });
  }
  // Every byte after the header belongs to exactly one tensor.
  found.sort((a, b) => a.offset - b.offset || a.length - b.length);
  let at = start;
  for (const { name, offset, length: size } of found) {
    if (offset !== at) fail(`tensor ${quote(name)} begins at byte ${offset}; the bytes before it end at ${at}`);
    at += size;
  }
  if (at !== source.size) fail(`the tensors end at byte ${at}, the file at ${source.size}`);
  return {
    tensors: new Map(
      found.map(({ name, dtype, shape, offset, length: size }) => [
        name,
        Object.freeze({ dtype, shape, offset, length: size }),
      ]),
    ),
    metadata,
  };
}

/** What {@link writeSafetensors} may be told. */
export interface WriteSafetensorsOptions {
  /** Text by name, kept in the header. */
  readonly metadata?: Readonly<Record<string, string>>;
}

/** Elements start at a multiple of this, so that whoever maps or reads the file can view them in place. */
const ALIGNMENT = 64;

/**
 * Returns `tensors` as a safetensors file. One set of tensors has one spelling: the widest elements first, then by name, so that every
 * tensor is aligned to its dtype without holes; the header is filled up with spaces to a multiple of 64 bytes.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` for strings, which the format has not, and for the name `__metadata__`.
 * @example
 * ```ts
 * const file = writeSafetensors({ w: Tensor.of('f32', [1, 2]) }, { metadata: { format: 'pt' } });
 * const { offset, length } = parseSafetensors(bytesSource(file)).tensors.get('w')!;
 * Tensor.fromBytes('f32', [2], file.subarray(offset, offset + length)).toArray(); // [1, 2]
 * ```
 */
export function writeSafetensors(
  tensors: Readonly<Record<string, Tensor>> | ReadonlyMap<string, Tensor>,
  options: WriteSafetensorsOptions = {},
): Uint8Array {
  const entries = tensors instanceof Map ? [...tensors] : Object.entries(tensors as Readonly<Record<string, Tensor>>);
  const width = ({ dtype }: Tensor): number => DTYPES[dtype].bytes;
  entries.sort(([a, x], [b, y]) => width(y) - width(x) || (a < b ? -1 : 1));
  const fields: string[] = [];
  if (options.metadata) fields.push(`"__metadata__":${JSON.stringify(options.metadata)}`);
  const parts: Uint8Array[] = [];
  let at = 0;
  for (const [name, tensor] of entries) {
    const type = Object.entries(NAMES).find(([, dtype]) => dtype === tensor.dtype)?.[0];
    if (type === undefined || name === '__metadata__' || !name.isWellFormed()) {
      throw new CloisterError('INVALID_ARGUMENT', `safetensors cannot hold ${quote(name)} of ${tensor.dtype}`);
    }
    const bytes = tensor.bytes();
    const offsets = [at, at + bytes.length];
    fields.push(
      `${JSON.stringify(name)}:${JSON.stringify({ dtype: type, shape: tensor.shape, data_offsets: offsets })}`,
    );
    parts.push(bytes);
    at += bytes.length;
  }
  const text = encodeUtf8(`{${fields.join(',')}}`);
  const header = new Uint8Array(Math.ceil((8 + text.length) / ALIGNMENT) * ALIGNMENT - 8).fill(0x20);
  header.set(text);
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(header.length), true);
  return concatBytes(prefix, header, ...parts);
}

function storedTensor(name: string, entry: ReadonlyMap<string, unknown>, start: number, size: number): StoredTensor {
  for (const key of entry.keys()) {
    if (key !== 'dtype' && key !== 'shape' && key !== 'data_offsets')
      fail(`tensor ${quote(name)} has an unknown key ${quote(key)}`);
  }
  const type = entry.get('dtype');
  const dtype = typeof type === 'string' && Object.hasOwn(NAMES, type) ? NAMES[type] : undefined;
  if (dtype === undefined) {
    if (typeof type !== 'string') fail(`tensor ${quote(name)} has no dtype`);
    throw new CloisterError(
      'UNSUPPORTED_MODEL',
      `tensor ${quote(name)}: element type ${quote(type)} has no dtype here`,
      { tensor: name },
    );
  }
  const shape = integers(entry.get('shape'), `the shape of ${quote(name)}`);
  const offsets = integers(entry.get('data_offsets'), `the offsets of ${quote(name)}`);
  const [begin, end] = offsets;
  if (offsets.length !== 2 || begin === undefined || end === undefined || begin > end || end > size - start) {
    fail(`tensor ${quote(name)}: offsets [${offsets.slice(0, 4).join(',')}] are not a range of ${size - start} bytes`);
  }
  let count: number;
  try {
    count = elementCount(shape);
  } catch (cause) {
    return fail(`tensor ${quote(name)}: ${(cause as Error).message}`);
  }
  const needed = count * DTYPES[dtype].bytes;
  if (needed !== end - begin) fail(`tensor ${quote(name)} needs ${needed} bytes, its offsets have ${end - begin}`);
  return { dtype, shape: Object.freeze(shape), offset: start + begin, length: needed };
}

function parseHeader(bytes: Uint8Array): ReadonlyMap<string, unknown> {
  if (bytes[0] !== 0x7b) fail('the header does not begin with {');
  return parseJsonObject(bytes, 'safetensors: the header');
}

function objectOf(value: unknown, what: string): ReadonlyMap<string, unknown> {
  return entriesOf(value) ?? fail(`${quote(what)} is not an object`);
}

function integers(value: unknown, what: string): number[] {
  if (!Array.isArray(value) || !value.every(item => Number.isSafeInteger(item) && item >= 0)) {
    return fail(`${what} is not a list of integers of at least 0`);
  }
  return value as number[];
}

function quote(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}

function fail(message: string): never {
  throw new CloisterError('INVALID_MODEL', `safetensors: ${message}`);
}
