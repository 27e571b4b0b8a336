/**
 * The discrete Laplace mechanism on integer vectors.
 * @module
 */
import {
  CloisterError,
  MICRO_PER_EPSILON,
  type MicroEpsilon,
  microEpsilon,
  osRandom,
  type RandomSource,
} from '../../../src/base/index.ts';
import type { DpEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import {
  type Adjacency,
  type L1Sensitivity,
  l1Sensitivity,
  type NeighboringOption,
  neighboringOf,
} from '../parameters.ts';
import { type Noised, type Private, takePrivate } from '../private.ts';
import { randomBits } from './bits.ts';
import { errorBar, type NoiseScale, sampleDiscreteLaplace } from './discrete-laplace.ts';

/** What {@link laplaceMechanism} is told. A `Statistic` holds the first two. */
export type LaplaceOptions<A extends Adjacency = 'add-remove'> = NeighboringOption<A> & {
  /** L1 sensitivity of the answer. */
  readonly sensitivity: L1Sensitivity<A>;
  /** Number of integers in the answer: a public fact. */
  readonly cells: number;
  /** What one release costs: the amount that was charged. */
  readonly cost: MicroEpsilon;
  /** Sets negative cells to 0 after the noise. Free of cost, and biased upwards; the default leaves counts unbiased. */
  readonly nonNegative?: boolean;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
};

/** A mechanism ready to release. */
export interface LaplaceMechanism<A extends Adjacency = 'add-remove'>
  extends Mechanism<readonly number[], readonly number[], A> {
  readonly scale: NoiseScale;
  /** Half-width of the 95% error bar of one cell. */
  readonly errorBar: number;
  /**
   * Adds noise to each cell and returns the sum. Takes the answer out of `held`, so nothing can be released twice.
   *
   * Never throws because of what `held` holds: a cell that is missing or no integer below 2^53 in size counts as 0, cells
   * beyond the last are dropped, a sum beyond 2^53 - 1 is cut there.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when `held` was released before.
   */
  release(held: Private<readonly number[], A>): Noised<readonly number[]>;
}

const LARGEST = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * Returns the mechanism that adds independent discrete Laplace noise of scale exactly `sensitivity * 10^6 / cost` to each cell:
 * pure differential privacy with epsilon `cost / 10^6`, for neighbours that differ by adding or removing one subject
 * (`laplace-mechanism.proof.md`).
 *
 * Reads no data and draws no randomness until `release`. The time that a release takes depends a little on its noise.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when the sensitivity, the number of cells (1 to 65,536) or the cost (at least
 *   one micro-epsilon) is out of range.
 * @example
 * ```ts
 * const mechanism = laplaceMechanism({ sensitivity: l1Sensitivity(1), cells: 10, cost: spendOf(0.5) });
 * mechanism.scale; // { numerator: 2n, denominator: 1n }
 * mechanism.errorBar; // 6
 * ```
 */
export function laplaceMechanism<A extends Adjacency = 'add-remove'>(options: LaplaceOptions<A>): LaplaceMechanism<A> {
  const sensitivity = l1Sensitivity(options.sensitivity, options.neighboring);
  const neighboring = neighboringOf<A>(options);
  const cost = microEpsilon(options.cost);
  const { cells, nonNegative = false, random = osRandom } = options;
  if (cost === 0) throw new CloisterError('DP_INVALID_PARAMETER', 'a release costs at least one micro-epsilon, got 0');
  if (!Number.isInteger(cells) || cells < 1 || cells > 65_536) {
    throw new CloisterError('DP_INVALID_PARAMETER', `an answer has 1 to 65,536 cells, got ${String(cells)}`);
  }
  const scale = reduce(BigInt(sensitivity) * MICRO_PER_EPSILON, BigInt(cost));
  const halfWidth = Number(errorBar(scale, 95));
  const event: DpEvent = Object.freeze({
    kind: 'discrete-laplace',
    sensitivity,
    scale: Object.freeze({ numerator: String(scale.numerator), denominator: String(scale.denominator) }),
  });
  return Object.freeze({
    scale,
    neighboring,
    event,
    errorBar: halfWidth,
    release(held: Private<readonly number[], A>): Noised<readonly number[]> {
      const answer = takePrivate(held);
      const bits = randomBits(random);
      const value = Array.from({ length: cells }, (_, i) => {
        const cell = Number.isSafeInteger(answer[i]) ? BigInt(answer[i]!) : 0n;
        const noised = cell + sampleDiscreteLaplace(scale, bits);
        const least = nonNegative ? 0n : -LARGEST;
        return Number(noised < least ? least : noised > LARGEST ? LARGEST : noised);
      });
      return Object.freeze({
        kind: 'released',
        value: Object.freeze(value),
        event,
        cost,
        errorBar: halfWidth,
        nonNegative,
      });
    },
  });
}

function reduce(numerator: bigint, denominator: bigint): NoiseScale {
  let [a, b] = [numerator, denominator];
  while (b !== 0n) [a, b] = [b, a % b];
  return Object.freeze({ numerator: numerator / a, denominator: denominator / a });
}
