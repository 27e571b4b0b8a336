/**
 * What a scope counts in: the additive measures of loss that stay valid when each query is chosen after the answers before it.
 *
 * | measure | counts | unit | why sums are a filter |
 * |---|---|---|---|
 * | `pure` | epsilon | 1e-6 | basic composition (Dwork & Roth 2014, Theorem 3.16) |
 * | `approx` | epsilon, delta | 1e-6, 1e-18 | basic composition; Rogers, Roth, Ullman & Vadhan 2016, Theorem 3.6 |
 * | `zcdp` | rho | 1e-12 | Feldman & Zrnic 2021; Whitehouse, Ramdas, Rogers & Wu 2023 |
 * | `rdp` | Rényi divergence at each of {@link RDP_ORDERS} | 1e-12 | `rdp-filter.proof.md` |
 * | `gdp` | mu squared, of Gaussian noise alone | 1e-12 | Koskela, Tobaben & Honkela 2023; Smith & Thakurta 2022 |
 *
 * Amounts are whole units, at most 2^53 - 1. Costs round up, limits round down.
 * @module
 */
import { type Bound, boundProblem, CloisterError, limitOf, type Measure, spendOf } from '../../src/base/index.ts';
import { adjacencyOf } from '../dp/accounting/adjacency.ts';
import { gaussianDelta } from '../dp/accounting/gdp.ts';
import { epsilonOf, gdpLoss, rdpLoss, zcdpLoss } from '../dp/accounting/index.ts';
import { type DpEvent, parseEvent, pureLoss } from '../dp/event.ts';
import type { Adjacency } from '../dp/parameters.ts';
import { deltaUnits, MOST_UNITS, PICO, picoDown, picoUp, type Ratio, ratioOf, unitsOf } from './units.ts';

export { type Bound, MEASURES, type Measure } from '../../src/base/index.ts';

/**
 * So many whole units of a measure: one number for `pure` (micro-epsilon), `zcdp` (1e-12 rho) and `gdp` (1e-12 mu squared);
 * `[epsilon, delta]` in units of 1e-6 and 1e-18 for `approx`; one number of 1e-12 for each of {@link RDP_ORDERS} for `rdp`.
 */
export type Amount = number | readonly number[];

/**
 * The orders at which an `rdp` scope keeps its curve. Few, because the filter pays for each: a limit at one order holds delta
 * divided by their number.
 */
export const RDP_ORDERS: readonly number[] = Object.freeze([
  1.25, 1.5, 2, 2.5, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 128,
]);

/** Place of order 32, which has a limit above 0 for most targets: what one number says of a curve. Fixed, so that it only grows. */
const RECORDED_PLACE = 11;

/**
 * Returns the limit that `bound` allows in `measure`, rounded down. A target of epsilon and delta becomes the largest loss that
 * is found to keep it, by a conversion that holds for adaptive choices.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when `bound` is not of a form that the measure has, or a number is out of range:
 *   epsilon above 0 and at most 1e6, delta above 0 and at most 0.009, rho at most 9,000, mu at most 90.
 * @example
 * ```ts
 * limitIn('pure', { epsilon: 2 }); // 2000000
 * limitIn('zcdp', { rho: 0.5 }); // 500000000000
 * limitIn('approx', { epsilon: 1, delta: 1e-9 }); // [1000000, 1000000000]
 * limitIn('gdp', { mu: 1.5 }); // 2250000000000
 * ```
 */
