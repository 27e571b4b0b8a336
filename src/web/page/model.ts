/**
 * What the page knows: the head of the log, what checking has found, the rows that are in view, and answers of the query index.
 * @module
 */
import type { BurnDown, Histogram, ValueCount, ValueKey } from '../../../sandbox/audit/query/log-index.ts';
import type { CheckedRecord, Failure, LogHead, WholeVerdict } from '../check/log-check.ts';
import type { Asked, Opened, Question, Questions, Told } from './messages.ts';
import { forget, give, knowledge, remember } from './pins.ts';

/** How far the check of all records is. */
export type Whole =
  | { readonly kind: 'not-checked' }
  | { readonly kind: 'running'; readonly done: number }
  | { readonly kind: 'done'; readonly verdict: WholeVerdict; readonly ms: number };

/** Logs of at most so many records are checked whole without being asked. */
const CHECKED_BY_ITSELF = 65_536;
/** Rows that are kept, those that were wanted last. */
const ROW_LIMIT = 8192;
/** Rows that are asked for at once. */
const BATCH = 96;
const POLL_MS = 2500;

/** The state of the page behind its components, which it tells of every change. */
export class Model {
  /** The head that is shown; undefined until the first look, and when there is none. */
  head: LogHead | undefined;
  /** What is wrong with the log as a whole. */
  failure: Failure | undefined;
  opened: Opened | undefined;
  /** A head that is newer than the one that is shown. */
  newer: LogHead | undefined;
  whole: Whole = { kind: 'not-checked' };
  /** What is wrong between this page and its server. */
  trouble: string | undefined;

  readonly #worker: Worker;
  readonly #waiting = new Map<
    number,
    { resolve(answer: never): void; reject(error: Error): void; told?(done: number): void }
  >();
  readonly #listeners = new Set<() => void>();
  readonly #rows = new Map<number, CheckedRecord>();
  #wanted: readonly number[] = [];
  #fetching = false;
  #nextId = 0;

