/**
 * The store on SQLite, through better-sqlite3.
 *
 * One file, with `-wal` and `-shm` beside it while it is open. Tables: `row (collection, key, revision, value)` and
 * `entry (stream, seq, value)`. `application_id` 0x436c7374 ('Clst') marks the file as ours, `user_version` is the version of
 * the schema.
 * @module
 */
import { closeSync, fsyncSync, openSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Statement } from 'better-sqlite3';

import { CloisterError, isCloisterError } from '../base/index.ts';
import { type Medium, SerialStore } from './serial.ts';
import type { Entry, Row, Store } from './store.ts';

const APPLICATION_ID = 0x436c7374;
const SCHEMA_VERSION = 1;
// A commit writes each page that it changed, whole, and a charge changes a few small rows.
const PAGE_BYTES = 2048;
// `row` has a rowid: without one, a search compares keys by reading whole values, which may be large.
const SCHEMA = `
  CREATE TABLE row (collection TEXT NOT NULL, key TEXT NOT NULL, revision INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (collection, key)) STRICT;
  CREATE TABLE entry (stream TEXT NOT NULL, seq INTEGER NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (stream, seq)) STRICT, WITHOUT ROWID;
  PRAGMA application_id = ${APPLICATION_ID};
  PRAGMA user_version = ${SCHEMA_VERSION};
`;

/** How {@link openSqliteStore} opens. */
export interface SqliteOptions {
  /** The file; made (mode 0600) if it is missing, in a directory that exists. On a local disk: WAL needs shared memory. */
  readonly path: string;
  /** How long a transaction waits for other processes' transactions before it is `LOCKED`. Default 10,000. */
  readonly lockWaitMs?: number;
}

/**
 * Opens the store in the SQLite file `path`. Several processes may have it open at once; each transaction has it alone.
 *
 * Durable: WAL with `synchronous=FULL`, so a transaction that resolved was synced to the disk. Waiting for another process
 * never blocks the event loop; the sync itself does (about 0.1 ms on a good disk, several ms on a bad one).
 *
 * @throws {CloisterError} `MISSING_DEPENDENCY` without better-sqlite3; `STORE_FAILED` when the file cannot be opened, is not
 *   a Cloister store, is damaged, or was written by a newer version; `LOCKED` when another process holds it too long.
 * @example
 * ```ts
 * await using store = await openSqliteStore({ path: './state.db' });
 * await store.transaction(tx => tx.put('greeting', 'hello', encodeUtf8('world'), 0));
 * const row = await store.transaction(tx => tx.get('greeting', 'hello'));
 * row?.revision; // 1
 * ```
 */
export async function openSqliteStore(options: SqliteOptions): Promise<Store> {
  const path = resolve(options.path);
  const lockWaitMs = options.lockWaitMs ?? 10_000;
  const Sqlite = await loadDriver();
  let db: Database | undefined;
  try {
    createFile(path);
    // timeout 0: SQLite's own wait would stop the event loop, and with it the body that this process may have open.
    db = new Sqlite(path, { timeout: 0 });
    await prepareFile(db, path, performance.now() + lockWaitMs);
    return new SerialStore(new SqliteMedium(db, path), lockWaitMs);
  } catch (error) {
    db?.close();
    throw explain(error, path);
  }
}

async function loadDriver(): Promise<typeof import('better-sqlite3')> {
  try {
    return (await import('better-sqlite3')).default;
  } catch (cause) {
    const install = 'npm install better-sqlite3@13';
    throw new CloisterError(
      'MISSING_DEPENDENCY',
      `the SQLite store needs better-sqlite3: ${install}`,
      { install },
      { cause },
    );
  }
}

