/**
 * Dominating pairs: two distributions that are told apart at least as easily as the outputs of a mechanism on any two neighbours, seen
 * through their privacy loss log(dP/dQ) (Zhu, Dong & Wang 2022).
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import type { DiscreteGaussianEvent, DpEvent, RandomizedResponseEvent } from '../event.ts';
import { gaussianSquared, toNumber } from './rdp.ts';
import { bell, leastHolding, upperTail } from './special.ts';

/** Probabilities of a loss above and at most some value, under P and under Q. */
export interface Tails {
  aboveP: number;
  aboveQ: number;
  belowP: number;
  belowQ: number;
}

/** A pair whose loss has a distribution function that can be computed, each tail with its own relative accuracy. */
export interface ContinuousPair {
  readonly kind: 'continuous';
  /** Writes the tails at `loss`. */
  tails(loss: number, out: Tails): void;
  /** No loss lies beyond these. */
  readonly lowest: number;
  readonly highest: number;
  /** Whether (Q, P) is the same pair. */
  readonly symmetric: boolean;
}

/** A pair with countably many losses; `masses` are under P, those under Q are `masses * exp(-losses)`. */
export interface DiscretePair {
  readonly kind: 'discrete';
  readonly losses: Float64Array;
  readonly masses: Float64Array;
  /** Probability under P of what Q never does, and the other way round. */
  readonly infiniteP: number;
  readonly infiniteQ: number;
  readonly symmetric: boolean;
}

/** Two distributions, as far as their privacy loss tells. */
export type LossPair = ContinuousPair | DiscretePair;

const MOST_ATOMS = 2 ** 18;

/**
 * Returns a pair that dominates `event` on its neighbours in one direction, its swap dominating the other; `undefined` where none is
 * known. The event is neither a composition nor Gaussian.
 */
export function pairOf(event: DpEvent): LossPair | undefined {
  switch (event.kind) {
    case 'laplace':
      return laplacePair(1 / event.scale);
    case 'discrete-laplace': {
      const scale = toNumber(event.scale);
      return event.cells === 1 && event.sensitivity < MOST_ATOMS
        ? discreteLaplacePair(event.sensitivity, scale)
        : purePair(event.sensitivity / scale, 0);
    }
    case 'discrete-gaussian':
      return event.cells === 1 ? discreteGaussianPair(event) : undefined;
    case 'randomized-response':
      return responsePair(event);
    case 'pure':
    case 'bounded-range':
      return purePair(event.epsilon, 0);
    case 'approx':
      return purePair(event.epsilon, event.delta);
    case 'gaussian-mixture':
      return mixturePair(event.sigma, event.sensitivities, event.probabilities);
    case 'poisson-subsampled': {
      const inner = innerPair(event.event);
      return inner === undefined || !inner.symmetric ? undefined : sampled(inner, event.rate);
    }
    case 'fixed-size-subsampled': {
      const inner = innerPair(event.event);
      return inner === undefined || !inner.symmetric
        ? undefined
        : sampledEitherWay(inner, event.size / event.population);
    }
    default: {
      const squared = gaussianSquared(event);
      return squared === undefined ? undefined : gaussianPair(Math.sqrt(squared));
    }
  }
}

/** What a sample is handed to: one mechanism, or several that are one Gaussian. */
function innerPair(event: DpEvent): LossPair | undefined {
  const squared = gaussianSquared(event);
  if (squared !== undefined) return gaussianPair(Math.sqrt(squared));
  return event.kind === 'composition' || event.kind === 'self-composition' ? undefined : pairOf(event);
}

/** N(mu, 1) and N(0, 1): the loss at x is mu x - mu^2 / 2. */
function gaussianPair(mu: number): ContinuousPair {
  return {
    kind: 'continuous',
    tails(loss, out) {
      const x = loss / mu + mu / 2;
      normalTails(x - mu, x, out);
    },
    lowest: Number.NEGATIVE_INFINITY,
    highest: Number.POSITIVE_INFINITY,
    symmetric: true,
  };
}

/** The smaller tail is computed, the other is its complement. */
function normalTails(p: number, q: number, out: Tails): void {
  const tailP = upperTail(Math.abs(p));
  const tailQ = upperTail(Math.abs(q));
  [out.aboveP, out.belowP] = p > 0 ? [tailP, 1 - tailP] : [1 - tailP, tailP];
  [out.aboveQ, out.belowQ] = q > 0 ? [tailQ, 1 - tailQ] : [1 - tailQ, tailQ];
}

