/**
 * Following a log that another process writes.
 * @module
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { CloisterError } from '../../src/base/errors.ts';
import { type LogDirectory, nodeDirectory } from './directory.ts';
import { matchesFilter, type RecordFilter } from './filter.ts';
import { RECORDS_FILE } from './layout.ts';
import { decodeRecordAt, wholeFrames } from './read.ts';
import type { AuditRecord } from './record.ts';
import { HEADER_BYTES } from './segment.ts';

/** Options of {@link followRecords}. */
export interface FollowOptions {
  /** First position; 0 by default. */
  readonly from?: number | undefined;
  /** Which records to give. */
  readonly filter?: RecordFilter | undefined;
  /** Ends the following, without an error. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds between two looks at the file; 200 by default. */
  readonly pollMs?: number | undefined;
}

/**
 * Gives the records of the log in `dir` in order, waits for more at the end, and ends when `signal` says so. Takes no lock. A record
 * is given when it is whole in the file, which may be a moment before it is durable; one that a crash tears is given when the log has
 * been opened again, in the form that it has then. Checks form and numbering, as `readRecords` does.
 *
 * @throws {CloisterError} `AUDIT_INVALID` when a record is damaged, or the file became shorter than what was read: the log was put
 *   back or replaced; `STORE_FAILED`.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit');
 * const object = { kind: 'model', id: 'digits' } as const;
 * const stop = new AbortController();
 * await log.append({ actor: 'ward-3', action: 'load', object, decision: { outcome: 'allow' } });
 * for await (const record of followRecords('./cloister-data/audit', { signal: stop.signal })) {
 *   record.actor; // 'ward-3'
 *   stop.abort();
 * }
 * ```
 */
export function followRecords(dir: string, options: FollowOptions = {}): AsyncGenerator<AuditRecord, void, undefined> {
  return followDirectory(nodeDirectory(dir, false), options);
}

/** {@link followRecords} behind the directory seam. */
export async function* followDirectory(
  directory: LogDirectory,
  { from = 0, filter, signal, pollMs = 200 }: FollowOptions = {},
): AsyncGenerator<AuditRecord, void, undefined> {
  let position = HEADER_BYTES;
  let index = 0;
  let looked = -1; // the size of the file at the last look
  while (!signal?.aborted) {
    // Opened anew for each look, so that a log that was put back in the place of this one is seen.
    const segment = directory.open(RECORDS_FILE);
    const size = segment?.size() ?? 0;
    try {
      if (segment === undefined || size < position) {
        throw new CloisterError(
          'AUDIT_INVALID',
          `the log in ${directory.path} is shorter than the ${index} records that were read: it was put back or replaced`,
          { kind: 'truncated', index },
        );
      }
      if (size !== looked) {
        for (const { bytes, end } of wholeFrames(segment, position, index)) {
          const record = decodeRecordAt(bytes, index);
          if (index >= from && (filter === undefined || matchesFilter(record, filter))) yield record;
          index++;
          position = end;
          if (signal?.aborted) return;
        }
      }
    } finally {
      segment?.close();
    }
    looked = size;
    // An abort ends the wait; the loop then ends too.
    await sleep(pollMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  }
}
