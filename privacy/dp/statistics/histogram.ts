/**
 * Counts of subjects by what is predicted of them.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import {
  CELLS,
  checkOptions,
  type Prediction,
  RECORDS,
  type Statistic,
  type StatisticParts,
  statistic,
  wholeOption,
} from './statistic.ts';
import type { SubjectCounts } from './subject-counts.ts';

/** How much one subject may add to a histogram. What is left out follows from `records`, which is 1 unless said otherwise. */
export interface HistogramBounds {
  /** The first so many records of a subject are looked at, 1 to 1,024; later ones are ignored. */
  readonly records?: number;
  /** L0: to how many cells they may add. */
  readonly cells?: number;
  /** L-infinity: how much they may add to one cell. */
  readonly perCell?: number;
}

/** What {@link histogram} counts. */
export interface HistogramOptions {
  /** `argmax`: the class with the highest score, the first of equals. */
  readonly of: 'argmax';
  /** Number of classes, 1 to 65,536: the length of every prediction, and of the answer. */
  readonly classes: number;
  readonly perSubject?: HistogramBounds;
}

/**
 * Returns the histogram of predicted classes: how many records fell into each, of each subject the first alone unless `perSubject`
 * allows more. `classes` integers; the sensitivities follow from the bounds, L1 1 without any.
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
 * Up to 10 records of a subject, in at most 3 classes, at most 5 in each.
 * ```ts
 * const wide = histogram({ of: 'argmax', classes: 10, perSubject: { records: 10, cells: 3, perCell: 5 } });
 * wide.sensitivity; // 10
 * wide.squaredL2Sensitivity; // 50: five in each of two cells
 * ```
 */
export function histogram(options: HistogramOptions): Statistic {
  checkOptions('histogram', options, ['of', 'classes', 'perSubject']);
  const { classes, perSubject } = options;
  checkArgmax('histogram', options.of, classes);
  return cellsOf('histogram', { of: 'argmax', classes }, classes, perSubject, prediction =>
    argmax(prediction, classes),
  );
}

/** What {@link count} counts. */
export type CountOptions =
  /** Every subject. */
  | { readonly of: 'subjects' }
  /** The subjects whose highest score, the first of equals, is that of `equals`. */
  | { readonly of: 'argmax'; readonly classes: number; readonly equals: number };

/**
 * Returns a count of subjects: of all, or of those whose first record is predicted to be of one class. One integer, L1
 * sensitivity 1.
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
    return cellsOf('count', { of: 'subjects' }, 1, undefined, () => 0);
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
  return cellsOf('count', { of: 'argmax', classes, equals }, 1, undefined, cell);
}

/** A statistic in which a record adds 1 to the cell that `cellOf` names, or to none when it says -1, within the bounds. */
export function cellsOf(
  kind: string,
  parameters: StatisticParts['parameters'],
  cells: number,
  perSubject: HistogramBounds | undefined,
  cellOf: (prediction: Prediction | undefined) => number,
): Statistic {
  const bounds = boundsOf(kind, perSubject);
  const { records, perCell } = bounds;
  const most = Math.min(records, bounds.cells * perCell);
  const full = Math.floor(most / perCell);
  const allowed = (subjects: SubjectCounts, subject: string, cell: number): boolean => {
    if (records === 1) return true; // the bounds on cells say nothing more
    if (subjects.count(subject, cell) === 0 && !subjects.take(subject, CELLS, bounds.cells)) return false;
    return subjects.take(subject, cell, perCell);
  };
  return statistic({
    kind,
    cells,
    parameters: { ...parameters, ...(perSubject && { perSubject: { ...bounds } }) },
    sensitivity: most,
    // A sum of squares is largest where as many cells as possible are full.
    squaredL2Sensitivity: full * perCell ** 2 + (most - full * perCell) ** 2,
    add(sums, subjects, subject, prediction) {
      if (!subjects.take(subject, RECORDS, records)) return;
      const cell = cellOf(prediction);
      if (cell >= 0 && allowed(subjects, subject, cell)) sums[cell]! += 1n;
    },
  });
}

function boundsOf(kind: string, perSubject: HistogramBounds | undefined): Required<HistogramBounds> {
  if (perSubject === undefined) return { records: 1, cells: 1, perCell: 1 };
  checkOptions(`${kind}: perSubject`, perSubject, ['records', 'cells', 'perCell']);
  const whole = (name: keyof HistogramBounds, most: number): number =>
    wholeOption(`${kind}: perSubject`, name, perSubject[name] ?? most, 1, most);
  const records = wholeOption(`${kind}: perSubject`, 'records', perSubject.records ?? 1, 1, 1024);
  return { records, cells: whole('cells', records), perCell: whole('perCell', records) };
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
  wholeOption(kind, 'classes', classes, 1, 65_536);
}
