import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type AuditRecord,
  openLog,
  type Receipt,
  readRecords,
  verifyCheckpoint,
  verifyExtension,
  verifyLog,
  verifyReceipt,
} from '../../sandbox/audit/index.ts';
import { createLogKey } from '../../sandbox/audit/keys.ts';
import { openDirectory } from '../../sandbox/audit/log.ts';
import { parseVkey } from '../../sandbox/audit/note.ts';
import { readDirectory } from '../../sandbox/audit/read.ts';
import { appendGroups, event, memoryLog, ORIGIN, onlyFile } from './events.ts';
import { MemoryDirectory } from './memory-directory.ts';

let dir = '';
beforeEach(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'cloister-audit-'));
});
afterEach(() => {
  fs.rmSync(dir, { recursive: true, force: true });
});

async function collect(records: AsyncIterable<AuditRecord>): Promise<AuditRecord[]> {
  const all: AuditRecord[] = [];
  for await (const record of records) all.push(record);
  return all;
}

describe('a log on disk', () => {
  test('appends, closes, opens, goes on, and verifies as one', async () => {
    const at = path.join(dir, 'a', 'b');
    let vkey = '';
    for (let round = 0; round < 3; round++) {
      await using log = await openLog(at, { origin: ORIGIN });
      vkey = log.vkey;
      expect(log.head().size).toBe(20 * round);
      expect(log.cutBytes).toBe(0);
      await appendGroups(log, [1, 19], 20 * round);
    }
    expect(await verifyLog(at, { vkey })).toMatchObject({ ok: true, size: 60, signedSize: 60 });
    const records = await collect(readRecords(at));
    expect(records.map(({ seq, request }) => [seq, request])).toEqual(
      Array.from({ length: 60 }, (_, i) => [i, `r-${i}`]),
    );
    if (process.platform !== 'win32') {
      const modes = ['keys/0', 'wal/0000000000000040', 'tile/entries/000.p/60', 'tile/0/000.p/60'].map(
        name => fs.statSync(path.join(at, name)).mode & 0o777,
      );
      expect(modes).toEqual([0o600, 0o600, 0o600, 0o600]);
      expect(fs.statSync(at).mode & 0o777).toBe(0o700);
    }
    expect(fs.readdirSync(at).sort()).toEqual(['checkpoint', 'keys', 'lock', 'tile', 'tmp', 'vkey', 'wal']);
    expect(fs.readdirSync(path.join(at, 'tmp'))).toEqual([]);
  });

  test('a checkpoint is there on demand, after so many records, and after a while', async () => {
    await using log = await openLog(dir, { origin: ORIGIN, checkpointEvery: 5, checkpointMs: 20 });
    const stored = () => verifyCheckpoint(fs.readFileSync(path.join(dir, 'checkpoint')), parseVkey(log.vkey));
    expect(stored()).toMatchObject({ ok: true, checkpoint: { size: 0, origin: ORIGIN } });
    await appendGroups(log, [2]);
    const note = await log.checkpoint();
    expect(fs.readFileSync(path.join(dir, 'checkpoint'), 'utf8')).toBe(note);
    expect(stored()).toMatchObject({ ok: true, checkpoint: { size: 2 } });
    await log.append(event(2));
    await expect.poll(stored).toMatchObject({ ok: true, checkpoint: { size: 3 } });
    await appendGroups(log, [5], 3);
    await expect.poll(stored).toMatchObject({ ok: true, checkpoint: { size: 8 } });
  });

  test('a second opening is refused, in this process and in another, until the first is closed or killed', {
    timeout: 60_000,
  }, async () => {
    const first = await openLog(dir, { origin: ORIGIN });
    await first.append(event(0));
    await expect(openLog(dir)).rejects.toMatchObject({ code: 'LOCKED' });
    const refused = await child('open');
    expect(refused.line).toBe('LOCKED');
    await first.close();
    const holder = await child('hold');
    expect(holder.line).toBe('open');
    await expect(openLog(dir)).rejects.toMatchObject({ code: 'LOCKED' });
    holder.process.kill('SIGKILL');
    await holder.ended;
    const again = await openLog(dir);
    expect(again.head().size).toBe(1);
    await again.close();
  });

  test('of many processes that open at once, exactly one gets in', { timeout: 60_000 }, async () => {
    const started = await Promise.all(Array.from({ length: 4 }, () => child('hold')));
    const lines = started.map(({ line }) => line);
    for (const { process: one, ended } of started) {
      one.kill('SIGKILL');
      await ended;
    }
    expect(lines.sort()).toEqual(['LOCKED', 'LOCKED', 'LOCKED', 'open']);
  });

  test('a place that cannot be written gives STORE_FAILED', async () => {
    fs.writeFileSync(path.join(dir, 'file'), '');
    await expect(openLog(path.join(dir, 'file', 'log'))).rejects.toMatchObject({
      code: 'STORE_FAILED',
      detail: { system: 'ENOTDIR' },
    });
    await expect(openLog('/proc/cloister-audit')).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });

  test.skipIf(process.getuid?.() === 0)(
    'a directory without write permission gives STORE_FAILED, and can still be verified',
    async () => {
      const log = await openLog(dir, { origin: ORIGIN });
      await log.append(event(0));
      await log.close();
      fs.chmodSync(dir, 0o500);
      for (const name of fs.readdirSync(dir)) fs.chmodSync(path.join(dir, name), 0o400);
      await expect(openLog(dir)).rejects.toMatchObject({ code: 'STORE_FAILED' });
      expect(await verifyLog(dir, { vkey: log.vkey })).toMatchObject({ ok: true, size: 1 });
      fs.chmodSync(dir, 0o700);
    },
  );

  test('something else in the place of a file is refused without hanging', async () => {
    const log = await openLog(dir, { origin: ORIGIN });
    await log.append(event(0));
    await log.close();
    for (const name of ['wal/0000000000000000', 'checkpoint', 'tile/entries/000.p/1', 'tile/0/000.p/1']) {
      const file = path.join(dir, name);
      const bytes = fs.readFileSync(file);
      fs.rmSync(file);
      fs.mkdirSync(file);
      expect(await verifyLog(dir, { vkey: log.vkey })).toMatchObject({ ok: false, kind: 'malformed' });
      await expect(openLog(dir)).rejects.toMatchObject({ code: expect.stringMatching(/AUDIT_INVALID|STORE_FAILED/) });
      fs.rmdirSync(file);
      fs.writeFileSync(file, bytes);
    }
    expect(await verifyLog(dir, { vkey: log.vkey })).toMatchObject({ ok: true });
  });

  test.skipIf(process.platform === 'win32')('links that lead nowhere are refused without hanging', async () => {
    const log = await openLog(dir, { origin: ORIGIN });
    await log.append(event(0));
    await log.close();
    const link = path.join(dir, 'wal', '0000000000000001');
    fs.symlinkSync(path.join(dir, 'nowhere'), link);
    expect(await verifyLog(dir, { vkey: log.vkey })).toMatchObject({ ok: false, kind: 'malformed' });
    await expect(openLog(dir)).rejects.toMatchObject({ code: 'AUDIT_INVALID' });
    fs.rmSync(link);
    fs.rmSync(path.join(dir, 'tile/entries/000.p/1'));
    fs.symlinkSync(path.join(dir, 'nowhere'), path.join(dir, 'tile/entries/000.p/2'));
    expect(await verifyLog(dir, { vkey: log.vkey })).toMatchObject({ ok: false, kind: 'truncated', index: 0 });
  });

  test('when somebody else has written to the segment, the log stops instead of mixing', async () => {
    const log = await openLog(dir, { origin: ORIGIN });
    await log.append(event(0));
    fs.appendFileSync(path.join(dir, 'wal/0000000000000000'), 'x');
    await expect(log.append(event(1))).rejects.toMatchObject({ code: 'STORE_FAILED' });
    await expect(log.append(event(2))).rejects.toMatchObject({ code: 'STORE_FAILED' });
    await log.close();
  });

  async function child(what: 'open' | 'hold') {
    const script = `
      import { openLog } from ${JSON.stringify(path.resolve(import.meta.dirname, '../../sandbox/audit/index.ts'))};
      try { await openLog(${JSON.stringify(dir)}); console.log('open'); ${what === 'hold' ? 'setInterval(() => {}, 1000);' : ''} }
      catch (error) { console.log(error.code); }`;
    const process_ = spawn(process.execPath, ['--input-type=module-typescript', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = new Promise<void>(resolve => process_.once('exit', () => resolve()));
    const line = await new Promise<string>(resolve => {
      let text = '';
      process_.stdout.on('data', chunk => {
        text += chunk;
        if (text.includes('\n')) resolve(text.trim());
      });
      process_.once('exit', () => resolve(text.trim()));
    });
    return { process: process_, line, ended };
  }
});

describe('receipts', () => {
  test('every append gets one that verifies alone, for its record and no other', async () => {
    const { log } = await memoryLog({ checkpointEvery: 7 });
    const receipts: Receipt[] = [];
    for (const size of [1, 1, 5, 16, 3, 1]) {
      const from = receipts.length;
      receipts.push(...(await Promise.all(Array.from({ length: size }, (_, i) => log.append(event(from + i))))));
    }
    for (const [index, receipt] of receipts.entries()) {
      const carried: unknown = JSON.parse(JSON.stringify(receipt));
      expect(verifyReceipt(carried, log.vkey)).toMatchObject({ ok: true, index, origin: ORIGIN });
      expect(verifyReceipt(carried, log.vkey, receipt.record).ok).toBe(true);
      expect(verifyReceipt(carried, log.vkey, receipts[(index + 1) % receipts.length]!.record).ok).toBe(false);
      const later = log.receipt(index);
      expect(later.record).toBeUndefined();
      expect(verifyReceipt(later, log.vkey, receipt.record)).toMatchObject({ ok: true, index, size: receipts.length });
    }
    expect(() => log.receipt(receipts.length)).toThrow(/leaf index/);
    await log.close();
  });

  test('no part of a receipt can change', async () => {
    const { log } = await memoryLog();
    await appendGroups(log, [4]);
    const receipt = await log.append(event(4));
    const other = createLogKey(new MemoryDirectory(), ORIGIN).vkey;
    expect(verifyReceipt(receipt, other).ok).toBe(false);
    const changes: Record<string, unknown>[] = [
      { v: 2 },
      { origin: 'x' },
      { index: receipt.index - 1 },
      { index: receipt.index + 1 },
      { index: -1 },
      { leafHash: log.receipt(0).leafHash },
      { leafHash: 'x' },
      { record: { ...receipt.record, actor: 'somebody' } },
      { record: { ...receipt.record, seq: 3 } },
      { proof: [] },
      { proof: [...receipt.proof, receipt.leafHash] },
      { proof: receipt.proof.map(() => receipt.leafHash) },
      { proof: Array.from({ length: 100 }, () => receipt.leafHash) },
      { checkpoint: log.extension(1).checkpoint.replace('\n5\n', '\n6\n') },
      { extra: 1 },
    ];
    for (const change of changes)
      expect(verifyReceipt({ ...receipt, ...change }, log.vkey).ok, JSON.stringify(change)).toBe(false);
    for (const nothing of [undefined, null, 1, '', [], {}]) expect(verifyReceipt(nothing, log.vkey).ok).toBe(false);
    const note = Buffer.from(receipt.checkpoint);
    for (let i = 0; i < note.length; i++) {
      const broken = Buffer.from(note);
      broken[i]! ^= 1;
      expect(verifyReceipt({ ...receipt, checkpoint: broken.toString() }, log.vkey).ok, `byte ${i}`).toBe(false);
    }
    expect(() => verifyReceipt(receipt, 'no key')).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    await log.close();
  });

  test('an earlier checkpoint is proved to be a prefix, and a fork is not', async () => {
    const { directory, log } = await memoryLog();
    const notes: string[] = [];
    for (let i = 0; i < 12; i++) notes.push((await log.append(event(i))).checkpoint);
    const now = log.head().size;
    for (const [i, earlier] of notes.entries()) {
      const { checkpoint, proof } = log.extension(i + 1);
      expect(verifyExtension(earlier, checkpoint, proof, log.vkey)).toEqual({ ok: true });
      if (i + 1 < now) expect(verifyExtension(notes[(i + 1) % 11]!, checkpoint, proof, log.vkey).ok).toBe(false);
      expect(verifyExtension(earlier, checkpoint, ['!'], log.vkey).ok).toBe(false);
    }
    expect(() => log.extension(0)).toThrow(/size1/);
    await log.close();
    const fork = await openDirectory(forkAt(directory));
    await appendGroups(fork, [12], 50);
    const { checkpoint, proof } = fork.extension(12);
    expect(verifyExtension(notes[11]!, checkpoint, proof, log.vkey).ok).toBe(false);
    await fork.close();
  });

  /** A log with the same key and no records. */
  function forkAt(directory: MemoryDirectory): MemoryDirectory {
    const fork = new MemoryDirectory();
    fork.set('keys/0', directory.bytes('keys/0'));
    fork.set('vkey', directory.bytes('vkey'));
    return fork;
  }
});

describe('failures', () => {
  test.each([
    ['append', 'wal/', 'ENOSPC'],
    ['sync', 'wal/', 'EIO'],
  ] as const)(
    'when %s on %s fails with %s, nothing of the group is acknowledged and the log takes no more',
    async (operation, file, system) => {
      const { directory, log } = await memoryLog();
      await appendGroups(log, [3]);
      const before = log.head();
      directory.failing = { operation, file, system };
      const results = await Promise.allSettled([3, 4, 5].map(i => log.append(event(i))));
      expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
      for (const result of results)
        expect(result).toMatchObject({ reason: { code: 'STORE_FAILED', detail: { system } } });
      directory.failing = undefined; // space is there again, and still: what is on disk is unknown until it is read
      await expect(log.append(event(6))).rejects.toMatchObject({ code: 'STORE_FAILED' });
      await expect(log.checkpoint()).rejects.toMatchObject({ code: 'STORE_FAILED' });
      expect(() => log.receipt(0)).toThrow(/stopped after 3 records/);
      expect(log.head()).toEqual(before);
      await log.close();
      const again = await openDirectory(directory, { anchor: before });
      const size = again.head().size;
      expect(size === 3 || size === 6).toBe(true); // a failed sync may have reached the disk: the records count, unacknowledged
      await again.append(event(size));
      await again.close();
      expect(await verifyLogIn(directory, again.vkey)).toMatchObject({ ok: true, size: size + 1 });
    },
  );

  test.each([
    ['write', 'tile/entries'],
    ['write', 'tile/0'],
    ['replace', 'checkpoint'],
  ] as const)('when %s on %s fails, the checkpoint is refused and no record is lost', async (operation, file) => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [3]);
    directory.failing = { operation, file, system: 'ENOSPC' };
    await expect(log.checkpoint()).rejects.toMatchObject({ code: 'STORE_FAILED', detail: { system: 'ENOSPC' } });
    await expect(log.append(event(3))).rejects.toMatchObject({ code: 'STORE_FAILED' });
    await log.close();
    directory.failing = undefined;
    const again = await openDirectory(directory, { anchor: log.head() });
    expect(again.head()).toEqual(log.head());
    await again.close();
  });

  test('a closing that cannot write its checkpoint says so and lets go', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [3]);
    directory.failing = { operation: 'replace', file: 'checkpoint', system: 'ENOSPC' };
    await expect(log.close()).rejects.toMatchObject({ code: 'STORE_FAILED' });
    directory.failing = undefined;
    await (await openDirectory(directory, { anchor: log.head() })).close();
  });

  test('a bad event is refused alone, and leaves no gap', async () => {
    const { directory, log } = await memoryLog();
    const results = await Promise.allSettled([
      log.append(event(0)),
      log.append({ ...event(1), output: 'the output itself' }),
      log.append(event(1)),
    ]);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(results[1]).toMatchObject({ reason: { code: 'INVALID_ARGUMENT' } });
    await log.close();
    expect(await verifyLogIn(directory, log.vkey)).toMatchObject({ ok: true, size: 2 });
  });

  test('when too many wait, `block` takes them later, in order, and `refuse` refuses and loses none', async () => {
    for (const overflow of ['block', 'refuse'] as const) {
      const { directory, log } = await memoryLog({ overflow, waitingLimit: 5 });
      const results = await Promise.allSettled(Array.from({ length: 40 }, (_, i) => log.append(event(i))));
      const accepted = results.filter(({ status }) => status === 'fulfilled');
      expect(accepted).toHaveLength(overflow === 'block' ? 40 : 5);
      for (const result of results)
        if (result.status === 'rejected')
          expect(result.reason).toMatchObject({ code: 'OVERLOADED', detail: { waitingLimit: 5 } });
      expect((await collect(log.records())).map(({ request }) => request)).toEqual(accepted.map((_, i) => `r-${i}`));
      expect((await log.append(event(99))).index).toBe(accepted.length); // there is room again
      await log.close();
      expect(await verifyLogIn(directory, log.vkey)).toMatchObject({ ok: true, size: accepted.length + 1 });
    }
  });

  test('what is blocked is refused alone when it is bad, and is durable when the log is closed, or refused when it stops', async () => {
    const { log } = await memoryLog({ waitingLimit: 2 });
    const events = [event(0), event(1), event(2), { ...event(3), output: 'x' }, event(4)];
    const results = Promise.allSettled(events.map(one => log.append(one)));
    await log.close();
    expect((await results).map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'fulfilled',
      'rejected',
      'fulfilled',
    ]);
    const { directory, log: stopped } = await memoryLog({ waitingLimit: 2 });
    directory.failing = { operation: 'append', file: 'wal/', system: 'ENOSPC' };
    const refused = await Promise.allSettled([0, 1, 2, 3, 4].map(i => stopped.append(event(i))));
    for (const result of refused) expect(result).toMatchObject({ reason: { code: 'STORE_FAILED' } });
    await stopped.close();
  });

  test('closing makes what waits durable, once; afterwards the log is closed', async () => {
    const { directory, log } = await memoryLog();
    const waiting = Promise.all([0, 1, 2].map(i => log.append(event(i))));
    await Promise.all([log.close(), log.close()]);
    expect((await waiting).map(({ index }) => index)).toEqual([0, 1, 2]);
    await expect(log.append(event(3))).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(log.checkpoint()).rejects.toMatchObject({ code: 'CLOSED' });
    expect(() => log.receipt(0)).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    expect(await verifyLogIn(directory, log.vkey)).toMatchObject({ ok: true, size: 3, signedSize: 3 });
  });

  test('bad options are refused before anything is touched', async () => {
    const directory = new MemoryDirectory();
    for (const options of [
      { checkpointEvery: 0 },
      { checkpointEvery: 5000 },
      { unknown: 1 },
      { anchor: { size: -1, root: '' } },
      { overflow: 'drop' },
      { waitingLimit: 0 },
      { clock: {} },
    ]) {
      await expect(openDirectory(directory, options as object)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    }
    expect(directory.files.size).toBe(0);
    await expect(openDirectory(directory, { origin: 'with space' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    await (await openDirectory(directory, { origin: ORIGIN })).close();
    await expect(openDirectory(directory, { origin: 'another.example' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    const unnamed = await openDirectory(new MemoryDirectory());
    expect(unnamed.origin).toMatch(/^cloister\/[0-9a-f]{16}$/);
    await unnamed.close();
  });
});

test('a clock that jumps back is recorded as it is; order is by number', async () => {
  const times = [5000, 9000, 1000, -7, 1000.75, 9001];
  let i = 0;
  const { directory, log } = await memoryLog({ clock: { now: () => times[i++]! } });
  for (let k = 0; k < times.length; k++) await log.append(event(k));
  expect((await collect(log.records())).map(({ time }) => time)).toEqual([5000, 9000, 1000, -7, 1000, 9001]);
  await log.close();
  expect(await verifyLogIn(directory, log.vkey)).toMatchObject({ ok: true, size: 6 });
});

test('a segment that has become long is followed by a new one, and the checkpoint covers the old', async () => {
  const { directory, log } = await memoryLog();
  const purpose = 'x'.repeat(250);
  const commitments = Object.fromEntries(
    Array.from({ length: 16 }, (_, i) => [
      `commitment-${'y'.repeat(19)}${i % 10}${i > 9 ? 'z' : ''}`,
      `sha256:${'0'.repeat(64)}`,
    ]),
  );
  const large = { ...event(0), purpose, commitments };
  let segments = new Set<string>();
  for (let round = 0; round < 6; round++) {
    await Promise.all(Array.from({ length: 1024 }, () => log.append(large)));
    await log.checkpoint();
    expect(directory.names('wal/')).toHaveLength(1);
    segments = segments.add(onlyFile(directory, 'wal'));
  }
  expect(segments.size).toBeGreaterThan(2);
  expect(await verifyLogIn(directory, log.vkey)).toMatchObject({ ok: true, size: 6144 });
  const again = directory.clone();
  await log.append(event(1));
  expect((await collect(log.records({ from: 6140 }))).map(({ seq }) => seq)).toEqual([6140, 6141, 6142, 6143, 6144]);
  await log.close();
  // A removal that was not durable brings a segment back that means nothing any more.
  const [name] = [...segments];
  again.set(name!, Uint8Array.of(1, 2, 3));
  expect(await verifyLogIn(again, log.vkey)).toMatchObject({ ok: true, size: 6144 });
  const reopened = await openDirectory(again);
  expect(again.names('wal/')).toEqual(['wal/0000000000006144']);
  await reopened.close();
});

test('a copy that was taken while the log was written verifies, or says that it ends too early', async () => {
  const { directory, log } = await memoryLog();
  const states: MemoryDirectory[] = [];
  for (let i = 0; i < 7; i++) {
    await appendGroups(log, [40], 40 * i);
    states.push(directory.clone());
    await log.checkpoint();
    states.push(directory.clone());
  }
  await log.close();
  const parts = ['checkpoint', 'tile/', 'wal/'];
  let whole = 0;
  for (const [at, early] of states.entries()) {
    for (const late of states.slice(at)) {
      for (const order of [
        parts,
        parts.toReversed(),
        ['tile/', 'wal/', 'checkpoint'],
        ['wal/', 'checkpoint', 'tile/'],
      ]) {
        // The first part from the early state, the last from the late one.
        const middle = states[Math.floor((at + states.indexOf(late)) / 2)]!;
        const copy = new MemoryDirectory();
        for (const [i, prefix] of order.entries()) {
          const state = [early, middle, late][i]!;
          for (const name of state.names(prefix)) copy.set(name, state.bytes(name).slice());
        }
        for (const name of ['vkey', 'keys/0']) copy.set(name, early.bytes(name));
        const verdict = await verifyLogIn(copy, log.vkey);
        if (verdict.ok) whole++;
        else expect(verdict).toMatchObject({ kind: 'truncated' });
        if (order[0] === 'checkpoint') expect(verdict.ok, 'the checkpoint first').toBe(true);
      }
    }
  }
  expect(whole).toBeGreaterThan(100);
});

describe('reading', () => {
  test('filters, a start and a limit', async () => {
    let now = 0;
    const { log } = await memoryLog({ clock: { now: () => now++ }, checkpointEvery: 10 });
    for (let i = 0; i < 50; i++)
      await log.append(
        event(i, i % 10 === 3 ? { action: 'refuse', decision: { outcome: 'refuse', reason: 'SCOPE_EXHAUSTED' } } : {}),
      );
    const seqs = async (query: object) => (await collect(log.records(query))).map(({ seq }) => seq);
    expect(await seqs({ action: 'refuse' })).toEqual([3, 13, 23, 33, 43]);
    expect(await seqs({ outcome: 'refuse', from: 4, limit: 2 })).toEqual([13, 23]);
    expect(await seqs({ from: 47 })).toEqual([47, 48, 49]);
    expect(await seqs({ from: 50 })).toEqual([]);
    expect(await seqs({ from: 500 })).toEqual([]);
    expect(await seqs({ limit: 0 })).toEqual([]);
    expect(await seqs({ actor: 'ward-2', since: 10, until: 20 })).toEqual([12, 17]);
    expect(await seqs({ request: 'r-7' })).toEqual([7]);
    expect(await seqs({ object: 'elsewhere' })).toEqual([]);
    await expect(seqs({ from: -1 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await log.close();
  });

  test('damage is reported with its index, in a bundle and in a segment', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [3, 3]);
    await log.checkpoint();
    await appendGroups(log, [1, 3, 1], 6);
    const bundle = directory.clone();
    expect((await collect(readDirectory(bundle, { from: 2 }))).map(({ seq }) => seq)).toEqual([
      2, 3, 4, 5, 6, 7, 8, 9, 10,
    ]);
    const bytes = bundle.bytes(onlyFile(bundle, 'tile/entries'));
    bytes[bytes.indexOf('"seq":4'.charCodeAt(0), Math.floor(bytes.length * 0.7))]! ^= 1;
    await expect(collect(readDirectory(bundle))).rejects.toMatchObject({ code: 'AUDIT_INVALID' });
    bundle.set('tile/entries/000.p/6', bytes.slice(0, Math.floor(bytes.length / 2)));
    await expect(collect(readDirectory(bundle))).rejects.toMatchObject({
      code: 'AUDIT_INVALID',
      detail: { kind: 'truncated', index: 3 },
    });
    const segment = directory.clone();
    segment.bytes(onlyFile(segment, 'wal'))[Math.floor(segment.bytes(onlyFile(segment, 'wal')).length * 0.7)]! ^= 1;
    await expect(collect(readDirectory(segment))).rejects.toMatchObject({
      code: 'AUDIT_INVALID',
      detail: { kind: 'changed', index: 7 },
    });
    await expect(collect(readDirectory(new MemoryDirectory()))).rejects.toMatchObject({ code: 'STORE_FAILED' });
    await log.close();
  });
});

test('verification tells its progress and can be cancelled', async () => {
  const { directory, log } = await memoryLog();
  await appendGroups(log, [1000, 1000, 1000, 1000, 1000]);
  await log.close();
  const { verifyDirectory } = await import('../../sandbox/audit/verify-directory.ts');
  const seen: number[] = [];
  await verifyDirectory(directory, {
    vkey: log.vkey,
    onProgress: ({ records, total }) => seen.push(records, records / total),
  });
  expect(seen.filter((_, i) => i % 2 === 0)).toEqual([0, 4096, 5000]);
  expect(seen.at(-1)).toBe(1);
  await expect(verifyDirectory(directory, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
  await expect(verifyDirectory(directory, { vkey: 'x' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
});

async function verifyLogIn(directory: MemoryDirectory, vkey: string) {
  const { verifyDirectory } = await import('../../sandbox/audit/verify-directory.ts');
  return verifyDirectory(directory, { vkey });
}
