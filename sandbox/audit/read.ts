/**
 * Reading records back, for showing them.
 * @module
 */
import { CloisterError } from '../../src/base/errors.ts';
import type { AuditAction } from './actions.ts';
import { type LogDirectory, type LogFile, nodeDirectory } from './directory.ts';
import { matchesFilter, type RecordFilter } from './filter.ts';
import { RECORDS_FILE, TREE_FILE } from './layout.ts';
import { type AuditRecord, decodeRecord } from './record.ts';
import { FrameReader, HEADER_BYTES, isTornTail } from './segment.ts';
import { readFrameEnd } from './tree-file.ts';

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
 * Reads the records of the log in `dir`, in order, with a megabyte of memory. It checks form and numbering, not hashes: call
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
  const segment = directory.open(RECORDS_FILE);
  if (segment === undefined) throw new CloisterError('STORE_FAILED', `there is no log in ${directory.path}`);
  try {
    const start = startAt(directory, segment, from);
    let left = limit;
    if (left === 0) return;
    for (const { bytes, index } of wholeFrames(segment, start.position, start.index)) {
      if (index < from) continue;
      const record = decodeRecordAt(bytes, index);
      if (!matches(record, query)) continue;
      yield record;
      if (--left === 0) return;
    }
  } finally {
    segment.close();
  }
}

/** One frame that is whole in a segment. */
export interface WholeFrame {
  /** Of the record; valid until the next frame is asked for. */
  readonly bytes: Uint8Array;
  readonly index: number;
  /** Where the next frame begins. */
  readonly end: number;
}

/**
 * The whole frames of a segment that may be written meanwhile, from `position` on, where record `from` begins. Ends before an
 * interrupted write at the end.
 *
 * @throws {CloisterError} `AUDIT_INVALID` at a damaged frame.
 */
export function* wholeFrames(segment: LogFile, position: number, from: number): Generator<WholeFrame, void, undefined> {
  let index = from;
  let at = position;
  let reader = new FrameReader(segment, at);
  for (let again = false; ; ) {
    const frame = reader.next();
    if (frame.kind === 'end') return;
    if (frame.kind === 'bad') {
      if (isTornTail(segment, frame.start)) return;
      // Perhaps the frame was half written when it was read, and is whole by now.
      if (again) {
        throw new CloisterError('AUDIT_INVALID', `record ${index} is damaged: its checksum fails`, {
          kind: 'changed',
          index,
        });
      }
      again = true;
      reader = new FrameReader(segment, at);
      continue;
    }
    again = false;
    at = frame.end;
    yield { bytes: frame.record, index: index++, end: at };
  }
}

/** @throws {CloisterError} `AUDIT_INVALID` when the bytes are not the encoding of record `index`. */
export function decodeRecordAt(bytes: Uint8Array, index: number): AuditRecord {
  const record = decodeRecord(bytes);
  if (record.seq !== index) {
    throw new CloisterError('AUDIT_INVALID', `record ${index} is numbered ${record.seq}`, { kind: 'malformed', index });
  }
  return record;
}

/** Where record `from` begins, when the tree file knows that, else where record 0 does. */
function startAt(
  directory: LogDirectory,
  segment: LogFile,
  from: number,
): { readonly position: number; readonly index: number } {
  const start = { position: HEADER_BYTES, index: 0 };
  const tree = from === 0 ? undefined : directory.open(TREE_FILE);
  if (tree === undefined) return start;
  try {
    const position = readFrameEnd(tree, from - 1);
    if (position < HEADER_BYTES) return start;
    const frame = new FrameReader(segment, position).next();
    if (frame.kind !== 'frame' || decodeRecord(frame.record).seq !== from) return start;
    return { position, index: from };
  } catch {
    return start; // the offset in the tree file is a hint; the segment decides
  } finally {
    tree.close();
  }
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
