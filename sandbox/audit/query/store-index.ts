/**
 * The index of a log in a store: on SQLite beside the log, on PostgreSQL, or in memory.
 *
 * Rows of collection `audit-index`:
 *
 * | key | content |
 * |---|---|
 * | `head` | JSON: version, generation, how many runs of which width are stored, and the root hash of the log at their end |
 * | `<generation>/<run>/<column>` | a column of run 0, 1, 2 …, each of `width` records (`run.ts`) |
 *
 * A run and the head that counts it are one transaction, and a stored run never changes, so a crash costs the run that was being
 * made, and any number of processes may use and update one index. The records after the last whole run are in memory alone: they are
 * read again by whoever opens the index. A new generation begins when the log is found not to extend what was indexed.
 * @module
 */
import { CloisterError, isCloisterError } from '../../../src/base/errors.ts';
import { decodeUtf8, encodeUtf8, equalBytes, fromHex, toHex } from '../../../src/base/index.ts';
import * as z from '../../../src/base/zod.ts';
import type { Store, Transaction } from '../../../src/store/store.ts';
import type { RecordFilter } from '../filter.ts';
import { decodeRecordAt } from '../read.ts';
import type { AuditRecord } from '../record.ts';
import { budgetsOf, histogramOf, valuesOf } from './aggregates.ts';
import type { BurnDown, Histogram, LogIndex, LogSource, UpdateOptions, ValueCount, ValueKey } from './log-index.ts';
import {
  type Column,
  columnsOf,
  decodeNumbers,
  encodeRun,
  NUMBER_COLUMNS,
  type NumberColumn,
  type Run,
  type Scan,
  selected,
  TERM_COLUMNS,
  type Visit,
} from './run.ts';
import { RUN_RECORDS, TermTable } from './term-table.ts';

/**
 * Opens the index that `store` holds; it is empty in a new store. Close the index before the store.
 *
 * @throws {CloisterError} `STORE_FAILED` when a newer version made it, or the medium fails.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit');
 * const object = { kind: 'model', id: 'digits' } as const;
 * await log.append({ actor: 'ward-3', action: 'load', object, decision: { outcome: 'allow' } });
 * await log.checkpoint();
 * await using store = memoryStore();
 * await using index = await openLogIndex(store);
 * await index.update(openLogSource('./cloister-data/audit')); // 1
 * const found = await index.seqs(parseFilter('actor:ward-3', Date.now()));
 * [...found]; // [0]
 * ```
 */
export async function openLogIndex(store: Store): Promise<LogIndex> {
  return openStoreIndex(store, RUN_RECORDS);
}

/** {@link openLogIndex} with runs of another width where the store holds none yet; at most {@link RUN_RECORDS}. */
export async function openStoreIndex(store: Store, width: number): Promise<LogIndex> {
  const { head } = await store.transaction(tx => readHead(tx, width));
  return new StoreIndex(store, head);
}

const COLLECTION = 'audit-index';
const HEAD = 'head';
const VERSION = 1;
/** Runs whose columns are read in one transaction. */
const WINDOW_RUNS = 16;
/** Columns that are kept in memory, those that were used last. */
const CACHE_BYTES = 256 * 2 ** 20;

interface Head {
  readonly version: typeof VERSION;
  readonly generation: number;
  /** Records in a run. */
  readonly width: number;
  /** How many are stored. */
  readonly runs: number;
  /** Root hash of the log at the end of the last run, hexadecimal; empty before the first. */
  readonly root: string;
}

const headSchema: z.ZodType<Head> = z.strictObject({
  version: z.literal(VERSION),
  generation: z.number().int().min(0),
  width: z.number().int().min(1).max(RUN_RECORDS),
  runs: z.number().int().min(0),
  root: z.string().regex(/^([0-9a-f]{64})?$/),
});

/** What an index answers from: never changed, only replaced. */
interface Snapshot {
  readonly head: Head;
  readonly tail: readonly AuditRecord[];
  /** Root of the log at the end of the tail. */
  readonly root: Uint8Array;
  /** The columns of the tail, once somebody asked. */
  columns?: ReadonlyMap<Column, Uint8Array>;
}

