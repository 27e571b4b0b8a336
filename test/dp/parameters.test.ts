import { describe, expect, it } from 'vitest';

import {
  delta,
  epsilon,
  l1Sensitivity,
  lInfSensitivity,
  mu,
  rho,
  squaredL2Sensitivity,
} from '../../privacy/dp/index.ts';

const refused = expect.objectContaining({ code: 'DP_INVALID_PARAMETER' });
const NO_NUMBERS: unknown[] = ['1', '', null, undefined, 1n, true, {}, [1], Symbol('x'), () => 1];
const NO_LOSSES = [Number.NaN, Infinity, -Infinity, 0, -0, -1, 5e-324, 2.2e-308, -5e-324, 2 ** 53, 1e308];

describe('losses', () => {
  it.each([
    ['epsilon', epsilon, [2 ** -60, 0.1, 1, 1e6]],
    ['delta', delta, [2 ** -1022, 1e-100, 0.5, 1 - 2 ** -53]],
    ['rho', rho, [2 ** -60, 0.125, 1e6]],
    ['mu', mu, [2 ** -29, 1, 1000]],
  ] as const)('of kind %s are numbers in their range, and nothing else', (name, brand, good) => {
    for (const value of good) expect(brand(value)).toBe(value);
    const bad = NO_LOSSES.filter(value => name !== 'delta' || value !== 2.2e-308);
    for (const value of [...bad, ...NO_NUMBERS]) expect(() => brand(value as number)).toThrow(refused);
  });

  it('name what came', () => {
    expect(() => delta(1)).toThrow('delta is a number below 1, got 1');
    expect(() => epsilon('1' as unknown as number)).toThrow(/epsilon is a number from .* got string/);
    expect(() => rho(-0)).toThrow(/rho/);
    expect(() => mu(1001)).toThrow(/1000, got 1001/);
  });
});

describe('sensitivities', () => {
  it.each([
    ['L1', l1Sensitivity, 2 ** 30],
    ['squared L2', squaredL2Sensitivity, Number.MAX_SAFE_INTEGER],
    ['L-infinity', lInfSensitivity, 2 ** 30],
  ] as const)('%s are whole numbers in their range, and nothing else', (_, brand, most) => {
    for (const value of [1, 2, most]) expect(brand(value)).toBe(value);
    for (const value of [...NO_LOSSES, ...NO_NUMBERS, 0.5, most + 1].filter(
      value => value !== most + 1 || most < 2 ** 53,
    ))
      expect(() => brand(value as number)).toThrow(refused);
    expect(() => brand(1, 'neighbours' as 'add-remove')).toThrow(/neighboring is 'add-remove'/);
  });
});
