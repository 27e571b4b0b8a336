/**
 * A log that loses its power or its process at any moment: nothing that was acknowledged is gone, and nobody is accused.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, test } from 'vitest';
import { openLog, type Receipt, readRecords, verifyLog, verifyReceipt } from '../../sandbox/audit/index.ts';
import type { Head } from '../../sandbox/audit/layout.ts';
import { openDirectory } from '../../sandbox/audit/log.ts';
import { readDirectory } from '../../sandbox/audit/read.ts';
import type { AuditRecord } from '../../sandbox/audit/record.ts';
import { verifyDirectory } from '../../sandbox/audit/verify-directory.ts';
import { segmentName } from '../../sandbox/audit/wal.ts';
import { appendGroups, event, ORIGIN, onlyFile, SLOW } from './events.ts';
import { type Loss, MemoryDirectory } from './memory-directory.ts';

const GROUPS = [1, 3, 1, 2, 4, 1];

/** Two lives of one log: make, append, checkpoint, a new key, append, close; open and so on. Stops where the power goes. */
async function live(directory: MemoryDirectory): Promise<{ acknowledged: Receipt[]; anchor: Head | undefined }> {
  const acknowledged: Receipt[] = [];
  let anchor: Head | undefined;
  let number = 0;
  try {
    for (let life = 0; life < 2; life++) {
      const log = await openDirectory(directory, {
        origin: ORIGIN,
        checkpointEvery: 4,
        checkpointMs: 3_600_000,
        anchor,
      });
      for (const size of GROUPS) {
        acknowledged.push(...(await Promise.all(Array.from({ length: size }, () => log.append(event(number++))))));
        anchor = log.head();
        if (size === 2) await log.rotateKey();
      }
      await log.close();
    }
  } catch (error) {
    expect(error).toMatchObject({ code: 'STORE_FAILED' });
  }
  return { acknowledged, anchor };
}

test('power lost at any byte and between any two steps, and again while starting: all that was acknowledged is there, and the log is honest', {
  timeout: 900_000,
}, async () => {
  const whole = new MemoryDirectory();
  await live(whole);
  const losses: Loss[] = ['lost', 'kept', 'zeroed', 'holes'];
  let cuts = 0;
  for (let steps = 0; steps <= whole.steps; steps++) {
    if (!SLOW && !whole.boundaries.has(steps) && steps % 97 !== 0) continue;
    const before = new MemoryDirectory();
    before.stepsLeft = steps;
    const { acknowledged, anchor } = await live(before);
    for (const loss of SLOW ? losses : [losses[steps % 4]!, losses[(steps + 1) % 4]!]) {
      const first = before.afterPowerLoss(loss);
      const where = `power lost at step ${steps}, unsynced bytes ${loss}`;
      if (first.files.has('checkpoint'))
        expect(await verifyDirectory(first, { anchor }), where).toMatchObject({ ok: true });
      const directory = await startInterrupted(first, anchor, steps);
      const log = await openDirectory(directory, { origin: ORIGIN, anchor });
      const size = log.head().size;
      expect(size, where).toBeGreaterThanOrEqual(acknowledged.length);
      const records: AuditRecord[] = [];
      for await (const record of readDirectory(directory)) records.push(record);
      for (const { index, record } of acknowledged) expect(records[index], where).toEqual(record);
      for (const { record, index: at } of acknowledged.slice(-1))
        expect(verifyReceipt(log.receipt(at), log.keys, record).ok).toBe(true);
      for (const receipt of acknowledged) expect(verifyReceipt(receipt, log.keys).ok, where).toBe(true);
      // Of past epochs no private key is left, and of the present one there is.
      const epoch = log.keys.length - 1;
      expect(directory.names('keys/'), where).toEqual([`keys/${epoch}`]);
      expect(directory.names('seal/'), where).toHaveLength(epoch);
      expect(directory.names('wal/'), where).toEqual([segmentName(size)]);
      const receipt = await log.append(event(size));
      expect(receipt.index).toBe(size);
      expect(verifyReceipt(receipt, log.keys.at(-1)!).ok, where).toBe(true);
      await log.close();
      const verdict = await verifyDirectory(directory, { vkey: log.vkey, anchor });
      expect(verdict, where).toMatchObject({ ok: true, size: size + 1, tornBytes: 0, keys: log.keys });
      expect(directory.names('tile/'), where).toEqual(tileNames(size + 1));
      cuts++;
    }
  }
  expect(cuts).toBeGreaterThan(SLOW ? 10_000 : 300);
});

