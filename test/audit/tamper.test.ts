/**
 * Every way of laying hands on a log that we know of, and the verdict that each must get: the right index and the right kind.
 */
import { describe, expect, test } from 'vitest';
import { signCheckpoint } from '../../sandbox/audit/checkpoint.ts';
import { crc32c } from '../../sandbox/audit/crc32c.ts';
import { createLogKey, loadLogKey } from '../../sandbox/audit/keys.ts';
import type { Head } from '../../sandbox/audit/layout.ts';
import { openDirectory } from '../../sandbox/audit/log.ts';
import { TreeBuilder } from '../../sandbox/audit/merkle.ts';
import { nodeHasher } from '../../sandbox/audit/node-crypto.ts';
import { parseVkey } from '../../sandbox/audit/note.ts';
import { FrameReader, GROUP_LIMIT_RECORDS, HEADER_BYTES, writeFrame } from '../../sandbox/audit/segment.ts';
import { nodePosition, treeEntry } from '../../sandbox/audit/tree-file.ts';
import { type LogVerdict, type VerifyOptions, verifyDirectory } from '../../sandbox/audit/verify-directory.ts';
import { concatBytes } from '../../src/base/bytes.ts';
import { appendGroups, event, memoryLog, ORIGIN, SLOW } from './events.ts';
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

interface Frame {
  readonly record: Uint8Array;
  readonly place: number;
  readonly start: number;
  readonly end: number;
}

function framesOf(directory: MemoryDirectory): Frame[] {
  const reader = new FrameReader(directory.open('records')!, HEADER_BYTES);
  const frames: Frame[] = [];
  for (let frame = reader.next(); frame.kind === 'frame'; frame = reader.next())
    frames.push({ ...frame, record: frame.record.slice() });
  return frames;
}

/** Writes the records anew, with valid checksums. */
function reseal(directory: MemoryDirectory, records: readonly { record: Uint8Array; place: number }[]): void {
  const parts = records.map(({ record, place }) => {
    const frame = new Uint8Array(12 + record.length);
    writeFrame(record, place, frame, 0);
    return frame;
  });
  directory.set('records', concatBytes(directory.bytes('records').slice(0, HEADER_BYTES), ...parts));
}

