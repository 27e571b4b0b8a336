/**
 * A log as an index reads it.
 * @module
 */
import { nodeDirectory } from './directory.ts';
import { assertLayout } from './layout.ts';
import { rootAt } from './merkle.ts';
import { nodeHasher } from './node-crypto.ts';
import type { LogSource } from './query/log-index.ts';
import { storedHead } from './read.ts';
import { TileReader } from './tile-store.ts';

/**
 * Reads the log in `dir` as far as its checkpoint covers it, from tiles. It may be written to meanwhile: the source stays at the
 * checkpoint of now. Looks at no signature, and at no hash of a record: whoever shows a record proves it, see `openProver`.
 *
 * @throws {CloisterError} `STORE_FAILED` when there is no log; `AUDIT_INVALID` when its checkpoint is malformed.
 * @example
 * ```ts
 * const log = await openLog('./cloister-data/audit');
 * const object = { kind: 'model', id: 'digits' } as const;
 * await log.append({ actor: 'ward-3', action: 'load', object, decision: { outcome: 'allow' } });
 * await log.close();
 * const source = openSource('./cloister-data/audit');
 * source.size; // 1
 * for await (const leaf of source.leaves(0, 1)) {
 *   decodeRecord(leaf).actor; // 'ward-3'
 * }
 * ```
 */
export function openSource(dir: string): LogSource {
  const directory = nodeDirectory(dir, false);
  assertLayout(directory);
  const { size } = storedHead(directory);
  const tiles = new TileReader(directory, size);
  return {
    size,
    rootAt: at => rootAt(at, tiles.node, nodeHasher),
    *leaves(from, to) {
      for (let index = from; index < to; index++) yield tiles.leaf(index);
    },
  };
}
