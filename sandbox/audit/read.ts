/**
 * Reading records back, for showing them.
 * @module
 */
import { CloisterError } from '../../src/base/errors.ts';
import type { AuditAction } from './actions.ts';
import { type Checkpoint, parseCheckpoint } from './checkpoint.ts';
import { type LogDirectory, nodeDirectory } from './directory.ts';
import { matchesFilter, type RecordFilter } from './filter.ts';
import { assertLayout, CHECKPOINT_FILE } from './layout.ts';
import { NOTE_LIMIT_BYTES, parseNote } from './note.ts';
import { type AuditRecord, decodeRecord } from './record.ts';
import { readTail } from './tail.ts';
import { TileReader } from './tile-store.ts';
import { closeSegments, openSegments } from './wal.ts';

/** Which records to read. Conditions that are left out do not restrict. */
export interface RecordQuery {
  /** First position; 0 by default. */
  readonly from?: number | undefined;
  /** How many matching records at most. */
  readonly limit?: number | undefined;
  readonly actor?: string | undefined;
  readonly action?: AuditAction | undefined;
  readonly outcome?: 'allow' | 'refuse' | undefined;
  readonly request?: string | undefined;
  /** Name of the object: a scope, a model's digest. */
  readonly object?: string | undefined;
  /** Milliseconds since 1970, inclusive. */
  readonly since?: number | undefined;
  /** Milliseconds since 1970, exclusive. */
  readonly until?: number | undefined;
  /** Further conditions, see `parseFilter`. */
  readonly filter?: RecordFilter | undefined;
}

/**
 * Reads the records of the log in `dir`, in order, with a few megabytes of memory. It checks form and numbering, not hashes: call
 * `verifyLog` to know that they are the ones that were written. An interrupted write at the end is passed over.
 *
 * @throws {CloisterError} `AUDIT_INVALID` at the first damaged record, `detail.index` saying which; `STORE_FAILED`.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit');
 * const object = { kind: 'model', id: 'digits' } as const;
 * const decision = { outcome: 'refuse', reason: 'POLICY_REFUSED' } as const;
 * await log.append({ actor: 'ward-3', action: 'refuse', object, decision });
 * for await (const record of readRecords('./cloister-data/audit', { action: 'refuse', limit: 10 })) {
 *   record.decision; // { outcome: 'refuse', reason: 'POLICY_REFUSED' }
 * }
 * ```
 */
export function readRecords(dir: string, query: RecordQuery = {}): AsyncGenerator<AuditRecord, void, undefined> {
  return readDirectory(nodeDirectory(dir, false), query);
}

/** {@link readRecords} behind the directory seam. */
export async function* readDirectory(
  directory: LogDirectory,
  query: RecordQuery = {},
): AsyncGenerator<AuditRecord, void, undefined> {
  const from = query.from ?? 0;
  const limit = query.limit ?? Number.POSITIVE_INFINITY;
  if (!Number.isSafeInteger(from) || from < 0)
    throw new CloisterError('INVALID_ARGUMENT', `from must be a count, got ${from}`);
  if (!(limit === Number.POSITIVE_INFINITY || (Number.isSafeInteger(limit) && limit >= 0)))
    throw new CloisterError('INVALID_ARGUMENT', `limit must be a count, got ${limit}`);
  let left = limit;
  if (left === 0) return;
  for (const { bytes, index } of leavesOf(directory, from)) {
    const record = decodeRecordAt(bytes, index);
    if (!matches(record, query)) continue;
    yield record;
    if (--left === 0) return;
  }
}

/** One record of a log, as bytes. */
export interface Leaf {
  readonly index: number;
  /** The encoded record; valid until the next one is asked for. */
  readonly bytes: Uint8Array;
}

/**
 * The records of a log that may be written meanwhile, from `from` on: those under its checkpoint from tiles, the others from the
 * write-ahead segments, up to an interrupted write. Returns how many records there are. Looks at no signature and no hash.
 *
 * @throws {CloisterError} `AUDIT_INVALID` at a damaged record, `detail.index` saying which; `STORE_FAILED`, also when there is no log.
 */
export function* leavesOf(directory: LogDirectory, from: number): Generator<Leaf, number, undefined> {
  assertLayout(directory);
  // Segments first: what leaves them before the checkpoint is read is under it.
  const segments = openSegments(directory);
  try {
    const { origin, size } = storedHead(directory);
    const tiles = new TileReader(directory, size);
    let next = from;
    for (; next < size; next++) yield { index: next, bytes: tiles.leaf(next) };
    let again = false;
    let count = size;
    for (;;) {
      let half = false;
      for (const read of readTail(directory, segments, size, origin)) {
        if (read.kind === 'record') {
          if (read.index >= size) count = Math.max(count, read.index + 1);
          if (read.index >= next) {
            next = read.index + 1;
            again = false;
            yield { index: read.index, bytes: read.record };
          }
        } else if (read.kind !== 'damaged') {
          throw damaged(read.index, read.kind === 'gap' ? 'missing' : 'malformed', 'is in no segment');
        } else if (!read.torn) {
          // Perhaps the frame was half written when it was read, and is whole by now.
          if (again) throw damaged(read.index, 'changed', 'is damaged: its checksum fails');
          half = true;
        }
      }
      if (!half) return count;
      again = true;
    }
  } finally {
    closeSegments(segments);
  }
}

/**
 * What a log's stored checkpoint says, unverified.
 *
 * @throws {CloisterError} `AUDIT_INVALID` when it is not a checkpoint; `STORE_FAILED` when there is none.
 */
export function storedHead(directory: LogDirectory): Checkpoint {
  const note = directory.read(CHECKPOINT_FILE, NOTE_LIMIT_BYTES + 1);
  if (note === undefined) throw new CloisterError('STORE_FAILED', `there is no log in ${directory.path}`);
  return parseCheckpoint(parseNote(note).text);
}

/** @throws {CloisterError} `AUDIT_INVALID` when the bytes are not the encoding of record `index`. */
export function decodeRecordAt(bytes: Uint8Array, index: number): AuditRecord {
  const record = decodeRecord(bytes);
  if (record.seq !== index) {
    throw new CloisterError('AUDIT_INVALID', `record ${index} is numbered ${record.seq}`, { kind: 'malformed', index });
  }
  return record;
}

function damaged(index: number, kind: string, why: string): CloisterError {
  return new CloisterError('AUDIT_INVALID', `record ${index} ${why}`, { kind, index });
}

function matches(record: AuditRecord, query: RecordQuery): boolean {
  return (
    (query.actor === undefined || record.actor === query.actor) &&
    (query.action === undefined || record.action === query.action) &&
    (query.outcome === undefined || record.decision.outcome === query.outcome) &&
    (query.request === undefined || record.request === query.request) &&
    (query.object === undefined || record.object.id === query.object) &&
    (query.since === undefined || record.time >= query.since) &&
    (query.until === undefined || record.time < query.until) &&
    (query.filter === undefined || matchesFilter(record, query.filter))
  );
}
