/**
 * The store in memory: for tests, and for a service that is told to keep nothing.
 * @module
 */
import { compareCodePoints, type Medium, SerialStore } from './serial.ts';
import type { Entry, Row, Store } from './store.ts';

/**
 * Opens a store in this process's memory: every promise of {@link Store} but durability. What it holds is gone with the
 * process, so a budget kept in it starts anew after a restart.
 * @example
 * ```ts
 * await using store = memoryStore();
 * await store.transaction(tx => tx.append('events', encodeUtf8('first'))); // 0
 * store.durable; // false
 * ```
 */
export function memoryStore(): Store {
  return new SerialStore(new MemoryMedium(), Number.POSITIVE_INFINITY);
}

class MemoryMedium implements Medium {
  readonly name = 'memory';
  readonly durable = false;
  readonly #rows = new Map<string, Map<string, Row>>();
  readonly #streams = new Map<string, Uint8Array[]>();
  /** How to take back the open member's writes, oldest first. */
  #undo: (() => void)[] = [];

  async begin(): Promise<void> {}

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
    return true;
  }

  commit(): void {}

  get(collection: string, key: string): Row | undefined {
    const row = this.#rows.get(collection)?.get(key);
    return row && { value: row.value.slice(), revision: row.revision };
  }

  list(collection: string, prefix: string): (Row & { readonly key: string })[] {
    return [...(this.#rows.get(collection) ?? [])]
      .filter(([key]) => key.startsWith(prefix))
      .sort(([a], [b]) => compareCodePoints(a, b))
      .map(([key, row]) => ({ key, value: row.value.slice(), revision: row.revision }));
  }

  put(collection: string, key: string, value: Uint8Array, expected: number): number {
    const rows = this.#rows.get(collection) ?? new Map<string, Row>();
    const before = rows.get(key);
    const found = before?.revision ?? 0;
    if (found !== expected) return found;
    this.#rows.set(collection, rows);
    rows.set(key, { value: value.slice(), revision: expected + 1 });
    this.#undo.push(() => (before ? rows.set(key, before) : rows.delete(key)));
    return found;
  }

  remove(collection: string, key: string, expected: number): number | undefined {
    const rows = this.#rows.get(collection);
    const before = rows?.get(key);
    if (!rows || !before) return undefined;
    if (before.revision === expected) {
      rows.delete(key);
      this.#undo.push(() => rows.set(key, before));
    }
    return before.revision;
  }

  append(stream: string, value: Uint8Array): number {
    const entries = this.#streams.get(stream) ?? [];
    this.#streams.set(stream, entries);
    entries.push(value.slice());
    this.#undo.push(() => entries.pop());
    return entries.length - 1;
  }

  read(stream: string, from: number, limit: number): Entry[] {
    const entries = this.#streams.get(stream)?.slice(from, from + limit) ?? [];
    return entries.map((value, i) => ({ seq: from + i, value: value.slice() }));
  }

  close(): void {
    this.#rows.clear();
    this.#streams.clear();
  }
}
