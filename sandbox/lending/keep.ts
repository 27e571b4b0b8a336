/**
 * Keeping what a call wrote into `kv`, after it was checked outside the walls.
 * @module
 */
import { sizeOf } from './kv.ts';
import type { KvChanges, KvStore } from './kv-store.ts';
import type { CapabilityOptions } from './table.ts';

/**
 * Applies the changes of a call, if what its owner then has keeps to the limits: others may have written meanwhile, and a worker that is
 * no longer ours may say anything.
 *
 * @returns why they are not kept; undefined when they are.
 */
export async function keepChanges(
  store: KvStore,
  owner: string,
  changes: KvChanges,
  limits: CapabilityOptions<'kv'>,
): Promise<string | undefined> {
  const after = new Map(await store.read(owner));
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
  await store.apply(owner, changes);
  return undefined;
}
