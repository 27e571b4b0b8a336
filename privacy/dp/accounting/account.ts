/**
 * Bounds on epsilon and delta of an event: the least over every method that holds for it.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import type { DpEvent } from '../event.ts';
import { adjacencyOf } from './adjacency.ts';
import { rdpDelta, rdpEpsilon, zcdpDelta } from './conversion.ts';
import { type Bounds, gaussianDelta, gaussianEpsilon } from './gdp.ts';
import { pairOf } from './pair.ts';
import { type Part, pldDelta, pldEpsilon } from './pld.ts';
import { gaussianSquared, ordersFor, rdpOf } from './rdp.ts';
import { shuffledDelta, shuffledEpsilon } from './shuffle.ts';
import { leastHolding, logBinomial } from './special.ts';

/** How a bound was reached. */
export type Method = 'exact' | 'gdp' | 'pure' | 'pld' | 'rdp' | 'zcdp' | 'shuffling' | 'none';

/** A certified answer: the truth about the event, as far as its kind says, lies between. */
export interface Account extends Bounds {
  /** The method whose bound `upper` is. */
  readonly method: Method;
  /** Every method that holds for the event, and its upper bound. */
  readonly bounds: Readonly<Partial<Record<Method, number>>>;
}

/** What {@link epsilonOf} is told. */
export interface EpsilonOptions {
  /** Probability with which the bound may fail: from 0 (pure losses only) to below 1. */
  readonly delta: number;
  /** Aims at a discretisation error of 0.0003 % instead of 0.008 %; slower. */
  readonly tight?: boolean;
}

/** What {@link deltaOf} is told. */
export interface DeltaOptions {
  readonly epsilon: number;
  /** Aims at a discretisation error of 0.0003 % instead of 0.008 %; slower. */
  readonly tight?: boolean;
}

/**
 * Returns the least epsilon known for `event` at `delta`, beside a lower bound that no accountant can go below, and the method.
 *
 * Both bounds hold for neighbours by the event's own adjacency and count every rounding against themselves: closed form for Gaussian
 * noise, privacy loss distributions for compositions (the grid adds 0.008 % by default as estimated, 0.0003 % with `tight`), Rényi
 * and concentrated losses, and sums of pure losses. A composition's parameters must be fixed beforehand: where they are chosen along
 * the way, only sums of {@link zcdpLoss}, {@link rdpLoss}, {@link gdpLoss} and {@link pureLoss} hold. `Infinity` where nothing is known at
 * this delta.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when delta is not in [0, 1), or the event combines what cannot be combined: different
 *   neighbours, a fixed-size sample of add-remove events, a Poisson sample of replace-one events.
 * @example
 * ```ts
 * const { upper, method } = epsilonOf(
 *   {
 *     kind: 'self-composition',
 *     count: 10_000,
 *     event: { kind: 'poisson-subsampled', rate: 0.01, event: { kind: 'gaussian', noiseMultiplier: 1, neighboring: 'add-remove' } },
 *   },
 *   { delta: 1e-5 },
 * );
 * upper < 6.19; // true
 * method; // 'pld'
 * ```
 */
export function epsilonOf(event: DpEvent, options: EpsilonOptions): Account {
  return account(event, options.delta, options.tight ?? false, 'both');
}

/** The upper bound alone: `quick` leaves out privacy loss distributions. */
export function upperEpsilon(event: DpEvent, delta: number, how: 'quick' | 'full'): Account {
  return account(event, delta, false, how === 'quick' ? 'quick' : 'upper');
}

