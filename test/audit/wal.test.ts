import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readTail } from '../../sandbox/audit/tail.ts';
import {
  closeSegments,
  FRAME_BYTES,
  FrameReader,
  HEADER_BYTES,
  hasHeader,
  isTornTail,
  openSegments,
  segmentHeader,
  segmentName,
  writeFrame,
} from '../../sandbox/audit/wal.ts';
import { concatBytes } from '../../src/base/bytes.ts';
import { ORIGIN } from './events.ts';
import { MemoryDirectory } from './memory-directory.ts';

const RUNS = Number(process.env['CLOISTER_FUZZ_RUNS'] ?? 1000);
const text = (n: number): Uint8Array => new TextEncoder().encode(`{"n":${n}}`);

function frame(record: Uint8Array, place: number): Uint8Array {
  const bytes = new Uint8Array(FRAME_BYTES + record.length);
  writeFrame(record, place, bytes, 0);
  return bytes;
}

/** A directory with one segment whose first record is `first`. */
function withSegment(first: number, ...parts: Uint8Array[]): MemoryDirectory {
  const directory = new MemoryDirectory();
  directory.set(segmentName(first), concatBytes(segmentHeader(ORIGIN, first), ...parts));
  return directory;
}

const tailOf = (directory: MemoryDirectory, signed: number) =>
  Array.from(readTail(directory, openSegments(directory), signed, ORIGIN), read => ({ ...read }));

test('frames are read back as they were written, whatever the groups, and a cut leaves those before it', () => {
  const groups = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(groups, fc.nat(5), fc.double({ min: 0, max: 1, noNaN: true }), (sizes, first, where) => {
      const places = sizes.flatMap(size => Array.from({ length: size }, (_, place) => place));
      const frames = places.map((place, i) => frame(text(i), place));
      const whole = tailOf(withSegment(first, ...frames), first);
      expect(whole.map(read => [read.kind, read.index])).toEqual(places.map((_, i) => ['record', first + i]));
      const bytes = concatBytes(...frames);
      const cut = bytes.slice(0, Math.floor(where * bytes.length));
      const reads = tailOf(withSegment(first, cut), first);
      const count = reads.filter(({ kind }) => kind === 'record').length;
      expect(concatBytes(...frames.slice(0, count)).length).toBeLessThanOrEqual(cut.length);
      if (reads.length > count)
        expect(reads.at(-1)).toMatchObject({ kind: 'damaged', torn: true, index: first + count });
    }),
  );
});

test('segments of any bytes are read in bounded time, and never thrown on', () => {
  const piece = fc.oneof(
    fc.uint8Array({ maxLength: 60 }),
    fc.constant(frame(text(1), 0)),
    fc.constant(frame(text(2), 1)),
    fc.constant(new Uint8Array(40)),
    fc.constant(segmentHeader(ORIGIN, 3)),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), fc.boolean(), fc.nat(6), (pieces, header, signed) => {
      const directory = header ? withSegment(3, ...pieces) : new MemoryDirectory();
      if (!header) directory.set(segmentName(3), concatBytes(...pieces));
      const reads = tailOf(directory, signed);
      for (const [i, read] of reads.entries()) if (read.kind !== 'record') expect(i).toBe(reads.length - 1);
      const [segment] = openSegments(directory);
      const reader = new FrameReader(segment!.file, HEADER_BYTES);
      for (let read = reader.next(); read.kind === 'frame'; read = reader.next())
        expect(read.end).toBeGreaterThan(read.start);
      isTornTail(segment!.file, 0);
    }),
    { numRuns: RUNS },
  );
});

test('a header is that of its log and its place, to the bit', () => {
  const directory = withSegment(7);
  const [segment] = openSegments(directory);
  expect(segment).toMatchObject({ first: 7, name: 'wal/0000000000000007' });
  expect(hasHeader(segment!, ORIGIN)).toBe(true);
  expect(hasHeader(segment!, 'another.example')).toBe(false);
  expect(hasHeader({ ...segment!, first: 8 }, ORIGIN)).toBe(false);
  const bytes = directory.bytes('wal/0000000000000007');
  for (let bit = 0; bit < 8 * HEADER_BYTES; bit++) {
    bytes[bit >> 3]! ^= 1 << (bit & 7);
    expect(hasHeader(segment!, ORIGIN), `bit ${bit}`).toBe(false);
    bytes[bit >> 3]! ^= 1 << (bit & 7);
  }
});

test('what has no name of a segment is passed over; segments are in the order of their records, each read to the next', () => {
  const directory = withSegment(2, frame(text(2), 0), frame(text(3), 0));
  directory.set(segmentName(4), concatBytes(segmentHeader(ORIGIN, 4), frame(text(4), 0)));
  for (const name of ['wal/4', 'wal/x', 'wal/0000000000000004.tmp', 'wal/9999999999999999', 'wal/-000000000000001'])
    directory.set(name, new Uint8Array(3));
  const segments = openSegments(directory);
  expect(segments.map(({ first }) => first)).toEqual([2, 4]);
  closeSegments(segments);
  expect(tailOf(directory, 2).map(({ index }) => index)).toEqual([2, 3, 4]);
  expect(tailOf(directory, 4).map(({ index }) => index)).toEqual([4]); // the first means nothing any more
  expect(tailOf(directory, 0)).toMatchObject([{ kind: 'gap', index: 0 }]);
  directory.set(segmentName(2), directory.bytes(segmentName(2)).slice(0, -3));
  expect(tailOf(directory, 2).at(-1)).toMatchObject({ kind: 'damaged', index: 3, torn: false });
  directory.set(segmentName(2), directory.bytes(segmentName(2)).slice(0, HEADER_BYTES));
  expect(tailOf(directory, 2)).toMatchObject([{ kind: 'gap', index: 2 }]);
});
