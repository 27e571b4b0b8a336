/**
 * Epochs of a log: whoever keeps the key of the first follows all of them, and the key of today signs no yesterday.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { announcement } from '../../sandbox/audit/announcement.ts';
import { type ProofBundle, verifyBundle } from '../../sandbox/audit/bundle.ts';
import { signCheckpoint } from '../../sandbox/audit/checkpoint.ts';
import { announcedIn, followKeys, keyFile, sealFile, signedHead } from '../../sandbox/audit/epochs.ts';
import { createSigner, loadSigner } from '../../sandbox/audit/keys.ts';
import { openDirectory } from '../../sandbox/audit/log.ts';
import { TreeBuilder } from '../../sandbox/audit/merkle.ts';
import { nodeHasher } from '../../sandbox/audit/node-crypto.ts';
import { parseVkey } from '../../sandbox/audit/note.ts';
import { directoryProver } from '../../sandbox/audit/prove.ts';
import { readDirectory } from '../../sandbox/audit/read.ts';
import { encodeRecord } from '../../sandbox/audit/record.ts';
import { TileReader, TileWriter } from '../../sandbox/audit/tile-store.ts';
import { verifyReceipt } from '../../sandbox/audit/verify.ts';
import { verifyDirectory } from '../../sandbox/audit/verify-directory.ts';
import { toBase64 } from '../../src/base/bytes.ts';
import { appendGroups, event, memoryLog, ORIGIN } from './events.ts';
import { MemoryDirectory } from './memory-directory.ts';

/** A closed log of three epochs that end after 4 and 9 records, of twelve in all. */
async function threeEpochs() {
  const { directory, log } = await memoryLog();
  await appendGroups(log, [3]);
  await log.rotateKey();
  await appendGroups(log, [1, 3], 3);
  await log.rotateKey();
  await appendGroups(log, [3], 7);
  const { vkey, keys } = log;
  const anchor = log.head();
  await log.close();
  return { directory, vkey, keys, anchor };
}

function leavesOf(directory: MemoryDirectory, size: number): Uint8Array[] {
  const reader = new TileReader(directory, size);
  return Array.from({ length: size }, (_, index) => reader.leaf(index));
}

/** Writes the tiles of a log of fewer than 256 records anew, and gives its tree. */
function retile(directory: MemoryDirectory, leaves: readonly Uint8Array[]): TreeBuilder {
  for (const name of directory.names('tile/')) directory.delete(name);
  for (const name of directory.names('wal/')) directory.delete(name);
  const writer = new TileWriter(new TileReader(new MemoryDirectory(), 0));
  const builder = new TreeBuilder(nodeHasher);
  for (const leaf of leaves) writer.add(leaf, nodeHasher.leaf(leaf), builder.append(nodeHasher.leaf(leaf)));
  for (const { name, bytes } of writer.files()) directory.set(name, bytes);
  return builder;
}

const forged = (leaf: Uint8Array): Uint8Array =>
  new TextEncoder().encode(new TextDecoder().decode(leaf).replace('"ward-', '"Ward-'));

