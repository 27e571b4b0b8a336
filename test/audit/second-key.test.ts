/**
 * The second key of a log, after ML-DSA-44: on every stored checkpoint, demanded by those who know it, no hindrance to those who do not.
 */
import { describe, expect, test } from 'vitest';
import { announcement } from '../../sandbox/audit/announcement.ts';
import { verifyCheckpoint } from '../../sandbox/audit/checkpoint.ts';
import { continueDirectory, verifyDirectories } from '../../sandbox/audit/continue.ts';
import { parseCosigner, verifySecondLine } from '../../sandbox/audit/cosignature.ts';
import { createCosigner, nodeCosignature } from '../../sandbox/audit/cosigner.ts';
import { followKeys, sealFile, signedHead } from '../../sandbox/audit/epochs.ts';
import { openDirectory } from '../../sandbox/audit/log.ts';
import { formatSignature, parseNote, parseVkey } from '../../sandbox/audit/note.ts';
import { readDirectory } from '../../sandbox/audit/read.ts';
import { secondDigest, secondKeyFile, secondVkeyFile, withSecond } from '../../sandbox/audit/second-key.ts';
import { verifyReceipt } from '../../sandbox/audit/verify.ts';
import { verifyDirectory } from '../../sandbox/audit/verify-directory.ts';
import { appendGroups, event, memoryLog, ORIGIN } from './events.ts';
import { type Loss, MemoryDirectory } from './memory-directory.ts';

const TWO = { secondSignature: 'ml-dsa-44' } as const;
const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** A closed log of three epochs with two keys each, and eight records. */
async function threeEpochs() {
  const { directory, log } = await memoryLog(TWO);
  for (const from of [0, 2]) {
    await appendGroups(log, [2], from);
    await log.rotateKey();
  }
  await appendGroups(log, [2], 4);
  await log.close();
  return { directory, log, vkey: log.vkey, secondVkey: log.secondVkey! };
}

/** A note with each line of the second key passed through `change`, and left out where that gives none. */
function changed(note: string, change: (signature: Uint8Array) => Uint8Array | undefined): string {
  const { text: said, signatures } = parseNote(note);
  const lines = signatures.flatMap(one => {
    if (one.signature.length === 64) return [formatSignature(one)];
    const signature = change(one.signature);
    return signature === undefined ? [] : [formatSignature({ ...one, signature })];
  });
  return `${said}\n${lines.map(line => `${line}\n`).join('')}`;
}

