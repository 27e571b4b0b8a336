/**
 * Rényi accounting: events to divergences at chosen orders, which add up under adaptive composition.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import type { DpEvent, Rational } from '../event.ts';
import { adjacencyOf } from './adjacency.ts';
import {
  boundedRange,
  fixedSizeGaussian,
  laplace,
  pure,
  randomizedResponse,
  subsampledGaussian,
  treeHeight,
} from './renyi.ts';
import { repeatedRdp } from './repeat.ts';

/** Orders that serve from epsilon 0.001 to 1,000: finely spaced where an optimum usually lies. */
export const DEFAULT_ORDERS: readonly number[] = Object.freeze([
  1.02,
  1.05,
  ...Array.from({ length: 99 }, (_, i) => (11 + i) / 10),
  ...Array.from({ length: 53 }, (_, i) => 11 + i),
  ...[72, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 512, 640, 768, 1024],
]);

/** More orders where they cost nothing: closed forms. */
const FAR_ORDERS: readonly number[] = Array.from({ length: 64 }, (_, i) => 1024 * 2 ** ((i + 1) / 4));

/** Relative error of every curve here; what rounding up adds. */
const SLACK = 1e-11;

/** Rényi divergences of an event, and the probability with which they are void. */
export interface RdpBound {
  readonly orders: readonly number[];
  readonly losses: Float64Array;
  readonly delta: number;
}

/**
 * Returns the Rényi divergence of `event` at each of `orders`, rounded up, or `undefined` where none is known; `Infinity` at an order
 * that is not covered. A positive delta that is part of the event (`approx`, `zcdp`) is not: see {@link rdpLoss}.
 */
export function rdpOf(event: DpEvent, orders: readonly number[]): RdpBound | undefined {
  const known = curve(event, orders);
  if (known === undefined) return undefined;
  for (let i = 0; i < orders.length; i++) known.losses[i]! *= 1 + SLACK;
  return { orders, ...known };
}

/**
 * Returns orders worth trying for `event`: {@link DEFAULT_ORDERS}, those that parts of it state, and far ones where they are cheap.
 */
export function ordersFor(event: DpEvent): readonly number[] {
  const stated = new Set<number>(DEFAULT_ORDERS);
  let cheap = true;
  const look = (part: DpEvent): void => {
    if (part.kind === 'rdp') for (const order of part.orders) stated.add(order);
    else if (part.kind === 'composition') for (const one of part.events) look(one);
    else if (part.kind === 'self-composition' || part.kind === 'repeat-and-select') look(part.event);
    else if (part.kind === 'poisson-subsampled' || part.kind === 'fixed-size-subsampled') cheap = false;
  };
  look(event);
  if (cheap) for (const order of FAR_ORDERS) stated.add(order);
  return [...stated].sort((a, b) => a - b);
}

interface Curve {
  readonly losses: Float64Array;
  readonly delta: number;
}

