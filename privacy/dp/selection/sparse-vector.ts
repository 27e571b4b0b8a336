/**
 * The sparse vector technique: many questions «is it above?», of which only the ones answered «yes» cost.
 * @module
 */
import {
  CloisterError,
  MICRO_PER_EPSILON,
  type MicroEpsilon,
  microEpsilon,
  osRandom,
  type RandomSource,
  toEpsilon,
} from '../../../src/base/index.ts';
import type { DiscreteLaplaceEvent, DpEvent } from '../event.ts';
import { type Bits, randomBits } from '../noise/bits.ts';
import { type NoiseScale, sampleDiscreteLaplace } from '../noise/discrete-laplace.ts';
import { rational, toDigits } from '../noise/rational.ts';
import {
  type Adjacency,
  type LInfSensitivity,
  lInfSensitivity,
  type NeighboringOption,
  neighboringOf,
} from '../parameters.ts';
import { type Private, type Released, takePrivate } from '../private.ts';
import { positiveCost, readScore } from './scores.ts';

/** What {@link sparseVector} is told. */
export type SparseVectorOptions<A extends Adjacency = 'add-remove'> = NeighboringOption<A> & {
  /** The most that one step to a neighbour changes the answer to any one question. */
  readonly sensitivity: LInfSensitivity<A>;
  /** How many questions may be answered «above» before it ends: 1 to 2^20. */
  readonly positives: number;
  /** What all comparisons together cost, however many. */
  readonly cost: MicroEpsilon;
  /** What each number costs that comes with an «above»; left out, no numbers come. */
  readonly numericCost?: MicroEpsilon;
  /**
   * Whether one step to a neighbour moves all answers in the same direction, as with counts under `add-remove`. Default false.
   */
  readonly monotonic?: boolean;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
};

/** What one question is answered: `value` with an «above», if numbers were paid for. */
export type SparseAnswer = { readonly above: false } | { readonly above: true; readonly value?: number };

/** Questions against one dataset, until the positives are used up. */
export interface SparseVector<A extends Adjacency = 'add-remove'> {
  readonly neighboring: A;
  /** All that it may ever cost; charged before the first question, and stopping early gives nothing back. */
  readonly event: DpEvent;
  /** How many more questions may be answered «above». */
  readonly remaining: number;
  /**
   * Whether the private answer, after noise, reaches `threshold` after noise. Never throws because of the private value: one
   * that is no safe integer counts as 0.
   *
   * @param threshold - A public safe integer, chosen freely for each question.
   * @throws {CloisterError} `DP_INVALID_PARAMETER` when the threshold is none, `POLICY_REFUSED` when no positive remains; both
   *   before the value is read. `INVALID_ARGUMENT` when `held` was released before.
   */
  ask(held: Private<number, A>, threshold: number): Released<SparseAnswer>;
}

/**
 * Returns the sparse vector technique in the variant that is private: noise on the threshold drawn once and never shown,
 * fresh noise on every answer scaled by the number of positives, an end after that many, and numbers that are paid for and
 * noised apart (`sparse-vector.proof.md`). Five variants in the literature miss one of these and are not.
 *
 * The cost is split between threshold and answers as `1 : (2c)^(2/3)` (`c^(2/3)` if monotonic), c being the positives, which
 * makes the comparison most accurate; both parts are whole micro-epsilons, so nothing is rounded between the charge and the
 * noise.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range (a cost of at least two micro-epsilons).
 * @see Lyu, Su & Li 2017, Algorithm 7 and Section 4.2, https://arxiv.org/abs/1603.01699
 * @example
 * ```ts
 * const alerts = sparseVector({ sensitivity: lInfSensitivity(1), positives: 2, cost: spendOf(1), numericCost: spendOf(0.5) });
 * pureLoss(alerts.event); // 2000000: 1 for the comparisons, twice 0.5 for the numbers
 * alerts.remaining; // 2
 * ```
 */
