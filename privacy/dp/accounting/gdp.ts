/**
 * Gaussian differential privacy: the loss of Gaussian noise in closed form.
 * @module
 */
import { bell, leastHolding, scaledTail, TAIL_UNITS, UNIT, upperTail } from './special.ts';

/** Two numbers with the truth between them. */
export interface Bounds {
  readonly upper: number;
  readonly lower: number;
}

/**
 * Returns the least delta at which telling N(0, 1) from N(`mu`, 1) is (`epsilon`, delta)-private, between bounds that the error of
 * the arithmetic cannot leave: `Q(a) - e^epsilon Q(a + mu)` with `a = epsilon / mu - mu / 2` (Balle & Wang 2018, Theorem 8; Dong,
 * Roth & Su 2019, Corollary 2.13), with e^epsilon drawn into the tails so that nothing over- or underflows above 1e-300.
 */
export function gaussianDelta(mu: number, epsilon: number): Bounds {
  const a = epsilon / mu - mu / 2;
  const first = upperTail(a);
  const value = a >= 0 ? bell(a) * (scaledTail(a) - scaledTail(a + mu)) : first - bell(a) * scaledTail(a + mu);
  // Tails are off by TAIL_UNITS each; `a` by a few units of its parts, which the tail magnifies by |a| at most.
  const slack = UNIT * first * (2 * TAIL_UNITS + 4 * (Math.abs(a) + 1) * (epsilon / mu + mu));
  return { upper: Math.min(1, value + slack), lower: Math.max(0, value - slack) };
}

/** Returns the least epsilon >= 0 at which telling N(0, 1) from N(`mu`, 1) is (epsilon, `delta`)-private, between bounds. */
export function gaussianEpsilon(mu: number, delta: number): Bounds {
  if (delta <= 0) return { upper: Number.POSITIVE_INFINITY, lower: Number.POSITIVE_INFINITY };
  // Q(a) <= e^(-a^2/2) for a >= 0: this epsilon is enough.
  const top = mu * (mu / 2 + Math.sqrt(2 * Math.log(1 / delta)) + 1e-9);
  const solve = (side: 'upper' | 'lower'): number =>
    gaussianDelta(mu, 0)[side] <= delta
      ? 0
      : leastHolding(epsilon => gaussianDelta(mu, epsilon)[side] <= delta, 0, top, 4 * UNIT);
  const upper = solve('upper');
  const lower = solve('lower');
  return { upper, lower: Math.max(0, lower * (1 - 8 * UNIT)) };
}
