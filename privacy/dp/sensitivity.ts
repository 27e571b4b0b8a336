/**
 * How far one subject can move an answer.
 * @module
 */
import { type Brand, CloisterError } from '../../src/base/index.ts';

/** The most that adding or removing all records of one subject changes an integer vector, summed over its cells. */
export type L1Sensitivity = Brand<number, 'L1Sensitivity'>;

const MOST = 2 ** 30; // at 1e-6 epsilon the error bar still is an exact integer below 2^53

/**
 * Checks that `value` is an integer from 1 to 2^30 and brands it. That it is the sensitivity of anything is the caller's
 * claim: see the proof beside each statistic.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when it is not.
 */
export function l1Sensitivity(value: number): L1Sensitivity {
  if (!Number.isSafeInteger(value) || value < 1 || value > MOST) {
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      `an L1 sensitivity is an integer from 1 to 2^30, got ${String(value)}`,
    );
  }
  return value as L1Sensitivity;
}
