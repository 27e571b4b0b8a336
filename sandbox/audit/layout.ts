/**
 * What lies in the directory of a log, and the bounds that its writer keeps.
 *
 * | file | content | when durable |
 * |---|---|---|
 * | `records` | the segment: every record (`segment.ts`) | before `append` resolves |
 * | `tree` | hashes of the Merkle tree (`tree-file.ts`), derived | before `checkpoint` names its size |
 * | `checkpoint` | signed tree head (`checkpoint.ts`) | at intervals, on demand and at close |
 * | `key`, `vkey` | the signing key (`keys.ts`) | before the first record |
 * | `lock` | held by the writer (`directory.ts`) | never |
 * @module
 */
import { fromBase64, toBase64 } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import { HASH_BYTES } from './merkle.ts';

export const RECORDS_FILE = 'records';
export const TREE_FILE = 'tree';
export const CHECKPOINT_FILE = 'checkpoint';
export const LOCK_FILE = 'lock';

/**
 * How many records may follow the last durable checkpoint. The writer stays below, so a log with more of them has had its
 * checkpoint replaced by an older one.
 */
export const UNSIGNED_LIMIT = 4096;

/**
 * A tree head to keep outside the log's directory, where whoever rolls back the one does not roll back the other: in the
 * budget store, within the transaction of a charge.
 */
export interface Head {
  /** Records in the log. */
  readonly size: number;
  /** Root hash over them, base64. */
  readonly root: string;
}

/** The head of a tree. */
export function headOf(size: number, root: Uint8Array): Head {
  return { size, root: toBase64(root) };
}

/**
 * Checks a head that the caller gives as an anchor.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the size is not a count or the root is not 32 bytes in base64.
 */
export function parseHead(head: Head): { size: number; root: Uint8Array } {
  const root = typeof head.root === 'string' ? fromBase64(head.root) : new Uint8Array(0);
  if (!Number.isSafeInteger(head.size) || head.size < 0 || root.length !== HASH_BYTES) {
    throw new CloisterError('INVALID_ARGUMENT', `an anchor is a size and a root of ${HASH_BYTES} bytes in base64`);
  }
  return { size: head.size, root };
}
