// The postcondition of privacy/dp/statistics/quantile.proof.md.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { type Prediction, quantile } from '../../../privacy/dp/index.ts';
import { Private, takePrivate } from '../../../privacy/dp/private.ts';
import { scoresOf } from '../../../privacy/dp/statistics/quantile.ts';
import { spendOf } from '../../../src/base/index.ts';
import { seededRandom } from '../noise/bits.ts';

const shares = fc
  .integer({ min: 1, max: 20 })
  .chain(denominator => fc.integer({ min: 0, max: denominator }).map(numerator => ({ numerator, denominator })));

describe('quantiles', () => {
  it('has scores that one subject moves by at most their sensitivity', () => {
    const points = 9;
    const values = fc.array(fc.integer({ min: 0, max: points - 1 }), { maxLength: 30 });
    const countsOf = (data: readonly number[]): number[] =>
      Array.from({ length: points }, (_, i) => data.filter(value => value === i).length);
    fc.assert(
      fc.property(
        values,
        fc.array(fc.integer({ min: 0, max: points - 1 }), { maxLength: 3 }),
        shares,
        (data, own, share) => {
          const { numerator, denominator } = share;
          const of = (set: readonly number[]): number[] => scoresOf(countsOf(set), points, numerator, denominator);
          const [before, after] = [of(data), of([...data, ...own])];
          const limit = own.length * Math.max(numerator, denominator - numerator);
          for (let i = 0; i < points; i++) expect(Math.abs(before[i]! - after[i]!)).toBeLessThanOrEqual(limit);
          // Where the share is met exactly, the score is 0; it is never positive.
          expect(Math.max(...before)).toBeLessThanOrEqual(0);
          const slow = before.map((_, v) => {
            const below = data.filter(value => value < v).length;
            const above = data.filter(value => value > v).length;
            return -Math.abs((denominator - numerator) * below - numerator * above) + 0;
          });
          expect(before).toEqual(slow);
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('picks with the odds of the exponential mechanism', () => {
    const clip = { low: 0, high: 3 };
    const options = { of: 'element', length: 1, clip, exponent: 0, share: { numerator: 1, denominator: 2 } } as const;
    const median = quantile(options);
    const pick = median.mechanism({ cost: spendOf(1), random: seededRandom(5) });
    expect(pick.event).toEqual({ kind: 'bounded-range', epsilon: 1, neighboring: 'add-remove' });
    const counts = [2, 0, 3, 1]; // scores -4, -2, -1, -5 at sensitivity 1
    const scores = [-4, -2, -1, -5];
    expect(scoresOf(counts, 4, 1, 2)).toEqual(scores);
    const weights = scores.map(score => Math.exp(score / 2));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const n = 8000;
    const seen = [0, 0, 0, 0];
    for (let i = 0; i < n; i++) seen[pick.release(new Private<readonly number[]>(counts)).value]!++;
    for (let i = 0; i < 4; i++) {
      const p = weights[i]! / total;
      // Null: binomial with this p; six standard deviations, a false alarm of 2e-9 for each.
      expect(Math.abs(seen[i]! - n * p)).toBeLessThan(6 * Math.sqrt(n * p * (1 - p)));
    }
  });

  it('finds them, on the grid, for each share', () => {
    for (const [numerator, denominator, expected] of [
      [1, 2, 50],
      [1, 10, 10],
      [99, 100, 99],
      [0, 1, 0],
      [1, 1, 100],
    ] as const) {
      const clip = { low: -8, high: 108 };
      const options = {
        of: 'element',
        length: 2,
        index: 1,
        clip,
        exponent: -3,
        share: { numerator, denominator },
      } as const;
      const statistic = quantile(options);
      const tally = statistic.start();
      for (let i = 0; i <= 2000; i++) statistic.accumulate(tally, String(i), [0, i / 20]);
      const { value } = statistic
        .mechanism({ cost: spendOf(4), random: seededRandom(2) })
        .release(statistic.finish(tally));
      expect(Number.isInteger(value * 8)).toBe(true);
      expect(Math.abs(value - expected)).toBeLessThan(9);
    }
  });

  it('take what a dataset may hold without a word', () => {
    const clip = { low: 0, high: 4 };
    const statistic = quantile({
      of: 'element',
      length: 1,
      clip,
      exponent: 0,
      share: { numerator: 1, denominator: 2 },
    });
    const tally = statistic.start();
    const odd = [[Number.NaN], [Infinity], [-Infinity], ['3'], [], undefined, null, [1, 2], [2n ** 80n]];
    odd.forEach((prediction, i) => {
      statistic.accumulate(tally, String(i), prediction as Prediction);
    });
    expect(takePrivate(statistic.finish(tally))).toEqual([1, 0, 2, 0, 2]);
    const empty = statistic.mechanism({ cost: spendOf(1) }).release(statistic.finish(statistic.start()));
    expect([0, 1, 2, 3, 4]).toContain(empty.value);
    const most = Number.MAX_SAFE_INTEGER;
    expect(scoresOf([most, Number.NaN, most, -1, 0.5], 5, 1, 2).every(Number.isSafeInteger)).toBe(true);
  });

  it('refuse options that are missing, unknown or out of range', () => {
    const good = {
      of: 'element',
      length: 1,
      clip: { low: 0, high: 4 },
      exponent: 0,
      share: { numerator: 1, denominator: 2 },
    };
    for (const share of [
      undefined,
      null,
      0.5,
      {},
      { numerator: 3, denominator: 2 },
      { numerator: -1, denominator: 2 },
      { numerator: 1, denominator: 1001 },
      { numerator: 0.5, denominator: 1 },
    ]) {
      expect(() => quantile({ ...good, share } as never)).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      );
    }
    expect(() => quantile({ ...good, clip: { low: 0, high: 65_536 } } as never)).toThrow(/65,536 points/);
    expect(() => quantile(good as never).mechanism({ cost: 0 as never })).toThrow(
      expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
    );
  });
});
