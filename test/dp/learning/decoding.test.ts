// The postconditions of decoding.proof.md, neighbours.proof.md and subsample-aggregate.proof.md in privacy/dp/learning.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  clippedDecoder,
  decodeTokens,
  floatGrid,
  holdPrivate,
  laplaceMechanism,
  mixtureDecoder,
  neighbourVote,
  pureLoss,
  subsampleAndAggregate,
} from '../../../privacy/dp/index.ts';
import { mixedWeights, sumOfClipped } from '../../../privacy/dp/learning/decoding.ts';
import { nearestLabels } from '../../../privacy/dp/learning/neighbours.ts';
import { takePrivate } from '../../../privacy/dp/private.ts';
import { spendOf } from '../../../src/base/index.ts';
import { seededRandom } from '../noise/bits.ts';

const BAD = [Number.NaN, Number.POSITIVE_INFINITY, 0, -0, -1, 5e-324, 1e300, 1n, '1', null, undefined];
const refused = expect.objectContaining({ code: 'DP_INVALID_PARAMETER' });
const odd = fc.oneof(
  fc.double(),
  fc.constantFrom(Number.NaN, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, 1e308, -1e308, 1n, '3', null),
) as fc.Arbitrary<number>;

describe('the clipped decoder', () => {
  const row = fc.oneof(
    fc.array(odd, { minLength: 6, maxLength: 6 }),
    fc.array(fc.double({ min: -30, max: 30, noNaN: true }), { minLength: 6, maxLength: 6 }),
    fc.constantFrom(null, [], 'abcdef') as unknown as fc.Arbitrary<number[]>,
  );

  it('moves no score by more than the clip, whatever a prompt gives', () => {
    fc.assert(
      fc.property(
        fc.array(row, { maxLength: 5 }),
        row,
        fc.double({ min: 0.1, max: 50, noNaN: true }),
        (rows, more, clip) => {
          const [a, b] = [rows, [...rows, more]].map(all => sumOfClipped(all, 6, clip)) as [number[], number[]];
          for (let t = 0; t < 6; t++) {
            expect(Number.isSafeInteger(a[t])).toBe(true);
            expect(Math.abs(a[t]! - b[t]!)).toBeLessThanOrEqual(2 ** 20);
          }
        },
      ),
    );
  });

  it('is sampling from the mean logits at a temperature', () => {
    // s = 40 prompts, clip 4, e = 0.2: temperature 2 * 4 / (40 * 0.2) = 1.
    const logits = [1, 0.5, -0.7];
    const next = clippedDecoder({ tokens: 3, clip: 4, cost: spendOf(0.2), random: seededRandom(4) });
    const n = 8000;
    const counts = [0, 0, 0];
    for (let i = 0; i < n; i++) counts[next.release(holdPrivate(Array(40).fill(logits))).value]!++;
    const total = logits.reduce((sum, z) => sum + Math.exp(z), 0);
    for (const [t, z] of logits.entries()) {
      const share = Math.exp(z) / total;
      expect(Math.abs(counts[t]! / n - share)).toBeLessThan(6 * Math.sqrt((share * (1 - share)) / n));
    }
  });

  it('refuses parameters that are none', () => {
    const good = { tokens: 4, clip: 1, cost: spendOf(1) };
    for (const bad of BAD)
      for (const option of Object.keys(good)) expect(() => clippedDecoder({ ...good, [option]: bad })).toThrow(refused);
  });

  it('is done with a vocabulary of 150,000 tokens', () => {
    const rows = Array.from({ length: 4 }, (_, i) =>
      Float32Array.from({ length: 150_000 }, (__, t) => Math.sin(t * 7 + i)),
    );
    const next = clippedDecoder({ tokens: 150_000, clip: 10, cost: spendOf(1) });
    expect(next.release(holdPrivate(rows)).value).toBeLessThan(150_000);
  });
});

