// The postconditions of pate.proof.md and pate-test.proof.md in privacy/dp/learning.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { gnmaxDivergence } from '../../../privacy/dp/accounting/index.ts';
import { confidentGnMax, gnMax, holdPrivate, pureLoss, testVotes, zcdpLoss } from '../../../privacy/dp/index.ts';
import { changesUntil, totalEpsilon, voteCosts } from '../../../privacy/dp/learning/pate-test.ts';
import { countVotes } from '../../../privacy/dp/learning/votes.ts';
import { spendOf } from '../../../src/base/index.ts';
import { seededRandom } from '../noise/bits.ts';

const labels = (...counts: number[]): number[] => counts.flatMap((n, label) => Array<number>(n).fill(label));
const held = <T>(value: T) => holdPrivate(value, 'replace-one');
const BAD = [Number.NaN, Number.POSITIVE_INFINITY, 0, -0, -1, 0.5, 5e-324, 2 ** 53, 1n, '2', null];

describe('GNMax', () => {
  it('answers with the probabilities of noise on each count', () => {
    const vote = gnMax({ teachers: 20, classes: 3, sigma: 3, random: seededRandom(1) });
    const counts = [9, 7, 4];
    const weight = (z: number): number => Math.exp((-z * z) / 18);
    const total = Array.from({ length: 81 }, (_, i) => weight(i - 40)).reduce((a, b) => a + b);
    const below = (most: number): number => {
      let sum = 0;
      for (let z = -40; z <= Math.min(most, 40); z++) sum += weight(z) / total;
      return sum;
    };
    const n = 20_000;
    const seen = [0, 0, 0];
    for (let i = 0; i < n; i++) seen[vote.release(held(labels(...counts))).value]!++;
    for (const [j, count] of counts.entries()) {
      let share = 0;
      for (let z = -40; z <= 40; z++)
        share += counts.reduce(
          (product, other, k) => (k === j ? product : product * below(count + z - other - (k < j ? 1 : 0))),
          weight(z) / total,
        );
      // Binomial, six standard deviations: false alarm 2e-9.
      expect(Math.abs(seen[j]! / n - share)).toBeLessThan(6 * Math.sqrt((share * (1 - share)) / n));
    }
  });

  it('moves two counts by one at most, whatever a teacher votes', () => {
    const label = fc.oneof(fc.integer({ min: -2, max: 6 }), fc.constantFrom(Number.NaN, 0.5, 1e9));
    fc.assert(
      fc.property(fc.array(label, { minLength: 1, maxLength: 30 }), fc.nat(29), label, (votes, at, other) => {
        const changed = votes.with(at % votes.length, other);
        const [a, b] = [votes, changed].map(one => countVotes(one, votes.length, 5)) as [number[], number[]];
        expect(a.reduce((sum, n) => sum + n)).toBe(votes.length);
        expect(a.reduce((sum, n, i) => sum + (n - b[i]!) ** 2, 0)).toBeLessThanOrEqual(2);
      }),
    );
  });

  it('says what it costs', () => {
    expect(zcdpLoss(gnMax({ teachers: 10, classes: 2, sigma: 40 }).event)! * 1600).toBeCloseTo(1, 9);
  });

  it('never fails because of votes, and refuses parameters that are none', () => {
    const good = { teachers: 5, classes: 3, sigma: 2 };
    for (const votes of [[], [Number.NaN, 7, -1, '1', null], Array(100).fill(2)])
      expect(gnMax(good).release(held(votes as number[])).value).toBeLessThan(3);
    for (const value of BAD)
      for (const option of Object.keys(good))
        expect(() => gnMax({ ...good, [option]: value })).toThrow(
          expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
        );
  });
});

describe('Confident-GNMax', () => {
  const options = { teachers: 200, classes: 4, threshold: 120, thresholdSigma: 5, sigma: 2 };

  it('answers only above the threshold', () => {
    expect(confidentGnMax(options).release(held(labels(180, 10, 5, 5))).value).toEqual({ answered: true, label: 0 });
    expect(confidentGnMax(options).release(held(labels(60, 55, 45, 40))).value).toEqual({ answered: false });
  });

  it('charges both steps beforehand, and the comparison alone where there is no answer', () => {
    const vote = confidentGnMax(options);
    expect(zcdpLoss(vote.event)).toBeCloseTo(1 / 50 + 1 / 4, 9);
    const { event } = vote.release(held(labels(60, 55, 45, 40)));
    expect(zcdpLoss(event)).toBeCloseTo(1 / 50, 9);
    expect(vote.release(held(labels(200))).event).toEqual(vote.event);
  });

  it('refuses parameters that are none', () => {
    for (const value of BAD.filter(one => one !== 0 && one !== -1 && !Object.is(one, -0)))
      for (const option of Object.keys(options))
        expect(() => confidentGnMax({ ...options, [option]: value })).toThrow(
          expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
        );
  });
});

