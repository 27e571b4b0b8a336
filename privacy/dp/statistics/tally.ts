/**
 * Raw sums on their way to a mechanism.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import { SubjectCounts } from './subject-counts.ts';

/** What a tally holds. */
export interface TallyContents {
  /** Sums of integers, exact: 2^63 is beyond what 2^33 records of 2^30 steps add up to. */
  readonly sums: BigInt64Array;
  /** How often each subject contributed. */
  readonly subjects: SubjectCounts;
}

/** What an unfinished tally holds: for statistics in this room, and not exported from it. */
export let tallyContents: (tally: Tally) => TallyContents;

/** The same, and the tally is spent: for statistics in this room, and not exported from it. */
export let finishTally: (tally: Tally) => TallyContents;

/** The sums so far, readable only by their statistic. Memory: 8 bytes for each cell, 40 to 80 for each distinct subject. */
export class Tally {
  #contents: TallyContents | undefined;

  static {
    tallyContents = tally => {
      if (!tally.#contents)
        throw new CloisterError('INVALID_ARGUMENT', 'this tally is finished: one charge, one release');
      return tally.#contents;
    };
    finishTally = tally => {
      const contents = tallyContents(tally);
      tally.#contents = undefined;
      return contents;
    };
  }

  constructor(cells: number) {
    this.#contents = { sums: new BigInt64Array(cells), subjects: new SubjectCounts() };
    Object.freeze(this);
  }
}