  constructor(worker: Worker) {
    this.#worker = worker;
    worker.addEventListener('message', ({ data }: MessageEvent<Told>) => this.#told(data));
    worker.addEventListener('error', () =>
      this.#changed(() => (this.trouble = 'the checking part of this page has failed')),
    );
  }

  /** Calls `listener` after every change, until the returned function is called. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Looks at the checkpoint, and goes on looking while the page is in view. */
  async start(): Promise<void> {
    await this.look();
    if (this.head !== undefined && this.failure === undefined && this.head.size <= CHECKED_BY_ITSELF)
      void this.checkAll();
    setInterval(() => {
      if (document.visibilityState === 'visible' && this.whole.kind !== 'running') void this.look();
    }, POLL_MS);
  }

  /**
   * Looks at the checkpoint as it is now. A head of another size than the one that is shown waits in `newer`, unless nothing is shown yet.
   *
   * @param anew - Whether to judge key and history by what is known now, and not by what was known when the visit began.
   */
  async look(anew = false): Promise<void> {
    try {
      const opened = await this.#ask('open', { base: document.baseURI, knowledge: knowledge() });
      const { head, failure } = opened;
      if (failure === undefined && head !== undefined) remember(head);
      this.#changed(() => {
        this.trouble = undefined;
        this.opened = opened;
        this.failure = failure;
        if (head === undefined) return;
        // What this visit itself has seen is no reason to call a key or a history known.
        const { keyKnown, extends: last } = anew ? head : (this.head ?? head);
        const found = { ...head, keyKnown, extends: last };
        if (this.head === undefined || failure !== undefined || head.size === this.head.size) this.head = found;
        else this.newer = found;
      });
    } catch (error) {
      this.#changed(() => (this.trouble = messageOf(error)));
    }
  }

  /** Shows the newest head. */
  adopt(): void {
    const { newer } = this;
    if (newer === undefined) return;
    this.#changed(() => {
      this.head = newer;
      this.newer = undefined;
      if (this.whole.kind === 'done') this.whole = { kind: 'not-checked' };
    });
    if (newer.size <= CHECKED_BY_ITSELF) void this.checkAll();
  }

  /** Reads and checks every record. */
  async checkAll(): Promise<void> {
    if (this.whole.kind === 'running' || this.opened?.checkable !== true) return;
    const from = performance.now();
    this.#changed(() => (this.whole = { kind: 'running', done: 0 }));
    try {
      const verdict = await this.#ask('checkAll', {}, done => {
        this.#changed(() => (this.whole = { kind: 'running', done }));
      });
      this.#changed(() => (this.whole = { kind: 'done', verdict, ms: performance.now() - from }));
    } catch (error) {
      this.#changed(() => {
        this.whole = { kind: 'not-checked' };
        this.trouble = messageOf(error);
      });
    }
  }

  /** Takes a key or a checkpoint that the auditor kept, and looks again under it. */
  async give(text: string): Promise<string> {
    const taken = give(text, this.head === undefined ? [] : [this.head.vkey, this.head.signer]);
    await this.look(true);
    return taken;
  }

  /** Forgets what is known of the log that is shown, and looks again as if for the first time. */
  async forget(): Promise<void> {
    if (this.head !== undefined) forget(this.head.origin);
    await this.look(true);
  }

  /** A row that is there already. */
  row(seq: number): CheckedRecord | undefined {
    return this.#rows.get(seq);
  }

  /** Says which rows are in view now; what was in view before and is not there yet is given up. */
  want(seqs: readonly number[]): void {
    this.#wanted = seqs;
    void this.#fetchRows();
  }

  /** The audit path of a record, base64, lowest first. */
  async proof(seq: number): Promise<readonly string[]> {
    return await this.#ask('proof', { seq });
  }

  /** Which records a filter asks for, ascending. */
  async seqs(filter: string, now: number, signal: AbortSignal): Promise<Uint32Array> {
    const response = await this.#api('seqs', { filter, now: String(now) }, signal);
    return new Uint32Array(await response.arrayBuffer());
  }

  async histogram(filter: string, now: number, buckets: number, signal: AbortSignal): Promise<Histogram> {
    const asked = { filter, now: String(now), buckets: String(buckets) };
    return (await (await this.#api('histogram', asked, signal)).json()) as Histogram;
  }

  async budgets(signal: AbortSignal): Promise<readonly BurnDown[]> {
    return await (await this.#api('budgets', {}, signal)).json();
  }

  async values(key: ValueKey, prefix: string, signal: AbortSignal): Promise<readonly ValueCount[]> {
    return await (await this.#api('values', { key, prefix }, signal)).json();
  }

  /** How many records the query index has, of how many. */
  async indexed(signal: AbortSignal): Promise<{ indexed: number; total: number; busy: boolean }> {
    return await (await this.#api('status', {}, signal)).json();
  }

  async #api(name: string, asked: Readonly<Record<string, string>>, signal: AbortSignal): Promise<Response> {
    const response = await fetch(`api/${name}?${new URLSearchParams(asked)}`, { signal, cache: 'no-store' });
    if (response.ok) return response;
    if (response.status === 401) throw new Error('the session has ended; start `cloister audit serve` again');
    const told = (await response.json().catch(() => undefined)) as { error?: { message?: string } } | undefined;
    throw new Error(told?.error?.message ?? `the server answers ${response.status}`);
  }

  async #fetchRows(): Promise<void> {
    if (this.#fetching || this.opened?.checkable !== true) return;
    this.#fetching = true;
    try {
      for (;;) {
        const missing = this.#wanted.filter(seq => !this.#rows.has(seq)).slice(0, BATCH);
        if (missing.length === 0) return;
        const rows = await this.#ask('rows', { seqs: missing });
        this.#changed(() => {
          for (const row of rows) this.#rows.set(row.seq, row);
          for (const seq of this.#rows.keys()) {
            if (this.#rows.size <= ROW_LIMIT) break;
            this.#rows.delete(seq);
          }
        });
      }
    } catch (error) {
      this.#changed(() => (this.trouble = messageOf(error)));
    } finally {
      this.#fetching = false;
    }
  }

  #ask<Q extends Question>(
    question: Q,
    ask: Questions[Q]['ask'],
    told?: (done: number) => void,
  ): Promise<Questions[Q]['answer']> {
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, ...(told && { told }) });
      this.#worker.postMessage({ id, question, ask } as Asked);
    });
  }

  #told(told: Told): void {
    const waiting = this.#waiting.get(told.id);
    if ('done' in told) {
      waiting?.told?.(told.done);
      return;
    }
    this.#waiting.delete(told.id);
    if ('error' in told) waiting?.reject(new Error(told.error));
    else waiting?.resolve(told.answer as never);
  }

  #changed(change: () => void): void {
    change();
    for (const listener of this.#listeners) listener();
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
