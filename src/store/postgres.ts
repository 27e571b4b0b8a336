/**
 * The store on PostgreSQL, through pg: for several machines that share one budget.
 *
 * Tables of one schema, in the shape that they have on SQLite: `row (collection, key, revision, value)`, `entry (stream, seq, value)`.
 * Beside them `store (version)`, the version of the schema, and `writer (id, groups, at)`, how many groups each open store committed.
 *
 * A group of transactions takes an advisory lock of the database, so that it is alone among all processes. What its members write
 * is kept in memory and sent in one statement before the commit. The lock goes with the transaction, so a group that has lost its
 * connection has lost its writes with it. Where a connection breaks at the commit, `writer` tells whether it took place.
 * @module
 */
import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { QueryResult, QueryResultRow } from 'pg';

import { CloisterError } from '../base/index.ts';
import {
  codeOf,
  explain,
  isLost,
  mayReturn,
  openSession,
  parseTarget,
  type Session,
  type Target,
} from './postgres-session.ts';
import { type Awaitable, compareCodePoints, type Medium, SerialStore } from './serial.ts';
import type { Entry, Row, Store } from './store.ts';

const SCHEMA_VERSION = 1;
/** How long the server lets a body keep a transaction open without a word, and a statement run. */
const IDLE_MS = 60_000;
const STATEMENT_MS = 60_000;

/** How {@link openPostgresStore} opens. */
export interface PostgresOptions {
  /** `postgresql://user:password@host:port/database?sslmode=verify-full`, as libpq reads it. */
  readonly url: string;
  /** The schema that holds the tables; made if it is missing. Small letters, digits and `_`. Default `cloister`. */
  readonly schema?: string;
  /** How long a transaction waits for other processes' transactions, or for a server that is away. Default 10,000. */
  readonly lockWaitMs?: number;
}

/**
 * Opens the store in a schema of a PostgreSQL database. Several processes on several machines may have it open at once; each
 * transaction has it alone.
 *
 * Durable: every transaction runs with `synchronous_commit` at least `on`, and a server with `fsync=off` is refused. When the
 * connection breaks it is opened again; a transaction that was under way fails with `STORE_FAILED` and leaves nothing. If it broke at
 * the commit, the store finds out what became of it; where the server does not come back within `lockWaitMs`, the error has
 * `detail.outcome` `unknown`: the writes are there or not, as a later transaction will see. A body must not keep the store waiting for
 * over a minute.
 *
 * @throws {CloisterError} `MISSING_DEPENDENCY` without pg; `STORE_FAILED` when the server cannot be reached, is not fit, or holds a
 *   store of a newer version; `LOCKED` when another process holds it too long; `INVALID_ARGUMENT` on a URL or name of a schema that is
 *   none. No error repeats the URL, which may hold a password.
 * @example
 * ```ts
 * const url = process.env['CLOISTER_STORE_URL']; // postgresql://cloister:…@db.example/budgets?sslmode=verify-full
 * if (url) {
 *   await using store = await openPostgresStore({ url, schema: 'example' });
 *   await store.transaction(tx => tx.append('events', encodeUtf8('first')));
 *   store.durable; // true
 * }
 * ```
 */
export async function openPostgresStore(options: PostgresOptions): Promise<Store> {
  const { schema = 'cloister', lockWaitMs = 10_000 } = options;
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(schema)) {
    const message = 'the schema of the PostgreSQL store: expected 1 to 63 small letters, digits and _, no digit first';
    throw new CloisterError('INVALID_ARGUMENT', message);
  }
  const id = randomUUID();
  const medium = new PostgresMedium(parseTarget(options.url, `cloister ${id}`), schema, id, lockWaitMs);
  await medium.open();
  return new SerialStore(medium, lockWaitMs);
}

/** A row in a group: as it is now, and whether a member has changed it. */
interface Cell {
  row: Row | undefined;
  changed: boolean;
}

