/**
 * Unary encodings: one bit for each category, each randomised.
 * @module
 */
import { CloisterError, MICRO_PER_EPSILON, toEpsilon } from '../../../src/base/index.ts';
import { bernoulliExpOf } from '../noise/bernoulli.ts';
import type { Bits } from '../noise/bits.ts';
import {
  checkLocal,
  type LocalMechanism,
  type LocalOptions,
  localMechanism,
  type Odds,
  oddsOf,
} from './local-mechanism.ts';

/** What {@link unaryEncoding} is told. */
export interface UnaryEncodingOptions extends LocalOptions {
  /**
   * `optimised`: a set bit stays set with probability 1/2, an unset one becomes set with probability `1 / (exp(e) + 1)`: the
   * least variance. `symmetric`: every bit is flipped with probability `1 / (exp(e / 2) + 1)`: the permanent response of
   * RAPPOR.
   */
  readonly scheme: 'optimised' | 'symmetric';
}

/**
 * Returns the mechanism that writes a category as one set bit among `categories` and randomises each bit, with probabilities
 * that are exactly those of the scheme at `e = cost / 10^6` (`local.proof.md`). A report is a list of 0 and 1.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range.
 * @see Wang, Blocki, Li & Jha 2017, https://arxiv.org/abs/1705.04421; Erlingsson, Pihur & Korolova 2014,
 *   https://arxiv.org/abs/1407.6981
 * @example
 * ```ts
 * const poll = unaryEncoding({ categories: 3, cost: spendOf(1), scheme: 'optimised' });
 * poll.event; // { kind: 'pure', epsilon: 1, neighboring: 'replace-one' }
 * poll.estimate([[1, 0, 0], [0, 0, 0], [1, 1, 0]]).reports; // 3
 * ```
 */
export function unaryEncoding(options: UnaryEncodingOptions): LocalMechanism<readonly number[]> {
  checkLocal(options);
  const { categories, cost, scheme } = options;
  const optimised = checkScheme(scheme) === 'optimised';
  const odds = oddsOf(cost, optimised ? MICRO_PER_EPSILON : 2n * MICRO_PER_EPSILON);
  const other = 1 / (Math.exp(toEpsilon(cost) / (optimised ? 1 : 2)) + 1);
  return localMechanism<readonly number[]>(options, {
    name: `the ${scheme} unary encoding`,
    draw: (category, bits) => Object.freeze(drawUnary(category, categories, odds, scheme, bits)),
    support(reports) {
      const counts = new Float64Array(categories);
      let total = 0;
      for (const report of reports) {
        if (!Array.isArray(report) || report.length !== categories) return undefined;
        for (let i = 0; i < categories; i++) {
          if (report[i] !== 0 && report[i] !== 1) return undefined;
          counts[i]! += report[i]!;
        }
        total++;
      }
      return { counts, reports: total };
    },
    own: optimised ? 0.5 : 1 - other,
    other,
  });
}

export function drawUnary(
  category: number,
  categories: number,
  odds: Odds,
  scheme: 'optimised' | 'symmetric',
  bits: Bits,
): number[] {
  return Array.from({ length: categories }, (_, i) => {
    if (i !== category) return Number(flips(odds, bits));
    return scheme === 'optimised' ? bits.take(1) : 1 - Number(flips(odds, bits));
  });
}

/** True with probability `1 / (exp(n/d) + 1)`: weight exp(-n/d) against weight 1. */
function flips({ n, d }: Odds, bits: Bits): boolean {
  for (;;) {
    if (bits.take(1) === 0) return false;
    if (bernoulliExpOf(n, d, bits)) return true;
  }
}

function checkScheme(scheme: unknown): UnaryEncodingOptions['scheme'] {
  if (scheme === 'optimised' || scheme === 'symmetric') return scheme;
  const came = typeof scheme === 'string' ? scheme.slice(0, 50) : typeof scheme;
  throw new CloisterError('DP_INVALID_PARAMETER', `scheme is 'optimised' or 'symmetric', got ${came}`);
}
