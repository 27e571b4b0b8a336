/**
 * Rényi divergences of single mechanisms at one order, to about ten digits, and never below the truth by more than rounding.
 * @module
 */
import { logAdd, logBinomial, logExpm1 } from './special.ts';

/**
 * Returns the Rényi divergence, at `order` > 1, of a Poisson sample of rate `rate` with Gaussian noise of multiplier `sigma`:
 * `log A / (order - 1)` with `A = E[(1 + z)^order]`, `z = rate (e^((2x - 1) / (2 sigma^2)) - 1)`, `x` normal of deviation `sigma`
 * (Mironov, Talwar & Zhang 2019, Theorem 4 and Corollary 7: removal is the worse direction).
 *
 * `A - 1` is summed (whole orders) or integrated (others) from terms that are all positive, so small divergences keep their digits.
 */
export function subsampledGaussian(rate: number, sigma: number, order: number): number {
  if (rate >= 1) return order / (2 * sigma * sigma);
  const excess = Number.isInteger(order) ? wholeOrder(rate, sigma, order) : anyOrder(rate, sigma, order);
  return (excess > 40 ? excess : Math.log1p(Math.exp(excess))) / (order - 1);
}

/** log(A - 1): the binomial sum of §3.3, each term less what it would be without noise's help, as those add up to 1. */
function wholeOrder(rate: number, sigma: number, order: number): number {
  let sum = Number.NEGATIVE_INFINITY;
  const [logRate, logRest, twice] = [Math.log(rate), Math.log1p(-rate), 2 * sigma * sigma];
  for (let k = 2; k <= order; k++) {
    const term = logBinomial(order, k) + k * logRate + (order - k) * logRest + logExpm1((k * (k - 1)) / twice);
    sum = logAdd(sum, term);
    // Past its peak the summand falls ever faster only where noise is wide; otherwise it rises to the end.
    if (term < sum - 45 && logRate - logRest + Math.log(order / k) + (2 * order) / twice < 0) break;
  }
  return sum;
}

/**
 * log(A - 1) as the integral of the normal density times `(1 + z)^order - 1 - order z`, which is convex in z and never negative, and
 * whose last part integrates to 0. The trapezoid rule converges at e^(-2 pi d / step) where the integrand is analytic within d of the
 * real line: here pi sigma^2, where 1 + z has its first zero.
 */
function anyOrder(rate: number, sigma: number, order: number): number {
  const step = Math.min(sigma / 4, 0.3 * sigma * sigma);
  const from = -10 * sigma;
  const to = order + 10 * sigma;
  let sum = Number.NEGATIVE_INFINITY;
  for (let i = 0; from + i * step <= to; i++) {
    const x = from + i * step;
    sum = logAdd(sum, logConvex(rate, (2 * x - 1) / (2 * sigma * sigma), order) - (x * x) / (2 * sigma * sigma));
  }
  return sum + Math.log(step / (sigma * Math.sqrt(2 * Math.PI)));
}

/** log((1 + z)^order - 1 - order z) for z = rate (e^loss - 1). */
function logConvex(rate: number, loss: number, order: number): number {
  if (loss > 500) return order * (Math.log(rate) + loss);
  const z = rate * Math.expm1(loss);
  if (Math.abs(z) * Math.max(order, 2) < 0.3) {
    // The binomial series from its second term, as the difference would cancel.
    let term = (order * (order - 1) * z * z) / 2;
    let sum = 0;
    for (let k = 3; Math.abs(term) > 1e-18 * Math.abs(sum); k++) {
      sum += term;
      term *= (z * (order - k + 1)) / k;
    }
    return Math.log(sum);
  }
  const power = order * Math.log1p(z);
  return power > 40 ? power + Math.log1p(-(1 + order * z) * Math.exp(-power)) : Math.log(Math.expm1(power) - order * z);
}

/** Laplace noise with sensitivity over scale `epsilon` (Mironov 2017, Proposition 6). */
export function laplace(epsilon: number, order: number): number {
  return epsilon + Math.log1p(((order - 1) * Math.expm1(epsilon * (1 - 2 * order))) / (2 * order - 1)) / (order - 1);
}

/** Anything `epsilon`-private: binary randomised response is the worst of them (Mironov 2017, Proposition 5 and Bun & Steinke 2016). */
export function pure(epsilon: number, order: number): number {
  const kept = logAdd(order * epsilon, (1 - order) * epsilon) - logAdd(0, epsilon);
  return Math.min(epsilon, Math.max(0, kept / (order - 1)), (order * epsilon * epsilon) / 2);
}

