/**
 * Seeded randomness for drawing and training: repeatable, and therefore never for noise that protects anybody.
 * @module
 */

/** A stream of numbers that depends on its seed alone. */
export interface SeededRandom {
  /** Uniform in [0, 1), with 32 random bits. */
  uniform(): number;
  /** Uniform in [low, high). */
  between(low: number, high: number): number;
  /** Uniform in 0 … count − 1. */
  below(count: number): number;
  /** Normal with mean 0 and standard deviation `sigma`. */
  normal(sigma: number): number;
}

/**
 * Returns the stream of `seed`, a 32-bit integer. Streams of neighbouring seeds are unrelated to the eye; they are not
 * independent in any stronger sense.
 *
 * @see The generator is a Weyl sequence through the 32-bit finaliser of MurmurHash3 (Appleby 2011),
 *   https://github.com/aappleby/smhasher/wiki/MurmurHash3
 */
export function seededRandom(seed: number): SeededRandom {
  let state = mix(seed ^ 0x5bd1e995);
  const uniform = (): number => {
    state = (state + 0x9e3779b9) | 0;
    return (mix(state) >>> 0) / 4294967296;
  };
  return {
    uniform,
    between: (low, high) => low + (high - low) * uniform(),
    below: count => Math.floor(uniform() * count),
    // Box & Muller 1958; 1 − u is in (0, 1], so the logarithm is finite.
    normal: sigma => sigma * Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform()),
  };
}

function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
