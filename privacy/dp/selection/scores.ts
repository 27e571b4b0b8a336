/**
 * What all mechanisms that pick a candidate by its score are told, and how a score becomes odds.
 * @module
 */
import {
  CloisterError,
  MICRO_PER_EPSILON,
  type MicroEpsilon,
  microEpsilon,
  type RandomSource,
} from '../../../src/base/index.ts';
import { bigBernoulliExpOf } from '../noise/bernoulli.ts';
import type { Bits } from '../noise/bits.ts';
import { type Rational, rational } from '../noise/rational.ts';
import { type Adjacency, type LInfSensitivity, lInfSensitivity, type NeighboringOption } from '../parameters.ts';

/** What a selection is told: public parameters alone. */
export type SelectionOptions<A extends Adjacency = 'add-remove'> = NeighboringOption<A> & {
  /** The most that one step to a neighbour changes the score of any one candidate. */
  readonly sensitivity: LInfSensitivity<A>;
  /** Number of candidates, 1 to 2^20: a public fact. */
  readonly candidates: number;
  /** What one selection costs. */
  readonly cost: MicroEpsilon;
  /**
   * Whether one step to a neighbour never raises one score and lowers another, as with counts of subjects under `add-remove`.
   * Twice as sharp at the same cost. Default false.
   */
  readonly monotonic?: boolean;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
};

const MOST_CANDIDATES = 2 ** 20;

/** The loss per unit of score. */
export type Sharpness = Rational;

/** @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range. */
export function sharpnessOf<A extends Adjacency>(options: SelectionOptions<A>): Sharpness {
  const sensitivity = lInfSensitivity(options.sensitivity, options.neighboring);
  const cost = positiveCost(options.cost);
  const { candidates, monotonic = false } = options;
  if (!Number.isInteger(candidates) || candidates < 1 || candidates > MOST_CANDIDATES) {
    throw new CloisterError('DP_INVALID_PARAMETER', `candidates are 1 to 2^20, got ${String(candidates)}`);
  }
  if (typeof monotonic !== 'boolean') {
    throw new CloisterError('DP_INVALID_PARAMETER', `monotonic is true or false, got ${typeof monotonic}`);
  }
  return rational(BigInt(cost), BigInt(sensitivity) * MICRO_PER_EPSILON * (monotonic ? 1n : 2n));
}

/** @throws {CloisterError} `DP_INVALID_PARAMETER` when the cost is no positive whole number of micro-epsilons. */
export function positiveCost(cost: MicroEpsilon): MicroEpsilon {
  const checked = microEpsilon(cost);
  if (checked === 0)
    throw new CloisterError('DP_INVALID_PARAMETER', 'a selection costs at least one micro-epsilon, got 0');
  return checked;
}

/** The scores as safe integers, one for each candidate: what is missing or no such integer counts as 0. */
export function readScores(held: readonly number[], candidates: number): number[] {
  return Array.from({ length: candidates }, (_, i) => readScore(held[i]));
}

export function readScore(score: number | undefined): number {
  return Number.isSafeInteger(score) ? score! : 0;
}

/** True with probability `exp(-(best - score) * sharpness)`: the odds of a candidate beside those of the best. */
export function acceptScore(best: number, score: number, sharpness: Sharpness, bits: Bits): boolean {
  if (score === best) return true;
  return bigBernoulliExpOf((BigInt(best) - BigInt(score)) * sharpness.numerator, sharpness.denominator, bits);
}

/** The largest of at least one score; no spread, whose arguments would overflow the stack. */
export function largest(scores: readonly number[]): number {
  return scores.reduce((best, score) => Math.max(best, score), Number.NEGATIVE_INFINITY);
}
