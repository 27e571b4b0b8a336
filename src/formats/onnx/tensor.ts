/**
 * TensorProto: a dtype, dimensions, and elements in one of seven fields.
 *
 * | field | type | holds |
 * |---|---|---|
 * | 1 | repeated int64 | dims |
 * | 2 | int32 | data_type |
 * | 4 | packed float | f32 |
 * | 5 | packed int32 | i32 i16 i8 u16 u8 bool, and the bits of f16 and bf16 |
 * | 6 | repeated bytes | string, in UTF-8 |
 * | 7 | packed int64 | i64 |
 * | 8 | string | name |
 * | 9 | bytes | any dtype, little-endian |
 * | 10 | packed double | f64 |
 * | 11 | packed uint64 | u32 u64 |
 * | 13 | entries of key (1) and value (2) | external data: location, offset, length |
 * | 14 | int32 | 1 where the elements are external |
 * | 3 | segment | refused |
 *
 * Fields 9, and 4 and 10 in one packed run, are the elements as they lie in memory: they become ranges of the file.
 * @see https://github.com/onnx/onnx/blob/v1.18.0/onnx/onnx.proto
 * @module
 */
import { CloisterError } from '../../base/index.ts';
// Not the index of the room: whoever decodes one tensor has no need of all operators.
import { ONNX_DTYPES } from '../../graph/element-types.ts';
import type { Constant, Facts } from '../../graph/index.ts';
import { DTYPES, type DType, elementCount, MAX_RANK, newArray, Tensor } from '../../tensor/index.ts';
import { type ByteRange, type Field, WireReader } from '../protobuf.ts';
import type { ModelSource } from '../source.ts';
import { checkLocation, type ExternalData } from './external.ts';
import { DEFAULT_ONNX_LIMITS, LimitCounter } from './limits.ts';

/** A TensorProto with its elements where they are: in the file, or decoded. */
export interface TensorRecord {
  readonly name: string;
  readonly facts: Facts;
  readonly shape: readonly number[];
  readonly constant: Constant;
}

/** Which field may hold the elements of a dtype, beside raw_data. */
const DATA_FIELD: Readonly<Record<DType, number>> = {
  f32: 4,
  i32: 5,
  i16: 5,
  i8: 5,
  u16: 5,
  u8: 5,
  bool: 5,
  f16: 5,
  bf16: 5,
  i64: 7,
  f64: 10,
  u32: 11,
  u64: 11,
  string: 6,
};

/** Small constants are decoded at once: shapes, axes and scalars decide what a graph means, and are no weights. */
const INLINE_INTEGER_BYTES = 2048;
const INLINE_FLOAT_BYTES = 64;

/**
 * Returns the tensor that a file of one TensorProto holds (`input_0.pb` of a test case), decoded.
 *
 * @throws {CloisterError} `INVALID_MODEL` with the byte where it stops making sense; `UNSUPPORTED_MODEL` for element types
 *   that have no dtype here; `MODEL_TOO_LARGE`.
 */
export function parseTensorProto(source: ModelSource): { readonly name: string; readonly tensor: Tensor } {
  const wire = new WireReader(source);
  const record = readTensor(wire, wire.all, { counter: new LimitCounter(DEFAULT_ONNX_LIMITS), source });
  return { name: record.name, tensor: loadConstant(record, source) };
}

/** The elements of a record, decoded or read from the file. */
export function loadConstant(record: TensorRecord, source: ModelSource): Tensor {
  const { constant, facts, shape } = record;
  if (constant.kind === 'inline') return constant.tensor;
  return Tensor.fromBytes(facts.dtype, shape, source.read(constant.offset, constant.length));
}

/** What surrounds a TensorProto. */
export interface TensorContext {
  readonly counter: LimitCounter;
  readonly source: ModelSource;
  readonly external?: ExternalData | undefined;
}

