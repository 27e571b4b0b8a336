/**
 * The continuous Gaussian mechanism, rounded to integers: for scopes that count in mu squared.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import type { GaussianEvent } from '../event.ts';
import { type Adjacency, neighboringOf, rho, squaredL2Sensitivity } from '../parameters.ts';
import { type AdditiveMechanism, additive } from './additive.ts';
import type { GaussianOptions } from './gaussian-mechanism.ts';
import { type Rational, rational } from './rational.ts';
import { sampleRoundedGaussian } from './rounded-gaussian.ts';

/** A rounded Gaussian mechanism ready to release. */
export interface RoundedGaussianMechanism<A extends Adjacency = 'add-remove'> extends AdditiveMechanism<A> {
  readonly event: GaussianEvent;
  /** Standard deviation of the noise before it is rounded, in steps. */
  readonly sigma: Rational;
}

/** A normal number is drawn in parts of 2^-24 of its deviation. */
const SHIFT = 24;

/**
 * Returns the mechanism that adds independent Gaussian noise to each cell and rounds the sum to the nearest integer, exactly: zCDP
 * with `rho`, and Gaussian differential privacy with `mu = sqrt(2 rho)`, for neighbours by the relation that the sensitivity was
 * derived under (`rounded-gaussian-mechanism.proof.md`). The deviation is rounded up to a whole part of 2^24 steps.
 *
 * For zCDP the noise of `gaussianMechanism` is as good; this one's cost adds up in mu squared, too. The time of a draw depends on it.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when the sensitivity, the number of cells (1 to 65,536) or rho is out of range, or
 *   the deviation would be above 2^24 steps.
 * @see Karney 2016, Algorithm N, https://arxiv.org/abs/1303.6257; Dong, Roth & Su 2022, Theorem 2.7
 * @example
 * ```ts
 * const mechanism = roundedGaussianMechanism({ squaredL2Sensitivity: squaredL2Sensitivity(1), cells: 10, rho: rho(0.125) });
 * mechanism.event.kind; // 'gaussian'
 * mechanism.errorBar; // 4
 * ```
 */
export function roundedGaussianMechanism<A extends Adjacency = 'add-remove'>(
  options: GaussianOptions<A>,
): RoundedGaussianMechanism<A> {
  const neighboring = neighboringOf<A>(options);
  const squared = squaredL2Sensitivity<A>(options.squaredL2Sensitivity, neighboring);
  // Four roundings of at most half an ulp each, made good by the last factor; rounding down makes the noise wider.
  const parts = Math.floor(2 ** SHIFT * Math.sqrt((2 * rho(options.rho)) / squared) * (1 - 2 ** -50));
  if (!(parts >= 1 && parts <= 2 ** 40)) {
    const message = `the deviation of the noise is from 2^-16 to 2^24 steps, rho ${options.rho} at squared sensitivity ${squared} asks for ${Math.sqrt(squared / 2 / options.rho)}`;
    throw new CloisterError('DP_INVALID_PARAMETER', message, { rho: options.rho, squaredL2Sensitivity: squared });
  }
  const noiseMultiplier = (2 ** SHIFT / (parts * Math.sqrt(squared))) * (1 - 2 ** -50);
  const event = Object.freeze({ kind: 'gaussian', noiseMultiplier, neighboring } as const);
  const bar = BigInt(Math.ceil((1.96 * 2 ** SHIFT) / parts));
  const mechanism = additive(options, {
    ...{ neighboring, event, bar },
    // The nearest integer. Numerators stay below 2^42, so the quotient is nearer to itself than to an integer that it is not.
    draw: bits => Math.floor((2 * sampleRoundedGaussian(SHIFT, bits) + parts) / (2 * parts)),
  });
  return Object.freeze({ ...mechanism, event, sigma: rational(1n << BigInt(SHIFT), BigInt(parts)) });
}
