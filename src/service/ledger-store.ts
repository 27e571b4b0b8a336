/**
 * Where the ledger of a cloister is kept: in its directory, or in a PostgreSQL database that several cloisters share. Which of the two
 * is settled when a directory is first used; `store.json` in it names the database, so that nobody begins a second ledger by mistake.
 * @module
 */
import { existsSync } from 'node:fs';
import { CloisterError, encodeUtf8 } from '../base/index.ts';
import * as z from '../base/zod.ts';
import type { PostgresOptions, Store } from '../store/index.ts';
import { type Anchor, anchorOf, paths } from './directory.ts';
import { readRegularFile } from './files.ts';

/** The environment variable with the URL of the database: it holds a password, which neither code nor command lines should. */
export const STORE_URL = 'CLOISTER_STORE_URL';

/** An open store for a ledger. */
export interface LedgerStore extends AsyncDisposable {
  readonly store: Store;
  /** Where it is, for messages. */
  readonly place: string;
  /** Where in it this cloister keeps the head of its log. */
  readonly anchor: Anchor;
}

interface StoreFile {
  readonly v: 1;
  /** Tells this cloister from others that share the database. */
  readonly id: string;
  readonly schema: string;
}

const storeFile: z.ZodType<StoreFile> = z.strictObject({
  v: z.literal(1),
  id: z.string().regex(/^[0-9a-f-]{36}$/),
  schema: z.string(),
});
const STORE_FILE_LIMIT_BYTES = 4096;

/**
 * Opens the store of the ledger of the cloister in `dir`, a directory that exists.
 *
 * @param options - Where it shall be; left out: where it is, or, in a new directory, where the environment says, or in a file.
 * @throws {CloisterError} `INVALID_ARGUMENT` when the ledger is elsewhere, or its URL is not given; what opening the store throws.
 */
export async function openLedgerStore(dir: string, options?: PostgresOptions): Promise<LedgerStore> {
  const { ledgerFile } = paths(dir);
  const known = await readStoreFile(dir);
  const url = options?.url ?? process.env[STORE_URL];
  if (options && existsSync(ledgerFile)) {
    const message = `${dir} keeps its ledger in ${ledgerFile}; another store would forget what was spent. Start a new directory`;
    throw new CloisterError('INVALID_ARGUMENT', message, { dir });
  }
  const { openPostgresStore, openSqliteStore } = await import('../store/index.ts');
  if (existsSync(ledgerFile) || (known === undefined && url === undefined)) {
    const store = await openSqliteStore({ path: ledgerFile });
    return opened(store, ledgerFile, anchorOf());
  }
  const schema = options?.schema ?? known?.schema ?? 'cloister';
  if (known && known.schema !== schema) {
    const message = `${dir} keeps its ledger in schema ${known.schema} of a PostgreSQL database, not in ${schema}`;
    throw new CloisterError('INVALID_ARGUMENT', message, { dir, schema: known.schema });
  }
  if (url === undefined) {
    const message = `${dir} keeps its ledger in schema ${schema} of a PostgreSQL database: give its URL in ${STORE_URL}`;
    throw new CloisterError('INVALID_ARGUMENT', message, { dir, schema });
  }
  const store = await openPostgresStore({ ...options, url, schema });
  const { id } = known ?? (await writeStoreFile(dir, schema));
  return opened(store, `in schema ${schema} of the PostgreSQL database`, anchorOf(id));
}

/** Whether the cloister in `dir` has a ledger that can be opened now: one in a database needs its URL. */
export function hasLedger(dir: string): boolean {
  const { ledgerFile, storeFile } = paths(dir);
  return existsSync(ledgerFile) || (existsSync(storeFile) && process.env[STORE_URL] !== undefined);
}

/**
 * {@link openLedgerStore} of a cloister that has a ledger; a missing one is not made.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is none.
 */
export async function openExistingStore(dir: string): Promise<LedgerStore> {
  const { ledgerFile, storeFile } = paths(dir);
  if (existsSync(ledgerFile) || existsSync(storeFile)) return openLedgerStore(dir);
  throw new CloisterError('INVALID_ARGUMENT', `there is no ledger in ${dir}`, { dir });
}

function opened(store: Store, place: string, anchor: Anchor): LedgerStore {
  return { store, place, anchor, [Symbol.asyncDispose]: () => store.close() };
}

async function readStoreFile(dir: string): Promise<StoreFile | undefined> {
  const { storeFile: file } = paths(dir);
  if (!existsSync(file)) return undefined;
  const bytes = await readRegularFile(file, STORE_FILE_LIMIT_BYTES);
  try {
    return storeFile.parse(JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes)));
  } catch (cause) {
    const message = `${file} is damaged: it says which database the ledger is in. Restore it from backup`;
    throw new CloisterError('STORE_FAILED', message, { file }, { cause });
  }
}

async function writeStoreFile(dir: string, schema: string): Promise<StoreFile> {
  const { nodeDirectory } = await import('../../sandbox/audit/directory.ts');
  const content: StoreFile = { v: 1, id: crypto.randomUUID(), schema };
  const made = nodeDirectory(dir, false).create('store.json', encodeUtf8(`${JSON.stringify(content)}\n`), 0o600);
  return made ? content : ((await readStoreFile(dir)) ?? content);
}