/** Reads the TensorProto in `range`. */
export function readTensor(wire: WireReader, range: ByteRange, context: TensorContext): TensorRecord {
  const { counter } = context;
  const entries = new Map<string, string>();
  let isExternal = false;
  const dims: number[] = [];
  const data: Field[] = [];
  let dataType: number | undefined;
  let name = '';
  for (const field of wire.fields(range)) {
    switch (field.number) {
      case 1:
        wire.eachInt64(field, (value, at) => {
          if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) wire.fail(`a dimension of ${value}`, at);
          if (dims.length === MAX_RANK) refuse(`a tensor of more than ${MAX_RANK} dimensions`, at);
          dims.push(Number(value));
        });
        break;
      case 2:
        dataType = wire.int(field);
        break;
      case 3:
        refuse('a tensor in segments', field.start);
        break;
      case 4:
      case 5:
      case 6:
      case 7:
      case 9:
      case 10:
      case 11:
        // Empty runs say nothing; an empty string does. A run of single items must stay cheap: each takes at least two bytes of the file.
        if (field.number === 6 || field.wire !== 2 || field.end > field.start) data.push(field);
        if (data.length > 1) counter.take('tensorFields', 1, field.start);
        break;
      case 8:
        name = wire.text(field, counter.limits.stringBytes);
        break;
      case 13:
        counter.take('tensorFields', 1, field.start);
        readEntry(wire, field, counter, entries);
        break;
      case 14:
        isExternal = wire.int(field) === 1;
        break;
    }
  }
  if (dataType === undefined) wire.fail('a tensor without a data type', range.start);
  const dtype = ONNX_DTYPES.get(dataType) ?? refuse(`a tensor of element type ${dataType}`, range.start);
  const count = countElements(wire, dims, range);
  const facts: Facts = Object.freeze({ dtype, shape: Object.freeze(dims) });
  if (isExternal) {
    if (data.length > 0) wire.fail('a tensor has elements here and in another file', range.start);
    return { name, facts, shape: dims, constant: locateElements(wire, facts, count, entries, range, context) };
  }
  return { name, facts, shape: dims, constant: readElements(wire, facts, count, data, range, counter) };
}

/** StringStringEntryProto. */
function readEntry(wire: WireReader, field: Field, counter: LimitCounter, entries: Map<string, string>): void {
  let [key, value] = ['', ''];
  for (const part of wire.fields(wire.message(field))) {
    if (part.number === 1) key = wire.text(part, counter.limits.stringBytes);
    else if (part.number === 2) value = wire.text(part, counter.limits.stringBytes);
  }
  if (entries.has(key)) wire.fail(`external data gives ${JSON.stringify(key.slice(0, 40))} twice`, field.start);
  entries.set(key, value);
}

/** The range of the source where the elements of an external tensor lie. */
function locateElements(
  wire: WireReader,
  facts: Facts,
  count: number,
  entries: ReadonlyMap<string, string>,
  range: ByteRange,
  { counter, source, external }: TensorContext,
): Constant {
  const { dtype, shape } = facts;
  const location = entries.get('location') ?? wire.fail('external data without a location', range.start);
  checkLocation(location, range.start);
  if (dtype === 'string') wire.fail('strings cannot be external data', range.start);
  const file = external?.locate(location);
  if (!file) {
    const shown = JSON.stringify(location.slice(0, 80));
    const why = external ? 'there is no such file beside the model' : 'only the model file was given';
    throw new CloisterError('INVALID_MODEL', `weights are in ${shown}: ${why} (at byte ${range.start})`, {
      at: range.start,
    });
  }
  const needed = count * DTYPES[dtype].bytes;
  const integer = (key: string, otherwise: number): number => {
    const text = entries.get(key);
    if (text === undefined) return otherwise;
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    return Number.isSafeInteger(value) ? value : wire.fail(`external data: ${key} is no size`, range.start);
  };
  const offset = integer('offset', 0);
  const length = integer('length', needed);
  if (length !== needed || offset + length > file.size) {
    const shown = `${length} bytes at ${offset} of a file of ${file.size}`;
    wire.fail(`a ${dtype} tensor of ${count} elements needs ${needed} bytes, got ${shown}`, range.start);
  }
  if (needed > inlineLimit(dtype)) return { kind: 'range', offset: file.offset + offset, length };
  counter.take('inlineBytes', needed, range.start);
  const bytes = new Uint8Array(source.read(file.offset + offset, length));
  return { kind: 'inline', tensor: Tensor.fromBytes(dtype, shape as readonly number[], bytes) };
}

