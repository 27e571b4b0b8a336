/**
 * Write-ahead segments: the records that no durable checkpoint covers yet, and some before them. A segment lies in `wal/`, named by the
 * number of its first record in 16 digits. It begins where a checkpoint ended, and is removed when a later one covers all of it, so
 * that a segment with a later one behind it whose first record is covered means nothing any more.
 *
 * | offset | size | meaning |
 * |---|---|---|
 * | 0 | 8 | magic `CLSTRWAL` |
 * | 8 | 4 | version, 1 |
 * | 12 | 4 | CRC-32C of the other bytes of the header |
 * | 16 | 8 | number of the first record |
 * | 24 | 32 | SHA-256 of the log's origin |
 * | 56 | | frames, one after another, to the end of the file |
 *
 * A frame, integers little-endian as above:
 *
 * | offset | size | meaning |
 * |---|---|---|
 * | 0 | 4 | n: bytes in the record, 1 to 16,384 |
 * | 4 | 4 | place of the record in the group that was written and synced together: 0, 1, 2 … |
 * | 8 | 4 | CRC-32C of bytes 0 to 7 and of the record |
 * | 12 | n | the record: canonical JSON, the Merkle leaf |
 *
 * A group is written only after the one before it is durable. So a crash can damage the last group alone, and a bad frame
 * that is followed by the frame of a later group (place 0) was damaged afterwards. No JSON text contains a NUL byte, and every
 * frame header does (n < 2^16), so no record can hold something that passes for a frame.
 * @module
 */
import { encodeUtf8, equalBytes } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import { sha256 } from '../../src/base/sha256.ts';
import { crc32c } from './crc32c.ts';
import type { LogDirectory, LogFile } from './directory.ts';
import { RECORD_LIMIT_BYTES } from './record.ts';

/** Directory of the segments. */
export const WAL_DIRECTORY = 'wal';
/** Bytes before the first frame. */
export const HEADER_BYTES = 56;
/** Bytes in a frame before its record. */
export const FRAME_BYTES = 12;
/** Records in one group at most. */
export const GROUP_LIMIT_RECORDS = 1024;
/** Bytes of frames in one group at most. */
export const GROUP_LIMIT_BYTES = 1_048_576;

/** What {@link FrameReader.next} found at its position. */
export type FrameRead =
  | {
      readonly kind: 'frame';
      /** A view that the next read overwrites. */
      readonly record: Uint8Array;
      readonly place: number;
      readonly start: number;
      readonly end: number;
    }
  | { readonly kind: 'end'; readonly start: number }
  /** `short`: the frame reaches past the end of the file. */
  | { readonly kind: 'bad'; readonly start: number; readonly short: boolean };

/** A segment that is open to be read. */
export interface WalSegment {
  readonly name: string;
  /** Number of its first record, as its name says. */
  readonly first: number;
  readonly file: LogFile;
}

/** Name of the segment that begins with record `first`. */
export function segmentName(first: number): string {
  return `${WAL_DIRECTORY}/${String(first).padStart(16, '0')}`;
}

/** The header of a segment. */
export function segmentHeader(origin: string, first: number): Uint8Array {
  const header = new Uint8Array(HEADER_BYTES);
  const view = new DataView(header.buffer);
  header.set(encodeUtf8('CLSTRWAL'));
  view.setUint32(8, 1, true);
  view.setBigUint64(16, BigInt(first), true);
  header.set(sha256(encodeUtf8(origin)), 24);
  view.setUint32(12, crc32c(header, 16, HEADER_BYTES, crc32c(header, 0, 12)), true);
  return header;
}

/** Whether a segment has the header that its name and its log demand. */
export function hasHeader({ file, first }: WalSegment, origin: string): boolean {
  const header = new Uint8Array(HEADER_BYTES);
  return file.readAt(header, 0) === HEADER_BYTES && equalBytes(header, segmentHeader(origin, first));
}

/**
 * Opens the segments of a log to read them, in the order of their records. Whoever does so before reading the checkpoint has every
 * durable record between the two: a segment that is removed meanwhile stays readable, and what it held is covered.
 *
 * @throws {CloisterError} `STORE_FAILED`; `AUDIT_INVALID` when something else lies where a segment should.
 */
export function openSegments(directory: LogDirectory): WalSegment[] {
  for (let attempt = 0; attempt < 100; attempt++) {
    const firsts = directory
      .list(WAL_DIRECTORY)
      .filter(name => /^[0-9]{16}$/.test(name))
      .map(Number)
      .filter(first => Number.isSafeInteger(first))
      .sort((a, b) => a - b);
    const segments: WalSegment[] = [];
    for (const first of firsts) {
      const file = directory.open(segmentName(first));
      if (file !== undefined) segments.push({ name: segmentName(first), first, file });
    }
    // One that was there and is gone has been covered by a checkpoint, and a new one may be there that was not listed.
    if (segments.length === firsts.length) return segments;
    closeSegments(segments);
  }
  throw new CloisterError('AUDIT_INVALID', `${directory.path}/${WAL_DIRECTORY} lists files that are not there`);
}

