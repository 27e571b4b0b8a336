/**
 * The protobuf wire format, read without a schema compiler and without trust.
 *
 * | wire type | value | here |
 * |---|---|---|
 * | 0 | varint, at most 10 bytes, little-endian groups of 7 bits | `varint` |
 * | 1 | 8 bytes little-endian | `fixed64` |
 * | 2 | varint length, then so many bytes | a range that is not read until somebody asks |
 * | 3, 4 | groups (deprecated) | refused |
 * | 5 | 4 bytes little-endian | `fixed32` |
 *
 * Nothing is allocated in proportion to a length that the input claims: a length is first checked against the range that
 * encloses it, and contents stay in the source until they are read.
 * @see https://protobuf.dev/programming-guides/encoding/
 * @module
 */
import { CloisterError, decodeUtf8 } from '../base/index.ts';
import type { ModelSource } from './source.ts';

/** A part of the source: `[start, end)`. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** One field of a message, with its value still in the source. */
export interface Field extends ByteRange {
  readonly number: number;
  readonly wire: 0 | 1 | 2 | 5;
}

/** Bytes fetched at a time: one call over a border fetches many small fields, and few bytes of a blob that is skipped. */
const WINDOW = 32_768;
/** Bytes of floats that are looked at in one go: a multiple of every width, and less than a window. */
const RUN = 4096;

/** Reads messages out of a source through a small window. */
export class WireReader {
  readonly #source: ModelSource;
  /** What a source that writes into it fills again and again: a window each would wait for the garbage collector. */
  #own: Uint8Array | undefined;
  #window: Uint8Array = new Uint8Array(0);
  #start = 0;
  /** Where the last varint ended. */
  #after = 0;

  constructor(source: ModelSource) {
    this.#source = source;
  }