/** Makes the file readable by its owner alone, and its name durable. */
function createFile(path: string): void {
  let created: number;
  try {
    created = openSync(path, 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw error;
  }
  closeSync(created);
  if (process.platform === 'win32') return;
  const directory = openSync(dirname(path), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

async function prepareFile(db: Database, path: string, deadline: number): Promise<void> {
  await whenFree(path, deadline, () => {
    db.pragma(`page_size = ${PAGE_BYTES}`); // of a new file; one that has pages keeps their size
    db.pragma('journal_mode = WAL');
    db.pragma('synchronous = FULL');
    db.pragma('trusted_schema = OFF');
  });
  const isReady = (): boolean => {
    const application = Number(db.pragma('application_id', { simple: true }));
    const version = Number(db.pragma('user_version', { simple: true }));
    const tables = Number(db.prepare('SELECT count(*) FROM sqlite_schema').pluck().get());
    if (application === 0 && version === 0 && tables === 0) return false;
    if (application !== APPLICATION_ID) {
      throw new CloisterError('STORE_FAILED', `${path} is an SQLite file of another program; give another path`, {
        path,
      });
    }
    if (version > SCHEMA_VERSION) {
      const message = `${path} has schema ${version}, this version of Cloister knows ${SCHEMA_VERSION}: upgrade Cloister`;
      throw new CloisterError('STORE_FAILED', message, { path, version, known: SCHEMA_VERSION });
    }
    return true;
  };
  // In one transaction: another process may make the tables between two of the questions.
  if (await whenFree(path, deadline, () => db.transaction(isReady)())) return;
  await whenFree(path, deadline, () =>
    db
      .transaction(() => {
        if (!isReady()) db.exec(SCHEMA);
      })
      .immediate(),
  );
}

/** Runs `operation` once no other process is in its way, asking again after 1, 2, 4 … 32 ms. */
async function whenFree<T>(path: string, deadline: number, operation: () => T): Promise<T> {
  for (let waitMs = 1; ; waitMs = Math.min(2 * waitMs, 32)) {
    try {
      return operation();
    } catch (error) {
      if (!isBusy(error)) throw explain(error, path);
      if (performance.now() >= deadline) {
        const message = `another process holds a transaction on ${path}; try again, or end that process`;
        throw new CloisterError('LOCKED', message, { path }, { cause: error });
      }
    }
    await sleep(waitMs * (0.5 + 0.5 * Math.random()));
  }
}

class SqliteMedium implements Medium {
  readonly name = 'sqlite';
  readonly durable = true;
  readonly #db: Database;
  readonly #path: string;
  readonly #sql: Readonly<Record<'begin' | 'commit' | 'rollback' | 'save' | 'keep' | 'drop', Statement>>;
  readonly #get: Statement<[string, string], Row>;
  readonly #list: Statement<[string, string], Row & { key: string }>;
  readonly #insert: Statement<[string, string, Uint8Array]>;
  readonly #update: Statement<[Uint8Array, string, string, number]>;
  readonly #remove: Statement<[string, string, number]>;
  readonly #last: Statement<[string], number | null>;
  readonly #append: Statement<[string, number, Uint8Array]>;
  readonly #read: Statement<[string, number, number], Entry>;

  constructor(db: Database, path: string) {
    this.#db = db;
    this.#path = path;
    this.#sql = {
      begin: db.prepare('BEGIN IMMEDIATE'),
      commit: db.prepare('COMMIT'),
      rollback: db.prepare('ROLLBACK'),
      save: db.prepare('SAVEPOINT member'),
      keep: db.prepare('RELEASE member'),
      drop: db.prepare('ROLLBACK TO member'),
    };
    this.#get = db.prepare('SELECT value, revision FROM row WHERE collection = ? AND key = ?');
    this.#list = db.prepare('SELECT key, value, revision FROM row WHERE collection = ? AND key >= ? ORDER BY key');
    this.#insert = db.prepare(
      'INSERT INTO row (collection, key, revision, value) VALUES (?, ?, 1, ?) ON CONFLICT DO NOTHING',
    );
    this.#update = db.prepare(
      'UPDATE row SET value = ?, revision = revision + 1 WHERE collection = ? AND key = ? AND revision = ?',
    );
    this.#remove = db.prepare('DELETE FROM row WHERE collection = ? AND key = ? AND revision = ?');
    // Two statements: one that looks up, inserts and returns takes twice as long.
    this.#last = db
      .prepare<[string], number | null>('SELECT max(seq) FROM entry WHERE stream = ?')
      .pluck() as Statement<[string], number | null>;
    this.#append = db.prepare('INSERT INTO entry (stream, seq, value) VALUES (?, ?, ?)');
    this.#read = db.prepare('SELECT seq, value FROM entry WHERE stream = ? AND seq >= ? ORDER BY seq LIMIT ?');
  }

  async begin(deadline: number): Promise<void> {
    await whenFree(this.#path, deadline, () => this.#sql.begin.run());
  }

  beginMember(): void {
    this.#guard(() => this.#sql.save.run());
  }

  keepMember(): void {
    this.#guard(() => this.#sql.keep.run());
  }

  dropMember(): void {
    try {
      this.#sql.drop.run();
      this.#sql.keep.run(); // ROLLBACK TO leaves the savepoint standing
    } catch (error) {
      // What cannot be taken back alone takes its group with it.
      if (this.#db.inTransaction) this.#sql.rollback.run();
      throw explain(error, this.#path);
    }
  }

  standing(): boolean {
    return this.#db.inTransaction;
  }

  commit(): void {
    try {
      this.#guard(() => this.#sql.commit.run());
    } finally {
      if (this.#db.inTransaction) this.#sql.rollback.run();
    }
  }

  get(collection: string, key: string): Row | undefined {
    const row = this.#guard(() => this.#get.get(collection, key));
    return row && { value: plain(row.value), revision: row.revision };
  }

  list(collection: string, prefix: string): (Row & { readonly key: string })[] {
    return this.#guard(() => {
      const rows: (Row & { readonly key: string })[] = [];
      for (const row of this.#list.iterate(collection, prefix)) {
        if (!row.key.startsWith(prefix)) break; // keys with one prefix stand together in code-point order
        rows.push({ key: row.key, value: plain(row.value), revision: row.revision });
      }
      return rows;
    });
  }

  put(collection: string, key: string, value: Uint8Array, expected: number): number {
    const { changes } = this.#guard(() =>
      expected === 0 ? this.#insert.run(collection, key, value) : this.#update.run(value, collection, key, expected),
    );
    return changes === 1 ? expected : (this.get(collection, key)?.revision ?? 0);
  }

  remove(collection: string, key: string, expected: number): number | undefined {
    const { changes } = this.#guard(() => this.#remove.run(collection, key, expected));
    return changes === 1 ? expected : this.get(collection, key)?.revision;
  }

  append(stream: string, value: Uint8Array): number {
    return this.#guard(() => {
      const seq = (this.#last.get(stream) ?? -1) + 1;
      this.#append.run(stream, seq, value);
      return seq;
    });
  }

  read(stream: string, from: number, limit: number): Entry[] {
    const entries = this.#guard(() => this.#read.all(stream, from, limit));
    return entries.map(entry => ({ seq: entry.seq, value: plain(entry.value) }));
  }

  close(): void {
    this.#guard(() => this.#db.close());
  }

  #guard<T>(operation: () => T): T {
    try {
      return operation();
    } catch (error) {
      throw explain(error, this.#path);
    }
  }
}

