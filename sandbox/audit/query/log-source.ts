/**
 * The log in a directory, as an index reads it.
 * @module
 */
import { type LogDirectory, nodeDirectory } from '../directory.ts';
import { signedHead } from '../epochs.ts';
import { rootAt } from '../merkle.ts';
import { nodeHasher } from '../node-crypto.ts';
import { TileReader } from '../tile-store.ts';
import type { LogSource } from './log-index.ts';

/**
 * What the checkpoint of the log in `dir` covers now, for `LogIndex.update`. Takes no lock; the log may be written meanwhile.
 *
 * @param vkey - The log's public key; by default the one beside it.
 * @throws {CloisterError} `AUDIT_INVALID` when there is no checkpoint by that key; `INVALID_ARGUMENT` when `vkey` is not one;
 *   `STORE_FAILED`.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit');
 * await log.checkpoint();
 * openLogSource('./cloister-data/audit').size; // 0
 * ```
 */
export function openLogSource(dir: string, vkey?: string): LogSource {
  return directorySource(nodeDirectory(dir, false), vkey);
}

/** {@link openLogSource} behind the directory seam. */
export function directorySource(directory: LogDirectory, vkey?: string): LogSource {
  const { size } = signedHead(directory, vkey).checkpoint;
  const tiles = new TileReader(directory, size);
  return {
    size,
    rootAt: at => rootAt(at, tiles.node, nodeHasher),
    *leaves(from, to) {
      for (let index = from; index < Math.min(to, size); index++) yield tiles.leaf(index);
    },
  };
}