describe('the test of what votes cost', () => {
  const costs = voteCosts(6, 3);
  const votes = fc.array(fc.array(fc.nat(2), { minLength: 60, maxLength: 60 }), { minLength: 1, maxLength: 4 });

  it('is moved by one at most when one teacher changes every vote', () => {
    // Votes that mostly agree, so that distances are worth something.
    const agreed = fc.array(fc.tuple(fc.nat(2), fc.array(fc.nat(59), { maxLength: 12 })), {
      minLength: 1,
      maxLength: 4,
    });
    const teacher = fc.tuple(fc.nat(59), fc.array(fc.nat(2), { minLength: 4, maxLength: 4 }));
    fc.assert(
      fc.property(agreed, teacher, fc.double({ min: 0.01, max: 3, noNaN: true }), (queries, [who, to], proposed) => {
        const before = queries.map(([label, dissent]) =>
          Array.from({ length: 60 }, (_, i) => (dissent.includes(i) ? (label + 1) % 3 : label)),
        );
        const after = before.map((query, i) => query.with(who, to[i]!));
        const [d, e] = [before, after].map(all => {
          const counts = all.map(query => countVotes(query, 60, 3));
          return changesUntil(changed => totalEpsilon(counts, changed, costs, 1e-6), proposed, 60);
        }) as [number, number];
        expect(Math.abs(d - e)).toBeLessThanOrEqual(1);
      }),
      { numRuns: 300 },
    );
  });

  it('never finds a cost that falls as more teachers change their minds, nor one above that of the parameters', () => {
    fc.assert(
      fc.property(votes, queries => {
        const counts = queries.map(query => countVotes(query, 60, 3));
        const curve = Array.from({ length: 31 }, (_, t) => totalEpsilon(counts, t, costs, 1e-6));
        for (let t = 1; t < curve.length; t++) expect(curve[t]!).toBeGreaterThanOrEqual(curve[t - 1]!);
        const worst = totalEpsilon(
          counts.map(() => [0, 0, 0]),
          0,
          costs,
          1e-6,
        );
        expect(curve[30]).toBeLessThanOrEqual(worst);
      }),
      { numRuns: 100 },
    );
  });

  it('bounds the chance of another label closely: no lower than the divergence for normal noise, and not far above', () => {
    for (const counts of [
      [180, 12, 8],
      [150, 30, 20],
      [195, 5, 0],
    ]) {
      const ours = totalEpsilon([counts], 0, voteCosts(20, 3), 1e-6);
      const orders = [1.5, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 50, 64, 80, 100, 128, 200, 300, 500];
      const theirs = gnmaxDivergence(counts, 20, orders);
      const epsilon = Math.min(
        ...orders.map(
          (order, i) => theirs[i]! + Math.log1p(-1 / order) - (Math.log(1e-6) + Math.log(order)) / (order - 1),
        ),
      );
      expect(ours).toBeGreaterThanOrEqual(Math.max(0, epsilon) * (1 - 1e-6));
      expect(ours).toBeLessThan(Math.max(0, epsilon) * 1.2 + 1e-3);
    }
  });

  const agreed = Array<number[]>(100).fill(labels(1000, 0, 0));
  const options = {
    ...{ teachers: 1000, classes: 3, sigma: 100, queries: 100, delta: 1e-6, epsilon: 0.1 },
    ...{ cost: spendOf(0.5), failure: 1e-7 },
  };

  it('passes only where the proposal is true', () => {
    const verdict = (all: number[][], more = {}): boolean =>
      testVotes({ ...options, ...more }).release(held(all)).value.passed;
    expect(verdict(agreed)).toBe(true);
    for (let i = 0; i < 50; i++) expect(verdict(Array(100).fill(labels(400, 350, 250)))).toBe(false);
    expect(verdict(agreed, { epsilon: 1e-6 })).toBe(false);
    expect(verdict([])).toBe(true); // what is missing counts for label 0, as in the vote itself
  });

  it('costs what it was told, and refuses parameters that are none', () => {
    expect(pureLoss(testVotes(options).event)).toBe(500_000);
    for (const value of BAD.filter(one => one !== 0.5))
      for (const option of Object.keys(options))
        expect(() => testVotes({ ...options, [option]: value }), `${option}: ${String(value)}`).toThrow(
          expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
        );
  });
});