describe('the mixture decoder', () => {
  const W = 2 ** 32;
  const baseOf = (weights: readonly number[]): Float64Array => {
    const total = weights.reduce((a, b) => a + b);
    const base = Float64Array.from(weights, weight => Math.max(1, Math.floor((weight / total) * W)));
    base[0]! += W - base.reduce((a, b) => a + b);
    return base;
  };
  const weights = fc.array(fc.integer({ min: 1, max: 1e6 }), { minLength: 5, maxLength: 5 });
  const row = fc.oneof(
    fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 5, maxLength: 5 }),
    fc.array(odd, { minLength: 5, maxLength: 5 }),
  );

  it('keeps every token within the factor, in whole weights of one sum, whatever a model gives', () => {
    fc.assert(
      fc.property(weights, row, fc.double({ min: 0.001, max: 20, noNaN: true }), (raw, probabilities, beta) => {
        const base = baseOf(raw);
        const mixed = mixedWeights(probabilities, base, beta);
        expect(mixed.reduce((a, b) => a + b)).toBe(W);
        for (let t = 0; t < 5; t++) {
          expect(Number.isSafeInteger(mixed[t])).toBe(true);
          expect(mixed[t]!).toBeGreaterThanOrEqual(base[t]! * Math.exp(-beta) * (1 - 1e-13));
          expect(mixed[t]!).toBeLessThanOrEqual(base[t]! * Math.exp(beta) * (1 + 1e-13));
        }
      }),
      { numRuns: 500 },
    );
  });

  it('takes of a model all that fits', () => {
    const base = baseOf([1, 1, 1, 1, 1]);
    const near = mixedWeights([0.22, 0.18, 0.2, 0.2, 0.2], base, 0.5);
    expect(near[0]! / W).toBeCloseTo(0.22, 6);
    const far = mixedWeights([1, 0, 0, 0, 0], base, 0.5);
    expect(Math.min(...far) / W).toBeCloseTo(0.2 * Math.max(Math.exp(-0.5), 1 - (Math.exp(0.5) - 1) / 4), 3);
  });

  it('loses what it says between any two lists of models', () => {
    fc.assert(
      fc.property(fc.array(row, { minLength: 3, maxLength: 3 }), row, weights, (rows, other, raw) => {
        const base = baseOf(raw);
        const beta = 0.7;
        const { epsilon } = mixtureDecoder({ models: 3, tokens: 5, beta }).event;
        const total = (all: readonly number[][]): number[] =>
          Array.from(base, (_, t) => all.reduce((sum, one) => sum + mixedWeights(one, base, beta)[t]!, 0));
        const [p, q] = [total(rows), total([rows[0]!, rows[1]!, other])];
        for (let t = 0; t < 5; t++) expect(Math.abs(Math.log(p[t]! / q[t]!))).toBeLessThanOrEqual(epsilon);
      }),
    );
  });

  it('draws from the mean of the mixtures', () => {
    const decoder = mixtureDecoder({ models: 2, tokens: 2, beta: 1, random: seededRandom(3) });
    const next = decoder.beside([0.5, 0.5]);
    const n = 10_000;
    let first = 0;
    const rows = [
      [0.6, 0.4],
      [0.5, 0.5],
    ];
    for (let i = 0; i < n; i++) if (next.release(holdPrivate(rows, 'replace-one')).value === 0) first++;
    expect(Math.abs(first / n - 0.55)).toBeLessThan(0.03); // six standard deviations
  });

  it('refuses what is no probability where it is public, and takes it for the public one where it is private', () => {
    const decoder = mixtureDecoder({ models: 2, tokens: 3, beta: 1 });
    for (const bad of [[], [1, 2], [0.5, 0.5, 0.5], [Number.NaN, 0, 1], [-1, 1, 1], [0, 0, 0], null])
      expect(() => decoder.beside(bad as number[])).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    const { value } = decoder.beside([0.2, 0.3, 0.5]).release(holdPrivate([null, [1n]] as never, 'replace-one'));
    expect(value).toBeLessThan(3);
    const good = { models: 2, tokens: 3, beta: 1 };
    for (const bad of BAD)
      for (const option of Object.keys(good)) expect(() => mixtureDecoder({ ...good, [option]: bad })).toThrow(refused);
  });
});

describe('decoding', () => {
  it('shows each prefix, stops where it is told, and counts what it drew', async () => {
    const decoder = clippedDecoder({ tokens: 4, clip: 5, cost: spendOf(10) });
    const prefixes: (readonly number[])[] = [];
    const sure = (token: number): number[][] => Array(200).fill([0, 1, 2, 3].map(t => (t === token ? 20 : 0)));
    const { value, event } = await decodeTokens(
      async prefix => {
        prefixes.push(prefix);
        return [decoder, holdPrivate(sure(Math.min(prefix.length, 3)))];
      },
      { most: 9, stop: 3 },
    );
    expect(value).toEqual([0, 1, 2, 3]);
    expect(prefixes).toEqual([[], [0], [0, 1], [0, 1, 2]]);
    expect(pureLoss(event)).toBe(40_000_000);
    const short = await decodeTokens(() => [decoder, holdPrivate(sure(1))], { most: 2 });
    expect(short.value).toEqual([1, 1]);
  });
});

