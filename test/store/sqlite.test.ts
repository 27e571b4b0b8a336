import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Sqlite from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { decodeUtf8, encodeUtf8 } from '../../src/base/index.ts';
import { openSqliteStore } from '../../src/store/index.ts';
import { storeSuite } from '../suites/store.ts';
import { child, writer } from './child.ts';

let directory: string;
let path: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'cloister-store-'));
  path = join(directory, 'state.db');
});
afterEach(() => {
  rmSync(directory, { recursive: true, force: true });
});

storeSuite('sqlite', () => openSqliteStore({ path }));

describe('sqlite store', () => {
  it('finds everything again after it was closed', async () => {
    const first = await openSqliteStore({ path });
    await first.transaction(async tx => {
      await tx.put('c', 'k', encodeUtf8('v'), 0);
      await tx.append('s', encodeUtf8('e'));
    });
    await first.close();
    const second = await openSqliteStore({ path });
    await second.transaction(async tx => {
      expect(await tx.get('c', 'k')).toEqual({ value: encodeUtf8('v'), revision: 1 });
      expect(await tx.append('s', encodeUtf8('e'))).toBe(1);
    });
    await second.close();
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it.skipIf(spawnSync('strace', ['-V']).error)('syncs the write-ahead log at each commit', () => {
    const run = spawnSync(
      'strace',
      [
        '-f',
        '-e',
        'trace=fdatasync,fsync',
        '-o',
        join(directory, 'trace'),
        process.execPath,
        writer,
        path,
        'race',
        '40',
      ],
      { encoding: 'utf8' },
    );
    expect(run.status).toBe(0);
    const syncs = readFileSync(join(directory, 'trace'), 'utf8').match(/f(data)?sync\(/g) ?? [];
    expect(syncs.length).toBeGreaterThanOrEqual(40);
  });

  it('keeps every acknowledged transaction when its process is killed', async () => {
    const cycles = process.env['CLOISTER_SLOW'] ? 40 : 4;
    let length = 0;
    for (let cycle = 0; cycle < cycles; cycle++) {
      const { process: writing, output, ended } = child(path, 'stream');
      while (output() === '') await sleep(5);
      await sleep(Math.random() * 120);
      writing.kill('SIGKILL');
      await ended;
      const acknowledged = output().split('\n').slice(0, -1).map(Number);
      expect(acknowledged.length).toBeGreaterThan(0);
      const store = await openSqliteStore({ path });
      const entries = await store.transaction(async tx => {
        const all = await tx.read('s', 0, 1e9);
        const row = await tx.get('c', 'length');
        expect(Number(decodeUtf8(row!.value))).toBe(all.length);
        return all;
      });
      expect(entries.map(entry => entry.seq)).toEqual(Array.from({ length: entries.length }, (_, i) => i));
      expect(acknowledged[0]).toBeGreaterThanOrEqual(length);
      expect(Math.max(...acknowledged)).toBeLessThan(entries.length);
      length = entries.length;
      await store.close();
    }
  }, 120_000);

  it('loses no update when two processes race on one row', async () => {
    const racers = [child(path, 'race', '300'), child(path, 'race', '300')];
    expect(await Promise.all(racers.map(racer => racer.ended))).toEqual([0, 0]);
    const store = await openSqliteStore({ path });
    const row = await store.transaction(tx => tx.get('c', 'counter'));
    expect(decodeUtf8(row!.value)).toBe('600');
    expect(row!.revision).toBe(600);
    await store.close();
  }, 60_000);

  it('waits for another opener of the same file without blocking the event loop', async () => {
    const [a, b] = await Promise.all([openSqliteStore({ path }), openSqliteStore({ path })]);
    const order: string[] = [];
    const slow = a.transaction(async tx => {
      await tx.append('s', encodeUtf8('a'));
      await sleep(80); // would never end if waiting for the lock stopped the event loop
      order.push('a');
    });
    const quick = b.transaction(async tx => {
      order.push('b');
      return tx.append('s', encodeUtf8('b'));
    });
    await slow;
    expect(await quick).toBe(1);
    expect(order).toEqual(['a', 'b']);
    await Promise.all([a.close(), b.close()]);
  });

  it('says LOCKED when another process holds the store for longer than it may wait', async () => {
    const holder = await openSqliteStore({ path });
    const waiter = await openSqliteStore({ path, lockWaitMs: 30 });
    let release = (): void => undefined;
    const held = holder.transaction(async tx => {
      await tx.append('s', encodeUtf8('a'));
      await new Promise<void>(resolve => {
        release = resolve;
      });
    });
    await sleep(20);
    await expect(waiter.transaction(tx => tx.append('s', encodeUtf8('b')))).rejects.toMatchObject({ code: 'LOCKED' });
    release();
    await held;
    expect(await waiter.transaction(tx => tx.append('s', encodeUtf8('b')))).toBe(1);
    await Promise.all([holder.close(), waiter.close()]);
  });

  it('makes a new file of small pages, and leaves an old one the pages that it has', async () => {
    const old = new Sqlite(path);
    old.pragma('page_size = 4096');
    old.exec('VACUUM');
    old.close();
    const pages: unknown[] = [];
    for (const each of [path, `${path}.new`]) {
      const store = await openSqliteStore({ path: each });
      await store.transaction(tx => tx.put('c', 'k', new Uint8Array(100_000), 0));
      await store.close();
      const db = new Sqlite(each, { readonly: true });
      pages.push(db.pragma('page_size', { simple: true }), db.pragma('integrity_check', { simple: true }));
      db.close();
    }
    expect(pages).toEqual([4096, 'ok', 2048, 'ok']);
  });

  it('refuses a file of a newer schema and leaves it as it is', async () => {
    await (await openSqliteStore({ path })).close();
    const db = new Sqlite(path);
    db.pragma('user_version = 2');
    db.close();
    const attempt = openSqliteStore({ path });
    await expect(attempt).rejects.toMatchObject({ code: 'STORE_FAILED', detail: { version: 2, known: 1 } });
    await expect(attempt).rejects.toThrow(/upgrade Cloister/);
  });

  it('refuses the SQLite file of another program', async () => {
    const db = new Sqlite(path);
    db.exec('CREATE TABLE theirs (x)');
    db.close();
    await expect(openSqliteStore({ path })).rejects.toThrow(/of another program/);
  });

  it('says what to do about a damaged file, a missing directory and a directory in the way', async () => {
    writeFileSync(path, 'these bytes are no database, and there are more than sixteen of them'.repeat(99));
    await expect(openSqliteStore({ path })).rejects.toMatchObject({ code: 'STORE_FAILED' });
    await expect(openSqliteStore({ path })).rejects.toThrow(/restore the newest backup/);
    const absent = join(directory, 'absent', 'state.db');
    await expect(openSqliteStore({ path: absent })).rejects.toThrow(/its directory must exist/);
    mkdirSync(join(directory, 'folder'));
    await expect(openSqliteStore({ path: join(directory, 'folder') })).rejects.toMatchObject({ code: 'STORE_FAILED' });
  });

  it('finds damage inside the file, and answers it with STORE_FAILED', async () => {
    const store = await openSqliteStore({ path });
    await store.transaction(async tx => {
      for (let i = 0; i < 500; i++) await tx.put('c', `k${i}`, new Uint8Array(200), 0);
    });
    await store.close();
    const raw = readFileSync(path);
    raw.fill(0x5a, 4096);
    writeFileSync(path, raw);
    const reopened = await openSqliteStore({ path });
    await expect(reopened.transaction(tx => tx.list('c'))).rejects.toThrow(/restore the newest backup/);
    await reopened.close();
  });

  it.skipIf(process.getuid?.() === 0 || process.platform === 'win32')('says when the file is read-only', async () => {
    await (await openSqliteStore({ path })).close();
    chmodSync(path, 0o400);
    chmodSync(directory, 0o500);
    const attempt = openSqliteStore({ path }).then(store => store.transaction(tx => tx.append('s', encodeUtf8('x'))));
    await expect(attempt).rejects.toMatchObject({ code: 'STORE_FAILED' });
    chmodSync(directory, 0o700);
  });

  it('survives a full disk: a typed error, nothing half-written, and it goes on when there is room', () => {
    const script = `
      import { openSqliteStore } from ${JSON.stringify(new URL('../../src/store/index.ts', import.meta.url).href)};
      const store = await openSqliteStore({ path: process.argv[1] });
      let kept = 0, error;
      while (kept < 10000) {
        try {
          await store.transaction(async tx => {
            await tx.append('s', new Uint8Array(20000));
            await tx.append('s', new Uint8Array(20000));
          });
          kept++;
        } catch (caught) { error = caught; break; }
      }
      const entries = await store.transaction(tx => tx.read('s', 0, 1e6));
      console.log(JSON.stringify({ code: error?.code, message: error?.message, kept, entries: entries.length }));
      process.kill(process.pid, 'SIGKILL');`;
    const limited = spawnSync(
      'bash',
      [
        '-c',
        'trap "" XFSZ; ulimit -f 2048; exec "$0" "$@"',
        process.execPath,
        '--input-type=module',
        '-e',
        script,
        path,
      ],
      { encoding: 'utf8' },
    );
    const report = JSON.parse(limited.stdout);
    expect(report.code).toBe('STORE_FAILED');
    expect(report.message).toMatch(/the disk (is full|failed)/);
    expect(report.kept).toBeGreaterThan(3);
    expect(report.entries).toBe(2 * report.kept);
    return openSqliteStore({ path }).then(async store => {
      expect(await store.transaction(tx => tx.append('s', encodeUtf8('room again')))).toBe(2 * report.kept);
      await store.close();
    });
  });

  it('says which command installs the driver when it is missing', () => {
    const script = `
      import { registerHooks } from 'node:module';
      registerHooks({ resolve(name, context, next) {
        if (name === 'better-sqlite3') throw Object.assign(new Error('not found'), { code: 'ERR_MODULE_NOT_FOUND' });
        return next(name, context);
      } });
      const { openSqliteStore } = await import(${JSON.stringify(new URL('../../src/store/index.ts', import.meta.url).href)});
      await openSqliteStore({ path: process.argv[1] }).catch(error => console.log(JSON.stringify(error)));`;
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', script, path], { encoding: 'utf8' });
    expect(JSON.parse(run.stdout)).toMatchObject({
      code: 'MISSING_DEPENDENCY',
      detail: { install: 'npm install better-sqlite3@13' },
    });
  });
});
