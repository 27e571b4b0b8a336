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
 * Returns a reader of `random` that asks for 4,096 bytes at a time and overwrites each word as it is used, so that a memory
 * image taken later does not hold the noise of earlier releases: the last four bytes at most.
 *
 * Make one for each release, and let go of it when the release returns, as the mechanisms of this room do: a release is
 * synchronous, so no bits wait in memory between two of them. A snapshot of the machine, or a copy of the process, that is
 * resumed twice then draws its noise anew each time. Node has no way to notice a copy made in the middle of one.
 *
 * A source that gives single bits itself, as the auditor's oracle does, is read without a buffer.
 */
export function randomBits(random: RandomSource & Partial<Bits>): Bits {
  return random.take ? (random as Bits) : new BlockBits(random);
}

class BlockBits implements Bits {
  readonly #random: RandomSource;
  readonly #bytes = new Uint8Array(BLOCK);
  readonly #words = new DataView(this.#bytes.buffer);
  #at = BLOCK;
  /** 32 bits of the block, of which the lowest `#held` were not given out yet. */
  #word = 0;
  #held = 0;

  constructor(random: RandomSource) {
    this.#random = random;
  }

  take(count: number): number {
    const held = this.#held - count;
    if (held < 0) return this.#takeAcross(count);
    this.#held = held;
    return (this.#word >>> held) & ((1 << count) - 1);
  }

  /** What is held, and the rest of `count` from the next 32 bits. */
  #takeAcross(count: number): number {
    if (this.#at === BLOCK) {
      this.#random.fill(this.#bytes);
      this.#at = 0;
    }
    const first = this.#word & ((1 << this.#held) - 1);
    const missing = count - this.#held;
    this.#word = this.#words.getInt32(this.#at);
    this.#words.setInt32(this.#at, 0);
    this.#at += 4;
    this.#held = 32 - missing;
    return (first << missing) | (this.#word >>> this.#held);
  }
}
