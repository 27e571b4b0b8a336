/**
 * PATE: the Rényi divergence of one noisy plurality of given votes. Depends on the votes, so it is private itself.
 * @module
 */
import { logAdd, scaledTail } from './special.ts';

/**
 * Returns the Rényi divergence, at each of `orders`, of the label with most votes after Gaussian noise of deviation `sigma` on every
 * count, for these `votes`: where they agree it is far below `order / sigma^2` (Papernot et al. 2018, Theorem 6 and Proposition 10).
 *
 * The result depends on private votes: neither it nor an epsilon from it may be released, unless smooth sensitivity is added to it.
 */
export function gnmaxDivergence(votes: readonly number[], sigma: number, orders: readonly number[]): Float64Array {
  const log = logOutvoted(votes, sigma);
  const variance = sigma * sigma;
  return Float64Array.from(orders, order => {
    const plain = order / variance;
    const second = sigma * Math.sqrt(-log);
    const first = second + 1;
    if (!(order <= first && second > 1)) return plain;
    const [loss1, loss2] = [first / variance, second / variance];
    // Valid only where the probability of another label is small enough.
    const limit = (second - 1) * loss2 - second * (Math.log(first / (first - 1)) + Math.log(second / (second - 1)));
    if (!(log <= limit && -log > loss2)) return plain;
    const kept = Math.log1p(-Math.exp(log));
    const agreed = kept - Math.log1p(-Math.exp((log + loss2) * (1 - 1 / second)));
    const outvoted = loss1 - log / (first - 1);
    return Math.min(plain, logAdd(kept + (order - 1) * agreed, log + (order - 1) * outvoted) / (order - 1));
  });
}

/** log of a bound on the probability that the noisy plurality is not the true one (Proposition 7). */
function logOutvoted(votes: readonly number[], sigma: number): number {
  const most = Math.max(...votes);
  const winner = votes.indexOf(most);
  let log = Number.NEGATIVE_INFINITY;
  for (const [i, count] of votes.entries()) {
    if (i === winner) continue;
    const x = (most - count) / (sigma * Math.SQRT2);
    log = logAdd(log, Math.log(scaledTail(x)) - (x * x) / 2);
  }
  return Math.min(log, Math.log1p(-1 / votes.length));
}