function curve(event: DpEvent, orders: readonly number[]): Curve | undefined {
  const at = (loss: (order: number) => number, delta = 0): Curve => ({
    losses: Float64Array.from(orders, loss),
    delta,
  });
  switch (event.kind) {
    case 'gaussian':
    case 'gdp':
    case 'tree-gaussian':
    case 'gnmax':
    case 'discrete-gaussian': {
      const rho = concentrated(event)!;
      return at(order => rho * order);
    }
    case 'zcdp':
      return at(order => (event.xi ?? 0) + event.rho * order, event.delta ?? 0);
    case 'laplace':
      return at(order => laplace(1 / event.scale, order));
    case 'discrete-laplace':
      return at(order => pure(event.sensitivity / toNumber(event.scale), order));
    case 'pure':
      return at(order => pure(event.epsilon, order));
    case 'approx':
      return at(order => pure(event.epsilon, order), event.delta);
    case 'bounded-range':
      return at(order => boundedRange(event.epsilon, order));
    case 'randomized-response':
      return at(order => randomizedResponse(event.categories, event.p, order, event.neighboring === 'replace-special'));
    case 'rdp':
      return at(order => interpolated(event.orders, event.losses, order));
    case 'poisson-subsampled': {
      const sigma = gaussianEquivalent(event.event);
      return sigma === undefined ? undefined : at(order => subsampledGaussian(event.rate, sigma, order));
    }
    case 'fixed-size-subsampled': {
      const sigma = gaussianEquivalent(event.event);
      return sigma === undefined ? undefined : at(fixedSizeGaussian(event.size, event.population, sigma));
    }
    case 'repeat-and-select': {
      if (event.mean < 1) refuse('the mean number of runs is at least 1');
      if (typeof event.shape === 'number' && event.shape < 0) refuse('the shape of the number of runs is at least 0');
      const own = curve(event.event, orders);
      if (own === undefined || own.delta > 0) return undefined;
      return { losses: repeatedRdp(orders, own.losses, event.mean, event.shape), delta: 0 };
    }
    case 'composition': {
      const sum = { losses: new Float64Array(orders.length), delta: 0 };
      for (const part of event.events) {
        const own = curve(part, orders);
        if (own === undefined) return undefined;
        for (let i = 0; i < orders.length; i++) sum.losses[i]! += own.losses[i]!;
        sum.delta += own.delta;
      }
      return sum;
    }
    case 'self-composition': {
      const own = curve(event.event, orders);
      if (own === undefined) return undefined;
      return { losses: own.losses.map(loss => loss * event.count), delta: own.delta * event.count };
    }
    case 'truncated-poisson-subsampled':
    case 'gaussian-mixture':
    case 'shuffled':
      return undefined;
    default:
      event satisfies never;
      return undefined;
  }
}

/** `(order - 1)` times the divergence is convex in the order and 0 at 1: a bound between two orders that are known. */
function interpolated(orders: readonly number[], losses: readonly number[], order: number): number {
  if (orders.length !== losses.length) refuse('an rdp event has one loss for each order');
  let [below, above] = [1, Number.POSITIVE_INFINITY];
  let [low, high] = [0, Number.POSITIVE_INFINITY];
  for (let i = 0; i < orders.length; i++) {
    const own = (orders[i]! - 1) * losses[i]!;
    if (orders[i] === order) return losses[i]!;
    if (orders[i]! < order && orders[i]! > below) [below, low] = [orders[i]!, own];
    if (orders[i]! > order && orders[i]! < above) [above, high] = [orders[i]!, own];
  }
  if (above === Number.POSITIVE_INFINITY) return above;
  return (low + ((high - low) * (order - below)) / (above - below)) / (order - 1);
}

/** The noise multiplier of one Gaussian that `event` equals: several on the same data are one with their precisions added. */
export function gaussianEquivalent(event: DpEvent): number | undefined {
  const squared = gaussianSquared(event);
  return squared === undefined || squared === 0 ? undefined : 1 / Math.sqrt(squared);
}

/** mu^2 of `event` where it is Gaussian through and through. */
export function gaussianSquared(event: DpEvent): number | undefined {
  switch (event.kind) {
    case 'gaussian':
      return 1 / event.noiseMultiplier ** 2;
    case 'gdp':
      return event.mu ** 2;
    case 'tree-gaussian':
      return treeHeight(event.steps) / event.noiseMultiplier ** 2;
    case 'gnmax':
      // One voter moves one vote: two counts change by one.
      return 2 / event.sigma ** 2;
    case 'composition': {
      let sum = 0;
      for (const part of event.events) {
        const own = gaussianSquared(part);
        if (own === undefined) return undefined;
        sum += own;
      }
      return sum;
    }
    case 'self-composition': {
      const own = gaussianSquared(event.event);
      return own === undefined ? undefined : own * event.count;
    }
    default:
      return undefined;
  }
}

