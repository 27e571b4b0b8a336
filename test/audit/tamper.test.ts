/**
 * Every way of laying hands on a log that we know of, and the verdict that each must get: the right index and the right kind.
 */
import { describe, expect, test } from 'vitest';
import { signCheckpoint } from '../../sandbox/audit/checkpoint.ts';
import { crc32c } from '../../sandbox/audit/crc32c.ts';
import { createSigner, loadSigner } from '../../sandbox/audit/keys.ts';
import type { Head } from '../../sandbox/audit/layout.ts';
import { openDirectory } from '../../sandbox/audit/log.ts';
import { TreeBuilder } from '../../sandbox/audit/merkle.ts';
import { nodeHasher } from '../../sandbox/audit/node-crypto.ts';
import { parseVkey } from '../../sandbox/audit/note.ts';
import { TileReader, TileWriter } from '../../sandbox/audit/tile-store.ts';
import { encodeBundle, TILE_WIDTH, tilePath, tileWidth } from '../../sandbox/audit/tiles.ts';
import type { LogVerdict } from '../../sandbox/audit/verdict.ts';
import { type VerifyOptions, verifyDirectory } from '../../sandbox/audit/verify-directory.ts';
import { FrameReader, GROUP_LIMIT_RECORDS, HEADER_BYTES, writeFrame } from '../../sandbox/audit/wal.ts';
import { concatBytes } from '../../src/base/bytes.ts';
import { appendGroups, event, memoryLog, ORIGIN, onlyFile, SLOW } from './events.ts';
import { MemoryDirectory } from './memory-directory.ts';

/** A closed log of ten records in groups, with its key and head. */
async function honest(
  groups: readonly number[] = [1, 3, 1, 2, 3],
): Promise<{ directory: MemoryDirectory; vkey: string; head: Head }> {
  const { directory, log } = await memoryLog();
  await appendGroups(log, groups);
  const head = log.head();
  await log.close();
  return { directory, vkey: log.vkey, head };
}

/** The records under the checkpoint of a closed log. */
function recordsOf(directory: MemoryDirectory, size: number): Uint8Array[] {
  const reader = new TileReader(directory, size);
  return Array.from({ length: size }, (_, index) => reader.leaf(index));
}

/** Puts other records into the bundles of a log of `size`, as many as there are, the last bundle taking what is left over. */
function rebundle(directory: MemoryDirectory, size: number, records: readonly Uint8Array[]): void {
  for (let index = 0; index * TILE_WIDTH < size; index++) {
    const last = (index + 1) * TILE_WIDTH >= size;
    const part = records.slice(index * TILE_WIDTH, last ? undefined : (index + 1) * TILE_WIDTH);
    directory.set(tilePath('entries', index, tileWidth('entries', index, size)), encodeBundle(part));
  }
}

/** Writes the hash tiles anew over other records, and gives their tree. */
function rehash(directory: MemoryDirectory, records: readonly Uint8Array[]): TreeBuilder {
  const builder = new TreeBuilder(nodeHasher);
  const writer = new TileWriter(new TileReader(directory, 0));
  for (const record of records) {
    const leafHash = nodeHasher.leaf(record);
    writer.add(record, leafHash, builder.append(leafHash));
  }
  for (const { name, bytes } of writer.files()) if (!name.startsWith('tile/entries')) directory.set(name, bytes);
  return builder;
}

interface Frame {
  readonly record: Uint8Array;
  readonly place: number;
  readonly start: number;
  readonly end: number;
}

/** The frames of the last segment. */
function framesOf(directory: MemoryDirectory): Frame[] {
  const reader = new FrameReader(directory.open(onlyFile(directory, 'wal'))!, HEADER_BYTES);
  const frames: Frame[] = [];
  for (let frame = reader.next(); frame.kind === 'frame'; frame = reader.next())
    frames.push({ ...frame, record: frame.record.slice() });
  return frames;
}

/** Writes the frames anew, with valid checksums. */
function reframe(directory: MemoryDirectory, records: readonly { record: Uint8Array; place: number }[]): void {
  const parts = records.map(({ record, place }) => {
    const frame = new Uint8Array(12 + record.length);
    writeFrame(record, place, frame, 0);
    return frame;
  });
  const name = onlyFile(directory, 'wal');
  directory.set(name, concatBytes(directory.bytes(name).slice(0, HEADER_BYTES), ...parts));
}

