// The postcondition of privacy/dp/noise/oblivious.proof.md.
import { describe, expect, it } from 'vitest';

import { obliviousGaussian, obliviousLaplace, randomBits } from '../../../privacy/dp/index.ts';
import type { Bits } from '../../../privacy/dp/noise/bits.ts';
import { cumulative, gaussianWeights, laplaceWeights, tableSampler } from '../../../privacy/dp/noise/oblivious.ts';
import type { Rational } from '../../../privacy/dp/noise/rational.ts';
import { osRandom } from '../../../src/base/index.ts';
import { seededRandom } from './bits.ts';
import { gaussianLaw, laplaceLaw, misfit } from './fit.ts';

const ratio = (numerator: number, denominator = 1): Rational => ({
  numerator: BigInt(numerator),
  denominator: BigInt(denominator),
});
const quotient = ({ numerator, denominator }: Rational): number => Number(numerator) / Number(denominator);

/** Gives pieces of 24 bits as told, the sign first, then whatever `rest` gives. */
function pieces(sign: number, words: readonly number[], rest: Bits = randomBits(seededRandom(1))): Bits {
  let at = -1;
  return {
    take(count) {
      at++;
      if (at === 0) return sign;
      return at <= words.length ? words[at - 1]! : rest.take(count);
    },
  };
}

describe('noise from a table', () => {
  const LAWS = [
    ['Gaussian 1', gaussianWeights(ratio(1)), gaussianLaw(1)],
    ['Gaussian 1/4', gaussianWeights(ratio(1, 4)), gaussianLaw(0.25)],
    ['Gaussian 100', gaussianWeights(ratio(100)), gaussianLaw(100)],
    ['Gaussian 1024', gaussianWeights(ratio(1024)), gaussianLaw(1024)],
    ['Laplace 1/2', laplaceWeights(ratio(1, 2)), laplaceLaw(0.5)],
    ['Laplace 2', laplaceWeights(ratio(2)), laplaceLaw(2)],
    ['Laplace 8', laplaceWeights(ratio(8)), laplaceLaw(8)],
  ] as const;

  it.each(LAWS)('has the law of the distribution over all bit strings, ties included: %s', (_, weights, law) => {
    // With one limb, magnitudes change hands at digits of T_k: between them every string of 24 bits gives the same.
    const draw = tableSampler(weights, 1);
    const digits = cumulative(weights, 24).map(Number);
    const magnitude = (u: number, rest?: Bits): number => Math.abs(Number(draw(pieces(0, [u], rest))));
    let below = 0;
    for (const [k, digit] of digits.entries()) {
      const last = digits[k - 1] ?? -1;
      // Strings strictly between two thresholds.
      for (const u of [last + 1, digit - 1]) if (u > last && u < digit) expect(magnitude(u)).toBe(k);
      below = k;
    }
    expect(below).toBe(digits.length - 1);
    // At a threshold more bits decide: all zeros are below T_k (magnitude k), all ones above.
    const constant = (value: number): Bits => ({ take: count => (value === 0 ? 0 : 2 ** count - 1) });
    for (const [k, digit] of digits.entries()) {
      if (digits[k + 1] === digit || digits[k - 1] === digit) continue;
      expect(magnitude(digit, constant(0))).toBe(k);
      if (digit < 2 ** 24 - 1) expect(magnitude(digit, constant(1))).toBe(k + 1);
    }
    // The thresholds are those of the law, to the precision of floats.
    let inside = 0;
    for (const [k, digit] of digits.entries()) {
      inside += k === 0 ? law(0) : 2 * law(k);
      expect(Math.abs(digit / 2 ** 24 - inside)).toBeLessThan(2 ** -24 + 1e-12);
    }
  });

  it.each(LAWS)('has thresholds that a slow computation in more digits confirms: %s', (_, { first, growth }) => {
    // exp by (1 + x/2^m)^(2^m) in 700 places: another algorithm, off by a relative x^2/2^m at most.
    const places = 700n;
    const m = 300n;
    const exp = ([n, d]: readonly [bigint, bigint]): bigint => {
      let value = (1n << places) + (n << places) / (d << m);
      for (let i = 0n; i < m; i++) value = (value * value) >> places;
      return value;
    };
    const shrink = exp(growth);
    let step = exp(first);
    let weight = 1n << places;
    const sums = [weight];
    while (weight > 0n) {
      weight = (weight * step) >> places;
      step = (step * shrink) >> places;
      sums.push(sums.at(-1)! + 2n * weight);
    }
    for (const wanted of [24, 96, 144]) {
      const digits = cumulative({ first, growth }, wanted);
      expect(digits.map((_, k) => (sums[k]! << BigInt(wanted)) / sums.at(-1)!)).toEqual(digits);
      expect(digits.at(-1)).toBe(2n ** BigInt(wanted) - 1n);
    }
  });

  it.each([
    [1, 1],
    [1, 4],
    [100, 1],
    [1024, 1],
  ])('fits the distribution, Gaussian with sigma squared %i/%i', (n, d) => {
    const bits = randomBits(osRandom);
    const draw = obliviousGaussian(ratio(n, d))!;
    expect(misfit(300_000, () => Number(draw(bits)), gaussianLaw(n / d))).toBeLessThan(6);
  });

  it.each([
    [1, 2],
    [2, 1],
    [8, 1],
  ])('fits the distribution, Laplace with scale %i/%i', (n, d) => {
    const bits = randomBits(osRandom);
    const draw = obliviousLaplace(ratio(n, d))!;
    expect(misfit(300_000, () => Number(draw(bits)), laplaceLaw(n / d))).toBeLessThan(6);
  });

  it('the fit catches a table for another parameter, or one entry short', () => {
    const bits = randomBits(seededRandom(1));
    const near = obliviousGaussian(ratio(97))!;
    expect(misfit(300_000, () => Number(near(bits)), gaussianLaw(100))).toBeGreaterThan(6);
    const draw = obliviousGaussian(ratio(100))!;
    const late = (): number => {
      const y = Number(draw(bits));
      return y === 0 ? 0 : y - Math.sign(y) * (Math.abs(y) > 3 ? 1 : 0);
    };
    expect(misfit(300_000, late, gaussianLaw(100))).toBeGreaterThan(6);
  });

  it('asks for 97 bits in the same pieces, whatever is drawn', () => {
    const asked = new Set<string>();
    for (let seed = 0; seed < 2000; seed++) {
      const bits = randomBits(seededRandom(seed));
      const counts: number[] = [];
      obliviousGaussian(ratio(4))!({
        take(count) {
          counts.push(count);
          return bits.take(count);
        },
      });
      asked.add(counts.join());
    }
    expect([...asked]).toEqual(['1,24,24,24,24']);
  });

  it('is not made for parameters whose table would be long, nor for those that move nothing', () => {
    expect([ratio(1024), ratio(1, 2 ** 20)].map(value => typeof obliviousGaussian(value))).toEqual([
      'function',
      'function',
    ]);
    expect([ratio(1025), ratio(1, 2 ** 21), ratio(2 ** 52)].map(obliviousGaussian)).toEqual([
      undefined,
      undefined,
      undefined,
    ]);
    expect([ratio(8), ratio(1, 2 ** 20)].map(value => typeof obliviousLaplace(value))).toEqual([
      'function',
      'function',
    ]);
    expect([ratio(81, 10), ratio(1, 2 ** 21)].map(obliviousLaplace)).toEqual([undefined, undefined]);
    expect(quotient(ratio(81, 10))).toBe(8.1);
  });
});