describe('a key that is changed', () => {
  test('is announced, seals what was, is destroyed, and the whole chain verifies from the first vkey alone', async () => {
    const { directory, vkey, keys, anchor } = await threeEpochs();
    expect(keys).toHaveLength(3);
    expect(keys[0]).toBe(vkey);
    expect(new Set(keys).size).toBe(3);
    expect(directory.names('keys/')).toEqual(['keys/2']);
    expect(directory.names('seal/')).toEqual(['seal/0', 'seal/1']);
    const verdict = await verifyDirectory(directory, { vkey, anchor });
    expect(verdict).toMatchObject({ ok: true, size: 12, signedSize: 12, keys });
    const { seals } = followKeys(directory, parseVkey(vkey));
    expect(seals.map(({ checkpoint }) => checkpoint.size)).toEqual([4, 9]);
    expect(signedHead(directory).checkpoint.size).toBe(12);
    // A later key is no key of the whole log.
    expect(await verifyDirectory(directory, { vkey: keys[1]! })).toMatchObject({ ok: false, kind: 'resealed' });
  });

  test('leaves receipts of each epoch under its key, and proofs of all records', async () => {
    const { directory, log } = await memoryLog();
    const receipts = [await log.append(event(0))];
    await log.rotateKey();
    receipts.push(await log.append(event(1)));
    for (const [epoch, receipt] of receipts.entries())
      expect(log.keys.map(key => verifyReceipt(receipt, key).ok)).toEqual([epoch === 0, epoch === 1]);
    for (const receipt of receipts) expect(verifyReceipt(receipt, log.keys).ok).toBe(true);
    expect(verifyReceipt(receipts[0], []).ok).toBe(false);
    const earlier = receipts[0]!.checkpoint;
    await log.close();
    using prover = directoryProver(directory, log.vkey);
    expect(await prover.extends(earlier)).toMatchObject({ ok: true, from: 1, size: 3 });
  });

  test('again and again, also at once and on an empty log, with opening in between', async () => {
    const { directory, log } = await memoryLog();
    await Promise.all([log.rotateKey(), log.append(event(0)), log.rotateKey(), log.rotateKey()]);
    expect(log.keys).toHaveLength(4);
    await log.close();
    const again = await openDirectory(directory, { checkpointMs: 3_600_000 });
    expect(again.keys).toEqual(log.keys);
    await again.rotateKey();
    await again.rotateKey();
    await again.close();
    await (await openDirectory(directory)).close();
    expect(await verifyDirectory(directory, { vkey: log.vkey })).toMatchObject({ ok: true, size: 6 });
    expect(directory.names('keys/')).toEqual(['keys/5']);
    await expect(again.rotateKey()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('is overwritten before it is removed', async () => {
    const { directory, log } = await memoryLog();
    const bytes = directory.files.get('keys/0')!;
    const secret = new TextDecoder().decode(bytes.bytes);
    expect(secret).toMatch(/^PRIVATE\+KEY/);
    await log.rotateKey();
    expect(bytes.bytes.every(byte => byte === 0)).toBe(true);
    for (const name of directory.names()) expect(Buffer.from(directory.bytes(name)).includes(secret), name).toBe(false);
    await log.close();
  });

  test.each([
    ['create', 'keys/1'],
    ['append', 'wal/'],
    ['write', 'tile/'],
    ['replace', 'checkpoint'],
    ['replace', 'seal/0'],
    ['erase', 'keys/0'],
  ] as const)(
    'stops the log when %s of %s fails, and the next start has one key and all records',
    async (operation, file) => {
      const { directory, log } = await memoryLog();
      await appendGroups(log, [3]);
      directory.failing = { operation, file, system: 'ENOSPC' };
      await expect(log.rotateKey()).rejects.toMatchObject({ code: 'STORE_FAILED', detail: { system: 'ENOSPC' } });
      await log.close().catch(() => undefined);
      directory.failing = undefined;
      const again = await openDirectory(directory, { anchor: log.head() });
      expect(again.head().size).toBeGreaterThanOrEqual(3);
      expect(directory.names('keys/')).toEqual([keyFile(again.keys.length - 1)]);
      await again.append(event(4));
      await again.close();
      expect(await verifyDirectory(directory, { vkey: log.vkey })).toMatchObject({ ok: true, keys: again.keys });
    },
  );

  test('that was made and never announced is erased by the next start, also where a crash has half erased it', async () => {
    const { directory, log } = await memoryLog();
    await log.append(event(0));
    await log.close();
    for (const left of [directory.bytes('keys/0').slice(), new Uint8Array(100), Uint8Array.of(80)]) {
      directory.set('keys/1', left);
      const again = await openDirectory(directory);
      expect(directory.names('keys/')).toEqual(['keys/0']);
      expect(again.keys).toEqual(log.keys);
      await again.close();
    }
  });

  test('cannot be announced by a caller', async () => {
    const { log } = await memoryLog();
    const key = createSigner(new MemoryDirectory(), 'key', ORIGIN).vkey;
    await expect(log.append(announcement(key))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const other = createSigner(new MemoryDirectory(), 'key', 'another.example').vkey;
    expect((await log.append(announcement(other))).index).toBe(0);
    await log.close();
  });
});

describe('a proof bundle of a log with several epochs', () => {
  test('leads from the first key to the one that signed, and verifies with the first alone', async () => {
    const { directory, vkey, keys } = await threeEpochs();
    using prover = directoryProver(directory, vkey);
    for await (const record of readDirectory(directory)) {
      const bundle = JSON.parse(JSON.stringify(prover.prove(record))) as ProofBundle;
      expect(bundle.epochs).toHaveLength(2);
      expect(verifyBundle(bundle, vkey)).toMatchObject({ ok: true, record, size: 12 });
      expect(verifyBundle(bundle, keys[2])).toMatchObject({ ok: false });
      const [first, second] = bundle.epochs!;
      for (const epochs of [[], [first], [second], [second, first], [first, first], [first, second, second], undefined])
        expect(verifyBundle({ ...bundle, epochs }, vkey)).toMatchObject({ ok: false });
      expect(verifyBundle({ ...bundle, epochs: [bundle.receipt, second] }, vkey)).toMatchObject({ ok: false });
    }
  });

  test('cannot go by a record of the log that announces nothing, nor by one that is not the last of an epoch', async () => {
    const { directory, log } = await memoryLog();
    const receipt = await log.append(event(0));
    const mine = createSigner(new MemoryDirectory(), 'key', ORIGIN);
    const record = { ...event(1), v: 1, seq: 0, time: 0 } as const;
    const leaf = nodeHasher.leaf(encodeRecord(record));
    const forgedReceipt = { ...receipt, index: 0, leafHash: toBase64(leaf), record, proof: [] };
    const checkpoint = signCheckpoint(1, leaf, mine);
    const bundle = { v: 1, vkey: log.vkey, epochs: [receipt], receipt: { ...forgedReceipt, checkpoint } };
    expect(verifyBundle(bundle, log.vkey)).toMatchObject({ ok: false, reason: expect.stringContaining('announces') });
    await log.rotateKey();
    await log.close();
    using prover = directoryProver(directory);
    for await (const one of readDirectory(directory)) {
      const honest = prover.prove(one);
      expect(verifyBundle({ ...bundle, epochs: honest.epochs }, log.vkey)).toMatchObject({ ok: false });
    }
  });
});

describe('the holder of the key of today', () => {
  test('cannot sign a record of an earlier epoch anew: the seal tells, and which epoch', async () => {
    const { directory, vkey } = await threeEpochs();
    const signer = loadSigner(directory, keyFile(2))!;
    const leaves = leavesOf(directory, 12);
    for (const [index, from, through] of [
      [0, 0, 3],
      [2, 0, 3],
      [5, 4, 8],
      [7, 4, 8],
    ] as const) {
      const copy = directory.clone();
      const root = retile(copy, leaves.with(index, forged(leaves[index]!))).root();
      copy.set('checkpoint', Buffer.from(signCheckpoint(12, root, signer)));
      expect(await verifyDirectory(copy, { vkey })).toMatchObject({
        ok: false,
        kind: 'resealed',
        index: from,
        through,
      });
      await expect(openDirectory(copy)).rejects.toMatchObject({ code: 'AUDIT_INVALID', detail: { kind: 'resealed' } });
    }
    // A control: of the epoch of today it can, and only an anchor tells.
    const own = directory.clone();
    const root = retile(own, leaves.with(10, forged(leaves[10]!))).root();
    own.set('checkpoint', Buffer.from(signCheckpoint(12, root, signer)));
    expect(await verifyDirectory(own, { vkey })).toMatchObject({ ok: true });
  });

  test('cannot put own seals in the place of the old ones, nor do without', async () => {
    const { directory, vkey } = await threeEpochs();
    const signer = loadSigner(directory, keyFile(2))!;
    const leaves = leavesOf(directory, 12);
    const others = leaves.with(1, forged(leaves[1]!));
    const attacks: ((copy: MemoryDirectory) => void)[] = [
      copy => copy.set(sealFile(0), Buffer.from(signCheckpoint(4, retile(copy, others.slice(0, 4)).root(), signer))),
      copy => copy.delete(sealFile(0)),
      copy => copy.delete(sealFile(1)),
      copy => {
        for (const epoch of [0, 1]) copy.delete(sealFile(epoch));
      },
      copy => copy.set(sealFile(1), copy.bytes(sealFile(0))),
      copy => copy.set(sealFile(0), new Uint8Array(0)),
    ];
    for (const [i, attack] of attacks.entries()) {
      const copy = directory.clone();
      attack(copy);
      const root = retile(copy, others).root();
      copy.set('checkpoint', Buffer.from(signCheckpoint(12, root, signer)));
      expect(await verifyDirectory(copy, { vkey }), `attack ${i}`).toMatchObject({ ok: false, kind: 'resealed' });
    }
    // The records untouched, a seal gone: also then nothing vouches for them.
    for (const epoch of [0, 1]) {
      const copy = directory.clone();
      copy.delete(sealFile(epoch));
      expect(await verifyDirectory(copy, { vkey })).toMatchObject({ ok: false, kind: 'resealed' });
    }
  });

  test('cannot announce a key of their own in an earlier epoch', async () => {
    const { directory, vkey } = await threeEpochs();
    const mine = createSigner(new MemoryDirectory(), 'key', ORIGIN);
    const leaves = leavesOf(directory, 12);
    const announced = encodeRecord({ ...announcement(mine.vkey), v: 1, seq: 3, time: 0 });
    const copy = directory.clone();
    const builder = retile(copy, leaves.slice(0, 3).concat(announced));
    copy.set('checkpoint', Buffer.from(signCheckpoint(4, builder.root(), mine)));
    copy.delete(sealFile(1));
    expect(await verifyDirectory(copy, { vkey })).toMatchObject({ ok: false, kind: 'resealed' });
    copy.delete(sealFile(0));
    expect(await verifyDirectory(copy, { vkey })).toMatchObject({ ok: false, kind: 'resealed' });
  });

  test('rolls back: a checkpoint of an earlier epoch beside later seals tells', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [3]);
    const early = await log.checkpoint();
    await log.rotateKey();
    await appendGroups(log, [3], 3);
    await log.close();
    directory.set('checkpoint', Buffer.from(early));
    const verdict = await verifyDirectory(directory, { vkey: log.vkey });
    expect(verdict).toMatchObject({ ok: false, kind: 'rolled-back', index: 3 });
    // The seal itself in the place of the checkpoint passes for a crash only where nothing follows.
    directory.set('checkpoint', directory.bytes(sealFile(0)));
    expect(await verifyDirectory(directory, { vkey: log.vkey })).toMatchObject({ ok: false });
  });
});

describe('hostile bytes', () => {
  test('in a seal give a verdict: each bit, and anything', async () => {
    const { directory, vkey } = await threeEpochs();
    for (const epoch of [0, 1]) {
      const bytes = directory.bytes(sealFile(epoch));
      for (let bit = 0; bit < 8 * bytes.length; bit += 3) {
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        const verdict = await verifyDirectory(directory, { vkey });
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        if (verdict.ok || verdict.kind !== 'resealed') expect.fail(`bit ${bit}: ${JSON.stringify(verdict)}`);
      }
    }
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async bytes => {
        const copy = directory.clone();
        copy.set(sealFile(1), bytes);
        expect(await verifyDirectory(copy, { vkey })).toMatchObject({ ok: false, kind: 'resealed' });
      }),
      { numRuns: 50 },
    );
    expect(await verifyDirectory(directory, { vkey })).toMatchObject({ ok: true });
  });

  test('announce no key, whatever they are', () => {
    const start = fc.constantFrom('', '{"action":"key"', '{"action":"key","actor":"log"');
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 200 }), (text, bytes) => {
        expect(announcedIn(Buffer.concat([Buffer.from(text), bytes]), ORIGIN)).toBeUndefined();
      }),
    );
    const key = createSigner(new MemoryDirectory(), 'key', ORIGIN).vkey;
    const leaf = encodeRecord({ ...announcement(key), v: 1, seq: 0, time: 0 });
    expect(announcedIn(leaf, ORIGIN)).toEqual(parseVkey(key));
    expect(announcedIn(leaf, 'another.example')).toBeUndefined();
  });
});
