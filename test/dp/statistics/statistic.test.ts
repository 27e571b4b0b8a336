// The postcondition of privacy/dp/statistics/histogram.proof.md.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  type CountOptions,
  count,
  type HistogramOptions,
  histogram,
  type Prediction,
  type Statistic,
} from '../../../privacy/dp/index.ts';
import { takePrivate } from '../../../privacy/dp/private.ts';

interface Record {
  readonly subject: string;
  readonly prediction: Prediction | undefined;
}

function answer(statistic: Statistic, records: readonly Record[]): readonly number[] {
  const tally = statistic.start();
  for (const { subject, prediction } of records) statistic.accumulate(tally, subject, prediction);
  return takePrivate(statistic.finish(tally));
}

const classes = 4;
const STATISTICS: readonly Statistic[] = [
  histogram({ of: 'argmax', classes }),
  count({ of: 'argmax', classes, equals: 2 }),
  count({ of: 'subjects' }),
];
const scores = fc.oneof(
  fc.array(fc.oneof(fc.double(), fc.constantFrom(Number.NaN, 0, -0, 1, Number.POSITIVE_INFINITY)), {
    minLength: classes - 1,
    maxLength: classes,
  }),
  fc.constantFrom([1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]).map(cells => Float32Array.from(cells)),
  fc.constant(undefined),
);
const subjects = fc.oneof(
  fc.constantFrom('a', 'b', 'c', 'd', '', '\ud800', '\udc00', '\ufffd', '__proto__'),
  fc.string({ unit: 'binary' }),
);
const records = fc.array(fc.record({ subject: subjects, prediction: scores }), { maxLength: 60 });

describe('statistics', () => {
  it("moves by at most 1 when a subject's records are added or removed, wherever they stand", () => {
    fc.assert(
      fc.property(records, fc.nat(), (dataset, pick) => {
        const gone = dataset[pick % Math.max(1, dataset.length)]?.subject;
        const neighbour = dataset.filter(record => record.subject !== gone);
        for (const statistic of STATISTICS) {
          const [with_, without] = [answer(statistic, dataset), answer(statistic, neighbour)];
          expect(with_).toHaveLength(statistic.cells);
          const distance = with_.reduce((sum, cell, i) => sum + Math.abs(cell - without[i]!), 0);
          expect(distance).toBeLessThanOrEqual(statistic.sensitivity);
        }
      }),
      { numRuns: 500 },
    );
  });

  it('counts the first record of each subject', () => {
    fc.assert(
      fc.property(records, dataset => {
        const first = new Map<string, Prediction | undefined>();
        for (const { subject, prediction } of dataset) if (!first.has(subject)) first.set(subject, prediction);
        const expected = Array(classes).fill(0);
        for (const prediction of first.values()) {
          const cells = prediction ? Array.from(prediction, Number) : [];
          if (cells.length === classes && !cells.some(Number.isNaN))
            expected[cells.indexOf(Math.max(...cells.map(x => x + 0)))]++;
        }
        expect(answer(STATISTICS[0]!, dataset)).toEqual(expected);
        expect(answer(STATISTICS[1]!, dataset)).toEqual([expected[2]]);
        expect(answer(STATISTICS[2]!, dataset)).toEqual([first.size]);
      }),
    );
  });

  it('reads every element type, and takes the first of equals', () => {
    const [digits] = STATISTICS as [Statistic];
    const of = (prediction: unknown): number =>
      answer(digits, [{ subject: 's', prediction: prediction as Prediction }]).indexOf(1);
    expect(of(Float32Array.of(0, 3, 3, 1))).toBe(1);
    expect(of(BigInt64Array.of(-5n, -7n, -2n, -2n))).toBe(2);
    expect(of(Uint8Array.of(0, 0, 0, 255))).toBe(3);
    expect(of(Float64Array.of(Number.NEGATIVE_INFINITY, -1, Number.NEGATIVE_INFINITY, -2))).toBe(1);
    expect(of([0, 0, 0, 0])).toBe(0);
  });

  it('is not moved, and does not throw, by a record that is none', () => {
    const [digits] = STATISTICS as [Statistic];
    const junk: unknown[] = [
      undefined,
      null,
      [],
      [1, 2, 3],
      [1, 2, 3, 4, 5],
      [Number.NaN, 9, 0, 0],
      [9, 0, 0, Number.NaN],
    ];
    junk.push(
      ['9', 1, 1, 1],
      [{}, 1, 1, 1],
      'abcd',
      7,
      true,
      {},
      new Float32Array(0),
      [undefined, 1, 1, 1],
      new DataView(new ArrayBuffer(4)),
    );
    junk.forEach((prediction, i) => {
      expect(answer(digits, [{ subject: String(i), prediction: prediction as Prediction }])).toEqual([0, 0, 0, 0]);
    });
    for (const subject of [undefined, null, 7, {}, Symbol('s')]) {
      expect(answer(digits, [{ subject: subject as string, prediction: [1, 0, 0, 0] }])).toEqual([0, 0, 0, 0]);
    }
  });

  it('tells 300,000 subjects apart, each told twice', () => {
    const everybody = count({ of: 'subjects' });
    const tally = everybody.start();
    const n = 300_000;
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < n; i++) everybody.accumulate(tally, `patient/${i}`, undefined);
    }
    expect(takePrivate(everybody.finish(tally))).toEqual([n]);
  });

  it('is data: equal schemas are equal statistics', () => {
    expect(STATISTICS.map(({ kind, schema, sensitivity, cells }) => ({ kind, schema, sensitivity, cells }))).toEqual([
      { kind: 'histogram', schema: { kind: 'histogram', of: 'argmax', classes }, sensitivity: 1, cells: classes },
      { kind: 'count', schema: { kind: 'count', of: 'argmax', classes, equals: 2 }, sensitivity: 1, cells: 1 },
      { kind: 'count', schema: { kind: 'count', of: 'subjects' }, sensitivity: 1, cells: 1 },
    ]);
  });

  it('finishes a tally once', () => {
    const [digits] = STATISTICS as [Statistic];
    const tally = digits.start();
    digits.finish(tally);
    expect(() => digits.finish(tally)).toThrow(/finished/);
    expect(() => digits.accumulate(tally, 's', [1, 0, 0, 0])).toThrow(/finished/);
  });

  it('refuses options that are missing, unknown or out of range', () => {
    for (const options of [
      undefined,
      null,
      'argmax',
      {},
      { of: 'argmax' },
      { of: 'mean', classes },
      { of: 'argmax', classes: 0 },
      { of: 'argmax', classes: 65_537 },
      { of: 'argmax', classes: 2.5 },
      { of: 'argmax', classes: '4' },
      { of: 'argmax', classes, clip: 1 },
    ]) {
      expect(() => histogram(options as HistogramOptions)).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      );
      expect(() => count(options as CountOptions)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    }
    for (const equals of [-1, 4, 0.5, '2', undefined]) {
      expect(() => count({ of: 'argmax', classes, equals } as CountOptions)).toThrow(/equals is a class/);
    }
    expect(() => count({ of: 'subjects', classes } as unknown as CountOptions)).toThrow(/unknown option/);
  });
});
