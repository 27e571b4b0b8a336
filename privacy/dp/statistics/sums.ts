/**
 * Sums, means and variances of predictions, in fixed point.
 *
 * Floats do not add up to the same sum in another order, and one subject can then move a sum by more than it adds (Casacuberta,
 * Shoemate, Vadhan & Wagaman 2022). So each value is clipped and rounded to a grid first, and what is summed are integers.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import { floatGrid, type Grid, quantise } from '../noise/grid.ts';
import { ceilRoot, floorRoot } from '../noise/rational.ts';
import { checkOptions, type Prediction, RECORDS, type Statistic, statistic, wholeOption } from './statistic.ts';

/** Which number of each prediction, and between which bounds. */
export interface ValueOptions {
  /** `element`: one element of the output. */
  readonly of: 'element';
  /** Number of elements of every prediction, 1 to 65,536. */
  readonly length: number;
  /** Which of them, from 0; default 0. */
  readonly index?: number;
  /** Values are clipped to these, and rounded to multiples of 2^`exponent`. NaN counts as the middle. */
  readonly clip: { readonly low: number; readonly high: number };
  readonly exponent: number;
  readonly perSubject?: RecordBounds;
}

/** How much one subject may add. */
export interface RecordBounds {
  /** The first so many records of a subject are added, 1 to 1,024; later ones are ignored. Default 1. */
  readonly records?: number;
}

/** What {@link sum} adds: one element, or all of them as a vector. */
export type SumOptions =
  | ValueOptions
  | {
      readonly of: 'vector';
      readonly length: number;
      /** Each element between bounds, or the whole vector scaled down to an L2 norm. */
      readonly clip: ValueOptions['clip'] | { readonly l2: number };
      readonly exponent: number;
      readonly perSubject?: RecordBounds;
    };

/**
 * Returns the sum of an element of the predictions, or of whole predictions as vectors, each clipped before it is added.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when an option is missing, unknown or out of range; `DP_INVALID_PARAMETER` when the clip
 *   is no range of the grid, or the sensitivity is above 2^30 steps or its square above 2^53 - 1: take a larger exponent.
 * @example
 * The sum of the scores of class 3, each between 0 and 1, to 1/1024.
 * ```ts
 * const scores = sum({ of: 'element', length: 10, index: 3, clip: { low: 0, high: 1 }, exponent: -10 });
 * scores.sensitivity; // 1024: in steps
 * ```
 * Embeddings of L2 norm at most 1, from each subject three at most.
 * ```ts
 * const mean = sum({ of: 'vector', length: 384, clip: { l2: 1 }, exponent: -12, perSubject: { records: 3 } });
 * Math.sqrt(mean.squaredL2Sensitivity); // 12288
 * ```
 */
export function sum(options: SumOptions): Statistic {
  if (options?.of === 'vector') return vectorSum(options);
  const { grid, low, high, records, stepsOf, parameters } = readValue('sum', options);
  const reach = records * Math.max(Math.abs(low), Math.abs(high), 1);
  return statistic({
    kind: 'sum',
    parameters,
    cells: 1,
    grid: wide(grid),
    sensitivity: reach,
    squaredL2Sensitivity: reach ** 2,
    add(sums, subjects, subject, prediction) {
      if (!subjects.take(subject, RECORDS, records)) return;
      const value = stepsOf(prediction);
      if (value !== undefined) sums[0]! += BigInt(value);
    },
  });
}

/**
 * Returns the mean of an element of the predictions. The answer has two cells, noised together: the sum of the distances from the
 * middle of the clip, and the number of records times half its width, so that both move by as much. `read` gives `mean` and
 * `count`.
 *
 * @throws {CloisterError} as {@link sum}.
 * @example
 * ```ts
 * const age = mean({ of: 'element', length: 1, clip: { low: 0, high: 100 }, exponent: 0 });
 * const tally = age.start();
 * for (let i = 0; i < 1000; i++) age.accumulate(tally, `subject-${i}`, [40 + (i % 20)]);
 * const mechanism = laplaceMechanism({ ...age, cost: spendOf(1) });
 * const noised = mechanism.release(age.finish(tally));
 * Math.abs(age.read!(noised.value)['mean']! - 49.5) < 5; // true
 * ```
 */