/** Losses within a range of width `epsilon` (Dong, Durfee & Rogers 2020, §3; Cesar & Rogers 2021, Lemma 3.4). */
export function boundedRange(epsilon: number, order: number): number {
  const ratio = epsilon / Math.expm1(epsilon);
  const line = ratio - 1 - Math.log(ratio) + ((order - 1) * epsilon * epsilon) / 8;
  return Math.min(line > 0 ? line : Number.POSITIVE_INFINITY, (order * epsilon * epsilon) / 8, pure(epsilon, order));
}

/** k-ary randomised response between two answers, both given: divergences of the distributions themselves. */
export function randomizedResponse(categories: number, p: number, order: number, special: boolean): number {
  const keeps = Math.log1p((categories * (1 - p)) / p);
  const other = Math.log(p / categories);
  if (!special) {
    const rest = categories > 2 ? Math.log(categories - 2) + other : Number.NEGATIVE_INFINITY;
    const sum = logAdd(logAdd(other + order * keeps, other + (1 - order) * keeps), rest);
    return Math.max(0, sum) / (order - 1);
  }
  // A special record's answer is uniform: both directions, as they differ.
  const own = keeps + Math.log(p);
  const side = (power: number): number =>
    logAdd(power * own - Math.log(categories), Math.log1p(-1 / categories) + power * Math.log(p));
  return Math.max(0, side(order), side(1 - order)) / (order - 1);
}

/**
 * A sample without replacement, of `size` in `population`, with Gaussian noise of multiplier `sigma`, for a replaced record (Wang, Balle &
 * Kasiviswanathan 2019, Theorem 27; between whole orders Corollary 10). Returns a function, as orders share moments.
 */
export function fixedSizeGaussian(size: number, population: number, sigma: number): (order: number) => number {
  const rate = size / population;
  const moments = new Map<number, number>();
  const moment = (even: number): number => {
    let value = moments.get(even);
    if (value === undefined) {
      value = evenMoment(even, sigma);
      moments.set(even, value);
    }
    return value;
  };
  const generator = (order: number): number => {
    if (order <= 1) return 0;
    let sum = 0;
    for (let i = 2; i <= order; i++) {
      const plain = Math.log(2) + (i * (i - 1)) / (2 * sigma * sigma);
      const sharp =
        i === 2
          ? Math.log(4) + logExpm1(1 / (sigma * sigma))
          : i > 256
            ? plain
            : Math.log(4) + (moment(2 * Math.floor(i / 2)) + moment(2 * Math.ceil(i / 2))) / 2;
      sum = logAdd(sum, Math.min(plain, sharp) + i * Math.log(rate) + logBinomial(order, i));
    }
    return sum;
  };
  return order => {
    if (rate >= 1) return order / (2 * sigma * sigma);
    const below = Math.floor(order);
    const low = generator(below);
    if (below === order) return low / (order - 1);
    const share = order - below;
    return ((1 - share) * low + share * generator(below + 1)) / (order - 1);
  };
}

/** log E[(e^y - 1)^even], y normal with mean -1 / (2 sigma^2) and variance 1 / sigma^2: an alternating sum, so integrated instead. */
function evenMoment(even: number, sigma: number): number {
  const mu = 1 / sigma;
  const step = Math.min(0.2, 0.3 / mu);
  let sum = Number.NEGATIVE_INFINITY;
  // In units of the deviation; the integrand e^(even y) has its peak at even * mu, and (1 - e^y)^even one left of 0.
  for (let t = -14 - even ** 0.5 * 2; t <= even * mu + 14; t += step) {
    const size = Math.abs(mu * t - (mu * mu) / 2);
    if (size === 0) continue;
    const y = mu * t - (mu * mu) / 2;
    const log = y > 0 ? logExpm1(y) : Math.log(-Math.expm1(y));
    sum = logAdd(sum, even * log - (t * t) / 2);
  }
  return sum + Math.log(step / Math.sqrt(2 * Math.PI));
}

/** Levels that a value takes part in, in a binary tree over `steps` values: ceil(log2(steps + 1)). */
export function treeHeight(steps: number): number {
  let height = 0;
  while (2 ** height < steps + 1) height++;
  return height;
}
