/**
 * A child process that writes to a store until it is killed: the SQLite file at `argv[2]`, or the schema that is the fragment of the
 * PostgreSQL URL there. Mode `stream`: appends 1, 2, 3 … and
 * prints each number once its transaction has resolved. Mode `race N`: adds 1 to one row N times.
 * @module
 */
import { writeSync } from 'node:fs';

import { decodeUtf8, encodeUtf8 } from '../../src/base/index.ts';
import { openPostgresStore, openSqliteStore } from '../../src/store/index.ts';

const [, , path = '', mode = '', count = '0'] = process.argv;
const [url = '', schema = ''] = path.split('#');
const store = await (schema ? openPostgresStore({ url, schema, lockWaitMs: 60_000 }) : openSqliteStore({ path }));
if (mode === 'stream') {
  const acknowledge = async (): Promise<void> => {
    const seq = await store.transaction(async tx => {
      const at = await tx.append('s', encodeUtf8('entry'));
      const row = await tx.get('c', 'length');
      await tx.put('c', 'length', encodeUtf8(String(at + 1)), row?.revision ?? 0);
      return at;
    });
    writeSync(1, `${seq}\n`);
  };
  for (;;) await Promise.all([acknowledge(), acknowledge(), acknowledge()]);
}
for (let i = 0; i < Number(count); i++) {
  await store.transaction(async tx => {
    const row = await tx.get('c', 'counter');
    if (i % 50 === 0) await new Promise(resolve => setTimeout(resolve, 5));
    await tx.put('c', 'counter', encodeUtf8(String(Number(row ? decodeUtf8(row.value) : 0) + 1)), row?.revision ?? 0);
  });
}
await store.close();
