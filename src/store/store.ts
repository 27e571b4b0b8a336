/**
 * The store seam: small rows, appended entries, and transactions that are durable when they resolve.
 * @module
 */

/** A row as it is in the store. */
export interface Row {
  /** A copy: the caller may keep or change it. */
  readonly value: Uint8Array;
  /** 1 for a new row, one more at each update. A row written again after it was removed starts at 1. */
  readonly revision: number;
}

/** One entry of a stream. */
export interface Entry {
  /** Position in the stream: 0, 1, 2 … without gaps. */
  readonly seq: number;
  /** A copy: the caller may keep or change it. */
  readonly value: Uint8Array;
}

/**
 * The operations inside one transaction. Reads see the transaction's own writes. An operation that throws dooms the whole
 * transaction, even if the body catches what it threw; a handle kept after its body has settled throws `CLOSED`.
 *
 * Names (`collection`, `key`, `stream`) are well-formed strings of 1 to 1,024 characters without U+0000; anything else is
 * `INVALID_ARGUMENT`.
 */
export interface Transaction {
  get(collection: string, key: string): Promise<Row | undefined>;
  /** Rows of `collection` with keys that start with `prefix`, by key in code-point order (which is that of UTF-8 bytes). */
  list(collection: string, prefix?: string): Promise<readonly (Row & { readonly key: string })[]>;
  /**
   * Writes a row if its revision is still `expected` (0: the row does not exist yet).
   *
   * @throws {CloisterError} `STORE_CONFLICT` otherwise; the transaction then leaves nothing behind.
   */
  put(collection: string, key: string, value: Uint8Array, expected: number): Promise<void>;
  /**
   * Removes a row if its revision is still `expected`.
   *
   * @throws {CloisterError} `STORE_CONFLICT` otherwise; the transaction then leaves nothing behind.
   */
  remove(collection: string, key: string, expected: number): Promise<void>;
  /** Appends to `stream` and returns the entry's position. */
  append(stream: string, value: Uint8Array): Promise<number>;
  /** At most `limit` entries of `stream` from position `from` on. */
  read(stream: string, from: number, limit: number): Promise<readonly Entry[]>;
}

/**
 * Durable state. Implementations: SQLite (default), PostgreSQL and memory. The contract suite in
 * `test/suites/store.ts` runs against each.
 */
export interface Store {
  /** `sqlite`, `postgresql`, `memory` … for reports. */
  readonly name: string;
  /** Whether a resolved transaction survives the loss of power. */
  readonly durable: boolean;
  /**
   * Runs `body` alone: no other transaction, of this process or another, interleaves with it. When the promise settles, its
   * writes are durable as {@link Store.durable} says, or, if `body` or the commit threw, nothing of it remains.
   *
   * `body` may wait for anything but another transaction of the same store: everybody else waits for it meanwhile, so keep it
   * short. It runs at most once. Transactions that wait at the same time may share one commit.
   *
   * @throws {CloisterError} `STORE_FAILED` when the medium fails; `LOCKED` when another process held the store for too long;
   *   `CLOSED`; `INVALID_ARGUMENT` when called from inside a body of the same store; whatever `body` throws.
   */
  transaction<T>(body: (tx: Transaction) => Promise<T>): Promise<T>;
  /** Lets the transactions that were asked for finish, then gives the medium back. Closing twice does nothing. */
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}
