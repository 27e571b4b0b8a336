/**
 * What lies in the directory of a log, and the bounds that its writer keeps.
 *
 * | file | content | when durable |
 * |---|---|---|
 * | `wal/` | write-ahead segments (`wal.ts`) | before `append` resolves |
 * | `tile/` | the tree and its records in tiles (`tiles.ts`), the truth of what a checkpoint covers | before that checkpoint |
 * | `checkpoint` | signed tree head (`checkpoint.ts`) | at intervals, on demand and at close |
 * | `keys/`, `vkey`, `seal/` | the keys of its epochs (`epochs.ts`) | before the first record of an epoch |
 * | `ml-dsa-44/` | public second keys, in a log that has them (`second-key.ts`) | before the first record of an epoch |
 * | `cosigned/` | checkpoints with the cosignatures of witnesses (`cosigned.ts`) | before `keepCosignatures` resolves |
 * | `personal/` | personal data that records commit to, and their keys (`personal.ts`) | before their record |
 * | `tmp/` | files that are being written | never |
 * | `lock` | held by the writer (`directory.ts`) | never |
 * @module
 */
import { fromBase64, toBase64 } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import type { LogDirectory } from './directory.ts';
import { HASH_BYTES } from './merkle.ts';

export const CHECKPOINT_FILE = 'checkpoint';
export const LOCK_FILE = 'lock';

/** The file that only logs of the first layout have: see {@link assertLayout}. */
const FIRST_LAYOUT_FILE = 'records';

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

/**
 * Refuses a log that an earlier release laid out in one segment file.
 *
 * @throws {CloisterError} `AUDIT_INVALID`, saying what to do.
 */
export function assertLayout(directory: LogDirectory): void {
  if (directory.read(FIRST_LAYOUT_FILE, 1) === undefined) return;
  throw new CloisterError(
    'AUDIT_INVALID',
    `${directory.path} holds a log of the first layout, one file of records, which builds of cloister 0.1.0 wrote before logs had tiles. Verify and export it with such a build, and start a log elsewhere`,
    { kind: 'malformed', index: 0 },
  );
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
