/**
 * Coefficients at the width of their prime instead of 64 bits. Pure.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';

/** Bytes that `count` coefficients below each of `primes` take: each polynomial is padded to a byte. */
export function packedBytes(count: number, primes: readonly bigint[]): number {
  return primes.reduce((sum, prime) => sum + Math.ceil((count * bitsOf(prime)) / 8), 0);
}

function bitsOf(prime: bigint): number {
  return prime.toString(2).length;
}

/**
 * Packs polynomials, `count` coefficients for each of `primes`, least significant bit first.
 *
 * @param words - Coefficients as pairs of 32-bit words, low word first: how SEAL writes them.
 */
export function packWords(words: Uint32Array, count: number, primes: readonly bigint[]): Uint8Array {
  const packed = new Uint8Array(packedBytes(count, primes));
  let at = 0;
  primes.forEach((prime, p) => {
    const bits = bitsOf(prime);
    const low = Math.min(bits, 32);
    const high = bits - low;
    // At most 7 bits wait in `held` when up to 32 more come: 39 bits are exact in a double.
    let held = 0;
    let waiting = 0;
    const push = (value: number, width: number): void => {
      held += value * 2 ** waiting;
      waiting += width;
      while (waiting >= 8) {
        packed[at++] = held % 256;
        held = Math.floor(held / 256);
        waiting -= 8;
      }
    };
    for (let i = 0; i < count; i++) {
      const word = 2 * (p * count + i);
      push(words[word]!, low);
      if (high > 0) push(words[word + 1]!, high);
    }
    if (waiting > 0) packed[at++] = held;
  });
  return packed;
}

/**
 * Reads what {@link packWords} wrote.
 *
 * @throws {CloisterError} `HE_INVALID_MESSAGE` when the length is another, a coefficient is not below its prime, or the bits that fill
 *   the last byte are not 0.
 */
export function unpackWords(packed: Uint8Array, count: number, primes: readonly bigint[]): Uint32Array {
  const expected = packedBytes(count, primes);
  if (packed.length !== expected) throw invalid(`polynomials of ${expected} bytes are due, got ${packed.length}`);
  const words = new Uint32Array(2 * count * primes.length);
  let at = 0;
  primes.forEach((prime, p) => {
    const bits = bitsOf(prime);
    const low = Math.min(bits, 32);
    const high = bits - low;
    const [mostHigh, mostLow] = [Number(prime >> 32n), Number(prime & 0xffff_ffffn)];
    let held = 0;
    let waiting = 0;
    const pull = (width: number): number => {
      while (waiting < width) {
        held += packed[at++]! * 2 ** waiting;
        waiting += 8;
      }
      const value = held % 2 ** width;
      held = Math.floor(held / 2 ** width);
      waiting -= width;
      return value;
    };
    for (let i = 0; i < count; i++) {
      const word = 2 * (p * count + i);
      const lowWord = pull(low);
      const highWord = high > 0 ? pull(high) : 0;
      if (highWord > mostHigh || (highWord === mostHigh && lowWord >= mostLow))
        throw invalid('a coefficient is not below its prime');
      words[word] = lowWord;
      words[word + 1] = highWord;
    }
    if (held !== 0) throw invalid('the bits after the last coefficient are not 0');
  });
  return words;
}

function invalid(why: string): CloisterError {
  return new CloisterError('HE_INVALID_MESSAGE', why);
}
