/**
 * Where the keys and values that guests keep lie, outside every wall.
 * @module
 */

/** Keys and what becomes of them: a value, or `undefined` where the key is deleted. */
export type KvChanges = ReadonlyMap<string, string | undefined>;

/**
 * The seam of what `kv` keeps. A call reads all entries of its owner before it begins, and its changes come back together when it
 * ended well; of two calls at once, the one that ends later has the last word on a key.
 */
export interface KvStore {
  /** The entries of an owner. The map belongs to the store: it is not written. */
  read(owner: string): ReadonlyMap<string, string> | Promise<ReadonlyMap<string, string>>;
  /** Applies all the changes, or none and throws. What it promises about a crash, the store says. */
  apply(owner: string, changes: KvChanges): void | Promise<void>;
}

/** A store in the memory of this process: what it holds is gone with it. */
export function memoryKv(): KvStore {
  const owners = new Map<string, Map<string, string>>();
  return {
    read: owner => owners.get(owner) ?? new Map(),
    apply(owner, changes) {
      const entries = owners.get(owner) ?? new Map<string, string>();
      for (const [key, value] of changes) {
        if (value === undefined) entries.delete(key);
        else entries.set(key, value);
      }
      if (entries.size > 0) owners.set(owner, entries);
      else owners.delete(owner);
    },
  };
}

/** What has to be done to `before` to make it `after`. */
export function changesBetween(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): KvChanges {
  const changes = new Map<string, string | undefined>();
  for (const key of before.keys()) if (!after.has(key)) changes.set(key, undefined);
  for (const [key, value] of after) if (before.get(key) !== value) changes.set(key, value);
  return changes;
}