export function sparseVector<A extends Adjacency = 'add-remove'>(options: SparseVectorOptions<A>): SparseVector<A> {
  const sensitivity = lInfSensitivity(options.sensitivity, options.neighboring);
  const neighboring = neighboringOf<A>(options);
  const cost = positiveCost(options.cost);
  const { positives, monotonic = false, random = osRandom } = options;
  const numericCost = options.numericCost === undefined ? undefined : positiveCost(options.numericCost);
  if (!Number.isInteger(positives) || positives < 1 || positives > 2 ** 20) {
    throw new CloisterError('DP_INVALID_PARAMETER', `positives are 1 to 2^20, got ${String(positives)}`);
  }
  if (typeof monotonic !== 'boolean' || cost < 2) {
    const message = `monotonic is true or false, and the comparisons cost at least two micro-epsilons, got ${String(monotonic)} and ${cost}`;
    throw new CloisterError('DP_INVALID_PARAMETER', message);
  }
  const { thresholdCost, answerCost } = splitCost(cost, positives, monotonic);
  const unit = BigInt(sensitivity) * MICRO_PER_EPSILON;
  const thresholdScale = rational(unit, BigInt(thresholdCost));
  const answerScale = rational(unit * BigInt(positives) * (monotonic ? 1n : 2n), BigInt(answerCost));
  const numericScale = numericCost && rational(unit, BigInt(numericCost));
  const bits = randomBits(random);
  const thresholdNoise = sampleDiscreteLaplace(thresholdScale, bits);
  const event = eventOf(cost, positives, numericScale, sensitivity, neighboring);
  let remaining = positives;
  return Object.freeze({
    neighboring,
    event,
    get remaining() {
      return remaining;
    },
    ask(held: Private<number, A>, threshold: number) {
      if (!Number.isSafeInteger(threshold))
        throw new CloisterError('DP_INVALID_PARAMETER', `a threshold is a safe integer, got ${String(threshold)}`);
      if (remaining === 0)
        throw new CloisterError('POLICY_REFUSED', `all ${positives} positive answers were given; nothing was read`);
      const truth = BigInt(readScore(takePrivate(held)));
      const above = isAbove(truth, BigInt(threshold) + thresholdNoise, answerScale, bits);
      if (above) remaining--;
      const value: SparseAnswer =
        above && numericScale ? { above, value: clamp(truth + sampleDiscreteLaplace(numericScale, bits)) } : { above };
      return Object.freeze({ kind: 'released', value: Object.freeze(value), event });
    },
  });
}

/** Whether the noised answer reaches the noised threshold. */
export function isAbove(truth: bigint, noisedThreshold: bigint, scale: NoiseScale, bits: Bits): boolean {
  return truth + sampleDiscreteLaplace(scale, bits) >= noisedThreshold;
}

/** Whole micro-epsilons for the threshold's noise and for the answers', at least one each, adding up to `cost`. */
export function splitCost(
  cost: number,
  positives: number,
  monotonic: boolean,
): { thresholdCost: MicroEpsilon; answerCost: MicroEpsilon } {
  // A float chooses between integers; whatever it chooses, the sum is the cost.
  const share = 1 / (1 + ((monotonic ? 1 : 2) * positives) ** (2 / 3));
  const thresholdCost = Math.min(cost - 1, Math.max(1, Math.round(cost * share)));
  return { thresholdCost: microEpsilon(thresholdCost), answerCost: microEpsilon(cost - thresholdCost) };
}

function eventOf(
  cost: MicroEpsilon,
  positives: number,
  numeric: NoiseScale | undefined,
  sensitivity: number,
  neighboring: Adjacency,
): DpEvent {
  const comparisons: DpEvent = Object.freeze({ kind: 'pure', epsilon: toEpsilon(cost), neighboring });
  if (!numeric) return comparisons;
  const number: DiscreteLaplaceEvent = Object.freeze({
    kind: 'discrete-laplace',
    sensitivity,
    scale: toDigits(numeric),
    cells: 1,
    neighboring,
  });
  const numbers: DpEvent = Object.freeze({ kind: 'self-composition', event: number, count: positives });
  return Object.freeze({ kind: 'composition', events: Object.freeze([comparisons, numbers]) });
}

function clamp(value: bigint): number {
  const most = BigInt(Number.MAX_SAFE_INTEGER);
  return Number(value > most ? most : value < -most ? -most : value);
}