/** A stream in a group: what was appended to it from position `from` on. */
interface Stream {
  readonly from: number;
  readonly values: Uint8Array[];
}

class PostgresMedium implements Medium {
  readonly name = 'postgresql';
  readonly durable = true;
  readonly #target: Target;
  readonly #id: string;
  readonly #waitMs: number;
  readonly #lock: bigint;
  readonly #sql: Sql;
  #session: Session | undefined;
  /** Groups that were committed, or whose commit was tried. */
  #groups = 0;
  #open = false;
  readonly #cells = new Map<string, Fetched<Cell>>();
  readonly #streams = new Map<string, Fetched<Stream>>();
  /** How to take back the open member's writes, oldest first. */
  #undo: (() => void)[] = [];

  constructor(target: Target, schema: string, id: string, waitMs: number) {
    this.#target = target;
    this.#id = id;
    this.#waitMs = waitMs;
    this.#lock = createHash('sha256').update(`cloister store ${schema}`).digest().readBigInt64BE();
    this.#sql = statements(schema);
  }

  /** Makes the tables if they are missing. */
  async open(): Promise<void> {
    this.#session = await openSession(this.#target);
    try {
      await this.begin(performance.now() + this.#waitMs);
      const { rows } = await this.#query<{ schema: boolean; store: boolean }>('present', []);
      if (!rows[0]?.schema) await this.#query('makeSchema', []);
      if (!rows[0]?.store) for (const table of TABLES) await this.#query(table, []);
      const version = Number((await this.#query<{ version: number }>('version', [])).rows[0]?.version);
      if (version !== SCHEMA_VERSION) {
        const message = `${this.#target.shown} has schema ${version}, this version of Cloister knows ${SCHEMA_VERSION}: upgrade Cloister`;
        throw new CloisterError('STORE_FAILED', message, { version, known: SCHEMA_VERSION });
      }
      await this.#query('prune', []);
      await this.#session.query('COMMIT');
      this.#open = false;
    } catch (error) {
      await this.close();
      throw explain(error, this.#target);
    }
  }

  async begin(deadline: number): Promise<void> {
    for (let waitMs = 10; ; waitMs = Math.min(2 * waitMs, 500)) {
      try {
        this.#session ??= await openSession(this.#target);
        await this.#beginOnce(this.#session, Math.max(1, Math.ceil(deadline - performance.now())));
        return;
      } catch (error) {
        const reason = explain(error, this.#target);
        if (this.#session && (isLost(error) || !this.#session.alive)) this.#drop();
        else if (this.#session) await this.#session.query('ROLLBACK').catch(() => this.#drop());
        if (!mayReturn(reason) || performance.now() + waitMs >= deadline) throw reason;
      }
      await sleep(waitMs);
    }
  }

  async #beginOnce(session: Session, waitMs: number): Promise<void> {
    // SET LOCAL, not SET: it holds through a pool of connections too.
    await session.query(`
      BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
      SET LOCAL synchronous_commit = ${session.durability};
      SET LOCAL idle_in_transaction_session_timeout = ${IDLE_MS};
      SET LOCAL statement_timeout = ${STATEMENT_MS + waitMs};
      SET LOCAL lock_timeout = ${waitMs};
      SELECT pg_advisory_xact_lock(${this.#lock})`);
    this.#cells.clear();
    this.#streams.clear();
    this.#open = true;
  }

  beginMember(): void {
    this.#undo = [];
  }

  keepMember(): void {
    this.#undo = [];
  }

  dropMember(): void {
    for (const step of this.#undo.reverse()) step();
    this.#undo = [];
  }

  standing(): boolean {
    return this.#open && this.#session?.alive === true;
  }

  async commit(): Promise<void> {
    const session = this.#session!;
    const writes = this.#writes();
    if (writes) await this.#query('write', [...writes, this.#id, ++this.#groups]);
    this.#open = false;
    try {
      const { command } = await session.query('COMMIT');
      // What cannot be committed is rolled back, which is no error to the server.
      if (command !== 'COMMIT')
        throw new CloisterError('STORE_FAILED', `${this.#target.shown}: the server rolled back`);
    } catch (error) {
      if (!isLost(error)) throw explain(error, this.#target);
      this.#drop();
      if (writes) await this.#resolve(error);
    }
  }

  /** Finds out whether a commit took place whose answer was lost; throws unless it did. */
  async #resolve(cause: unknown): Promise<void> {
    let committed: boolean;
    try {
      // Whoever has the lock knows that the lost transaction is over.
      await this.begin(performance.now() + this.#waitMs);
      const { rows } = await this.#query<{ groups: string }>('groups', [this.#id]);
      committed = Number(rows[0]?.groups ?? 0) === this.#groups;
      await this.#session?.query('COMMIT');
    } catch (error) {
      this.#drop();
      const message = `${this.#target.shown}: the connection broke at a commit and the server does not answer: whether it took place is not known`;
      throw new CloisterError('STORE_FAILED', message, { outcome: 'unknown', cause: codeOf(error) }, { cause });
    } finally {
      this.#open = false;
    }
    if (committed) return;
    const message = `${this.#target.shown}: the connection broke before a commit; nothing was written, try again`;
    throw new CloisterError('STORE_FAILED', message, { outcome: 'nothing', cause: codeOf(cause) }, { cause });
  }

  get(collection: string, key: string): Awaitable<Row | undefined> {
    return this.#cell(collection, key).use(({ row }) => row && copyOf(row));
  }

  async list(collection: string, prefix: string): Promise<(Row & { readonly key: string })[]> {
    const { rows } = await this.#query<StoredRow & { key: string }>('list', [collection, prefix, successor(prefix)]);
    const found = new Map(rows.map(row => [row.key, toRow(row)]));
    const within = nameOf(collection, prefix);
    for (const [name, cell] of this.#cells) {
      if (!name.startsWith(within)) continue;
      const key = name.slice(nameOf(collection, '').length);
      const { row, changed } = cell.value ?? {};
      if (changed && row) found.set(key, copyOf(row));
      else if (changed) found.delete(key);
    }
    return [...found].map(([key, row]) => ({ key, ...row })).sort((a, b) => compareCodePoints(a.key, b.key));
  }

  put(collection: string, key: string, value: Uint8Array, expected: number): Awaitable<number> {
    const copy = value.slice();
    return this.#cell(collection, key).use(cell => {
      const found = cell.row?.revision ?? 0;
      if (found === expected) this.#change(cell, { value: copy, revision: expected + 1 });
      return found;
    });
  }

  remove(collection: string, key: string, expected: number): Awaitable<number | undefined> {
    return this.#cell(collection, key).use(cell => {
      const found = cell.row?.revision;
      if (found === expected) this.#change(cell, undefined);
      return found;
    });
  }

  append(stream: string, value: Uint8Array): Awaitable<number> {
    const copy = value.slice();
    return this.#stream(stream).use(({ from, values }) => {
      this.#undo.push(() => values.pop());
      return from + values.push(copy) - 1;
    });
  }

  async read(stream: string, from: number, limit: number): Promise<Entry[]> {
    const { rows } = await this.#query<{ seq: string; value: Uint8Array }>('read', [stream, from, limit]);
    const entries = rows.map(({ seq, value }) => ({ seq: Number(seq), value: new Uint8Array(value) }));
    const { from: first, values } = this.#streams.get(stream)?.value ?? { from: 0, values: [] };
    for (let seq = Math.max(from, first); entries.length < limit && seq < first + values.length; seq++)
      entries.push({ seq, value: values[seq - first]!.slice() });
    return entries;
  }

  async close(): Promise<void> {
    const session = this.#session;
    if (session?.alive && this.#groups > 0) await this.#query('forget', [this.#id]).catch(() => undefined);
    if (session?.alive) await session.end();
    this.#drop();
  }

  /** Lets go of a session that is of no more use. */
  #drop(): void {
    void this.#session?.end();
    this.#session = undefined;
    this.#open = false;
  }

  #change(cell: Cell, row: Row | undefined): void {
    const before = { ...cell };
    this.#undo.push(() => Object.assign(cell, before));
    cell.row = row;
    cell.changed = true;
  }

  #cell(collection: string, key: string): Fetched<Cell> {
    const name = nameOf(collection, key);
    let cell = this.#cells.get(name);
    if (cell === undefined) {
      cell = new Fetched(
        this.#query<StoredRow>('get', [collection, key]).then(({ rows: [row] }) => ({
          row: row && toRow(row),
          changed: false,
        })),
      );
      this.#cells.set(name, cell);
    }
    return cell;
  }

  #stream(name: string): Fetched<Stream> {
    let stream = this.#streams.get(name);
    if (stream === undefined) {
      stream = new Fetched(
        this.#query<{ next: string }>('next', [name]).then(({ rows }) => ({ from: Number(rows[0]!.next), values: [] })),
      );
      this.#streams.set(name, stream);
    }
    return stream;
  }

  /** What the members have changed, as the parameters of the statement that writes it; undefined: nothing. */
  #writes(): unknown[] | undefined {
    const removed: [string[], string[]] = [[], []];
    const written: [string[], string[], number[], Buffer[]] = [[], [], [], []];
    const appended: [string[], number[], Buffer[]] = [[], [], []];
    for (const [name, { value: cell }] of this.#cells) {
      if (!cell?.changed) continue;
      const [collection = '', key = ''] = name.split('\0');
      const [collections, keys] = cell.row ? written : removed;
      collections.push(collection);
      keys.push(key);
      if (!cell.row) continue;
      written[2].push(cell.row.revision);
      written[3].push(asBuffer(cell.row.value));
    }
    for (const [name, { value: stream }] of this.#streams) {
      stream?.values.forEach((value, i) => {
        appended[0].push(name);
        appended[1].push(stream.from + i);
        appended[2].push(asBuffer(value));
      });
    }
    const none = removed[0].length + written[0].length + appended[0].length === 0;
    return none ? undefined : [...removed, ...written, ...appended];
  }

  async #query<R extends QueryResultRow>(name: keyof Sql, values: unknown[]): Promise<QueryResult<R>> {
    if (!this.#session)
      throw new CloisterError('STORE_FAILED', `${this.#target.shown}: the connection to the server is lost`);
    try {
      return await this.#session.query<R>({ name: `cloister ${name}`, text: this.#sql[name], values });
    } catch (error) {
      // A statement that the server refuses is the end of its group, as is a connection that is gone.
      this.#open = false;
      if (isLost(error)) this.#drop();
      else await this.#session?.query('ROLLBACK').catch(() => this.#drop());
      throw explain(error, this.#target);
    }
  }
}