/** A log with `signed` records under its checkpoint, in a segment of its own, and `groups` behind them. */
async function withTail(signed: number, groups: readonly number[]) {
  const { directory, log } = await memoryLog();
  await appendGroups(log, [signed]);
  await log.close();
  const again = await openDirectory(directory, { checkpointMs: 3_600_000 });
  await appendGroups(again, groups, signed);
  return { directory: directory.clone(), log: again, anchor: again.head() };
}

const forged = (record: Uint8Array): Uint8Array =>
  new TextEncoder().encode(new TextDecoder().decode(record).replace('"ward-', '"Ward-'));

async function expectBad(
  directory: MemoryDirectory,
  index: number,
  kind: string,
  options: VerifyOptions,
): Promise<void> {
  const verdict = await verifyDirectory(directory, options);
  expect(verdict).toMatchObject({ ok: false, index, through: index, kind });
}

/** A start on a damaged log is refused with the verdict's kind, and writes nothing. */
async function expectRefused(directory: MemoryDirectory, kind: string, anchor?: Head): Promise<void> {
  const before = new Map([...directory.files].map(([name, { bytes }]) => [name, bytes.slice()]));
  await expect(openDirectory(directory, { anchor })).rejects.toMatchObject({ code: 'AUDIT_INVALID', detail: { kind } });
  for (const [name, bytes] of before)
    if (!name.startsWith('tile/0')) expect(directory.bytes(name), name).toEqual(bytes);
}

test('an honest log raises no alarm, whatever its groups, checkpoints and times of opening', async () => {
  for (let size = 0; size <= (SLOW ? 200 : 40); size++) {
    const { directory, log } = await memoryLog({ checkpointEvery: 1 + (size % 7) });
    const anchors = [log.head()];
    for (let done = 0; done < size; ) {
      const count = Math.min(size - done, 1 + ((size * 7 + done) % 5));
      await appendGroups(log, [count], done);
      done += count;
      anchors.push(log.head());
    }
    for (const readTree of [true, false]) {
      const verdict = await verifyDirectory(directory.clone(), { vkey: log.vkey, anchor: log.head() }, readTree);
      expect(verdict).toMatchObject({ ok: true, size, root: log.head().root, tornBytes: 0 });
    }
    await log.close();
    for (const anchor of anchors) {
      expect(await verifyDirectory(directory, { vkey: log.vkey, anchor })).toMatchObject({
        ok: true,
        size,
        signedSize: size,
      });
    }
    await (await openDirectory(directory, { anchor: anchors.at(-1) })).close();
  }
});

describe('a bit is flipped', () => {
  test('in any record of a bundle, or in the length before it: that record was changed', {
    timeout: 600_000,
  }, async () => {
    const { directory, vkey, head } = await honest([1, 2, 1]);
    const bytes = directory.bytes(onlyFile(directory, 'tile/entries'));
    let start = 0;
    for (const [index, { length }] of recordsOf(directory, 4).entries()) {
      const end = start + 2 + length;
      for (let bit = 8 * start; bit < 8 * end; bit++) {
        if (!SLOW && index === 1) break; // the first, one within, and the last
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        const verdict = await verifyDirectory(directory, { vkey, anchor: head });
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        if (verdict.ok || verdict.index !== index || verdict.kind !== 'changed')
          expect.fail(`bit ${bit - 8 * start} of record ${index}: ${JSON.stringify(verdict)}`);
      }
      start = end;
    }
    expect(await verifyDirectory(directory, { vkey, anchor: head })).toMatchObject({ ok: true });
  });

  test('in any frame that an anchor vouches for: that record was changed', { timeout: 600_000 }, async () => {
    const { directory, log, anchor } = await withTail(2, [1, 2]);
    const bytes = directory.bytes(onlyFile(directory, 'wal'));
    for (const [i, { start, end }] of framesOf(directory).entries()) {
      if (!SLOW && i === 1) continue;
      for (let bit = 8 * start; bit < 8 * end; bit++) {
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        const verdict = await verifyDirectory(directory, { vkey: log.vkey, anchor });
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        // A length that leads behind the end of the file looks as if the file had been cut.
        const kinds = bit < 8 * (start + 4) ? ['changed', 'truncated'] : ['changed'];
        if (verdict.ok || verdict.index !== 2 + i || !kinds.includes(verdict.kind))
          expect.fail(`bit ${bit - 8 * start} of record ${2 + i}: ${JSON.stringify(verdict)}`);
      }
    }
    await log.close();
  });

  test('in the header of a segment, the checkpoint, the vkey or a hash tile: the log does not verify', {
    timeout: 600_000,
  }, async () => {
    const { directory, vkey } = await honest([1, 2, 1]);
    for (const name of [onlyFile(directory, 'wal'), 'checkpoint', 'vkey', onlyFile(directory, 'tile/0')]) {
      const bytes = directory.bytes(name);
      const end = name.startsWith('wal/') ? HEADER_BYTES : bytes.length;
      for (let bit = 0; bit < 8 * end; bit++) {
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        const verdict = await verifyDirectory(directory, name === 'vkey' ? {} : { vkey });
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        const kinds = name === 'checkpoint' || name === 'vkey' ? ['malformed', 'resealed'] : ['malformed'];
        if (verdict.ok || !kinds.includes(verdict.kind))
          expect.fail(`bit ${bit} of ${name}: ${JSON.stringify(verdict)}`);
      }
    }
  });
});