/** Laplace noise around 0 and 1; all beyond either centre has the same loss. */
function laplacePair(epsilon: number): ContinuousPair {
  return {
    kind: 'continuous',
    tails(loss, out) {
      if (loss >= epsilon) [out.aboveP, out.aboveQ, out.belowP, out.belowQ] = [0, 0, 1, 1];
      else if (loss < -epsilon) [out.aboveP, out.aboveQ, out.belowP, out.belowQ] = [1, 1, 0, 0];
      else {
        out.belowP = 0.5 * Math.exp((loss - epsilon) / 2);
        out.aboveQ = 0.5 * Math.exp((-epsilon - loss) / 2);
        out.aboveP = 0.5 - 0.5 * Math.expm1((loss - epsilon) / 2);
        out.belowQ = 0.5 - 0.5 * Math.expm1((-epsilon - loss) / 2);
      }
    },
    lowest: -epsilon,
    highest: epsilon,
    symmetric: true,
  };
}

function discreteLaplacePair(sensitivity: number, scale: number): DiscretePair {
  const ratio = Math.exp(-1 / scale);
  const losses = new Float64Array(sensitivity + 1);
  const masses = new Float64Array(sensitivity + 1);
  for (let x = 0; x <= sensitivity; x++) {
    losses[x] = (sensitivity - 2 * x) / scale;
    // Everything at or below 0, and at or above the sensitivity, has one loss.
    const inner = x === 0 || x === sensitivity ? 1 : -Math.expm1(-1 / scale);
    masses[x] = (inner * Math.exp(-x / scale)) / (1 + ratio);
  }
  return { kind: 'discrete', losses, masses, infiniteP: 0, infiniteQ: 0, symmetric: true };
}

/** Noise of density exp(-x^2 / 2 sigma^2) on the integers, moved by an integer: the losses are a lattice. */
function discreteGaussianPair(event: DiscreteGaussianEvent): DiscretePair | undefined {
  const shift = Math.sqrt(event.sensitivitySquared);
  const variance = toNumber(event.sigmaSquared);
  const sigma = Math.sqrt(variance);
  const reach = Math.ceil(38 * sigma) + shift;
  if (!Number.isInteger(shift) || 2 * reach + 1 > MOST_ATOMS) return undefined;
  const losses = new Float64Array(2 * reach + 1);
  const masses = new Float64Array(2 * reach + 1);
  let total = 0;
  for (let i = 0; i < losses.length; i++) {
    const x = i - reach;
    losses[i] = (shift * (shift - 2 * x)) / (2 * variance);
    masses[i] = bell(x / sigma);
    total += masses[i]!;
  }
  for (let i = 0; i < masses.length; i++) masses[i]! /= total;
  // What lies beyond 38 deviations is below 1e-313.
  return { kind: 'discrete', losses, masses, infiniteP: 0, infiniteQ: 0, symmetric: true };
}

function responsePair(event: RandomizedResponseEvent): DiscretePair {
  const { categories, p } = event;
  const keeps = Math.log1p((categories * (1 - p)) / p);
  const other = p / categories;
  if (event.neighboring === 'replace-special') {
    // Q answers uniformly.
    const losses = Float64Array.of(keeps + Math.log(p), Math.log(p));
    const masses = Float64Array.of(1 - p + other, p * (1 - 1 / categories));
    return { kind: 'discrete', losses, masses, infiniteP: 0, infiniteQ: 0, symmetric: false };
  }
  const losses = Float64Array.of(keeps, 0, -keeps);
  const masses = Float64Array.of(1 - p + other, (categories - 2) * other, other);
  return { kind: 'discrete', losses, masses, infiniteP: 0, infiniteQ: 0, symmetric: true };
}

/** Binary randomised response that gives itself away with probability `delta`: the worst of all that is (epsilon, delta)-private. */
function purePair(epsilon: number, delta: number): DiscretePair {
  const odds = 1 / (1 + Math.exp(-epsilon));
  return {
    kind: 'discrete',
    losses: Float64Array.of(epsilon, -epsilon),
    masses: Float64Array.of((1 - delta) * odds, (1 - delta) * Math.exp(-epsilon) * odds),
    infiniteP: delta,
    infiniteQ: delta,
    symmetric: true,
  };
}

/** A random one of several normals, and N(0, sigma^2): the loss rises with x, as no sensitivity is negative. */
function mixturePair(
  sigma: number,
  sensitivities: readonly number[],
  probabilities: readonly number[],
): ContinuousPair {
  const sum = probabilities.reduce((a, b) => a + b, 0);
  if (sensitivities.length !== probabilities.length || Math.abs(sum - 1) > 1e-9) {
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      'a mixture has one probability for each sensitivity, and they add up to 1',
    );
  }
  const parts = sensitivities
    .map((s, i) => ({ shift: s / sigma, share: probabilities[i]! / sum }))
    .filter(part => part.share > 0);
  const moving = parts.filter(part => part.shift > 0);
  const still = parts.reduce((total, part) => (part.shift > 0 ? total : total + part.share), 0);
  if (moving.length === 0)
    throw new CloisterError('DP_INVALID_PARAMETER', 'a mixture without a positive sensitivity hides nothing');
  const highest = Math.max(...moving.map(part => part.shift));
  const lossAt = (x: number): number => {
    let sizes = 0;
    let top = 0;
    for (const { shift } of moving) top = Math.max(top, shift * x - (shift * shift) / 2);
    for (const { shift, share } of moving) sizes += share * Math.exp(shift * x - (shift * shift) / 2 - top);
    return top + Math.log(sizes + still * Math.exp(-top));
  };
  const lowest = still > 0 ? Math.log(still) : Number.NEGATIVE_INFINITY;
  return {
    kind: 'continuous',
    tails(loss, out) {
      if (loss <= lowest) [out.aboveP, out.aboveQ, out.belowP, out.belowQ] = [1, 1, 0, 0];
      else {
        const x = leastHolding(at => lossAt(at) >= loss, -45, Math.max(45, (loss + 50) / highest + highest), 1e-15);
        out.aboveQ = upperTail(x);
        out.belowQ = upperTail(-x);
        out.aboveP = still * out.aboveQ;
        out.belowP = still * out.belowQ;
        for (const { shift, share } of moving) {
          out.aboveP += share * upperTail(x - shift);
          out.belowP += share * upperTail(shift - x);
        }
      }
    },
    lowest,
    highest: Number.POSITIVE_INFINITY,
    symmetric: false,
  };
}

