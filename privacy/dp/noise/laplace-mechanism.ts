/**
 * The discrete Laplace mechanism, on integer vectors and on floats on a grid.
 * @module
 */
import { CloisterError, MICRO_PER_EPSILON, type MicroEpsilon, microEpsilon } from '../../../src/base/index.ts';
import {
  type Adjacency,
  type L1Sensitivity,
  l1Sensitivity,
  type NeighboringOption,
  neighboringOf,
} from '../parameters.ts';
import { type AdditiveMechanism, type AnswerOptions, additive } from './additive.ts';
import { errorBar, type NoiseScale, sampleDiscreteLaplace } from './discrete-laplace.ts';
import { obliviousLaplace } from './oblivious.ts';
import { rational, toDigits } from './rational.ts';

/** What {@link laplaceMechanism} is told. A `Statistic` holds all but `cost`. */
export type LaplaceOptions<A extends Adjacency = 'add-remove'> = NeighboringOption<A> &
  AnswerOptions & {
    /** L1 sensitivity of the answer, in steps. */
    readonly sensitivity: L1Sensitivity<A>;
    /** What one release costs: the amount that was charged. */
    readonly cost: MicroEpsilon;
  };

/** A Laplace mechanism ready to release. */
export interface LaplaceMechanism<A extends Adjacency = 'add-remove'> extends AdditiveMechanism<A> {
  /** Scale of the noise, in steps. */
  readonly scale: NoiseScale;
}

/**
 * Returns the mechanism that adds independent discrete Laplace noise of scale exactly `sensitivity * 10^6 / cost` to each cell:
 * pure differential privacy with epsilon `cost / 10^6`, for neighbours by the relation that the sensitivity was derived under
 * (`laplace-mechanism.proof.md`).
 *
 * Reads no data and draws no randomness until `release`. Up to scale 8 the time of a draw does not depend on it; beyond it does,
 * a little.
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
  const neighboring = neighboringOf<A>(options);
  const sensitivity = l1Sensitivity<A>(options.sensitivity, neighboring);
  const cost = microEpsilon(options.cost);
  if (cost === 0) throw new CloisterError('DP_INVALID_PARAMETER', 'a release costs at least one micro-epsilon, got 0');
  const scale = rational(BigInt(sensitivity) * MICRO_PER_EPSILON, BigInt(cost));
  const event = Object.freeze({
    kind: 'discrete-laplace',
    sensitivity,
    scale: toDigits(scale),
    ...(options.cells === 1 && { cells: 1 as const }),
    ...(neighboring !== 'add-remove' && { neighboring }),
  } as const);
  const draw = obliviousLaplace(scale) ?? (bits => sampleDiscreteLaplace(scale, bits));
  const mechanism = additive(options, { neighboring, event, bar: errorBar(scale, 95), draw, cost });
  return Object.freeze({ ...mechanism, scale });
}
