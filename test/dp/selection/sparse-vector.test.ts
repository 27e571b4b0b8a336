// The postcondition of privacy/dp/selection/sparse-vector.proof.md.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { auditByExperiment, lInfSensitivity, pureLoss, sparseVector } from '../../../privacy/dp/index.ts';
import { Private } from '../../../privacy/dp/private.ts';
import { splitCost } from '../../../privacy/dp/selection/sparse-vector.ts';
import { type MicroEpsilon, spendOf } from '../../../src/base/index.ts';
import { seededRandom } from '../noise/bits.ts';

const one = lInfSensitivity(1);
const ask = (answers: readonly unknown[], options = {}): { above: boolean; value?: number }[] => {
  const vector = sparseVector({ sensitivity: one, positives: 2, cost: spendOf(1), ...options });
  const given = [];
  for (const answer of answers) {
    if (vector.remaining === 0) break;
    given.push(vector.ask(new Private(answer as number), 0).value);
  }
  return given;
};

/** P[above/below as in `pattern`] for discrete Laplace noise on threshold 0 and on each answer, summed over the threshold's. */
function chance(answers: readonly number[], pattern: readonly boolean[], threshold: number, answer: number): number {
  const [p, q] = [Math.exp(-1 / threshold), Math.exp(-1 / answer)];
  const reaches = (gap: number): number => (gap > 0 ? q ** gap / (1 + q) : 1 - q ** (1 - gap) / (1 + q)); // P[Y >= gap]
  let sum = 0;
  for (let z = -300; z <= 300; z++) {
    const mass = ((1 - p) / (1 + p)) * p ** Math.abs(z);
    sum += answers.reduce((product, truth, i) => {
      const yes = reaches(z - truth);
      return product * (pattern[i] ? yes : 1 - yes);
    }, mass);
  }
  return sum;
}