/**
 * What a Poisson sample of rate `rate` makes of a pair: P with probability `rate`, otherwise Q, against Q (Zhu, Dong & Wang 2022,
 * Theorem 11). Stands for a removed record; the swap stands for an added one.
 */
function sampled(inner: LossPair, rate: number): LossPair {
  if (rate >= 1) return inner;
  const lowest = Math.log1p(-rate);
  if (inner.kind === 'continuous') {
    return {
      kind: 'continuous',
      tails(loss, out) {
        // e^loss - 1 + rate is the share of P times its likelihood ratio.
        const odds = (Math.expm1(loss) + rate) / rate;
        if (!(odds > 0)) {
          [out.aboveP, out.aboveQ, out.belowP, out.belowQ] = [1, 1, 0, 0];
          return;
        }
        inner.tails(odds < Number.POSITIVE_INFINITY ? Math.log(odds) : loss - Math.log(rate), out);
        out.aboveP = (1 - rate) * out.aboveQ + rate * out.aboveP;
        out.belowP = (1 - rate) * out.belowQ + rate * out.belowP;
      },
      lowest: Math.max(lowest, Math.log1p(rate * Math.expm1(inner.lowest))),
      highest: inner.highest < 700 ? Math.log1p(rate * Math.expm1(inner.highest)) : inner.highest,
      symmetric: false,
    };
  }
  const { losses, masses } = inner;
  const size = losses.length + (inner.infiniteQ > 0 ? 1 : 0);
  const out = { losses: new Float64Array(size), masses: new Float64Array(size) };
  for (let i = 0; i < losses.length; i++) {
    out.losses[i] = Math.log1p(rate * Math.expm1(losses[i]!));
    out.masses[i] = (1 - rate) * masses[i]! * Math.exp(-losses[i]!) + rate * masses[i]!;
  }
  if (inner.infiniteQ > 0) {
    out.losses[size - 1] = lowest;
    out.masses[size - 1] = (1 - rate) * inner.infiniteQ;
  }
  return { kind: 'discrete', ...out, infiniteP: rate * inner.infiniteP, infiniteQ: 0, symmetric: false };
}

/**
 * A sample of a fixed size, for a replaced record: `sampled` where the loss is positive, its mirror image where it is negative, and
 * what is left of either distribution at loss 0 (Balle, Barthe & Gaboardi 2018, Theorem 9; Zhu, Dong & Wang 2022, Theorem 11).
 */
function sampledEitherWay(inner: LossPair, rate: number): LossPair {
  if (rate >= 1) return inner;
  const half = sampled(inner, rate);
  if (half.kind === 'continuous') {
    return {
      kind: 'continuous',
      tails(loss, out) {
        half.tails(Math.abs(loss), out);
        const [p, q] = [out.aboveP, out.aboveQ];
        if (loss >= 0) [out.aboveP, out.aboveQ, out.belowP, out.belowQ] = [p, q, 1 - p, 1 - q];
        else [out.aboveP, out.aboveQ, out.belowP, out.belowQ] = [1 - q, 1 - p, q, p];
      },
      lowest: -half.highest,
      highest: half.highest,
      symmetric: true,
    };
  }
  const positive = Array.from(half.losses.keys()).filter(i => half.losses[i]! > 0);
  const losses = [0];
  const masses = [1 - half.infiniteP];
  for (const i of positive) {
    const [loss, mass] = [half.losses[i]!, half.masses[i]!];
    losses.push(loss, -loss);
    masses.push(mass, mass * Math.exp(-loss));
    masses[0]! -= mass * (1 + Math.exp(-loss));
  }
  masses[0] = Math.max(0, masses[0]!);
  return {
    kind: 'discrete',
    losses: Float64Array.from(losses),
    masses: Float64Array.from(masses),
    infiniteP: half.infiniteP,
    infiniteQ: half.infiniteP,
    symmetric: true,
  };
}
