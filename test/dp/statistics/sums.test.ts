// The postconditions of privacy/dp/statistics/sums.proof.md and histogram.proof.md.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  gaussianMechanism,
  type HistogramBounds,
  histogram,
  laplaceMechanism,
  mean,
  type Prediction,
  rho,
  type Statistic,
  sum,
  variance,
} from '../../../privacy/dp/index.ts';
import { takePrivate } from '../../../privacy/dp/private.ts';
import { scaledDown } from '../../../privacy/dp/statistics/sums.ts';
import { canonicalJson, spendOf } from '../../../src/base/index.ts';

interface Record {
  readonly subject: string;
  readonly prediction: Prediction | undefined;
}

function answer(statistic: Statistic, records: readonly Record[]): readonly number[] {
  const tally = statistic.start();
  for (const { subject, prediction } of records) statistic.accumulate(tally, subject, prediction);
  return takePrivate(statistic.finish(tally));
}

const LENGTH = 3;
const values = fc.oneof(
  fc.double({ min: -5, max: 5, noNaN: true }),
  fc.double(),
  fc.constantFrom(Number.NaN, Infinity, -Infinity, 0, -0, 5e-324, -5e-324, 1e308, 2 ** 53 + 2),
  fc.bigInt({ min: -(2n ** 80n), max: 2n ** 80n }),
);
const predictions = fc.oneof(
  fc.array(values, { minLength: LENGTH, maxLength: LENGTH }) as fc.Arbitrary<Prediction>,
  fc.constantFrom([], [1, 2], [1, 2, 3, 4], undefined),
  fc.float32Array({ minLength: LENGTH, maxLength: LENGTH }),
);
const subjects = fc.constantFrom('a', 'b', 'c', '', '\ud800', '\udc00', '__proto__');
const datasets = fc.array(fc.record({ subject: subjects, prediction: predictions }), { maxLength: 60 });
const perSubject = fc.record({ records: fc.integer({ min: 1, max: 5 }) });
const clips = fc
  .tuple(fc.integer({ min: -40, max: 40 }), fc.integer({ min: 0, max: 40 }))
  .map(([low, width]) => ({ low: low / 8, high: (low + width) / 8 }));
const element = fc.record({
  of: fc.constant('element' as const),
  length: fc.constant(LENGTH),
  index: fc.integer({ min: 0, max: LENGTH - 1 }),
  clip: clips,
  exponent: fc.integer({ min: -12, max: -3 }),
  perSubject,
});
const vector = fc.record({
  of: fc.constant('vector' as const),
  length: fc.constant(LENGTH),
  clip: fc.oneof(
    clips,
    fc.integer({ min: 1, max: 40 }).map(l2 => ({ l2: l2 / 8 })),
  ),
  exponent: fc.integer({ min: -12, max: -3 }),
  perSubject,
});
const bounds: fc.Arbitrary<HistogramBounds> = fc.record({
  records: fc.integer({ min: 1, max: 6 }),
  cells: fc.integer({ min: 1, max: 3 }),
  perCell: fc.integer({ min: 1, max: 3 }),
});
const inRange = (found: HistogramBounds): boolean => found.cells! <= found.records! && found.perCell! <= found.records!;
const statistics: fc.Arbitrary<Statistic> = fc.oneof(
  element.map(sum),
  vector.map(sum),
  element.map(mean),
  element.map(variance),
  bounds.filter(inRange).map(perSubject => histogram({ of: 'argmax', classes: LENGTH, perSubject })),
);

