/**
 * The discipline of a store whose medium has one writer: a queue, one body at a time, several bodies to a commit. What a
 * medium must know of transactions is thereby written once.
 * @module
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { setImmediate } from 'node:timers/promises';

import { CloisterError, isCloisterError } from '../base/index.ts';
import type { Entry, Row, Store, Transaction } from './store.ts';

/** What a medium has at hand, or must wait for. */
export type Awaitable<T> = T | Promise<T>;

/**
 * Where a {@link SerialStore} keeps its state. A group is what is committed at once; a member is one transaction's part of it.
 * Operations of one member may overlap where they wait: they take effect in the order in which they were called, and a value
 * that is written is taken over at the call.
 */
export interface Medium {
  readonly name: string;
  readonly durable: boolean;
  /** Opens a group, alone among all processes, or throws `LOCKED` once `deadline` (by `performance.now()`) has passed. */
  begin(deadline: number): Promise<void>;
  /** Opens a member of the group. */
  beginMember(): void;
  keepMember(): void;
  dropMember(): void;
  /** Whether the group still stands: a medium may give it up by itself when it fails. */
  standing(): boolean;
  /** Makes the group durable, or throws and leaves nothing of it. */
  commit(): Awaitable<void>;
  get(collection: string, key: string): Awaitable<Row | undefined>;
  list(collection: string, prefix: string): Awaitable<(Row & { readonly key: string })[]>;
  /** The revision that the row had, 0 without one; the row is written if it is the expected one. */
  put(collection: string, key: string, value: Uint8Array, expected: number): Awaitable<number>;
  /** The revision that the row had, undefined without one; the row is removed if it is the expected one. */
  remove(collection: string, key: string, expected: number): Awaitable<number | undefined>;
  append(stream: string, value: Uint8Array): Awaitable<number>;
  read(stream: string, from: number, limit: number): Awaitable<Entry[]>;
  close(): Awaitable<void>;
}

/** Members of one group, at most: what a crash can take at once, and how long the first waits for the last. */
const GROUP_SIZE = 64;
const GROUP_MS = 10;
const NAME_LENGTH = 1024;
const GIVEN_UP = { message: 'the store gave up a group of transactions', detail: {} };

interface Job {
  readonly body: (tx: Transaction) => Promise<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly deadline: number;
}

/** A {@link Store} over a {@link Medium}. */
export class SerialStore implements Store {
  readonly name: string;
  readonly durable: boolean;
  readonly #medium: Medium;
  readonly #lockWaitMs: number;
  readonly #queue: Job[] = [];
  readonly #inside = new AsyncLocalStorage<SerialTransaction>();
  #drained: Promise<void> | undefined;
  #closed: Promise<void> | undefined;

  constructor(medium: Medium, lockWaitMs: number) {
    this.name = medium.name;
    this.durable = medium.durable;
    this.#medium = medium;
    this.#lockWaitMs = lockWaitMs;
  }

