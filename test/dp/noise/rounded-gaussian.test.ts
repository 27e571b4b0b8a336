// The postcondition of privacy/dp/noise/rounded-gaussian.proof.md.
import { describe, expect, it } from 'vitest';

import { type Bits, enumerateOutcomes, randomBits } from '../../../privacy/dp/index.ts';
import { sampleRoundedGaussian } from '../../../privacy/dp/noise/rounded-gaussian.ts';
import { osRandom } from '../../../src/base/index.ts';
import { seededRandom } from './bits.ts';

/** P[N < x] for x from -8 to 8, by Simpson's rule from 0. */
function normal(x: number): number {
  const steps = 2000;
  const h = x / steps;
  let sum = 1 + Math.exp((-x * x) / 2);
  for (let i = 1; i < steps; i++) sum += (i % 2 === 1 ? 4 : 2) * Math.exp(-((i * h) ** 2) / 2);
  return 0.5 + (sum * h) / 3 / Math.sqrt(2 * Math.PI);
}

/** Pearson's chi-square on the cells from -3 to 3 deviations, with the tails as two; false alarm 1e-9 (Wilson-Hilferty, z = 6). */
function isOff(shift: number, n: number, draw: (shift: number, bits: Bits) => number, bits: Bits): boolean {
  const cells = Math.min(24, 6 * 2 ** shift);
  const cut = (i: number): number => Math.floor(((i / cells) * 6 - 3) * 2 ** shift);
  const counts = new Array<number>(cells + 2).fill(0);
  for (let k = 0; k < n; k++) {
    const y = draw(shift, bits);
    let cell = 0;
    while (cell <= cells && y >= cut(cell)) cell++;
    counts[cell]!++;
  }
  let statistic = 0;
  let before = 0;
  for (let cell = 0; cell <= cells + 1; cell++) {
    const upTo = cell > cells ? 1 : normal(cut(cell) / 2 ** shift);
    const expected = n * (upTo - before);
    before = upTo;
    statistic += (counts[cell]! - expected) ** 2 / expected;
  }
  const freedom = cells + 1;
  return (Math.cbrt(statistic / freedom) - (1 - 2 / (9 * freedom))) / Math.sqrt(2 / (9 * freedom)) > 6;
}

describe('rounded Gaussian', () => {
  it.each([0, 1, 4, 20])('has the law of a normal number rounded down, shift %i', shift => {
    expect(isOff(shift, 60_000, sampleRoundedGaussian, randomBits(osRandom))).toBe(false);
  });

  it.each<[string, (shift: number, bits: Bits) => number]>([
    ['rounds towards nought', (shift, bits) => Math.max(0, sampleRoundedGaussian(shift, bits))],
    ['is 3% short', (shift, bits) => Math.floor(0.97 * (sampleRoundedGaussian(shift, bits) + 0.5))],
    ['leans by a sixteenth', (shift, bits) => sampleRoundedGaussian(shift, bits) + 2 ** shift / 16],
  ])('the fit catches a sampler that %s', (_, draw) => {
    expect(isOff(4, 60_000, draw, randomBits(seededRandom(1)))).toBe(true);
  });

  it('is symmetric around minus one half, by enumeration', () => {
    // Comparisons draw 24 bits at a time: cut to their first bits, so that strings stay short.
    const coarse = (bits: Bits): Bits => ({
      take: count => (count === 24 ? bits.take(2) * 2 ** 22 : bits.take(count)),
    });
    const { mass } = enumerateOutcomes(bits => sampleRoundedGaussian(1, coarse(bits)), { depth: 16 });
    for (const [outcome, share] of mass) expect(mass.get(String(-Number(outcome) - 1))).toBe(share);
    expect(mass.size).toBeGreaterThan(3);
  });
});
