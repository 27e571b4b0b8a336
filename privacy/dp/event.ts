/**
 * What a mechanism did, as data. Plain JSON of public parameters; accountants turn events into bounds.
 * @module
 */
import { CloisterError, MICRO_PER_EPSILON, type MicroEpsilon, microEpsilon, spendOf } from '../../src/base/index.ts';
import * as z from '../../src/base/zod.ts';
import type { Adjacency } from './parameters.ts';

/** The adjacency under which an event's parameters were derived. */
interface Adjacent {
  readonly neighboring: Adjacency;
}

/** A positive rational number. Decimal digits, as JSON has no big integers. */
export interface Rational {
  readonly numerator: string;
  readonly denominator: string;
}

/** Discrete Laplace noise of scale `numerator / denominator` on each cell of an integer vector. */
export interface DiscreteLaplaceEvent {
  readonly kind: 'discrete-laplace';
  /** L1 sensitivity of the vector: a positive integer. */
  readonly sensitivity: number;
  readonly scale: Rational;
  /** 1 where the answer is a single integer, for which a sharper bound is known than for a vector. */
  readonly cells?: 1;
  /** Left out, `add-remove`. */
  readonly neighboring?: Adjacency;
}

/** Laplace noise on a single number; `scale` is the noise scale divided by the sensitivity. */
export interface LaplaceEvent extends Adjacent {
  readonly kind: 'laplace';
  readonly scale: number;
}

/** Gaussian noise on a vector; `noiseMultiplier` is the standard deviation divided by the L2 sensitivity. */
export interface GaussianEvent extends Adjacent {
  readonly kind: 'gaussian';
  readonly noiseMultiplier: number;
}

/** Discrete Gaussian noise of parameter sigma^2 = `numerator / denominator` on each cell of an integer vector. */
export interface DiscreteGaussianEvent extends Adjacent {
  readonly kind: 'discrete-gaussian';
  /** Square of the L2 sensitivity of the vector: a positive integer. */
  readonly sensitivitySquared: number;
  readonly sigmaSquared: Rational;
  /** 1 where the answer is a single integer, for which a sharper bound is known than for a vector. */
  readonly cells?: 1;
}

/** One of `categories` answers, replaced by a uniformly drawn one with probability `p`. */
export interface RandomizedResponseEvent extends Adjacent {
  readonly kind: 'randomized-response';
  readonly categories: number;
  readonly p: number;
}

/** Anything that is `epsilon`-differentially private. */
export interface PureEvent extends Adjacent {
  readonly kind: 'pure';
  readonly epsilon: number;
}

/** Anything whose privacy losses lie in an interval of width `epsilon`: the exponential mechanism (Durfee & Rogers 2019). */
export interface BoundedRangeEvent extends Adjacent {
  readonly kind: 'bounded-range';
  readonly epsilon: number;
}

/** Anything that is (`epsilon`, `delta`)-differentially private. */
export interface ApproxEvent extends Adjacent {
  readonly kind: 'approx';
  readonly epsilon: number;
  readonly delta: number;
}

/** `delta`-approximate (`xi`, `rho`)-zCDP: Rényi divergence at most `xi + rho * order` for every order (Bun & Steinke 2016). */
export interface ZcdpEvent extends Adjacent {
  readonly kind: 'zcdp';
  readonly rho: number;
  /** Default 0. */
  readonly xi?: number;
  /** Default 0. */
  readonly delta?: number;
}

/** Rényi divergence of each of `orders` (above 1) at most the entry of `losses` beside it. */
export interface RdpEvent extends Adjacent {
  readonly kind: 'rdp';
  readonly orders: readonly number[];
  readonly losses: readonly number[];
}

/** At least as hard to tell apart as N(0, 1) from N(`mu`, 1), at every epsilon (Dong, Roth & Su 2019). */
export interface GdpEvent extends Adjacent {
  readonly kind: 'gdp';
  readonly mu: number;
}

