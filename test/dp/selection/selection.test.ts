// The postconditions of the proofs in privacy/dp/selection.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  type Bits,
  enumerateOutcomes,
  exponentialMechanism,
  type LInfSensitivity,
  lInfSensitivity,
  type Mechanism,
  type Private as PrivateType,
  permuteAndFlip,
  pureLoss,
  randomBits,
  reportNoisyMax,
  type SelectionOptions,
  topK,
} from '../../../privacy/dp/index.ts';
import { bigBernoulliExpOf } from '../../../privacy/dp/noise/bernoulli.ts';
import { Private } from '../../../privacy/dp/private.ts';
import { drawExponential } from '../../../privacy/dp/selection/exponential.ts';
import { drawNoisyMax } from '../../../privacy/dp/selection/noisy-max.ts';
import { drawByFlips } from '../../../privacy/dp/selection/permute-and-flip.ts';
import { sharpnessOf } from '../../../privacy/dp/selection/scores.ts';
import { drawTopK } from '../../../privacy/dp/selection/top-k.ts';
import { type MicroEpsilon, osRandom, spendOf } from '../../../src/base/index.ts';
import { seededRandom } from '../noise/bits.ts';

const one = lInfSensitivity(1);
const held = (scores: unknown): PrivateType<readonly number[]> => new Private(scores as readonly number[]);
const odds = (scores: readonly number[], sharpness: number): number[] => {
  const best = Math.max(...scores);
  return scores.map(score => Math.exp((score - best) * sharpness));
};

/** The law of the exponential mechanism. */
function exponentialLaw(scores: readonly number[], sharpness: number): number[] {
  const weights = odds(scores, sharpness);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map(weight => weight / total);
}

/** The law of permute-and-flip, over all orders of the candidates. */
function flipLaw(scores: readonly number[], sharpness: number): number[] {
  const coins = odds(scores, sharpness);
  const law = scores.map(() => 0);
  const visit = (left: readonly number[], chance: number): void => {
    for (const i of left) {
      const here = chance / left.length;
      law[i]! += here * coins[i]!;
      if (left.length > 1)
        visit(
          left.filter(j => j !== i),
          here * (1 - coins[i]!),
        );
    }
  };
  visit(
    scores.map((_, i) => i),
    1,
  );
  return law;
}

/** The law of report-noisy-max with discrete Laplace noise of scale 1/sharpness, the first of equals winning. */
function noisyMaxLaw(scores: readonly number[], sharpness: number): number[] {
  const p = Math.exp(-sharpness);
  const mass = (y: number): number => ((1 - p) / (1 + p)) * p ** Math.abs(y);
  const below = (y: number): number => (y < 0 ? p ** -y / (1 + p) : 1 - p ** (y + 1) / (1 + p)); // P[Y <= y]
  return scores.map((score, i) => {
    let sum = 0;
    for (let y = -400; y <= 400; y++)
      sum +=
        mass(y) *
        scores.reduce(
          (product, other, j) => (j === i ? product : product * below(score + y - other - (j < i ? 1 : 0))),
          1,
        );
    return sum;
  });
}

const LAWS = {
  exponential: [drawExponential, exponentialLaw],
  'permute-and-flip': [drawByFlips, flipLaw],
} as const;
const SCORES = [
  [0, 0],
  [3, 1],
  [0, 1, 2],
  [5, 5, 4, -1],
];

describe('acceptance', () => {
  it.each([
    [0n, 1n],
    [1n, 3n],
    [1n, 1n],
    [7n, 3n],
    [2n, 1n],
  ])('accepts with probability exp(-%i/%i), by enumeration', (n, d) => {
    const { mass, open } = enumerateOutcomes(bits => bigBernoulliExpOf(n, d, bits), { depth: 18 });
    const truth = Math.exp(-Number(n) / Number(d));
    const low = Number(mass.get('true') ?? 0n) / 2 ** 18;
    expect(low).toBeLessThanOrEqual(truth + 1e-12);
    expect(low + Number(open) / 2 ** 18).toBeGreaterThanOrEqual(truth - 1e-12);
    expect(Number(open) / 2 ** 18).toBeLessThan(0.03);
  });

  it('ends at once where there is no chance', () => {
    const bits = randomBits(seededRandom(1));
    for (let i = 0; i < 1000; i++) expect(bigBernoulliExpOf(10n ** 30n, 1n, bits)).toBe(false);
  });
});

