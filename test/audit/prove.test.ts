import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ProofBundle, verifyBundle } from '../../sandbox/audit/bundle.ts';
import { openDirectory } from '../../sandbox/audit/log.ts';
import { directoryProver } from '../../sandbox/audit/prove.ts';
import { readDirectory } from '../../sandbox/audit/read.ts';
import type { AuditRecord } from '../../sandbox/audit/record.ts';
import { verifyExtension } from '../../sandbox/audit/verify.ts';
import { appendGroups, event, memoryLog, ORIGIN, onlyFile } from './events.ts';
import type { MemoryDirectory } from './memory-directory.ts';

async function recordsOf(directory: MemoryDirectory): Promise<AuditRecord[]> {
  const records: AuditRecord[] = [];
  for await (const record of readDirectory(directory)) records.push(record);
  return records;
}

/** A closed log of `size` records, with its key, its checkpoints by size, and copies of its directory at each. */
async function history(size: number) {
  const { directory, log } = await memoryLog();
  const notes: string[] = [await log.checkpoint()];
  const copies = [directory.clone()];
  for (let number = 0; number < size; number++) {
    await log.append(event(number));
    notes.push(await log.checkpoint());
    copies.push(directory.clone());
  }
  await log.close();
  return { directory, vkey: log.vkey, notes, copies };
}

/** A copy of the bytes of a file with one bit of it turned. */
function flip(directory: MemoryDirectory, name: string, at: number): void {
  const bytes = directory.bytes(name).slice();
  bytes[at]! ^= 1;
  directory.set(name, bytes);
}

const received = (bundle: ProofBundle): ProofBundle => JSON.parse(JSON.stringify(bundle)) as ProofBundle;

describe('a proof bundle', () => {
  test('of every record of a log of every size verifies alone, under the key that is expected', async () => {
    for (let size = 1; size <= 20; size++) {
      const { directory, log } = await memoryLog();
      await appendGroups(log, [size]);
      await log.close();
      using prover = directoryProver(directory);
      for (const record of await recordsOf(directory)) {
        const bundle = received(prover.prove(record));
        expect(verifyBundle(bundle, log.vkey)).toEqual({ ok: true, origin: ORIGIN, record, size });
        expect(verifyBundle(bundle)).toMatchObject({ ok: true });
      }
    }
  });

  test('of a log that is written to is under the checkpoint that the log has', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [5]);
    await log.checkpoint();
    await appendGroups(log, [3], 5);
    using prover = directoryProver(directory);
    const records = await recordsOf(directory);
    expect(records).toHaveLength(8);
    expect(verifyBundle(prover.prove(records[4]!), log.vkey)).toMatchObject({ ok: true, size: 5 });
    expect(() => prover.prove(records[5]!)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', detail: { index: 5, size: 5 } }),
    );
    await log.close();
  });

  test('with anything changed in it does not verify', async () => {
    const { directory, vkey } = await history(7);
    using prover = directoryProver(directory);
    const records = await recordsOf(directory);
    const bundle = prover.prove(records[3]!);
    const text = JSON.stringify(bundle);
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.integer({ min: 0x20, max: 0x7e }), (at, code) => {
        const changed = text.slice(0, at) + String.fromCharCode(code) + text.slice(at + 1);
        let value: unknown;
        try {
          value = JSON.parse(changed);
        } catch {
          return;
        }
        // Changes that leave the value as it is, 0 for 0 say, are none.
        expect(verifyBundle(value, vkey).ok).toBe(JSON.stringify(value) === text);
      }),
      { numRuns: 500 },
    );
    const { receipt } = bundle;
    const { record: _, ...bare } = receipt;
    for (const forged of [
      { ...bundle, receipt: { ...receipt, record: records[2] } },
      { ...bundle, receipt: { ...receipt, index: 2 } },
      { ...bundle, receipt: { ...receipt, proof: receipt.proof.slice(1) } },
      { ...bundle, receipt: bare },
      { ...bundle, more: 1 },
      { ...bundle, vkey: '' },
      { ...bundle, v: 2 },
    ])
      expect(verifyBundle(forged), JSON.stringify(Object.keys(forged))).toMatchObject({ ok: false });
    expect(verifyBundle(bundle, vkey).ok).toBe(true);
  });

  test('of another log, honest in itself, is not one of this log', async () => {
    const { vkey } = await history(1);
    const other = await history(1);
    using prover = directoryProver(other.directory);
    const bundle = prover.prove((await recordsOf(other.directory))[0]!);
    expect(verifyBundle(bundle)).toMatchObject({ ok: true });
    expect(verifyBundle(bundle, vkey)).toMatchObject({ ok: false, reason: expect.stringContaining('another key') });
  });

  test('is anything: refused, not thrown on', () => {
    fc.assert(
      fc.property(fc.anything(), value => {
        expect(verifyBundle(value).ok).toBe(false);
      }),
    );
  });

  test('is not made of a record that is not the one in the tree, nor from a damaged hash tile', async () => {
    const { directory } = await history(8);
    const records = await recordsOf(directory);
    {
      using prover = directoryProver(directory);
      const forged = { ...records[3]!, actor: 'somebody else' };
      expect(() => prover.prove(forged)).toThrow(
        expect.objectContaining({ code: 'AUDIT_INVALID', detail: { index: 3 } }),
      );
      expect(verifyBundle(prover.prove(records[3]!)).ok).toBe(true);
    }
    flip(directory, onlyFile(directory, 'tile/0'), 0); // on the path of record 1
    using prover = directoryProver(directory);
    expect(() => prover.prove(records[1]!)).toThrow(expect.objectContaining({ code: 'AUDIT_INVALID' }));
    directory.set(onlyFile(directory, 'tile/0'), new Uint8Array(0));
    using short = directoryProver(directory);
    expect(() => short.prove(records[1]!)).toThrow(expect.objectContaining({ code: 'AUDIT_INVALID' }));
    directory.delete(onlyFile(directory, 'tile/0'));
    using without = directoryProver(directory);
    expect(() => without.prove(records[1]!)).toThrow(/missing or short/);
  });

  test('is not made under a checkpoint that is gone, forged, or of another key', async () => {
    const { directory } = await history(3);
    const other = await history(3);
    expect(() => directoryProver(directory, other.vkey)).toThrow(expect.objectContaining({ code: 'AUDIT_INVALID' }));
    const honest = directory.bytes('checkpoint').slice();
    flip(directory, 'checkpoint', honest.length - 10);
    expect(() => directoryProver(directory)).toThrow(expect.objectContaining({ code: 'AUDIT_INVALID' }));
    directory.delete('checkpoint');
    expect(() => directoryProver(directory)).toThrow(expect.objectContaining({ code: 'AUDIT_INVALID' }));
    directory.set('checkpoint', honest);
    directoryProver(directory)[Symbol.dispose]();
  });
});

