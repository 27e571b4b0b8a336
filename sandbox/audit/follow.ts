/**
 * Following a log that another process writes.
 * @module
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { CloisterError } from '../../src/base/errors.ts';
import { type LogDirectory, nodeDirectory } from './directory.ts';
import { matchesFilter, type RecordFilter } from './filter.ts';
import { CHECKPOINT_FILE } from './layout.ts';
import { NOTE_LIMIT_BYTES } from './note.ts';
import { decodeRecordAt, leavesOf } from './read.ts';
import type { AuditRecord } from './record.ts';
import { closeSegments, openSegments } from './wal.ts';

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
 * is given when it is whole on disk, which may be a moment before it is durable; one that a crash tears is given when the log has
 * been opened again, in the form that it has then. Checks form and numbering, as `readRecords` does.
 *
 * @throws {CloisterError} `AUDIT_INVALID` when a record is damaged, or the log became shorter than what was read: the log was put
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
  let index = 0;
  let looked = ''; // what the files were like at the last look
  while (!signal?.aborted) {
    const looks = fingerprint(directory);
    if (looks !== looked) {
      const leaves = leavesOf(directory, index);
      for (;;) {
        const next = leaves.next();
        if (next.done) {
          if (next.value >= index) break;
          throw new CloisterError(
            'AUDIT_INVALID',
            `the log in ${directory.path} is shorter than the ${index} records that were read: it was put back or replaced`,
            { kind: 'truncated', index: next.value },
          );
        }
        const record = decodeRecordAt(next.value.bytes, index);
        if (index >= from && (filter === undefined || matchesFilter(record, filter))) yield record;
        index++;
        if (signal?.aborted) return;
      }
    }
    looked = looks;
    // An abort ends the wait; the loop then ends too.
    await sleep(pollMs, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  }
}

/** Text that is another one when records were added. */
function fingerprint(directory: LogDirectory): string {
  const segments = openSegments(directory);
  try {
    const note = directory.read(CHECKPOINT_FILE, NOTE_LIMIT_BYTES + 1) ?? new Uint8Array(0);
    const sizes = segments.map(({ name, file }) => `${name} ${file.size()}`);
    return [Buffer.from(note).toString('latin1'), ...sizes].join('\n');
  } finally {
    closeSegments(segments);
  }
}
