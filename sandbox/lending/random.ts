/**
 * The capability `random`: random bytes.
 * @module
 */
import { createCipheriv, createHash } from 'node:crypto';
import type { RandomSource } from '../../src/base/index.ts';
import { type Capability, wholeNumber } from './capability.ts';

/** Random bytes: of the operating system, or, for a call that was given a seed, repeatable. */
export const RANDOM: Capability<never> = {
  name: 'random',
  sees: '(bytes: number) => ArrayBuffer',
  does: "Returns that many random bytes: the operating system's, or those that follow from the seed of the call.",
  records: 'nothing more',
  options: {
    calls: { default: 10_000, least: 0, most: 100_000_000 },
    bytes: { default: 1_048_576, least: 0, most: 1_073_741_824 },
  },
  guest: `use => bytes => use('fill', bytes)`,
  open(_, { random }, spend) {
    return {
      fill(given) {
        const bytes = wholeNumber(given, 'the number of bytes');
        spend(bytes);
        const answer = new Uint8Array(bytes);
        random.fill(answer);
        return answer.buffer;
      },
    };
  },
};

/**
 * Random bytes that follow from `seed` alone: the key stream of AES-256 in counter mode under SHA-256 of the seed. For work that has to
 * be repeated, not for secrets, unless the seed is one.
 */
export function seededRandom(seed: string): RandomSource {
  const key = createHash('sha256').update('cloister random 1\n').update(seed).digest();
  const stream = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  return {
    fill(target) {
      target.set(stream.update(new Uint8Array(target.length)));
    },
  };
}