export function limitIn(measure: Measure, bound: Bound): Amount {
  const problem = boundProblem(measure, bound);
  if (problem !== undefined) throw new CloisterError('DP_INVALID_PARAMETER', problem, { measure });
  if (measure === 'pure') return limitOf(bound.epsilon as number);
  if (bound.rho !== undefined) return unitsOf(ratioOf(bound.rho), PICO, 'down');
  if (bound.mu !== undefined) return squareDown(bound.mu);
  const epsilon = limitOf(bound.epsilon as number);
  const delta = bound.delta as number;
  if (measure === 'approx') return Object.freeze([epsilon, deltaUnits(delta, 'down')]);
  if (measure === 'rdp') {
    const share = delta / RDP_ORDERS.length;
    const curve = RDP_ORDERS.map(order => picoDown(Math.max(0, lossAt(order, epsilon / 1e6, share))));
    if (curve.some(loss => loss > 0)) return Object.freeze(curve);
  } else if (measure === 'zcdp') {
    // Each order alone keeps the target: alpha * rho <= lossAt(alpha). The best is at least as good as any of a dense grid.
    let best = 0;
    for (let step = -200; step <= 400; step++) {
      const order = 1 + 2 ** (step / 20);
      best = Math.max(best, lossAt(order, epsilon / 1e6, delta) / order);
    }
    if (picoDown(best) > 0) return picoDown(best);
  } else {
    const most = largestMu(epsilon / 1e6, delta);
    if (most > 0) return squareDown(Math.min(most, 90));
  }
  const message = `no loss in ${measure} that can be counted keeps epsilon ${bound.epsilon} at delta ${bound.delta}`;
  throw new CloisterError('DP_INVALID_PARAMETER', message, { measure });
}

/** What a cost is computed for. */
export interface CostContext {
  /** The relation between neighbours that the scope protects. */
  readonly adjacency: Adjacency;
  /** For an `approx` scope and an event without an epsilon and delta of its own: the delta at which it is taken. */
  readonly delta?: number | undefined;
}

/**
 * Returns what `event` costs in `measure`, rounded up. Computed from the event alone, so nobody can state a wrong cost.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when the event is none, has no sound cost in this measure (Gaussian noise in
 *   `pure`, anything but Gaussian noise in `gdp`), or holds under another adjacency than the scope's.
 * @example
 * ```ts
 * const gaussian = { kind: 'gaussian', noiseMultiplier: 2, neighboring: 'add-remove' } as const;
 * costIn('zcdp', gaussian, { adjacency: 'add-remove' }); // 125000000000
 * costIn('gdp', gaussian, { adjacency: 'add-remove' }); // 250000000000
 * ```
 */
export function costIn(measure: Measure, event: DpEvent, { adjacency, delta }: CostContext): Amount {
  const parsed = parseEvent(event);
  assertAdjacency(parsed, adjacency);
  return costOf(measure, parsed, delta);
}

function costOf(measure: Measure, event: DpEvent, delta: number | undefined): Amount {
  if (measure !== 'approx' && event.kind === 'composition' && event.events.length > 0) {
    return event.events.map(part => costOf(measure, part, delta)).reduce(add);
  }
  switch (measure) {
    case 'pure':
      return atLeastOne(pureLoss(event));
    case 'approx':
      return approxCost(event, delta);
    case 'zcdp': {
      const exact = exactRho(event);
      if (exact) return atLeastOne(unitsOf(exact, PICO, 'up'));
      return atLeastOne(picoUp(zcdpLoss(event) ?? unsound(measure, event)));
    }
    case 'gdp': {
      const rho = isGaussian(event) ? exactRho(event) : undefined;
      if (rho) return atLeastOne(unitsOf({ ...rho, numerator: 2n * rho.numerator }, PICO, 'up'));
      return atLeastOne(picoUp(gdpLoss(event) ?? unsound(measure, event)));
    }
    case 'rdp': {
      const losses = rdpLoss(event, RDP_ORDERS);
      if (!losses) return unsound(measure, event);
      return Object.freeze(Array.from(losses, loss => Math.max(1, Math.min(MOST_UNITS, picoUp(loss)))));
    }
    default:
      throw new CloisterError('INVALID_ARGUMENT', `no measure '${String(measure satisfies never)}'`);
  }
}

/**
 * Returns an amount in words, for people: the parameters of its measure with at most six significant digits, and at least one
 * unit where there is one. Of an `rdp` curve, its divergence at one order: number `place` of {@link RDP_ORDERS}.
 *
 * @example
 * ```ts
 * formatAmount('pure', 500000); // 'epsilon 0.5'
 * formatAmount('approx', [1000000, 1000000000]); // 'epsilon 1, delta 1e-9'
 * formatAmount('gdp', 250000000000); // 'mu 0.5'
 * ```
 */
