/**
 * From Rényi divergences and concentrated privacy to epsilon and delta.
 * @module
 */

/**
 * Returns the least epsilon that Rényi divergences `losses` at `orders` give for `delta` (Canonne, Kamath & Steinke 2020,
 * Proposition 12; Asoodeh et al. 2020), or 0 where the divergence itself bounds the total variation (Bretagnolle & Huber 1979).
 */
export function rdpEpsilon(orders: ArrayLike<number>, losses: ArrayLike<number>, delta: number): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < orders.length; i++) {
    const [order, loss] = [orders[i]!, losses[i]!];
    if (!(loss < Number.POSITIVE_INFINITY) || delta <= 0) continue;
    if (delta * delta + Math.expm1(-loss) > 0) return 0;
    if (order < 1.01) continue;
    least = Math.min(least, loss + Math.log1p(-1 / order) - (Math.log(delta) + Math.log(order)) / (order - 1));
  }
  return Math.max(0, least);
}

/** Returns the least delta that Rényi divergences `losses` at `orders` give for `epsilon`, from the same inequalities. */
export function rdpDelta(orders: ArrayLike<number>, losses: ArrayLike<number>, epsilon: number): number {
  let least = 0;
  for (let i = 0; i < orders.length; i++) {
    const [order, loss] = [orders[i]!, losses[i]!];
    if (!(loss < Number.POSITIVE_INFINITY)) continue;
    least = Math.min(least, 0.5 * Math.log(-Math.expm1(-loss)));
    if (order < 1.01) continue;
    least = Math.min(least, (order - 1) * (loss - epsilon + Math.log1p(-1 / order)) - Math.log(order));
  }
  return Math.exp(least);
}

/**
 * Returns the least delta that `rho`-zCDP with offset `xi` gives for `epsilon`: the infimum over orders of the Rényi conversion
 * (Canonne, Kamath & Steinke 2020, Corollary 13). Convex in the order, so bisection on the derivative's sign finds it.
 */
export function zcdpDelta(rho: number, xi: number, epsilon: number): number {
  const exponent = (order: number): number =>
    (order - 1) * (order * rho + xi - epsilon) + order * Math.log1p(-1 / order) - Math.log(order - 1);
  const slope = (order: number): number => (2 * order - 1) * rho + xi - epsilon + Math.log1p(-1 / order);
  let low = 1 + 1e-9;
  let high = Math.max(2, (epsilon + 1) / (2 * rho) + 2);
  for (let i = 0; i < 200 && high - low > 1e-15 * high; i++) {
    const middle = (low + high) / 2;
    if (slope(middle) < 0) low = middle;
    else high = middle;
  }
  return Math.min(1, Math.exp(exponent((low + high) / 2)));
}