/** `event` on a sample that holds each subject with probability `rate`, independently (Poisson sampling). */
export interface PoissonSubsampledEvent {
  readonly kind: 'poisson-subsampled';
  readonly rate: number;
  readonly event: DpEvent;
}

/** `event` on `size` distinct subjects drawn from `population`. */
export interface FixedSizeSubsampledEvent {
  readonly kind: 'fixed-size-subsampled';
  readonly size: number;
  readonly population: number;
  readonly event: DpEvent;
}

/** `event` on a Poisson sample of `population` subjects at `rate`, cut to `size` subjects drawn from it where it holds more. */
export interface TruncatedPoissonSubsampledEvent {
  readonly kind: 'truncated-poisson-subsampled';
  readonly rate: number;
  readonly size: number;
  readonly population: number;
  readonly event: DpEvent;
}

/** Gaussian noise of standard deviation `sigma` on a sum to which a subject adds a random one of `sensitivities`. */
export interface GaussianMixtureEvent extends Adjacent {
  readonly kind: 'gaussian-mixture';
  readonly sigma: number;
  readonly sensitivities: readonly number[];
  readonly probabilities: readonly number[];
}

/** Reports of `population` subjects, each `epsilon`-locally private, shuffled uniformly. Holds for `replace-one`. */
export interface ShuffledEvent {
  readonly kind: 'shuffled';
  readonly population: number;
  /** Loss of one local report. */
  readonly epsilon: number;
  readonly neighboring: 'replace-one';
}

/** DP-FTRL: every prefix sum of `steps` values through a binary tree; `noiseMultiplier` is per node and unit of L2 sensitivity. */
export interface TreeGaussianEvent extends Adjacent {
  readonly kind: 'tree-gaussian';
  readonly noiseMultiplier: number;
  readonly steps: number;
}

/**
 * `event` run a random number of times, its best result kept (Papernot & Steinke 2021): Poisson, or negative binomial of `shape`
 * truncated to 1 and above (1 is geometric, 0 logarithmic); `mean` is the mean number of runs.
 */
export interface RepeatAndSelectEvent {
  readonly kind: 'repeat-and-select';
  readonly mean: number;
  readonly shape: number | 'poisson';
  readonly event: DpEvent;
}

/** The label with the most votes after Gaussian noise of standard deviation `sigma` on each count, one voter changing one vote. */
export interface GnMaxEvent extends Adjacent {
  readonly kind: 'gnmax';
  readonly sigma: number;
}

/** Several events on the same data, each free to depend on the outcomes before it; their parameters are fixed beforehand. */
export interface CompositionEvent {
  readonly kind: 'composition';
  readonly events: readonly DpEvent[];
}

/** `event` done `count` times on the same data. */
export interface SelfCompositionEvent {
  readonly kind: 'self-composition';
  readonly event: DpEvent;
  readonly count: number;
}

/** What a mechanism did. Plain JSON. */
export type DpEvent =
  | DiscreteLaplaceEvent
  | LaplaceEvent
  | GaussianEvent
  | DiscreteGaussianEvent
  | RandomizedResponseEvent
  | PureEvent
  | BoundedRangeEvent
  | ApproxEvent
  | ZcdpEvent
  | RdpEvent
  | GdpEvent
  | PoissonSubsampledEvent
  | FixedSizeSubsampledEvent
  | TruncatedPoissonSubsampledEvent
  | GaussianMixtureEvent
  | ShuffledEvent
  | TreeGaussianEvent
  | RepeatAndSelectEvent
  | GnMaxEvent
  | CompositionEvent
  | SelfCompositionEvent;

