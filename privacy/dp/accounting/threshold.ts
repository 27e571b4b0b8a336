/**
 * Selecting partitions by noisy thresholds and by the optimal rule, as far as their parameters can be worked out without data.
 * @module
 */
import { gaussianEpsilon } from './gdp.ts';
import { leastHolding, upperTail } from './special.ts';

/** delta of one partition where each subject is in at most `l0` of them: 1 - (1 - delta)^(1/l0). */
function share(delta: number, l0: number): number {
  return -Math.expm1(Math.log1p(-delta) / l0);
}

/** Returns the threshold on a sum with Laplace noise that a partition of one subject passes with probability at most delta. */
export function laplaceThreshold(epsilon: number, delta: number, l0: number, linf: number): number {
  const scale = (l0 * linf) / epsilon;
  const own = share(delta, l0);
  return own <= 0.5 ? linf - scale * Math.log(2 * own) : linf + scale * Math.log(2 - 2 * own);
}

/** Returns the delta of that threshold. */
export function laplaceThresholdDelta(epsilon: number, threshold: number, l0: number, linf: number): number {
  const distance = ((threshold - linf) * epsilon) / (l0 * linf);
  const own = distance >= 0 ? Math.exp(-distance) / 2 : 1 - Math.exp(distance) / 2;
  return -Math.expm1(l0 * Math.log1p(-own));
}

/** Returns the threshold on a sum with Gaussian noise of deviation `sigma`. */
export function gaussianThreshold(sigma: number, delta: number, l0: number, linf: number): number {
  const own = share(delta, l0);
  return linf + sigma * leastHolding(x => upperTail(x) <= own, -40, 40, 1e-15);
}

/** Returns the delta of that threshold. */
export function gaussianThresholdDelta(sigma: number, threshold: number, l0: number, linf: number): number {
  return -Math.expm1(l0 * Math.log1p(-upperTail((threshold - linf) / sigma)));
}

/** Returns the least deviation at which Gaussian noise on a vector of L2 sensitivity `sensitivity` is (epsilon, delta)-private. */
export function gaussianSigma(epsilon: number, delta: number, sensitivity: number): number {
  return sensitivity * leastHolding(sigma => gaussianEpsilon(1 / sigma, delta).upper <= epsilon, 1e-6, 1e9, 1e-13);
}

/**
 * Returns P(noise >= threshold - 1) or, with `strictly`, P(noise > threshold - 1) for discrete Laplace noise of scale `scale`: the delta of a
 * rule that releases a count of one at, or only above, the threshold. The two differ by a factor of e^(1/scale).
 */
export function discreteLaplaceThresholdDelta(scale: number, threshold: number, strictly: boolean): number {
  const least = Math.ceil(threshold) - 1 + (strictly && Number.isInteger(threshold) ? 1 : 0);
  const ratio = Math.exp(-1 / scale);
  return least > 0 ? Math.exp(-least / scale) / (1 + ratio) : 1 - Math.exp((least - 1) / scale) / (1 + ratio);
}

/**
 * Returns the probability with which the optimal rule keeps a partition of `count` subjects: as large as (epsilon, delta) lets it be,
 * given those of smaller partitions (Desfontaines, Voss, Gipson & Mandayam 2022, Theorem 1).
 */
export function keepProbability(count: number, epsilon: number, delta: number, l0: number): number {
  const own = epsilon / l0;
  const rest = delta / l0;
  let kept = 0;
  for (let i = 0; i < count && kept < 1; i++) {
    kept = Math.min(Math.exp(own) * kept + rest, 1 - Math.exp(-own) * (1 - kept - rest), 1);
    if (1 - kept < 1e-17) break;
  }
  return kept;
}