export function formatAmount(measure: Measure, amount: Amount, place: number = RECORDED_PLACE): string {
  const main = measure === 'rdp' ? (amount as readonly number[])[place]! : scalarOf(measure, amount);
  switch (measure) {
    case 'pure':
      return `epsilon ${main / 1e6}`;
    case 'approx':
      return `epsilon ${main / 1e6}, delta ${short((amount as readonly number[])[1]! / 1e18)}`;
    case 'zcdp':
      return `rho ${short(main / 1e12)}`;
    case 'gdp':
      return `mu ${short(Math.sqrt(main / 1e12))}`;
    case 'rdp':
      return `${main === MOST_UNITS ? 'beyond counting' : short(main / 1e12)} at order ${RDP_ORDERS[place]}`;
    default:
      throw new CloisterError('INVALID_ARGUMENT', `no measure '${String(measure satisfies never)}'`);
  }
}

function short(value: number): string {
  return String(Number(value.toPrecision(6)));
}

/** Nothing, in `measure`. */
export function zeroOf(measure: Measure): Amount {
  if (measure === 'approx') return Object.freeze([0, 0]);
  return measure === 'rdp' ? Object.freeze(RDP_ORDERS.map(() => 0)) : 0;
}

/** The sum of two amounts of one measure. A component at 2^53 - 1 stays there: it stands for «beyond counting». */
export function add(a: Amount, b: Amount): Amount {
  return pairwise(a, b, (x, y) => Math.min(MOST_UNITS, x + y));
}

/** `a` less `b`, at least 0; what was beyond counting stays there. */
export function subtract(a: Amount, b: Amount): Amount {
  return pairwise(a, b, (x, y) => (x === MOST_UNITS && y !== 0 ? x : Math.max(0, x - y)));
}

/** The larger of two amounts, component by component. */
export function larger(a: Amount, b: Amount): Amount {
  return pairwise(a, b, Math.max);
}

/** The smaller of two amounts, component by component. */
export function smaller(a: Amount, b: Amount): Amount {
  return pairwise(a, b, Math.min);
}

/** Whether two amounts are the same. */
export function equal(a: Amount, b: Amount): boolean {
  if (typeof a === 'number' || typeof b === 'number') return a === b;
  return a.length === b.length && a.every((x, i) => x === b[i]);
}

/** Whether `a` allows anything that `b` does not. */
export function exceeds(a: Amount, b: Amount): boolean {
  if (typeof a === 'number' || typeof b === 'number') return a > b;
  return a.some((x, i) => x > b[i]!);
}

/**
 * Whether `cost` still fits under `limit` beside what is spent and reserved: in every component, except that of an `rdp` curve
 * one order is enough (`rdp-filter.proof.md`).
 */
export function fits(measure: Measure, limit: Amount, used: Amount, cost: Amount): boolean {
  if (typeof limit === 'number') return (used as number) + (cost as number) <= limit;
  const [have, price] = [used as readonly number[], cost as readonly number[]];
  // Sums of two are below 2^54, so one that is rounded is beyond any limit both before and after.
  const below = (most: number, i: number): boolean => have[i]! + price[i]! <= most;
  return measure === 'rdp' ? limit.some(below) : limit.every(below);
}

/**
 * Returns the share of `limit` that is spent or reserved, for people: 0 to 1 and beyond. Of the component that is nearest to its
 * limit; of an `rdp` curve, of the order that is farthest from it. A limit of nothing is used up.
 *
 * @example
 * ```ts
 * shareOf('approx', [1000000, 1000000000], [250000, 500000000], [0, 0]); // 0.5: half of delta
 * ```
 */