describe('records are replaced', () => {
  test('one is found, also when its hash in the tile, or all hash tiles, were replaced too', async () => {
    const { directory, vkey } = await honest();
    const records = recordsOf(directory, 10);
    for (const [index, record] of records.entries()) {
      const copy = directory.clone();
      const others = records.with(index, forged(record));
      rebundle(copy, 10, others);
      await expectBad(copy, index, 'changed', { vkey });
      await expectRefused(copy, 'changed');
      copy.bytes(onlyFile(copy, 'tile/0')).set(nodeHasher.leaf(forged(record)), 32 * index);
      expectWithin(await verifyDirectory(copy, { vkey }), index);
      rehash(copy, others);
      expectWithin(await verifyDirectory(copy, { vkey }), index);
      await expectRefused(copy, 'resealed');
    }
  });

  test('in a log of several tiles, the tile above tells which tile was replaced with its records', {
    timeout: 60_000,
  }, async () => {
    const size = 600;
    const { directory, vkey } = await honest([size]);
    const records = recordsOf(directory, size);
    for (const index of [0, 255, 256, 300, 511, 512, 599]) {
      const copy = directory.clone();
      const others = records.with(index, forged(records[index]!));
      rebundle(copy, size, others);
      await expectBad(copy, index, 'changed', { vkey });
      const tile = Math.floor(index / TILE_WIDTH);
      const name = tilePath(0, tile, tileWidth(0, tile, size));
      copy.bytes(name).set(nodeHasher.leaf(others[index]!), 32 * (index % TILE_WIDTH));
      const verdict = await verifyDirectory(copy, { vkey });
      expectWithin(verdict, index);
      if (tile < 2) expect(verdict).toMatchObject({ index: tile * TILE_WIDTH, through: tile * TILE_WIDTH + 255 });
      rehash(copy, others);
      expectWithin(await verifyDirectory(copy, { vkey }), index);
    }
  });

  test('damage of a hash tile is told from damage of a record, also where there is both', {
    timeout: 60_000,
  }, async () => {
    const size = 600;
    const { directory, vkey } = await honest([size]);
    for (const [name, index] of [
      ['tile/0/001', 300],
      ['tile/1/000.p/2', 256],
      ['tile/0/002.p/88', 520],
    ] as const) {
      const copy = directory.clone();
      const bytes = copy.bytes(name);
      bytes[(name.startsWith('tile/1') ? 1 : index % TILE_WIDTH) * 32 + 7]! ^= 1;
      const verdict = await verifyDirectory(copy, { vkey });
      expect(verdict, name).toMatchObject({ ok: false, kind: 'malformed', index });
      rebundle(copy, size, recordsOf(copy, size).with(42, forged(recordsOf(copy, size)[42]!)));
      await expectBad(copy, 42, 'changed', { vkey });
      rebundle(copy, size, recordsOf(directory, size).with(550, forged(recordsOf(directory, size)[550]!)));
      if (name !== 'tile/0/002.p/88') await expectBad(copy, 550, 'changed', { vkey });
    }
  });

  test('each bit of a frame that is flipped with its checksum mended: only an anchor knows that it was another record', {
    timeout: 600_000,
  }, async () => {
    const { directory, log, anchor } = await withTail(2, [2]);
    const bytes = directory.bytes(onlyFile(directory, 'wal'));
    const { start, end } = framesOf(directory)[1]!;
    for (let bit = 8 * (start + 12); bit < 8 * end; bit += SLOW ? 1 : 5) {
      const pristine = bytes.slice(start, end);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const crc = crc32c(bytes, start + 12, end, crc32c(bytes, start, start + 8));
      new DataView(bytes.buffer, bytes.byteOffset + start).setUint32(8, crc, true);
      const verdict = await verifyDirectory(directory, { vkey: log.vkey, anchor });
      bytes.set(pristine, start);
      const kinds = ['forked', 'malformed', 'missing', 'inserted'];
      if (verdict.ok || !kinds.includes(verdict.kind)) expect.fail(`bit ${bit}: ${JSON.stringify(verdict)}`);
    }
    await log.close();
  });

  test('a place in a group that was rewritten is found', async () => {
    const { directory, log } = await withTail(2, [1, 3]);
    const frames = framesOf(directory);
    reframe(directory, frames.with(2, { ...frames[2]!, place: 7 }));
    await expectBad(directory, 4, 'changed', { vkey: log.vkey });
    await log.close();
  });

  test('a log signed anew with another key is found by whoever knows the key', async () => {
    const { directory, vkey } = await honest();
    const records = recordsOf(directory, 10);
    const other = createSigner(new MemoryDirectory(), 'keys/0', ORIGIN);
    const others = records.with(4, forged(records[4]!));
    rebundle(directory, 10, others);
    const root = rehash(directory, others).root();
    directory.set('checkpoint', Buffer.from(signCheckpoint(10, root, other)));
    expect(await verifyDirectory(directory, { vkey })).toMatchObject({ ok: false, kind: 'resealed' });
    // The key of a name is told by more than its id: the same with a forged id.
    directory.set('checkpoint', Buffer.from(signCheckpoint(10, root, { ...other, id: parseVkey(vkey).id })));
    expect(await verifyDirectory(directory, { vkey })).toMatchObject({ ok: false, kind: 'malformed' });
    await expectRefused(directory, 'malformed');
  });
});

