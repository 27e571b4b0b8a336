/**
 * Keeping what a call wrote into `kv`, after it was checked outside the walls.
 * @module
 */
import { CloisterError, isCloisterError } from '../../src/base/index.ts';
import { sizeOf } from './kv.ts';
import type { KvChanges, KvStore } from './kv-store.ts';
import type { CapabilityOptions } from './table.ts';

/**
 * A copy of what an owner has.
 *
 * @throws {CloisterError} `STORE_FAILED` when the store throws, or gives something else.
 */
export async function entriesOf(store: KvStore, owner: string): Promise<Map<string, string>> {
  return await stored(async () => {
    const entries = new Map(await store.read(owner));
    for (const [key, value] of entries) {
      if (typeof key !== 'string' || typeof value !== 'string') throw new TypeError('a key or a value is no string');
    }
    return entries;
  });
}

async function stored<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (isCloisterError(cause)) throw cause;
    const why = cause instanceof Error ? cause.message : 'something that is no error was thrown';
    throw new CloisterError('STORE_FAILED', `the store of keys and values failed: ${why}`, {}, { cause });
  }
}

/**
 * Applies the changes of a call, if what its owner then has keeps to the limits: others may have written meanwhile, and a worker that is
 * no longer ours may say anything.
 *
 * @returns why they are not kept; undefined when they are.
 * @throws {CloisterError} `STORE_FAILED`.
 */
export async function keepChanges(
  store: KvStore,
  owner: string,
  changes: KvChanges,
  limits: CapabilityOptions<'kv'>,
): Promise<string | undefined> {
  const after = await entriesOf(store, owner);
  for (const [key, value] of changes) {
    if (value === undefined) after.delete(key);
    else after.set(key, value);
    const fits =
      Buffer.byteLength(key) <= limits.keyBytes &&
      (value === undefined || Buffer.byteLength(value) <= limits.valueBytes);
    if (!fits) return 'kv: a key or a value is over its limit; nothing was kept';
  }
  if (after.size > limits.entries || sizeOf(after) > limits.totalBytes) {
    return 'kv: with what others wrote meanwhile, the entries are over their limits; nothing was kept';
  }
  await stored(async () => store.apply(owner, changes));
  return undefined;
}
