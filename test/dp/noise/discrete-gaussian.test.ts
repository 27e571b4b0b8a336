// The postcondition of privacy/dp/noise/discrete-gaussian.proof.md.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { discreteGaussian, gaussianErrorBar, randomBits, type Sampler } from '../../../privacy/dp/index.ts';
import { bernoulliExpOf } from '../../../privacy/dp/noise/bernoulli.ts';
import type { Bits } from '../../../privacy/dp/noise/bits.ts';
import { gaussianInBigInts, gaussianInNumbers } from '../../../privacy/dp/noise/discrete-gaussian.ts';
import { sampleInNumbers } from '../../../privacy/dp/noise/discrete-laplace.ts';
import { ceilRoot, floorRoot } from '../../../privacy/dp/noise/rational.ts';
import { osRandom } from '../../../src/base/index.ts';
import { enumerate, seededRandom } from './bits.ts';
import { gaussianLaw, misfit } from './fit.ts';

const sampler = (n: number, d = 1) => discreteGaussian({ numerator: BigInt(n), denominator: BigInt(d) });
const scaleOf = (n: bigint, d: bigint): bigint => floorRoot(n / d) + 1n;

describe('discrete Gaussian', () => {
  /** The largest amount by which a bracket [mass, mass + open] of an outcome misses its probability. */
  const miss = (draw: (bits: Bits) => number, sigmaSquared: number, depth: number): { worst: number; open: number } => {
    const { mass, open } = enumerate(draw, depth);
    const law = gaussianLaw(sigmaSquared);
    let worst = 0;
    for (let y = -20; y <= 20; y++) {
      const low = mass.get(y) ?? 0;
      worst = Math.max(worst, low - law(Math.abs(y)), law(Math.abs(y)) - low - open, low - (mass.get(-y) ?? 0));
    }
    return { worst, open };
  };

  it.each([
    [1, 1, 0.5],
    [1, 2, 0.55],
    [1, 4, 0.55],
    [2, 1, 0.65],
  ])('brackets every probability when all bit strings are enumerated, sigma squared %i/%i', (n, d, width) => {
    const draw = sampler(n, d);
    const { worst, open } = miss(bits => Number(draw(bits)), n / d, 19);
    expect(worst).toBeLessThan(1e-12);
    expect(open).toBeLessThan(width); // the brackets are that wide
  });

  /** Samplers broken on purpose, and the sigma squared that they claim. */
  const BROKEN: Record<string, readonly [number, Sampler]> = {
    'has a scale that is 3% short': [100, sampler(94)],
    'leans to one side': [100, bits => Number(sampler(100)(bits)) + (bits.take(2) === 0 ? 1 : 0)],
    'gives 0 once in 64 times too often': [100, bits => (bits.take(6) === 0 ? 0n : sampler(100)(bits))],
    'keeps one proposal in 32 untested': [
      100,
      bits => (bits.take(5) === 0 ? sampleInNumbers(11, 1, bits) : sampler(100)(bits)),
    ],
    // What OpenDP's #2638 came down to: a quotient that is rounded, here sigma^2 / t = 3/2.
    'divides with rounding': [
      3,
      bits => {
        for (;;) {
          const y = sampleInNumbers(2, 1, bits);
          const distance = Number(y < 0n ? -y : y) - Math.floor(3 / 2);
          if (bernoulliExpOf(distance * distance, 6, bits)) return y;
        }
      },
    ],
  };

  it.each([
    [1, 1],
    [1, 3],
    [100, 1],
    [22_801, 100],
    [90_000, 7],
  ])('fits the distribution, sigma squared %i/%i', (n, d) => {
    // Null: this law; n = 300,000 sees a sigma squared that is 3% off.
    const law = gaussianLaw(n / d);
    const bits = randomBits(osRandom);
    const [draw, big] = [sampler(n, d), [BigInt(n), BigInt(d)] as const];
    expect(misfit(300_000, () => Number(draw(bits)), law)).toBeLessThan(6);
    expect(misfit(100_000, () => Number(gaussianInBigInts(...big, scaleOf(...big), bits)), law)).toBeLessThan(6);
  });

  it.each(Object.keys(BROKEN))('the fit catches a sampler that %s', name => {
    const bits = randomBits(seededRandom(1));
    const [sigmaSquared, draw] = BROKEN[name]!;
    expect(misfit(300_000, () => Number(draw(bits)), gaussianLaw(sigmaSquared))).toBeGreaterThan(6);
  });

  it('takes the same bits to the same sample in numbers and in BigInts', () => {
    const part = fc.oneof(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 1e6 }));
    const fits = (n: number, d: number): boolean =>
      2n * BigInt(n) * BigInt(d) * scaleOf(BigInt(n), BigInt(d)) ** 2n <= Number.MAX_SAFE_INTEGER;
    fc.assert(
      fc.property(
        fc.tuple(part, part).filter(([n, d]) => fits(n, d)),
        fc.integer(),
        ([n, d], seed) => {
          const small = randomBits(seededRandom(seed));
          const big = randomBits(seededRandom(seed));
          const t = scaleOf(BigInt(n), BigInt(d));
          for (let i = 0; i < 20; i++) {
            expect(gaussianInNumbers(n, d, Number(t), small)).toBe(
              Number(gaussianInBigInts(BigInt(n), BigInt(d), t, big)),
            );
          }
          expect(small.take(24)).toBe(big.take(24));
        },
      ),
      { numRuns: 500 },
    );
  });

  it('goes over to BigInts where a square would round', () => {
    // sigma squared 2^20 / 3 makes steps of 3 * 592: y of 60,000 and more squares past 2^53.
    const [n, d] = [2n ** 20n, 3n];
    const t = scaleOf(n, d);
    const u = (value: number, width: number): number[] => [...value.toString(2).padStart(width, '0')].map(Number);
    // Proposal: u = 5 accepted (uniform(t) = 6 is not below 5), then 110 successes, a failure, no sign; then kept or not.
    const head = [...u(5, 10), ...u(6, 10), ...Array.from({ length: 110 }, () => [0, 0, 1]).flat(), 1, 0];
    const seeds = [1, 2, 3, 4, 5];
    for (const seed of seeds) {
      const bitsOf = (): Bits => {
        const rest = randomBits(seededRandom(seed));
        let at = 0;
        return {
          take(count) {
            let value = 0;
            for (let i = 0; i < count; i++) value = 2 * value + (at < head.length ? head[at++]! : rest.take(1));
            return value;
          },
        };
      };
      expect(gaussianInNumbers(Number(n), Number(d), Number(t), bitsOf())).toBe(
        Number(gaussianInBigInts(n, d, t, bitsOf())),
      );
    }
  });

  it('draws beyond 2^53, and next to nothing where sigma is small', () => {
    const bits = randomBits(seededRandom(3));
    const huge = discreteGaussian({ numerator: 2n ** 200n, denominator: 1n });
    const draws = Array.from({ length: 200 }, () => huge(bits));
    expect(draws.some(y => y > 2n ** 99n) && draws.some(y => y < -(2n ** 99n))).toBe(true);
    expect(draws.every(y => y < 2n ** 104n && y > -(2n ** 104n))).toBe(true);
    const tiny = discreteGaussian({ numerator: 1n, denominator: 1000n });
    expect(Array.from({ length: 1000 }, () => tiny(bits)).every(y => y === 0)).toBe(true);
  });

  it('refuses a parameter that is not positive', () => {
    for (const [numerator, denominator] of [
      [0n, 1n],
      [1n, 0n],
      [-1n, 1n],
      [1n, -1n],
    ] as const) {
      expect(() => discreteGaussian({ numerator, denominator })).toThrow(
        expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }),
      );
      expect(() => gaussianErrorBar({ numerator, denominator })).toThrow(/positive/);
    }
  });
});

describe('its error bar', () => {
  it('covers 95%, and is at most two above the smallest that does', () => {
    for (const sigmaSquared of [0.01, 0.1, 0.25, 1, 2, 10, 100, 1234.5, 1e6]) {
      const law = gaussianLaw(sigmaSquared);
      const bar = Number(gaussianErrorBar({ numerator: BigInt(sigmaSquared * 100), denominator: 100n }));
      let inside = law(0);
      let smallest = 0;
      while (inside < 0.95) inside += 2 * law(++smallest);
      expect(bar).toBeGreaterThanOrEqual(smallest);
      expect(bar).toBeLessThanOrEqual(smallest + 2);
    }
  });
});

describe('integer roots', () => {
  it('are the floor and the ceiling of the root', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 300n }), n => {
        const [low, high] = [floorRoot(n), ceilRoot(n)];
        expect(low * low <= n && (low + 1n) ** 2n > n).toBe(true);
        expect(high * high >= n && (high === 0n || (high - 1n) ** 2n < n)).toBe(true);
        expect(floorRoot(n * n)).toBe(n);
        expect(ceilRoot(n * n)).toBe(n);
      }),
    );
  });
});