describe('a log', () => {
  test('extends each of its own checkpoints, with a proof that verifies alone', async () => {
    const { directory, vkey, notes } = await history(17);
    using prover = directoryProver(directory, vkey);
    for (let from = 1; from <= 17; from++) {
      const verdict = await prover.extends(notes[from]!);
      expect(verdict).toMatchObject({ ok: true, from, size: 17 });
      if (!verdict.ok || verdict.extension === undefined) throw new Error('there is a proof');
      const { checkpoint, proof } = verdict.extension;
      expect(verifyExtension(notes[from]!, checkpoint, proof, vkey)).toEqual({ ok: true });
    }
  });

  test('extends a checkpoint of a receipt that its stored checkpoint does not cover yet', async () => {
    const { directory, log } = await memoryLog();
    await log.append(event(0));
    await log.checkpoint();
    const { checkpoint } = await log.append(event(1));
    using prover = directoryProver(directory);
    expect(await prover.extends(checkpoint)).toEqual({ ok: true, from: 2, size: 2 });
    await log.close();
  });

  test('is told from one that was rolled back, and from one that went another way', async () => {
    const { notes, copies } = await history(9);
    {
      using prover = directoryProver(copies[6]!);
      expect(await prover.extends(notes[9]!)).toMatchObject({ ok: false, kind: 'rolled-back' });
    }
    // The same key, from the sixth record on another history, and longer in the end.
    const fork = copies[6]!.clone();
    const log = await openDirectory(fork, { checkpointMs: 3_600_000 });
    await appendGroups(log, [8], 1000);
    await log.close();
    using prover = directoryProver(fork);
    for (let size = 1; size <= 6; size++) expect((await prover.extends(notes[size]!)).ok).toBe(true);
    for (let size = 7; size <= 9; size++)
      expect(await prover.extends(notes[size]!)).toMatchObject({ ok: false, kind: 'forked' });
  });

  test('with a hash tile that is damaged or gone is not taken for a fork', async () => {
    const { directory, notes } = await history(8);
    const damaged = directory.clone();
    flip(damaged, onlyFile(damaged, 'tile/0'), 64);
    using prover = directoryProver(damaged);
    expect(await prover.extends(notes[3]!)).toMatchObject({ ok: false, kind: 'malformed' });
    directory.delete(onlyFile(directory, 'tile/0'));
    using without = directoryProver(directory);
    expect(await without.extends(notes[5]!)).toMatchObject({ ok: false, kind: 'malformed' });
  });

  test('proves nothing from a checkpoint of no records, and believes no note by another key', async () => {
    const { directory, notes } = await history(2);
    const other = await history(2);
    using prover = directoryProver(directory);
    await expect(prover.extends(notes[0]!)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await prover.extends(other.notes[1]!)).toMatchObject({ ok: false, kind: 'malformed' });
    expect(await prover.extends('no note')).toMatchObject({ ok: false, kind: 'malformed' });
  });
});
