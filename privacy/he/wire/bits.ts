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
  let start = 0;
  primes.forEach((prime, p) => {
    const bits = bitsOf(prime);
    const bytes = Math.ceil((count * bits) / 8);
    const out = new Uint32Array(Math.ceil(bytes / 4) + 1);
    let at = 0;
    let held = 0;
    let waiting = 0; // bits in `held`, 0 to 31
    const push = (value: number, width: number): void => {
      held |= value << waiting;
      if (waiting + width < 32) {
        waiting += width;
        return;
      }
      out[at++] = held;
      held = waiting === 0 ? 0 : value >>> (32 - waiting);
      waiting += width - 32;
    };
    const [low, high] = [Math.min(bits, 32), Math.max(0, bits - 32)];
    for (let i = 0; i < count; i++) {
      const word = 2 * (p * count + i);
      push(words[word]!, low);
      if (high > 0) push(words[word + 1]!, high);
    }
    out[at] = held;
    packed.set(new Uint8Array(out.buffer, 0, bytes), start);
    start += bytes;
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
  let start = 0;
  primes.forEach((prime, p) => {
    const bits = bitsOf(prime);
    const bytes = Math.ceil((count * bits) / 8);
    const from = new Uint32Array(Math.ceil(bytes / 4) + 1);
    new Uint8Array(from.buffer).set(packed.subarray(start, start + bytes));
    start += bytes;
    const [mostHigh, mostLow] = [Number(prime >> 32n), Number(prime & 0xffff_ffffn)];
    let bit = 0;
    const pull = (width: number): number => {
      const at = bit >>> 5;
      const shift = bit & 31;
      bit += width;
      const value = shift === 0 ? from[at]! : (from[at]! >>> shift) | (from[at + 1]! << (32 - shift));
      return width === 32 ? value >>> 0 : value & (2 ** width - 1);
    };
    const [low, high] = [Math.min(bits, 32), Math.max(0, bits - 32)];
    for (let i = 0; i < count; i++) {
      const word = 2 * (p * count + i);
      const lowWord = pull(low);
      const highWord = high > 0 ? pull(high) : 0;
      if (highWord > mostHigh || (highWord === mostHigh && lowWord >= mostLow))
        throw invalid('a coefficient is not below its prime');
      words[word] = lowWord;
      words[word + 1] = highWord;
    }
    const rest = 8 * bytes - count * bits;
    if (rest > 0 && pull(rest) !== 0) throw invalid('the bits after the last coefficient are not 0');
  });
  return words;
}

function invalid(why: string): CloisterError {
  return new CloisterError('HE_INVALID_MESSAGE', why);
}
