/**
 * An index over a log: which records a filter asks for, without reading them. The log stays the truth; what is here can be deleted at
 * any time and is made again. Whoever shows a record takes it from the log and checks it there.
 * @module
 */
import type { FilterKey, RecordFilter } from '../filter.ts';

/** A log as an index reads it: no more than a checkpoint covers. */
export interface LogSource {
  /** Records under the checkpoint. */
  readonly size: number;
  /** Root hash of the first `size` records. */
  rootAt(size: number): Uint8Array | Promise<Uint8Array>;
  /** The encoded records from `from` up to `to`, exclusive. An array may be overwritten when the next one is asked for. */
  leaves(from: number, to: number): Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

/** What {@link LogIndex.update} may be told. */
export interface UpdateOptions {
  /** Told how many of how many records are indexed. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** Ends the work; what is indexed by then stays. */
  readonly signal?: AbortSignal | undefined;
}

/** How many records were allowed and refused in each of some equal spans of time. */
export interface Histogram {
  /** Milliseconds since 1970: where the first bucket begins and the last one ends. Both 0 when nothing was counted. */
  readonly from: number;
  readonly to: number;
  /** Width of a bucket; bucket i begins at `from + i * widthMs`. */
  readonly widthMs: number;
  readonly allow: readonly number[];
  readonly refuse: readonly number[];
}

/** What was spent of one scope, in the order of the log. */
export interface BurnDown {
  readonly scope: string;
  /** Records with a budget that were allowed (changes of a limit are none), and those that were refused: all of them, also where the lists below are thinned out. */
  readonly charged: number;
  readonly refused: number;
  readonly charges: readonly {
    readonly seq: number;
    readonly time: number;
    readonly before: number;
    readonly after: number;
  }[];
  readonly refusals: readonly { readonly seq: number; readonly time: number; readonly reason: string }[];
}

/** A value that records have, and how many have it. */
export interface ValueCount {
  readonly value: string;
  readonly count: number;
}

/** The qualifiers whose values an index can list. */
export type ValueKey = Exclude<FilterKey, 'since' | 'until'>;

/** An open index. Every method answers from the records that the last `update` saw. */
export interface LogIndex extends AsyncDisposable {
  /** `sqlite`, `memory` … for reports. */
  readonly name: string;
  /** Records that are indexed and can be asked for. */
  readonly size: number;
  /**
   * Catches up with the log and returns the new size. An index of another log, or of one that was rolled back, is made anew.
   *
   * @throws {CloisterError} `AUDIT_INVALID` when a record is damaged, `detail.index` saying which; `ABORTED`; `STORE_FAILED`; `LOCKED`.
   */
  update(source: LogSource, options?: UpdateOptions): Promise<number>;
  /** The sequence numbers of the records that `filter` asks for, ascending: exactly those that `matchesFilter` says. */
  seqs(filter: RecordFilter): Promise<Uint32Array>;
  /**
   * Counts the records that `filter` asks for over time, in at most `buckets` spans between `since` and `until`, or, where the filter
   * leaves them open, the earliest and the latest time among those records.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` unless `buckets` is a whole number from 1 to 10,000.
   */
  histogram(filter: RecordFilter, buckets: number): Promise<Histogram>;
  /**
   * What was spent of each scope, by name of the scope. Of more than `limitPoints` charges of one scope as many are left, evenly spread
   * over them, the first and the last among them; of refusals the same.
   */
  budgets(limitPoints?: number): Promise<readonly BurnDown[]>;
  /**
   * Values that records have for a qualifier and that start with `prefix`, those of most records first. Where a qualifier has many
   * thousand values, the newest records alone are looked at.
   */
  values(key: ValueKey, prefix: string, limit: number): Promise<readonly ValueCount[]>;
  /** Ends the use; what the index was opened on is closed by whoever opened it. */
  close(): Promise<void>;
}
