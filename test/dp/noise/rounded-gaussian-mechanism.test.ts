import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { costIn } from '../../../privacy/budget/index.ts';
import { holdPrivate, rho, roundedGaussianMechanism, squaredL2Sensitivity } from '../../../privacy/dp/index.ts';
import { randomBits } from '../../../privacy/dp/noise/bits.ts';
import { sampleRoundedGaussian } from '../../../privacy/dp/noise/rounded-gaussian.ts';
import { seededRandom } from './bits.ts';

const loss = fc.double({ min: 1e-9, max: 1000, noNaN: true });
const squared = fc.integer({ min: 1, max: 100_000 });
const make = (S: number, r: number, seed = 1, cells = 1) =>
  roundedGaussianMechanism({
    ...{ squaredL2Sensitivity: squaredL2Sensitivity(S), cells, rho: rho(r) },
    random: seededRandom(seed),
  });

/** A float as a fraction, exactly. */
const exact = (x: number): [bigint, bigint] => {
  let shift = 0;
  for (let y = x; !Number.isInteger(y); y *= 2) shift++;
  return [BigInt(x * 2 ** shift), 1n << BigInt(shift)];
};

describe('the rounded Gaussian mechanism (rounded-gaussian-mechanism.proof.md)', () => {
  it('costs at most what was asked for, in rational arithmetic', () => {
    fc.assert(
      fc.property(squared, loss, (S, r) => {
        const { sigma, event } = make(S, r);
        const [n, d] = exact(r);
        // sigma^2 >= S / (2 rho)
        expect(2n * n * sigma.numerator ** 2n >= BigInt(S) * d * sigma.denominator ** 2n).toBe(true);
        // multiplier^2 S <= sigma^2, and by a hair
        const [a, b] = exact(event.noiseMultiplier);
        expect(a ** 2n * BigInt(S) * sigma.denominator ** 2n <= sigma.numerator ** 2n * b ** 2n).toBe(true);
        expect(event.noiseMultiplier * Math.sqrt(S)).toBeCloseTo(
          Number(sigma.numerator) / Number(sigma.denominator),
          Math.max(0, 8 - Math.ceil(Math.log10(Number(sigma.numerator) / Number(sigma.denominator) + 1))),
        );
        const cost = costIn('gdp', event, { adjacency: 'add-remove' }) as number;
        expect(cost).toBeLessThanOrEqual(Math.ceil(2e12 * r * (1 + 1e-9)) + 1);
      }),
      { examples: [[1, 0.125]] },
    );
  });

  it('adds the nearest integer to the exact noise', () => {
    for (const [S, r] of [
      [1, 0.125],
      [7, 0.3],
      [1, 400],
      [90_001, 1e-6],
    ] as const) {
      const mechanism = make(S, r, 5, 200);
      const parts = (mechanism.sigma.denominator << 24n) / mechanism.sigma.numerator;
      const bits = randomBits(seededRandom(5));
      const wanted = Array.from({ length: 200 }, () => {
        const doubled = 2n * BigInt(sampleRoundedGaussian(24, bits)) + parts;
        const rest = ((doubled % (2n * parts)) + 2n * parts) % (2n * parts);
        return Number((doubled - rest) / (2n * parts));
      });
      expect(mechanism.release(holdPrivate(new Array<number>(200).fill(0))).value).toEqual(wanted);
    }
  });

  it('has the mean and the deviation that it says, and stays within its error bar 95 times of 100', () => {
    const cells = 20_000;
    const mechanism = make(1, 1 / 18, 11, cells); // sigma 3
    const { value, errorBar } = mechanism.release(holdPrivate(new Array<number>(cells).fill(1000)));
    const noise = value.map(cell => cell - 1000);
    const mean = noise.reduce((sum, z) => sum + z, 0) / cells;
    const variance = noise.reduce((sum, z) => sum + z * z, 0) / cells;
    // Six deviations of each: false alarms once in 1e9. The rounding adds a twelfth to the variance.
    expect(Math.abs(mean)).toBeLessThan((6 * 3) / Math.sqrt(cells));
    expect(Math.abs(variance - 9 - 1 / 12)).toBeLessThan(6 * 9.1 * Math.sqrt(2 / cells));
    expect(noise.filter(z => Math.abs(z) <= errorBar).length / cells).toBeGreaterThan(0.95);
  });

  it('refuses a deviation that it cannot draw', () => {
    for (const [S, r] of [
      [100_000, 1e-12],
      [1, 1e-16],
    ] as const) {
      expect(() => make(S, r)).toThrowError(/deviation of the noise is from 2\^-16 to 2\^24 steps/);
    }
  });
});
