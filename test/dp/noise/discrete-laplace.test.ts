// The postcondition of privacy/dp/noise/discrete-laplace.proof.md.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Bits, errorBar, type NoiseScale, randomBits, sampleDiscreteLaplace } from '../../../privacy/dp/index.ts';
import { sampleInBigInts, sampleInNumbers } from '../../../privacy/dp/noise/discrete-laplace.ts';
import { osRandom } from '../../../src/base/index.ts';
import { enumerate, OutOfBits, scriptedBits, seededRandom } from './bits.ts';
import { laplaceLaw, misfit } from './fit.ts';

/** P[Y = y] for scale t/s. */
function probability(y: number, t: number, s: number): number {
  return Math.tanh(s / t / 2) * Math.exp((-Math.abs(y) * s) / t);
}

type Draw = (t: number, s: number, bits: Bits) => bigint;

/** Samplers broken on purpose: what the enumeration must see, and what is left for the fit. */
const GROSS: Record<string, Draw> = {
  'keeps minus nought': (t, s, bits) => {
    let y = sampleInNumbers(t, s, bits);
    while (y < 0n) y = sampleInNumbers(t, s, bits);
    return bits.take(1) === 1 ? -y : y;
  },
  'has half the scale': (t, s, bits) => sampleInNumbers(t, 2 * s, bits),
  'leans to one side': (t, s, bits) => sampleInNumbers(t, s, bits) + (bits.take(2) === 0 ? 1n : 0n),
};
const SUBTLE: Record<string, Draw> = {
  ...GROSS,
  'has a scale that is 5% short': (t, s, bits) => sampleInNumbers(19 * t, 20 * s, bits),
  'rounds the scale to an integer': (t, s, bits) => sampleInNumbers(Math.round(t / s), 1, bits),
  'gives 0 once in 64 times too often': (t, s, bits) => (bits.take(6) === 0 ? 0n : sampleInNumbers(t, s, bits)),
};

describe('discrete Laplace', () => {
  /**
   * The largest amount by which a bracket [mass, mass + open] of an outcome misses its probability, or by which y and -y differ
   * (the sign is drawn last, so they must agree exactly at every depth).
   */
  const miss = (t: number, s: number, draw: Draw): { worst: number; open: number } => {
    const { mass, open } = enumerate(bits => Number(draw(t, s, bits)), 19);
    let worst = 0;
    for (let y = -60; y <= 60; y++) {
      const low = mass.get(y) ?? 0;
      const truth = probability(y, t, s);
      worst = Math.max(worst, low - truth, truth - low - open, low - (mass.get(-y) ?? 0));
    }
    return { worst, open };
  };

  it.each([
    [1, 1, 0.07],
    [1, 2, 0.13],
    [2, 1, 0.12],
    [4, 1, 0.23],
    [2, 3, 0.25],
  ])('brackets every probability when all bit strings are enumerated, scale %i/%i', (t, s, width) => {
    const { worst, open } = miss(t, s, sampleInNumbers);
    expect(worst).toBeLessThan(1e-12);
    expect(open).toBeLessThan(width); // the brackets are that wide
  });

  it.each(Object.keys(GROSS))('the enumeration catches a sampler that %s', name => {
    expect(miss(1, 1, GROSS[name]!).worst).toBeGreaterThan(1e-3);
  });

  it('takes the same bits to the same sample in numbers and in BigInts', () => {
    const part = fc.oneof(
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 2 ** 31 - 1 }),
      fc
        .maxSafeInteger()
        .map(value => Math.abs(value) + 1)
        .filter(Number.isSafeInteger),
      fc.constantFrom(1, 2 ** 24, 2 ** 24 + 1, 2 ** 48, 2 ** 48 + 1, 2 ** 52, 2 ** 53 - 1),
    );
    fc.assert(
      fc.property(part, part, fc.integer(), (t, s, seed) => {
        const small = randomBits(seededRandom(seed));
        const big = randomBits(seededRandom(seed));
        for (let i = 0; i < 20; i++)
          expect(sampleInNumbers(t, s, small)).toBe(sampleInBigInts(BigInt(t), BigInt(s), big));
        expect(small.take(24)).toBe(big.take(24));
      }),
      { numRuns: 500 },
    );
  });

  it('goes over to BigInts where numbers would round: 2^53 - 1 times 9,000 successes', () => {
    const t = Number.MAX_SAFE_INTEGER;
    // u = 5, accepted at once: k = 1 draws no bit for 1/1, then uniform(t) = 2^52 is not below 5.
    const wide = (value: bigint): number[] => [...value.toString(2).padStart(53, '0')].map(Number);
    const success = [0, 0, 1]; // exp(-1): uniform(2) = 0, then uniform(3) = 1: k = 3 is odd
    const failure = [1]; // uniform(2) = 1: k = 2 is even
    const script = [
      ...wide(5n),
      ...wide(2n ** 52n),
      ...Array.from({ length: 9000 }, () => success).flat(),
      ...failure,
      1,
    ];
    const expected = -((5n + BigInt(t) * 9000n) / 7n);
    const bits = scriptedBits(script);
    expect(sampleInNumbers(t, 7, bits)).toBe(expected);
    expect(bits.used()).toBe(script.length);
    expect(sampleInBigInts(BigInt(t), 7n, scriptedBits(script))).toBe(expected);
    expect(() => sampleInNumbers(t, 7, scriptedBits(script.slice(0, -1)))).toThrow(OutOfBits);
  });

  /** Null: the samples have the law of scale t/s. n = 400,000 sees a scale that is 2% off. */
  const fitOf = (t: number, s: number, draw: Draw, bits: Bits): number =>
    misfit(400_000, () => Number(draw(t, s, bits)), laplaceLaw(t / s));

  it.each([
    [1, 1],
    [2, 1],
    [20, 3],
    [1000, 7],
  ])('fits the distribution, scale %i/%i, with the system generator', (t, s) => {
    const bits = randomBits(osRandom);
    expect(fitOf(t, s, sampleInNumbers, bits)).toBeLessThan(6);
    expect(fitOf(t, s, (a, b) => sampleInBigInts(BigInt(a), BigInt(b), bits), bits)).toBeLessThan(6);
  });

  it.each(Object.keys(SUBTLE))('the fit catches a sampler that %s', name => {
    expect(fitOf(20, 3, SUBTLE[name]!, randomBits(seededRandom(1)))).toBeGreaterThan(6);
  });

  it('refuses a scale that is not positive', () => {
    for (const [numerator, denominator] of [
      [0n, 1n],
      [1n, 0n],
      [-1n, 1n],
      [1n, -1n],
    ] as const) {
      expect(() => sampleDiscreteLaplace({ numerator, denominator }, randomBits(osRandom))).toThrow(
        /scale is positive/,
      );
      expect(() => errorBar({ numerator, denominator })).toThrow(/positive scale/);
    }
  });
});