describe('records are taken out, put in or moved', () => {
  test('a deleted record is missing; the last one is truncated', async () => {
    const { directory, vkey } = await honest();
    const records = recordsOf(directory, 10);
    for (let index = 0; index < records.length; index++) {
      const copy = directory.clone();
      rebundle(copy, 10, records.toSpliced(index, 1));
      const kind = index === records.length - 1 ? 'truncated' : 'missing';
      await expectBad(copy, index, kind, { vkey });
      await expectRefused(copy, kind);
      // The same without a hash tile to compare with: numbering alone tells.
      copy.delete(onlyFile(copy, 'tile/0'));
      expect(await verifyDirectory(copy, { vkey })).toMatchObject({ ok: false, index });
    }
  });

  test('two deleted in a row: the first is missing', async () => {
    const { directory, vkey } = await honest();
    rebundle(directory, 10, recordsOf(directory, 10).toSpliced(3, 2));
    await expectBad(directory, 3, 'missing', { vkey });
  });

  test('one that is missing in a segment is found at its place', async () => {
    const { directory, log } = await withTail(3, [2, 2]);
    const frames = framesOf(directory);
    reframe(directory, frames.toSpliced(1, 1));
    await expectBad(directory, 4, 'missing', { vkey: log.vkey });
    await log.close();
  });

  test('two swapped records: the first of the two places is named', async () => {
    const { directory, vkey } = await honest();
    const records = recordsOf(directory, 10);
    for (let a = 0; a < records.length; a++) {
      for (let b = a + 1; b < records.length; b++) {
        const copy = directory.clone();
        rebundle(copy, 10, records.with(a, records[b]!).with(b, records[a]!));
        await expectBad(copy, a, 'swapped', { vkey });
      }
    }
  });

  test('a copy of an earlier record, or a new one, that was put in', async () => {
    const { directory, vkey } = await honest();
    const records = recordsOf(directory, 10);
    for (const added of [records[1]!, forged(records[1]!)]) {
      for (let at = 2; at <= records.length; at++) {
        const copy = directory.clone();
        rebundle(copy, 10, records.toSpliced(at, 0, added));
        await expectBad(copy, at, 'inserted', { vkey });
      }
    }
  });

  test('the same across bundles, whose borders move with them or not', { timeout: 60_000 }, async () => {
    const size = 600;
    const { directory, vkey } = await honest([size]);
    const records = recordsOf(directory, size);
    const cases: [readonly Uint8Array[], number, string][] = [
      [records.toSpliced(100, 1), 100, 'missing'],
      [records.toSpliced(255, 1), 255, 'missing'],
      [records.toSpliced(599, 1), 599, 'truncated'],
      [records.toSpliced(100, 0, records[3]!), 100, 'inserted'],
      [records.toSpliced(255, 0, records[3]!), 255, 'inserted'],
      [records.toSpliced(256, 0, forged(records[3]!)), 256, 'inserted'],
      [records.with(3, records[599]!).with(599, records[3]!), 3, 'swapped'],
      [records.with(255, records[256]!).with(256, records[255]!), 255, 'swapped'],
      [records.with(300, records[3]!), 300, 'changed'],
    ];
    for (const [others, index, kind] of cases) {
      const copy = directory.clone();
      rebundle(copy, size, others);
      await expectBad(copy, index, kind, { vkey });
    }
    const within = directory.clone();
    within.set('tile/entries/000', encodeBundle(records.slice(0, 256).toSpliced(9, 1)));
    await expectBad(within, 9, 'missing', { vkey });
    within.set('tile/entries/000', encodeBundle(records.slice(0, 257)));
    await expectBad(within, 256, 'inserted', { vkey });
    within.delete('tile/entries/000');
    await expectBad(within, 0, 'missing', { vkey });
    const last = directory.clone();
    last.delete('tile/entries/002.p/88');
    await expectBad(last, 512, 'truncated', { vkey });
  });
});

