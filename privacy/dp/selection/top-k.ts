/**
 * The k best candidates, one after the other.
 * @module
 */
import { CloisterError, osRandom, toEpsilon } from '../../../src/base/index.ts';
import type { DpEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import { type Bits, randomBits } from '../noise/bits.ts';
import { type Adjacency, neighboringOf } from '../parameters.ts';
import { type Private, takePrivate } from '../private.ts';
import { drawExponential } from './exponential.ts';
import { readScores, type SelectionOptions, type Sharpness, sharpnessOf } from './scores.ts';

/** What {@link topK} is told. `cost` is that of each of the k selections. */
export type TopKOptions<A extends Adjacency = 'add-remove'> = SelectionOptions<A> & {
  /** How many to select: 1 to the number of candidates. */
  readonly k: number;
};

/**
 * Returns the mechanism that selects k candidates without replacement, each by the exponential mechanism among those that are
 * left; the answer is their indices in the order of selection. The same law as adding Gumbel noise once and taking the k
 * largest.
 *
 * Each selection costs `cost`; the event is k selections of bounded range, whose zCDP loss is `k e^2 / 8` and not `k e^2 / 2`
 * (`top-k.proof.md`).
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range. `release` throws `INVALID_ARGUMENT` when its
 *   argument was released before; never because of scores: one that is missing or no safe integer counts as 0.
 * @see Durfee & Rogers 2019, Lemma 4.2, https://arxiv.org/abs/1905.04273
 * @example
 * ```ts
 * const best = topK({ sensitivity: lInfSensitivity(1), candidates: 10, k: 3, cost: spendOf(0.5), monotonic: true });
 * pureLoss(best.event); // 1500000
 * ```
 */
export function topK<A extends Adjacency = 'add-remove'>(
  options: TopKOptions<A>,
): Mechanism<readonly number[], readonly number[], A> {
  const sharpness = sharpnessOf<A>(options);
  const neighboring = neighboringOf<A>(options);
  const { candidates, cost, k, random = osRandom } = options;
  if (!Number.isInteger(k) || k < 1 || k > candidates) {
    throw new CloisterError('DP_INVALID_PARAMETER', `k is an integer from 1 to ${candidates}, got ${String(k)}`);
  }
  const one: DpEvent = Object.freeze({ kind: 'bounded-range', epsilon: toEpsilon(cost), neighboring });
  const event: DpEvent = Object.freeze({ kind: 'self-composition', event: one, count: k });
  return Object.freeze({
    neighboring,
    event,
    release(held: Private<readonly number[], A>) {
      const scores = readScores(takePrivate(held), candidates);
      const value = Object.freeze(drawTopK(scores, k, sharpness, randomBits(random)));
      return Object.freeze({ kind: 'released', value, event });
    },
  });
}

/** k indices, each drawn by the exponential mechanism from what is left. */
export function drawTopK(scores: readonly number[], k: number, sharpness: Sharpness, bits: Bits): number[] {
  const left = scores.map((score, i) => ({ score, i }));
  return Array.from({ length: k }, () => {
    const at = drawExponential(
      left.map(({ score }) => score),
      sharpness,
      bits,
    );
    return left.splice(at, 1)[0]!.i;
  });
}