describe('the votes of the nearest', () => {
  const example = fc.record({
    point: fc.oneof(
      fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 2, maxLength: 2 }),
      fc.array(odd, { minLength: 1, maxLength: 3 }),
    ),
    label: fc.oneof(fc.nat(3), odd),
  });

  it('exchanges one voter at most when an example comes or goes', () => {
    fc.assert(
      fc.property(
        fc.array(example, { maxLength: 12 }),
        example,
        fc.nat(12),
        fc.integer({ min: 1, max: 6 }),
        (all, one, at, k) => {
          const more = [...all];
          more.splice(at, 0, one);
          const [a, b] = [all, more].map(examples => nearestLabels(examples, [0, 1], k));
          const left = [...a!];
          const added = b!.filter(label => {
            const found = left.findIndex(other => Object.is(other, label));
            if (found >= 0) left.splice(found, 1);
            return found < 0;
          });
          expect(added.length).toBeLessThanOrEqual(1);
          expect(left.length).toBeLessThanOrEqual(1);
        },
      ),
      { numRuns: 300 },
    );
  });

  it('answers with the label that lies near, and never fails because of examples', () => {
    const vote = neighbourVote({ neighbours: 50, classes: 3, sigma: 1, query: [0, 0] });
    const examples = Array.from({ length: 90 }, (_, i) => ({ point: [i, -i], label: i < 45 ? 2 : 1 }));
    expect(vote.release(holdPrivate(examples)).value).toBe(2);
    expect(vote.release(holdPrivate([null, {}, { point: [1n, 2], label: {} }] as never)).value).toBeLessThan(3);
    expect(vote.event).toMatchObject({ kind: 'gaussian', noiseMultiplier: expect.closeTo(Math.SQRT1_2, 12) });
  });

  it('refuses parameters that are none', () => {
    const good = { neighbours: 5, classes: 2, sigma: 2, query: [1] };
    for (const bad of BAD)
      for (const option of Object.keys(good)) expect(() => neighbourVote({ ...good, [option]: bad })).toThrow(refused);
    for (const query of [[], [Number.NaN], ['1']])
      expect(() => neighbourVote({ ...good, query: query as number[] })).toThrow(refused);
  });
});

describe('subsample and aggregate', () => {
  const grid = floatGrid({ exponent: -2, low: -10, high: 30, impute: 7 });
  const person = fc.record({ subject: fc.constantFrom('a', 'b', 'c', 'd', 'e', '\ud800', '\ud801'), record: odd });

  it('changes one answer, by the width of the grid at most, when a subject comes or goes', () => {
    fc.assert(
      fc.property(
        fc.array(person, { maxLength: 30 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer(),
        (records, blocks, seed) => {
          const sum = (all: typeof records): number => {
            const aggregate = subsampleAndAggregate({ blocks, grid, random: seededRandom(seed) });
            const held = aggregate.aggregate(all, part => {
              if (part.length % 5 === 4) throw new RangeError('private');
              return part.reduce((total, value) => total + Number(value), 0);
            });
            return takePrivate(held)[0]!;
          };
          const [a, b] = [sum(records), sum(records.filter(({ subject }) => subject !== 'c'))];
          expect(Number.isSafeInteger(a)).toBe(true);
          expect(Math.abs(a - b)).toBeLessThanOrEqual(160);
        },
      ),
    );
    expect(subsampleAndAggregate({ blocks: 3, grid })).toMatchObject({
      sensitivity: 160,
      squaredL2Sensitivity: 25_600,
      cells: 1,
    });
  });

  it('averages the answers of parts that hold each subject once', () => {
    const aggregate = subsampleAndAggregate({ blocks: 20, grid });
    const records = Array.from({ length: 2000 }, (_, i) => ({ subject: `s${i % 400}`, record: i % 400 }));
    const seen = new Map<number, number>();
    let part = 0;
    const held = aggregate.aggregate(records, values => {
      part++;
      for (const value of values) seen.set(value, (seen.get(value) ?? part) === part ? part : -1);
      return 12;
    });
    expect(part).toBe(20);
    expect([...seen.values()]).not.toContain(-1);
    expect(aggregate.meanOf(laplaceMechanism({ ...aggregate, cost: spendOf(1000) }).release(held).value)).toBeCloseTo(
      12,
      1,
    );
    const strange = [null, undefined, 5, {}, { subject: 7, record: 1 }] as unknown as typeof records;
    expect(takePrivate(aggregate.aggregate(strange, values => values.length))).toEqual([20 * 40]); // nothing, 40 steps above -10
    const failed = aggregate.aggregate(records, () => {
      throw new Error('no');
    });
    expect(aggregate.meanOf(laplaceMechanism({ ...aggregate, cost: spendOf(1000) }).release(failed).value)).toBeCloseTo(
      7,
      1,
    );
  });

  it('refuses parameters that are none', () => {
    for (const bad of BAD) expect(() => subsampleAndAggregate({ blocks: bad as number, grid })).toThrow(refused);
    expect(() => subsampleAndAggregate({ blocks: 1, grid: floatGrid({ exponent: -20, low: 0, high: 1000 }) })).toThrow(
      /2\^26/,
    );
  });
});