/** What is left when the power goes again, while the log starts. */
async function startInterrupted(directory: MemoryDirectory, anchor: Head | undefined, seed: number) {
  directory.stepsLeft = 1 + (seed % 23);
  try {
    await (await openDirectory(directory, { origin: ORIGIN, anchor })).close();
  } catch (error) {
    expect(error).toMatchObject({ code: 'STORE_FAILED' });
  }
  return directory.afterPowerLoss((['lost', 'kept', 'holes'] as const)[seed % 3]!);
}

/** The tiles of a log of fewer than 256 records. */
const tileNames = (size: number): string[] => [`tile/0/000.p/${size}`, `tile/entries/000.p/${size}`];

test('a positive control: a disk that loses synced bytes is noticed', async () => {
  const directory = new MemoryDirectory();
  const { anchor } = await live(directory);
  const bundle = onlyFile(directory, 'tile/entries');
  directory.set(bundle, directory.bytes(bundle).slice(0, -1));
  expect(await verifyDirectory(directory, { anchor })).toMatchObject({ ok: false, kind: 'truncated' });
});

test.each([
  ['bytes', 'rolled-back'],
  ['names', 'missing'],
] as const)(
  'a positive control: a disk that does not sync %s when it says so loses what was acknowledged, and that is noticed',
  async (lying, kind) => {
    const directory = new MemoryDirectory();
    const log = await openDirectory(directory, { origin: ORIGIN, checkpointMs: 3_600_000 });
    directory.lying = lying;
    await appendGroups(log, [lying === 'names' ? 256 : 3]);
    if (lying === 'names') {
      await log.checkpoint();
      directory.lying = undefined;
      await log.append(event(256));
      await log.checkpoint(); // this one is durable, and the full tiles before it are not
    }
    const after = directory.afterPowerLoss('lost');
    const verdict = await verifyDirectory(after, { vkey: log.vkey, anchor: log.head() });
    expect(verdict).toMatchObject({ ok: false, kind, index: 0 });
    await expect(openDirectory(after, { anchor: log.head() })).rejects.toMatchObject({ code: 'AUDIT_INVALID' });
  },
);

test('a writer killed with SIGKILL, again and again: all that it acknowledged is there', {
  timeout: 900_000,
}, async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'cloister-audit-kill-'));
  const script = `
    import { openLog } from ${JSON.stringify(path.resolve(import.meta.dirname, '../../sandbox/audit/index.ts'))};
    import { writeSync } from 'node:fs';
    const log = await openLog(${JSON.stringify(dir)}, { origin: ${JSON.stringify(ORIGIN)}, checkpointEvery: 3 });
    writeSync(1, 'open\\n');
    const event = { actor: 'ward-3', action: 'run', object: { kind: 'session', id: 'triage' }, decision: { outcome: 'allow' } };
    for (;;) {
      const receipts = await Promise.all(Array.from({ length: 1 + (log.head().size % 5) }, () => log.append(event)));
      if (log.head().size % 7 === 0) await log.rotateKey();
      writeSync(1, receipts.map(receipt => receipt.index + ' ' + receipt.leafHash + '\\n').join(''));
    }`;
  const acknowledged = new Map<number, string>();
  const rounds = SLOW ? 100 : 8;
  for (let round = 0; round < rounds; round++) {
    const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    let doomed = false;
    await new Promise<void>(resolve => {
      child.stdout.on('data', chunk => {
        // Killed a different moment after it opened, or after it acknowledged something, however slow the machine is.
        if (!doomed && (round % 4 === 0 || text !== '')) {
          doomed = true;
          setTimeout(() => child.kill('SIGKILL'), (round * 13) % 40);
        }
        text += chunk;
      });
      child.once('close', () => resolve());
    });
    for (const line of text.split('\n').slice(0, -1)) {
      const [index = '', hash] = line.split(' ');
      if (hash !== undefined) acknowledged.set(Number(index), hash);
    }
    expect(await verifyLog(dir)).toMatchObject({ ok: true });
    const log = await openLog(dir);
    expect(log.head().size).toBeGreaterThanOrEqual(acknowledged.size);
    for (const [index, hash] of acknowledged) expect(log.receipt(index).leafHash).toBe(hash);
    await log.close();
  }
  expect(acknowledged.size).toBeGreaterThan(rounds);
  let count = 0;
  for await (const record of readRecords(dir)) expect(record.seq).toBe(count++);
  fs.rmSync(dir, { recursive: true });
});
