/**
 * The discipline of a store whose medium has one writer: a queue, one body at a time, several bodies to a commit. What a
 * medium must know of transactions is thereby written once.
 * @module
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { setImmediate } from 'node:timers/promises';

import { CloisterError, isCloisterError } from '../base/index.ts';
import type { Entry, Row, Store, Transaction } from './store.ts';

/**
 * Where a {@link SerialStore} keeps its state. All but `begin` are synchronous, so nothing can slip between two statements of
 * one operation. A group is what is committed at once; a member is one transaction's part of it.
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
  commit(): void;
  get(collection: string, key: string): Row | undefined;
  list(collection: string, prefix: string): (Row & { readonly key: string })[];
  /** Whether the row had the expected revision, and so was written. */
  put(collection: string, key: string, value: Uint8Array, expected: number): boolean;
  /** Whether the row had the expected revision, and so was removed. */
  remove(collection: string, key: string, expected: number): boolean;
  append(stream: string, value: Uint8Array): number;
  read(stream: string, from: number, limit: number): Entry[];
  close(): void;
}

/** Members of one group, at most: what a crash can take at once, and how long the first waits for the last. */
const GROUP_SIZE = 64;
const GROUP_MS = 10;
const NAME_LENGTH = 1024;

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
      this.#medium.close();
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
      medium.commit();
    } catch (cause) {
      const message = isCloisterError(cause) ? cause.message : 'the store gave up a group of transactions';
      const error = new CloisterError('STORE_FAILED', message, {}, { cause });
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
      tx.end();
      this.#medium.keepMember();
      return value;
    } catch (error) {
      tx.open = false;
      if (this.#medium.standing()) this.#medium.dropMember();
      throw error;
    }
  }
}

class SerialTransaction implements Transaction {
  open = true;
  readonly #medium: Medium;
  #doom: { error: unknown } | undefined;

  constructor(medium: Medium) {
    this.#medium = medium;
  }

  /** Closes the handle; throws what doomed the transaction, if anything did. */
  end(): void {
    this.open = false;
    if (this.#doom) throw this.#doom.error;
  }

  async get(collection: string, key: string): Promise<Row | undefined> {
    return this.#run([collection, key], () => this.#medium.get(collection, key));
  }

  async list(collection: string, prefix = ''): Promise<readonly (Row & { readonly key: string })[]> {
    return this.#run(prefix === '' ? [collection] : [collection, prefix], () => this.#medium.list(collection, prefix));
  }

  async put(collection: string, key: string, value: Uint8Array, expected: number): Promise<void> {
    this.#run([collection, key], () => {
      checkCount('an expected revision', expected);
      checkBytes(value);
      if (!this.#medium.put(collection, key, value, expected)) throw this.#conflict(collection, key, expected);
    });
  }

  async remove(collection: string, key: string, expected: number): Promise<void> {
    this.#run([collection, key], () => {
      checkCount('an expected revision', expected);
      if (!this.#medium.remove(collection, key, expected)) throw this.#conflict(collection, key, expected);
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

  #run<T>(names: readonly string[], operation: () => T): T {
    if (!this.open) throw new CloisterError('CLOSED', 'the transaction is over: its body has settled');
    try {
      if (this.#doom) throw this.#doom.error;
      for (const name of names) checkName(name);
      return operation();
    } catch (error) {
      this.#doom ??= { error };
      throw error;
    }
  }

  #conflict(collection: string, key: string, expected: number): CloisterError {
    const found = this.#medium.get(collection, key)?.revision ?? 0;
    const message = `expected revision ${expected} of row '${key}' in '${collection}', found ${found}`;
    return new CloisterError('STORE_CONFLICT', message, { collection, key, expected, found });
  }
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
