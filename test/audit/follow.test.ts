import { describe, expect, test } from 'vitest';
import { compareDirectories } from '../../sandbox/audit/diff.ts';
import type { LogDirectory, LogFile } from '../../sandbox/audit/directory.ts';
import { followDirectory } from '../../sandbox/audit/follow.ts';
import { openDirectory } from '../../sandbox/audit/log.ts';
import { readDirectory } from '../../sandbox/audit/read.ts';
import type { AuditRecord } from '../../sandbox/audit/record.ts';
import { appendGroups, event, memoryLog, ORIGIN, onlyFile } from './events.ts';

describe('following a log', () => {
  test('gives each record once and in order: those before, those of later groups, after checkpoints and a new writer', async () => {
    const { directory, log } = await memoryLog({ checkpointEvery: 2 });
    await appendGroups(log, [3]);
    const stop = new AbortController();
    const seen: number[] = [];
    const done = (async () => {
      for await (const { seq } of followDirectory(directory, { signal: stop.signal, pollMs: 1 })) {
        seen.push(seq);
        if (seq === 11) stop.abort();
      }
    })();
    await appendGroups(log, [1, 2, 1], 3);
    await log.checkpoint();
    await log.close();
    const again = await openDirectory(directory, { checkpointMs: 3_600_000 });
    await appendGroups(again, [5, 4], 7);
    await done;
    expect(seen).toEqual(Array.from({ length: 12 }, (_, i) => i));
    await again.close();
  });

  test('waits behind a frame that is half written, and gives what a new writer puts there', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [2]);
    const segment = onlyFile(directory, 'wal');
    const whole = directory.bytes(segment).slice();
    directory.set(segment, whole.slice(0, -5)); // the second record is torn
    const stop = new AbortController();
    const follow = followDirectory(directory, { signal: stop.signal, pollMs: 1 });
    expect((await follow.next()).value).toMatchObject({ seq: 0 });
    const next = follow.next();
    directory.set(segment, whole);
    expect((await next).value).toMatchObject({ seq: 1 });
    stop.abort();
    expect((await follow.next()).done).toBe(true);
  });

  test.each<[string, (directory: LogDirectory, signal: AbortSignal) => AsyncGenerator<AuditRecord>]>([
    ['follows', (directory, signal) => followDirectory(directory, { signal, pollMs: 1 })],
    ['reads', directory => readDirectory(directory)],
  ])(
    'a frame that was half written when it was read, with a later group behind it, is read again by what %s',
    async (_, open) => {
      const { directory, log } = await memoryLog();
      await appendGroups(log, [1, 1, 1]);
      const stop = new AbortController();
      const seqs = async (from: LogDirectory): Promise<number[]> => {
        const seen: number[] = [];
        for await (const { seq } of open(from, stop.signal)) if (seen.push(seq) === 3) return seen;
        return seen;
      };
      const writer = (wrongReads: number): LogDirectory =>
        Object.assign(Object.create(directory) as LogDirectory, {
          open(name: string): LogFile | undefined {
            const file = directory.open(name);
            if (file === undefined || !name.startsWith('wal/')) return file;
            return Object.assign(Object.create(file) as LogFile, {
              size: () => file.size(),
              close: () => file.close(),
              readAt(target: Uint8Array, position: number): number {
                const count = file.readAt(target, position);
                // Of the second record, what was not there yet when this was read.
                const inSecond = Math.floor(file.size() / 2) - position;
                if (wrongReads-- > 0 && inSecond >= 0 && inSecond < count) target[inSecond] = 0;
                return count;
              },
            });
          },
        });
      expect(await seqs(writer(1))).toEqual([0, 1, 2]);
      await expect(seqs(writer(100))).rejects.toMatchObject({ code: 'AUDIT_INVALID', detail: { index: 1 } });
      await log.close();
    },
  );

  test('begins where it is told, gives what the filter asks for, and ends at once when stopped before', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [12]);
    await log.close();
    const stop = new AbortController();
    const filter = { terms: [{ key: 'actor', value: 'ward-1', exclude: false }] } as const;
    const follow = followDirectory(directory, { from: 2, filter, signal: stop.signal, pollMs: 1 });
    expect((await follow.next()).value).toMatchObject({ seq: 6 });
    expect((await follow.next()).value).toMatchObject({ seq: 11 });
    const waiting = follow.next();
    stop.abort();
    expect((await waiting).done).toBe(true);
    expect((await followDirectory(directory, { signal: stop.signal }).next()).done).toBe(true);
  });

  test('stops at a damaged record, and when the log was put back', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [1, 1]);
    await log.checkpoint();
    const earlier = directory.clone();
    const start = directory.bytes(onlyFile(directory, 'wal')).length;
    await appendGroups(log, [1, 1], 2);
    const damaged = directory.clone();
    damaged.bytes(onlyFile(damaged, 'wal'))[start + 40]! ^= 1;
    const follow = followDirectory(damaged, { from: 2, pollMs: 1 });
    await expect(follow.next()).rejects.toMatchObject({ code: 'AUDIT_INVALID', detail: { index: 2, kind: 'changed' } });
    await log.close();

    const honest = followDirectory(directory, { from: 3, pollMs: 1 });
    expect((await honest.next()).value).toMatchObject({ seq: 3 });
    for (const name of directory.names()) directory.delete(name);
    for (const name of earlier.names()) directory.set(name, earlier.bytes(name));
    await expect(honest.next()).rejects.toMatchObject({ code: 'AUDIT_INVALID', detail: { kind: 'truncated' } });
  });
});

describe('comparing two logs', () => {
  test('tells the same, a longer one, and the first record of a fork, at every place', async () => {
    const { directory: base, log } = await memoryLog();
    await appendGroups(log, [1]);
    await log.close();
    for (let index = 1; index <= 9; index++) {
      const first = base.clone();
      const one = await openDirectory(first);
      await appendGroups(one, [index], 1);
      await one.close();
      const second = first.clone();
      expect(await compareDirectories(first, second)).toEqual({ kind: 'same', sizes: [index + 1, index + 1] });
      const two = await openDirectory(second);
      await appendGroups(two, [2], 100);
      await two.close();
      const sizes = [index + 1, index + 3];
      expect(await compareDirectories(first, second)).toEqual({ kind: 'extends', longer: 'second', sizes });
      expect(await compareDirectories(second, first)).toMatchObject({ kind: 'extends', longer: 'first' });
      const three = await openDirectory(first);
      await three.append(event(200));
      await three.close();
      expect(await compareDirectories(first, second)).toMatchObject({ kind: 'forked', index: index + 1 });
    }
  });

  test('says nothing of one that does not verify, nor of logs with keys of their own', async () => {
    const { directory, log } = await memoryLog();
    await appendGroups(log, [4]);
    await log.close();
    const changed = directory.clone();
    changed.bytes(onlyFile(changed, 'tile/entries'))[100]! ^= 1;
    expect(await compareDirectories(directory, changed)).toMatchObject({ kind: 'invalid', which: 'second', index: 0 });
    expect(await compareDirectories(changed, directory)).toMatchObject({ kind: 'invalid', which: 'first', index: 0 });
    const other = await memoryLog();
    await other.log.close();
    expect(await compareDirectories(directory, other.directory)).toEqual({
      kind: 'unrelated',
      origins: [ORIGIN, ORIGIN],
    });
    expect(await compareDirectories(directory, other.directory, { vkey: log.vkey })).toMatchObject({ kind: 'invalid' });
    other.directory.files.delete('vkey');
    await expect(compareDirectories(directory, other.directory)).rejects.toMatchObject({ code: 'AUDIT_INVALID' });
  });
});
