/**
 * The discrete Gaussian mechanism, on integer vectors and on floats on a grid.
 * @module
 */
import {
  type Adjacency,
  type NeighboringOption,
  neighboringOf,
  type Rho,
  rho,
  type SquaredL2Sensitivity,
  squaredL2Sensitivity,
} from '../parameters.ts';
import { type AdditiveMechanism, type AnswerOptions, additive } from './additive.ts';
import { discreteGaussian, gaussianErrorBar } from './discrete-gaussian.ts';
import { obliviousGaussian } from './oblivious.ts';
import { type Rational, rational, toDigits } from './rational.ts';

/** What {@link gaussianMechanism} is told. A `Statistic` holds all but `rho`. */
export type GaussianOptions<A extends Adjacency = 'add-remove'> = NeighboringOption<A> &
  AnswerOptions & {
    /** Squared L2 sensitivity of the answer, in squared steps. */
    readonly squaredL2Sensitivity: SquaredL2Sensitivity<A>;
    /** The zCDP loss that one release may cost. */
    readonly rho: Rho;
  };

/** A Gaussian mechanism ready to release. */
export interface GaussianMechanism<A extends Adjacency = 'add-remove'> extends AdditiveMechanism<A> {
  /** Parameter of the noise, in squared steps. */
  readonly sigmaSquared: Rational;
}

/** rho is counted in units of 2^-60. */
const RHO_UNITS = 2 ** 60;

/**
 * Returns the mechanism that adds independent discrete Gaussian noise with `sigma^2 = S^2 / (2 rho)` to each cell, S^2 the squared
 * L2 sensitivity: zCDP with `rho`, for neighbours by the relation that the sensitivity was derived under
 * (`gaussian-mechanism.proof.md`). rho is rounded down to a multiple of 2^-60, towards more noise.
 *
 * For an (epsilon, delta) goal, calibrate rho: `event` holds all that an accountant needs. Reads no data and draws no randomness
 * until `release`. Up to sigma 32 the time of a draw does not depend on it; beyond it does, a little.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when the sensitivity, the number of cells (1 to 65,536) or rho is out of range.
 * @see Canonne, Kamath & Steinke 2020, Theorem 14 for vectors, https://arxiv.org/abs/2004.00010
 * @example
 * ```ts
 * const mechanism = gaussianMechanism({ squaredL2Sensitivity: squaredL2Sensitivity(1), cells: 10, rho: rho(0.125) });
 * mechanism.sigmaSquared; // { numerator: 4n, denominator: 1n }
 * mechanism.errorBar; // 4
 * ```
 */
export function gaussianMechanism<A extends Adjacency = 'add-remove'>(
  options: GaussianOptions<A>,
): GaussianMechanism<A> {
  const neighboring = neighboringOf<A>(options);
  const sensitivitySquared = squaredL2Sensitivity<A>(options.squaredL2Sensitivity, neighboring);
  const units = BigInt(Math.floor(rho(options.rho) * RHO_UNITS)); // a product by a power of two is exact
  const sigmaSquared = rational(BigInt(sensitivitySquared) * BigInt(RHO_UNITS), 2n * units);
  const event = Object.freeze({
    kind: 'discrete-gaussian',
    sensitivitySquared,
    sigmaSquared: toDigits(sigmaSquared),
    ...(options.cells === 1 && { cells: 1 as const }),
    neighboring,
  } as const);
  const draw = obliviousGaussian(sigmaSquared) ?? discreteGaussian(sigmaSquared);
  const mechanism = additive(options, { neighboring, event, bar: gaussianErrorBar(sigmaSquared), draw });
  return Object.freeze({ ...mechanism, sigmaSquared });
}
