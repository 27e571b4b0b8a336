// The postcondition of privacy/dp/noise/laplace-mechanism.proof.md.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  errorBar,
  type L1Sensitivity,
  l1Sensitivity,
  laplaceMechanism,
  obliviousLaplace,
  pureLoss,
  randomBits,
  sampleDiscreteLaplace,
} from '../../../privacy/dp/index.ts';
import { Private } from '../../../privacy/dp/private.ts';
import { type MicroEpsilon, microEpsilon, spendOf } from '../../../src/base/index.ts';
import { seededRandom } from './bits.ts';

const one = l1Sensitivity(1);
const held = (...cells: number[]): Private<readonly number[]> => new Private<readonly number[]>(cells);
const sensitivities = fc.integer({ min: 1, max: 2 ** 30 }).map(l1Sensitivity);
const costs = fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 10 ** 12 })).map(microEpsilon);

describe('discrete Laplace mechanism', () => {
  it('has a loss of exactly its cost, in rational arithmetic', () => {
    fc.assert(
      fc.property(sensitivities, costs, (sensitivity, cost) => {
        const { scale, event } = laplaceMechanism({ sensitivity, cells: 1, cost });
        expect(BigInt(cost) * scale.numerator).toBe(BigInt(sensitivity) * 1_000_000n * scale.denominator);
        expect(pureLoss(event)).toBe(cost);
        expect(JSON.parse(JSON.stringify(event))).toEqual(event);
      }),
    );
  });

  it('adds what the sampler draws, cell by cell', () => {
    fc.assert(
      fc.property(
        sensitivities,
        costs,
        fc.array(fc.integer(), { minLength: 1, maxLength: 20 }),
        fc.integer(),
        (sensitivity, cost, cells, seed) => {
          const mechanism = laplaceMechanism({ sensitivity, cells: cells.length, cost, random: seededRandom(seed) });
          const bits = randomBits(seededRandom(seed));
          const draw = obliviousLaplace(mechanism.scale) ?? (from => sampleDiscreteLaplace(mechanism.scale, from));
          const expected = cells.map(cell => Number(BigInt(cell) + BigInt(draw(bits))));
          expect(mechanism.release(held(...cells)).value).toEqual(expected);
        },
      ),
    );
  });

  it('says what it did', () => {
    const mechanism = laplaceMechanism({ sensitivity: one, cells: 2, cost: spendOf(0.5) });
    const released = mechanism.release(held(1000, 0));
    expect(released).toEqual({
      kind: 'released',
      value: [expect.any(Number), expect.any(Number)],
      event: { kind: 'discrete-laplace', sensitivity: 1, scale: { numerator: '2', denominator: '1' } },
      cost: 500_000,
      errorBar: 6,
      nonNegative: false,
    });
    expect(Object.isFrozen(released) && Object.isFrozen(released.value)).toBe(true);
    expect(mechanism.errorBar).toBe(Number(errorBar(mechanism.scale, 95)));
  });

  it('keeps negative counts unless told otherwise, and then only clamps the noised sum', () => {
    for (let seed = 0; seed < 20; seed++) {
      const options = { sensitivity: one, cells: 50, cost: spendOf(0.1) };
      const raw = laplaceMechanism({ ...options, random: seededRandom(seed) }).release(held(...Array(50).fill(0)));
      const clamped = laplaceMechanism({ ...options, nonNegative: true, random: seededRandom(seed) }).release(
        held(...Array(50).fill(0)),
      );
      expect(Math.min(...raw.value)).toBeLessThan(0);
      expect(clamped.value).toEqual(raw.value.map(cell => Math.max(0, cell)));
      expect(clamped.nonNegative).toBe(true);
    }
  });

  it('cuts sums at 2^53 - 1 after the noise, not the noise', () => {
    const largest = Number.MAX_SAFE_INTEGER;
    const mechanism = laplaceMechanism({ sensitivity: l1Sensitivity(2 ** 30), cells: 200, cost: microEpsilon(1) });
    const { value } = mechanism.release(held(...Array(100).fill(largest), ...Array(100).fill(-largest)));
    expect(value.every(cell => Number.isSafeInteger(cell))).toBe(true);
    expect(value.slice(0, 100)).toContain(largest);
    expect(value.slice(100)).toContain(-largest);
    expect(new Set(value).size).toBeGreaterThan(50);
  });

  it('never fails because of what the answer holds', () => {
    const run = (cells: unknown): readonly number[] =>
      laplaceMechanism({ sensitivity: one, cells: 3, cost: microEpsilon(10 ** 12) }).release(
        new Private(cells as readonly number[]),
      ).value;
    // At epsilon 1e6 the noise is 0 but for a probability of exp(-1e6), so what remains is the answer itself.
    expect(run([Number.NaN, Number.POSITIVE_INFINITY, 0.5])).toEqual([0, 0, 0]);
    expect(run([7])).toEqual([7, 0, 0]);
    expect(run([1, 2, 3, 4])).toEqual([1, 2, 3]);
    expect(run(['5', null, 2 ** 53])).toEqual([0, 0, 0]);
  });

  it('releases an answer once', () => {
    const mechanism = laplaceMechanism({ sensitivity: one, cells: 1, cost: spendOf(1) });
    const answer = held(3);
    mechanism.release(answer);
    expect(() => mechanism.release(answer)).toThrow(/one charge, one release/);
  });

  it('draws other noise each time', () => {
    const draw = (): string =>
      laplaceMechanism({ sensitivity: one, cells: 100, cost: spendOf(0.01) })
        .release(held(...Array(100).fill(0)))
        .value.join();
    expect(new Set(Array.from({ length: 20 }, draw)).size).toBe(20);
  });

  it('refuses parameters that are none', () => {
    const bad = [
      Number.NaN,
      Number.POSITIVE_INFINITY,
      Number.NEGATIVE_INFINITY,
      0,
      -0,
      -1,
      0.5,
      5e-324,
      2 ** 53,
      '1',
      null,
    ];
    const good = { sensitivity: one, cells: 1, cost: spendOf(1) };
    for (const value of bad) {
      const refused = { code: 'DP_INVALID_PARAMETER' };
      for (const name of ['sensitivity', 'cells', 'cost'] as const) {
        expect(() => laplaceMechanism({ ...good, [name]: value })).toThrow(expect.objectContaining(refused));
      }
      expect(() => l1Sensitivity(value as number)).toThrow(expect.objectContaining(refused));
    }
    expect(() => l1Sensitivity(2 ** 30 + 1)).toThrow(/2\^30/);
    expect(() => laplaceMechanism({ ...good, cells: 65_537 })).toThrow(/65,536/);
    expect(() => laplaceMechanism({ ...good, sensitivity: 2 as L1Sensitivity, cost: 0 as MicroEpsilon })).toThrow(
      /micro-epsilon/,
    );
  });
});