/** Writes the tree file anew over the records that are there. */
function retree(directory: MemoryDirectory): TreeBuilder {
  const builder = new TreeBuilder(nodeHasher);
  const entries = framesOf(directory).map(({ record, end }) => {
    const leafHash = nodeHasher.leaf(record);
    return treeEntry(end, leafHash, builder.append(leafHash));
  });
  directory.set('tree', concatBytes(...entries));
  return builder;
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
  for (const [name, bytes] of before) if (name !== 'tree') expect(directory.bytes(name), name).toEqual(bytes);
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
  test('in any frame: that record was changed', { timeout: 600_000 }, async () => {
    const { directory, vkey, head } = await honest([1, 2, 1]);
    const frames = framesOf(directory);
    const bytes = directory.bytes('records');
    for (const [index, { start, end }] of frames.entries()) {
      if (!SLOW && index === 1) continue; // the first, one within a group, and the last
      for (let bit = 8 * start; bit < 8 * end; bit++) {
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        const verdict = await verifyDirectory(directory, { vkey, anchor: head });
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        if (verdict.ok || verdict.index !== index || verdict.kind !== 'changed') {
          expect.fail(`bit ${bit - 8 * start} of record ${index}: ${JSON.stringify(verdict)}`);
        }
      }
    }
    expect(await verifyDirectory(directory, { vkey, anchor: head })).toMatchObject({ ok: true });
  });

  test('in the header, the checkpoint, the vkey or the tree file: the log does not verify', {
    timeout: 600_000,
  }, async () => {
    const { directory, vkey } = await honest([1, 2, 1]);
    for (const name of ['records', 'checkpoint', 'vkey', 'tree']) {
      const bytes = directory.bytes(name);
      const end = name === 'records' ? HEADER_BYTES : bytes.length;
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

describe('with valid checksums', () => {
  test('a record that was replaced is found, also when its hash in the tree file, or the whole tree file, was replaced too', async () => {
    const { directory, vkey } = await honest();
    const frames = framesOf(directory);
    for (const [index, { record }] of frames.entries()) {
      const copy = directory.clone();
      reseal(
        copy,
        frames.map((frame, i) => (i === index ? { ...frame, record: forged(record) } : frame)),
      );
      await expectBad(copy, index, 'resealed', { vkey });
      // Starting reads the last signed record and what follows; the older ones are for verifyLog.
      if (index === frames.length - 1) await expectRefused(copy, 'resealed');
      copy.bytes('tree').set(nodeHasher.leaf(forged(record)), nodePosition(0, index));
      const patched = await verifyDirectory(copy, { vkey });
      expectWithin(patched, index);
      retree(copy);
      expectWithin(await verifyDirectory(copy, { vkey }), index);
      await expectRefused(copy, 'resealed');
    }
  });

  test('each bit of a record that is flipped with its checksum mended is found at its record', {
    timeout: 600_000,
  }, async () => {
    const { directory, vkey } = await honest([2, 2]);
    const frames = framesOf(directory);
    const bytes = directory.bytes('records');
    for (const [index, { start, end }] of frames.entries()) {
      if (!SLOW && index !== 1 && index !== 3) continue;
      const pristine = bytes.slice(start, end);
      for (let bit = 8 * 12; bit < 8 * (end - start); bit++) {
        bytes[start + (bit >> 3)]! ^= 1 << (bit & 7);
        new DataView(bytes.buffer, start).setUint32(
          8,
          crc32c(bytes, start + 12, end, crc32c(bytes, start, start + 8)),
          true,
        );
        const verdict = await verifyDirectory(directory, { vkey });
        bytes.set(pristine, start);
        if (verdict.ok || verdict.index !== index || verdict.kind !== 'resealed') {
          expect.fail(`bit ${bit} of record ${index}: ${JSON.stringify(verdict)}`);
        }
      }
    }
  });

  test('a place in a group that was rewritten is found', async () => {
    const { directory, vkey } = await honest([1, 3]);
    const frames = framesOf(directory);
    reseal(
      directory,
      frames.map((frame, i) => (i === 2 ? { ...frame, place: 7 } : frame)),
    );
    await expectBad(directory, 2, 'resealed', { vkey });
  });

  test('a log signed anew with another key is found by whoever knows the key', async () => {
    const { directory, vkey } = await honest();
    const frames = framesOf(directory);
    const other = createLogKey(new MemoryDirectory(), ORIGIN);
    reseal(
      directory,
      frames.map((frame, i) => (i === 4 ? { ...frame, record: forged(frame.record) } : frame)),
    );
    const root = retree(directory).root();
    directory.set('checkpoint', Buffer.from(signCheckpoint(frames.length, root, other)));
    expect(await verifyDirectory(directory, { vkey })).toMatchObject({ ok: false, kind: 'resealed' });
    // The key of a name is told by more than its id: the same with a forged id.
    directory.set('checkpoint', Buffer.from(signCheckpoint(frames.length, root, { ...other, id: parseVkey(vkey).id })));
    expect(await verifyDirectory(directory, { vkey })).toMatchObject({ ok: false, kind: 'malformed' });
    await expectRefused(directory, 'malformed');
  });
});

describe('records are taken out, put in or moved', () => {
  test('a deleted record is missing; the last one is truncated', async () => {
    const { directory, vkey } = await honest();
    const frames = framesOf(directory);
    for (let index = 0; index < frames.length; index++) {
      const copy = directory.clone();
      reseal(
        copy,
        frames.filter((_, i) => i !== index),
      );
      await expectBad(copy, index, index === frames.length - 1 ? 'truncated' : 'missing', { vkey });
      await expectRefused(copy, index === frames.length - 1 ? 'truncated' : 'missing');
      // The same without a tree file to compare with: numbering alone tells.
      copy.files.delete('tree');
      expect(await verifyDirectory(copy, { vkey })).toMatchObject({ ok: false, index });
    }
  });

  test('two deleted in a row: the first is missing', async () => {
    const { directory, vkey } = await honest();
    reseal(
      directory,
      framesOf(directory).filter((_, i) => i !== 3 && i !== 4),
    );
    await expectBad(directory, 3, 'missing', { vkey });
  });

  test('a deletion below the checkpoint is found at its place when unsigned records follow', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [2, 2, 2]);
    await log.checkpoint();
    await appendGroups(log, [2, 2], 6);
    const live = directory.clone();
    reseal(
      live,
      framesOf(live).filter((_, i) => i !== 3),
    );
    await expectBad(live, 3, 'missing', { vkey: log.vkey });
    await log.close();
  });

  test('two swapped records: the first of the two places is named', async () => {
    const { directory, vkey } = await honest();
    const frames = framesOf(directory);
    for (let a = 0; a < frames.length; a++) {
      for (let b = a + 1; b < frames.length; b++) {
        const copy = directory.clone();
        reseal(
          copy,
          frames.map((frame, i) => (i === a ? frames[b]! : i === b ? frames[a]! : frame)),
        );
        await expectBad(copy, a, 'swapped', { vkey });
      }
    }
  });

  test('a copy of an earlier record, or a new one, that was put in', async () => {
    const { directory, vkey } = await honest();
    const frames = framesOf(directory);
    for (const added of [frames[1]!, { ...frames[1]!, record: forged(frames[1]!.record) }]) {
      for (let at = 2; at < frames.length; at++) {
        const copy = directory.clone();
        reseal(copy, [...frames.slice(0, at), added, ...frames.slice(at)]);
        await expectBad(copy, at, 'inserted', { vkey });
      }
    }
  });
});

describe('the end is cut off', () => {
  test('at any byte: the first record that is not whole is named', { timeout: 120_000 }, async () => {
    const { directory, vkey } = await honest([1, 2, 1]);
    const frames = framesOf(directory);
    const whole = directory.bytes('records');
    for (let length = 0; length < whole.length; length++) {
      directory.set('records', whole.slice(0, length));
      const index = frames.filter(({ end }) => end <= length).length;
      const verdict = await verifyDirectory(directory, { vkey });
      if (verdict.ok || verdict.index !== index || verdict.kind !== 'truncated')
        expect.fail(`at ${length}: ${JSON.stringify(verdict)}`);
    }
    await expectRefused(directory, 'truncated');
  });

  test('records that only an anchor vouches for: cut within one is truncated, cut between two is rolled back', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [2]);
    await log.checkpoint();
    await appendGroups(log, [1, 2], 2);
    const anchor = log.head();
    const frames = framesOf(directory);
    const whole = directory.bytes('records');
    for (let length = frames[1]!.end; length < whole.length; length++) {
      const cut = directory.clone();
      cut.set('records', whole.slice(0, length));
      const index = frames.filter(({ end }) => end <= length).length;
      const between = frames.some(({ end }) => end === length);
      await expectBad(cut, index, between ? 'rolled-back' : 'truncated', { vkey: log.vkey, anchor });
      await expectRefused(cut, between ? 'rolled-back' : 'truncated', anchor);
    }
    await log.close();
  });

  test('a missing file, a missing directory', async () => {
    const { directory, vkey, head } = await honest();
    for (const [name, kind] of [
      ['records', 'truncated'],
      ['checkpoint', 'malformed'],
    ] as const) {
      const copy = directory.clone();
      copy.files.delete(name);
      expect(await verifyDirectory(copy, { vkey })).toMatchObject({ ok: false, kind });
      await expect(openDirectory(copy, { anchor: head })).rejects.toMatchObject({ code: 'AUDIT_INVALID' });
    }
    const withoutKey = directory.clone();
    withoutKey.files.delete('key');
    await expectRefused(withoutKey, 'malformed');
    const empty = new MemoryDirectory();
    expect(await verifyDirectory(empty, { vkey, anchor: head })).toMatchObject({ ok: false, kind: 'rolled-back' });
    await expectRefused(empty, 'rolled-back', head);
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
    const { directory, log } = await memoryLog();
    await appendGroups(log, [2]);
    await log.checkpoint();
    await appendGroups(log, [1, 2, 2], 2);
    const frames = framesOf(directory);
    for (const index of [2, 3, 4]) {
      const copy = directory.clone();
      copy.bytes('records')[frames[index]!.start + 20]! ^= 4;
      await expectBad(copy, index, 'changed', { vkey: log.vkey });
      await expectRefused(copy, 'changed');
    }
    const missing = directory.clone();
    reseal(
      missing,
      frames.filter((_, i) => i !== 3),
    );
    await expectBad(missing, 3, 'missing', { vkey: log.vkey });
    await expectRefused(missing, 'missing');
    await log.close();
  });

  test('damage in the last group passes for a torn write, unless an anchor vouches for the record', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [2, 2]);
    const anchor = log.head();
    const copy = directory.clone();
    copy.bytes('records')[framesOf(copy)[3]!.start + 20]! ^= 4;
    expect(await verifyDirectory(copy, { vkey: log.vkey })).toMatchObject({
      ok: true,
      size: 3,
      tornBytes: expect.any(Number),
    });
    await expectBad(copy, 3, 'changed', { vkey: log.vkey, anchor });
    await expectRefused(copy, 'changed', anchor);
    await log.close();
  });
});