export function mean(options: ValueOptions): Statistic {
  const { grid, low, high, records, stepsOf, parameters } = readValue('mean', options);
  const { middle, reach } = centred(low, high);
  const weight = BigInt(reach);
  return statistic({
    kind: 'mean',
    parameters,
    cells: 2,
    grid: wide(grid),
    sensitivity: 2 * records * reach,
    squaredL2Sensitivity: 2 * (records * reach) ** 2,
    add(sums, subjects, subject, prediction) {
      if (!subjects.take(subject, RECORDS, records)) return;
      const value = stepsOf(prediction);
      if (value === undefined) return;
      sums[0]! += BigInt(value - middle);
      sums[1]! += weight;
    },
    read([total = 0, weighted = 0]) {
      const count = Math.max(1, weighted / (reach * grid.step));
      return { mean: between(grid.low, middle * grid.step + total / count, grid.high), count };
    },
  });
}

/**
 * Returns the variance of an element of the predictions, over records. The answer has three cells, noised together: those of
 * {@link mean}, and the sum of the squared distances from the middle over half the width. `read` gives `variance`, `mean` and
 * `count`; noise makes the variance of few records too large or too small by much.
 *
 * @throws {CloisterError} as {@link sum}.
 * @example
 * ```ts
 * const spread = variance({ of: 'element', length: 1, clip: { low: -1, high: 1 }, exponent: -10 });
 * spread.cells; // 3
 * spread.sensitivity; // 3072: 1024 steps in each
 * ```
 */
export function variance(options: ValueOptions): Statistic {
  const { grid, low, high, records, stepsOf, parameters } = readValue('variance', options);
  const { middle, reach } = centred(low, high);
  const weight = BigInt(reach);
  return statistic({
    kind: 'variance',
    parameters,
    cells: 3,
    grid: wide(grid),
    sensitivity: 3 * records * reach,
    squaredL2Sensitivity: 3 * (records * reach) ** 2,
    add(sums, subjects, subject, prediction) {
      if (!subjects.take(subject, RECORDS, records)) return;
      const value = stepsOf(prediction);
      if (value === undefined) return;
      const distance = value - middle;
      sums[0]! += BigInt(distance);
      sums[1]! += BigInt(Math.min(reach, Math.round((distance * distance) / reach)));
      sums[2]! += weight;
    },
    read([total = 0, squares = 0, weighted = 0]) {
      const half = reach * grid.step;
      const count = Math.max(1, weighted / half);
      const shift = between(-half, total / count, half);
      const second = between(0, (squares / count) * half, half * half);
      return {
        variance: Math.max(0, second - shift * shift),
        mean: between(grid.low, middle * grid.step + shift, grid.high),
        count,
      };
    },
  });
}

function vectorSum(options: Extract<SumOptions, { of: 'vector' }>): Statistic {
  checkOptions('sum', options, ['of', 'length', 'clip', 'exponent', 'perSubject']);
  const { clip, exponent } = options;
  const length = wholeOption('sum', 'length', options.length, 1, 65_536);
  const records = recordsOf('sum', options.perSubject);
  const norm = typeof clip === 'object' && clip !== null && 'l2' in clip ? clip.l2 : undefined;
  checkClip('sum', clip, norm === undefined ? ['low', 'high'] : ['l2']);
  const grid =
    norm === undefined
      ? floatGrid({ exponent, ...(clip as ValueOptions['clip']) })
      : floatGrid({ exponent, low: -norm, high: norm, impute: 0 });
  const limit = BigInt(grid.high / grid.step); // of the norm, in steps
  const most = Math.max(Math.abs(grid.low), Math.abs(grid.high)) / grid.step;
  const reach = BigInt(records) * BigInt(Math.max(1, most));
  const cells = BigInt(length);
  return statistic({
    kind: 'sum',
    parameters: { of: 'vector', length, clip: { ...clip }, exponent, perSubject: { records } },
    cells: length,
    grid: wide(grid),
    // A vector of norm r has an L1 norm of at most r sqrt(length); within bounds, r in each element.
    sensitivity: Number(norm === undefined ? cells * reach : floorRoot(cells * reach * reach)),
    squaredL2Sensitivity: Number((norm === undefined ? cells : 1n) * reach * reach),
    add(sums, subjects, subject, prediction) {
      if (!subjects.take(subject, RECORDS, records)) return;
      if (!isOfLength(prediction, length)) return;
      const steps = Array.from({ length }, (_, i) => BigInt(quantise(grid, prediction[i])));
      const vector = norm === undefined ? steps : scaledDown(steps, limit);
      for (let i = 0; i < length; i++) sums[i]! += vector[i]!;
    },
  });
}

