/**
 * Report noisy max: the candidate whose score is largest after noise.
 * @module
 */
import { osRandom, toEpsilon } from '../../../src/base/index.ts';
import type { DpEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import { type Bits, randomBits } from '../noise/bits.ts';
import { type NoiseScale, sampleDiscreteLaplace } from '../noise/discrete-laplace.ts';
import { type Adjacency, neighboringOf } from '../parameters.ts';
import { type Private, takePrivate } from '../private.ts';
import { readScores, type SelectionOptions, sharpnessOf } from './scores.ts';

/**
 * Returns the mechanism that adds discrete Laplace noise of scale `2 s / e` (`s / e` for monotonic scores) to each integer
 * score and answers the index of the largest sum, the first of equals; `s` is the sensitivity and `e = cost / 10^6`
 * (`noisy-max.proof.md`). The noised scores stay inside: the cost covers the index alone.
 *
 * {@link permuteAndFlip} is more accurate at the same cost; this one takes a time that depends less on the scores.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range. `release` throws `INVALID_ARGUMENT` when its
 *   argument was released before; never because of scores: one that is missing or no safe integer counts as 0.
 * @see Dwork & Roth 2014, Claim 3.9, https://www.cis.upenn.edu/~aaroth/Papers/privacybook.pdf
 * @example
 * ```ts
 * const pick = reportNoisyMax({ sensitivity: lInfSensitivity(1), candidates: 3, cost: spendOf(0.5) });
 * pick.event; // { kind: 'pure', epsilon: 0.5, neighboring: 'add-remove' }
 * ```
 */
export function reportNoisyMax<A extends Adjacency = 'add-remove'>(
  options: SelectionOptions<A>,
): Mechanism<readonly number[], number, A> {
  const { numerator, denominator } = sharpnessOf(options);
  const scale = { numerator: denominator, denominator: numerator };
  const neighboring = neighboringOf<A>(options);
  const { candidates, cost, random = osRandom } = options;
  const event: DpEvent = Object.freeze({ kind: 'pure', epsilon: toEpsilon(cost), neighboring });
  return Object.freeze({
    neighboring,
    event,
    release(held: Private<readonly number[], A>) {
      const scores = readScores(takePrivate(held), candidates);
      return Object.freeze({ kind: 'released', value: drawNoisyMax(scores, scale, randomBits(random)), event });
    },
  });
}

/** The index of the largest noised score, the first of equals. */
export function drawNoisyMax(scores: readonly number[], scale: NoiseScale, bits: Bits): number {
  let winner = 0;
  let most: bigint | undefined;
  for (const [i, score] of scores.entries()) {
    const noised = BigInt(score) + sampleDiscreteLaplace(scale, bits);
    if (most === undefined || noised > most) [winner, most] = [i, noised];
  }
  return winner;
}
