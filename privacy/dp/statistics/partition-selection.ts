/**
 * Which partitions may be named: those that enough subjects are in, decided so that no single one can be seen.
 * @module
 */
import {
  CloisterError,
  type MicroEpsilon,
  microEpsilon,
  osRandom,
  type RandomSource,
} from '../../../src/base/index.ts';
import type { DpEvent } from '../event.ts';
import type { Mechanism } from '../mechanism.ts';
import { type Bits, randomBits } from '../noise/bits.ts';
import { discreteGaussian, type Sampler } from '../noise/discrete-gaussian.ts';
import { sampleDiscreteLaplace } from '../noise/discrete-laplace.ts';
import { gaussianMechanism } from '../noise/gaussian-mechanism.ts';
import { expOf } from '../noise/interval.ts';
import { laplaceMechanism } from '../noise/laplace-mechanism.ts';
import { obliviousGaussian, obliviousLaplace } from '../noise/oblivious.ts';
import { ceilRoot, type Rational, rational, rationalOf } from '../noise/rational.ts';
import {
  delta as checkDelta,
  epsilon as checkEpsilon,
  type Delta,
  type Epsilon,
  l1Sensitivity,
  type Rho,
  squaredL2Sensitivity,
} from '../parameters.ts';
import { type Private, type Released, takePrivate } from '../private.ts';

/** What {@link optimalSelection} is told. */
export interface OptimalSelectionOptions {
  /** The most partitions that one subject counts in, by 1 each: 1 to 1,024. A `PartitionCount` holds it. */
  readonly partitions: number;
  readonly epsilon: Epsilon;
  readonly delta: Delta;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
}

/** A mechanism that names partitions and nothing else. */
export interface OptimalSelection extends Mechanism<ReadonlyMap<string, number>, readonly string[]> {
  /** The probability that a partition with `count` subjects is named: a float64 near it. */
  keepProbability(count: number): number;
}

/**
 * Returns the mechanism that names each partition with the largest probability that (`epsilon`, `delta`) allows, for neighbours by
 * adding or removing one subject; each partition gets an equal share of both. Keys come in the order of their code units.
 *
 * Probabilities are rationals in fixed point, each rounded down within what the one before allows
 * (`partition-selection.proof.md`).
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when a parameter is out of range, or epsilon is so small that more than 65,536
 *   subjects would be needed for certainty: take a threshold then.
 * @see Desfontaines, Voss, Gipson & Mandayam 2022, Theorem 1, https://arxiv.org/abs/2006.03684
 * @example
 * ```ts
 * const select = optimalSelection({ partitions: 1, epsilon: epsilon(Math.log(2)), delta: delta(0.1) });
 * select.keepProbability(1); // 0.1
 * Math.abs(select.keepProbability(2) - 0.3) < 1e-12; // true
 * ```
 */
export function optimalSelection(options: OptimalSelectionOptions): OptimalSelection {
  const { random = osRandom } = options;
  const partitions = checkPartitions(options.partitions);
  const [epsilon, delta] = [checkEpsilon(options.epsilon), checkDelta(options.delta)];
  const { chances, places } = keepTable(epsilon, delta, partitions);
  const last = chances.length - 1;
  const event: DpEvent = Object.freeze({ kind: 'approx', epsilon, delta, neighboring: 'add-remove' });
  const chanceOf = (count: number): bigint => chances[Math.min(count, last)]!;
  return Object.freeze({
    neighboring: 'add-remove' as const,
    event,
    keepProbability: (count: number) => toNumber(chanceOf(Math.max(0, Math.trunc(count))), places),
    release(held: Private<ReadonlyMap<string, number>>): Released<readonly string[]> {
      const counts = takePrivate(held);
      const bits = randomBits(random);
      const kept = inOrder(counts).filter(([, count]) => uniformBits(places, bits) < chanceOf(count));
      return Object.freeze({ kind: 'released', value: Object.freeze(kept.map(([key]) => key)), event });
    },
  });
}

/** What {@link thresholdSelection} is told. */
export type ThresholdSelectionOptions = {
  /** The most partitions that one subject counts in, by 1 each: 1 to 1,024. A `PartitionCount` holds it. */
  readonly partitions: number;
  /** The probability that a partition with one subject alone is named, beside what the noise costs. */
  readonly delta: Delta;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
} & ({ readonly noise: 'laplace'; readonly cost: MicroEpsilon } | { readonly noise: 'gaussian'; readonly rho: Rho });

/** A partition that is named, and how many subjects are in it, noised. */
export interface NamedPartition {
  readonly key: string;
  readonly count: number;
}

