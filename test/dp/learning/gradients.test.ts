// The postconditions of privacy/dp/learning/gradients.proof.md.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { epsilonOf } from '../../../privacy/dp/accounting/index.ts';
import {
  type GradientOptions,
  gradientSum,
  holdPrivate,
  poissonSampling,
  prefixSums,
  trainLinearModel,
} from '../../../privacy/dp/index.ts';
import { clipToGrid, gradientGrid } from '../../../privacy/dp/learning/gradients.ts';
import { gradientOf } from '../../../privacy/dp/learning/linear-model.ts';
import { seededRandom } from '../noise/bits.ts';

const BAD = [Number.NaN, Number.POSITIVE_INFINITY, 0, -0, -1, 5e-324, 1e300, 1n, '1', null, undefined];
const norm = (vector: ArrayLike<number>): number => Math.sqrt(Array.from(vector).reduce((sum, x) => sum + x * x, 0));

describe('clipping', () => {
  const gradient = (length: number) =>
    fc.array(fc.oneof(fc.double(), fc.double({ min: -10, max: 10 }), fc.constantFrom(1e308, -1e308, 5e-324)), {
      minLength: length,
      maxLength: length,
    });
  const options = fc.record({
    dimensions: fc.integer({ min: 1, max: 40 }),
    clip: fc.constantFrom(1, 0.1, 1e-9, 3.7, 1e9),
    noiseMultiplier: fc.constantFrom(0.1, 1, 1.1, 7.3, 100, 1000),
  });
  const cases = options.chain(one => fc.tuple(fc.constant(one), gradient(one.dimensions)));

  it('is never longer than the noise was made for, whatever the gradient', () => {
    fc.assert(
      fc.property(cases, ([one, raw]) => {
        const grid = gradientGrid(one);
        const rounded = clipToGrid(raw, grid);
        if (!rounded) return;
        const squares = [...rounded].reduce((sum, x) => sum + BigInt(x) ** 2n, 0n);
        // z times the length is at most the deviation of the noise, in exact arithmetic: z^2 squares <= 2^40.
        const [z, scale] = [BigInt(Math.round(one.noiseMultiplier * 10)), 100n];
        expect(z * z * squares <= scale * 2n ** 40n).toBe(true);
      }),
      { numRuns: 500 },
    );
  });

  it('keeps what is short, shortens what is long, and leaves out what is none', () => {
    fc.assert(
      fc.property(cases, ([one, raw]) => {
        const grid = gradientGrid(one);
        const rounded = clipToGrid(raw, grid);
        if (!raw.every(Number.isFinite)) {
          expect(rounded).toBeUndefined();
          return;
        }
        expect(rounded).toBeDefined();
        const length = norm(raw);
        if (length > 1e150) return; // the check below would overflow
        const shrink = Math.min(1, one.clip / length);
        for (let i = 0; i < raw.length; i++)
          expect(Math.abs(rounded![i]! * grid.step - (length === 0 ? 0 : raw[i]! * shrink))).toBeLessThanOrEqual(
            0.51 * grid.step,
          );
      }),
      { numRuns: 500 },
    );
  });
});