class StoreIndex implements LogIndex {
  readonly name: string;
  readonly #store: Store;
  readonly #cache = new ColumnCache();
  #now: Snapshot;
  #updated: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(store: Store, head: Head) {
    this.name = store.name;
    this.#store = store;
    this.#now = { head, tail: [], root: fromHex(head.root) };
  }

  get size(): number {
    return sizeOf(this.#now);
  }

  async update(source: LogSource, options: UpdateOptions = {}): Promise<number> {
    this.#assertOpen();
    // One at a time; what went wrong in one is no reason not to try the next.
    const update = this.#updated.then(() => this.#update(source, options));
    this.#updated = update.catch(() => undefined);
    return update;
  }

  async seqs(filter: RecordFilter): Promise<Uint32Array> {
    checkFilter(filter);
    const found: { readonly first: number; readonly mask: Uint8Array }[] = [];
    let count = 0;
    await this.#scan()(columnsOf(filter), async run => {
      const mask = await selected(run, filter);
      if (mask === undefined) return true;
      found.push({ first: run.first, mask });
      for (let i = 0; i < mask.length; i++) count += mask[i]!;
      return true;
    });
    const seqs = new Uint32Array(count);
    let at = 0;
    for (const { first, mask } of found)
      for (let i = 0; i < mask.length; i++) if (mask[i] === 1) seqs[at++] = first + i;
    return seqs;
  }

  async histogram(filter: RecordFilter, buckets: number): Promise<Histogram> {
    checkFilter(filter);
    checkCount('buckets', buckets, 1, 10_000);
    return histogramOf(this.#scan(), filter, buckets);
  }

  async budgets(limitPoints = 1000): Promise<readonly BurnDown[]> {
    checkCount('limitPoints', limitPoints, 2, 1_000_000);
    return budgetsOf(this.#scan(), limitPoints);
  }

  async values(key: ValueKey, prefix: string, limit: number): Promise<readonly ValueCount[]> {
    if (!VALUE_KEYS.includes(key))
      throw new CloisterError('INVALID_ARGUMENT', `key: expected one of ${VALUE_KEYS.join(', ')}, got ${String(key)}`);
    checkCount('limit', limit, 1, 10_000);
    return valuesOf(this.#scan('newest first'), key, prefix, limit);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#updated;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #update(source: LogSource, options: UpdateOptions): Promise<number> {
    for (;;) {
      this.#assertOpen();
      this.#now = await this.#basis(source);
      try {
        await this.#extend(source, options);
        return this.size;
      } catch (error) {
        // Another process has stored the same run first, or begun a new generation: go on from what it left.
        if (!isCloisterError(error, 'STORE_CONFLICT')) throw error;
      }
    }
  }

  /** As much of what is indexed as `source` extends. */
  async #basis(source: LogSource): Promise<Snapshot> {
    const extendsTo = async (size: number, root: Uint8Array): Promise<boolean> =>
      size === 0 || (size <= source.size && equalBytes(await source.rootAt(size), root));
    const { head } = await this.#store.transaction(tx => readHead(tx, this.#now.head.width));
    if (!(await extendsTo(head.width * head.runs, fromHex(head.root)))) return this.#restart(head);
    const now = this.#now;
    const same = now.head.generation === head.generation && now.head.runs === head.runs;
    if (same && (await extendsTo(sizeOf(now), now.root))) return now;
    return { head, tail: [], root: fromHex(head.root) };
  }

  /** Forgets everything, and begins a new generation. */
  async #restart(found: Head): Promise<Snapshot> {
    const head: Head = { ...found, generation: found.generation + 1, runs: 0, root: '' };
    await this.#store.transaction(async tx => {
      const { head: stored, revision } = await readHead(tx, found.width);
      if (stored.generation !== found.generation || stored.runs !== found.runs) return;
      await tx.put(COLLECTION, HEAD, encodeUtf8(JSON.stringify(head)), revision);
      for (let run = 0; run < stored.runs; run++)
        for (const column of COLUMNS) await tx.remove(COLLECTION, keyOf(stored, run, column), 1);
    });
    return { head, tail: [], root: new Uint8Array(0) };
  }

  async #extend(source: LogSource, { onProgress, signal }: UpdateOptions): Promise<void> {
    const total = source.size;
    const before = this.#now;
    if (sizeOf(before) === total) return;
    let { head } = before;
    let records = [...before.tail];
    for await (const leaf of source.leaves(sizeOf(before), total)) {
      if (signal?.aborted) throw new CloisterError('ABORTED', 'the update of the index was cancelled');
      const index = head.width * head.runs + records.length;
      records.push(decodeRecordAt(leaf, index));
      if (records.length < head.width) continue;
      head = await this.#storeRun(head, records, await source.rootAt(index + 1));
      records = [];
      this.#now = { head, tail: [], root: fromHex(head.root) };
      onProgress?.(index + 1, total);
    }
    const size = head.width * head.runs + records.length;
    if (size !== total) {
      const message = `the log ends after ${size} records, its checkpoint covers ${total}`;
      throw new CloisterError('AUDIT_INVALID', message, { kind: 'missing', index: size });
    }
    this.#now = { head, tail: records, root: await source.rootAt(total) };
    onProgress?.(total, total);
  }

  async #storeRun(known: Head, records: readonly AuditRecord[], root: Uint8Array): Promise<Head> {
    const columns = encodeRun(records);
    const head: Head = { ...known, runs: known.runs + 1, root: toHex(root) };
    await this.#store.transaction(async tx => {
      const { head: stored, revision } = await readHead(tx, known.width);
      assertSame(stored.generation === known.generation && stored.runs === known.runs);
      await tx.put(COLLECTION, HEAD, encodeUtf8(JSON.stringify(head)), revision);
      for (const column of COLUMNS) await tx.put(COLLECTION, keyOf(known, known.runs, column), columns.get(column)!, 0);
    });
    return head;
  }

  /** What calls a visitor with each run that is indexed now, as long as it wants more. It may look at the named columns alone. */
  #scan(order: 'oldest first' | 'newest first' = 'oldest first'): Scan {
    this.#assertOpen();
    const now = this.#now;
    const stored = Array.from({ length: now.head.runs }, (_, run) => run);
    const tail = async (visit: Visit): Promise<boolean> => now.tail.length === 0 || visit(tailRun(now));
    const windows = async (runs: readonly number[], columns: readonly Column[], visit: Visit): Promise<boolean> => {
      for (let done = 0; done < runs.length; done += WINDOW_RUNS)
        if (!(await this.#window(now.head, runs.slice(done, done + WINDOW_RUNS), columns, visit))) return false;
      return true;
    };
    if (order === 'oldest first')
      return async (columns, visit) => void ((await windows(stored, columns, visit)) && (await tail(visit)));
    return async (columns, visit) => void ((await tail(visit)) && (await windows(stored.reverse(), columns, visit)));
  }

  /** Visits some stored runs, in one transaction unless everything is in memory. Returns whether `visit` wants more. */
  async #window(head: Head, runs: readonly number[], columns: readonly Column[], visit: Visit): Promise<boolean> {
    const all = async (tx: Transaction | undefined): Promise<boolean> => {
      for (const run of runs) if (!(await visit(this.#run(head, run, tx)))) return false;
      return true;
    };
    if (runs.every(run => columns.every(column => this.#cache.has(keyOf(head, run, column))))) return all(undefined);
    return this.#store.transaction(async tx => {
      assertSame((await readHead(tx, head.width)).head.generation === head.generation);
      return all(tx);
    });
  }

  #run(head: Head, run: number, tx: Transaction | undefined): Run {
    const read = async <T extends TermTable | Float64Array>(
      column: Column,
      decode: (bytes: Uint8Array) => T,
    ): Promise<T> => {
      const key = keyOf(head, run, column);
      const known = this.#cache.get(key);
      if (known !== undefined) return known as T;
      const row = await (tx ? tx.get(COLLECTION, key) : this.#store.transaction(own => own.get(COLLECTION, key)));
      if (row === undefined)
        throw new CloisterError('STORE_FAILED', `the index of the log lacks ${key}; delete it, it is made anew`);
      const value = decode(row.value);
      this.#cache.set(key, value, row.value.length);
      return value;
    };
    return {
      first: head.width * run,
      records: head.width,
      terms: column => read(column, bytes => new TermTable(bytes, head.width)),
      numbers: column => read(column, bytes => decodeNumbers(bytes, column, head.width)),
    };
  }

  #assertOpen(): void {
    if (this.#closed) throw new CloisterError('CLOSED', 'the index is closed');
  }
}

const COLUMNS: readonly Column[] = [...TERM_COLUMNS, ...(Object.keys(NUMBER_COLUMNS) as NumberColumn[])];

const VALUE_KEYS: readonly ValueKey[] = ['actor', 'action', 'decision', 'object', 'scope', 'request', 'model'];

/** Columns in memory, least recently used first. */
class ColumnCache {
  readonly #columns = new Map<string, { readonly value: TermTable | Float64Array; readonly bytes: number }>();
  #bytes = 0;

  has(key: string): boolean {
    return this.#columns.has(key);
  }

  get(key: string): TermTable | Float64Array | undefined {
    const column = this.#columns.get(key);
    if (column === undefined) return undefined;
    this.#columns.delete(key);
    this.#columns.set(key, column);
    return column.value;
  }

  set(key: string, value: TermTable | Float64Array, bytes: number): void {
    if (!this.#columns.has(key)) this.#bytes += bytes;
    this.#columns.set(key, { value, bytes });
    for (const [oldest, column] of this.#columns) {
      if (this.#bytes <= CACHE_BYTES) break;
      this.#columns.delete(oldest);
      this.#bytes -= column.bytes;
    }
  }
}

function sizeOf({ head, tail }: Snapshot): number {
  return head.width * head.runs + tail.length;
}

/** The records after the last whole run, as a run. */
function tailRun(now: Snapshot): Run {
  const { head, tail } = now;
  const column = (name: Column): Uint8Array => {
    now.columns ??= encodeRun(tail);
    return now.columns.get(name)!;
  };
  return {
    first: head.width * head.runs,
    records: tail.length,
    terms: async name => new TermTable(column(name), tail.length),
    numbers: async name => decodeNumbers(column(name), name, tail.length),
  };
}

function keyOf({ generation }: Head, run: number, column: Column): string {
  return `${generation}/${run}/${column}`;
}

async function readHead(tx: Transaction, width: number): Promise<{ readonly head: Head; readonly revision: number }> {
  const row = await tx.get(COLLECTION, HEAD);
  if (row === undefined) return { head: { version: VERSION, generation: 0, width, runs: 0, root: '' }, revision: 0 };
  try {
    return { head: headSchema.parse(JSON.parse(decodeUtf8(row.value))), revision: row.revision };
  } catch (cause) {
    const message = 'the index of the log is damaged, or a newer version made it; delete it, it is made anew';
    throw new CloisterError('STORE_FAILED', message, {}, { cause });
  }
}

function assertSame(same: boolean): void {
  if (!same)
    throw new CloisterError(
      'STORE_CONFLICT',
      'another process has changed the index meanwhile: update it, and ask again',
    );
}

function checkFilter(filter: RecordFilter): void {
  const bad = filter.terms.find(term => !term.value.isWellFormed());
  if (bad)
    throw new CloisterError('INVALID_ARGUMENT', `a filter has a value for ${bad.key} that is not well-formed text`);
}

function checkCount(what: string, value: number, least: number, most: number): void {
  if (!Number.isInteger(value) || value < least || value > most)
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `${what}: expected a whole number from ${least} to ${most}, got ${value}`,
    );
}