/** Something that is fetched once. What is done with it is done in the order of the calls, at once where it is there. */
class Fetched<T> {
  value: T | undefined;
  #failure: { error: unknown } | undefined;
  #waiting: (() => void)[] = [];

  constructor(fetch: Promise<T>) {
    const settle = (): void => {
      for (const step of this.#waiting) step();
      this.#waiting = [];
    };
    fetch.then(
      value => {
        this.value = value;
        settle();
      },
      error => {
        this.#failure = { error };
        settle();
      },
    );
  }

  use<R>(step: (value: T) => R): Awaitable<R> {
    if (this.value !== undefined) return step(this.value);
    return new Promise((resolve, reject) => {
      const settle = (): void => (this.value === undefined ? reject(this.#failure?.error) : resolve(step(this.value)));
      if (this.#failure) settle();
      else this.#waiting.push(settle);
    });
  }
}

interface StoredRow {
  readonly value: Uint8Array;
  /** A bigint, which the driver hands out as text. */
  readonly revision: string;
}

function toRow({ value, revision }: StoredRow): Row {
  return { value: new Uint8Array(value), revision: Number(revision) };
}

function copyOf({ value, revision }: Row): Row {
  return { value: value.slice(), revision };
}

/** What the driver writes as bytea. */
function asBuffer(value: Uint8Array): Buffer {
  return Buffer.from(value.buffer, value.byteOffset, value.length);
}

/** One name for collection and key; neither has U+0000. */
function nameOf(collection: string, key: string): string {
  return `${collection}\0${key}`;
}

/** The first string, in code-point order, after all that begin with `prefix`; null: there is none. */
function successor(prefix: string): string | null {
  const points = Array.from(prefix, character => character.codePointAt(0)!);
  while (points.at(-1) === 0x10ffff) points.pop();
  const last = points.pop();
  if (last === undefined) return null;
  return String.fromCodePoint(...points, last === 0xd7ff ? 0xe000 : last + 1);
}

const TABLES = ['makeStore', 'makeRow', 'makeEntry', 'makeWriter', 'setVersion'] as const;

type Sql = ReturnType<typeof statements>;

/** The statements of a store in a schema, whose name was checked. Names sort by their UTF-8 bytes: COLLATE "C". */
function statements(schema: string) {
  return {
    present: `SELECT to_regnamespace('${schema}') IS NOT NULL AS schema, to_regclass('${schema}.store') IS NOT NULL AS store`,
    makeSchema: `CREATE SCHEMA ${schema}`,
    makeStore: `CREATE TABLE ${schema}.store (version integer NOT NULL)`,
    makeRow: `CREATE TABLE ${schema}.row (collection text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL,
      revision bigint NOT NULL, value bytea NOT NULL, PRIMARY KEY (collection, key))`,
    makeEntry: `CREATE TABLE ${schema}.entry (stream text COLLATE "C" NOT NULL, seq bigint NOT NULL, value bytea NOT NULL,
      PRIMARY KEY (stream, seq))`,
    makeWriter: `CREATE TABLE ${schema}.writer (id uuid PRIMARY KEY, groups bigint NOT NULL, at timestamptz NOT NULL)`,
    setVersion: `INSERT INTO ${schema}.store (version) VALUES (${SCHEMA_VERSION})`,
    version: `SELECT version FROM ${schema}.store`,
    prune: `DELETE FROM ${schema}.writer WHERE at < now() - interval '30 days'`,
    get: `SELECT value, revision FROM ${schema}.row WHERE collection = $1 AND key = $2`,
    list: `SELECT key, value, revision FROM ${schema}.row
      WHERE collection = $1 AND key >= $2 AND ($3::text IS NULL OR key < $3) ORDER BY key`,
    next: `SELECT coalesce(max(seq) + 1, 0) AS next FROM ${schema}.entry WHERE stream = $1`,
    read: `SELECT seq, value FROM ${schema}.entry WHERE stream = $1 AND seq >= $2 ORDER BY seq LIMIT $3`,
    write: `
      WITH removed AS (
        DELETE FROM ${schema}.row AS stored USING unnest($1::text[], $2::text[]) AS gone (collection, key)
        WHERE stored.collection = gone.collection AND stored.key = gone.key
      ), written AS (
        INSERT INTO ${schema}.row (collection, key, revision, value)
        SELECT * FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bytea[])
        ON CONFLICT (collection, key) DO UPDATE SET revision = excluded.revision, value = excluded.value
      ), appended AS (
        INSERT INTO ${schema}.entry (stream, seq, value) SELECT * FROM unnest($7::text[], $8::bigint[], $9::bytea[])
      )
      INSERT INTO ${schema}.writer (id, groups, at) VALUES ($10, $11, now())
      ON CONFLICT (id) DO UPDATE SET groups = excluded.groups, at = excluded.at`,
    groups: `SELECT groups FROM ${schema}.writer WHERE id = $1`,
    forget: `DELETE FROM ${schema}.writer WHERE id = $1`,
  } as const;
}