describe('the end is cut off', () => {
  test('a bundle at any byte: the first record that is not whole is named', { timeout: 120_000 }, async () => {
    const { directory, vkey } = await honest([1, 2, 1]);
    const name = onlyFile(directory, 'tile/entries');
    const whole = directory.bytes(name);
    let end = 0;
    const ends = recordsOf(directory, 4).map(({ length }) => (end += 2 + length));
    for (let length = 0; length < whole.length; length++) {
      directory.set(name, whole.slice(0, length));
      const index = ends.filter(at => at <= length).length;
      const verdict = await verifyDirectory(directory, { vkey });
      if (verdict.ok || verdict.index !== index || verdict.kind !== 'truncated')
        expect.fail(`at ${length}: ${JSON.stringify(verdict)}`);
    }
    await expectRefused(directory, 'truncated');
  });

  test('records that only an anchor vouches for: cut within one is truncated, cut between two is rolled back', async () => {
    const { directory, log, anchor } = await withTail(2, [1, 2]);
    const name = onlyFile(directory, 'wal');
    const frames = framesOf(directory);
    const whole = directory.bytes(name);
    for (let length = HEADER_BYTES; length < whole.length; length++) {
      const cut = directory.clone();
      cut.set(name, whole.slice(0, length));
      const index = 2 + frames.filter(({ end }) => end <= length).length;
      const between = length === HEADER_BYTES || frames.some(({ end }) => end === length);
      await expectBad(cut, index, between ? 'rolled-back' : 'truncated', { vkey: log.vkey, anchor });
      await expectRefused(cut, between ? 'rolled-back' : 'truncated', anchor);
    }
    await log.close();
  });

  test('a missing file, a missing directory', async () => {
    const { directory, vkey, head } = await honest();
    for (const [name, kind] of [
      [onlyFile(directory, 'tile/entries'), 'truncated'],
      [onlyFile(directory, 'tile/0'), 'malformed'],
      ['checkpoint', 'malformed'],
    ] as const) {
      const copy = directory.clone();
      copy.delete(name);
      expect(await verifyDirectory(copy, { vkey })).toMatchObject({ ok: false, kind });
      if (!name.startsWith('tile/0'))
        await expect(openDirectory(copy, { anchor: head })).rejects.toMatchObject({ code: 'AUDIT_INVALID' });
    }
    const withoutKey = directory.clone();
    withoutKey.delete('keys/0');
    await expectRefused(withoutKey, 'malformed');
    const empty = new MemoryDirectory();
    expect(await verifyDirectory(empty, { vkey, anchor: head })).toMatchObject({ ok: false, kind: 'rolled-back' });
    await expectRefused(empty, 'rolled-back', head);
  });

  test('a log of the first layout is refused, and the message says what to do', async () => {
    const old = new MemoryDirectory();
    old.set('records', new Uint8Array(48));
    old.set('tree', new Uint8Array(0));
    expect(await verifyDirectory(old)).toMatchObject({ ok: false, kind: 'malformed', message: /first layout/ });
    await expect(openDirectory(old)).rejects.toThrow(/Verify and export it with such a build/);
    expect(old.names()).toEqual(['records', 'tree']);
  });
});

