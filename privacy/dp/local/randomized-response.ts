/**
 * k-ary randomised response: the truth, or any other category.
 * @module
 */
import { MICRO_PER_EPSILON, toEpsilon } from '../../../src/base/index.ts';
import { bernoulliExpOf, uniform } from '../noise/bernoulli.ts';
import type { Bits } from '../noise/bits.ts';
import {
  checkLocal,
  type LocalMechanism,
  type LocalOptions,
  localMechanism,
  type Odds,
  oddsOf,
} from './local-mechanism.ts';

/**
 * Returns k-ary randomised response: reports the true category with probability exactly `exp(e) / (exp(e) + k - 1)`, and each
 * other one with probability `1 / (exp(e) + k - 1)`, where `e = cost / 10^6` (`local.proof.md`). A report is a category.
 *
 * The best of the local mechanisms here while `k < 3 exp(e) + 2`; beyond, take {@link hadamardResponse} or {@link
 * unaryEncoding}. Its event states the share of uniform answers as a float rounded against the spender, so its loss may be
 * counted one micro-epsilon above the cost.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range.
 * @see Kairouz, Oh & Viswanath 2016, https://arxiv.org/abs/1407.1338
 * @example
 * ```ts
 * const poll = randomizedResponse({ categories: 4, cost: spendOf(1) });
 * const { counts } = poll.estimate([0, 0, 0, 1, 0, 2, 0, 0, 3, 0]);
 * counts.map(count => count.toFixed(1)); // ['17.5', '-2.5', '-2.5', '-2.5']
 * ```
 */
export function randomizedResponse(options: LocalOptions): LocalMechanism<number> {
  checkLocal(options);
  const { categories, cost } = options;
  const odds = oddsOf(cost, MICRO_PER_EPSILON);
  const weight = Math.exp(toEpsilon(cost)); // for the event and the estimate alone
  const other = 1 / (weight + categories - 1);
  return localMechanism(options, {
    name: 'randomised response',
    event: Object.freeze({
      kind: 'randomized-response',
      categories,
      p: Math.max(Number.MIN_VALUE, categories * other * (1 - 2 ** -48)),
      neighboring: 'replace-one',
    }),
    draw: (category, bits) => drawResponse(category, categories, odds, bits),
    support(reports) {
      const counts = new Float64Array(categories);
      let total = 0;
      for (const report of reports) {
        if (!Number.isInteger(report) || report < 0 || report >= categories) return undefined;
        counts[report]!++;
        total++;
      }
      return { counts, reports: total };
    },
    own: 1 - (categories - 1) * other,
    other,
  });
}

/** The category moved by 0 with weight 1, by each other step with the odds. */
export function drawResponse(category: number, categories: number, odds: Odds, bits: Bits): number {
  for (;;) {
    const step = uniform(categories, bits);
    if (step === 0 || bernoulliExpOf(odds.n, odds.d, bits)) return (category + step) % categories;
  }
}
