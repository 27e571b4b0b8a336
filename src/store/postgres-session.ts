/**
 * Sessions with a PostgreSQL server: opened, checked for what a durable store needs, and what they fail with explained.
 * @module
 */
import type { Client, ClientConfig, QueryConfig, QueryResult, QueryResultRow } from 'pg';
import { CloisterError, isCloisterError } from '../base/index.ts';

/** Which database, and how to name a session in it. */
export interface Target {
  /** Never shown: it may hold a password. */
  readonly url: string;
  /** Host, port and database, for messages. */
  readonly shown: string;
  /** `application_name` of the session: one session at a time has it. */
  readonly session: string;
}

/** An open session. */
export interface Session {
  /** Sends a statement when those before it are answered. */
  query<R extends QueryResultRow>(statement: string | QueryConfig): Promise<QueryResult<R>>;
  /** The level of `synchronous_commit` that its transactions run at: `on`, or what the server has that is stronger. */
  readonly durability: string;
  /** False once the connection is gone; what was not committed is gone with it. */
  readonly alive: boolean;
  /** Ends the session. Nobody need wait for it: the server may be gone. */
  end(): Promise<void>;
}

const CONNECT_MS = 5_000;
const LEAST_VERSION = 130_000;

/**
 * Reads the URL of a database.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when it is none; the message does not repeat it.
 */
export function parseTarget(url: string, session: string): Target {
  const expected = 'expected postgresql://user@host:port/database';
  // The error of URL holds what it was given, password and all; it must not become a cause.
  const parsed = typeof url === 'string' && URL.canParse(url) ? new URL(url) : undefined;
  if (parsed?.protocol !== 'postgresql:' && parsed?.protocol !== 'postgres:')
    throw new CloisterError('INVALID_ARGUMENT', `the URL of the PostgreSQL store: ${expected}`);
  return { url, shown: `${parsed.host || 'localhost'}${parsed.pathname}`, session };
}

/** @throws {CloisterError} `MISSING_DEPENDENCY` without pg. */
export async function loadDriver(): Promise<new (config: ClientConfig) => Client> {
  try {
    return (await import('pg')).default.Client;
  } catch (cause) {
    const install = 'npm install pg@8';
    throw new CloisterError('MISSING_DEPENDENCY', `the PostgreSQL store needs pg: ${install}`, { install }, { cause });
  }
}

/**
 * Opens a session, and ends an earlier one of the same name: it is ours, and may still hold the lock of a transaction whose
 * connection broke.
 *
 * @throws {CloisterError} `MISSING_DEPENDENCY`; `STORE_FAILED` when the server cannot be reached or is not fit for a durable store.
 */
export async function openSession(target: Target): Promise<Session> {
  const Driver = await loadDriver();
  const client = new Driver({
    connectionString: target.url,
    application_name: target.session,
    connectionTimeoutMillis: CONNECT_MS,
    keepAlive: true,
  });
  let alive = true;
  const lost = (): void => {
    alive = false;
  };
  client.on('error', lost).on('end', lost);
  try {
    await client.connect();
    const { rows } = await client.query<Record<'fsync' | 'commit' | 'encoding' | 'readonly' | 'version', string>>(`
      SELECT current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS commit,
        current_setting('server_encoding') AS encoding, current_setting('transaction_read_only') AS readonly,
        current_setting('server_version_num') AS version`);
    const { fsync, commit, encoding, readonly, version } = rows[0]!;
    const refuse = (why: string): never => {
      throw new CloisterError('STORE_FAILED', `${target.shown}: ${why}`, { store: target.shown });
    };
    if (Number(version) < LEAST_VERSION) refuse('this server is older than PostgreSQL 13; upgrade it');
    if (fsync !== 'on') refuse('the server runs with fsync=off and would forget what was spent; set fsync=on');
    if (encoding !== 'UTF8') refuse(`the database is encoded as ${encoding}; make one with ENCODING 'UTF8'`);
    if (readonly !== 'off') refuse('the server is a standby, or read-only; give the URL of the primary');
    // A machine that is gone must not hold the lock for the two hours that a server waits by default.
    await client.query('SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3');
    await client.query(
      'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND pid <> pg_backend_pid()',
      [target.session],
    );
    let answered: Promise<unknown> = Promise.resolve();
    return {
      query<R extends QueryResultRow>(statement: string | QueryConfig) {
        const result = answered.then(() => client.query<R>(statement));
        answered = result.catch(() => undefined);
        return result;
      },
      end: () => client.end().catch(() => undefined),
      durability: commit === 'remote_apply' ? commit : 'on',
      get alive() {
        return alive;
      },
    };
  } catch (error) {
    client.end().catch(() => undefined);
    throw explain(error, target);
  }
}

