/**
 * What SEAL 4.1 writes, taken apart and put together again. Nothing here trusts a length. Pure.
 *
 * Every object begins with a header of 16 bytes: `5E A1 10 04 01 00 00 00` (magic, header size, version 4.1, no compression, zeros)
 * and its whole length as u64. All numbers are little-endian.
 *
 * | ciphertext | bytes |
 * |---|---|
 * | header | 16 |
 * | id of the modulus | 32 |
 * | 1 (in NTT form) | 1 |
 * | polynomials, degree N, primes K | 8, 8, 8 |
 * | scale, as a double; correction factor 1 | 8, 8 |
 * | header of an array, count | 16, 8 |
 * | coefficients, prime by prime, polynomial by polynomial | 8 each |
 * | where the second polynomial is left out: header, 1 (Blake2xb), seed | 16, 1, 64 |
 *
 * | keys of key switching | bytes |
 * |---|---|
 * | header | 16 |
 * | id of the key modulus | 32 |
 * | places M: 1 for relinearisation, N for rotations | 8 |
 * | for each place: digits D, 0 where there is no key | 8 |
 * | D ciphertexts over all primes, seeded | |
 * @module
 */
import { CloisterError, concatBytes, equalBytes } from '../../../src/base/index.ts';

const MAGIC = Uint8Array.of(0x5e, 0xa1, 0x10, 4, 1, 0, 0, 0);
const HEADER = 16;
/** Bytes of a ciphertext before its coefficients. */
const BEFORE = HEADER + 32 + 1 + 5 * 8 + HEADER + 8;
const SEED = 64;
const SEED_OBJECT = HEADER + 1 + SEED;

/** A ciphertext of two polynomials, of which the second may be a seed. */
export interface SealCipher {
  /** Coefficients as pairs of 32-bit words, low word first: one polynomial where there is a seed, two where there is none. */
  readonly words: Uint32Array;
  readonly seed: Uint8Array | undefined;
}

/** What every ciphertext of one kind has in common. */
export interface CipherShape {
  readonly id: Uint8Array;
  readonly degree: number;
  readonly primes: number;
  readonly scale: number;
}

/** The bytes of a ciphertext as SEAL reads them. */
export function writeCipher({ words, seed }: SealCipher, shape: CipherShape): Uint8Array {
  const [before, between] = framesOf(words.length / 2, seed !== undefined, shape);
  const coefficients = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  return concatBytes(before, coefficients, between, seed ?? new Uint8Array(0));
}

/** What stands before the coefficients of a ciphertext, and between them and the seed: known without looking at either. */
function framesOf(count: number, seeded: boolean, shape: CipherShape): readonly [Uint8Array, Uint8Array] {
  const bytes = new Uint8Array(BEFORE);
  const view = new DataView(bytes.buffer);
  writeHeader(bytes, 0, BEFORE + 8 * count + (seeded ? SEED_OBJECT : 0));
  bytes.set(shape.id, 16);
  bytes[48] = 1;
  writeCount(view, 49, 2);
  writeCount(view, 57, shape.degree);
  writeCount(view, 65, shape.primes);
  view.setFloat64(73, shape.scale, true);
  writeCount(view, 81, 1);
  writeHeader(bytes, 89, HEADER + 8 + 8 * count);
  writeCount(view, 105, count);
  const between = new Uint8Array(seeded ? HEADER + 1 : 0);
  if (seeded) {
    writeHeader(between, 0, SEED_OBJECT);
    between[HEADER] = 1;
  }
  return [bytes, between];
}

/**
 * Takes apart a ciphertext that SEAL wrote.
 *
 * @throws {CloisterError} `HE_INVALID_MESSAGE` when it is not of `shape`, in any byte that is not a coefficient or the seed.
 */
export function readCipher(bytes: Uint8Array, shape: CipherShape): SealCipher {
  const one = shape.degree * shape.primes;
  const seeded = bytes.length === BEFORE + 8 * one + SEED_OBJECT;
  if (!seeded && bytes.length !== BEFORE + 16 * one)
    throw invalid(`a ciphertext of ${BEFORE + 16 * one} bytes is due, got ${bytes.length}`);
  const count = seeded ? one : 2 * one;
  const end = BEFORE + 8 * count;
  const [before, between] = framesOf(count, seeded, shape);
  if (!equalBytes(bytes.subarray(0, BEFORE), before) || !equalBytes(bytes.subarray(end, end + between.length), between))
    throw invalid('a ciphertext is not as SEAL 4.1 writes it');
  const words = new Uint32Array(bytes.slice(BEFORE, end).buffer);
  return { words, seed: seeded ? bytes.slice(-SEED) : undefined };
}

/** Keys of key switching: the digits of each place that has a key. */
export type SwitchKeys = ReadonlyMap<number, readonly SealCipher[]>;

/** The bytes of keys as SEAL reads them. */
export function writeKeys(keys: SwitchKeys, places: number, shape: CipherShape): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let place = 0; place < places; place++) {
    const digits = keys.get(place) ?? [];
    parts.push(counted(digits.length), ...digits.map(digit => writeCipher(digit, shape)));
  }
  const body = concatBytes(shape.id, counted(places), ...parts);
  const header = new Uint8Array(HEADER);
  writeHeader(header, 0, HEADER + body.length);
  return concatBytes(header, body);
}

/**
 * Takes apart seeded keys that SEAL wrote.
 *
 * @throws {CloisterError} `HE_INVALID_MESSAGE` when they are not of `shape`, in any byte.
 */
export function readKeys(bytes: Uint8Array, places: number, shape: CipherShape): SwitchKeys {
  const size = BEFORE + 8 * shape.degree * shape.primes + SEED_OBJECT;
  const head = new Uint8Array(HEADER);
  writeHeader(head, 0, bytes.length);
  if (!equalBytes(bytes.subarray(0, HEADER + 40), concatBytes(head, shape.id, counted(places))))
    throw invalid('keys are not as SEAL 4.1 writes them');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const keys = new Map<number, readonly SealCipher[]>();
  let at = HEADER + 32 + 8;
  for (let place = 0; place < places; place++) {
    if (at + 8 > bytes.length) throw invalid('keys end early');
    const digits = view.getBigUint64(at, true);
    at += 8;
    if (digits > shape.primes || at + Number(digits) * size > bytes.length) throw invalid('keys end early');
    const read = Array.from({ length: Number(digits) }, (_, d) =>
      readCipher(bytes.subarray(at + d * size, at + (d + 1) * size), shape),
    );
    if (read.length > 0) keys.set(place, read);
    at += read.length * size;
  }
  if (at !== bytes.length) throw invalid(`${bytes.length - at} bytes follow the keys`);
  return keys;
}

function writeHeader(bytes: Uint8Array, at: number, length: number): void {
  bytes.set(MAGIC, at);
  writeCount(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), at + 8, length);
}

function writeCount(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % 2 ** 32, true);
  view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
}

function counted(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  writeCount(new DataView(bytes.buffer), 0, value);
  return bytes;
}

function invalid(why: string): CloisterError {
  return new CloisterError('HE_INVALID_MESSAGE', why);
}