/** A mechanism that names partitions with their noised counts. */
export interface ThresholdSelection extends Mechanism<ReadonlyMap<string, number>, readonly NamedPartition[]> {
  /** A partition is named when its noised count is at least this. */
  readonly threshold: number;
  /** Half-width of the 95% error bar of one count. */
  readonly errorBar: number;
}

/**
 * Returns the mechanism that adds noise to each count and names the partitions whose noised count is at least a threshold, with
 * that count. Keys come in the order of their code units.
 *
 * The threshold is the smallest (for Gaussian noise: nearly) at which all partitions that one subject is alone in stay unnamed
 * with probability `1 - delta`: `partitions * P[1 + noise >= threshold] <= delta`, with the same `>=` on both sides, compared
 * in intervals. `event` is the noise together with that delta.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when a parameter is out of range.
 * @see Korolova, Kenthapadi, Mishra & Ntoulas 2009 for the idea; `partition-selection.proof.md`
 * @example
 * ```ts
 * const options = { noise: 'laplace', partitions: 1, cost: spendOf(0.5), delta: delta(1e-6) } as const;
 * thresholdSelection(options).threshold; // 28
 * ```
 */
export function thresholdSelection(options: ThresholdSelectionOptions): ThresholdSelection {
  const { random = osRandom } = options;
  const partitions = checkPartitions(options.partitions);
  const delta = checkDelta(options.delta);
  const noise = noiseOf(options, partitions);
  const share = rationalOf(delta);
  const threshold = 1 + leastTail(noise.exceeds(rational(share.numerator, share.denominator * BigInt(partitions))));
  if (!Number.isSafeInteger(threshold)) {
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      'the threshold would be above 2^53 - 1: take a larger loss or delta',
    );
  }
  const failure: DpEvent = Object.freeze({ kind: 'approx', epsilon: 0, delta, neighboring: 'add-remove' });
  const event: DpEvent = Object.freeze({ kind: 'composition', events: Object.freeze([noise.event, failure]) });
  return Object.freeze({
    neighboring: 'add-remove' as const,
    event,
    threshold,
    errorBar: noise.errorBar,
    release(held: Private<ReadonlyMap<string, number>>): Released<readonly NamedPartition[]> {
      const counts = takePrivate(held);
      const bits = randomBits(random);
      const value: NamedPartition[] = [];
      for (const [key, exact] of inOrder(counts)) {
        const count = Number(BigInt(exact) + BigInt(noise.draw(bits)));
        if (count >= threshold) value.push(Object.freeze({ key, count }));
      }
      return Object.freeze({ kind: 'released', value: Object.freeze(value), event });
    },
  });
}

/** The noise of a threshold, and whether its tail `P[Y >= m]` may exceed a rational. */
interface ThresholdNoise {
  readonly event: DpEvent;
  readonly errorBar: number;
  readonly draw: Sampler;
  exceeds(limit: Rational): (m: bigint) => boolean;
}

function noiseOf(options: ThresholdSelectionOptions, partitions: number): ThresholdNoise {
  if (options.noise === 'laplace') {
    const cost = microEpsilon(options.cost);
    const { event, errorBar, scale } = laplaceMechanism({ sensitivity: l1Sensitivity(partitions), cells: 2, cost });
    return {
      event: partitions === 1 ? Object.freeze({ ...event, cells: 1 } as DpEvent) : event,
      errorBar,
      draw: obliviousLaplace(scale) ?? (bits => sampleDiscreteLaplace(scale, bits)),
      exceeds: limit => laplaceExceeds(scale, limit),
    };
  }
  if (options.noise !== 'gaussian') {
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      `noise is 'laplace' or 'gaussian', got ${typeof (options as { noise?: unknown }).noise}`,
    );
  }
  const square = squaredL2Sensitivity(partitions);
  const mechanism = gaussianMechanism({ squaredL2Sensitivity: square, cells: 2, rho: options.rho });
  const { event, errorBar, sigmaSquared } = mechanism;
  return {
    event: partitions === 1 ? Object.freeze({ ...event, cells: 1 } as DpEvent) : event,
    errorBar,
    draw: obliviousGaussian(sigmaSquared) ?? discreteGaussian(sigmaSquared),
    exceeds: limit => gaussianExceeds(sigmaSquared, limit),
  };
}

/** With p = exp(-s/t), `P[Y >= m] = p^m / (1 + p)` for m >= 1. */
export function laplaceExceeds({ numerator: t, denominator: s }: Rational, limit: Rational): (m: bigint) => boolean {
  const places = placesFor(limit);
  const least = (1n << places) + expOf(-s, t, places).lo;
  return m => m < 1n || expOf(-m * s, t, places).hi * limit.denominator > limit.numerator * least;
}

