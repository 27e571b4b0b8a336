import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { contextPrimes } from '../../privacy/he/primes.ts';
import { packedBytes, packWords, unpackWords } from '../../privacy/he/wire/bits.ts';
import { openEnvelope, sealEnvelope } from '../../privacy/he/wire/envelope.ts';
import { readCipher, readKeys, writeCipher, writeKeys } from '../../privacy/he/wire/seal-format.ts';

/** Coefficients below their primes, as pairs of words. */
function coefficients(count: number, primes: readonly bigint[], seed: number): Uint32Array {
  const words = new Uint32Array(2 * count * primes.length);
  let state = BigInt(seed) + 1n;
  primes.forEach((prime, p) => {
    for (let i = 0; i < count; i++) {
      state = (state * 6_364_136_223_846_793_005n + 1_442_695_040_888_963_407n) & ((1n << 64n) - 1n);
      // The corners are where a shift by one would show.
      const value = i === 0 ? prime - 1n : i === 1 ? 0n : state % prime;
      words[2 * (p * count + i)] = Number(value & 0xffff_ffffn);
      words[2 * (p * count + i) + 1] = Number(value >> 32n);
    }
  });
  return words;
}

const shape = { id: new Uint8Array(32).fill(7), degree: 16, primes: 2, scale: 2 ** 30 };

test('the primes of a context are those that SEAL takes', () => {
  // SEAL's CoeffModulus::Create(8192, {60, 40, 40, 60}).
  expect(contextPrimes(8192, [60, 40, 40, 60])).toEqual([
    1_152_921_504_606_748_673n,
    1_099_510_890_497n,
    1_099_511_480_321n,
    1_152_921_504_606_830_593n,
  ]);
  expect(() => contextPrimes(32_768, new Array(40).fill(20))).toThrow(/not enough primes/);
});

describe('packed coefficients', () => {
  test('come back as they were, at every width of prime', () => {
    for (const bits of [[20], [26, 31], [32], [33, 40], [50, 60]]) {
      const primes = contextPrimes(1024, bits);
      const words = coefficients(37, primes, bits[0]!);
      const packed = packWords(words, 37, primes);
      expect(packed).toHaveLength(packedBytes(37, primes));
      expect(unpackWords(packed, 37, primes)).toEqual(words);
    }
  });

  test('that are not below their prime, of another length, or with bits behind the last, are refused', () => {
    const primes = contextPrimes(1024, [31]);
    const words = coefficients(5, primes, 1);
    words[4] = Number(primes[0]!);
    expect(() => unpackWords(packWords(words, 5, primes), 5, primes)).toThrow(/below its prime/);
    const packed = packWords(coefficients(5, primes, 1), 5, primes);
    expect(() => unpackWords(packed.subarray(1), 5, primes)).toThrow(/20 bytes are due, got 19/);
    packed[19]! |= 0x80;
    expect(() => unpackWords(packed, 5, primes)).toThrow(/after the last coefficient/);
  });
});

describe('what SEAL writes', () => {
  const seeded = { words: coefficients(16, [97n, 193n], 3), seed: new Uint8Array(64).fill(9) };

  test('is taken apart and put together to the same bytes', () => {
    const bytes = writeCipher(seeded, shape);
    expect(writeCipher(readCipher(bytes, shape), shape)).toEqual(bytes);
    const keys = new Map([[3, [seeded, seeded]]]);
    const all = writeKeys(keys, 8, shape);
    expect(writeKeys(readKeys(all, 8, shape), 8, shape)).toEqual(all);
  });

  test('and nothing else: one changed byte of a header is refused, wherever it is', () => {
    const bytes = writeCipher(seeded, shape);
    const [first, last] = [113, bytes.length - 64];
    for (let at = 0; at < bytes.length; at++) {
      // Coefficients and the seed are the sender's to choose.
      if ((at >= first && at < bytes.length - 81) || at >= last) continue;
      const changed = bytes.slice();
      changed[at]! ^= 1;
      expect(() => readCipher(changed, shape)).toThrow(expect.objectContaining({ code: 'HE_INVALID_MESSAGE' }));
    }
  });

  test('any bytes, and any cut of right ones, are refused or read, never more', () => {
    const all = writeKeys(new Map([[1, [seeded]]]), 4, shape);
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 1200 }),
          fc.nat(all.length).map(end => all.slice(0, end)),
          fc.tuple(fc.nat(all.length - 1), fc.integer({ min: 1, max: 255 })).map(([at, by]) => {
            const changed = all.slice();
            changed[at]! ^= by;
            return changed;
          }),
        ),
        bytes => {
          try {
            expect(writeKeys(readKeys(bytes, 4, shape), 4, shape)).toEqual(bytes);
          } catch (error) {
            expect(error).toMatchObject({ code: 'HE_INVALID_MESSAGE' });
          }
        },
      ),
      { numRuns: Number(process.env['CLOISTER_FUZZ_RUNS'] ?? 500) },
    );
  });
});

describe('an envelope', () => {
  const plan = new Uint8Array(32).fill(1);
  const session = new Uint8Array(16).fill(2);
  const message = sealEnvelope({ kind: 'request', plan, session, number: 3 }, [Uint8Array.of(4, 5), Uint8Array.of(6)]);

  test('opens to its parts', () => {
    expect(openEnvelope(message, { kind: 'request', plan }, [2, 1])).toEqual({
      session,
      number: 3,
      parts: [Uint8Array.of(4, 5), Uint8Array.of(6)],
    });
  });

  test.each([
    ['a cut', message.subarray(0, -1), /64 bytes is due, got 63/],
    ['ten times the bytes', new Uint8Array(640), /64 bytes is due, got 640/],
    ['nothing', new Uint8Array(0), /got 0/],
    ['another version', message.map((byte, i) => (i === 3 ? 50 : byte)), /version 1: "CHE2"/],
    ['another kind', message.map((byte, i) => (i === 4 ? 1 : byte)), /kind request is due, got kind 1/],
    ['another plan', message.map((byte, i) => (i === 20 ? 9 : byte)), /another model/],
    ['a number over 2^53', message.map((byte, i) => (i === 60 ? 255 : byte)), /over 2\^53/],
  ])('%s is refused', (_, bytes, why) => {
    expect(() => openEnvelope(bytes, { kind: 'request', plan }, [2, 1])).toThrow(why);
  });
});