describe('sums and histograms', () => {
  it('move by no more than their sensitivities when all records of a subject come or go, and no sum depends on order', () => {
    fc.assert(
      fc.property(statistics, datasets, fc.nat(), (statistic, dataset, pick) => {
        const gone = dataset[pick % Math.max(1, dataset.length)]?.subject;
        const neighbour = dataset.filter(record => record.subject !== gone);
        const step = statistic.grid?.step ?? 1;
        const [with_, without] = [answer(statistic, dataset), answer(statistic, neighbour)];
        expect(with_).toHaveLength(statistic.cells);
        const moved = with_.map((cell, i) => (cell - without[i]!) / step);
        expect(moved.every(Number.isInteger)).toBe(true);
        expect(moved.reduce((total, cell) => total + Math.abs(cell), 0)).toBeLessThanOrEqual(statistic.sensitivity);
        expect(moved.reduce((total, cell) => total + cell ** 2, 0)).toBeLessThanOrEqual(statistic.squaredL2Sensitivity);
        // Subjects in another order, each subject's records in theirs: bit for bit the same.
        const sorted = [...dataset].sort((a, b) => (a.subject < b.subject ? 1 : a.subject > b.subject ? -1 : 0));
        expect(answer(statistic, sorted)).toEqual(with_);
      }),
      { numRuns: 3000 },
    );
  });

  it('have sensitivities that some subject reaches', () => {
    const reach = (statistic: Statistic, ...records: Prediction[]): void => {
      const cells = answer(
        statistic,
        records.map(prediction => ({ subject: 'a', prediction })),
      ).map(cell => cell / (statistic.grid?.step ?? 1));
      expect(cells.reduce((total, cell) => total + Math.abs(cell), 0)).toBe(statistic.sensitivity);
      expect(cells.reduce((total, cell) => total + cell ** 2, 0)).toBe(statistic.squaredL2Sensitivity);
    };
    const options = { of: 'element', length: 1, clip: { low: -1, high: 2 }, exponent: -3 } as const;
    reach(sum(options), [7]);
    reach(sum({ ...options, perSubject: { records: 2 } }), [7], [2], [1]);
    reach(mean(options), [2]);
    reach(variance(options), [2]);
    reach(sum({ ...options, of: 'vector', length: 3 }), [9, 9, 9]);
    const bounded = histogram({ of: 'argmax', classes: 4, perSubject: { records: 5, cells: 2, perCell: 3 } });
    reach(bounded, [1, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]);
    const tight = histogram({ of: 'argmax', classes: 4, perSubject: { records: 5, cells: 2, perCell: 1 } });
    expect([tight.sensitivity, tight.squaredL2Sensitivity]).toEqual([2, 2]);
    reach(tight, [1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]);
  });

  it('count what their bounds let through, first come, first served', () => {
    const statistic = histogram({ of: 'argmax', classes: 3, perSubject: { records: 4, cells: 2, perCell: 2 } });
    const of = (cell: number): Record => ({ subject: 'a', prediction: [0, 1, 2].map(i => (i === cell ? 1 : 0)) });
    expect(answer(statistic, [0, 0, 0, 1, 1].map(of))).toEqual([2, 1, 0]);
    expect(answer(statistic, [0, 1, 2, 2, 2].map(of))).toEqual([1, 1, 0]);
    expect(answer(statistic, [{ subject: 'a', prediction: [] }, of(2), of(2)])).toEqual([0, 0, 2]);
  });

  it('clip a vector in its direction, to a norm that it never exceeds and hardly undershoots', () => {
    const whole = fc.bigInt({ min: -(2n ** 53n), max: 2n ** 53n });
    fc.assert(
      fc.property(
        fc.array(whole, { minLength: 1, maxLength: 8 }),
        fc.bigInt({ min: 1n, max: 2n ** 40n }),
        (given, limit) => {
          const squareOf = (cells: readonly bigint[]): bigint => cells.reduce((total, cell) => total + cell * cell, 0n);
          const clipped = scaledDown(given, limit);
          expect(squareOf(clipped) <= limit * limit).toBe(true);
          if (squareOf(given) <= limit * limit) expect(clipped).toEqual(given);
          else expect(squareOf(clipped) >= (limit - 1n - BigInt(given.length)) ** 2n || limit < 10n).toBe(true);
          for (const [i, cell] of clipped.entries()) expect(cell * given[i]! >= 0n).toBe(true);
        },
      ),
    );
  });

  it('keep a million rows of one subject to what it may add, in memory that they do not grow', () => {
    const statistic = mean({ of: 'element', length: 1, clip: { low: 0, high: 1 }, exponent: -10 });
    const tally = statistic.start();
    for (let i = 0; i < 200_000; i++) statistic.accumulate(tally, 'one', [1]);
    const cells = takePrivate(statistic.finish(tally)).map(cell => cell / statistic.grid!.step);
    expect(cells).toEqual([512, 512]);
  });

  it('impute NaN with the middle, and saturate what is out of range', () => {
    const statistic = sum({ of: 'element', length: 1, clip: { low: 0, high: 4 }, exponent: -1 });
    const of = (value: unknown): number =>
      answer(statistic, [{ subject: 's', prediction: [value] as unknown as Prediction }])[0]!;
    const cases = [
      Number.NaN,
      Infinity,
      -Infinity,
      1e308,
      -1e308,
      5e-324,
      -0,
      2n ** 70n,
      -(2n ** 70n),
      '3',
      undefined,
      {},
      null,
    ];
    expect(cases.map(of)).toEqual([2, 4, 0, 4, 0, 0, 0, 4, 0, 2, 2, 2, 2]);
    expect(Object.is(of(-0), 0)).toBe(true);
  });

  it('read as means and variances of the values, when no noise is added', () => {
    const options = { of: 'element', length: 1, clip: { low: -10, high: 30 }, exponent: -20 } as const;
    const data = Array.from({ length: 500 }, (_, i) => Math.sin(i) * 9 + 8);
    const records = data.map((value, i) => ({ subject: String(i), prediction: [value] }));
    const average = data.reduce((total, value) => total + value, 0) / data.length;
    const spread = data.reduce((total, value) => total + (value - average) ** 2, 0) / data.length;
    const means = mean(options);
    const read = means.read!(answer(means, records));
    expect(read['mean']).toBeCloseTo(average, 5);
    expect(read['count']).toBeCloseTo(500, 9);
    const variances = variance(options);
    expect(variances.read!(answer(variances, records))['variance']).toBeCloseTo(spread, 3);
    // Noise may leave anything: what is read stays in range.
    for (const value of [
      [0, 0, 0],
      [1e9, -1e9, -5],
      [-1e9, 1e12, 1],
      [Number.MAX_VALUE, 1, 1e-300],
    ]) {
      const { variance: found, mean: centre } = variances.read!(value) as { variance: number; mean: number };
      expect(found).toBeGreaterThanOrEqual(0);
      expect(found).toBeLessThanOrEqual(400);
      expect(centre).toBeGreaterThanOrEqual(-10);
      expect(centre).toBeLessThanOrEqual(30);
    }
  });

  it('go through either mechanism, and come out as multiples of the step', () => {
    const statistic = sum({ of: 'vector', length: 2, clip: { l2: 1 }, exponent: -8 });
    const release = (mechanism: ReturnType<typeof laplaceMechanism> | ReturnType<typeof gaussianMechanism>) => {
      const tally = statistic.start();
      for (let i = 0; i < 1000; i++) statistic.accumulate(tally, String(i), [0.6, -0.8]);
      return mechanism.release(statistic.finish(tally));
    };
    for (const mechanism of [
      laplaceMechanism({ ...statistic, cost: spendOf(1) }),
      gaussianMechanism({ ...statistic, rho: rho(0.5) }),
    ]) {
      const { value, errorBar } = release(mechanism);
      expect(value.every(cell => Number.isInteger(cell * 256))).toBe(true);
      expect(errorBar).toBeLessThan(10);
      // 20 error bars: beyond 1e-20.
      expect(Math.abs(value[0]! - 600)).toBeLessThan(10 + 20 * errorBar);
      expect(Math.abs(value[1]! + 800)).toBeLessThan(10 + 20 * errorBar);
    }
  });

  it('are data: equal schemas are equal statistics', () => {
    const options = { of: 'element', length: 3, clip: { low: 0, high: 0.1 }, exponent: -4 } as const;
    expect(sum(options).schema).toEqual({
      kind: 'sum',
      of: 'element',
      length: 3,
      index: 0,
      clip: { low: 0, high: 0.1 },
      exponent: -4,
      perSubject: { records: 1 },
    });
    for (const make of [sum, mean, variance]) {
      const schema = make(options).schema;
      expect(JSON.parse(canonicalJson(schema))).toEqual(schema);
    }
    expect(sum({ ...options, of: 'vector', clip: { l2: 1.5 } }).schema['clip']).toEqual({ l2: 1.5 });
  });

  it('refuse options that are missing, unknown or out of range', () => {
    const good = { of: 'element', length: 3, clip: { low: 0, high: 1 }, exponent: -4 };
    const bad: object[] = [
      { of: 'argmax' },
      { length: 0 },
      { length: 65_537 },
      { length: 2.5 },
      { length: '3' },
      { index: 3 },
      { index: -1 },
      { clip: undefined },
      { clip: { low: 0 } },
      { clip: { low: '0', high: 1 } },
      { clip: { low: 0, high: 1, l2: 1 } },
      { perSubject: { records: 0 } },
      { perSubject: { records: 1025 } },
      { perSubject: { rows: 1 } },
      { more: 1 },
    ];
    for (const make of [sum, mean, variance] as ((options: never) => Statistic)[]) {
      for (const change of bad) {
        expect(() => make({ ...good, ...change } as never)).toThrow(
          expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
        );
      }
      for (const [clip, exponent] of [
        [{ low: 1, high: 0 }, -4],
        [{ low: Number.NaN, high: 1 }, -4],
        [{ low: 0, high: Infinity }, -4],
        [{ low: 0.1, high: 0.2 }, 3],
        [{ low: 0, high: 1 }, -513],
        [{ low: 0, high: 1 }, 0.5],
        [{ low: 0, high: 1 }, -60],
        [{ low: -1e6, high: 1e6 }, -20],
      ]) {
        expect(() => make({ ...good, clip, exponent } as never)).toThrow(
          expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
        );
      }
      for (const options of [undefined, null, 'sum', 7]) {
        expect(() => make(options as never)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
      }
    }
    for (const perSubject of [{ records: 0 }, { cells: 2 }, { records: 2, perCell: 3 }, { rows: 1 }, 'all']) {
      expect(() => histogram({ of: 'argmax', classes: 3, perSubject: perSubject as never })).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      );
    }
  });
});
