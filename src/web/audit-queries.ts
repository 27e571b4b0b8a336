/**
 * Which records a filter asks for: questions of the review page to the query index of a log.
 * @module
 */
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type AuditRecord,
  CSV_HEADER,
  csvRow,
  jsonLine,
  type LogIndex,
  openLogIndex,
  openLogSource,
  openProver,
  type Prover,
  parseFilter,
  type RecordFilter,
  readRecords,
  toOcsf,
  type ValueKey,
} from '../../sandbox/audit/index.ts';
import { CloisterError } from '../base/index.ts';
import { memoryStore, openSqliteStore, type Store } from '../store/index.ts';

/** What a question is answered with: a body, or lines that are made as they are sent. */
export interface Answer {
  readonly body?: string | Uint8Array | undefined;
  readonly lines?: AsyncIterable<string> | undefined;
  readonly type?: string;
  readonly immutable?: boolean;
  /** Name under which a browser should keep it. */
  readonly file?: string;
}

/** The open index of a log. */
export interface AuditQueries {
  /** Where checkpoint and tiles lie. */
  readonly logDirectory: string;
  /** How far the index is; never waits. */
  status(): Answer;
  seqs(asked: URLSearchParams): Promise<Answer>;
  histogram(asked: URLSearchParams): Promise<Answer>;
  budgets(): Promise<Answer>;
  values(asked: URLSearchParams): Promise<Answer>;
  export(asked: URLSearchParams): Promise<Answer>;
  ready(): Promise<number>;
  close(): Promise<void>;
}

/**
 * Opens the index of the log in `dir`, and begins to catch up with the log.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no log.
 */
export async function openQueries(dir: string): Promise<AuditQueries> {
  const logDirectory = [join(dir, 'audit'), dir].find(place => existsSync(join(place, 'vkey')));
  if (logDirectory === undefined)
    throw new CloisterError('INVALID_ARGUMENT', `there is no audit log in ${dir}`, { dir });
  const store = await openIndexStore(join(logDirectory, 'index.sqlite'));
  const index = await openLogIndex(store);
  const stop = new AbortController();
  let progress = { done: index.size, total: 0 };
  let seen = ''; // the checkpoint that the index was brought to
  let updating: Promise<void> | undefined;

  const update = async (): Promise<void> => {
    const { mtimeMs, size, ino } = await stat(join(logDirectory, 'checkpoint'));
    const version = `${ino} ${mtimeMs} ${size}`;
    if (version === seen) return;
    const onProgress = (done: number, total: number) => {
      progress = { done, total };
    };
    const indexed = await index.update(openLogSource(logDirectory), { onProgress, signal: stop.signal });
    progress = { done: indexed, total: indexed };
    seen = version;
  };
  /** The index, as new as the checkpoint. Whoever asks meanwhile waits for the same update. */
  const current = async (): Promise<LogIndex> => {
    updating ??= update().finally(() => {
      updating = undefined;
    });
    await updating;
    return index;
  };
  current().catch(() => {}); // whoever asks is told

  return {
    logDirectory,
    status: () => json({ indexed: progress.done, total: progress.total, busy: updating !== undefined }),
    async seqs(asked) {
      const filter = filterOf(asked);
      const seqs = await (await current()).seqs(filter);
      return { body: new Uint8Array(seqs.buffer, seqs.byteOffset, seqs.byteLength), type: 'application/octet-stream' };
    },
    async histogram(asked) {
      const filter = filterOf(asked);
      return json(await (await current()).histogram(filter, countOf(asked, 'buckets', 120, 2000)));
    },
    async budgets() {
      return json(await (await current()).budgets(POINTS));
    },
    async values(asked) {
      const key = asked.get('key') ?? '';
      const known = VALUE_KEYS.find(one => one === key);
      if (known === undefined)
        throw new CloisterError('INVALID_ARGUMENT', `key: expected one of ${VALUE_KEYS.join(', ')}`);
      return json(await (await current()).values(known, (asked.get('prefix') ?? '').slice(0, 512), 12));
    },
    async export(asked) {
      const format = FORMATS[asked.get('format') ?? 'jsonl'];
      if (format === undefined)
        throw new CloisterError('INVALID_ARGUMENT', `format: expected one of ${Object.keys(FORMATS).join(', ')}`);
      const { line, ...answer } = format;
      return { ...answer, lines: exportLines(logDirectory, filterOf(asked), line, asked.get('format') === 'csv') };
    },
    async ready() {
      return (await current()).size;
    },
    async close() {
      stop.abort();
      await updating?.catch(() => {});
      await index.close();
      await store.close();
    },
  };
}

/** Points of a scope's burn-down: more than a screen has columns. */
const POINTS = 4000;
const JSONL = 'application/jsonl; charset=utf-8';
const VALUE_KEYS: readonly ValueKey[] = ['actor', 'action', 'decision', 'object', 'scope', 'request', 'model'];

/** Beside the log, for the next time; a directory that cannot be written to gets an index for this time. */
async function openIndexStore(file: string): Promise<Store> {
  try {
    return await openSqliteStore({ path: file });
  } catch {
    return memoryStore();
  }
}

/** The records under the checkpoint that a filter asks for, one line for each. */
async function* exportLines(
  directory: string,
  filter: RecordFilter,
  line: (record: AuditRecord, prover: Prover) => string,
  header: boolean,
): AsyncGenerator<string, void, undefined> {
  using prover = openProver(directory);
  if (header) yield CSV_HEADER;
  for await (const record of readRecords(directory, { filter })) {
    if (record.seq >= prover.checkpoint.size) return;
    yield line(record, prover);
  }
}

/** The forms of an export, and the names under which a browser keeps them. */
const FORMATS: Readonly<
  Record<string, Pick<Answer, 'type' | 'file'> & { line(record: AuditRecord, prover: Prover): string }>
> = {
  jsonl: { type: JSONL, file: 'audit.jsonl', line: jsonLine },
  csv: { type: 'text/csv; charset=utf-8', file: 'audit.csv', line: csvRow },
  ocsf: {
    type: JSONL,
    file: 'audit-ocsf.jsonl',
    line: (record, { checkpoint }) => jsonLine(toOcsf(record, checkpoint.origin)),
  },
  bundles: { type: JSONL, file: 'audit-proofs.jsonl', line: (record, prover) => jsonLine(prover.prove(record)) },
};

function filterOf(asked: URLSearchParams): RecordFilter {
  const now = asked.get('now');
  const time = now === null ? Date.now() : Number(now);
  if (!Number.isSafeInteger(time)) throw new CloisterError('INVALID_ARGUMENT', 'now: expected milliseconds since 1970');
  return parseFilter(asked.get('filter') ?? '', time);
}

function countOf(asked: URLSearchParams, name: string, fallback: number, most: number): number {
  const text = asked.get(name);
  const count = text === null ? fallback : Number(text);
  if (!Number.isInteger(count) || count < 1 || count > most)
    throw new CloisterError('INVALID_ARGUMENT', `${name}: expected a whole number from 1 to ${most}`);
  return count;
}

function json(value: unknown): Answer {
  return { body: JSON.stringify(value), type: 'application/json' };
}