describe('a noised sum of gradients', () => {
  const options: GradientOptions = { dimensions: 3, clip: 2, noiseMultiplier: 0.05 };

  it('moves no sum by more than the clipping norm, and is the sum when nothing is clipped', () => {
    const run = (rows: readonly number[][]): readonly number[] =>
      gradientSum({ ...options, random: seededRandom(5) }).release(holdPrivate(rows)).value;
    const rows = Array.from({ length: 50 }, (_, i) => [Math.sin(i), Math.cos(i), 0.5]);
    const far = [1e6, -1e6, 3e5];
    const [without, withOne] = [run(rows), run([...rows, far])];
    expect(norm(without.map((x, i) => x - withOne[i]!))).toBeLessThanOrEqual(2 * (1 + 1e-6));
    expect(norm(without.map((x, i) => x - withOne[i]!))).toBeGreaterThan(1.99);
    const truth = [0, 1, 2].map(i => rows.reduce((sum, row) => sum + row[i]!, 0));
    for (let i = 0; i < 3; i++) expect(Math.abs(without[i]! - truth[i]!)).toBeLessThan(6 * 0.1 + 1e-3);
  });

  it('has noise of the stated deviation', () => {
    const step = gradientSum({ dimensions: 4000, clip: 3, noiseMultiplier: 2, random: seededRandom(6) });
    const { value } = step.release(holdPrivate([]));
    const variance = value.reduce((sum, x) => sum + x * x, 0) / value.length;
    // Chi-square with 4,000 degrees: six standard deviations are 13%.
    expect(Math.abs(variance / 36 - 1)).toBeLessThan(0.134);
  });

  it('never fails because of gradients, and refuses parameters that are none', () => {
    const rows = [[1, 2], [Number.NaN, 0, 0], null, 'abc', [1, 2, '3'], undefined, [1n, 0, 0]] as unknown as number[][];
    const { value } = gradientSum({ ...options, random: seededRandom(1) }).release(holdPrivate(rows));
    const empty = gradientSum({ ...options, random: seededRandom(1) }).release(holdPrivate([])).value;
    expect(value).toEqual(empty);
    for (const bad of BAD)
      for (const option of ['dimensions', 'clip', 'noiseMultiplier'])
        expect(() => gradientSum({ ...options, [option]: bad })).toThrow(
          expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
        );
    expect(() => gradientSum({ dimensions: 2 ** 20, clip: 1, noiseMultiplier: 2 ** 14 })).toThrow(/many dimensions/);
  });

  it('amplified by a Poisson sample it is what accountants know as DP-SGD', () => {
    const event = poissonSampling(0.01).amplify(gradientSum({ dimensions: 10, clip: 1, noiseMultiplier: 1 }).event);
    const { upper } = epsilonOf({ kind: 'self-composition', event, count: 10_000 }, { delta: 1e-5 });
    expect(upper).toBeGreaterThan(6.18);
    expect(upper).toBeLessThan(6.2); // dp_accounting: 6.1877
  });
});

describe('prefix sums', () => {
  it('have the noise of their nodes, and of no others', () => {
    const steps = 16;
    const sums = prefixSums({ dimensions: 2000, clip: 1, noiseMultiplier: 1, steps, random: seededRandom(2) });
    const released = Array.from({ length: steps }, () => sums.add(holdPrivate([])).value);
    for (let t = 1; t <= steps; t++) {
      const nodes = [...t.toString(2)].filter(digit => digit === '1').length;
      const variance = released[t - 1]!.reduce((sum, x) => sum + x * x, 0) / 2000;
      expect(Math.abs(variance / nodes - 1)).toBeLessThan(0.19); // six standard deviations
    }
    // After step 6 = 4 + 2 the node of the first four is the one that was released after step 4.
    const covariance = (a: readonly number[], b: readonly number[]): number =>
      a.reduce((sum, x, i) => sum + x * b[i]!, 0) / 2000;
    expect(covariance(released[3]!, released[5]!)).toBeGreaterThan(0.8);
    expect(Math.abs(covariance(released[3]!, released[7]!))).toBeLessThan(0.2);
    expect(sums.remaining).toBe(0);
    const unread = holdPrivate([[1]]);
    expect(() => sums.add(unread)).toThrow(expect.objectContaining({ code: 'POLICY_REFUSED' }));
  });

  it('are the sums of all steps so far', () => {
    const sums = prefixSums({ dimensions: 1, clip: 1000, noiseMultiplier: 0.05, steps: 40 });
    for (let t = 1; t <= 40; t++) {
      const [value] = sums.add(holdPrivate([[700], [-200]])).value;
      expect(Math.abs(value! - 500 * t)).toBeLessThan(50 * 6 * 6);
    }
  });

  it('refuse parameters that are none', () => {
    const good = { dimensions: 1, clip: 1, noiseMultiplier: 1, steps: 4 };
    for (const bad of BAD)
      for (const option of Object.keys(good))
        expect(() => prefixSums({ ...good, [option]: bad })).toThrow(
          expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
        );
  });
});

