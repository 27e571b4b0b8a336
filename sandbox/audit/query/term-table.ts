/**
 * A term table: the distinct texts of one kind in a run of records, and which of these records have each. Texts are found by a search
 * of bytes, so a table is used as it was stored.
 *
 * | size | meaning (integers little-endian) |
 * |---|---|
 * | 4 | n, how many texts |
 * | 4 | p, how many places |
 * | 4 (n + 1) | where in the haystack each text begins; last, its end |
 * | 4 (n + 1) | which of the places is the first of each text; last, p |
 * | 2 p | places: numbers of records in the run |
 * | the rest | the haystack: 0xff, then each text in UTF-8 and 0xff after it. No UTF-8 has a byte 0xff |
 * @module
 */
import { CloisterError } from '../../../src/base/errors.ts';

/** Records in a run, at most; a place has 16 bits. */
export const RUN_RECORDS = 4096;

/** How a text is asked for. */
export type TextMatch = 'is' | 'begins' | 'has';

const SEPARATOR = 0xff;
const HEADER_BYTES = 8;

/** Encodes which records of a run, by number, have which texts. */
export function encodeTermTable(terms: ReadonlyMap<string, readonly number[]>): Uint8Array {
  let placeCount = 0;
  let textBytes = 0;
  for (const [text, places] of terms) {
    placeCount += places.length;
    textBytes += Buffer.byteLength(text);
  }
  const { startsAt, firstsAt, placesAt, haystackAt } = layout(terms.size, placeCount);
  const bytes = Buffer.alloc(haystackAt + 1 + textBytes + terms.size, SEPARATOR);
  bytes.writeUInt32LE(terms.size, 0);
  bytes.writeUInt32LE(placeCount, 4);
  let at = 1;
  let first = 0;
  let index = 0;
  for (const [text, places] of terms) {
    bytes.writeUInt32LE(at, startsAt + 4 * index);
    bytes.writeUInt32LE(first, firstsAt + 4 * index);
    for (const place of places) bytes.writeUInt16LE(place, placesAt + 2 * first++);
    at += bytes.write(text, haystackAt + at) + 1;
    index++;
  }
  bytes.writeUInt32LE(at, startsAt + 4 * index);
  bytes.writeUInt32LE(first, firstsAt + 4 * index);
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** A term table that was read. */
export class TermTable {
  /** How many texts. */
  readonly size: number;
  readonly #starts: Uint32Array;
  readonly #firsts: Uint32Array;
  readonly #places: Uint16Array;
  readonly #haystack: Buffer;

  /**
   * @param bytes - As {@link encodeTermTable} made them; kept, not copied.
   * @param records - How many records are in the run.
   * @throws {CloisterError} `STORE_FAILED` when the bytes are no term table of such a run.
   */
  constructor(bytes: Uint8Array, records: number) {
    // Typed arrays need their alignment, and the byte order of the machine; both hold wherever a table comes from a store.
    const whole = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
    const view = new DataView(whole.buffer, whole.byteOffset, whole.length);
    if (whole.length < HEADER_BYTES) refuse('it is shorter than its header');
    this.size = view.getUint32(0, true);
    const placeCount = view.getUint32(4, true);
    const { startsAt, firstsAt, placesAt, haystackAt } = layout(this.size, placeCount);
    if (haystackAt >= whole.length) refuse('it is shorter than its counts say');
    this.#starts = new Uint32Array(whole.buffer, whole.byteOffset + startsAt, this.size + 1);
    this.#firsts = new Uint32Array(whole.buffer, whole.byteOffset + firstsAt, this.size + 1);
    this.#places = new Uint16Array(whole.buffer, whole.byteOffset + placesAt, placeCount);
    this.#haystack = Buffer.from(whole.buffer, whole.byteOffset + haystackAt, whole.length - haystackAt);
    this.#check(records);
  }

  /** The text at `index`. */
  text(index: number): string {
    return this.#haystack.toString('utf8', this.#starts[index]!, this.#starts[index + 1]! - 1);
  }

  /** Numbers of the records that have the text at `index`: a view. */
  places(index: number): Uint16Array {
    return this.#places.subarray(this.#firsts[index]!, this.#firsts[index + 1]!);
  }

  /** Every text, and numbers of the records that have it. */
  *all(): Generator<{ readonly text: string; readonly places: Uint16Array }, void, undefined> {
    for (let index = 0; index < this.size; index++) yield { text: this.text(index), places: this.places(index) };
  }

  /** Indexes of the texts that are, begin with, or have `value`, ascending. */
  *find(match: TextMatch, value: string): Generator<number, void, undefined> {
    const text = Buffer.from(value, 'utf8');
    const parts = [match === 'has' ? NONE : BORDER, text, match === 'is' ? BORDER : NONE];
    const needle = Buffer.concat(parts);
    const border = match === 'has' ? 0 : 1;
    if (needle.length === border) {
      for (let index = 0; index < this.size; index++) yield index;
      return;
    }
    let index = 0;
    for (let at = this.#haystack.indexOf(needle); at !== -1; ) {
      index = this.#holding(at + border, index);
      yield index;
      if (++index === this.size) return;
      at = this.#haystack.indexOf(needle, this.#starts[index]! - border);
    }
  }

  /** The last text from `index` on that begins at or before `at`. */
  #holding(at: number, index: number): number {
    let low = index;
    let high = this.size;
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (this.#starts[middle]! <= at) low = middle;
      else high = middle;
    }
    return low;
  }

  #check(records: number): void {
    const starts = this.#starts;
    const firsts = this.#firsts;
    if (starts[0] !== 1 || starts[this.size] !== this.#haystack.length) refuse('its texts do not fill it');
    if (firsts[0] !== 0 || firsts[this.size] !== this.#places.length) refuse('its places do not fill it');
    for (let i = 0; i < this.size; i++) {
      if (starts[i + 1]! <= starts[i]! || this.#haystack[starts[i + 1]! - 1] !== SEPARATOR) refuse('a text has no end');
      if (firsts[i + 1]! < firsts[i]!) refuse('its places are out of order');
    }
    for (const place of this.#places) if (place >= records) refuse('a place is outside of the run');
  }
}

const BORDER = Buffer.of(SEPARATOR);
const NONE = Buffer.alloc(0);

function layout(texts: number, places: number) {
  const startsAt = HEADER_BYTES;
  const firstsAt = startsAt + 4 * (texts + 1);
  const placesAt = firstsAt + 4 * (texts + 1);
  return { startsAt, firstsAt, placesAt, haystackAt: placesAt + 2 * places };
}

function refuse(why: string): never {
  throw new CloisterError('STORE_FAILED', `the index of the log is damaged: ${why}; delete it, it is made anew`);
}