/** rho of `event` before rounding, where it is concentrated. */
function concentrated(event: DpEvent): number | undefined {
  switch (event.kind) {
    case 'discrete-gaussian':
      return event.sensitivitySquared / (2 * toNumber(event.sigmaSquared));
    case 'zcdp':
      return (event.xi ?? 0) === 0 && (event.delta ?? 0) === 0 ? event.rho : undefined;
    case 'laplace':
      return 1 / event.scale ** 2 / 2;
    case 'discrete-laplace':
      return (event.sensitivity / toNumber(event.scale)) ** 2 / 2;
    case 'pure':
      return event.epsilon ** 2 / 2;
    case 'bounded-range':
      return event.epsilon ** 2 / 8;
    case 'randomized-response': {
      const keeps = Math.log1p((event.categories * (1 - event.p)) / event.p);
      const epsilon =
        event.neighboring === 'replace-one' ? keeps : Math.max(-Math.log(event.p), keeps + Math.log(event.p));
      return epsilon ** 2 / 2;
    }
    case 'poisson-subsampled':
    case 'fixed-size-subsampled':
      // A sample loses no more than the whole (quasi-convexity), and no finite rho below it: no gain from the rate.
      return concentrated(event.event);
    case 'composition': {
      let sum = 0;
      for (const part of event.events) {
        const own = concentrated(part);
        if (own === undefined) return undefined;
        sum += own;
      }
      return sum;
    }
    case 'self-composition': {
      const own = concentrated(event.event);
      return own === undefined ? undefined : own * event.count;
    }
    default: {
      const squared = gaussianSquared(event);
      return squared === undefined ? undefined : squared / 2;
    }
  }
}

/**
 * Returns the zCDP loss rho of `event`, rounded up (relative 1e-11), or `undefined` where it has none. Losses add up under fully
 * adaptive composition (Bun & Steinke 2016, Lemma 2.3; Whitehouse et al. 2023), so a filter may sum them.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when parts of the event are stated for different neighbours.
 * @example
 * ```ts
 * zcdpLoss({ kind: 'gaussian', noiseMultiplier: 1, neighboring: 'add-remove' })! > 0.5; // true
 * zcdpLoss({ kind: 'approx', epsilon: 1, delta: 1e-9, neighboring: 'add-remove' }); // undefined
 * ```
 */
export function zcdpLoss(event: DpEvent): number | undefined {
  adjacencyOf(event);
  const rho = concentrated(event);
  return rho === undefined ? undefined : rho * (1 + SLACK);
}

/**
 * Returns mu^2 of `event`, rounded up (relative 1e-11), where it is Gaussian noise through and through, else `undefined`. The sum
 * of mu^2 is a valid filter for Gaussians with adaptively chosen parameters (Koskela et al. 2022; Smith & Thakurta 2022), and for
 * nothing that a Gaussian dominates at single points only.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when parts of the event are stated for different neighbours.
 * @example
 * ```ts
 * gdpLoss({ kind: 'laplace', scale: 1, neighboring: 'add-remove' }); // undefined
 * ```
 */
export function gdpLoss(event: DpEvent): number | undefined {
  adjacencyOf(event);
  const squared = gaussianSquared(event);
  return squared === undefined ? undefined : squared * (1 + SLACK);
}

/**
 * Returns the Rényi divergence of `event` at each of `orders` (above 1), rounded up, or `undefined` where it has none. Losses add up
 * at each order (Mironov 2017, Proposition 1), and a filter may sum them at a fixed set of orders (Feldman & Zrnic 2021).
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when parts of the event are stated for different neighbours, or an order is not above 1.
 * @example
 * ```ts
 * rdpLoss({ kind: 'pure', epsilon: 1, neighboring: 'add-remove' }, [2, 32])!.length; // 2
 * ```
 */
export function rdpLoss(event: DpEvent, orders: readonly number[]): Float64Array | undefined {
  adjacencyOf(event);
  for (const order of orders)
    if (!(order > 1 && order <= 1e6)) refuse(`an order is above 1 and at most 1e6, got ${order}`);
  const known = rdpOf(event, orders);
  return known === undefined || known.delta > 0 ? undefined : known.losses;
}

/** The float64 nearest to `value`, within 4 units in the last place. */
export function toNumber(value: Rational): number {
  return Number(value.numerator) / Number(value.denominator);
}

function refuse(message: string): never {
  throw new CloisterError('DP_INVALID_PARAMETER', message);
}
