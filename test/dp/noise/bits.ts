/**
 * Bits that tests choose: scripted, counted, seeded. None of this exists outside tests.
 * @module
 */
import type { Bits } from '../../../privacy/dp/index.ts';
import type { RandomSource } from '../../../src/base/index.ts';

/** Thrown when a script has no bit left. */
export class OutOfBits extends Error {}

// One object for all: an enumeration throws it a million times, and a stack for each would cost more than the rest.
const outOfBits = new OutOfBits();

/** The bits of `script` (0 or 1 each), then {@link OutOfBits}. `used` counts them. */
export function scriptedBits(script: readonly number[]): Bits & { used(): number; rewind(): void } {
  let at = 0;
  return {
    take(count) {
      if (at + count > script.length) throw outOfBits;
      let value = 0;
      for (let i = 0; i < count; i++) value = 2 * value + script[at++]!;
      return value;
    },
    used: () => at,
    rewind: () => {
      at = 0;
    },
  };
}

/** A seeded source (xoshiro128**, Blackman & Vigna 2018), so that a statistical test gives the same verdict each time. */
export function seededRandom(seed: number): RandomSource {
  const state = new Uint32Array(4);
  let s = seed >>> 0;
  for (let i = 0; i < 4; i++) {
    // splitmix32 spreads the seed over the state.
    s = (s + 0x9e3779b9) >>> 0;
    let z = s;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    state[i] = z ^ (z >>> 16);
  }
  const rotate = (x: number, k: number): number => (x << k) | (x >>> (32 - k));
  const next = (): number => {
    const result = Math.imul(rotate(Math.imul(state[1]!, 5), 7), 9) >>> 0;
    const t = state[1]! << 9;
    state[2]! ^= state[0]!;
    state[3]! ^= state[1]!;
    state[1]! ^= state[2]!;
    state[0]! ^= state[3]!;
    state[2]! ^= t;
    state[3] = rotate(state[3]!, 11);
    return result;
  };
  return {
    fill(target) {
      for (let i = 0; i < target.length; i++) target[i] = next() >>> 24;
    },
  };
}

/**
 * The probability of each outcome of `draw` over all strings of at most `depth` fair bits, by going through them all, and the
 * mass of those that need more. Exact: every probability is a sum of powers of two that a float64 holds.
 */
export function enumerate<T>(draw: (bits: Bits) => T, depth: number): { mass: Map<T, number>; open: number } {
  const mass = new Map<T, number>();
  let open = 0;
  const script: number[] = [];
  const bits = scriptedBits(script);
  const visit = (): void => {
    bits.rewind();
    try {
      const outcome = draw(bits);
      mass.set(outcome, (mass.get(outcome) ?? 0) + 2 ** -script.length);
    } catch (error) {
      if (error !== outOfBits) throw error;
      if (script.length === depth) {
        open += 2 ** -depth;
        return;
      }
      for (const bit of [0, 1]) {
        script.push(bit);
        visit();
        script.pop();
      }
    }
  };
  visit();
  return { mass, open };
}