describe.each(Object.keys(LAWS) as (keyof typeof LAWS)[])('%s', name => {
  const [draw, law] = LAWS[name];

  it.each(SCORES.map(scores => [scores]))(
    'brackets every probability when all bit strings are enumerated: %j',
    scores => {
      const sharpness = { numerator: 1n, denominator: 2n };
      const { mass, open } = enumerateOutcomes(bits => draw(scores, sharpness, bits), { depth: 17 });
      const slack = Number(open) / 2 ** 17;
      expect(slack).toBeLessThan(0.25);
      for (const [i, truth] of law(scores, 0.5).entries()) {
        const low = Number(mass.get(String(i)) ?? 0n) / 2 ** 17;
        expect(low).toBeLessThanOrEqual(truth + 1e-12);
        expect(low + slack).toBeGreaterThanOrEqual(truth - 1e-12);
      }
    },
  );
});

/** Pearson's chi-square by the Wilson-Hilferty quantile z = 6: false alarm 1e-9. */
function misses(counts: readonly number[], law: readonly number[]): boolean {
  const n = counts.reduce((sum, count) => sum + count, 0);
  const statistic = law.reduce((sum, share, i) => sum + (counts[i]! - n * share) ** 2 / (n * share), 0);
  const freedom = law.length - 1;
  return (Math.cbrt(statistic / freedom) - (1 - 2 / (9 * freedom))) / Math.sqrt(2 / (9 * freedom)) > 6;
}

describe('the draws', () => {
  const scores = [4, 0, 7, 7, 3];
  const sharpness = { numerator: 1n, denominator: 4n };
  const count = (draw: (bits: Bits) => number): number[] => {
    const bits = randomBits(osRandom);
    const counts = scores.map(() => 0);
    for (let i = 0; i < 60_000; i++) counts[draw(bits)]!++;
    return counts;
  };

  it('fit their laws, and each fit tells the laws apart', () => {
    // Null: the stated law. n = 60,000 sees a shift of 2.5% of the mass.
    const exponential = count(bits => drawExponential(scores, sharpness, bits));
    const flips = count(bits => drawByFlips(scores, sharpness, bits));
    const noisy = count(bits => drawNoisyMax(scores, { numerator: 4n, denominator: 1n }, bits));
    const first = count(bits => drawTopK(scores, 3, sharpness, bits)[0]!);
    expect(misses(exponential, exponentialLaw(scores, 0.25))).toBe(false);
    expect(misses(first, exponentialLaw(scores, 0.25))).toBe(false);
    expect(misses(flips, flipLaw(scores, 0.25))).toBe(false);
    expect(misses(noisy, noisyMaxLaw(scores, 0.25))).toBe(false);
    expect(misses(exponential, flipLaw(scores, 0.25))).toBe(true);
    expect(misses(flips, exponentialLaw(scores, 0.25))).toBe(true);
    expect(misses(noisy, exponentialLaw(scores, 0.25))).toBe(true);
  });

  it('select the second of the top k from what is left', () => {
    const law = exponentialLaw(scores, 0.25);
    const second = scores.map((_, i) =>
      law.reduce((sum, chance, j) => {
        if (j === i) return sum;
        const rest = scores.map((score, at) => (at === j ? Number.NEGATIVE_INFINITY : score));
        return sum + chance * exponentialLaw(rest, 0.25)[i]!;
      }, 0),
    );
    expect(
      misses(
        count(bits => drawTopK(scores, 3, sharpness, bits)[1]!),
        second,
      ),
    ).toBe(false);
    for (let i = 0; i < 100; i++)
      expect(drawTopK(scores, 5, sharpness, randomBits(osRandom)).sort()).toEqual([0, 1, 2, 3, 4]);
  });
});

describe('the loss of a selection', () => {
  const pair = fc.integer({ min: 2, max: 5 }).chain(k =>
    fc.record({
      scores: fc.array(fc.integer({ min: -6, max: 6 }), { minLength: k, maxLength: k }),
      moves: fc.array(fc.integer({ min: -1, max: 1 }), { minLength: k, maxLength: k }),
      monotonic: fc.boolean(),
      micro: fc.integer({ min: 10_000, max: 3_000_000 }),
    }),
  );
  const lossBetween = (law: typeof flipLaw, { scores, moves, monotonic, micro }: PairOf<typeof pair>): number[] => {
    const { numerator, denominator } = sharpnessOf({
      sensitivity: one,
      candidates: scores.length,
      cost: micro as MicroEpsilon,
      monotonic,
    });
    const sharpness = Number(numerator) / Number(denominator);
    const neighbour = scores.map((score, i) => score + (monotonic ? Math.abs(moves[i]!) : moves[i]!));
    const [p, q] = [law(scores, sharpness), law(neighbour, sharpness)];
    return p.map((share, i) => Math.log(share / q[i]!));
  };

  it.each([
    ['exponential', exponentialLaw],
    ['permute-and-flip', flipLaw],
    ['report noisy max', noisyMaxLaw],
  ] as const)('of %s is at most its cost between any neighbours', (_, law) => {
    fc.assert(
      fc.property(pair, example => {
        for (const loss of lossBetween(law, example))
          expect(Math.abs(loss)).toBeLessThanOrEqual(example.micro / 1e6 + 1e-9);
      }),
    );
  });

  it('of the exponential mechanism lies in a range as wide as its cost; that of permute-and-flip does not', () => {
    const width = (losses: number[]): number => Math.max(...losses) - Math.min(...losses);
    fc.assert(
      fc.property(pair, example => {
        expect(width(lossBetween(exponentialLaw, example))).toBeLessThanOrEqual(example.micro / 1e6 + 1e-9);
      }),
    );
    const example = { scores: [0, 0], moves: [1, -1], monotonic: false, micro: 2_000_000 };
    expect(width(lossBetween(flipLaw, example))).toBeGreaterThan(2.5);
  });
});

