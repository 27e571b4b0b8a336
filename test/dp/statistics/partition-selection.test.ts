// The postconditions of privacy/dp/statistics/partition-selection.proof.md.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  delta,
  epsilon,
  optimalSelection,
  partitionCount,
  rho,
  type ThresholdSelectionOptions,
  thresholdSelection,
} from '../../../privacy/dp/index.ts';
import { rational } from '../../../privacy/dp/noise/rational.ts';
import { Private, takePrivate } from '../../../privacy/dp/private.ts';
import { gaussianExceeds, keepTable, laplaceExceeds } from '../../../privacy/dp/statistics/partition-selection.ts';
import { microEpsilon, spendOf } from '../../../src/base/index.ts';
import { seededRandom } from '../noise/bits.ts';
import { gaussianLaw } from '../noise/fit.ts';

const corpus = process.env['CLOISTER_CORPUS'];
const refused = expect.objectContaining({ code: 'DP_INVALID_PARAMETER' });
const holding = (counts: Record<string, number>): Private<ReadonlyMap<string, number>> =>
  new Private<ReadonlyMap<string, number>>(new Map(Object.entries(counts)));

describe('optimal partition selection', () => {
  it('keeps every pair of neighbouring counts within (epsilon, delta), in rational arithmetic', () => {
    // The oracle encloses e^eps by its series in 400 digits; epsilon is a fraction of 64ths, so it is exact.
    const places = 1400n;
    const one = 1n << places;
    const exp64 = (n: bigint, d: bigint): bigint => {
      let term = one;
      let sum = one;
      for (let k = 1n; term > 0n; k++) {
        term = (term * n) / (64n * d * k);
        sum += term;
      }
      return sum; // below the truth, by less than 2^-1390
    };
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 640 }),
        fc.integer({ min: 1, max: 300 }),
        fc.integer({ min: 1, max: 4 }),
        (rate, power, partitions) => {
          const { chances, places: own } = keepTable(rate / 64, 2 ** -power, partitions);
          const shift = places - BigInt(own);
          const grow = exp64(BigInt(rate), BigInt(partitions)) + (1n << 40n);
          const d = (one >> BigInt(power)) / BigInt(partitions);
          expect(chances[0]).toBe(0n);
          expect(chances.at(-1)).toBe(1n << BigInt(own));
          const slack = 1n << 100n; // of the oracle: 2^-1300
          for (let n = 0; n + 1 < chances.length; n++) {
            const [p, q] = [chances[n]! << shift, chances[n + 1]! << shift];
            expect(q >= p).toBe(true);
            expect(q <= ((p * grow) >> places) + d + slack).toBe(true);
            expect(one - p <= (((one - q) * grow) >> places) + d + slack).toBe(true);
            // And optimal: more than this, by a part in 2^50, would break one of the two, or be over 1.
            const more = q + (q >> 50n);
            const stays = more <= one && more <= ((p * grow) >> places) + d;
            expect(stays && one - p <= (((one - more) * grow) >> places) + d).toBe(false);
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  it('shares epsilon and delta among partitions', () => {
    const shared = optimalSelection({ partitions: 4, epsilon: epsilon(2), delta: delta(0.4) });
    const single = optimalSelection({ partitions: 1, epsilon: epsilon(0.5), delta: delta(0.1) });
    for (const count of [0, 1, 2, 5, 9]) {
      expect(shared.keepProbability(count)).toBeCloseTo(single.keepProbability(count), 12);
    }
    expect(shared.event).toEqual({ kind: 'approx', epsilon: 2, delta: 0.4, neighboring: 'add-remove' });
  });

  it('names keys as often as it says, in the order of their code units', () => {
    const select = optimalSelection({
      ...{ partitions: 1, epsilon: epsilon(0.5), delta: delta(0.01), random: seededRandom(7) },
    });
    const counts = { z: 1, b: 4, a: 7, '': 9, never: 0, sure: 1000 };
    const n = 4000;
    const seen = new Map<string, number>();
    for (let i = 0; i < n; i++) {
      const { value } = select.release(holding(counts));
      expect([...value].sort()).toEqual(value);
      for (const key of value) seen.set(key, (seen.get(key) ?? 0) + 1);
    }
    for (const [key, count] of Object.entries(counts)) {
      const p = select.keepProbability(count);
      // Null: binomial with this p; six standard deviations, a false alarm of 2e-9 for each.
      expect(Math.abs((seen.get(key) ?? 0) - n * p)).toBeLessThanOrEqual(6 * Math.sqrt(n * p * (1 - p)));
    }
    expect(select.keepProbability(1000)).toBe(1);
    expect(select.keepProbability(0)).toBe(0);
  });

  it.skipIf(!corpus)("agrees with values of Google's Go library", () => {
    const rows = (
      JSON.parse(readFileSync(join(corpus!, 'dp', 'reference-values.json'), 'utf8')) as {
        mechanism: string;
        params: { l0: number; epsilon: number; user_count: number };
        delta: number;
        expected: number;
        tolerance: number;
      }[]
    ).filter(row => row.mechanism.startsWith('optimal_partition_selection'));
    expect(rows).toHaveLength(3);
    for (const { params, delta: d, expected, tolerance } of rows) {
      const select = optimalSelection({ partitions: params.l0, epsilon: epsilon(params.epsilon), delta: delta(d) });
      expect(Math.abs(select.keepProbability(params.user_count) / expected - 1)).toBeLessThan(tolerance);
    }
  });
});

describe('thresholds', () => {
  /** P[Y >= m] of discrete Laplace noise of scale 2, in floats. */
  const tail = (m: number): number => Math.exp(-m / 2) / (1 + Math.exp(-1 / 2));

  it('has a threshold whose delta is that of >=, and one step less would not do', () => {
    // What OpenDP reported for scale 2 and threshold 28 belongs to >, and is 1.65 times too small for >=.
    const [strict, needed] = [tail(28), tail(27)];
    expect(strict).toBeCloseTo(5.175928103895444e-7, 15);
    expect(needed).toBeCloseTo(8.534e-7, 10);
    const thresholdAt = (d: number): number =>
      thresholdSelection({ noise: 'laplace', partitions: 1, cost: spendOf(0.5), delta: delta(d) }).threshold;
    expect(thresholdAt(needed * (1 + 1e-9))).toBe(28);
    expect(thresholdAt(needed * (1 - 1e-9))).toBe(29);
    expect(thresholdAt(strict * (1 + 1e-9))).toBe(29);
  });

  it('are, for Laplace noise, the least for which the tail stays within delta, over all partitions', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 10_000, max: 20_000_000 }),
        fc.integer({ min: 1, max: 50 }),
        fc.integer({ min: 1, max: 1000 }),
        (cost, partitions, power) => {
          const d = 2 ** -power;
          const options = { noise: 'laplace', partitions, cost: microEpsilon(cost), delta: delta(d) } as const;
          const { threshold } = thresholdSelection(options);
          const p = cost / 1e6 / partitions;
          const logTail = (m: number): number => -m * p - Math.log1p(Math.exp(-p)) + Math.log(partitions);
          const limit = -power * Math.LN2;
          expect(logTail(threshold - 1)).toBeLessThanOrEqual(limit + 1e-9 * power);
          if (threshold > 2) expect(logTail(threshold - 2)).toBeGreaterThan(limit - 1e-9 * power);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('are, for Gaussian noise, at most three above the least', () => {
    for (const sigmaSquared of [0.5, 1, 4, 30, 100, 2500]) {
      const law = gaussianLaw(sigmaSquared);
      for (const d of [1e-3, 1e-6, 1e-9]) {
        let least = 1;
        for (;;) {
          let exceeds = 0;
          for (let y = least - 1; law(y) > 1e-30; y++) exceeds += law(y);
          if (exceeds <= d) break;
          least++;
        }
        const options = { noise: 'gaussian', partitions: 1, rho: rho(0.5 / sigmaSquared), delta: delta(d) } as const;
        const { threshold } = thresholdSelection(options);
        expect(threshold).toBeGreaterThanOrEqual(least);
        expect(threshold).toBeLessThanOrEqual(least + 3);
      }
    }
  });

  it('compare tails to the last digit, at any size', () => {
    const limit = rational(1n, 2n ** 2000n);
    const exceeds = laplaceExceeds(rational(1n, 1n), limit);
    // 2000 ln 2 = 1386.29; minus ln(1 + 1/e) = 0.313
    expect([exceeds(0n), exceeds(1385n), exceeds(1386n), exceeds(10n ** 6n)]).toEqual([true, true, false, false]);
    const wide = gaussianExceeds(rational(10n ** 40n, 1n), limit);
    expect([wide(0n), wide(1n), wide(10n ** 20n), wide(10n ** 22n)]).toEqual([true, true, true, false]);
  });

  it('name partitions with their noised counts, and say what that costs', () => {
    const laplace = thresholdSelection({
      ...{ noise: 'laplace', partitions: 2, cost: spendOf(1), delta: delta(1e-6), random: seededRandom(3) },
    });
    expect(laplace.event).toEqual({
      kind: 'composition',
      events: [
        { kind: 'discrete-laplace', sensitivity: 2, scale: { numerator: '2', denominator: '1' } },
        { kind: 'approx', epsilon: 0, delta: 1e-6, neighboring: 'add-remove' },
      ],
    });
    const { value } = laplace.release(holding({ b: 500, a: 900, alone: 1 }));
    expect(value.map(({ key }) => key)).toEqual(['a', 'b']);
    expect(Math.abs(value[1]!.count - 500)).toBeLessThan(100);
    const gaussian = thresholdSelection({ noise: 'gaussian', partitions: 3, rho: rho(0.5), delta: delta(1e-9) });
    expect(gaussian.event).toMatchObject({ events: [{ kind: 'discrete-gaussian', sensitivitySquared: 3 }, {}] });
    expect(gaussian.release(holding({ a: 500, alone: 1 })).value.map(({ key }) => key)).toEqual(['a']);
    const held = holding({ a: 500 });
    gaussian.release(held);
    expect(() => gaussian.release(held)).toThrow(/one charge, one release/);
    expect(gaussian.release(holding({})).value).toEqual([]);
  });

  it('refuse parameters that are none', () => {
    const good = { noise: 'laplace', partitions: 1, cost: spendOf(1), delta: delta(1e-6) };
    for (const change of [
      ...[0, -1, 0.5, 1025, Number.NaN, '1', 1n, undefined].map(partitions => ({ partitions })),
      ...[0, -0, 1, 2, Number.NaN, 5e-324, '0.1', undefined].map(bad => ({ delta: bad })),
      ...[0, -1, 0.5, Number.NaN, '1', undefined].map(cost => ({ cost })),
      { noise: 'normal' },
      { noise: 'gaussian', rho: Number.NaN },
      { noise: 'gaussian', rho: 2 ** -60, partitions: 1024, delta: 1e-300 },
    ]) {
      const options = { ...good, ...change } as unknown as ThresholdSelectionOptions;
      if ('rho' in change && change.rho === 2 ** -60)
        expect(thresholdSelection(options).threshold).toBeGreaterThan(1e9);
      else expect(() => thresholdSelection(options)).toThrow(refused);
    }
    const optimal = { partitions: 1, epsilon: epsilon(1), delta: delta(1e-6) };
    for (const change of [
      ...[0, 1025, '1'].map(partitions => ({ partitions })),
      ...[0, 1, Number.NaN, '1'].map(bad => ({ delta: bad })),
      ...[0, -1, Number.NaN, Infinity, '1', 1e7].map(bad => ({ epsilon: bad })),
      { epsilon: 1e-9 },
    ]) {
      expect(() => optimalSelection({ ...optimal, ...change } as never)).toThrow(refused);
    }
  });
});

describe('counts of subjects by key', () => {
  interface Row {
    readonly subject: string;
    readonly key: string;
  }
  const keys = fc.constantFrom('a', 'b', 'c', 'd', '', '__proto__', '\ud800', 'constructor');
  const rows = fc.array(fc.record({ subject: fc.constantFrom('s', 't', 'u', ''), key: keys }), { maxLength: 60 });
  const countsOf = (partitions: number, dataset: readonly Row[]): ReadonlyMap<string, number> => {
    const counted = partitionCount({ perSubject: { partitions } });
    const tally = counted.start();
    for (const { subject, key } of dataset) counted.accumulate(tally, subject, key);
    return takePrivate(counted.finish(tally));
  };

  it('differ by 1 in at most as many keys as one subject may count in, wherever its records stand', () => {
    fc.assert(
      fc.property(rows, fc.integer({ min: 1, max: 4 }), fc.nat(), (dataset, partitions, pick) => {
        const gone = dataset[pick % Math.max(1, dataset.length)]?.subject;
        const all = countsOf(partitions, dataset);
        const rest = countsOf(
          partitions,
          dataset.filter(({ subject }) => subject !== gone),
        );
        const moved = [...new Set([...all.keys(), ...rest.keys()])].map(
          key => (all.get(key) ?? 0) - (rest.get(key) ?? 0),
        );
        expect(moved.every(change => change === 0 || change === 1)).toBe(true);
        expect(moved.filter(Boolean).length).toBeLessThanOrEqual(partitions);
        expect([...all.values()].every(count => count > 0)).toBe(true);
        // The slow way: first distinct keys of each subject.
        const expected = new Map<string, number>();
        for (const subject of new Set(dataset.map(row => row.subject))) {
          const own = new Set(dataset.filter(row => row.subject === subject).map(({ key }) => key));
          for (const key of [...own].slice(0, partitions)) expected.set(key, (expected.get(key) ?? 0) + 1);
        }
        expect(new Map(all)).toEqual(expected);
      }),
      { numRuns: 500 },
    );
  });

  it('do not mind what is no subject or no key, nor a subject with very many rows', () => {
    const counted = partitionCount({ perSubject: { partitions: 2 } });
    const tally = counted.start();
    for (const odd of [undefined, null, 7, {}, Symbol('x')]) {
      counted.accumulate(tally, odd as string, 'a');
      counted.accumulate(tally, 's', odd as string);
    }
    for (let i = 0; i < 100_000; i++) counted.accumulate(tally, 's', `key ${i}`);
    expect([...takePrivate(counted.finish(tally))]).toEqual([
      ['key 0', 1],
      ['key 1', 1],
    ]);
    expect(() => counted.accumulate(tally, 's', 'a')).toThrow(/finished/);
    expect(() => counted.finish(tally)).toThrow(/finished/);
    for (const options of [
      undefined,
      {},
      { perSubject: {} },
      { perSubject: { partitions: 0 } },
      { perSubject: { partitions: 1 }, more: 1 },
    ]) {
      expect(() => partitionCount(options as never)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    }
  });
});
