/**
 * Composition theorems for (epsilon, delta): basic, advanced, and optimal.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import { logAdd, logBinomial } from './special.ts';

/** A guarantee. */
export interface Guarantee {
  readonly epsilon: number;
  readonly delta: number;
}

/** Returns the sums: valid for adaptive choices as well (Dwork & Roth 2014, Theorem 3.16). */
export function basicComposition(parts: readonly Guarantee[]): Guarantee {
  return {
    epsilon: parts.reduce((sum, part) => sum + part.epsilon, 0) * (1 + 1e-13),
    delta: parts.reduce((sum, part) => sum + part.delta, 0) * (1 + 1e-13),
  };
}

/**
 * Returns an epsilon of `count` mechanisms, each `part`-private, at `count * part.delta + slack` (Dwork, Rothblum & Vadhan 2010,
 * with the constant of Kairouz, Oh & Viswanath 2015, Theorem 3.3).
 */
export function advancedComposition(part: Guarantee, count: number, slack: number): number {
  if (!(slack > 0 && slack < 1)) {
    throw new CloisterError('DP_INVALID_PARAMETER', `advanced composition needs a slack between 0 and 1, got ${slack}`);
  }
  const { epsilon } = part;
  const drift = count * epsilon * Math.tanh(epsilon / 2);
  return Math.min(count * epsilon, drift + epsilon * Math.sqrt(2 * count * Math.log(1 / slack))) * (1 + 1e-13);
}

/**
 * Returns the least delta at `epsilon` that `count` mechanisms, each `part`-private, can have: attained by randomised response, so
 * no accountant that knows no more of them can do better (Kairouz, Oh & Viswanath 2015, Theorem 3.3).
 */
export function optimalDelta(part: Guarantee, count: number, epsilon: number): number {
  const { epsilon: own, delta } = part;
  let log = Number.NEGATIVE_INFINITY;
  const normal = count * Math.log1p(Math.exp(-own));
  for (let i = 0; (count - 2 * i) * own > epsilon; i++) {
    const loss = (count - 2 * i) * own;
    // i of the answers were flipped.
    log = logAdd(log, logBinomial(count, i) - i * own - normal + Math.log(-Math.expm1(epsilon - loss)));
  }
  return Math.min(
    1,
    (-Math.expm1(count * Math.log1p(-delta)) + Math.exp(log + count * Math.log1p(-delta))) * (1 + 1e-11),
  );
}

/** Returns the least epsilon at which {@link optimalDelta} is at most `delta`; `Infinity` when the parts' own deltas exceed it. */
export function optimalEpsilon(part: Guarantee, count: number, delta: number): number {
  if (optimalDelta(part, count, count * part.epsilon) > delta) return Number.POSITIVE_INFINITY;
  let [bad, good] = [0, count * part.epsilon];
  if (optimalDelta(part, count, 0) <= delta) return 0;
  while (good - bad > 1e-13 * good) {
    const middle = (bad + good) / 2;
    if (middle <= bad || middle >= good) break;
    if (optimalDelta(part, count, middle) <= delta) good = middle;
    else bad = middle;
  }
  return good;
}
