// The postconditions of privacy/dp/local/local.proof.md.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  enumerateOutcomes,
  hadamardResponse,
  hockeyStick,
  holdPrivate,
  type LocalMechanism,
  type LocalOptions,
  pureLoss,
  randomizedResponse,
  unaryEncoding,
} from '../../../privacy/dp/index.ts';
import { type MicroEpsilon, spendOf } from '../../../src/base/index.ts';
import { seededRandom } from '../noise/bits.ts';

type Make = (options: LocalOptions) => LocalMechanism<unknown>;
const MECHANISMS: Record<string, Make> = {
  'randomised response': randomizedResponse as Make,
  'optimised unary encoding': (options => unaryEncoding({ ...options, scheme: 'optimised' })) as Make,
  'symmetric unary encoding': (options => unaryEncoding({ ...options, scheme: 'symmetric' })) as Make,
  'Hadamard response': hadamardResponse as Make,
};

/** Every report with its probability, by the formulas of the papers. */
const LAWS: Record<string, (v: number, k: number, e: number) => Map<string, number>> = {
  'randomised response': (v, k, e) =>
    new Map(Array.from({ length: k }, (_, i) => [String(i), (i === v ? Math.exp(e) : 1) / (Math.exp(e) + k - 1)])),
  'optimised unary encoding': (v, k, e) => unaryLaw(v, k, 0.5, 1 / (Math.exp(e) + 1)),
  'symmetric unary encoding': (v, k, e) => unaryLaw(v, k, 1 - 1 / (Math.exp(e / 2) + 1), 1 / (Math.exp(e / 2) + 1)),
  'Hadamard response': (v, k, e) => {
    let size = 1;
    while (size <= k) size *= 2;
    const parity = (n: number): number => [...n.toString(2)].filter(bit => bit === '1').length % 2;
    const weights = Array.from({ length: size }, (_, y) => (parity((v + 1) & y) === 0 ? Math.exp(e) : 1));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return new Map(weights.map((weight, y) => [String(y), weight / total]));
  },
};

function unaryLaw(v: number, k: number, own: number, other: number): Map<string, number> {
  const law = new Map<string, number>();
  for (let word = 0; word < 2 ** k; word++) {
    const bits = Array.from({ length: k }, (_, i) => (word >> i) & 1);
    const chance = bits.reduce((product, bit, i) => {
      const one = i === v ? own : other;
      return product * (bit === 1 ? one : 1 - one);
    }, 1);
    law.set(JSON.stringify(bits), chance);
  }
  return law;
}

