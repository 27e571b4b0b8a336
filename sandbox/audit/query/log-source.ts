/**
 * The log in a directory, as an index reads it.
 * @module
 */
import { CloisterError } from '../../../src/base/errors.ts';
import { verifyCheckpoint } from '../checkpoint.ts';
import { type LogDirectory, nodeDirectory } from '../directory.ts';
import { CHECKPOINT_FILE, TREE_FILE } from '../layout.ts';
import { rootAt } from '../merkle.ts';
import { nodeEd25519, nodeHasher } from '../node-crypto.ts';
import { NOTE_LIMIT_BYTES, parseVkey } from '../note.ts';
import { readDirectory } from '../read.ts';
import { encodeRecord } from '../record.ts';
import { readNode } from '../tree-file.ts';
import { publishedKey } from '../verify-directory.ts';
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
  const key = vkey === undefined ? publishedKey(directory) : parseVkey(vkey);
  const note = directory.read(CHECKPOINT_FILE, NOTE_LIMIT_BYTES + 1);
  if (note === undefined) throw new CloisterError('AUDIT_INVALID', `there is no checkpoint in ${directory.path}`);
  const signed = verifyCheckpoint(note, key, nodeEd25519);
  if (!signed.ok)
    throw new CloisterError('AUDIT_INVALID', `the checkpoint in ${directory.path} does not verify: ${signed.reason}`);
  return {
    size: signed.checkpoint.size,
    rootAt(size) {
      const tree = directory.open(TREE_FILE);
      if (tree === undefined) throw new CloisterError('AUDIT_INVALID', `there is no tree file in ${directory.path}`);
      try {
        return rootAt(size, (level, index) => readNode(tree, level, index), nodeHasher);
      } finally {
        tree.close();
      }
    },
    async *leaves(from, to) {
      for await (const record of readDirectory(directory, { from, limit: to - from })) yield encodeRecord(record);
    },
  };
}