describe('the whole log is put back to an earlier state, or to another one', () => {
  test('rolled back: the anchor tells, at the first record that is gone', async () => {
    const { directory, log } = await memoryLog();
    const states: MemoryDirectory[] = [];
    for (let i = 0; i < 6; i++) {
      await log.append(event(i));
      await log.checkpoint();
      states.push(directory.clone());
    }
    const anchor = log.head();
    for (const [i, state] of states.slice(0, -1).entries()) {
      expect(await verifyDirectory(state, { vkey: log.vkey })).toMatchObject({ ok: true, size: i + 1 });
      await expectBad(state, i + 1, 'rolled-back', { vkey: log.vkey, anchor });
      await expectRefused(state, 'rolled-back', anchor);
    }
    await log.close();
  });

  test('forked, by the holder of the key: the anchor tells', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [3]);
    await log.checkpoint();
    const branch = directory.clone();
    await appendGroups(log, [4], 3);
    const anchor = log.head();
    await log.close();
    const other = await openDirectory(branch);
    await appendGroups(other, [6], 100);
    await other.close();
    const verdict = await verifyDirectory(branch, { vkey: log.vkey, anchor });
    expect(verdict).toMatchObject({ ok: false, kind: 'forked' });
    expectWithin(verdict, 3, 'forked');
    await expectRefused(branch, 'forked', anchor);
  });

  test('an old checkpoint over many records is told from an honest one', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [5]);
    const early = Buffer.from(await log.checkpoint());
    await appendGroups(log, [GROUP_LIMIT_RECORDS, GROUP_LIMIT_RECORDS, GROUP_LIMIT_RECORDS, GROUP_LIMIT_RECORDS, 1], 5);
    await log.close();
    directory.set('checkpoint', early);
    await expectBad(directory, 5, 'rolled-back', { vkey: log.vkey });
    await expectRefused(directory, 'rolled-back');
  });
});

describe('above the last checkpoint', () => {
  test('damage before a later group is damage, not a torn write: the start is refused and nothing is cut', async () => {
    const { directory, log } = await withTail(2, [1, 2, 2]);
    const name = onlyFile(directory, 'wal');
    const frames = framesOf(directory);
    for (const i of [0, 1, 2]) {
      const copy = directory.clone();
      copy.bytes(name)[frames[i]!.start + 20]! ^= 4;
      await expectBad(copy, 2 + i, 'changed', { vkey: log.vkey });
      await expectRefused(copy, 'changed');
    }
    const missing = directory.clone();
    reframe(missing, frames.toSpliced(1, 1));
    await expectBad(missing, 3, 'missing', { vkey: log.vkey });
    await expectRefused(missing, 'missing');
    await log.close();
  });

  test('damage in the last group passes for a torn write, unless an anchor vouches for the record', async () => {
    const { directory, log, anchor } = await withTail(2, [2]);
    directory.bytes(onlyFile(directory, 'wal'))[framesOf(directory)[1]!.start + 20]! ^= 4;
    expect(await verifyDirectory(directory, { vkey: log.vkey })).toMatchObject({
      ok: true,
      size: 3,
      tornBytes: expect.any(Number),
    });
    await expectBad(directory, 3, 'changed', { vkey: log.vkey, anchor });
    await expectRefused(directory, 'changed', anchor);
    await log.close();
  });

  test('a segment that does not hold what the checkpoint covers is found, though bundles hold it', async () => {
    const { directory, vkey } = await honest([2, 2]);
    const frames = framesOf(directory);
    reframe(directory, frames.with(1, { ...frames[1]!, record: forged(frames[1]!.record) }));
    await expectBad(directory, 1, 'changed', { vkey });
    await expectRefused(directory, 'changed');
  });

  test('segments that are gone, and one of another log', async () => {
    const { directory, log, anchor } = await withTail(2, [2]);
    const other = await withTail(2, [2]);
    const name = onlyFile(directory, 'wal');
    const gone = directory.clone();
    gone.delete(name);
    expect(await verifyDirectory(gone, { vkey: log.vkey })).toMatchObject({ ok: true, size: 2 });
    await expectBad(gone, 2, 'rolled-back', { vkey: log.vkey, anchor });
    const foreign = directory.clone();
    foreign.set(name, other.directory.bytes(name));
    expect(await verifyDirectory(foreign, { vkey: log.vkey, anchor })).toMatchObject({ ok: false, kind: 'forked' });
    const later = directory.clone();
    later.set('wal/0000000000000009', later.bytes(name));
    later.delete(name);
    await expectBad(later, 2, 'missing', { vkey: log.vkey });
    await log.close();
    await other.log.close();
  });
});

