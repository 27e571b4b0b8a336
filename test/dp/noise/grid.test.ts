// The postcondition of privacy/dp/noise/grid.proof.md.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  floatGrid,
  gridL1Sensitivity,
  gridSquaredL2Sensitivity,
  laplaceMechanism,
  quantise,
} from '../../../privacy/dp/index.ts';
import { Private } from '../../../privacy/dp/private.ts';
import { spendOf } from '../../../src/base/index.ts';
import { seededRandom } from './bits.ts';

const refused = expect.objectContaining({ code: 'DP_INVALID_PARAMETER' });
const finite = fc.double({ min: -100, max: 100, noNaN: true });
const exponents = fc.integer({ min: -30, max: 3 });

/** A float as an integer multiple of 2^-1074. */
function exact(value: number): bigint {
  let scaled = value;
  let power = 0n;
  while (!Number.isInteger(scaled)) {
    scaled *= 2;
    power++;
  }
  return BigInt(scaled) << (1074n - power);
}

describe('a grid', () => {
  it('moves by no more than the sensitivity it states, in rational arithmetic', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(finite, finite), { minLength: 1, maxLength: 6 }), exponents, (pairs, exponent) => {
        const grid = floatGrid({ exponent, low: -64, high: 96 });
        const cells = pairs.length;
        // The norms of the change, rounded up: exact differences, in floats above them.
        const differences = pairs.map(([a, b]) => exact(a) - exact(b)).map(value => (value < 0n ? -value : value));
        const above = (value: bigint): number => (Number((value >> 974n) + 1n) / 2 ** 100) * (1 + 2 ** -50);
        const l1 = above(differences.reduce((sum, value) => sum + value, 0n));
        const l2 = Math.sqrt(differences.reduce((sum, value) => sum + above(value) ** 2, 0)) * (1 + 2 ** -48);
        const moved = pairs.map(([a, b]) => Math.abs(quantise(grid, a) - quantise(grid, b)));
        const within = (limit: () => number): number => {
          try {
            return limit();
          } catch (error) {
            expect(error).toEqual(refused); // too fine a grid: no noise is made for that many steps
            return Infinity;
          }
        };
        expect(moved.reduce((sum, steps) => sum + steps, 0)).toBeLessThanOrEqual(
          within(() => gridL1Sensitivity(grid, { change: l1, cells })),
        );
        expect(moved.reduce((sum, steps) => sum + steps ** 2, 0)).toBeLessThanOrEqual(
          within(() => gridSquaredL2Sensitivity(grid, { change: l2, cells })),
        );
      }),
      { numRuns: 2000 },
    );
  });

  it('needs the step that rounding adds: one less would be passed', () => {
    const grid = floatGrid({ exponent: 0, low: 0, high: 10 });
    const [x, y] = [1.4999999, 2.5];
    expect(quantise(grid, y) - quantise(grid, x)).toBe(2);
    expect(gridL1Sensitivity(grid, { change: y - x, cells: 1 })).toBe(2);
    expect(gridSquaredL2Sensitivity(grid, { change: 1, cells: 1 })).toBe(4);
    expect(gridSquaredL2Sensitivity(grid, { change: 3, cells: 4 })).toBe(25); // (3 + 2)^2
    expect(gridSquaredL2Sensitivity(grid, { change: 1, cells: 2 })).toBe(5); // (1 + 1.414)^2 = 5.83
  });

  it('rounds to the nearest step, clamps, imputes, and never gives -0', () => {
    const grid = floatGrid({ exponent: -1, low: -1.9, high: 2.3 });
    expect(grid).toEqual({ step: 0.5, low: -1.5, high: 2, impute: 0.5 });
    const cases: [unknown, number][] = [
      [0.3, 1],
      [-0.1, 0],
      [-0, 0],
      [5e-324, 0],
      [Infinity, 4],
      [-Infinity, -3],
      [1e308, 4],
      [Number.NaN, 1],
      [undefined, 1],
      [null, 1],
      ['2', 1],
      [{}, 1],
      [2n ** 2000n, 4],
      [-3n, -3],
    ];
    for (const [value, steps] of cases) expect(quantise(grid, value)).toBe(steps);
    expect(floatGrid({ exponent: 0, low: 0, high: 10, impute: 99 }).impute).toBe(10);
    expect(Object.is(floatGrid({ exponent: 0, low: -0.5, high: 10 }).low, 0)).toBe(true);
  });

  it('gives back what was on it already, up to 2^53 - 1 steps', () => {
    fc.assert(
      fc.property(fc.maxSafeInteger(), fc.integer({ min: -512, max: 512 }), (steps, exponent) => {
        const step = 2 ** exponent;
        const most = Number.MAX_SAFE_INTEGER * step;
        expect(quantise(floatGrid({ exponent, low: -most, high: most }), steps * step)).toBe(steps + 0);
      }),
    );
  });

  it('is what a mechanism releases on: multiples of the step, saturated at 2^53 - 1 of them', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double(), { minLength: 1, maxLength: 5 }),
        exponents,
        fc.integer(),
        (cells, exponent, seed) => {
          const grid = floatGrid({ exponent, low: -8, high: 8 });
          const sensitivity = gridL1Sensitivity(grid, { change: 2 * grid.step, cells: 1 });
          const mechanism = laplaceMechanism({
            ...{ sensitivity, cells: cells.length, grid, cost: spendOf(0.1), random: seededRandom(seed) },
          });
          const { value, errorBar } = mechanism.release(new Private<readonly number[]>(cells));
          for (const cell of value) expect(Number.isSafeInteger(cell / grid.step)).toBe(true);
          expect(errorBar).toBeGreaterThan(30 * grid.step);
        },
      ),
      { numRuns: 200 },
    );
    const most = Number.MAX_SAFE_INTEGER;
    const grid = floatGrid({ exponent: 0, low: -most, high: most });
    const mechanism = laplaceMechanism({
      sensitivity: gridL1Sensitivity(grid, { change: 1, cells: 1 }),
      cells: 100,
      grid,
      cost: spendOf(1),
    });
    const { value } = mechanism.release(new Private<readonly number[]>(Array(100).fill(Infinity)));
    expect(value.every(cell => cell <= most && cell > most - 1000)).toBe(true);
    expect(value).toContain(most);
  });

  it('refuses parameters that are none', () => {
    const good = { exponent: 0, low: 0, high: 1 };
    const bad: object[] = [
      ...[Number.NaN, 0.5, 513, -513, '0', undefined, 1n].map(exponent => ({ exponent })),
      ...[Number.NaN, Infinity, -Infinity, '0', undefined, 1n].flatMap(bound => [{ low: bound }, { high: bound }]),
      { low: 2 },
      { low: 0.25, high: 0.75 },
      { high: 2 ** 53 },
      { impute: Number.NaN },
    ];
    for (const change of bad) expect(() => floatGrid({ ...good, ...change } as never)).toThrow(refused);
    const grid = floatGrid(good);
    for (const change of [0, -0, -1, Number.NaN, Infinity, 2 ** 53, '1', 1n, undefined]) {
      expect(() => gridL1Sensitivity(grid, { change: change as number, cells: 1 })).toThrow(refused);
      expect(() => gridSquaredL2Sensitivity(grid, { change: change as number, cells: 1 })).toThrow(refused);
    }
    for (const cells of [0, -1, 0.5, 65_537, Number.NaN, '1']) {
      expect(() => gridL1Sensitivity(grid, { change: 1, cells: cells as number })).toThrow(refused);
    }
    expect(gridL1Sensitivity(grid, { change: 5e-324, cells: 1 })).toBe(1);
  });
});