function inlineLimit(dtype: DType): number {
  return DTYPES[dtype].kind === 'float' ? INLINE_FLOAT_BYTES : INLINE_INTEGER_BYTES;
}

function countElements(wire: WireReader, dims: readonly number[], range: ByteRange): number {
  try {
    return elementCount(dims);
  } catch (cause) {
    wire.fail('the dimensions of a tensor are too large', range.start, cause);
  }
}

function readElements(
  wire: WireReader,
  facts: Facts,
  count: number,
  data: readonly Field[],
  range: ByteRange,
  counter: LimitCounter,
): Constant {
  const { dtype } = facts;
  const width = DTYPES[dtype].bytes;
  const stored = data.reduce((sum, field) => sum + field.end - field.start, 0);
  if (count === 0 && stored === 0) return inline(facts, newArray(dtype, 0));
  const [first] = data;
  if (!first) wire.fail(`a tensor of ${count} elements without data`, range.start);
  const expected = DATA_FIELD[dtype];
  for (const field of data) {
    if (field.number !== first.number || (field.number !== 9 && field.number !== expected)) {
      wire.fail(`the elements of a ${dtype} tensor are in fields ${first.number} and ${field.number}`, field.start);
    }
  }
  if (dtype === 'string') {
    if (first.number !== expected) wire.fail('strings are given as raw data', first.start);
    if (data.length !== count) wire.fail(`a string tensor of ${count} elements has ${data.length}`, first.start);
    counter.take('inlineBytes', stored + count * DTYPES.string.bytes, first.start);
    return inline(
      facts,
      data.map(field => wire.text(field, counter.limits.stringBytes)),
    );
  }
  const plain = first.number === 9 || ((first.number === 4 || first.number === 10) && first.wire === 2);
  if (plain && data.length === 1) {
    if (first.wire !== 2) wire.fail('raw data is not a string of bytes', first.start);
    if (stored !== count * width) {
      wire.fail(`a ${dtype} tensor of ${count} elements needs ${count * width} bytes, got ${stored}`, first.start);
    }
    if (stored > inlineLimit(dtype)) return { kind: 'range', offset: first.start, length: stored };
    counter.take('inlineBytes', stored, first.start);
    return {
      kind: 'inline',
      tensor: Tensor.fromBytes(dtype, facts.shape as readonly number[], new Uint8Array(wire.bytes(first))),
    };
  }
  if (first.number === 9) wire.fail('raw data is given twice', data[1]!.start);
  // Every element takes at least one byte of the file, so that what is allocated is paid for.
  if (count > stored) wire.fail(`a ${dtype} tensor of ${count} elements, with ${stored} bytes of data`, first.start);
  counter.take('inlineBytes', count * width, first.start);
  const out = newArray(dtype, count);
  let at = 0;
  const put = (value: number | bigint, where: number): void => {
    if (at >= count) wire.fail(`a ${dtype} tensor of ${count} elements has more`, where);
    (out as unknown as Record<number, number | bigint>)[at] = value;
    if (!Object.is(out[at], value) && !Number.isNaN(Number(value)) && dtype !== 'f32') {
      wire.fail(`${value} is no ${dtype}`, where);
    }
    at++;
  };
  for (const field of data) {
    if (expected === 4 || expected === 10) wire.eachFloat(field, width as 4 | 8, value => put(value, field.start));
    else if (dtype === 'u64') wire.eachInt64(field, (value, where) => put(BigInt.asUintN(64, value), where));
    else if (dtype === 'i64') wire.eachInt64(field, put);
    else wire.eachInt64(field, (value, where) => put(Number(value), where));
  }
  if (at !== count) wire.fail(`a ${dtype} tensor of ${count} elements has ${at}`, first.start);
  if (dtype === 'bool' && (out as Uint8Array).some(value => value > 1))
    wire.fail('a bool is neither 0 nor 1', first.start);
  return inline(facts, out);
}

function inline(facts: Facts, data: ReturnType<typeof newArray>): Constant {
  return { kind: 'inline', tensor: Tensor.from(facts.dtype, facts.shape as readonly number[], data) };
}

function refuse(what: string, at: number): never {
  throw new CloisterError('UNSUPPORTED_MODEL', `${what} is not supported (at byte ${at})`, { at });
}
