/**
 * Durable state: the store seam, and its implementations on SQLite, on PostgreSQL and in memory.
 * @module
 */
export { makeDirectory, syncDirectory } from './directory.ts';
export { memoryStore } from './memory.ts';
export { openPostgresStore, type PostgresOptions } from './postgres.ts';
export { openSqliteStore, type SqliteOptions } from './sqlite.ts';
export type { Entry, Row, Store, Transaction } from './store.ts';
