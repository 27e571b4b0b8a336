/**
 * Statistics of predictions: what is counted, and how far one subject can move it.
 * @module
 */
import { CloisterError, type Json } from '../../../src/base/index.ts';
import { type L1Sensitivity, l1Sensitivity } from '../parameters.ts';
import { Private } from '../private.ts';
import { finishTally, Tally, tallyContents } from './tally.ts';

/** One record's prediction: the elements of the model's output, such as a score for each class. Read during the call only. */
export type Prediction = ArrayLike<number | bigint>;

/**
 * A statistic over a stream of records. `start`, then `accumulate` for each record, then `finish`.
 *
 * The first record of a subject is its one contribution; its later records are ignored. So adding or removing all records of
 * one subject changes the answer by at most `sensitivity` (`histogram.proof.md`).
 */
export interface Statistic {
  /** `histogram`, `count`. */
  readonly kind: string;
  /** What identifies the statistic, as canonical JSON can hold it: equal schemas are equal statistics. */
  readonly schema: Readonly<Record<string, Json>>;
  /** L1 sensitivity of the answer, under adding or removing one subject. */
  readonly sensitivity: L1Sensitivity;
  /** Number of integers in the answer. */
  readonly cells: number;
  /** An empty tally. It holds raw counts and shows them to nobody. */
  start(): Tally;
  /**
   * Counts one record. A subject that is no string, a prediction that is missing, of the wrong length or holds NaN
   * contributes nothing. Never throws because of a record: an error would be a release.
   */
  accumulate(tally: Tally, subject: string, prediction: Prediction | undefined): void;
  /** The answer, for a mechanism; the tally is spent. Throws `INVALID_ARGUMENT` for a tally that was finished before. */
  finish(tally: Tally): Private<readonly number[]>;
}

/** What {@link histogram} counts. */
export interface HistogramOptions {
  /** `argmax`: the class with the highest score, the first of equals. */
  readonly of: 'argmax';
  /** Number of classes, 1 to 65,536: the length of every prediction, and of the answer. */
  readonly classes: number;
}

/**
 * Returns the histogram of predicted classes: how many subjects fell into each. `classes` integers, L1 sensitivity 1.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when an option is missing, unknown or out of range.
 * @example
 * ```ts
 * const digits = histogram({ of: 'argmax', classes: 3 });
 * const tally = digits.start();
 * digits.accumulate(tally, 'subject-1', [0.1, 0.7, 0.2]);
 * const mechanism = laplaceMechanism({ ...digits, cost: spendOf(0.5) });
 * const { value } = mechanism.release(digits.finish(tally));
 * value.length; // 3
 * ```
 */
export function histogram(options: HistogramOptions): Statistic {
  checkOptions('histogram', options, ['of', 'classes']);
  const { classes } = options;
  checkArgmax('histogram', options.of, classes);
  return statistic('histogram', { of: 'argmax', classes }, classes, prediction => argmax(prediction, classes));
}

/** What {@link count} counts. */
export type CountOptions =
  /** Every subject. */
  | { readonly of: 'subjects' }
  /** The subjects whose highest score, the first of equals, is that of `equals`. */
  | { readonly of: 'argmax'; readonly classes: number; readonly equals: number };

/**
 * Returns a count of subjects: of all, or of those predicted to be of one class. One integer, L1 sensitivity 1.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when an option is missing, unknown or out of range.
 * @example
 * ```ts
 * count({ of: 'subjects' }).cells; // 1
 * count({ of: 'argmax', classes: 10, equals: 3 }).schema; // { kind: 'count', of: 'argmax', classes: 10, equals: 3 }
 * ```
 */
export function count(options: CountOptions): Statistic {
  if (options?.of === 'subjects') {
    checkOptions('count', options, ['of']);
    return statistic('count', { of: 'subjects' }, 1, () => 0);
  }
  checkOptions('count', options, ['of', 'classes', 'equals']);
  const { classes, equals } = options;
  checkArgmax('count', options.of, classes);
  if (!Number.isInteger(equals) || equals < 0 || equals >= classes) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `count: equals is a class from 0 to ${classes - 1}, got ${String(equals)}`,
    );
  }
  const cell = (prediction: Prediction | undefined): number => (argmax(prediction, classes) === equals ? 0 : -1);
  return statistic('count', { of: 'argmax', classes, equals }, 1, cell);
}

/** A statistic in which the first record of a subject adds 1 to the cell that `cellOf` names, or to none when it says -1. */
function statistic(
  kind: string,
  parameters: Record<string, Json>,
  cells: number,
  cellOf: (prediction: Prediction | undefined) => number,
): Statistic {
  return Object.freeze({
    kind,
    schema: Object.freeze({ kind, ...parameters }),
    sensitivity: l1Sensitivity(1),
    cells,
    start: () => new Tally(cells),
    accumulate(tally: Tally, subject: string, prediction: Prediction | undefined): void {
      const { counts, seen } = tallyContents(tally);
      if (typeof subject !== 'string' || !seen.add(subject)) return;
      const cell = cellOf(prediction);
      if (cell >= 0) counts[cell]!++;
    },
    finish(tally: Tally): Private<readonly number[]> {
      return new Private<readonly number[]>(Array.from(finishTally(tally).counts));
    },
  });
}

/** The first index with the highest score; -1 if the prediction is not `classes` numbers without NaN. */
function argmax(prediction: Prediction | undefined, classes: number): number {
  if (prediction === undefined || prediction === null || prediction.length !== classes) return -1;
  let best = 0;
  for (let i = 0; i < classes; i++) {
    const score = prediction[i];
    if (typeof score === 'number' ? Number.isNaN(score) : typeof score !== 'bigint') return -1;
    if (score! > prediction[best]!) best = i;
  }
  return best;
}

function checkArgmax(kind: string, of: unknown, classes: unknown): void {
  if (of !== 'argmax') {
    const known = kind === 'count' ? `'argmax' or 'subjects'` : `'argmax'`;
    throw new CloisterError('INVALID_ARGUMENT', `${kind}: of is ${known}, got ${JSON.stringify(of)}`);
  }
  if (!Number.isInteger(classes) || (classes as number) < 1 || (classes as number) > 65_536) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `${kind}: classes is an integer from 1 to 65,536, got ${String(classes)}`,
    );
  }
}

function checkOptions(kind: string, options: unknown, known: readonly string[]): void {
  if (typeof options !== 'object' || options === null) {
    throw new CloisterError('INVALID_ARGUMENT', `${kind} takes options { ${known.join(', ')} }, got ${typeof options}`);
  }
  const unknown = Object.keys(options).find(key => !known.includes(key));
  if (unknown !== undefined) {
    throw new CloisterError('INVALID_ARGUMENT', `${kind}: unknown option '${unknown}'; it takes ${known.join(', ')}`);
  }
}