describe('a linear model', () => {
  it('has the gradients that differences show', () => {
    const loss = {
      logistic: (scores: number[], target: number) =>
        Math.log(scores.reduce((sum, score) => sum + Math.exp(score), 0)) - scores[target]!,
      linear: (scores: number[], target: number[]) =>
        scores.reduce((sum, score, j) => sum + (score - target[j]!) ** 2 / 2, 0),
    };
    const value = fc.double({ min: -2, max: 2, noNaN: true });
    const vector = (length: number) => fc.array(value, { minLength: length, maxLength: length });
    fc.assert(
      fc.property(
        fc.constantFrom('logistic' as const, 'linear' as const),
        vector(2),
        vector(9),
        vector(3),
        (kind, x, w, y) => {
          const target = kind === 'logistic' ? 1 : y;
          const at = (parameters: readonly number[]): number => {
            const scores = [0, 1, 2].map(
              j => parameters[3 * j]! * x[0]! + parameters[3 * j + 1]! * x[1]! + parameters[3 * j + 2]!,
            );
            return (loss[kind] as (scores: number[], target: unknown) => number)(scores, target);
          };
          const gradient = gradientOf({ features: x, target }, Float64Array.from(w), { kind, features: 2, outputs: 3 });
          for (let i = 0; i < 9; i++) {
            const difference = (at(w.with(i, w[i]! + 1e-5)) - at(w.with(i, w[i]! - 1e-5))) / 2e-5;
            expect(gradient[i]).toBeCloseTo(difference, 4);
          }
        },
      ),
      { numRuns: 50 },
    );
  });

  const common = { population: 4000, rate: 0.1, steps: 60, learningRate: 1, clip: 1, noiseMultiplier: 1 };

  it('learns what there is to learn', () => {
    const random = seededRandom(9);
    const point = (i: number): number[] => [Math.sin(i * 12.9898) * 1.5, Math.cos(i * 78.233)];
    const classOf = (x: number[]): number => Number(x[0]! + 0.5 * x[1]! > 0);
    const examples = Array.from({ length: 4000 }, (_, i) => ({ features: point(i), target: classOf(point(i)) }));
    const head = trainLinearModel({ ...common, kind: 'logistic', features: 2, outputs: 2, random });
    const { weights, bias } = head.release(holdPrivate(examples)).value;
    const score = (x: number[], j: number): number => bias[j]! + weights[j]![0]! * x[0]! + weights[j]![1]! * x[1]!;
    const right = examples.filter(({ features: x, target }) => Number(score(x, 1) > score(x, 0)) === target).length;
    expect(right / 4000).toBeGreaterThan(0.95);
    const line = trainLinearModel({ ...common, kind: 'linear', features: 1, outputs: 1, steps: 150, random });
    const pairs = Array.from({ length: 4000 }, (_, i) => ({
      features: [(i % 21) / 10 - 1],
      target: 0.8 * ((i % 21) / 10 - 1) + 0.3,
    }));
    const fitted = line.release(holdPrivate(pairs)).value;
    expect(Math.abs(fitted.weights[0]![0]! - 0.8)).toBeLessThan(0.1);
    expect(Math.abs(fitted.bias[0]! - 0.3)).toBeLessThan(0.1);
  });

  it('says what it costs before it reads anything', () => {
    const { event } = trainLinearModel({ ...common, kind: 'linear', features: 1, outputs: 1 });
    expect(event).toEqual({
      kind: 'self-composition',
      count: 60,
      event: {
        kind: 'poisson-subsampled',
        rate: 0.1,
        event: { kind: 'gaussian', noiseMultiplier: 1, neighboring: 'add-remove' },
      },
    });
    expect(epsilonOf(event, { delta: 1e-5 }).upper).toBeLessThan(6);
  });

  it('never fails because of examples, and refuses parameters that are none', () => {
    const good = { ...common, kind: 'logistic' as const, features: 2, outputs: 2, steps: 2 };
    const examples = [
      null,
      {},
      { features: [1], target: 0 },
      { features: [1, Number.NaN], target: 0 },
      { features: [1n, 2], target: 0 },
      { features: [1, 2], target: 7 },
    ];
    const { value } = trainLinearModel(good).release(holdPrivate(examples as never));
    expect([...value.weights.flat(), ...value.bias].every(Number.isFinite)).toBe(true);
    for (const bad of BAD)
      for (const option of Object.keys(good))
        expect(() => trainLinearModel({ ...good, [option]: bad }), `${option} ${String(bad)}`).toThrow(
          expect.objectContaining({ code: expect.stringMatching(/DP_INVALID_PARAMETER|INVALID_ARGUMENT/) }),
        );
  });
});
