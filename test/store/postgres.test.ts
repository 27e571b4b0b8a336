import { spawnSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, it } from 'vitest';

import { decodeUtf8, encodeUtf8, isCloisterError } from '../../src/base/index.ts';
import { openPostgresStore } from '../../src/store/index.ts';
import { storeSuite } from '../suites/store.ts';
import { child } from './child.ts';
import { openProxy } from './cutting-proxy.ts';
import { newSchema, onServer, postgresUrl as url } from './schemas.ts';

describe.skipIf(url === '')('on a PostgreSQL server', () => {
  let schema: string;
  beforeEach(() => {
    schema = newSchema();
  });
  storeSuite('postgresql', () => openPostgresStore({ url, schema: newSchema() }));

  it('finds everything again after it was closed, and leaves no trace of its session', async () => {
    const first = await openPostgresStore({ url, schema });
    await first.transaction(async tx => {
      await tx.put('c', 'k', encodeUtf8('v'), 0);
      await tx.append('s', encodeUtf8('e'));
    });
    await first.close();
    const second = await openPostgresStore({ url, schema });
    await second.transaction(async tx => {
      expect(await tx.get('c', 'k')).toEqual({ value: encodeUtf8('v'), revision: 1 });
      expect(await tx.append('s', encodeUtf8('e'))).toBe(1);
    });
    await second.close();
    await onServer(async client => {
      expect((await client.query(`SELECT * FROM ${schema}.writer`)).rows).toEqual([]);
      const { rows } = await client.query(
        `SELECT key, revision, convert_from(value, 'UTF8') AS value FROM ${schema}.row`,
      );
      expect(rows).toEqual([{ key: 'k', revision: '1', value: 'v' }]);
    });
  });

  it('takes operations in the order in which they were called, awaited or not', async () => {
    await using store = await openPostgresStore({ url, schema });
    await store.transaction(async tx => {
      const value = Uint8Array.of(1);
      const put = tx.put('c', 'k', value, 0);
      value[0] = 9;
      const got = tx.get('c', 'k');
      const again = tx.put('c', 'k', Uint8Array.of(2), 1);
      const listed = tx.list('c', 'k');
      const seqs = Promise.all([tx.append('s', value), tx.append('s', value)]);
      const read = tx.read('s', 0, 9);
      expect((await got)?.value).toEqual(Uint8Array.of(1));
      expect((await listed).map(row => row.revision)).toEqual([2]);
      expect(await seqs).toEqual([0, 1]);
      expect(await read).toHaveLength(2);
      await Promise.all([put, again]);
      tx.put('c', 'late', value, 0).catch(() => undefined); // not waited for, and written all the same
    });
    expect(await store.transaction(tx => tx.get('c', 'late'))).toMatchObject({ revision: 1 });
    const conflict = store.transaction(async tx => {
      tx.put('c', 'k', Uint8Array.of(3), 1).catch(() => undefined);
    });
    await expect(conflict).rejects.toMatchObject({ code: 'STORE_CONFLICT', detail: { found: 2 } });
  });

  it('keeps every acknowledged transaction when its process is killed', async () => {
    let length = 0;
    for (let cycle = 0; cycle < (process.env['CLOISTER_SLOW'] ? 100 : 3); cycle++) {
      const { process: writing, output, ended } = child(`${url}#${schema}`, 'stream');
      while (output() === '') await sleep(5);
      await sleep(Math.random() * 100);
      writing.kill('SIGKILL');
      await ended;
      const acknowledged = output().split('\n').slice(0, -1).map(Number);
      await using store = await openPostgresStore({ url, schema });
      const entries = await store.transaction(async tx => {
        const all = await tx.read('s', 0, 1e9);
        expect(Number(decodeUtf8((await tx.get('c', 'length'))!.value))).toBe(all.length);
        return all;
      });
      expect(entries.map(entry => entry.seq)).toEqual(Array.from({ length: entries.length }, (_, i) => i));
      expect(acknowledged[0]).toBeGreaterThanOrEqual(length);
      expect(Math.max(...acknowledged)).toBeLessThan(entries.length);
      length = entries.length;
    }
  }, 300_000);

  it('loses no update when processes race on one row', async () => {
    const count = process.env['CLOISTER_SLOW'] ? 32 : 3;
    const racers = Array.from({ length: count }, () => child(`${url}#${schema}`, 'race', '60'));
    expect(await Promise.all(racers.map(racer => racer.ended))).toEqual(racers.map(() => 0));
    await using store = await openPostgresStore({ url, schema });
    const row = await store.transaction(tx => tx.get('c', 'counter'));
    expect([decodeUtf8(row!.value), row!.revision]).toEqual([String(60 * count), 60 * count]);
  }, 300_000);

  it('says LOCKED when another holds the store for longer than it may wait', async () => {
    await using holder = await openPostgresStore({ url, schema });
    await using waiter = await openPostgresStore({ url, schema, lockWaitMs: 50 });
    let release = (): void => undefined;
    const held = holder.transaction(
      () =>
        new Promise<void>(resolve => {
          release = resolve;
        }),
    );
    await sleep(30);
    await expect(waiter.transaction(tx => tx.append('s', encodeUtf8('b')))).rejects.toMatchObject({ code: 'LOCKED' });
    release();
    await held;
    expect(await waiter.transaction(tx => tx.append('s', encodeUtf8('b')))).toBe(0);
  });

  it('opens its connection again when the server has ended it, and leaves nothing of what was under way', async () => {
    await using store = await openPostgresStore({ url, schema });
    await using other = await openPostgresStore({ url, schema });
    const kick = () =>
      onServer(client =>
        client.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'cloister %' AND pid IN
          (SELECT pid FROM pg_locks WHERE locktype = 'advisory')`),
      );
    await store.transaction(tx => tx.append('s', encodeUtf8('one')));
    const broken = store.transaction(async tx => {
      await tx.append('s', encodeUtf8('lost'));
      await kick();
      await sleep(20);
      await tx.append('s', encodeUtf8('lost too'));
    });
    await expect(broken).rejects.toMatchObject({ code: 'STORE_FAILED' });
    expect(await store.transaction(tx => tx.append('s', encodeUtf8('two')))).toBe(1);
    expect((await other.transaction(tx => tx.read('s', 0, 9))).map(entry => decodeUtf8(entry.value))).toEqual([
      'one',
      'two',
    ]);
  });

  it.each(['before', 'after'] as const)(
    'finds out what became of a commit that was cut %s it took place',
    async when => {
      await using proxy = await openProxy(url);
      await using store = await openPostgresStore({ url: proxy.url, schema });
      await store.transaction(tx => tx.append('s', encodeUtf8('first')));
      for (let round = 0; round < 3; round++) {
        proxy.cutNextCommit(when);
        const outcome = await store
          .transaction(tx => tx.append('s', encodeUtf8(`round ${round}`)))
          .catch(error => error);
        if (when === 'after') expect(outcome).toBe(round + 1);
        else expect(outcome).toMatchObject({ code: 'STORE_FAILED', detail: { outcome: 'nothing' } });
      }
      const entries = await store.transaction(tx => tx.read('s', 0, 9));
      expect(entries).toHaveLength(when === 'after' ? 4 : 1);
    },
  );

  it('says so when it cannot find out, and goes on when the server is back', async () => {
    await using proxy = await openProxy(url);
    await using store = await openPostgresStore({ url: proxy.url, schema, lockWaitMs: 300 });
    await store.transaction(tx => tx.append('s', encodeUtf8('one')));
    proxy.cutNextCommit('after');
    const doubtful = store.transaction(async tx => {
      await tx.append('s', encodeUtf8('two'));
      setTimeout(() => proxy.away(true), 1);
      await sleep(0);
    });
    // The connection is cut at the commit, or a moment before it: either is told, neither is a wrong answer.
    await expect(doubtful).rejects.toMatchObject({ code: 'STORE_FAILED' });
    await expect(store.transaction(tx => tx.read('s', 0, 9))).rejects.toThrow(/connection|listens/);
    proxy.away(false);
    expect((await store.transaction(tx => tx.read('s', 0, 9))).length).toBeGreaterThanOrEqual(1);
  });

  it('refuses a server that is not durable, a standby, another encoding, a newer schema, and a schema of others', async () => {
    for (const [word, by, message] of [
      [`current_setting('fsync')`, `'off'`, /fsync=off/],
      [`current_setting('server_encoding')`, `'LATIN1'`, /LATIN1/],
      [`current_setting('transaction_read_only')`, `'on'`, /standby/],
      [`current_setting('server_version_num')`, `'120009'`, /older than PostgreSQL 13/],
    ] as const) {
      await using proxy = await openProxy(url);
      proxy.replace(word, by);
      const attempt = openPostgresStore({ url: proxy.url, schema });
      await expect(attempt).rejects.toMatchObject({ code: 'STORE_FAILED', message: expect.stringMatching(message) });
    }
    await (await openPostgresStore({ url, schema })).close();
    await onServer(client => client.query(`UPDATE ${schema}.store SET version = 2`));
    const newer = openPostgresStore({ url, schema });
    await expect(newer).rejects.toMatchObject({ code: 'STORE_FAILED', detail: { version: 2, known: 1 } });
    const theirs = newSchema();
    await onServer(client => client.query(`CREATE SCHEMA ${theirs}; CREATE TABLE ${theirs}.row (x integer)`));
    await expect(openPostgresStore({ url, schema: theirs })).rejects.toThrow(/give one of its own/);
  });

  it('keeps the lock of one schema apart from that of another', async () => {
    await using one = await openPostgresStore({ url, schema });
    await using other = await openPostgresStore({ url, schema: newSchema(), lockWaitMs: 50 });
    await one.transaction(async () => {
      expect(await other.transaction(tx => tx.append('s', encodeUtf8('x')))).toBe(0);
    });
  });

  it('shares a commit among transactions that wait at the same time', async () => {
    await using store = await openPostgresStore({ url, schema });
    await Promise.all(Array.from({ length: 200 }, () => store.transaction(tx => tx.append('s', encodeUtf8('x')))));
    const groups = await onServer(client => client.query(`SELECT groups FROM ${schema}.writer`));
    expect(Number(groups.rows[0].groups)).toBeLessThan(40);
  });
});

describe('openPostgresStore', () => {
  const secret = 'tops3cret';

  it.each<[string, RegExp]>([
    ['not a url', /expected postgresql:/],
    [`mysql://u:${secret}@h/d`, /expected postgresql:/],
    [`postgresql://u:${secret}@127.0.0.1:1/d`, /nobody listens there/],
    [`postgresql://u:${secret}@/d?sslrootcert=/does/not/exist`, /./],
  ])('says what is wrong with a URL and never repeats it: %#', async (bad, message) => {
    const error = await openPostgresStore({ url: bad }).catch(thrown => thrown);
    expect(isCloisterError(error)).toBe(true);
    expect(error.message).toMatch(message);
    const { inspect } = await import('node:util');
    expect(inspect(error, { depth: 9, showHidden: true }) + JSON.stringify(error)).not.toContain(secret);
  });

  it.each(['', 'Clinic', 'a-b', 'a"; DROP', 'x'.repeat(64), '1a'])('refuses the schema name %j', async schema => {
    const attempt = openPostgresStore({ url: 'postgresql://127.0.0.1:1/d', schema });
    await expect(attempt).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('says which command installs the driver when it is missing', () => {
    const script = `
      import { registerHooks } from 'node:module';
      registerHooks({ resolve(name, context, next) {
        if (name === 'pg') throw Object.assign(new Error('not found'), { code: 'ERR_MODULE_NOT_FOUND' });
        return next(name, context);
      } });
      const { openPostgresStore } = await import(${JSON.stringify(new URL('../../src/store/index.ts', import.meta.url).href)});
      await openPostgresStore({ url: 'postgresql://127.0.0.1:1/d' }).catch(error => console.log(JSON.stringify(error)));`;
    const run = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    expect(JSON.parse(run.stdout)).toMatchObject({
      code: 'MISSING_DEPENDENCY',
      detail: { install: 'npm install pg@8' },
    });
  });
});
