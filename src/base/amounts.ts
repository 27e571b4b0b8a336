/**
 * Privacy amounts as integers. A float is parsed once, at the boundary, and rounded against the spender; no float enters
 * the ledger.
 * @module
 */
import type { Brand } from './brand.ts';
import { CloisterError } from './errors.ts';

/** A privacy loss in units of 1e-6 epsilon: an integer from 0 to 2^53 - 1. */
export type MicroEpsilon = Brand<number, 'MicroEpsilon'>;

const SCALE = 1_000_000n;
const MAX_EPSILON = 1_000_000;

/**
 * Returns what one release at `epsilon` costs, rounded up to a whole micro-epsilon, so that a spend is never counted as
 * less than it is. A positive subnormal costs one micro-epsilon, never nothing.
 *
 * @param epsilon - Pure differential-privacy epsilon, unitless: finite, above 0, at most 1e6.
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when `epsilon` is not such a number.
 * @example
 * ```ts
 * spendOf(0.5); // 500000
 * spendOf(0.1 + 0.2); // 300001: the float is a little over 0.3
 * ```
 */
export function spendOf(epsilon: number): MicroEpsilon {
  const { scaled, exact } = scale(epsilon, 'a spend');
  return micro(exact ? scaled : scaled + 1n);
}

/**
 * Returns the limit that `epsilon` allows, rounded down to a whole micro-epsilon.
 *
 * @param epsilon - Pure differential-privacy epsilon, unitless: finite, above 0, at most 1e6.
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when `epsilon` is not such a number.
 * @example
 * ```ts
 * limitOf(0.5); // 500000
 * limitOf(0.0000019); // 1: rounded down
 * ```
 */
export function limitOf(epsilon: number): MicroEpsilon {
  return micro(scale(epsilon, 'a limit').scaled);
}

/**
 * Checks that `value` is an integer count of micro-epsilons and brands it.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when it is not a safe non-negative integer.
 */
export function microEpsilon(value: number): MicroEpsilon {
  if (!Number.isSafeInteger(value) || value < 0 || Object.is(value, -0)) {
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      `a micro-epsilon amount must be an integer from 0 to 2^53-1, got ${value}`,
      { value },
    );
  }
  return value as MicroEpsilon;
}

/**
 * Returns the amount as a float64 epsilon, for display and for mechanisms that re-derive their own rounding.
 * @example
 * ```ts
 * toEpsilon(spendOf(0.5)); // 0.5
 * ```
 */
export function toEpsilon(amount: MicroEpsilon): number {
  return amount / 1e6;
}

function micro(value: bigint): MicroEpsilon {
  return Number(value) as MicroEpsilon;
}

/**
 * The floor of `epsilon * 1e6` in exact arithmetic. A float stands for its shortest decimal (0.1 for 0.1000000000000000055):
 * mechanisms draw their noise for the integer that comes out of here, so the amount charged is the amount lost either way.
 */
function scale(epsilon: number, what: string): { scaled: bigint; exact: boolean } {
  if (typeof epsilon !== 'number' || !Number.isFinite(epsilon) || epsilon <= 0 || epsilon > MAX_EPSILON) {
    const came = typeof epsilon === 'number' ? String(epsilon) : typeof epsilon;
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      `${what} must be a finite epsilon above 0 and at most ${MAX_EPSILON}, got ${came}`,
      {
        epsilon: came,
      },
    );
  }
  const [mantissa = '0', exponentText = '0'] = epsilon.toString().split('e');
  const [whole = '0', fraction = ''] = mantissa.split('.');
  const exponent = Number(exponentText) - fraction.length + 6;
  const digits = BigInt(whole + fraction);
  if (exponent >= 0) return { scaled: digits * 10n ** BigInt(exponent), exact: true };
  const divisor = 10n ** BigInt(-exponent);
  return { scaled: digits / divisor, exact: digits % divisor === 0n };
}

/** Micro-epsilons in one epsilon, for exact rational arithmetic. */
export const MICRO_PER_EPSILON: bigint = SCALE;
