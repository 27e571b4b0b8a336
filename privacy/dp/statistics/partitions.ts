/**
 * Counts of subjects by keys that are not known beforehand.
 * @module
 */
import { CloisterError } from '../../../src/base/index.ts';
import { Private } from '../private.ts';
import { CELLS, checkOptions, wholeOption } from './statistic.ts';
import { SubjectCounts } from './subject-counts.ts';

interface Contents {
  readonly counts: Map<string, number>;
  /** Keys by number: what a subject touched is counted under these. */
  readonly labels: Map<string, number>;
  readonly subjects: SubjectCounts;
}

let contentsOf: (tally: PartitionTally, end: boolean) => Contents;

/** Raw counts by key, readable only by what counts them. Memory: each distinct key, and 40 to 80 bytes for each pair counted. */
export class PartitionTally {
  #contents: Contents | undefined = { counts: new Map(), labels: new Map(), subjects: new SubjectCounts() };

  static {
    contentsOf = (tally, end) => {
      const contents = tally.#contents;
      if (!contents) throw new CloisterError('INVALID_ARGUMENT', 'this tally is finished: one charge, one release');
      if (end) tally.#contents = undefined;
      return contents;
    };
  }

  constructor() {
    Object.freeze(this);
  }
}

/** What {@link partitionCount} is told. */
export interface PartitionCountOptions {
  /** L0: a subject counts in the first so many distinct partitions that its records name, 1 to 1,024. */
  readonly perSubject: { readonly partitions: number };
}

/** How many subjects have a record in each partition. */
export interface PartitionCount {
  readonly kind: 'partition-count';
  readonly neighboring: 'add-remove';
  /** The most partitions that one subject counts in, by 1 each: L1 sensitivity, and squared L2 sensitivity, of the counts. */
  readonly partitions: number;
  start(): PartitionTally;
  /** Counts one record. A subject or a key that is no string contributes nothing. Never throws because of a record. */
  accumulate(tally: PartitionTally, subject: string, key: string): void;
  /** The counts, for a mechanism that selects; the tally is spent. */
  finish(tally: PartitionTally): Private<ReadonlyMap<string, number>>;
}

/**
 * Counts subjects by keys, such as places or products, that the data itself brings. Which keys there are is private too: publish
 * them by {@link optimalSelection} or {@link thresholdSelection}.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when an option is missing, unknown or out of range.
 * @example
 * ```ts
 * const visits = partitionCount({ perSubject: { partitions: 3 } });
 * const tally = visits.start();
 * for (let i = 0; i < 500; i++) visits.accumulate(tally, `subject-${i}`, 'ward 7');
 * visits.accumulate(tally, 'subject-1', 'a place that only one person goes to');
 * const select = thresholdSelection({ noise: 'laplace', partitions: 3, cost: spendOf(1), delta: delta(1e-9) });
 * select.release(visits.finish(tally)).value.map(({ key }) => key); // ['ward 7']
 * ```
 */
export function partitionCount(options: PartitionCountOptions): PartitionCount {
  checkOptions('partitionCount', options, ['perSubject']);
  checkOptions('partitionCount: perSubject', options.perSubject, ['partitions']);
  const partitions = wholeOption('partitionCount: perSubject', 'partitions', options.perSubject.partitions, 1, 1024);
  return Object.freeze({
    kind: 'partition-count',
    neighboring: 'add-remove',
    partitions,
    start: () => new PartitionTally(),
    accumulate(tally: PartitionTally, subject: string, key: string): void {
      const { counts, labels, subjects } = contentsOf(tally, false);
      if (typeof subject !== 'string' || typeof key !== 'string') return;
      const known = labels.get(key);
      if (known !== undefined && subjects.count(subject, known) > 0) return;
      if (!subjects.take(subject, CELLS, partitions)) return;
      const label = known ?? labels.size;
      if (known === undefined) labels.set(key, label);
      subjects.take(subject, label, 1);
      counts.set(key, (counts.get(key) ?? 0) + 1);
    },
    finish: (tally: PartitionTally) => new Private<ReadonlyMap<string, number>>(contentsOf(tally, true).counts),
  });
}
