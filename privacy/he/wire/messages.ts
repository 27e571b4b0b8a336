/**
 * The parts of messages, and their lengths, which follow from the plan. Pure.
 * @module
 */
import { concatBytes } from '../../../src/base/index.ts';
import { type ClientPlan, parametersOf } from '../client-plan.ts';
import { packedBytes, packWords, unpackWords } from './bits.ts';
import type { SealCipher, SwitchKeys } from './seal-format.ts';

const SEED_BYTES = 64;

/** Sizes of all parts for one plan. */
export interface MessageSizes {
  /** One key ciphertext: a polynomial over all primes, and a seed. */
  readonly key: number;
  /** One input: a polynomial over the data primes, and a seed. */
  readonly input: number;
  /** One output: two polynomials over the last prime. */
  readonly output: number;
  /** Bytes of the keys message, without its envelope. */
  readonly keys: number;
}

export function messageSizes(plan: ClientPlan): MessageSizes {
  const { degree, primes } = parametersOf(plan);
  const key = packedBytes(degree, primes) + SEED_BYTES;
  const digits = primes.length - 1;
  return {
    key,
    input: packedBytes(degree, primes.slice(0, -1)) + SEED_BYTES,
    output: 2 * packedBytes(degree, primes.slice(0, 1)),
    keys: key * (1 + digits * (plan.rotations.length + Number(plan.relinearises))),
  };
}

/** A seeded ciphertext, packed. */
export function packSeeded({ words, seed }: SealCipher, degree: number, primes: readonly bigint[]): Uint8Array {
  return concatBytes(packWords(words, degree, primes), seed!);
}

/** @throws {CloisterError} `HE_INVALID_MESSAGE` as {@link unpackWords}. */
export function unpackSeeded(bytes: Uint8Array, degree: number, primes: readonly bigint[]): SealCipher {
  const words = unpackWords(bytes.subarray(0, -SEED_BYTES), degree, primes);
  return { words, seed: bytes.slice(-SEED_BYTES) };
}

/** A whole ciphertext over one prime, packed: the first polynomial, then the second. */
export function packWhole({ words }: SealCipher, degree: number, prime: bigint): Uint8Array {
  return packWords(words, degree, [prime, prime]);
}

/** @throws {CloisterError} `HE_INVALID_MESSAGE` as {@link unpackWords}. */
export function unpackWhole(bytes: Uint8Array, degree: number, prime: bigint): SealCipher {
  return { words: unpackWords(bytes, degree, [prime, prime]), seed: undefined };
}

/** Keys, packed: place after place ascending, digit after digit. */
export function packKeys(keys: SwitchKeys, degree: number, primes: readonly bigint[]): Uint8Array {
  const places = [...keys].sort(([a], [b]) => a - b);
  return concatBytes(...places.flatMap(([, digits]) => digits.map(digit => packSeeded(digit, degree, primes))));
}

/** @throws {CloisterError} `HE_INVALID_MESSAGE` as {@link unpackWords}. */
export function unpackKeys(
  bytes: Uint8Array,
  places: readonly number[],
  degree: number,
  primes: readonly bigint[],
): SwitchKeys {
  const size = packedBytes(degree, primes) + SEED_BYTES;
  const digits = primes.length - 1;
  return new Map(
    places.map((place, p) => {
      const at = (d: number): number => (p * digits + d) * size;
      const read = Array.from({ length: digits }, (_, d) =>
        unpackSeeded(bytes.subarray(at(d), at(d) + size), degree, primes),
      );
      return [place, read] as const;
    }),
  );
}

/** Where SEAL keeps the keys of rotations: (3^steps mod 2N - 1) / 2, ascending. */
export function rotationPlaces(rotations: readonly number[], degree: number): readonly number[] {
  const modulus = 2 * degree;
  return rotations
    .map(steps => {
      let element = 1;
      for (let i = 0; i < steps; i++) element = (element * 3) % modulus;
      return (element - 1) / 2;
    })
    .sort((a, b) => a - b);
}
