/**
 * What a statistic of predictions is, and the parts that all of them are made of.
 * @module
 */
import { CloisterError, type Json } from '../../../src/base/index.ts';
import type { Grid } from '../noise/grid.ts';
import { type L1Sensitivity, l1Sensitivity, type SquaredL2Sensitivity, squaredL2Sensitivity } from '../parameters.ts';
import { Private } from '../private.ts';
import type { SubjectCounts } from './subject-counts.ts';
import { finishTally, Tally, tallyContents } from './tally.ts';

/** One record's prediction: the elements of the model's output, such as a score for each class. Read during the call only. */
export type Prediction = ArrayLike<number | bigint>;

/**
 * A statistic over a stream of records. `start`, then `accumulate` for each record, then `finish`.
 *
 * What one subject contributes is bounded here, whatever records come under its name: adding or removing all of them changes the
 * answer by at most `sensitivity` (`histogram.proof.md`, `sums.proof.md`). Sums are of integers; no float is ever added.
 */
export interface Statistic {
  /** `histogram`, `count`, `sum`, `mean`, `variance`, `quantile`. */
  readonly kind: string;
  /** What identifies the statistic, as canonical JSON can hold it: equal schemas are equal statistics. */
  readonly schema: Readonly<Record<string, Json>>;
  readonly neighboring: 'add-remove';
  /** L1 sensitivity of the answer, in steps of its grid, under adding or removing one subject. */
  readonly sensitivity: L1Sensitivity;
  /** The same in squares: what Gaussian noise is measured by. */
  readonly squaredL2Sensitivity: SquaredL2Sensitivity;
  /** Number of cells in the answer. */
  readonly cells: number;
  /** The grid of the answer; none where its cells are counts. */
  readonly grid?: Grid;
  /** An empty tally. It holds raw sums and shows them to nobody. */
  start(): Tally;
  /**
   * Adds one record. A subject that is no string and a prediction that is missing or of the wrong length contribute nothing.
   * Never throws because of a record: an error would be a release.
   */
  accumulate(tally: Tally, subject: string, prediction: Prediction | undefined): void;
  /** The answer, for a mechanism; the tally is spent. Throws `INVALID_ARGUMENT` for a tally that was finished before. */
  finish(tally: Tally): Private<readonly number[]>;
  /** What a noised answer says, by name: post-processing, free of cost. Left out where the cells speak for themselves. */
  read?(value: readonly number[]): Readonly<Record<string, number>>;
}

/** What sets one statistic apart. */
export interface StatisticParts extends Pick<Statistic, 'kind' | 'cells' | 'grid' | 'read'> {
  readonly parameters: Readonly<Record<string, Json>>;
  readonly sensitivity: number;
  readonly squaredL2Sensitivity: number;
  /** Adds what a record contributes. Must keep to the sensitivities for all records of a subject together. */
  readonly add: (
    sums: BigInt64Array,
    subjects: SubjectCounts,
    subject: string,
    prediction: Prediction | undefined,
  ) => void;
}

const LARGEST = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * Makes a statistic of its parts.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when a sensitivity is beyond what noise is made for.
 */
export function statistic(parts: StatisticParts): Statistic {
  const { kind, cells, grid, read, parameters, add } = parts;
  const step = grid?.step ?? 1;
  return Object.freeze({
    kind,
    schema: Object.freeze({ kind, ...parameters }),
    neighboring: 'add-remove' as const,
    sensitivity: l1Sensitivity(parts.sensitivity),
    squaredL2Sensitivity: squaredL2Sensitivity(parts.squaredL2Sensitivity),
    cells,
    ...(grid && { grid }),
    ...(read && { read }),
    start: () => new Tally(cells),
    accumulate(tally: Tally, subject: string, prediction: Prediction | undefined): void {
      const { sums, subjects } = tallyContents(tally);
      if (typeof subject === 'string') add(sums, subjects, subject, prediction);
    },
    finish(tally: Tally): Private<readonly number[]> {
      // Cutting a sum brings no two answers further apart.
      const cut = (sum: bigint): number => Number(sum > LARGEST ? LARGEST : sum < -LARGEST ? -LARGEST : sum) * step;
      return new Private<readonly number[]>(Array.from(finishTally(tally).sums, cut));
    },
  });
}

/** The label under which a subject's records are counted, whatever is in them. Labels below are cells. */
export const RECORDS: number = 2 ** 32 - 1;
/** The label under which the distinct cells of a subject are counted. */
export const CELLS: number = 2 ** 32 - 2;

/** `value` as an option that is an integer from `least` to `most`. */
export function wholeOption(kind: string, name: string, value: unknown, least: number, most: number): number {
  if (!Number.isInteger(value) || (value as number) < least || (value as number) > most) {
    const range = `an integer from ${least} to ${most.toLocaleString('en-US')}`;
    throw new CloisterError('INVALID_ARGUMENT', `${kind}: ${name} is ${range}, got ${String(value)}`);
  }
  return value as number;
}

/** Refuses options that are no object, or have a key that is not known. */
export function checkOptions(kind: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null) {
    throw new CloisterError('INVALID_ARGUMENT', `${kind} takes options { ${known.join(', ')} }, got ${typeof options}`);
  }
  const unknown = Object.keys(options).find(key => !known.includes(key));
  if (unknown !== undefined) {
    throw new CloisterError('INVALID_ARGUMENT', `${kind}: unknown option '${unknown}'; it takes ${known.join(', ')}`);
  }
}