/** Whether what was thrown means that the connection is gone, not that the server refused a statement. */
export function isLost(error: unknown): boolean {
  return !isCloisterError(error) && (!isServerError(error) || error.severity === 'FATAL' || error.severity === 'PANIC');
}

/** Whether the server will perhaps be there again in a moment. */
export function mayReturn(error: unknown): boolean {
  return isCloisterError(error, 'STORE_FAILED') && RETURNING.test(String(error.detail['cause'] ?? ''));
}

const RETURNING = /^(ECONN|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|EAI_AGAIN|ENOENT|LOST|57P0|08|53300)/;

/** The SQLSTATE of a statement that the server refused, or the code of the system; `LOST` for a connection without either. */
export function codeOf(error: unknown): string {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return typeof code === 'string' ? code : 'LOST';
}

/** What the server or the connection said, as an error that says what to do. */
export function explain(error: unknown, { shown }: Target): unknown {
  if (isCloisterError(error)) return error;
  if (!(error instanceof Error)) return error;
  const code = codeOf(error);
  if (code === '55P03') {
    const message = `another process holds a transaction on ${shown}; try again, or end that process`;
    return new CloisterError('LOCKED', message, { store: shown }, { cause: error });
  }
  const advice = ADVICE.find(([pattern]) => pattern.test(code))?.[1] ?? 'PostgreSQL failed';
  const message = `${shown}: ${advice} (${code === 'LOST' ? error.message : code})`;
  return new CloisterError('STORE_FAILED', message, { store: shown, cause: code }, { cause: error });
}

const ADVICE: readonly (readonly [RegExp, string])[] = [
  [/^(ECONNREFUSED|ENOENT)$/, 'nobody listens there; start the server, or mend the URL'],
  [/^(ENOTFOUND|EAI_AGAIN)$/, 'the host is not known; mend the URL'],
  [/^(LOST|ECONN|EPIPE|ETIMEDOUT|EHOST|ENET|08)/, 'the connection to the server is lost'],
  [/^57P0/, 'the server ended the session, or is starting or stopping; try again'],
  [/^25P03$/, 'a transaction body kept the store waiting for too long'],
  [/^28/, 'the server does not let this user in; mend user or password in the URL, or pg_hba.conf'],
  [/^3D000$/, 'there is no such database; make it with CREATE DATABASE'],
  [/^42501$/, 'the user may not do this; grant it CREATE on the database, or own the schema'],
  [/^(42P07|42710|42703|42P01|3F000)$/, 'the schema does not hold the tables of a store; give one of its own'],
  [/^53100$/, 'the disk of the server is full; free some space and try again, nothing was written'],
  [/^53300$/, 'the server has no connection left; raise max_connections'],
  [/^25006$/, 'the server is a standby, or read-only; give the URL of the primary'],
  [/^57014$/, 'a statement took too long and was cancelled; nothing was written'],
  [/^(54|22|0A)/, 'a value is over what the server can hold (1 GB)'],
  [/^(58|XX)/, 'the disk or the files of the server failed; look into its log'],
];

interface ServerError extends Error {
  readonly severity: string;
}

function isServerError(error: unknown): error is ServerError {
  return error instanceof Error && typeof (error as Partial<ServerError>).severity === 'string';
}
