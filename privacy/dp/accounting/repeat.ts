/**
 * The best of a random number of runs, as in private tuning of hyperparameters.
 * @module
 */
import { rdpDelta } from './conversion.ts';
import { leastHolding } from './special.ts';

/**
 * Returns the Rényi divergences, at `orders`, of keeping the best of a random number of runs, from those of one run: Poisson (Papernot &
 * Steinke 2021, Theorem 6) or truncated negative binomial (Theorem 2); `Infinity` where nothing is known.
 */
export function repeatedRdp(
  orders: ArrayLike<number>,
  losses: ArrayLike<number>,
  mean: number,
  shape: number | 'poisson',
): Float64Array {
  const out = new Float64Array(orders.length).fill(Number.POSITIVE_INFINITY);
  if (shape === 'poisson') {
    for (let i = 0; i < orders.length; i++) {
      const hat = rdpDelta(orders, losses, Math.log1p(1 / (orders[i]! - 1)));
      out[i] = losses[i]! + mean * hat + Math.max(0, Math.log(mean)) / (orders[i]! - 1);
    }
  } else {
    const gamma = stopping(shape, mean);
    let constant = Number.POSITIVE_INFINITY;
    for (let i = 0; i < orders.length; i++) {
      constant = Math.min(constant, (1 - 1 / orders[i]!) * losses[i]! - Math.log(gamma) / orders[i]!);
    }
    for (let i = 0; i < orders.length; i++) {
      out[i] = losses[i]! + Math.log(mean) / (orders[i]! - 1) + (1 + shape) * constant;
    }
  }
  // Divergences grow with the order: a bound at a higher order holds at a lower one.
  const falling = Array.from(out.keys()).sort((a, b) => orders[b]! - orders[a]!);
  let least = Number.POSITIVE_INFINITY;
  for (const i of falling) {
    least = Math.min(least, out[i]!);
    out[i] = least;
  }
  return out;
}

/** The largest stopping probability gamma whose truncated negative binomial has a mean of at least `mean`. */
function stopping(shape: number, mean: number): number {
  if (shape === 1) return 1 / mean;
  // Falls in gamma: 1 at gamma = 1, without bound towards 0. Definition 1.
  const meanAt = (gamma: number): number => {
    const log = Math.log(gamma);
    const odds = -Math.expm1(log) / gamma;
    return shape === 0 ? odds / -log : (shape * odds) / -Math.expm1(shape * log);
  };
  // leastHolding looks from above for a property that holds at the high end: here in -log(gamma).
  return Math.exp(-leastHolding(depth => meanAt(Math.exp(-depth)) >= mean, 1e-12, 690, 1e-14));
}
