/**
 * Random bits from a random source, read in blocks.
 * @module
 */
import type { RandomSource } from '../../../src/base/index.ts';

/** Independent uniform bits. */
export interface Bits {
  /** The next `count` bits, 0 to 24, as an integer; the first bit is the highest. */
  take(count: number): number;
}

const BLOCK = 4096;

/**
 * Returns a reader of `random` that asks for 4,096 bytes at a time and overwrites each byte as it is used, so that a memory
 * image taken later does not hold the noise of earlier releases. What is buffered and unused is lost with the reader; a
 * reader must not survive a fork or a snapshot of the machine.
 *
 * A source that gives single bits itself, as the auditor's oracle does, is read without a buffer.
 */
export function randomBits(random: RandomSource & Partial<Bits>): Bits {
  if (random.take) return random as Bits;
  const block = new Uint8Array(BLOCK);
  let at = BLOCK;
  let word = 0;
  let held = 0;
  return {
    take(count) {
      while (held < count) {
        if (at === BLOCK) {
          random.fill(block);
          at = 0;
        }
        word = (word << 8) | block[at]!; // at most 23 + 8 bits: never negative
        block[at++] = 0;
        held += 8;
      }
      held -= count;
      const bits = word >>> held;
      word &= (1 << held) - 1;
      return bits;
    },
  };
}