test('damaged, short or missing hash tiles do not stop the log: they are written anew from the records', async () => {
  const { directory, vkey, head } = await honest();
  const name = onlyFile(directory, 'tile/0');
  const pristine = directory.bytes(name).slice();
  const breakages: ((tile: Uint8Array<ArrayBuffer>) => Uint8Array | undefined)[] = [
    () => undefined,
    tile => tile.slice(0, -1),
    () => new Uint8Array(0),
    tile => tile.fill(0xaa),
  ];
  for (const [i, broken] of breakages.entries()) {
    const copy = directory.clone();
    const tile = broken(pristine.slice());
    if (tile === undefined) copy.delete(name);
    else copy.set(name, tile);
    expect(await verifyDirectory(copy, { vkey })).toMatchObject({ ok: false, kind: 'malformed' });
    const log = await openDirectory(copy, { anchor: head });
    expect(log.head(), `breakage ${i}`).toEqual(head);
    await log.close();
    expect(copy.bytes(name)).toEqual(pristine);
    expect(await verifyDirectory(copy, { vkey, anchor: head })).toMatchObject({ ok: true });
  }
});

test('hostile files of any content give a verdict and never throw or hang', { timeout: 120_000 }, async () => {
  const { directory, vkey, head } = await honest([2, 2]);
  let seed = 12345;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((seed / 2 ** 32) * below);
  };
  const names = ['wal', 'tile/entries', 'tile/0'].map(kind => onlyFile(directory, kind as 'wal'));
  names.push('checkpoint', 'vkey');
  for (let round = 0; round < (SLOW ? 20_000 : 1000); round++) {
    const copy = directory.clone();
    const name = names[random(names.length)]!;
    const bytes = copy.bytes(name);
    const edits = 1 + random(4);
    let changed: Uint8Array = bytes.slice();
    for (let i = 0; i < edits; i++) {
      const at = random(changed.length + 1);
      const length = random(40);
      const noise = Uint8Array.from({ length }, () => random(256));
      changed = concatBytes(changed.slice(0, at), noise, changed.slice(at + random(40)));
    }
    copy.set(name, changed);
    const options = name === 'vkey' ? {} : { vkey, anchor: head };
    const verdict = await verifyDirectory(copy, options);
    const unchanged = Buffer.compare(changed, bytes) === 0;
    // Bytes after the last frame look like an interrupted write, and are reported as one; everything else is damage, unless whole
    // frames at the end of the segment are gone, which the checkpoint covers.
    const tail = name.startsWith('wal/') && Buffer.compare(changed.subarray(0, bytes.length), bytes) === 0;
    const cut = name.startsWith('wal/') && Buffer.compare(changed, bytes.subarray(0, changed.length)) === 0;
    if (tail) expect(verdict, `round ${round}`).toMatchObject({ ok: true, tornBytes: changed.length - bytes.length });
    else if (!unchanged && !cut) expect(verdict.ok, `round ${round}: ${name}`).toBe(false);
    await openDirectory(copy, { anchor: head }).then(
      log => log.close(),
      error => expect(error).toMatchObject({ code: 'AUDIT_INVALID' }),
    );
  }
});

function expectWithin(verdict: LogVerdict, index: number, kind = 'resealed'): void {
  if (verdict.ok) expect.fail('the damage went unseen');
  expect(verdict.kind).toBe(kind);
  expect(verdict.index).toBeLessThanOrEqual(index);
  expect(verdict.through).toBeGreaterThanOrEqual(index);
}

test('the key of the test log is the one in its directory', async () => {
  const { directory, vkey } = await honest([1]);
  expect(loadSigner(directory, 'keys/0')?.vkey).toBe(vkey);
});
