import { describe, expect, test } from 'vitest';
import { continueDirectory, verifyDirectories } from '../../sandbox/audit/continue.ts';
import { openDirectory } from '../../sandbox/audit/log.ts';
import { readDirectory } from '../../sandbox/audit/read.ts';
import type { AuditRecord } from '../../sandbox/audit/record.ts';
import { continuation } from '../../sandbox/audit/start.ts';
import { verifyDirectory } from '../../sandbox/audit/verify-directory.ts';
import { appendGroups, event, memoryLog, onlyFile } from './events.ts';
import { type Loss, MemoryDirectory } from './memory-directory.ts';

const NAMES = ['clinic.example/2027', 'clinic.example/2028'] as const;

/** Three logs, each continuing the one before, all closed. */
async function three() {
  const { directory, log } = await memoryLog();
  await appendGroups(log, [4]);
  await log.rotateKey();
  await log.close();
  const directories = [directory];
  let anchor = log.head();
  for (const origin of NAMES) {
    const to = new MemoryDirectory();
    const next = await continueDirectory(directories.at(-1)!, to, { origin, checkpointMs: 3_600_000 });
    await appendGroups(next, [3], 1);
    anchor = next.head();
    await next.close();
    directories.push(to);
  }
  return { directories, vkey: log.vkey, anchor };
}

describe('logs that continue one another', () => {
  test('verify as one from the key of the first alone', async () => {
    const { directories, vkey, anchor } = await three();
    const verdict = await verifyDirectories(directories, { vkey, anchor });
    expect(verdict).toMatchObject({ ok: true, logs: [{ size: 6 }, { size: 5 }, { size: 4 }] });
    for (const part of [directories.slice(0, 2), directories.slice(1), directories.slice(2)])
      expect(await verifyDirectories(part)).toMatchObject({ ok: true });
    await expect(verifyDirectories([])).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const records: AuditRecord[] = [];
    for await (const record of readDirectory(directories[1]!)) records.push(record);
    expect(records[0]).toMatchObject({ action: 'open', object: { kind: 'log' }, predecessor: { vkey } });
    expect(records.at(-1)).toMatchObject({ action: 'close', object: { kind: 'log' } });
  });

  test('the old one takes no more records, and says who continues it', async () => {
    const { directories } = await three();
    await expect(openDirectory(directories[0]!)).rejects.toMatchObject({
      code: 'CLOSED',
      message: expect.stringContaining(NAMES[0]),
    });
    const { log } = await memoryLog();
    await expect(log.append(continuation(log.vkey))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await log.close();
  });

  test('in another order, with one left out, put back or replaced they are not one', async () => {
    const { directories, vkey } = await three();
    const [a, b, c] = directories as [MemoryDirectory, MemoryDirectory, MemoryDirectory];
    const other = await three();
    for (const [list, log, kind] of [
      [[a, c], 1, 'resealed'],
      [[b, a], 0, 'resealed'],
      [[a, b, a], 2, 'resealed'],
      [[a, other.directories[1]!], 1, 'resealed'],
      [[other.directories[0]!, b], 0, 'resealed'],
      [[a, b, c, c], 2, 'malformed'],
    ] as const)
      expect(await verifyDirectories(list, { vkey }), `${kind} ${log}`).toMatchObject({ ok: false, log, kind });
    const damaged = b.clone();
    damaged.bytes(onlyFile(damaged, 'tile/entries'))[700]! ^= 1;
    expect(await verifyDirectories([a, damaged, c], { vkey })).toMatchObject({ ok: false, log: 1, kind: 'changed' });
    // Another history of the old log by the holder of its key, closed for the same successor.
    const { directory, log } = await memoryLog();
    await appendGroups(log, [2]);
    await log.close();
    const fork = directory.clone();
    const to = new MemoryDirectory();
    const next = await continueDirectory(directory, to, { origin: NAMES[0] });
    await next.close();
    const forked = await openDirectory(fork);
    await forked.append(event(9));
    await forked.closeFor(next.vkey);
    expect(await verifyDirectories([directory, to])).toMatchObject({ ok: true });
    expect(await verifyDirectories([fork, to])).toMatchObject({ ok: false, log: 1, kind: 'forked' });
  });

  test('need names of their own and an empty place', async () => {
    const { directory, log } = await memoryLog();
    await log.append(event(0));
    const origin = NAMES[0];
    await expect(continueDirectory(directory, new MemoryDirectory(), { origin })).rejects.toMatchObject({
      code: 'LOCKED',
    });
    await log.close();
    await expect(continueDirectory(directory, new MemoryDirectory(), { origin: log.origin })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    const to = new MemoryDirectory();
    const first = await continueDirectory(directory, to, { origin });
    await first.close();
    // Once more: nothing happens. Elsewhere: refused.
    const again = await continueDirectory(directory, to, { origin });
    expect(again.head()).toEqual(first.head());
    await again.close();
    await expect(continueDirectory(directory, new MemoryDirectory(), { origin })).rejects.toThrow(/another log/);
    const { directory: unrelated, log: third } = await memoryLog();
    await third.close();
    await expect(continueDirectory(unrelated, to, { origin })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test('power lost at any step of the change: it is done by doing it again', { timeout: 60_000 }, async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [3]);
    await log.close();
    const origin = NAMES[0];
    let done = false;
    for (let steps = 0, cuts = 0; !done; steps += 1 + (cuts % 2 === 0 ? 0 : 30), cuts++) {
      for (const which of [0, 1]) {
        const pair = [directory.clone(), new MemoryDirectory()] as const;
        pair[which]!.stepsLeft = steps;
        let finished = false;
        try {
          await (await continueDirectory(pair[0], pair[1], { origin, checkpointMs: 3_600_000 })).close();
          finished = true;
        } catch (error) {
          expect(error).toMatchObject({ code: 'STORE_FAILED' });
        }
        done = finished && which === 1 && steps > 500;
        for (const loss of ['lost', 'kept', 'holes'] satisfies Loss[]) {
          const [from, to] = pair.map(one => one.afterPowerLoss(loss)) as [MemoryDirectory, MemoryDirectory];
          const where = `directory ${which}, step ${steps}, ${loss}`;
          const next = await continueDirectory(from, to, { origin, checkpointMs: 3_600_000 });
          await next.append(event(7));
          await next.close();
          expect(await verifyDirectories([from, to], { vkey: log.vkey }), where).toMatchObject({ ok: true });
          expect(await verifyDirectory(to), where).toMatchObject({ ok: true, size: 2 });
        }
      }
    }
  });
});
