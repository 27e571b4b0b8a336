/**
 * Any statistic at all, made safe: computed on many disjoint parts of the data, and averaged with noise.
 * @module
 */
import { CloisterError, osRandom, type RandomSource } from '../../../src/base/index.ts';
import { type Grid, quantise } from '../noise/grid.ts';
import { type L1Sensitivity, l1Sensitivity, type SquaredL2Sensitivity, squaredL2Sensitivity } from '../parameters.ts';
import { holdPrivate, type Private } from '../private.ts';
import { wholeParameter } from './votes.ts';

/** What {@link subsampleAndAggregate} is told. */
export interface SubsampleOptions {
  /** Number of parts, 1 to 65,536. More parts, less noise; fewer, better answers on each. */
  readonly blocks: number;
  /**
   * Range and resolution of the answer on one part; its `impute` stands in for an answer that is none. At most 2^26 steps
   * wide.
   */
  readonly grid: Grid;
  /** Default the operating system's generator. Tests alone give another. */
  readonly random?: RandomSource;
}

/** One record, and whose it is. */
export interface SubjectRecord<T> {
  readonly subject: string;
  readonly record: T;
}

/** The aggregate as a mechanism needs it: spread it into {@link laplaceMechanism} or {@link gaussianMechanism}. */
export interface SubsampleAggregate {
  readonly sensitivity: L1Sensitivity;
  readonly squaredL2Sensitivity: SquaredL2Sensitivity;
  readonly cells: 1;
  /**
   * Runs `answer` on the records of each part, in their order, and holds the sum of the answers, for a mechanism. What
   * `answer` throws is not shown; the imputed value takes its place.
   */
  aggregate<T>(
    records: Iterable<SubjectRecord<T>>,
    answer: (records: readonly T[]) => number,
  ): Private<readonly number[]>;
  /** The mean answer that a released sum stands for, in the unit of the answers. Not cut to the grid's range. */
  meanOf(released: readonly number[]): number;
}

/**
 * Returns the aggregate that splits subjects at random into `blocks` parts, asks the same question of each part, and sums the
 * answers. A subject's records all lie in one part, so adding or removing a subject changes one answer, by the width of the
 * grid at most (`subsample-aggregate.proof.md`): the question may be anything, a median, a fitted model's error, code that
 * nobody has analysed.
 *
 * @throws {CloisterError} `DP_INVALID_PARAMETER` when an option is out of range.
 * @see Nissim, Raskhodnikova & Smith 2007, https://doi.org/10.1145/1250790.1250803
 * @example
 * ```ts
 * const median = subsampleAndAggregate({ blocks: 50, grid: floatGrid({ exponent: -6, low: 0, high: 100 }) });
 * const people = Array.from({ length: 5000 }, (_, i) => ({ subject: `s${i}`, record: 20 + (i % 41) }));
 * const held = median.aggregate(people, ages => [...ages].sort((a, b) => a - b)[ages.length >> 1]!);
 * const mechanism = laplaceMechanism({ ...median, cost: spendOf(1) });
 * Math.abs(median.meanOf(mechanism.release(held).value) - 40) < 60; // true
 * ```
 */
export function subsampleAndAggregate(options: SubsampleOptions): SubsampleAggregate {
  const blocks = wholeParameter('blocks', options.blocks, 1, 65_536);
  const { grid, random = osRandom } = options;
  const low = Math.round(grid.low / grid.step);
  const width = Math.round(grid.high / grid.step) - low;
  if (!(width >= 1 && width <= 2 ** 26)) {
    throw new CloisterError('DP_INVALID_PARAMETER', `the grid is 1 to 2^26 steps wide, got ${width}`);
  }
  return Object.freeze({
    sensitivity: l1Sensitivity(width),
    squaredL2Sensitivity: squaredL2Sensitivity(width * width),
    cells: 1,
    aggregate<T>(records: Iterable<SubjectRecord<T>>, answer: (records: readonly T[]) => number) {
      const parts = Array.from({ length: blocks }, (): T[] => []);
      const blockOf = partition(blocks, random);
      // What is no record of anybody's is left out: an error would be a release.
      for (const entry of records)
        if (typeof entry?.subject === 'string') parts[blockOf(entry.subject)]!.push(entry.record);
      let sum = 0; // below 2^16 2^26: exact
      for (const part of parts) sum += quantise(grid, answered(answer, part)) - low;
      return holdPrivate<readonly number[]>([sum]);
    },
    meanOf: (released: readonly number[]) => (low + released[0]! / blocks) * grid.step,
  });
}

/**
 * Which part a subject's records go to: by a hash under a key that is drawn for each aggregate, so no subject decides for
 * another.
 */
function partition(blocks: number, random: RandomSource): (subject: string) => number {
  const { createHmac } = process.getBuiltinModule('node:crypto');
  const key = new Uint8Array(32);
  random.fill(key);
  // UTF-16 tells every two strings apart; UTF-8 would merge lone surrogates. 48 bits: no part is favoured by more than 2^-32.
  return subject => createHmac('sha256', key).update(subject, 'utf16le').digest().readUIntBE(0, 6) % blocks;
}

function answered<T>(answer: (records: readonly T[]) => number, part: readonly T[]): number {
  try {
    return answer(Object.freeze(part));
  } catch {
    return Number.NaN; // the grid imputes
  }
}
