/**
 * The store seam: small rows, appended entries, and transactions that are durable when they resolve.
 * @module
 */

/** A row as it is in the store. */
export interface Row {
  readonly value: Uint8Array;
  /** 1 for a new row, one more at each update. */
  readonly revision: number;
}

/** One entry of a stream. */
export interface Entry {
  /** Position in the stream: 0, 1, 2 … without gaps. */
  readonly seq: number;
  readonly value: Uint8Array;
}

/** The operations inside one transaction. Reads see the transaction's own writes. */
export interface Transaction {
  get(collection: string, key: string): Promise<Row | undefined>;
  /** Rows of `collection` with keys that start with `prefix`, by key in code-unit order. */
  list(collection: string, prefix?: string): Promise<readonly (Row & { readonly key: string })[]>;
  /**
   * Writes a row if its revision is still `expected` (0: the row does not exist yet).
   *
   * @throws {CloisterError} `STORE_CONFLICT` otherwise; the transaction then leaves nothing behind.
   */
  put(collection: string, key: string, value: Uint8Array, expected: number): Promise<void>;
  /** Appends to `stream` and returns the entry's position. */
  append(stream: string, value: Uint8Array): Promise<number>;
  /** At most `limit` entries of `stream` from position `from` on. */
  read(stream: string, from: number, limit: number): Promise<readonly Entry[]>;
}

/**
 * Durable state. Implementations: SQLite (default) and memory; PostgreSQL takes the same shape. The contract suite in
 * `test/suites/store.ts` runs against each.
 */
export interface Store {
  /** `sqlite`, `memory` … for reports. */
  readonly name: string;
  /** Whether a resolved transaction survives the loss of power. */
  readonly durable: boolean;
  /**
   * Runs `body` alone: no other transaction, of this process or another, interleaves with it. When the promise resolves, its
   * writes are durable as {@link Store.durable} says. When `body` or the commit throws, nothing of it remains.
   *
   * @throws {CloisterError} `STORE_FAILED` when the medium fails; `CLOSED`; whatever `body` throws.
   */
  transaction<T>(body: (tx: Transaction) => Promise<T>): Promise<T>;
  close(): Promise<void>;
}
