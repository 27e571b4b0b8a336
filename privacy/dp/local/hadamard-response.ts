/**
 * Hadamard response: a short report for many categories.
 * @module
 */
import { MICRO_PER_EPSILON, toEpsilon } from '../../../src/base/index.ts';
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

/**
 * Returns Hadamard response: category v stands for the columns in which row `v + 1` of the Hadamard matrix of size K is
 * positive, K being the least power of two above the number of categories; the report is a column, each of these with a
 * probability exactly `exp(e)` times that of each other column, `e = cost / 10^6` (`local.proof.md`). A report is an integer
 * below K.
 *
 * About as accurate as the optimised unary encoding for small `e`, in `log2 K` bits; estimates take `n + K log K` steps.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range.
 * @see Acharya, Sun & Zhang 2019, https://arxiv.org/abs/1802.04705
 * @example
 * ```ts
 * const poll = hadamardResponse({ categories: 1000, cost: spendOf(1) });
 * const report = poll.release(holdPrivate(7, 'replace-one')).value;
 * report < 1024; // true
 * ```
 */
export function hadamardResponse(options: LocalOptions): LocalMechanism<number> {
  checkLocal(options);
  const { categories, cost } = options;
  const order = 32 - Math.clz32(categories); // K = 2^order > categories
  const odds = oddsOf(cost, MICRO_PER_EPSILON);
  const weight = Math.exp(-toEpsilon(cost));
  return localMechanism(options, {
    name: 'Hadamard response',
    draw: (category, bits) => drawColumn(category, order, odds, bits),
    support(reports) {
      const columns = new Float64Array(2 ** order);
      let total = 0;
      for (const report of reports) {
        if (!Number.isInteger(report) || report < 0 || report >= columns.length) return undefined;
        columns[report]!++;
        total++;
      }
      // Entry r of the transform is the reports in positive columns of row r minus those in negative ones.
      walshHadamard(columns);
      return { counts: columns.subarray(1, categories + 1).map(sum => (total + sum) / 2), reports: total };
    },
    own: 1 / (1 + weight),
    other: 0.5, // rows are orthogonal: half of the columns of one are positive in another, among both kinds
  });
}

/** A column with weight 1 where row `category + 1` is positive, and the odds elsewhere. */
export function drawColumn(category: number, order: number, odds: Odds, bits: Bits): number {
  for (;;) {
    const column = bits.take(order);
    if (isPositive(category + 1, column) || bernoulliExpOf(odds.n, odds.d, bits)) return column;
  }
}

/** Whether the entry of Sylvester's Hadamard matrix is +1: whether row and column share an even number of set bits. */
function isPositive(row: number, column: number): boolean {
  let shared = row & column;
  let even = true;
  for (; shared !== 0; shared &= shared - 1) even = !even;
  return even;
}

/**
 * The product with Sylvester's Hadamard matrix, in place; exact for integers whose absolute values add up to less than 2^53.
 */
function walshHadamard(values: Float64Array): void {
  for (let half = 1; half < values.length; half *= 2) {
    for (let start = 0; start < values.length; start += 2 * half) {
      for (let i = start; i < start + half; i++) {
        const [a, b] = [values[i]!, values[i + half]!];
        values[i] = a + b;
        values[i + half] = a - b;
      }
    }
  }
}