function account(event: DpEvent, delta: number, tight: boolean, want: 'both' | 'upper' | 'quick'): Account {
  if (!(delta >= 0 && delta < 1) || Object.is(delta, -0)) {
    refuse(`delta is at least 0 and below 1, got ${String(delta)}`);
  }
  if (delta > 0 && delta < 1e-280)
    refuse(`a delta below 1e-280 is nought to all but pure losses: ask for 0, got ${delta}`);
  adjacencyOf(event);
  const work = flatten(event);
  if (work.leaves.length === 0) return { upper: 0, lower: 0, method: 'exact', bounds: { exact: 0 } };
  if (work.truncated > 0) return withTruncation(event, work, delta, tight);
  const found = new Found();
  if (work.pure !== undefined) found.add('pure', work.pure * (1 + 1e-13));
  if (delta === 0) return found.answer(work.pure === undefined ? Number.POSITIVE_INFINITY : pureLower(work));
  if (work.mu !== undefined) return found.exact('gdp', gaussianEpsilon(work.mu, delta));
  const rdp = renyi(event);
  if (rdp !== undefined && rdp.delta < delta) found.add('rdp', rdpEpsilon(rdp.orders, rdp.losses, delta - rdp.delta));
  if (work.zcdp !== undefined && work.zcdp.delta < delta) {
    const { rho, xi } = work.zcdp;
    const left = delta - work.zcdp.delta;
    const top = xi + rho + 2 * Math.sqrt(rho * Math.log(1 / left));
    found.add('zcdp', leastHolding(at => zcdpDelta(rho, xi, at) <= left, 0, top * (1 + 1e-9), 1e-14) * (1 + 1e-11));
  }
  if (work.leaves.length === 1 && work.leaves[0]!.count === 1) {
    const leaf = work.leaves[0]!.event;
    if (leaf.kind === 'shuffled') {
      found.add('shuffling', shuffledEpsilon(leaf.population, leaf.epsilon, delta));
      return found.answer(0);
    }
  }
  const parts = want === 'quick' ? undefined : pairs(work, delta);
  let lower = 0;
  if (parts !== undefined) {
    const pld = pldEpsilon(parts, delta, { relative: fineness(delta, tight), lower: want === 'both' });
    if (pld !== undefined) {
      const single = parts.length === 1 && parts[0]!.count === 1;
      found.add(single ? 'exact' : 'pld', pld.upper);
      if (!work.approximated) lower = pld.lower;
    }
  }
  if (found.empty) found.add('none', Number.POSITIVE_INFINITY);
  return found.answer(lower);
}

/**
 * Returns the least delta known for `event` at `epsilon`, beside a lower bound that no accountant can go below, and the method; see
 * {@link epsilonOf}.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when epsilon is not a finite number from 0, or as {@link epsilonOf} does.
 * @example
 * ```ts
 * deltaOf({ kind: 'gaussian', noiseMultiplier: 1, neighboring: 'add-remove' }, { epsilon: 1 }).upper.toFixed(12); // '0.126936737507'
 * ```
 */
export function deltaOf(event: DpEvent, options: DeltaOptions): Account {
  const { epsilon, tight = false } = options;
  if (!(epsilon >= 0 && epsilon < Number.POSITIVE_INFINITY)) {
    refuse(`epsilon is a finite number of at least 0, got ${String(epsilon)}`);
  }
  adjacencyOf(event);
  const work = flatten(event);
  const found = new Found();
  if (work.leaves.length === 0 || (work.pure !== undefined && work.pure * (1 + 1e-13) <= epsilon)) {
    return { upper: 0, lower: 0, method: 'pure', bounds: { pure: 0 } };
  }
  if (work.mu !== undefined) return found.exact('gdp', gaussianDelta(work.mu, epsilon));
  const extra = work.truncated * (1 + Math.exp(epsilon));
  const rdp = work.truncated > 0 ? undefined : renyi(event);
  if (rdp !== undefined) found.add('rdp', Math.min(1, rdpDelta(rdp.orders, rdp.losses, epsilon) + rdp.delta));
  if (work.zcdp !== undefined) {
    found.add('zcdp', Math.min(1, zcdpDelta(work.zcdp.rho, work.zcdp.xi, epsilon) * (1 + 1e-11) + work.zcdp.delta));
  }
  const only = work.leaves.length === 1 && work.leaves[0]!.count === 1 ? work.leaves[0]!.event : undefined;
  if (only?.kind === 'shuffled') {
    found.add('shuffling', shuffledDelta(only.population, only.epsilon, epsilon));
    return found.answer(0);
  }
  let lower = 0;
  const parts = pairs(work, undefined);
  if (parts !== undefined) {
    const pld = pldDelta(parts, epsilon, { relative: 10 * fineness(1e-6, tight) });
    if (pld !== undefined) {
      found.add(only !== undefined && extra === 0 ? 'exact' : 'pld', Math.min(1, pld.upper + extra));
      if (extra === 0) lower = pld.lower;
    }
  }
  if (found.empty) found.add('none', 1);
  return found.answer(lower);
}

/** Upper bounds as they come in. */
class Found {
  readonly #bounds: Partial<Record<Method, number>> = {};