export function shareOf(measure: Measure, limit: Amount, spent: Amount, reserved: Amount): number {
  const used = add(spent, reserved);
  if (typeof limit === 'number') return limit === 0 ? 1 : (used as number) / limit;
  const shares = limit.map((most, i) => {
    const have = (used as readonly number[])[i]!;
    return most > 0 ? have / most : have > 0 || measure === 'rdp' ? 1 : 0;
  });
  return measure === 'rdp' ? Math.min(...shares) : Math.max(...shares);
}

/** Which of {@link RDP_ORDERS} is farthest from its limit: the one that an `rdp` curve is best shown at. 0 for other measures. */
export function lastingOrder(limit: Amount, used: Amount): number {
  if (typeof limit === 'number') return 0;
  const shares = limit.map((most, i) => (most > 0 ? (used as readonly number[])[i]! / most : Number.POSITIVE_INFINITY));
  return shares.indexOf(Math.min(...shares));
}

/**
 * Returns how often `cost` fits into what is left of `limit`, one after the other: with an `rdp` curve, at the order that lasts.
 *
 * @example
 * ```ts
 * timesIn('pure', 1000000, 200000, 0, 300000); // 2
 * ```
 */
export function timesIn(measure: Measure, limit: Amount, spent: Amount, reserved: Amount, cost: Amount): number {
  const left = subtract(limit, add(spent, reserved));
  if (typeof left === 'number') return Math.floor(left / (cost as number));
  const times = left.map((have, i) => Math.floor(have / (cost as readonly number[])[i]!));
  const defined = times.filter(count => !Number.isNaN(count)); // 0 / 0: a part that is not spent limits nothing
  return measure === 'rdp' ? Math.max(...defined) : Math.min(...defined);
}

/**
 * Returns the most that can be lost over `periods` periods of static data: so many times the limit of each, or the lifetime's.
 *
 * @example
 * ```ts
 * worstOver(10000000, 1000000, 12); // 10000000
 * ```
 */
export function worstOver(lifetime: Amount, perPeriod: Amount, periods: number): Amount {
  const scaled = pairwise(perPeriod, perPeriod, part => Math.min(MOST_UNITS, part * periods));
  return smaller(lifetime, scaled);
}

/**
 * Returns one number that says how much of a measure an amount is: what the audit log records. Grows with each spend.
 * Micro-epsilon for `pure` and `approx`, 1e-12 rho or mu squared, and for `rdp` 1e-12 of the divergence at order 32.
 */
export function scalarOf(measure: Measure, amount: Amount): number {
  if (typeof amount === 'number') return amount;
  return measure === 'rdp' ? amount[RECORDED_PLACE]! : amount[0]!;
}

/**
 * Checks that `amount` is one of `measure`: whole units, as many as it has components.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when it is not.
 */
export function assertAmount(measure: Measure, amount: unknown, what: string): asserts amount is Amount {
  const zero = zeroOf(measure);
  const parts = Array.isArray(amount) ? amount : [amount];
  const wanted = typeof zero === 'number' ? 1 : zero.length;
  const whole = parts.every(part => Number.isSafeInteger(part) && part >= 0 && !Object.is(part, -0));
  if (Array.isArray(amount) !== Array.isArray(zero) || parts.length !== wanted || !whole) {
    const shape = wanted === 1 ? 'an integer' : `${wanted} integers`;
    const message = `${what} in ${measure} is ${shape} from 0 to 2^53-1, got ${typeof amount === 'number' ? amount : typeof amount}`;
    throw new CloisterError('DP_INVALID_PARAMETER', message, { measure });
  }
}

function pairwise(a: Amount, b: Amount, of: (x: number, y: number) => number): Amount {
  if (typeof a === 'number') return of(a, b as number);
  return a.map((x, i) => of(x, (b as readonly number[])[i]!));
}

function approxCost(event: DpEvent, delta: number | undefined): Amount {
  if (event.kind === 'approx') {
    const epsilon = event.epsilon === 0 ? 0 : spendOf(event.epsilon);
    return Object.freeze([epsilon, event.delta === 0 ? 0 : deltaUnits(event.delta, 'up')]);
  }
  if (delta === undefined) return Object.freeze([atLeastOne(pureLoss(event)) as number, 0]);
  const units = deltaUnits(inRange('delta', delta, 0.009), 'up');
  const { upper } = epsilonOf(event, { delta });
  if (!Number.isFinite(upper)) return unsound('approx', event);
  return Object.freeze([Math.max(1, spendOf(Math.max(upper, 1e-6))), units]);
}

