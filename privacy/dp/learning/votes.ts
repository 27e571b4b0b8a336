/**
 * Votes of teachers or neighbours, and the label that has most of them after noise.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import type { DiscreteGaussianEvent } from '../event.ts';
import type { Bits } from '../noise/bits.ts';
import { discreteGaussian, type Sampler } from '../noise/discrete-gaussian.ts';
import { obliviousGaussian } from '../noise/oblivious.ts';
import { rational, toDigits } from '../noise/rational.ts';
import type { Adjacency } from '../parameters.ts';

const MOST_CLASSES = 65_536;
const MOST_SIGMA = 2 ** 20;

/** @throws {CloisterError} `DP_INVALID_PARAMETER` when it is no integer in range. */
export function wholeParameter(name: string, value: unknown, least: number, most: number): number {
  if (!Number.isSafeInteger(value) || (value as number) < least || (value as number) > most) {
    const came = typeof value === 'number' ? String(value) : typeof value;
    throw new CloisterError('DP_INVALID_PARAMETER', `${name} is an integer from ${least} to ${most}, got ${came}`);
  }
  return value as number;
}

export function classesParameter(value: unknown): number {
  return wholeParameter('classes', value, 2, MOST_CLASSES);
}

export function sigmaParameter(name: string, value: unknown): number {
  return wholeParameter(name, value, 1, MOST_SIGMA);
}

/** Discrete Gaussian noise of a whole deviation, and the event of adding it to votes of which a step changes `moved` by one. */
export function voteNoise<A extends Adjacency>(
  sigma: number,
  moved: number,
  neighboring: A,
): { readonly draw: Sampler; readonly event: DiscreteGaussianEvent } {
  const sigmaSquared = rational(BigInt(sigma) ** 2n, 1n);
  return {
    draw: obliviousGaussian(sigmaSquared) ?? discreteGaussian(sigmaSquared),
    event: Object.freeze({
      kind: 'discrete-gaussian',
      sensitivitySquared: moved,
      sigmaSquared: toDigits(sigmaSquared),
      neighboring,
    }),
  };
}

/** How many of `voters` labels name each class; one that names none counts for class 0, and so does one that is missing. */
export function countVotes(labels: ArrayLike<number>, voters: number, classes: number): number[] {
  const counts = new Array<number>(classes).fill(0);
  for (let i = 0; i < voters; i++) {
    const label = labels[i];
    counts[Number.isInteger(label) && label! >= 0 && label! < classes ? label! : 0]!++;
  }
  return counts;
}

/** The class with the most votes after noise on each count, the first of equals. */
export function noisyPlurality(counts: readonly number[], draw: Sampler, bits: Bits): number {
  let winner = 0;
  let most: bigint | undefined;
  for (const [i, count] of counts.entries()) {
    const noised = BigInt(count) + BigInt(draw(bits));
    if (most === undefined || noised > most) [winner, most] = [i, noised];
  }
  return winner;
}
