/**
 * The exponential mechanism: a candidate drawn with odds that are exponential in its score.
 * @module
 */
import { osRandom, toEpsilon } from '../../../src/base/index.ts';
import type { DpEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import { uniform } from '../noise/bernoulli.ts';
import { type Bits, randomBits } from '../noise/bits.ts';
import { type Adjacency, neighboringOf } from '../parameters.ts';
import { type Private, takePrivate } from '../private.ts';
import { acceptScore, largest, readScores, type SelectionOptions, type Sharpness, sharpnessOf } from './scores.ts';

/**
 * Returns the exponential mechanism: candidate i with probability exactly proportional to `exp(e u_i / (2 s))`, or `exp(e u_i
 * / s)` for monotonic scores, where `u` are integer scores of sensitivity `s` and `e = cost / 10^6`. No float is used
 * (`exponential.proof.md`). The answer is the candidate's index.
 *
 * Its losses lie in a range of width `e`, and its event says so: it composes better than what is merely `e`-private. Where
 * one selection is all there is, {@link permuteAndFlip} is at least as good at the same cost. The time of a release depends
 * on the scores: up to some tens of milliseconds at 65,536 candidates.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range. `release` throws `INVALID_ARGUMENT` when its
 *   argument was released before; never because of scores: one that is missing or no safe integer counts as 0.
 * @see McSherry & Talwar 2007; for the range: Durfee & Rogers 2019, https://arxiv.org/abs/1905.04273
 * @example
 * ```ts
 * const pick = exponentialMechanism({ sensitivity: lInfSensitivity(1), candidates: 3, cost: spendOf(0.5) });
 * pick.event; // { kind: 'bounded-range', epsilon: 0.5, neighboring: 'add-remove' }
 * ```
 */
export function exponentialMechanism<A extends Adjacency = 'add-remove'>(
  options: SelectionOptions<A>,
): Mechanism<readonly number[], number, A> {
  const sharpness = sharpnessOf(options);
  const neighboring = neighboringOf<A>(options);
  const { candidates, cost, random = osRandom } = options;
  const event: DpEvent = Object.freeze({ kind: 'bounded-range', epsilon: toEpsilon(cost), neighboring });
  return Object.freeze({
    neighboring,
    event,
    release(held: Private<readonly number[], A>) {
      const scores = readScores(takePrivate(held), candidates);
      return Object.freeze({ kind: 'released', value: drawExponential(scores, sharpness, randomBits(random)), event });
    },
  });
}

/**
 * An index with probability proportional to `exp(score * sharpness)`: uniform candidates, each kept with its odds beside the
 * best.
 */
export function drawExponential(scores: readonly number[], sharpness: Sharpness, bits: Bits): number {
  const best = largest(scores);
  for (;;) {
    const i = uniform(scores.length, bits);
    if (acceptScore(best, scores[i]!, sharpness, bits)) return i;
  }
}