/** The driver hands out Buffers; the seam promises plain arrays. */
function plain(value: Uint8Array): Uint8Array {
  return new Uint8Array(value);
}

function codeOf(error: unknown): string {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' ? code : '';
}

function isBusy(error: unknown): boolean {
  return /^SQLITE_(BUSY|LOCKED)/.test(codeOf(error));
}

/** What the medium said, as an error that says what to do. */
function explain(error: unknown, path: string): unknown {
  if (isCloisterError(error)) return error;
  const code = codeOf(error);
  const advice = ADVICE.find(([pattern]) => pattern.test(code))?.[1];
  if (!advice) return error;
  return new CloisterError('STORE_FAILED', `${path}: ${advice} (${code})`, { path, cause: code }, { cause: error });
}

const ADVICE: readonly (readonly [RegExp, string])[] = [
  [/^(SQLITE_FULL|ENOSPC|EDQUOT)/, 'the disk is full; free some space and try again, nothing was written'],
  [
    /^(SQLITE_READONLY|SQLITE_PERM|SQLITE_AUTH|EACCES|EPERM|EROFS)/,
    'the file or its directory cannot be written; mend the permissions',
  ],
  [
    /^(SQLITE_CORRUPT|SQLITE_NOTADB|SQLITE_FORMAT)/,
    'this is not a sound SQLite file; restore the newest backup (a fresh file would forget what was spent)',
  ],
  [/^(SQLITE_CANTOPEN|ENOENT|ENOTDIR|EISDIR)/, 'the file cannot be opened; its directory must exist and be writable'],
  [/^SQLITE_TOOBIG/, 'a value is over the size that SQLite can hold (1 GB)'],
  [/^(SQLITE_IOERR|EIO)/, 'the disk failed; check it, then open the store again'],
  [/^SQLITE_/, 'SQLite failed'],
];
