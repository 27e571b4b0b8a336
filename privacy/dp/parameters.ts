/**
 * The numbers that a mechanism is built from, told apart by the compiler: losses, sensitivities, and what neighbours are.
 * @module
 */
import { type Brand, CloisterError } from '../../src/base/index.ts';

/**
 * What makes two datasets neighbours: `add-remove`, one has one more subject; `replace-one`, one subject's records differ;
 * `replace-special`, one subject's records are turned into records that contribute nothing. A bound on a loss holds for the
 * relation it was derived under, and for no other.
 */
export type Adjacency = 'add-remove' | 'replace-one' | 'replace-special';

/** The relation a sensitivity was derived under: has to be said wherever it is not `add-remove`. */
export type NeighboringOption<A extends Adjacency> = 'add-remove' extends A
  ? { readonly neighboring?: NoInfer<A> }
  : { readonly neighboring: NoInfer<A> };

declare const under: unique symbol;

/** Something that holds for neighbours by `A` alone. */
export interface Under<A extends Adjacency> {
  readonly [under]: (neighbours: A) => A;
}

/** A pure differential-privacy loss, unitless. */
export type Epsilon = Brand<number, 'Epsilon'>;
/** A probability that a bound on a loss does not hold. */
export type Delta = Brand<number, 'Delta'>;
/** A loss of zero-concentrated differential privacy (Bun & Steinke 2016), unitless. */
export type Rho = Brand<number, 'Rho'>;
/** A loss of Gaussian differential privacy (Dong, Roth & Su 2022): sensitivity over standard deviation, unitless. */
export type Mu = Brand<number, 'Mu'>;

/** The most that one step to a neighbour by `A` changes an integer vector, summed over its cells. */
export type L1Sensitivity<A extends Adjacency = 'add-remove'> = Brand<number, 'L1Sensitivity'> & Under<A>;
/** The most that one step to a neighbour by `A` changes an integer vector, in squares summed over its cells: an integer. */
export type SquaredL2Sensitivity<A extends Adjacency = 'add-remove'> = Brand<number, 'SquaredL2Sensitivity'> & Under<A>;
/** The most that one step to a neighbour by `A` changes any one cell of an integer vector. */
export type LInfSensitivity<A extends Adjacency = 'add-remove'> = Brand<number, 'LInfSensitivity'> & Under<A>;

const MOST_LOSS = 1e6;
/** Below this every noise is wider than all integers of a float64. */
const LEAST_LOSS = 2 ** -60;
const MOST_SENSITIVITY = 2 ** 30; // at 1e-6 epsilon the error bar still is an exact integer below 2^53

/**
 * Checks and brands a pure differential-privacy loss: 2^-60 to 10^6.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` on anything else: NaN, infinities, 0, -0, subnormals, strings, BigInts.
 * @example
 * ```ts
 * epsilon(0.5); // 0.5
 * ```
 */
export function epsilon(value: number): Epsilon {
  return within(value, 'epsilon', LEAST_LOSS, MOST_LOSS) as Epsilon;
}

/**
 * Checks and brands a probability of failure: above 0 and below 1, and no subnormal.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` on anything else.
 * @example
 * ```ts
 * delta(1e-9); // 1e-9
 * ```
 */
export function delta(value: number): Delta {
  if (value === 1) throw refusal('delta', 'a number below 1', value);
  return within(value, 'delta', 2 ** -1022, 1) as Delta;
}

/**
 * Checks and brands a zCDP loss: 2^-60 to 10^6.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` on anything else.
 * @example
 * ```ts
 * rho(0.125); // 0.125
 * ```
 */
export function rho(value: number): Rho {
  return within(value, 'rho', LEAST_LOSS, MOST_LOSS) as Rho;
}

/**
 * Checks and brands a Gaussian loss: 2^-29 to 1,000, whose square halved is a {@link Rho}.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` on anything else.
 * @example
 * ```ts
 * mu(0.5); // 0.5
 * ```
 */
export function mu(value: number): Mu {
  return within(value, 'mu', 2 ** -29, 1000) as Mu;
}

/**
 * Checks and brands an L1 sensitivity: an integer from 1 to 2^30. That it is the sensitivity of anything is the caller's
 * claim: see the proof beside each statistic.
 *
 * @param neighboring - The relation it was derived under; `add-remove` unless said otherwise.
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when it is not.
 * @example
 * ```ts
 * l1Sensitivity(3); // 3
 * ```
 */
export function l1Sensitivity<A extends Adjacency = 'add-remove'>(value: number, neighboring?: A): L1Sensitivity<A> {
  checkAdjacency(neighboring);
  return whole(value, 'an L1 sensitivity', MOST_SENSITIVITY) as L1Sensitivity<A>;
}

/**
 * Checks and brands the square of an L2 sensitivity: an integer from 1 to 2^53 - 1. Squared, because for integer vectors the
 * square is an integer and the root hardly ever is.
 *
 * @param neighboring - The relation it was derived under; `add-remove` unless said otherwise.
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when it is not.
 * @example
 * ```ts
 * squaredL2Sensitivity(3); // 3: three cells change by one each
 * ```
 */
export function squaredL2Sensitivity<A extends Adjacency = 'add-remove'>(
  value: number,
  neighboring?: A,
): SquaredL2Sensitivity<A> {
  checkAdjacency(neighboring);
  return whole(value, 'a squared L2 sensitivity', Number.MAX_SAFE_INTEGER) as SquaredL2Sensitivity<A>;
}

/**
 * Checks and brands a sensitivity of single cells: an integer from 1 to 2^30.
 *
 * @param neighboring - The relation it was derived under; `add-remove` unless said otherwise.
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when it is not.
 * @example
 * ```ts
 * lInfSensitivity(1); // 1
 * ```
 */
export function lInfSensitivity<A extends Adjacency = 'add-remove'>(
  value: number,
  neighboring?: A,
): LInfSensitivity<A> {
  checkAdjacency(neighboring);
  return whole(value, 'an L-infinity sensitivity', MOST_SENSITIVITY) as LInfSensitivity<A>;
}

/** The relation that options name, checked; `add-remove` where they name none. */
export function neighboringOf<A extends Adjacency>(options: NeighboringOption<A>): A {
  checkAdjacency(options.neighboring);
  return (options.neighboring ?? 'add-remove') as A;
}

/** @throws {CloisterError} `DP_INVALID_PARAMETER` when `value` is given and no {@link Adjacency}. */
export function checkAdjacency(value: unknown): void {
  if (value !== undefined && value !== 'add-remove' && value !== 'replace-one' && value !== 'replace-special') {
    throw refusal('neighboring', `'add-remove', 'replace-one' or 'replace-special'`, value);
  }
}

function within(value: unknown, name: string, least: number, most: number): number {
  if (typeof value !== 'number' || !(value >= least && value <= most)) {
    throw refusal(name, `a number from ${least} to ${most}`, value);
  }
  return value;
}

function whole(value: unknown, name: string, most: number): number {
  if (!Number.isSafeInteger(value) || (value as number) < 1 || (value as number) > most) {
    throw refusal(name, `an integer from 1 to ${most === 2 ** 30 ? '2^30' : '2^53 - 1'}`, value);
  }
  return value as number;
}

function refusal(name: string, expected: string, value: unknown): CloisterError {
  const came = typeof value === 'number' ? String(value) : typeof value;
  return new CloisterError('DP_INVALID_PARAMETER', `${name} is ${expected}, got ${came}`);
}
