import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { CloisterError, limitOf, microEpsilon, spendOf, toEpsilon } from '../../src/base/index.ts';

/** The float's shortest decimal as an exact fraction over a power of ten. */
function decimal(value: number): { digits: bigint; scale: number } {
  const [mantissa = '', exponent = '0'] = value.toExponential().split('e');
  const fraction = mantissa.split('.')[1] ?? '';
  return { digits: BigInt(mantissa.replace('.', '')), scale: fraction.length - Number(exponent) };
}

const epsilons = fc.double({ min: Number.MIN_VALUE, max: 1e6, noNaN: true });

describe('amounts', () => {
  test('a spend never counts for less than it is, nor for a whole unit more', () => {
    fc.assert(
      fc.property(epsilons, epsilon => {
        const { digits, scale } = decimal(epsilon);
        const micro = BigInt(spendOf(epsilon));
        const power = 10n ** BigInt(Math.max(0, scale));
        const exact = digits * 10n ** BigInt(Math.max(0, -scale)) * 1_000_000n;
        expect(micro * power >= exact).toBe(true);
        expect((micro - 1n) * power < exact).toBe(true);
      }),
    );
  });

  test('a limit never allows more than it says', () => {
    fc.assert(
      fc.property(epsilons, epsilon => {
        const up = spendOf(epsilon);
        const down = limitOf(epsilon);
        expect(up - down === 0 || up - down === 1).toBe(true);
      }),
    );
  });

  test('a decimal that a person wrote is exact', () => {
    expect(spendOf(0.1)).toBe(100_000);
    expect(spendOf(0.5)).toBe(500_000);
    expect(limitOf(2)).toBe(2_000_000);
    expect(spendOf(0.000001)).toBe(1);
    expect(spendOf(1e6)).toBe(1e12);
    expect(toEpsilon(spendOf(0.25))).toBe(0.25);
  });

  test('a positive subnormal costs one unit, never nothing', () => {
    expect(spendOf(Number.MIN_VALUE)).toBe(1);
    expect(limitOf(Number.MIN_VALUE)).toBe(0);
  });

  test.each([
    NaN,
    Infinity,
    -Infinity,
    0,
    -0,
    -1,
    -Number.MIN_VALUE,
    1e6 + 1,
    '1' as never,
    1n as never,
    undefined as never,
  ])('%s is refused as a spend and as a limit', value => {
    expect(() => spendOf(value)).toThrow(CloisterError);
    expect(() => limitOf(value)).toThrow(expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }));
  });

  test.each([-1, -0, 0.5, 2 ** 53, NaN])('%s is no count of micro-epsilons', value => {
    expect(() => microEpsilon(value)).toThrow(expect.objectContaining({ code: 'DP_INVALID_PARAMETER' }));
  });
});
