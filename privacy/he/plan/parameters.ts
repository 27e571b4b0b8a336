/**
 * Choosing the parameters of a context: nobody else has to. Pure.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import { findPrimes } from '../primes.ts';
import { assertSecure, MODULUS_BITS } from '../security.ts';

/** The parameters of one CKKS context. Plain data; equal parameters are equal contexts. */
export interface HeParameters {
  readonly scheme: 'ckks';
  /** Degree of the ring: twice the number of slots. */
  readonly degree: number;
  /** Data primes from the one that is dropped last to the one that is dropped first, then the special prime of key switching. */
  readonly primes: readonly bigint[];
  /** Bits of each prime, as SEAL is asked for them. */
  readonly bits: readonly number[];
  /** Scale at which values are kept. */
  readonly scale: number;
  /** Levels: how many products, of ciphertexts or with weights, fit behind one another. */
  readonly levels: number;
}

/** What the parameters have to hold. */
export interface ParameterNeeds {
  readonly levels: number;
  /** Slots that the widest layout takes. */
  readonly slots: number;
  /** The largest absolute value of any output. */
  readonly magnitude: number;
}

/** Fewer bits in a scale leave less than about three decimal digits after a few levels. */
export const LEAST_SCALE_BITS = 23;
/** More bits in a scale than this change no answer of a model whose weights are float32. */
export const MOST_SCALE_BITS = 40;

/**
 * Returns the smallest ring whose modulus holds `needs` at 128 bits of security, and in it the largest scale.
 *
 * @throws {CloisterError} `UNSUPPORTED_MODEL` when no ring up to degree 32,768 holds it, with how many levels too many there are.
 */
export function chooseParameters(needs: ParameterNeeds): HeParameters {
  for (const [degree, most] of MODULUS_BITS) {
    if (degree / 2 < needs.slots || degree < 4096) continue; // SEAL switches keys from 4096 on at useful sizes
    const parameters = fitRing(degree, most, needs);
    if (parameters !== undefined) return parameters;
  }
  const { levels, slots } = needs;
  const deepest = deepestFor(needs);
  throw new CloisterError(
    'UNSUPPORTED_MODEL',
    levels > deepest
      ? `encrypted inference: the model is ${levels} products deep, and ${deepest} fit at 128 bits of security without refresh. Take ${levels - deepest} ` +
          'activations or layers away, use squares in place of polynomials of higher degree, or allow the client to refresh'
      : `encrypted inference: a value has ${slots} elements, and 16,384 slots are the most`,
    { levels, slots, deepest },
  );
}

/** The most levels that fit the largest ring. */
export function deepestFor(needs: Omit<ParameterNeeds, 'levels'>): number {
  const [degree, most] = [...MODULUS_BITS].at(-1)!;
  for (let levels = 64; levels > 0; levels--) if (fitRing(degree, most, { ...needs, levels })) return levels;
  return 0;
}

function fitRing(degree: number, most: number, { levels, magnitude }: ParameterNeeds): HeParameters | undefined {
  // The sign, and a margin of two bits for the noise and for inputs a little out of range.
  const head = Math.max(3, Math.ceil(Math.log2(Math.max(1, magnitude))) + 3);
  for (let scale = MOST_SCALE_BITS; scale >= LEAST_SCALE_BITS; scale--) {
    const first = Math.min(60, scale + head);
    const data = first + levels * scale;
    if (data + first > most) continue;
    // Key switching adds noise by the ratio of the largest data prime to the special one: bits that are left over go there.
    const special = Math.min(most - data, first + 8, Math.max(50, first));
    const bits = [first, ...new Array<number>(levels).fill(scale), special];
    assertSecure(degree, data + special);
    const primes = findPrimes(degree, bits);
    if (primes === undefined) continue; // small primes of large rings are few
    return Object.freeze({
      scheme: 'ckks',
      degree,
      primes,
      bits: Object.freeze(bits),
      scale: 2 ** scale,
      levels,
    });
  }
  return undefined;
}
