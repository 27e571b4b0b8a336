import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseFilter } from '../../../sandbox/audit/filter.ts';
import { openLog } from '../../../sandbox/audit/log.ts';
import { directorySource, openLogSource } from '../../../sandbox/audit/query/log-source.ts';
import { openLogIndex } from '../../../sandbox/audit/query/store-index.ts';
import { memoryStore, openSqliteStore } from '../../../src/store/index.ts';
import { appendGroups, memoryLog } from '../events.ts';

test('an index follows a log as its checkpoints come', async () => {
  const { directory, log } = await memoryLog();
  await using index = await openLogIndex(memoryStore());
  let size = 0;
  for (const group of [1, 200, 55, 1, 700]) {
    await appendGroups(log, [group], size);
    await log.checkpoint();
    size += group;
    await appendGroups(log, [3], 100_000); // not under the checkpoint
    const source = directorySource(directory);
    expect([source.size, await index.update(source)]).toEqual([size, size]);
    const wards = await index.seqs(parseFilter('actor:ward-0', 0));
    expect(wards.length).toBeGreaterThan(0);
    size += 3;
  }
  await log.close();
});

test('an index beside the log can be deleted at any time, and is made anew', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'cloister-index-'));
  const path = join(folder, 'index.sqlite');
  try {
    const log = await openLog(join(folder, 'audit'));
    await appendGroups(log, [40]);
    await log.close();
    for (let i = 0; i < 2; i++) {
      await using store = await openSqliteStore({ path });
      await using index = await openLogIndex(store);
      await index.update(openLogSource(join(folder, 'audit'), log.vkey));
      expect(Array.from(await index.seqs(parseFilter('request:r-7', 0)))).toEqual([7]);
      rmSync(path);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test('a log without a checkpoint, or with that of another key, is refused', async () => {
  const { directory, log } = await memoryLog();
  await appendGroups(log, [3]);
  await log.close();
  const { log: other } = await memoryLog();
  await other.close();
  expect(() => directorySource(directory, other.vkey)).toThrow(/does not verify/);
  directory.files.delete('checkpoint');
  expect(() => directorySource(directory)).toThrow(/no checkpoint/);
});