type PairOf<T> = T extends fc.Arbitrary<infer V> ? V : never;

type Make = (options: SelectionOptions) => Mechanism<readonly number[], unknown>;
const MECHANISMS: Record<string, Make> = {
  exponentialMechanism,
  permuteAndFlip,
  reportNoisyMax,
  topK: options => topK({ ...options, k: 2 }),
};

describe.each(Object.keys(MECHANISMS))('%s', name => {
  const make = MECHANISMS[name]!;
  const good = { sensitivity: one, candidates: 4, cost: spendOf(0.5) };

  it('is charged for what it is', () => {
    const kind = { exponentialMechanism: 'bounded-range', topK: 'self-composition' }[name] ?? 'pure';
    const { event } = make(good);
    expect(event.kind).toBe(kind);
    expect(pureLoss(event)).toBe(name === 'topK' ? 1_000_000 : 500_000);
    expect(JSON.parse(JSON.stringify(event))).toEqual(event);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1e9 }), cost => {
        const times = name === 'topK' ? 2 : 1;
        expect(pureLoss(make({ ...good, cost: cost as MicroEpsilon }).event)).toBe(times * cost);
      }),
    );
  });

  it('names the neighbours that its sensitivity was derived under', () => {
    const sensitivity = lInfSensitivity(1, 'replace-one');
    const mechanism = exponentialMechanism({
      sensitivity,
      candidates: 2,
      cost: spendOf(1),
      neighboring: 'replace-one',
    });
    expect(mechanism.event).toMatchObject({ neighboring: 'replace-one' });
  });

  it('picks the best when the cost is no object', () => {
    const best = { ...good, cost: spendOf(10_000) };
    const { value } = make(best).release(held([1, 5, 9, 2]));
    expect(name === 'topK' ? value : [value, 1]).toEqual([2, 1]);
  });

  it('never fails because of what the scores are', () => {
    for (const scores of [
      [],
      [Number.NaN, Number.POSITIVE_INFINITY, -0, 5e-324],
      ['9', null, 2 ** 53, 1n],
      [Number.MAX_SAFE_INTEGER, Number.MIN_SAFE_INTEGER, 0, 0],
      Array(1000).fill(7),
    ]) {
      const { value } = make(good).release(held(scores));
      for (const index of [value].flat()) expect([0, 1, 2, 3]).toContain(index);
    }
  });

  it('releases once', () => {
    const scores = held([1, 2, 3, 4]);
    make(good).release(scores);
    expect(() => make(good).release(scores)).toThrow(/one charge, one release/);
  });

  it('is done with 65,536 candidates of which one is far ahead', () => {
    const scores = Array(65_536).fill(0);
    scores[40_000] = 1e15;
    const { value } = make({ ...good, candidates: 65_536, cost: spendOf(100) }).release(held(scores));
    expect([value].flat()[0]).toBe(40_000);
  });

  it('refuses parameters that are none', () => {
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, 0, -0, -1, 0.5, 5e-324, 2 ** 53, 1n, '1', null]) {
      for (const option of ['sensitivity', 'candidates', 'cost'])
        expect(() => make({ ...good, [option]: value })).toThrow(
          expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
        );
    }
    expect(() => make({ ...good, candidates: 2 ** 20 + 1 })).toThrow(/2\^20/);
    expect(() => make({ ...good, monotonic: 'yes' as unknown as boolean })).toThrow(/monotonic/);
    expect(() => make({ ...good, sensitivity: 0 as LInfSensitivity })).toThrow(
      expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
    );
  });
});

describe('top k', () => {
  it('refuses a k that is none', () => {
    for (const k of [0, 4, 1.5, Number.NaN, '1' as unknown as number])
      expect(() => topK({ sensitivity: one, candidates: 3, k, cost: spendOf(1) })).toThrow(/k is an integer/);
  });
});