  /** The whole source as one message. */
  get all(): ByteRange {
    return { start: 0, end: this.#source.size };
  }

  /** The fields of the message in `range`, in the order of the file. */
  *fields(range: ByteRange): Generator<Field> {
    let at = range.start;
    while (at < range.end) {
      const start = at;
      const tag = this.#varint(at, range.end);
      at = this.#after;
      const number = Number(tag >> 3n);
      const wire = Number(tag & 7n);
      if (tag < 0n || number < 1 || number > 0x1fffffff) this.fail(`field number ${tag >> 3n} is out of range`, start);
      if (wire === 0) {
        this.#varint(at, range.end);
        yield { number, wire, start: at, end: this.#after };
        // The consumer may have read elsewhere in between, so the end is taken from the field.
        at = this.#endOfVarint(at, range.end);
      } else if (wire === 1 || wire === 5) {
        const end = at + (wire === 1 ? 8 : 4);
        if (end > range.end) this.fail(`a fixed field of ${end - at} bytes passes the end of its message`, start);
        yield { number, wire, start: at, end };
        at = end;
      } else if (wire === 2) {
        const length = this.#varint(at, range.end);
        const from = this.#after;
        if (length < 0n || length > BigInt(range.end - from)) {
          this.fail(`a field of ${length} bytes passes the end of its message, ${range.end - from} bytes on`, start);
        }
        const end = from + Number(length);
        yield { number, wire, start: from, end };
        at = end;
      } else {
        this.fail(`wire type ${wire} is not allowed`, start);
      }
    }
  }

  /** A varint field as a signed 64-bit integer. */
  int64(field: Field): bigint {
    this.#expect(field, 0);
    return this.#varint(field.start, field.end);
  }

  /** A varint field that must be an integer which a double holds exactly. */
  int(field: Field): number {
    const value = this.int64(field);
    if (value > BigInt(Number.MAX_SAFE_INTEGER) || value < BigInt(Number.MIN_SAFE_INTEGER)) {
      this.fail(`the integer ${value} is out of range`, field.start);
    }
    return Number(value);
  }

  /** A 4-byte field as a float. */
  float(field: Field): number {
    this.#expect(field, 5);
    const bytes = this.bytes(field);
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true);
  }

  /** A length-delimited field as text. @throws {CloisterError} `MODEL_TOO_LARGE` when it is longer than `limitBytes`. */
  text(field: Field, limitBytes: number): string {
    this.#expect(field, 2);
    if (field.end - field.start > limitBytes) {
      const message = `a string of ${field.end - field.start} bytes at byte ${field.start} passes the limit of ${limitBytes}`;
      throw new CloisterError('MODEL_TOO_LARGE', message, { at: field.start, limitBytes });
    }
    try {
      return decodeUtf8(this.bytes(field));
    } catch (cause) {
      this.fail('a string is not UTF-8', field.start, cause);
    }
  }

  /** A length-delimited field as a message. */
  message(field: Field): ByteRange {
    this.#expect(field, 2);
    return field;
  }

  /** The integers of a repeated field: one, or a packed run. Calls `take` for each. */
  eachInt64(field: Field, take: (value: bigint, at: number) => void): void {
    if (field.wire === 0) {
      take(this.int64(field), field.start);
      return;
    }
    this.#expect(field, 2);
    for (let at = field.start; at < field.end; ) {
      const value = this.#varint(at, field.end);
      const next = this.#after;
      take(value, at);
      at = next;
    }
  }

  /** The floats of a repeated field of `width` bytes per item: one, or a packed run. */
  eachFloat(field: Field, width: 4 | 8, take: (value: number) => void): void {
    if (field.wire !== 2) this.#expect(field, width === 4 ? 5 : 1);
    if ((field.end - field.start) % width !== 0)
      this.fail(`a packed run is not a multiple of ${width} bytes`, field.start);
    for (let start = field.start; start < field.end; start += RUN) {
      const bytes = this.bytes({ start, end: Math.min(start + RUN, field.end) });
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      for (let at = 0; at < bytes.length; at += width) {
        take(width === 4 ? view.getFloat32(at, true) : view.getFloat64(at, true));
      }
    }
  }

  /** The bytes of a range, as a view that holds until the next read. */
  bytes(range: ByteRange): Uint8Array {
    const length = range.end - range.start;
    if (range.start < this.#start || range.end > this.#start + this.#window.length) {
      if (length > WINDOW) return this.#read(range.start, length);
      this.#move(range.start);
    }
    return this.#window.subarray(range.start - this.#start, range.end - this.#start);
  }

  /** Throws an error that names a byte of the file. */
  fail(message: string, at: number, cause?: unknown): never {
    throw new CloisterError('INVALID_MODEL', `${message} (at byte ${at})`, { at }, { cause });
  }

  /** Lays the window where `start` is its first byte. */
  #move(start: number): void {
    const length = Math.min(WINDOW, this.#source.size - start);
    if (this.#source.readInto === undefined) this.#window = this.#read(start, length);
    else {
      this.#own ??= new Uint8Array(Math.min(WINDOW, this.#source.size));
      this.#window = new Uint8Array(0); // should the source throw, nothing of what it left is taken for the file
      this.#source.readInto(start, this.#own.subarray(0, length));
      this.#window = this.#own.subarray(0, length);
    }
    this.#start = start;
  }

  #read(offset: number, length: number): Uint8Array {
    const bytes = this.#source.read(offset, length);
    if (bytes.length !== length) this.fail(`expected ${length} bytes, the source gave ${bytes.length}`, offset);
    return bytes;
  }

  #expect(field: Field, wire: Field['wire']): void {
    if (field.wire !== wire)
      this.fail(`field ${field.number}: expected wire type ${wire}, got ${field.wire}`, field.start);
  }

  #endOfVarint(at: number, end: number): number {
    this.#varint(at, end);
    return this.#after;
  }

  /** The varint at `at`, as a signed 64-bit integer. */
  #varint(at: number, end: number): bigint {
    let low = 0; // the first four groups fit in 28 bits, and nearly every varint ends there
    let value = 0n;
    for (let i = 0; i < 10; i++) {
      if (at + i >= end) this.fail('a varint passes the end of its message', at);
      const byte = this.#byte(at + i);
      if (i < 4) low |= (byte & 127) << (7 * i);
      else {
        if (i === 4) value = BigInt(low);
        value |= BigInt(byte & 127) << BigInt(7 * i);
      }
      if (byte < 128) {
        this.#after = at + i + 1;
        if (i === 9 && byte > 1) this.fail('a varint does not fit in 64 bits', at);
        return i < 4 ? BigInt(low) : BigInt.asIntN(64, value);
      }
    }
    this.fail('a varint is longer than 10 bytes', at);
  }

  #byte(at: number): number {
    if (at < this.#start || at >= this.#start + this.#window.length) {
      this.#move(at);
    }
    return this.#window[at - this.#start]!;
  }
}