const positiveNumber = z.number().min(1e-150).max(1e150);
const share = z.number().gt(0).lte(1);
const count = z.number().int().min(1).max(1e12);
const digits = z.string().regex(/^[1-9][0-9]{0,39}$/);
const rational = z.strictObject({ numerator: digits, denominator: digits });
const neighboring = z.enum(['add-remove', 'replace-one', 'replace-special']);
const list = <T extends z.ZodType>(item: T) => z.array(item).min(1).max(10_000);
const inner = z.lazy((): z.ZodType<DpEvent> => eventSchema);

/** The schema of {@link DpEvent}; strict, so that a misspelled parameter is no missing one. */
export const eventSchema: z.ZodType<DpEvent> = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('discrete-laplace'),
    sensitivity: count,
    scale: rational,
    cells: z.literal(1).exactOptional(),
    neighboring: neighboring.exactOptional(),
  }),
  z.strictObject({ kind: z.literal('laplace'), scale: positiveNumber, neighboring }),
  z.strictObject({ kind: z.literal('gaussian'), noiseMultiplier: positiveNumber, neighboring }),
  z.strictObject({
    kind: z.literal('discrete-gaussian'),
    sensitivitySquared: z.number().int().min(1).max(Number.MAX_SAFE_INTEGER),
    sigmaSquared: rational,
    cells: z.literal(1).exactOptional(),
    neighboring,
  }),
  z.strictObject({
    kind: z.literal('randomized-response'),
    categories: count.min(2),
    p: share,
    neighboring,
  }),
  z.strictObject({ kind: z.literal('pure'), epsilon: positiveNumber, neighboring }),
  z.strictObject({ kind: z.literal('bounded-range'), epsilon: positiveNumber, neighboring }),
  z.strictObject({
    kind: z.literal('approx'),
    epsilon: z.number().min(0).max(1e150),
    delta: z.number().min(0).lt(1),
    neighboring,
  }),
  z.strictObject({
    kind: z.literal('zcdp'),
    rho: positiveNumber,
    xi: z.number().min(0).max(1e150).exactOptional(),
    delta: z.number().min(0).lt(1).exactOptional(),
    neighboring,
  }),
  z.strictObject({
    kind: z.literal('rdp'),
    orders: list(z.number().gt(1).max(1e150)),
    losses: list(z.number().min(0).max(1e150)),
    neighboring,
  }),
  z.strictObject({ kind: z.literal('gdp'), mu: positiveNumber, neighboring }),
  z.strictObject({ kind: z.literal('poisson-subsampled'), rate: share, event: inner }),
  z.strictObject({ kind: z.literal('fixed-size-subsampled'), size: count, population: count, event: inner }),
  z.strictObject({
    kind: z.literal('truncated-poisson-subsampled'),
    rate: share,
    size: count,
    population: count,
    event: inner,
  }),
  z.strictObject({
    kind: z.literal('gaussian-mixture'),
    sigma: positiveNumber,
    sensitivities: list(z.number().min(0).max(1e150)),
    probabilities: list(z.number().min(0).max(1)),
    neighboring,
  }),
  z.strictObject({
    kind: z.literal('shuffled'),
    population: count,
    epsilon: positiveNumber,
    neighboring: z.literal('replace-one'),
  }),
  z.strictObject({ kind: z.literal('tree-gaussian'), noiseMultiplier: positiveNumber, steps: count, neighboring }),
  z.strictObject({
    kind: z.literal('repeat-and-select'),
    mean: positiveNumber,
    shape: z.union([z.number().gt(-1).max(1e6), z.literal('poisson')]),
    event: inner,
  }),
  z.strictObject({ kind: z.literal('gnmax'), sigma: positiveNumber, neighboring }),
  z.strictObject({ kind: z.literal('composition'), events: z.array(inner).max(100_000) }),
  z.strictObject({ kind: z.literal('self-composition'), event: inner, count }),
]);

const DEEPEST = 32;

/**
 * Returns `value` as an event when it is one: every kind and key known, every number finite and in range.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when it is not, or is nested more than 32 deep.
 * @example
 * ```ts
 * parseEvent({ kind: 'gaussian', noiseMultiplier: 2, neighboring: 'add-remove' }).kind; // 'gaussian'
 * ```
 */
