/**
 * Permute-and-flip: a candidate picked by going through all in random order, once.
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
 * Returns the mechanism that goes through the candidates in uniformly random order and answers the first whose coin, with
 * probability `exp(-e (best - u_i) / (2 s))`, falls on its side (`exp(-e (best - u_i) / s)` for monotonic scores), where `u`
 * are integer scores of sensitivity `s` and `e = cost / 10^6` (`permute-and-flip.proof.md`). The answer is the candidate's
 * index.
 *
 * It is `e`-differentially private and never worse than the exponential mechanism at the same cost; but its losses do not lie
 * in a range of width `e`, so it is accounted as what it is, a pure loss, and composes worse. It is also report-noisy-max
 * with exponential noise.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range. `release` throws `INVALID_ARGUMENT` when its
 *   argument was released before; never because of scores: one that is missing or no safe integer counts as 0.
 * @see McKenna & Sheldon 2020, https://arxiv.org/abs/2010.12603; Ding et al. 2021, https://arxiv.org/abs/2105.07260
 * @example
 * ```ts
 * const pick = permuteAndFlip({ sensitivity: lInfSensitivity(1), candidates: 3, cost: spendOf(0.5), monotonic: true });
 * pick.event; // { kind: 'pure', epsilon: 0.5, neighboring: 'add-remove' }
 * ```
 */
export function permuteAndFlip<A extends Adjacency = 'add-remove'>(
  options: SelectionOptions<A>,
): Mechanism<readonly number[], number, A> {
  const sharpness = sharpnessOf(options);
  const neighboring = neighboringOf<A>(options);
  const { candidates, cost, random = osRandom } = options;
  const event: DpEvent = Object.freeze({ kind: 'pure', epsilon: toEpsilon(cost), neighboring });
  return Object.freeze({
    neighboring,
    event,
    release(held: Private<readonly number[], A>) {
      const scores = readScores(takePrivate(held), candidates);
      return Object.freeze({ kind: 'released', value: drawByFlips(scores, sharpness, randomBits(random)), event });
    },
  });
}

/** The index that permute-and-flip picks: the permutation is drawn as it is needed. */
export function drawByFlips(scores: readonly number[], sharpness: Sharpness, bits: Bits): number {
  const best = largest(scores);
  const left = scores.map((_, i) => i);
  for (;;) {
    // The best is accepted for certain, so `left` never runs empty.
    const at = uniform(left.length, bits);
    const i = left[at]!;
    if (acceptScore(best, scores[i]!, sharpness, bits)) return i;
    left[at] = left[left.length - 1]!;
    left.pop();
  }
}
