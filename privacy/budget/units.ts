/**
 * From numbers to whole units, rounded in a stated direction and exactly.
 *
 * A number that a person states stands for its shortest decimal: 0.1 is a tenth. A number that was computed stands for its bits.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';

/** The most units that an amount can have. */
export const MOST_UNITS: number = Number.MAX_SAFE_INTEGER;

/** Decimals of the unit of rho, mu squared and Rényi divergence. */
export const PICO = 12;

const ATTO = 18;

/** An exact quotient; the denominator is positive. */
export interface Ratio {
  readonly numerator: bigint;
  readonly denominator: bigint;
}

/** The shortest decimal of a finite positive number, exactly. */
export function ratioOf(value: number): Ratio {
  const [mantissa = '0', exponent = '0'] = String(value).split('e');
  const [whole = '0', fraction = ''] = mantissa.split('.');
  const digits = BigInt(whole + fraction);
  const shift = Number(exponent) - fraction.length;
  return shift >= 0
    ? { numerator: digits * 10n ** BigInt(shift), denominator: 1n }
    : { numerator: digits, denominator: 10n ** BigInt(-shift) };
}

/** `ratio` in units of 10^-decimals, rounded up or down, and cut at {@link MOST_UNITS}. */
export function unitsOf({ numerator, denominator }: Ratio, decimals: number, direction: 'up' | 'down'): number {
  const scaled = numerator * 10n ** BigInt(decimals);
  const units = direction === 'up' ? (scaled + denominator - 1n) / denominator : scaled / denominator;
  return units > BigInt(MOST_UNITS) ? MOST_UNITS : Number(units);
}

/** A stated probability in units of 1e-18. */
export function deltaUnits(delta: number, direction: 'up' | 'down'): number {
  return unitsOf(ratioOf(delta), ATTO, direction);
}

/** A computed loss in units of 1e-12, rounded up; infinity is {@link MOST_UNITS}. */
export function picoUp(loss: number): number {
  if (Number.isNaN(loss) || loss < 0) {
    throw new CloisterError('DP_INVALID_PARAMETER', `a loss is a number of at least 0, got ${loss}`);
  }
  if (loss * 1e12 >= MOST_UNITS) return MOST_UNITS;
  if (loss < 2 ** -900) return loss > 0 ? 1 : 0;
  // Dekker's product: loss * 1e12 is rounded + rest, exactly.
  const rounded = loss * 1e12;
  const high = loss * 134_217_729 - (loss * 134_217_729 - loss);
  const low = loss - high;
  const rest = high * HIGH - rounded + high * LOW + low * HIGH + low * LOW;
  const units = Math.ceil(rounded);
  return units === rounded && rest > 0 ? units + 1 : units;
}

/** A computed bound on a loss in units of 1e-12, rounded down. */
export function picoDown(loss: number): number {
  return Math.min(MOST_UNITS - 1, Math.max(0, Math.floor(loss * 1e12 * (1 - 2 ** -51))));
}

// 1e12 in two parts of at most 26 bits each.
const HIGH = 999_999_995_904;
const LOW = 4096;