  async transaction<T>(body: (tx: Transaction) => Promise<T>): Promise<T> {
    this.#refuseInside('a transaction');
    if (this.#closed) throw new CloisterError('CLOSED', 'the store is closed');
    return new Promise<T>((resolve, reject) => {
      const deadline = performance.now() + this.#lockWaitMs;
      this.#queue.push({ body, resolve: resolve as (value: unknown) => void, reject, deadline });
      this.#drained ??= this.#drain();
    });
  }

  async close(): Promise<void> {
    this.#refuseInside('the end of the store');
    this.#closed ??= (async () => {
      await this.#drained;
      await this.#medium.close();
    })();
    await this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #refuseInside(what: string): void {
    if (this.#inside.getStore()?.open) {
      throw new CloisterError('INVALID_ARGUMENT', `a transaction body must not wait for ${what} of its own store`);
    }
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      // One turn of the event loop for each group: a caller in a loop starves nobody, and callers of one turn share a commit.
      await setImmediate();
      await this.#group();
    }
    this.#drained = undefined;
  }

  async #group(): Promise<void> {
    const medium = this.#medium;
    try {
      await medium.begin(this.#queue[0]!.deadline);
    } catch (error) {
      this.#queue.shift()!.reject(error);
      return;
    }
    const start = performance.now();
    const kept: { job: Job; value: unknown }[] = [];
    const dropped: { job: Job; error: unknown }[] = [];
    let failure: unknown;
    for (let size = 0; size < GROUP_SIZE && performance.now() - start < GROUP_MS; size++) {
      const job = this.#queue.shift();
      if (!job) break;
      try {
        medium.beginMember();
        kept.push({ job, value: await this.#member(job) });
      } catch (error) {
        dropped.push({ job, error });
      }
      if (!medium.standing()) {
        failure = dropped.at(-1)?.error;
        break;
      }
    }
    try {
      if (!medium.standing()) throw failure;
      await medium.commit();
    } catch (cause) {
      const { message, detail } = isCloisterError(cause) ? cause : GIVEN_UP;
      const error = new CloisterError('STORE_FAILED', message, detail, { cause });
      for (const { job } of kept) job.reject(error);
      kept.length = 0;
    }
    for (const { job, value } of kept) job.resolve(value);
    // A refused body may have read what others of its group wrote, so it too is answered only now.
    for (const { job, error } of dropped) job.reject(error);
  }

  async #member(job: Job): Promise<unknown> {
    const tx = new SerialTransaction(this.#medium);
    try {
      const value = await this.#inside.run(tx, () => job.body(tx));
      await tx.end();
      this.#medium.keepMember();
      return value;
    } catch (error) {
      await tx.end().catch(() => undefined); // the body's own error counts
      if (this.#medium.standing()) this.#medium.dropMember();
      throw error;
    }
  }
}

class SerialTransaction implements Transaction {
  open = true;
  readonly #medium: Medium;
  /** Operations that wait for the medium. */
  readonly #waiting = new Set<Promise<unknown>>();
  #doom: { error: unknown } | undefined;

  constructor(medium: Medium) {
    this.#medium = medium;
  }

  /** Closes the handle, and lets finish what the body did not wait for; throws what doomed the transaction, if anything did. */
  async end(): Promise<void> {
    this.open = false;
    while (this.#waiting.size > 0) await Promise.allSettled(this.#waiting);
    if (this.#doom) throw this.#doom.error;
  }

  async get(collection: string, key: string): Promise<Row | undefined> {
    return this.#run([collection, key], () => this.#medium.get(collection, key));
  }

  async list(collection: string, prefix = ''): Promise<readonly (Row & { readonly key: string })[]> {
    return this.#run(prefix === '' ? [collection] : [collection, prefix], () => this.#medium.list(collection, prefix));
  }

  async put(collection: string, key: string, value: Uint8Array, expected: number): Promise<void> {
    return this.#run([collection, key], () => {
      checkCount('an expected revision', expected);
      checkBytes(value);
      return expectFound(collection, key, expected, this.#medium.put(collection, key, value, expected));
    });
  }

  async remove(collection: string, key: string, expected: number): Promise<void> {
    return this.#run([collection, key], () => {
      checkCount('an expected revision', expected);
      return expectFound(collection, key, expected, this.#medium.remove(collection, key, expected));
    });
  }

  async append(stream: string, value: Uint8Array): Promise<number> {
    return this.#run([stream], () => {
      checkBytes(value);
      return this.#medium.append(stream, value);
    });
  }

  async read(stream: string, from: number, limit: number): Promise<readonly Entry[]> {
    return this.#run([stream], () => {
      checkCount('a position', from);
      checkCount('a limit', limit);
      return this.#medium.read(stream, from, limit);
    });
  }

  #run<T>(names: readonly string[], operation: () => Awaitable<T>): Awaitable<T> {
    if (!this.open) throw new CloisterError('CLOSED', 'the transaction is over: its body has settled');
    try {
      if (this.#doom) throw this.#doom.error;
      for (const name of names) checkName(name);
      const result = operation();
      return result instanceof Promise ? this.#wait(result) : result;
    } catch (error) {
      this.#doom ??= { error };
      throw error;
    }
  }

  async #wait<T>(result: Promise<T>): Promise<T> {
    this.#waiting.add(result);
    try {
      return await result;
    } catch (error) {
      this.#doom ??= { error };
      throw error;
    } finally {
      this.#waiting.delete(result);
    }
  }
}

/** Throws unless a write found the revision that it expected. */
function expectFound(
  collection: string,
  key: string,
  expected: number,
  found: Awaitable<number | undefined>,
): Awaitable<void> {
  if (found instanceof Promise) return found.then(known => expectFound(collection, key, expected, known));
  if (found === expected) return;
  const message = `expected revision ${expected} of row '${key}' in '${collection}', found ${found ?? 0}`;
  throw new CloisterError('STORE_CONFLICT', message, { collection, key, expected, found: found ?? 0 });
}

function checkName(name: unknown): void {
  const good = typeof name === 'string' && name.length >= 1 && name.length <= NAME_LENGTH;
  if (!good || !name.isWellFormed() || name.includes('\0')) {
    const came = typeof name === 'string' ? `one of ${name.length} characters` : typeof name;
    const message = `a store name is a well-formed string of 1 to ${NAME_LENGTH} characters without U+0000, got ${came}`;
    throw new CloisterError('INVALID_ARGUMENT', message);
  }
}

function checkCount(what: string, value: unknown): void {
  if (!Number.isSafeInteger(value) || (value as number) < 0) {
    throw new CloisterError('INVALID_ARGUMENT', `${what} is an integer from 0 to 2^53-1, got ${String(value)}`);
  }
}

function checkBytes(value: unknown): void {
  if (!(value instanceof Uint8Array)) {
    throw new CloisterError('INVALID_ARGUMENT', `a stored value is a Uint8Array, got ${typeof value}`);
  }
}

/** Code-point order of two well-formed strings; UTF-16 order differs where a surrogate meets U+E000 to U+FFFF. */
export function compareCodePoints(a: string, b: string): number {
  for (let i = 0; i < a.length && i < b.length; i++) {
    if (a.charCodeAt(i) !== b.charCodeAt(i)) return a.codePointAt(i)! - b.codePointAt(i)!;
  }
  return a.length - b.length;
}
