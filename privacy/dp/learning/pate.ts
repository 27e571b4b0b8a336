/**
 * PATE: many teachers, each taught on its own part of the data, vote on a label; noise hides each of them.
 * @module
 */
import { osRandom, type RandomSource } from '../../../src/base/index.ts';
import type { DpEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import { randomBits } from '../noise/bits.ts';
import { type Private, type Released, takePrivate } from '../private.ts';
import { classesParameter, countVotes, noisyPlurality, sigmaParameter, voteNoise, wholeParameter } from './votes.ts';

/** What {@link gnMax} is told. */
export interface GnMaxOptions {
  /** Number of teachers, each of whom casts one vote: 1 to 2^20. */
  readonly teachers: number;
  /** Number of labels, 2 to 65,536. */
  readonly classes: number;
  /** Standard deviation of the noise on each count, in votes: an integer from 1 to 2^20. */
  readonly sigma: number;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
}

/** What {@link confidentGnMax} is told: `sigma` is that of the vote once the teachers are found to agree. */
export interface ConfidentGnMaxOptions extends GnMaxOptions {
  /** How many votes the winner must have, after noise, for an answer: a safe integer. */
  readonly threshold: number;
  /** Standard deviation of the noise on the largest count as it is compared: an integer from 1 to 2^20. */
  readonly thresholdSigma: number;
}

/** A label, or none where the teachers did not agree enough. */
export type ConfidentAnswer = { readonly answered: false } | { readonly answered: true; readonly label: number };

/**
 * Returns GNMax: the label with the most votes after discrete Gaussian noise on each count (`pate.proof.md`). Takes the
 * teachers' labels, one each, and counts them itself, so one teacher moves two counts by one at most. Neighbours differ in
 * one teacher's votes (`replace-one`); if each subject's data went to one teacher, that covers a subject.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range. `release` throws `INVALID_ARGUMENT` when its
 *   argument was released before; never because of votes: one that is missing or names no label counts for label 0.
 * @see Papernot et al. 2018, https://arxiv.org/abs/1802.08908
 * @example
 * ```ts
 * const vote = gnMax({ teachers: 250, classes: 10, sigma: 40 });
 * zcdpLoss(vote.event)! < 0.000626; // true: 1 / sigma^2
 * const labels = holdPrivate(Array(250).fill(7), 'replace-one');
 * vote.release(labels).value < 10; // true
 * ```
 */
export function gnMax(options: GnMaxOptions): Mechanism<readonly number[], number, 'replace-one'> {
  const teachers = wholeParameter('teachers', options.teachers, 1, 2 ** 20);
  const classes = classesParameter(options.classes);
  const { draw, event } = voteNoise(sigmaParameter('sigma', options.sigma), 2, 'replace-one');
  const { random = osRandom } = options;
  return Object.freeze({
    neighboring: 'replace-one',
    event,
    release(held: Private<readonly number[], 'replace-one'>): Released<number> {
      const counts = countVotes(takePrivate(held), teachers, classes);
      return Object.freeze({ kind: 'released', value: noisyPlurality(counts, draw, randomBits(random)), event });
    },
  });
}

/**
 * Returns Confident-GNMax: compares the largest count, after noise, with a threshold, and only above it answers as {@link
 * gnMax} does, with fresh noise (`pate.proof.md`). Its event is the cost of an answer, which is to be charged before a vote
 * is read; the event of a release without an answer is that of the comparison alone.
 *
 * @throws {CloisterError} as {@link gnMax}.
 * @see Papernot et al. 2018, Algorithm 1, https://arxiv.org/abs/1802.08908
 * @example
 * ```ts
 * const vote = confidentGnMax({ teachers: 250, classes: 10, threshold: 200, thresholdSigma: 150, sigma: 40 });
 * const { value } = vote.release(holdPrivate(Array(250).fill(3), 'replace-one'));
 * typeof value.answered; // 'boolean'
 * ```
 */
export function confidentGnMax(
  options: ConfidentGnMaxOptions,
): Mechanism<readonly number[], ConfidentAnswer, 'replace-one'> {
  const teachers = wholeParameter('teachers', options.teachers, 1, 2 ** 20);
  const classes = classesParameter(options.classes);
  const threshold = wholeParameter('threshold', options.threshold, -Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER);
  // One vote more or less moves the largest count by one.
  const comparison = voteNoise(sigmaParameter('thresholdSigma', options.thresholdSigma), 1, 'replace-one');
  const vote = voteNoise(sigmaParameter('sigma', options.sigma), 2, 'replace-one');
  const event: DpEvent = Object.freeze({ kind: 'composition', events: Object.freeze([comparison.event, vote.event]) });
  const { random = osRandom } = options;
  return Object.freeze({
    neighboring: 'replace-one',
    event,
    release(held: Private<readonly number[], 'replace-one'>): Released<ConfidentAnswer> {
      const counts = countVotes(takePrivate(held), teachers, classes);
      const bits = randomBits(random);
      const most = counts.reduce((best, count) => Math.max(best, count), 0);
      if (BigInt(most) + BigInt(comparison.draw(bits)) < BigInt(threshold))
        return Object.freeze({ kind: 'released', value: Object.freeze({ answered: false }), event: comparison.event });
      const label = noisyPlurality(counts, vote.draw, bits);
      return Object.freeze({ kind: 'released', value: Object.freeze({ answered: true, label }), event });
    },
  });
}