export function parseEvent(value: unknown): DpEvent {
  if (depthOf(value, 0) > DEEPEST) {
    throw new CloisterError('DP_INVALID_PARAMETER', `an event is nested at most ${DEEPEST} deep`);
  }
  const result = eventSchema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const place = issue?.path.length ? `event.${issue.path.join('.')}` : 'event';
  throw new CloisterError('DP_INVALID_PARAMETER', `${place}: ${issue?.message ?? 'is no event'}`);
}

function depthOf(value: unknown, depth: number): number {
  if (depth > 2 * DEEPEST || typeof value !== 'object' || value === null) return 0;
  let deepest = 0;
  for (const part of [(value as { event?: unknown }).event, ...listOf((value as { events?: unknown }).events)]) {
    deepest = Math.max(deepest, depthOf(part, depth + 1));
  }
  return deepest + 1;
}

function listOf(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value.slice(0, 100_001) : [];
}

/**
 * Returns the pure differential-privacy loss of `event`, rounded up to whole micro-epsilons at each noise addition.
 *
 * For the discrete Laplace it is `sensitivity / scale`, which is tight; losses of a composition add up (Dwork & Roth 2014,
 * Theorem 3.16), which holds for adaptive choices too, and is not tight when a positive delta would be allowed.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when a part is not in range, has no pure loss (Gaussian noise, a positive delta), or
 *   the sum is over 2^53 - 1.
 * @example
 * ```ts
 * const { event } = laplaceMechanism({ sensitivity: l1Sensitivity(1), cells: 10, cost: spendOf(0.5) });
 * pureLoss({ kind: 'composition', events: [event, event] }); // 1000000: twice 0.5
 * ```
 */
export function pureLoss(event: DpEvent): MicroEpsilon {
  switch (event.kind) {
    case 'discrete-laplace': {
      const t = positive(event.scale.numerator);
      const loss = positive(String(event.sensitivity)) * MICRO_PER_EPSILON * positive(event.scale.denominator);
      return microEpsilon(Number((loss + t - 1n) / t));
    }
    case 'laplace':
      return roundedUp(1 / event.scale);
    case 'pure':
    case 'bounded-range':
      return spendOf(event.epsilon);
    case 'randomized-response':
      return roundedUp(responseLoss(event));
    case 'composition':
      return microEpsilon(event.events.reduce((sum, part) => sum + pureLoss(part), 0));
    case 'self-composition':
      return microEpsilon(pureLoss(event.event) * event.count);
    default:
      throw new CloisterError(
        'DP_INVALID_PARAMETER',
        `an event of kind '${String((event as { kind?: unknown }).kind).slice(0, 50)}' has no known pure loss`,
      );
  }
}

/** Epsilon of k-ary randomised response. A special record's answer is uniform. */
function responseLoss({ categories, p, neighboring }: RandomizedResponseEvent): number {
  const keeps = Math.log1p((categories * (1 - p)) / p);
  if (neighboring === 'replace-one') return keeps;
  if (neighboring === 'replace-special') return Math.max(-Math.log(p), keeps + Math.log(p));
  throw new CloisterError('DP_INVALID_PARAMETER', 'a randomised response is there or not: it has no add-remove loss');
}

/** Whole micro-epsilons at or above `epsilon`, whose error is below 8 units in the last place. */
function roundedUp(epsilon: number): MicroEpsilon {
  return microEpsilon(Math.ceil(epsilon * (1 + 2 ** -49) * Number(MICRO_PER_EPSILON)));
}

function positive(digits: string): bigint {
  if (!/^[1-9][0-9]{0,39}$/.test(digits)) {
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      `an event holds positive integers of at most 40 digits, got '${digits.slice(0, 50)}'`,
    );
  }
  return BigInt(digits);
}