describe.each(Object.keys(MECHANISMS))('%s', name => {
  const make = MECHANISMS[name]!;
  const law = LAWS[name]!;
  const good = { categories: 3, cost: spendOf(1) };
  const enumerated = (category: number, options: LocalOptions) =>
    enumerateOutcomes(
      oracle => make({ ...options, random: oracle }).release(holdPrivate(category, 'replace-one')).value,
      { depth: 17 },
    );

  it.each([
    [2, 1],
    [3, 1],
    [3, 0.5],
    [4, 1],
  ])('has the law that it states: %i categories at epsilon %d', (categories, epsilon) => {
    const { mass, open } = enumerated(1, { categories, cost: spendOf(epsilon) });
    const slack = Number(open) / 2 ** 17;
    expect(slack).toBeLessThan(0.4);
    for (const [report, truth] of law(1, categories, epsilon)) {
      const low = Number(mass.get(report) ?? 0n) / 2 ** 17;
      expect(low).toBeLessThanOrEqual(truth + 1e-12);
      expect(low + slack).toBeGreaterThanOrEqual(truth - 1e-12);
    }
  });

  it('loses its cost and no more, by enumeration', () => {
    const [a, b] = [enumerated(0, good), enumerated(2, good)];
    expect(hockeyStick(a, b, 1).lower).toBeLessThan(1e-12);
    expect(hockeyStick(a, b, 0).upper).toBeGreaterThan(0.1); // the enumeration sees that they differ
    const [p, q] = [law(0, 3, 1), law(2, 3, 1)];
    const losses = [...p].map(([report, share]) => Math.log(share / q.get(report)!));
    expect(Math.max(...losses)).toBeCloseTo(1, 12);
  });

  it('estimates without bias, in exact expectation', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 5 }), fc.double({ min: 0.1, max: 4, noNaN: true }), (categories, raw) => {
        const cost = spendOf(raw);
        const mechanism = make({ categories, cost });
        const parse = (text: string): unknown => JSON.parse(text);
        // E[estimate of v] over the law of one report from category 1: 1 for v = 1 and 0 elsewhere.
        const means = new Array<number>(categories).fill(0);
        for (const [report, share] of law(1, categories, cost / 1e6)) {
          const { counts } = mechanism.estimate([parse(report)]);
          for (let v = 0; v < categories; v++) means[v]! += share * counts[v]!;
        }
        for (let v = 0; v < categories; v++) expect(means[v]).toBeCloseTo(v === 1 ? 1 : 0, 6);
      }),
      { numRuns: 40 },
    );
  });

  it('covers the truth about 19 times in 20', () => {
    let inside = 0;
    const truth = [200, 100, 50, 0, 50];
    for (let seed = 0; seed < 40; seed++) {
      const mechanism = make({ categories: 5, cost: spendOf(1), random: seededRandom(seed) });
      const reports = truth.flatMap((n, v) =>
        Array.from({ length: n }, () => mechanism.release(holdPrivate(v, 'replace-one')).value),
      );
      const { counts, errorBars, reports: n } = mechanism.estimate(reports);
      expect(n).toBe(400);
      truth.forEach((count, v) => {
        if (Math.abs(counts[v]! - count) <= errorBars[v]!) inside++;
      });
    }
    expect(inside).toBeGreaterThan(175); // of 200: the seeds are fixed
  });

  it('is charged its cost', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20_000_000 }), cost => {
        const { event } = make({ categories: 7, cost: cost as MicroEpsilon });
        const charged = pureLoss(event) - cost;
        if (name === 'randomised response') expect([0, 1]).toContain(charged);
        else expect(charged).toBe(0);
        expect(event).toMatchObject({ neighboring: 'replace-one' });
      }),
    );
  });

  it('never fails because of what the category is, and releases it once', () => {
    const mechanism = make({ ...good, cost: spendOf(1000) });
    const zero = law(0, 3, 100);
    const likely = [...zero].sort((x, y) => y[1] - x[1])[0]![1];
    for (const value of [Number.NaN, -1, 3, 0.5, '1', null, undefined, 1n]) {
      const held = holdPrivate(value as number, 'replace-one');
      const report = mechanism.release(held).value;
      expect(zero.get(JSON.stringify(report))).toBeGreaterThan(likely / 10);
      expect(() => mechanism.release(held)).toThrow(/one charge, one release/);
    }
  });

  it('refuses reports that are none of its own, and parameters that are none', () => {
    for (const report of [-1, 4, 0.5, Number.NaN, '1', null, undefined, [0, 1], [0, 1, 2], [0, 0, 0, 0]])
      expect(() => make(good).estimate([report])).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 0, -0, -1, 0.5, 5e-324, 2 ** 53, 1n, '2', null])
      for (const option of ['categories', 'cost'])
        expect(() => make({ ...good, [option]: value })).toThrow(
          expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
        );
    expect(() => make({ ...good, categories: 65_536 })).toThrow(/65,535/);
    const { counts, errorBars } = make(good).estimate([]);
    expect([counts.map(Math.abs), errorBars]).toEqual([
      [0, 0, 0],
      [0, 0, 0],
    ]);
  });
});

describe('unary encoding', () => {
  it('refuses a scheme that is none', () => {
    for (const scheme of ['fast', undefined, 1])
      expect(() => unaryEncoding({ categories: 2, cost: spendOf(1), scheme: scheme as 'optimised' })).toThrow(
        expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
      );
  });
});

describe('Hadamard response', () => {
  it('estimates many categories fast, as one report at a time would', () => {
    const mechanism = hadamardResponse({ categories: 5000, cost: spendOf(2), random: seededRandom(3) });
    const reports = Array.from(
      { length: 20_000 },
      (_, i) => mechanism.release(holdPrivate(i % 4 === 0 ? 4999 : i % 5000, 'replace-one')).value,
    );
    const { counts, errorBars } = mechanism.estimate(reports);
    expect(Math.abs(counts[4999]! - 5003)).toBeLessThan(2 * errorBars[4999]!);
    const sum = (report: number, v: number): number => mechanism.estimate([report]).counts[v]!;
    for (const v of [0, 77, 4999]) {
      const slow = reports.slice(0, 50).reduce((total, report) => total + sum(report, v), 0);
      expect(mechanism.estimate(reports.slice(0, 50)).counts[v]).toBeCloseTo(slow, 6);
    }
  });
});
