/**
 * The stores that ledgers of several processes share in tests, by a name that can stand on a command line.
 * @module
 */
import { openPostgresStore, openSqliteStore, type Store } from '../../src/store/index.ts';

/** Opens what `target` names: `schema:NAME` on the PostgreSQL server of the tests, or an SQLite file. */
export async function openTarget(target: string): Promise<Store> {
  if (!target.startsWith('schema:')) return openSqliteStore({ path: target, lockWaitMs: 120_000 });
  return openPostgresStore({
    url: process.env['CLOISTER_POSTGRES_URL'] ?? '',
    schema: target.slice('schema:'.length),
    lockWaitMs: 120_000,
  });
}
