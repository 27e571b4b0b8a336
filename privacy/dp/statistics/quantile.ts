/**
 * Quantiles of predictions, chosen among the points of a grid.
 * @module
 */
import { CloisterError, type MicroEpsilon, type RandomSource } from '../../../src/base/index.ts';
import type { Mechanism } from '../mechanism.ts';
import { lInfSensitivity } from '../parameters.ts';
import { Private, takePrivate } from '../private.ts';
import { exponentialMechanism } from '../selection/exponential.ts';
import { RECORDS, type Statistic, statistic, wholeOption } from './statistic.ts';
import { readValue, type ValueOptions } from './sums.ts';

/** What {@link quantile} is told. */
export interface QuantileOptions extends ValueOptions {
  /** The share of values below it, `numerator / denominator`, both whole: 1 and 2 for the median. The denominator is at most 1,000. */
  readonly share: { readonly numerator: number; readonly denominator: number };
}

/** A quantile: a statistic with a mechanism of its own. */
export interface Quantile extends Statistic {
  /**
   * The mechanism that picks a point of the grid: an exponential mechanism, whose event is a bounded range.
   *
   * @throws {CloisterError} `DP_INVALID_PARAMETER` when the cost is no positive amount.
   */
  mechanism(options: {
    readonly cost: MicroEpsilon;
    readonly random?: RandomSource;
  }): Mechanism<readonly number[], number>;
}

/**
 * Returns a quantile of an element of the predictions, each clipped and rounded to a grid of at most 65,536 points. The answer is how
 * many values lie on each point; `mechanism` picks one of the points for it. A point is the likelier, exponentially, the
 * nearer the values below and above it stand in the ratio asked for (`quantile.proof.md`).
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when an option is missing, unknown or out of range; `DP_INVALID_PARAMETER` when the clip is
 *   no range of the grid, or has more than 65,536 points: take a larger exponent.
 * @see Smith 2011 for the score; McSherry & Talwar 2007
 * @example
 * ```ts
 * const clip = { low: 0, high: 100 };
 * const median = quantile({ of: 'element', length: 1, clip, exponent: 0, share: { numerator: 1, denominator: 2 } });
 * const tally = median.start();
 * for (let i = 0; i < 1001; i++) median.accumulate(tally, `subject-${i}`, [20 + i / 100]);
 * const { value } = median.mechanism({ cost: spendOf(1) }).release(median.finish(tally));
 * Math.abs(value - 25) <= 3; // true
 * ```
 */
export function quantile(options: QuantileOptions): Quantile {
  const { grid, low, high, records, stepsOf, parameters } = readValue('quantile', options, ['share']);
  const { numerator, denominator } = checkShare(options.share);
  const points = high - low + 1;
  if (points > 65_536) {
    throw new CloisterError(
      'DP_INVALID_PARAMETER',
      `a quantile is of at most 65,536 points of the grid, got ${points}`,
    );
  }
  const counts = statistic({
    kind: 'quantile',
    parameters: { ...parameters, share: { numerator, denominator } },
    cells: points,
    sensitivity: records,
    squaredL2Sensitivity: records ** 2,
    add(sums, subjects, subject, prediction) {
      if (!subjects.take(subject, RECORDS, records)) return;
      const value = stepsOf(prediction);
      if (value !== undefined) sums[value - low]! += 1n;
    },
  });
  const sensitivity = lInfSensitivity(records * Math.max(numerator, denominator - numerator));
  return Object.freeze({
    ...counts,
    mechanism({ cost, random }): Mechanism<readonly number[], number> {
      const pick = exponentialMechanism({ sensitivity, candidates: points, cost, ...(random && { random }) });
      return Object.freeze({
        neighboring: pick.neighboring,
        event: pick.event,
        release(held: Private<readonly number[]>) {
          const scores = scoresOf(takePrivate(held), points, numerator, denominator);
          const { value, ...rest } = pick.release(new Private<readonly number[]>(scores));
          return Object.freeze({ ...rest, value: (low + value) * grid.step });
        },
      });
    },
  } satisfies Quantile);
}

const LARGEST = BigInt(Number.MAX_SAFE_INTEGER);

/** For each point: minus the distance of `(denominator - numerator) * below` from `numerator * above`, cut to a safe integer. */
export function scoresOf(counts: readonly number[], points: number, numerator: number, denominator: number): number[] {
  const at = Array.from({ length: points }, (_, i) => BigInt(Number.isSafeInteger(counts[i]) ? counts[i]! : 0));
  const [weightBelow, weightAbove] = [BigInt(denominator - numerator), BigInt(numerator)];
  let below = 0n;
  let above = at.reduce((sum, count) => sum + count, 0n);
  return at.map(count => {
    above -= count;
    const apart = weightBelow * below - weightAbove * above;
    below += count;
    const distance = apart < 0n ? -apart : apart;
    return -Number(distance > LARGEST ? LARGEST : distance) + 0;
  });
}

function checkShare(share: unknown): QuantileOptions['share'] {
  const { numerator, denominator } = (share ?? {}) as Partial<QuantileOptions['share']>;
  const most = wholeOption('quantile: share', 'denominator', denominator, 1, 1000);
  return { numerator: wholeOption('quantile: share', 'numerator', numerator, 0, most), denominator: most };
}
