/**
 * The records that no checkpoint covers yet, from the write-ahead segments.
 * @module
 */
import type { LogDirectory } from './directory.ts';
import { surplusRecords } from './tile-store.ts';
import { FrameReader, HEADER_BYTES, hasHeader, isTornTail, type WalSegment } from './wal.ts';

/** What {@link readTail} gives: records in order, and where it stops before the end, why. */
export type TailRead =
  | {
      readonly kind: 'record';
      readonly index: number;
      /** A view that the next read overwrites. */
      readonly record: Uint8Array;
      /** Place in the group that it was written with; 0 where that is not known. */
      readonly place: number;
    }
  /** The bytes of record `index` in a segment are damaged. `torn`: as by a crash, and nothing that was durable is affected. */
  | {
      readonly kind: 'damaged';
      readonly index: number;
      readonly torn: boolean;
      readonly short: boolean;
      readonly bytes: number;
    }
  /** A segment has another header than it should. */
  | { readonly kind: 'header'; readonly index: number; readonly name: string }
  /** Records from `index` on are in no segment, though later ones are. */
  | { readonly kind: 'gap'; readonly index: number };

/**
 * Reads the records behind the first `signed`, which the checkpoint covers, and whole groups of those before them that are still in a
 * segment: `index` says which. A record, and whether it is the one that was written, is for the caller to judge.
 */
export function* readTail(
  directory: LogDirectory,
  segments: readonly WalSegment[],
  signed: number,
  origin: string,
): Generator<TailRead, void, undefined> {
  const live = segments.filter((_, i) => i + 1 === segments.length || segments[i + 1]!.first > signed);
  if (live.length === 0 || live[0]!.first > signed) {
    // A copy that was taken while the log was written. What the segment was before is in bundles already.
    let index = signed;
    for (const record of surplusRecords(directory, signed)) {
      if (index === live[0]?.first) break;
      yield { kind: 'record', index: index++, record, place: 0 };
    }
    if (live[0] !== undefined && index < live[0].first) {
      yield { kind: 'gap', index };
      return;
    }
  }
  for (const [i, segment] of live.entries()) {
    let index = segment.first;
    if (!hasHeader(segment, origin)) {
      yield { kind: 'header', index: Math.max(index, signed), name: segment.name };
      return;
    }
    const next = live[i + 1];
    const reader = new FrameReader(segment.file, HEADER_BYTES);
    let frame = reader.next();
    for (; frame.kind === 'frame'; frame = reader.next()) {
      const { record, place } = frame;
      yield { kind: 'record', index: index++, record, place };
    }
    if (frame.kind === 'bad') {
      const torn = next === undefined && index >= signed && isTornTail(segment.file, frame.start);
      yield { kind: 'damaged', index, torn, short: frame.short, bytes: segment.file.size() - frame.start };
      return;
    }
    if (next !== undefined && index !== next.first) {
      yield { kind: 'gap', index: Math.min(index, next.first) };
      return;
    }
  }
}