/** `vector`, or where its L2 norm is above `limit`, the vector in its direction, each element cut towards 0: its norm is at most `limit`. */
export function scaledDown(vector: readonly bigint[], limit: bigint): readonly bigint[] {
  const square = vector.reduce((total, element) => total + element * element, 0n);
  if (square <= limit * limit) return vector;
  const norm = ceilRoot(square);
  return vector.map(element => (element * limit) / norm);
}

interface Value {
  readonly grid: Grid;
  /** Bounds of a value, in steps. */
  readonly low: number;
  readonly high: number;
  readonly records: number;
  /** The clipped value in steps; undefined where there is no prediction of the right length. */
  readonly stepsOf: (prediction: Prediction | undefined) => number | undefined;
  readonly parameters: Parameters<typeof statistic>[0]['parameters'];
}

/** Checks the options of a statistic of one element. */
export function readValue(kind: string, options: ValueOptions, more: readonly string[] = []): Value {
  checkOptions(kind, options, ['of', 'length', 'index', 'clip', 'exponent', 'perSubject', ...more]);
  const { of, index = 0, clip, exponent } = options;
  if (of !== 'element') {
    const known = kind === 'sum' ? `'element' or 'vector'` : `'element'`;
    throw new CloisterError('INVALID_ARGUMENT', `${kind}: of is ${known}, got ${JSON.stringify(of)}`);
  }
  const length = wholeOption(kind, 'length', options.length, 1, 65_536);
  wholeOption(kind, 'index', index, 0, length - 1);
  checkClip(kind, clip, ['low', 'high']);
  const grid = floatGrid({ exponent, ...clip });
  const records = recordsOf(kind, options.perSubject);
  return {
    grid,
    low: grid.low / grid.step,
    high: grid.high / grid.step,
    records,
    stepsOf: prediction => (isOfLength(prediction, length) ? quantise(grid, prediction[index]) : undefined),
    parameters: { of, length, index, clip: { low: clip.low, high: clip.high }, exponent, perSubject: { records } },
  };
}

function recordsOf(kind: string, perSubject: RecordBounds | undefined): number {
  if (perSubject !== undefined) checkOptions(`${kind}: perSubject`, perSubject, ['records']);
  return wholeOption(`${kind}: perSubject`, 'records', perSubject?.records ?? 1, 1, 1024);
}

function checkClip(kind: string, clip: unknown, keys: readonly string[]): void {
  checkOptions(`${kind}: clip`, clip, keys);
  const values = clip as Readonly<Record<string, unknown>>;
  const missing = keys.find(key => typeof values[key] !== 'number');
  if (missing !== undefined) {
    throw new CloisterError('INVALID_ARGUMENT', `${kind}: clip.${missing} is a number, got ${typeof values[missing]}`);
  }
}

function isOfLength(prediction: Prediction | undefined, length: number): prediction is Prediction {
  return prediction !== undefined && prediction !== null && prediction.length === length;
}

/** The middle of a range of steps, and the greatest distance from it: at least 1. */
function centred(low: number, high: number): { middle: number; reach: number } {
  const middle = Math.floor(low / 2 + high / 2);
  return { middle, reach: Math.max(1, high - middle, middle - low) };
}

/** The grid of sums of values on `grid`: the same steps, and no bounds but those of integers. */
function wide({ step }: Grid): Grid {
  const most = Number.MAX_SAFE_INTEGER * step;
  return Object.freeze({ step, low: -most, high: most, impute: 0 });
}

function between(low: number, value: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