test('a damaged, short or missing tree file does not stop the log: it is rebuilt from the records', async () => {
  const { directory, vkey, head } = await honest();
  const pristine = directory.bytes('tree').slice();
  const breakages: ((tree: Uint8Array<ArrayBuffer>) => Uint8Array | undefined)[] = [
    () => undefined,
    tree => tree.slice(0, -1),
    () => new Uint8Array(0),
    tree => tree.fill(0xaa),
    tree => concatBytes(tree, new Uint8Array(100)),
  ];
  for (const [i, broken] of breakages.entries()) {
    const copy = directory.clone();
    const tree = broken(pristine.slice());
    if (tree === undefined) copy.files.delete('tree');
    else copy.set('tree', tree);
    const log = await openDirectory(copy, { anchor: head });
    expect(log.head(), `breakage ${i}`).toEqual(head);
    await log.close();
    expect(copy.bytes('tree')).toEqual(pristine);
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
  const names = ['records', 'tree', 'checkpoint', 'vkey'];
  for (let round = 0; round < (SLOW ? 20_000 : 800); round++) {
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
    // Bytes after the last record look like an interrupted write, and are reported as one; bytes after the last entry of the
    // tree file are of no consequence; everything else is.
    const tail = name === 'records' && Buffer.compare(changed.subarray(0, bytes.length), bytes) === 0;
    if (tail) expect(verdict, `round ${round}`).toMatchObject({ ok: true, tornBytes: changed.length - bytes.length });
    else if (!unchanged && name !== 'tree') expect(verdict.ok, `round ${round}: ${name}`).toBe(false);
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
  expect(loadLogKey(directory)?.vkey).toBe(vkey);
});
