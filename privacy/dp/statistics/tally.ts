/**
 * Raw counts on their way to a mechanism.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import { SubjectSet } from './subject-set.ts';

/** What a tally holds. */
export interface TallyContents {
  /** Integers below 2^53: exact in a float64. */
  readonly counts: Float64Array;
  readonly seen: SubjectSet;
}

/** What an unfinished tally holds: for statistics in this room, and not exported from it. */
export let tallyContents: (tally: Tally) => TallyContents;

/** The same, and the tally is spent: for statistics in this room, and not exported from it. */
export let finishTally: (tally: Tally) => TallyContents;

/** The counts so far, readable only by their statistic. Memory: 8 bytes for each cell, 32 to 64 for each distinct subject. */
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
    this.#contents = { counts: new Float64Array(cells), seen: new SubjectSet() };
    Object.freeze(this);
  }
}