describe('sparse vector', () => {
  it('has a loss of at most its cost between any neighbours and any answers, computed from its scales', () => {
    const questions = fc.integer({ min: 1, max: 5 }).chain(n =>
      fc.record({
        answers: fc.array(fc.integer({ min: -4, max: 4 }), { minLength: n, maxLength: n }),
        moves: fc.array(fc.integer({ min: -1, max: 1 }), { minLength: n, maxLength: n }),
        pattern: fc.array(fc.boolean(), { minLength: n, maxLength: n }),
        monotonic: fc.boolean(),
        cost: fc.integer({ min: 300_000, max: 2_000_000 }),
      }),
    );
    fc.assert(
      fc.property(questions, ({ answers, moves, pattern, monotonic, cost }) => {
        const positives = pattern.filter(Boolean).length;
        if (positives === 0) return;
        const { thresholdCost, answerCost } = splitCost(cost, positives, monotonic);
        const threshold = 1e6 / thresholdCost;
        const answer = ((monotonic ? 1e6 : 2e6) * positives) / answerCost;
        const neighbour = answers.map((truth, i) => truth + (monotonic ? Math.abs(moves[i]!) : moves[i]!));
        const loss = Math.log(
          chance(answers, pattern, threshold, answer) / chance(neighbour, pattern, threshold, answer),
        );
        expect(Math.abs(loss)).toBeLessThanOrEqual(cost / 1e6 + 1e-6);
      }),
      { numRuns: 150 },
    );
  });

  it('answers with the probabilities of those scales', () => {
    const answers = [-2, 1, 0];
    const counts = new Map<string, number>();
    const n = 30_000;
    const random = seededRandom(7);
    for (let i = 0; i < n; i++) {
      const pattern = ask(answers, { positives: 3, random })
        .map(({ above }) => Number(above))
        .join('');
      counts.set(pattern, (counts.get(pattern) ?? 0) + 1);
    }
    const { thresholdCost, answerCost } = splitCost(1_000_000, 3, false);
    for (const [text, seen] of counts) {
      const share = chance(
        answers,
        [...text].map(digit => digit === '1'),
        1e6 / thresholdCost,
        6e6 / answerCost,
      );
      // Binomial, six standard deviations: false alarm 2e-9 each.
      expect(Math.abs(seen / n - share)).toBeLessThan(6 * Math.sqrt((share * (1 - share)) / n));
    }
  });

  it('is not refuted on the questions that refute its wrong variants', () => {
    for (const inputs of [
      [Array(6).fill(0), Array(6).fill(1)],
      [
        [1, 1, 0, 0],
        [0, 0, 1, 1],
      ],
    ] as const) {
      const run = (answers: readonly number[]) => ask(answers, { positives: 1 }).map(({ above }) => above);
      expect(auditByExperiment({ run, inputs, epsilon: 1, samples: 20_000 }).verdict).toBe('not refuted');
    }
  });

  it('ends after the positives, before it reads another value', () => {
    const vector = sparseVector({ sensitivity: one, positives: 2, cost: spendOf(1000) });
    const given = Array.from({ length: 5 }, (_, i) => {
      expect(vector.remaining).toBe(2 - (i > 3 ? 1 : 0));
      return vector.ask(new Private(i === 3 ? 1_000_000 : -1_000_000), 0).value.above;
    });
    expect(given).toEqual([false, false, false, true, false]);
    expect(vector.ask(new Private(5_000_000), 0).value).toEqual({ above: true });
    const unread = new Private(7);
    expect(() => vector.ask(unread, 0)).toThrow(expect.objectContaining({ code: 'POLICY_REFUSED' }));
    const other = sparseVector({ sensitivity: one, positives: 1, cost: spendOf(1) });
    other.ask(unread, 0); // it was not taken out
    expect(() => other.ask(unread, 1)).toThrow();
  });

  it('gives numbers with noise of their own, and only where they were paid for', () => {
    const paid = { positives: 200, cost: spendOf(1000), numericCost: spendOf(0.5) };
    const numbers = ask(Array(200).fill(1_000_000), paid);
    expect(numbers.every(({ above, value }) => above && Number.isSafeInteger(value))).toBe(true);
    expect(new Set(numbers.map(({ value }) => value)).size).toBeGreaterThan(5);
    expect(ask([1_000_000], { cost: spendOf(1000) })).toEqual([{ above: true }]);
  });

  it('is charged at once, for the comparisons and for as many numbers as may come', () => {
    const options = { sensitivity: one, positives: 3, cost: spendOf(0.25) };
    expect(sparseVector(options).event).toEqual({ kind: 'pure', epsilon: 0.25, neighboring: 'add-remove' });
    expect(pureLoss(sparseVector({ ...options, numericCost: spendOf(0.1) }).event)).toBe(550_000);
  });

  it('splits a cost without losing any', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 2 ** 50 }),
        fc.integer({ min: 1, max: 2 ** 20 }),
        fc.boolean(),
        (cost, positives, monotonic) => {
          const { thresholdCost, answerCost } = splitCost(cost, positives, monotonic);
          expect(thresholdCost + answerCost).toBe(cost);
          expect(Math.min(thresholdCost, answerCost)).toBeGreaterThanOrEqual(1);
        },
      ),
    );
  });

  it('never fails because of a private value', () => {
    for (const value of [Number.NaN, Number.NEGATIVE_INFINITY, 0.5, '1', null, undefined, 5n, 2 ** 60])
      expect(typeof ask([value])[0]!.above).toBe('boolean');
  });

  it('refuses parameters that are none', () => {
    const good = { sensitivity: one, positives: 1, cost: spendOf(1) };
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 0, -0, -1, 0.5, 5e-324, 2 ** 53, 1n, '1', null])
      for (const option of ['sensitivity', 'positives', 'cost', 'numericCost'])
        expect(() => sparseVector({ ...good, [option]: value })).toThrow(
          expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
        );
    expect(() => sparseVector({ ...good, cost: 1 as MicroEpsilon })).toThrow(/at least two/);
    for (const threshold of [Number.NaN, 0.5, 2 ** 53, '0' as unknown as number])
      expect(() => sparseVector(good).ask(new Private(1), threshold)).toThrow(/safe integer/);
  });
});
