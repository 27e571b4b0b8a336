/**
 * A label by the votes of the nearest examples.
 * @module
 */
import { CloisterError, osRandom, type RandomSource } from '../../../src/base/index.ts';
import type { GaussianEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import { randomBits } from '../noise/bits.ts';
import { sampleRoundedGaussian } from '../noise/rounded-gaussian.ts';
import { type Private, type Released, takePrivate } from '../private.ts';
import { classesParameter, countVotes, sigmaParameter, wholeParameter } from './votes.ts';

/** What {@link neighbourVote} is told. */
export interface NeighbourVoteOptions {
  /** Number of neighbours who vote: 1 to 65,536. */
  readonly neighbours: number;
  /** Number of labels, 2 to 65,536. */
  readonly classes: number;
  /** Standard deviation of the noise on each count, in votes: an integer from 1 to 2^14. */
  readonly sigma: number;
  /** The point whose label is asked for: public, finite numbers. */
  readonly query: readonly number[];
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
}

/** One subject's example: a point and its label. */
export interface LabelledPoint {
  readonly point: ArrayLike<number>;
  readonly label: number;
}

/** The deviation of the noise is 2^20 of the units that votes are counted in. */
const SHIFT = 20;

/**
 * Returns the mechanism that lets the `neighbours` examples nearest to the query (Euclidean distance) vote on its label, with
 * Gaussian noise on each count (`neighbours.proof.md`). One example for each subject; neighbours in the sense of privacy have
 * one more or one less, which exchanges one voter at most. On a Poisson sample (`poissonSampling`, `releaseSample`) each
 * query costs far less.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range. `release` throws `INVALID_ARGUMENT` when its
 *   argument was released before; never because of examples: a point that does not fit is no neighbour, a label that is none
 *   counts for label 0.
 * @see Zhu et al. 2020, Private-kNN, https://doi.org/10.1109/CVPR42600.2020.01187
 * @example
 * ```ts
 * const vote = neighbourVote({ neighbours: 100, classes: 2, sigma: 5, query: [0, 1] });
 * const examples = Array.from({ length: 300 }, (_, i) => ({ point: [0, i / 300], label: i < 100 ? 0 : 1 }));
 * vote.release(holdPrivate(examples)).value; // 1
 * ```
 */
export function neighbourVote(
  options: NeighbourVoteOptions,
): Mechanism<readonly LabelledPoint[], number, 'add-remove'> {
  const neighbours = wholeParameter('neighbours', options.neighbours, 1, 65_536);
  const classes = classesParameter(options.classes);
  const sigma = sigmaParameter('sigma', options.sigma);
  const { query, random = osRandom } = options;
  if (sigma > 2 ** 14 || !Array.isArray(query) || query.length === 0 || !query.every(Number.isFinite)) {
    const message = 'sigma is at most 2^14, and a query is a list of finite numbers';
    throw new CloisterError('DP_INVALID_PARAMETER', message);
  }
  // One vote is worth so much that the noise has a deviation of at least sigma votes.
  const worth = Math.floor(2 ** SHIFT / sigma);
  const event: GaussianEvent = Object.freeze({
    kind: 'gaussian',
    noiseMultiplier: (sigma / Math.SQRT2) * (1 - 2 ** -50), // one voter for another moves two counts
    neighboring: 'add-remove',
  });
  return Object.freeze({
    neighboring: 'add-remove',
    event,
    release(held: Private<readonly LabelledPoint[], 'add-remove'>): Released<number> {
      const labels = nearestLabels(takePrivate(held), query, neighbours);
      const counts = countVotes(labels, labels.length, classes);
      const bits = randomBits(random);
      let [winner, most] = [0, Number.NEGATIVE_INFINITY];
      for (const [i, count] of counts.entries()) {
        const noised = count * worth + sampleRoundedGaussian(SHIFT, bits);
        if (noised > most) [winner, most] = [i, noised];
      }
      return Object.freeze({ kind: 'released', value: winner, event });
    },
  });
}

/**
 * The labels of the nearest examples, by distance and then by place: an order in which one example more moves one out at
 * most.
 */
export function nearestLabels(
  examples: readonly LabelledPoint[],
  query: readonly number[],
  neighbours: number,
): number[] {
  const near: { readonly distance: number; readonly label: number }[] = [];
  for (const example of examples) {
    const distance = squaredDistance(example?.point, query);
    if (distance !== undefined) near.push({ distance, label: example.label });
  }
  near.sort((a, b) => a.distance - b.distance); // stable: equals stay in their order
  return near.slice(0, neighbours).map(({ label }) => label);
}

function squaredDistance(point: ArrayLike<number>, query: readonly number[]): number | undefined {
  if (point === null || typeof point !== 'object' || point.length !== query.length) return undefined;
  let sum = 0;
  for (let i = 0; i < query.length; i++) {
    const value: unknown = point[i];
    if (typeof value !== 'number' || !Number.isFinite(value)) return undefined;
    sum += (value - query[i]!) ** 2;
  }
  return sum; // possibly Infinity, which sorts last
}