/** Closes what {@link openSegments} opened. */
export function closeSegments(segments: readonly WalSegment[]): void {
  for (const { file } of segments) file.close();
}

/** Writes a frame into `target` at `at` and returns the offset after it. */
export function writeFrame(record: Uint8Array, place: number, target: Uint8Array, at: number): number {
  const view = new DataView(target.buffer, target.byteOffset);
  view.setUint32(at, record.length, true);
  view.setUint32(at + 4, place, true);
  target.set(record, at + FRAME_BYTES);
  view.setUint32(at + 8, frameCrc(target, at, record.length), true);
  return at + FRAME_BYTES + record.length;
}

/** Reads frames one after another with at most one megabyte of memory. */
export class FrameReader {
  readonly #file: LogFile;
  readonly #buffer: Uint8Array;
  readonly #view: DataView;
  #base: number; // file offset of #buffer[0]
  #filled = 0;
  #at = 0;

  /** @param start - File offset of the first frame. */
  constructor(file: LogFile, start: number) {
    this.#file = file;
    this.#base = start;
    this.#buffer = new Uint8Array(Math.min(CHUNK_BYTES, Math.max(65_536, file.size() - start)));
    this.#view = new DataView(this.#buffer.buffer);
  }

  /** The frame at the position, which then moves behind it. At the end or at a bad frame it stays. */
  next(): FrameRead {
    let left = this.#filled - this.#at;
    if (left < FRAME_BYTES + RECORD_LIMIT_BYTES) left = this.#fill();
    const start = this.#base + this.#at;
    if (left === 0) return { kind: 'end', start };
    if (left < FRAME_BYTES) return { kind: 'bad', start, short: true };
    const length = this.#view.getUint32(this.#at, true);
    if (length === 0 || length > RECORD_LIMIT_BYTES) return { kind: 'bad', start, short: length > left };
    if (FRAME_BYTES + length > left) return { kind: 'bad', start, short: true };
    if (frameCrc(this.#buffer, this.#at, length) !== this.#view.getUint32(this.#at + 8, true))
      return { kind: 'bad', start, short: false };
    const from = this.#at + FRAME_BYTES;
    const place = this.#view.getUint32(this.#at + 4, true);
    this.#at = from + length;
    return {
      kind: 'frame',
      record: this.#buffer.subarray(from, this.#at),
      place,
      start,
      end: start + FRAME_BYTES + length,
    };
  }

  #fill(): number {
    this.#buffer.copyWithin(0, this.#at, this.#filled);
    this.#base += this.#at;
    this.#filled -= this.#at;
    this.#at = 0;
    this.#filled += this.#file.readAt(this.#buffer.subarray(this.#filled), this.#base + this.#filled);
    return this.#filled;
  }
}

/**
 * Finds the next whole frame after a bad one, by looking for one at every byte.
 *
 * @param file - The segment.
 * @param after - Offset of the bad frame; the search starts one byte behind it.
 * @param limitBytes - How far to search.
 * @returns The frame, its record a copy; undefined when there is none.
 */
export function findFrame(
  file: LogFile,
  after: number,
  limitBytes: number,
): (FrameRead & { kind: 'frame' }) | undefined {
  const length = Math.min(limitBytes, file.size() - after - 1);
  if (length <= 0) return undefined;
  const bytes = new Uint8Array(length);
  const filled = file.readAt(bytes, after + 1);
  const view = new DataView(bytes.buffer);
  for (let at = 0; at + FRAME_BYTES < filled; at++) {
    if (bytes[at + 2] !== 0 || bytes[at + 3] !== 0 || bytes[at + FRAME_BYTES] !== 0x7b) continue; // n < 2^16, and then '{'
    const size = view.getUint32(at, true);
    const end = at + FRAME_BYTES + size;
    if (size === 0 || size > RECORD_LIMIT_BYTES || end > filled) continue;
    if (frameCrc(bytes, at, size) !== view.getUint32(at + 8, true)) continue;
    const start = after + 1 + at;
    const place = view.getUint32(at + 4, true);
    return { kind: 'frame', record: bytes.slice(at + FRAME_BYTES, end), place, start, end: start + FRAME_BYTES + size };
  }
  return undefined;
}

/**
 * Whether a bad frame at `start` can be what a crash leaves: nothing behind it belongs to a later group, and no more bytes
 * follow than one group has.
 */
export function isTornTail(file: LogFile, start: number): boolean {
  if (file.size() - start > GROUP_LIMIT_BYTES) return false;
  for (let at = start; ; ) {
    const frame = findFrame(file, at, GROUP_LIMIT_BYTES);
    if (frame === undefined) return true;
    if (frame.place === 0) return false;
    at = frame.end - 1;
  }
}

function frameCrc(bytes: Uint8Array, at: number, length: number): number {
  return crc32c(bytes, at + FRAME_BYTES, at + FRAME_BYTES + length, crc32c(bytes, at, at + 8));
}

const CHUNK_BYTES = 1_048_576;