/**
 * `P[Y >= m] <= P[N(0, sigma^2) >= x] <= sigma exp(-x^2 / (2 sigma^2)) / (x sqrt(2 pi))` with `x = m - 1 > 0`: the comparison of tails by
 * Canonne, Kamath & Steinke, and Mills' ratio. `sqrt(2 pi) > 2.5066`, and sigma is rounded up.
 */
export function gaussianExceeds({ numerator: n, denominator: d }: Rational, limit: Rational): (m: bigint) => boolean {
  const places = placesFor(limit);
  const sigma = ceilRoot((n << 64n) / d + 1n); // in units of 2^-32
  return m => {
    const x = m - 1n;
    if (x < 1n) return true;
    const tail = expOf(-x * x * d, 2n * n, places).hi * sigma * 10_000n;
    return tail * limit.denominator > ((limit.numerator * x * 25_066n) << 32n) << places;
  };
}

/** The smallest m for which a tail, which falls with m, does not exceed its limit. */
function leastTail(exceeds: (m: bigint) => boolean): number {
  let high = 1n;
  while (exceeds(high)) high *= 2n;
  let low = 0n; // exceeds, or is not asked about
  while (high - low > 1n) {
    const middle = (low + high) >> 1n;
    if (exceeds(middle)) low = middle;
    else high = middle;
  }
  return Number(high);
}

/** Places in which a probability as small as `limit` has 64 significant bits. */
function placesFor(limit: Rational): bigint {
  return BigInt(64 + (limit.denominator / limit.numerator).toString(2).length);
}

const MOST_ENTRIES = 65_536;

/** The largest probabilities that neighbouring counts allow, from 0 subjects to the first that is certain, in units of 2^-places. */
export function keepTable(
  epsilon: number,
  delta: number,
  partitions: number,
): { readonly chances: readonly bigint[]; readonly places: number } {
  const rate = rationalOf(epsilon);
  const share = rationalOf(delta);
  const denominator = share.denominator * BigInt(partitions);
  // A whole number of pieces of 24 bits, so that a uniform number is drawn in whole pieces.
  const places = 24 * Math.ceil(Number(placesFor({ numerator: share.numerator, denominator }) + 32n) / 24);
  const p = BigInt(places);
  const one = 1n << p;
  const step = (share.numerator << p) / denominator;
  const grow = expOf(rate.numerator, rate.denominator * BigInt(partitions), p).lo;
  const shrink = expOf(-rate.numerator, rate.denominator * BigInt(partitions), p).hi;
  const chances = [0n];
  for (let chance = 0n; chance < one; chances.push(chance)) {
    if (chances.length > MOST_ENTRIES) {
      throw new CloisterError('DP_INVALID_PARAMETER', 'epsilon and delta are too small for a table: take a threshold');
    }
    const up = ((chance * grow) >> p) + step; // P[kept] <= e^eps P[kept before] + delta
    const rest = one - chance - step;
    const down = one + ((-rest * shrink) >> p); // P[not kept before] <= e^eps P[not kept] + delta
    const next = rest <= 0n ? one : up < down ? up : down;
    chance = next > one ? one : next > chance ? next : chance;
  }
  return { chances, places };
}

/** A uniform number of `places` bits; a multiple of 24. */
function uniformBits(places: number, bits: Bits): bigint {
  let value = 0n;
  for (let left = places; left > 0; left -= 24) value = (value << 24n) | BigInt(bits.take(24));
  return value;
}

/** `value * 2^-places` as a float64, next to rounded. */
function toNumber(value: bigint, places: number): number {
  const excess = Math.max(0, value.toString(2).length - 64);
  return (
    Number(value >> BigInt(excess)) * 2 ** -Math.min(1000, places - excess) * 2 ** -Math.max(0, places - excess - 1000)
  );
}

/** By key, so that the order says nothing about that of the records. */
function inOrder(counts: ReadonlyMap<string, number>): readonly (readonly [string, number])[] {
  return [...counts].sort(([a], [b]) => (a < b ? -1 : 1));
}

function checkPartitions(partitions: unknown): number {
  if (!Number.isInteger(partitions) || (partitions as number) < 1 || (partitions as number) > 1024) {
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      `partitions is an integer from 1 to 1,024, got ${typeof partitions === 'number' ? partitions : typeof partitions}`,
    );
  }
  return partitions as number;
}