describe('a log with a second key', () => {
  test('signs each stored checkpoint with both keys, which verify apart and together', async () => {
    const { directory, log } = await memoryLog(TWO);
    const receipt = await log.append(event(0));
    const note = await log.checkpoint();
    expect(text(directory.bytes('checkpoint'))).toBe(note);
    expect(parseNote(note).signatures.map(({ name, signature }) => [name, signature.length])).toEqual([
      [ORIGIN, 64],
      [ORIGIN, 8 + 2420],
    ]);
    const second = parseCosigner(log.secondVkey!);
    expect(second).toMatchObject({ name: ORIGIN, type: 'ml-dsa-44' });
    expect(verifySecondLine(note, second, nodeCosignature)).toMatchObject({ ok: true, checkpoint: { size: 1 } });
    // Whoever knows Ed25519 alone: the pure verifier, and an auditor with one key.
    expect(verifyCheckpoint(note, parseVkey(log.vkey))).toMatchObject({ ok: true, checkpoint: { size: 1 } });
    // A receipt is signed once.
    expect(parseNote(receipt.checkpoint).signatures).toHaveLength(1);
    expect(verifyReceipt(receipt, log.vkey).ok).toBe(true);
    expect(directory.mode(secondKeyFile(0))).toBe(0o600);
    await log.close();
    const { secondVkey, vkey } = log;
    expect(await verifyDirectory(directory, { vkey, secondVkey })).toMatchObject({ ok: true, size: 1 });
    expect(text(directory.bytes(secondVkeyFile(0)))).toBe(`${secondVkey}\n`);
  });

  test('keeps it when it is opened again, with the option and without, and changes it with the epoch', async () => {
    const { directory, log, vkey, secondVkey } = await threeEpochs();
    for (const options of [TWO, {}]) {
      const again = await openDirectory(directory, options);
      expect(again.secondVkey).toBe(secondVkey);
      expect(parseNote(await again.checkpoint()).signatures).toHaveLength(2);
      await again.close();
    }
    expect(directory.names('keys/')).toEqual(['keys/2', secondKeyFile(2)]);
    expect(directory.names('ml-dsa-44/')).toEqual([0, 1, 2].map(secondVkeyFile));
    expect(await verifyDirectory(directory, { vkey, secondVkey })).toMatchObject({ ok: true, size: 8, keys: log.keys });
    const { keys, seals } = signedHead(directory, vkey).epochs;
    expect(new Set(keys.map(key => key.second!.id)).size).toBe(3);
    for (const [epoch, { note }] of seals.entries())
      expect(verifySecondLine(note, keys[epoch]!.second!, nodeCosignature).ok).toBe(true);
    // One who knows the Ed25519 key of the first epoch alone follows the epochs too.
    expect(followKeys(directory, parseVkey(vkey)).keys).toHaveLength(3);
  });

  test('overwrites the old one when the key is changed', async () => {
    const { directory, log } = await memoryLog(TWO);
    const file = directory.files.get(secondKeyFile(0))!;
    expect(text(file.bytes)).toMatch(/^PRIVATE\+KEY/);
    await log.rotateKey();
    expect(file.bytes.every(byte => byte === 0)).toBe(true);
    await log.close();
  });

  test('is refused where a line is forged, cut off or missing, of the checkpoint and of each seal', async () => {
    const { directory, vkey, secondVkey } = await threeEpochs();
    const other = createCosigner(ORIGIN).signer;
    const resigned = (note: string): string =>
      withSecond(
        changed(note, () => undefined),
        {
          second: other,
        } as Parameters<typeof withSecond>[1],
      );
    const flip = (at: number) => (signature: Uint8Array) => signature.map((byte, i) => (i === at ? byte ^ 1 : byte));
    const forgeries = [
      (note: string) => changed(note, () => undefined),
      (note: string) => changed(note, signature => signature.slice(0, -1)),
      resigned,
      ...[7, 8, 1000, 2427].map(at => (note: string) => changed(note, flip(at))),
    ];
    for (const file of ['checkpoint', sealFile(0), sealFile(1)]) {
      for (const forge of forgeries) {
        const copy = directory.clone();
        copy.set(file, Buffer.from(forge(text(copy.bytes(file)))));
        for (const options of [{ vkey, secondVkey }, { vkey }, {}])
          expect(await verifyDirectory(copy, options), file).toMatchObject({ ok: false });
        await expect(openDirectory(copy)).rejects.toMatchObject({ code: 'AUDIT_INVALID' });
        // An auditor who knows Ed25519 alone, and has no second key beside the log, has nothing to say against it.
        for (const name of copy.names('ml-dsa-44/')) copy.delete(name);
        expect(await verifyDirectory(copy, { vkey }), file).toMatchObject({ ok: true });
        expect(await verifyDirectory(copy, { vkey, secondVkey }), file).toMatchObject({ ok: false });
      }
    }
  });

  test('is refused under another second key, and one that is none', async () => {
    const { directory, vkey } = await threeEpochs();
    const mine = createCosigner(ORIGIN).signer.vkey;
    expect(await verifyDirectory(directory, { vkey, secondVkey: mine })).toMatchObject({ ok: false });
    for (const bad of ['', vkey, createCosigner(ORIGIN, 'ed25519').signer.vkey])
      await expect(verifyDirectory(directory, { vkey, secondVkey: bad })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
    // A published key of a later epoch that is not the announced one.
    directory.set(secondVkeyFile(1), Buffer.from(`${mine}\n`));
    expect(await verifyDirectory(directory, { vkey })).toMatchObject({ ok: false, kind: 'resealed' });
    directory.set(secondVkeyFile(0), Buffer.from('no key\n'));
    expect(await verifyDirectory(directory, { vkey })).toMatchObject({ ok: false, kind: 'malformed' });
  });

  test('does not start without its second key, nor get one later', async () => {
    const { directory } = await threeEpochs();
    for (const file of [secondKeyFile(2), secondVkeyFile(0), secondVkeyFile(2)]) {
      const copy = directory.clone();
      copy.delete(file);
      await expect(openDirectory(copy), file).rejects.toMatchObject({ code: 'AUDIT_INVALID' });
    }
    const { directory: plain, log } = await memoryLog();
    await log.close();
    await expect(openDirectory(plain, TWO)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const long = new MemoryDirectory();
    await expect(openDirectory(long, { ...TWO, origin: 'é'.repeat(200) })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    expect(long.names('keys/')).toEqual([]);
  });

  test('is continued by one with a second key, and both verify', async () => {
    const { directory, vkey, secondVkey } = await threeEpochs();
    const to = new MemoryDirectory();
    const next = await continueDirectory(directory, to, { ...TWO, origin: 'clinic.example/next' });
    expect(next.secondVkey).not.toBe(secondVkey);
    await next.close();
    expect(await verifyDirectories([directory, to], { vkey, secondVkey })).toMatchObject({ ok: true });
    expect(await verifyDirectories([directory, to], { vkey, secondVkey: next.secondVkey })).toMatchObject({ log: 0 });
  });

  test('announces it by its digest, which a caller cannot', async () => {
    const { directory, log } = await memoryLog(TWO);
    await log.rotateKey();
    const records = [];
    for await (const record of readDirectory(directory)) records.push(record);
    const digest = secondDigest(text(directory.bytes(secondVkeyFile(1))).trim());
    expect(records[0]!.object.id).toBe(`${log.keys[1]} ${digest}`);
    await expect(log.append(announcement(log.vkey, digest))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await log.close();
  });
});

test('power lost between any two steps of a log with a second key: it starts again, both keys hold, the old are gone', async () => {
  const live = async (directory: MemoryDirectory): Promise<number> => {
    let acknowledged = 0;
    try {
      const log = await openDirectory(directory, { ...TWO, origin: ORIGIN, checkpointMs: 3_600_000 });
      for (let i = 0; i < 2; i++) {
        await log.append(event(i));
        acknowledged++;
        await log.rotateKey();
        acknowledged++;
      }
      await log.close();
    } catch (error) {
      expect(error).toMatchObject({ code: 'STORE_FAILED' });
    }
    return acknowledged;
  };
  const whole = new MemoryDirectory();
  await live(whole);
  const losses: Loss[] = ['lost', 'kept', 'zeroed', 'holes'];
  let cuts = 0;
  for (const steps of whole.boundaries) {
    const before = new MemoryDirectory();
    before.stepsLeft = steps;
    const acknowledged = await live(before);
    const directory = before.afterPowerLoss(losses[steps % 4]!);
    const log = await openDirectory(directory, { origin: ORIGIN, ...TWO });
    expect(log.head().size, `step ${steps}`).toBeGreaterThanOrEqual(acknowledged);
    await log.append(event(9));
    await log.close();
    const epoch = log.keys.length - 1;
    expect(directory.names('keys/'), `step ${steps}`).toEqual([`keys/${epoch}`, secondKeyFile(epoch)]);
    const { vkey, secondVkey } = log;
    expect(await verifyDirectory(directory, { vkey, secondVkey }), `step ${steps}`).toMatchObject({ ok: true });
    cuts++;
  }
  expect(cuts).toBeGreaterThan(50);
});