  get empty(): boolean {
    return Object.keys(this.#bounds).length === 0;
  }

  add(method: Method, upper: number): void {
    if (!Number.isNaN(upper)) this.#bounds[method] = upper;
  }

  /** The least of them; `lower` is cut to it, as rounding may have crossed them. */
  answer(lower: number): Account {
    let [method, upper]: [Method, number] = ['none', Number.POSITIVE_INFINITY];
    for (const [name, value] of Object.entries(this.#bounds) as [Method, number][]) {
      if (value < upper || method === 'none') [method, upper] = [name, value];
    }
    return { upper, lower: Math.min(lower, upper), method, bounds: Object.freeze({ ...this.#bounds }) };
  }

  exact(method: Method, bounds: Bounds): Account {
    this.add(method, bounds.upper);
    return this.answer(bounds.lower);
  }
}

interface Leaf {
  readonly event: DpEvent;
  readonly count: number;
}

/** An event taken apart. */
interface Work {
  /** Equal leaves once, and all Gaussian noise as one. */
  readonly leaves: readonly Leaf[];
  /** Where everything is Gaussian. */
  readonly mu: number | undefined;
  /** Where every part has a pure loss. */
  readonly pure: number | undefined;
  /** Where every part is concentrated. */
  readonly zcdp: { readonly rho: number; readonly xi: number; readonly delta: number } | undefined;
  /** Probability that a truncated sample is cut at all, in any of the steps. */
  readonly truncated: number;
  /** Whether a leaf stands for something that it only dominates. */
  readonly approximated: boolean;
}

function flatten(event: DpEvent): Work {
  const counts = new Map<string, Leaf>();
  let squared = 0;
  let truncated = 0;
  let approximated = false;
  let pure: number | undefined = 0;
  let zcdp: { rho: number; xi: number; delta: number } | undefined = { rho: 0, xi: 0, delta: 0 };
  const add = (leaf: DpEvent, count: number): void => {
    const key = JSON.stringify(leaf);
    counts.set(key, { event: leaf, count: count + (counts.get(key)?.count ?? 0) });
  };
  const visit = (part: DpEvent, count: number): void => {
    if (part.kind === 'composition') {
      for (const one of part.events) visit(one, count);
      return;
    }
    if (part.kind === 'self-composition') {
      visit(part.event, count * part.count);
      return;
    }
    if (count > 1e12) refuse(`an event is composed at most 10^12 times, got ${count}`);
    const loss = pureOf(part);
    pure = pure === undefined || loss === undefined ? undefined : pure + count * loss;
    const own = gaussianSquared(part);
    if (part.kind === 'zcdp' && zcdp !== undefined) {
      zcdp.rho += count * part.rho;
      zcdp.xi += count * (part.xi ?? 0);
      zcdp.delta += count * (part.delta ?? 0);
    } else if ((own !== undefined || part.kind === 'discrete-gaussian') && zcdp !== undefined) {
      const rho = own === undefined ? rhoOfDiscrete(part) : own / 2;
      zcdp.rho += count * rho;
    } else zcdp = undefined;
    if (own !== undefined) squared += own * count;
    else if (part.kind === 'truncated-poisson-subsampled') {
      truncated += count * overfull(part.population, part.rate, part.size);
      approximated = true;
      add({ kind: 'poisson-subsampled', rate: part.rate, event: part.event }, count);
    } else {
      if (isLoose(part)) approximated = true;
      add(part, count);
    }
  };
  visit(event, 1);
  const leaves = [...counts.values()];
  const mu = leaves.length === 0 && squared > 0 ? Math.sqrt(squared) : undefined;
  if (squared > 0) {
    // Many Gaussians on the same data are one: their precisions add up.
    leaves.push({ event: { kind: 'gdp', mu: Math.sqrt(squared), neighboring: adjacencyOf(event)! }, count: 1 });
  }
  return { leaves, mu, pure, zcdp, truncated, approximated };
}

/** Whether the pair of a leaf is one that it need not attain, so that nothing is certain from below. */
function isLoose(part: DpEvent): boolean {
  if (part.kind === 'poisson-subsampled' || part.kind === 'fixed-size-subsampled') return isLoose(part.event);
  return (
    part.kind === 'bounded-range' || part.kind === 'shuffled' || (part.kind === 'discrete-laplace' && part.cells !== 1)
  );
}

function rhoOfDiscrete(part: DpEvent): number {
  const curve = rdpOf(part, [2]);
  return curve!.losses[0]! / 2;
}

/** Pure loss of a leaf, where it has one. */
function pureOf(event: DpEvent): number | undefined {
  switch (event.kind) {
    case 'laplace':
      return 1 / event.scale;
    case 'discrete-laplace':
      return (event.sensitivity * Number(event.scale.denominator)) / Number(event.scale.numerator);
    case 'pure':
    case 'bounded-range':
      return event.epsilon;
    case 'approx':
      return event.delta === 0 ? event.epsilon : undefined;
    case 'shuffled':
      return event.epsilon;
    case 'randomized-response': {
      const pair = pairOf(event);
      return pair?.kind === 'discrete' ? Math.max(...pair.losses.map(Math.abs)) : undefined;
    }
    case 'poisson-subsampled':
    case 'fixed-size-subsampled': {
      const own =
        event.event.kind === 'composition' || event.event.kind === 'self-composition' ? undefined : pureOf(event.event);
      if (own === undefined) return undefined;
      const rate = event.kind === 'poisson-subsampled' ? event.rate : event.size / event.population;
      // Both directions: a removed record gains log(1 + q(e^eps - 1)), an added one no more.
      return Math.log1p(rate * Math.expm1(own));
    }
    default:
      return undefined;
  }
}

/** Losses of these kinds are attained, so their sum is the least epsilon at delta 0. */
function pureLower(work: Work): number {
  const attained = work.leaves.every(({ event }) => event.kind !== 'shuffled') && !work.approximated;
  return attained ? work.pure! * (1 - 1e-13) : 0;
}

function renyi(event: DpEvent): { orders: readonly number[]; losses: Float64Array; delta: number } | undefined {
  const orders = ordersFor(event);
  return rdpOf(event, orders);
}

/** The pairs of all leaves; `undefined` where one has none. A shuffled leaf takes part as an (epsilon, delta) at a share of `delta`. */
function pairs(work: Work, delta: number | undefined): readonly Part[] | undefined {
  const parts: Part[] = [];
  for (const { event, count } of work.leaves) {
    const known =
      event.kind === 'shuffled' && delta !== undefined
        ? shuffledAs(event, delta / (10 * count * work.leaves.length))
        : event;
    const pair = pairOf(known);
    if (pair === undefined) return undefined;
    parts.push({ pair, count });
  }
  return parts;
}

function shuffledAs(event: DpEvent & { kind: 'shuffled' }, delta: number): DpEvent {
  return {
    kind: 'approx',
    epsilon: shuffledEpsilon(event.population, event.epsilon, delta),
    delta,
    neighboring: 'replace-one',
  };
}

/** Probability that a Poisson sample holds more than `size` of `population` subjects, rounded up. */
function overfull(population: number, rate: number, size: number): number {
  if (size >= population) return 0;
  if (rate >= 1 || size < population * rate) return 1;
  let k = size + 1;
  let term = Math.exp(logBinomial(population, k) + k * Math.log(rate) + (population - k) * Math.log1p(-rate));
  let sum = 0;
  while (k <= population && term > 1e-18 * sum) {
    sum += term;
    term *= ((population - k) / (k + 1)) * (rate / (1 - rate));
    k++;
  }
  return Math.min(1, sum * (1 + 1e-8));
}

/**
 * Truncated samples are Poisson samples but for `truncated` of the outcomes on either side, which cost `truncated (1 + e^epsilon)` of
 * delta: epsilon is guessed from above until what it leaves of delta gives no more (Chua et al. 2024, §4).
 */
function withTruncation(event: DpEvent, work: Work, delta: number, tight: boolean): Account {
  const plain = plainSamples(event);
  let guess = epsilonOf(plain, { delta: delta / 2, tight }).upper;
  for (let i = 0; i < 8; i++) {
    const left = delta - work.truncated * (1 + Math.exp(guess));
    if (!(left > 0)) break;
    const { upper, method, bounds } = epsilonOf(plain, { delta: left, tight });
    // A smaller epsilon leaves more of delta: what comes out holds as well.
    if (upper <= guess) return { upper, lower: 0, method, bounds };
    guess = upper * 1.001;
  }
  return { upper: Number.POSITIVE_INFINITY, lower: 0, method: 'none', bounds: {} };
}

function plainSamples(event: DpEvent): DpEvent {
  if (event.kind === 'composition') return { ...event, events: event.events.map(plainSamples) };
  if (event.kind === 'self-composition') return { ...event, event: plainSamples(event.event) };
  if (event.kind === 'truncated-poisson-subsampled') {
    return { kind: 'poisson-subsampled', rate: event.rate, event: event.event };
  }
  return event;
}

/** Relative error aimed at. Small deltas are asked about for their last digits. */
function fineness(delta: number, tight: boolean): number {
  return tight ? 3e-6 : delta < 1e-12 ? 8e-6 : 8e-5;
}

function refuse(message: string): never {
  throw new CloisterError('DP_INVALID_PARAMETER', message);
}