describe('error bar', () => {
  /** P[|Y| > b], in floats. */
  const outside = (b: number, t: number, s: number): number =>
    (2 * Math.exp((-(b + 1) * s) / t)) / (1 + Math.exp(-s / t));

  it('is the smallest integer that covers, wherever floats can tell', () => {
    const part = fc.integer({ min: 1, max: 2 ** 40 });
    fc.assert(
      fc.property(part, part, fc.integer({ min: 1, max: 99 }), (t, s, percent) => {
        const b = Number(errorBar({ numerator: BigInt(t), denominator: BigInt(s) }, percent));
        const alpha = (100 - percent) / 100;
        expect(outside(b, t, s)).toBeLessThanOrEqual(alpha * (1 + 1e-9));
        if (b > 0) expect(outside(b - 1, t, s)).toBeGreaterThan(alpha * (1 - 1e-9));
      }),
      { numRuns: 1000 },
    );
  });

  it('is exact where floats cannot tell: scales up to 2^100', () => {
    // For a large scale the bar is close to scale * ln(20): the digits below agree with 60-digit arithmetic.
    const scale = 2n ** 100n;
    const bar = errorBar({ numerator: scale, denominator: 1n });
    const ln20 = 2_995_732_273_553_990_993_435_223_576_142n; // times 10^30
    const ideal = (scale * ln20) / 10n ** 30n;
    expect(bar - ideal).toBeGreaterThan(-10n);
    expect(bar - ideal).toBeLessThan(10n);
  });

  it('covers at least 95% of samples, and hardly more', () => {
    const n = 200_000;
    const bits = randomBits(osRandom);
    for (const scale of [
      { numerator: 2n, denominator: 1n },
      { numerator: 20n, denominator: 3n },
      { numerator: 1_000_000n, denominator: 3n },
    ] satisfies NoiseScale[]) {
      const bar = errorBar(scale);
      let inside = 0;
      for (let i = 0; i < n; i++) {
        const y = sampleDiscreteLaplace(scale, bits);
        if (y <= bar && y >= -bar) inside++;
      }
      const [t, s] = [Number(scale.numerator), Number(scale.denominator)];
      const truth = 1 - outside(Number(bar), t, s);
      expect(truth).toBeGreaterThanOrEqual(0.95);
      // Null: coverage is `truth`. Binomial, six standard deviations: false alarm 2e-9; sees an error of 0.3%.
      expect(Math.abs(inside / n - truth)).toBeLessThan(6 * Math.sqrt((truth * (1 - truth)) / n));
    }
  });

  it('is 0 when the noise hardly ever moves the answer', () => {
    expect(errorBar({ numerator: 1n, denominator: 64n })).toBe(0n);
    expect(errorBar({ numerator: 1n, denominator: 1_000_000n }, 99)).toBe(0n);
    expect(errorBar({ numerator: 1n, denominator: 5n })).toBe(0n);
    expect(errorBar({ numerator: 1n, denominator: 3n })).toBe(1n);
  });

  it('refuses a percentage that is none', () => {
    for (const percent of [0, 100, 95.5, -1, Number.NaN]) {
      expect(() => errorBar({ numerator: 1n, denominator: 1n }, percent)).toThrow(/whole percentage/);
    }
  });
});

describe('random bits', () => {
  it('gives the bits of the source in order, whatever the pieces', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 24 }), { maxLength: 2000 }), fc.integer(), (counts, seed) => {
        const bytes = new Uint8Array(8192);
        const source = seededRandom(seed);
        source.fill(bytes.subarray(0, 4096));
        source.fill(bytes.subarray(4096));
        const bits = randomBits(seededRandom(seed));
        let at = 0;
        for (const count of counts) {
          let expected = 0;
          for (let i = 0; i < count; i++, at++) expected = 2 * expected + ((bytes[at >> 3]! >> (7 - (at & 7))) & 1);
          expect(bits.take(count)).toBe(expected);
        }
      }),
      { numRuns: 50 },
    );
  });

  it('leaves no used byte in its buffer', () => {
    let buffer: Uint8Array | undefined;
    const bits = randomBits({
      fill(target) {
        buffer = target.fill(0xff);
      },
    });
    for (let i = 0; i < 100; i++) bits.take(8);
    expect(buffer!.subarray(0, 100).every(byte => byte === 0)).toBe(true);
    expect(buffer![100]).toBe(0xff);
  });
});