/** Exactly the rho of Gaussian noise and of what is stated in rho or mu; of anything else its accountant knows more. */
function exactRho(event: DpEvent): Ratio | undefined {
  switch (event.kind) {
    case 'gaussian': {
      const z = ratioOf(event.noiseMultiplier);
      return { numerator: z.denominator ** 2n, denominator: 2n * z.numerator ** 2n };
    }
    case 'discrete-gaussian': {
      const { numerator, denominator } = event.sigmaSquared;
      return {
        numerator: BigInt(event.sensitivitySquared) * BigInt(denominator),
        denominator: 2n * BigInt(numerator),
      };
    }
    case 'zcdp':
      return (event.xi ?? 0) === 0 && (event.delta ?? 0) === 0 ? ratioOf(event.rho) : undefined;
    case 'gdp': {
      const mu = ratioOf(event.mu);
      return { numerator: mu.numerator ** 2n, denominator: 2n * mu.denominator ** 2n };
    }
    case 'self-composition': {
      const one = exactRho(event.event);
      return one && { numerator: one.numerator * BigInt(event.count), denominator: one.denominator };
    }
    default:
      return undefined;
  }
}

/** Whether `event` is Gaussian noise on the reals, for which alone sums of mu squared are a filter. */
function isGaussian(event: DpEvent): boolean {
  if (event.kind === 'self-composition') return isGaussian(event.event);
  return event.kind === 'gaussian' || event.kind === 'gdp';
}

/**
 * The loss at `order` that keeps epsilon at delta: Canonne, Kamath & Steinke 2020, Proposition 12, solved for the divergence;
 * lowered by more than float64 can be wrong.
 */
function lossAt(order: number, epsilon: number, delta: number): number {
  const terms = [epsilon, Math.log(delta) / (order - 1), Math.log(order) / (order - 1), -Math.log1p(-1 / order)];
  const sum = terms.reduce((total, term) => total + term, 0);
  return sum - terms.reduce((total, term) => total + Math.abs(term), 0) * 2 ** -44;
}

/** The largest mu, within one part in 2^40 of it, whose delta at epsilon is certified to be at most `delta`. */
function largestMu(epsilon: number, delta: number): number {
  let [low, high] = [0, 90];
  for (let i = 0; i < 46; i++) {
    const mu = (low + high) / 2;
    if (gaussianDelta(mu, epsilon).upper <= delta) low = mu;
    else high = mu;
  }
  return low;
}

function squareDown(mu: number): number {
  const { numerator, denominator } = ratioOf(mu);
  return unitsOf({ numerator: numerator ** 2n, denominator: denominator ** 2n }, PICO, 'down');
}

function assertAdjacency(event: DpEvent, adjacency: Adjacency): void {
  const found = adjacencyOf(event) ?? adjacency;
  if (found === adjacency) return;
  const message = `the scope protects ${adjacency} neighbours, the event's parameters hold for ${found}`;
  throw new CloisterError('DP_INVALID_PARAMETER', message, { adjacency, event: found });
}

function atLeastOne(units: number): number {
  return Math.max(1, units);
}

function inRange(name: string, value: unknown, most: number): number {
  if (typeof value !== 'number' || !(value >= 2 ** -1022 && value <= most)) {
    const came = typeof value === 'number' ? String(value) : typeof value;
    throw new CloisterError('DP_INVALID_PARAMETER', `${name} is a number above 0 and at most ${most}, got ${came}`);
  }
  return value;
}

function unsound(measure: Measure, event: DpEvent): never {
  const message = `an event of kind '${event.kind}' has no sound cost in a ${measure} budget, whose queries may be chosen as they go`;
  throw new CloisterError('DP_INVALID_PARAMETER', message, { measure, kind: event.kind });
}
