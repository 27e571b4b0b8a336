/**
 * What the verification of a log can find.
 * @module
 */

/**
 * What was done to a log.
 *
 * - `changed`: the bytes at a record are not those of the record.
 * - `missing`: the record was taken out. `inserted`: a record was put in before it. `swapped`: it stands elsewhere.
 * - `truncated`: the files end before the record, though a checkpoint or anchor covers it. A copy that was taken while the log was
 *   written looks like this when its checkpoint was copied last.
 * - `resealed`: signed anew by a key that is not the one of these records, or records and their hashes were replaced together; or a seal
 *   is gone.
 * - `rolled-back`: the whole log is an earlier state than the anchor, or its checkpoint an earlier one than its records or seals.
 * - `forked`: the log has another history than the anchor.
 * - `malformed`: a file is not what it should be; no record can be blamed, or the records are intact and the hash tiles are not.
 */
export type TamperKind =
  | 'changed'
  | 'resealed'
  | 'missing'
  | 'inserted'
  | 'swapped'
  | 'truncated'
  | 'rolled-back'
  | 'forked'
  | 'malformed';

/** What `verifyLog` found. */
export type LogVerdict =
  | {
      readonly ok: true;
      /** Whole records in the log. */
      readonly size: number;
      /** Root hash over them, base64. */
      readonly root: string;
      /** Records that the stored checkpoint covers. The rest is vouched for by the anchor and by receipts alone. */
      readonly signedSize: number;
      /** Public keys of its epochs, as the records announce them: what receipts verify with. */
      readonly keys: readonly string[];
      /** Bytes of an interrupted write at the end, which the next start cuts off; nobody was told that they are durable. */
      readonly tornBytes: number;
    }
  | {
      readonly ok: false;
      /** The first bad record, or the first that may be bad when the files tell no more. */
      readonly index: number;
      /** The last that may be the first bad one; equal to `index` when it is known. */
      readonly through: number;
      readonly kind: TamperKind;
      readonly message: string;
    };

/** A log that does not hold. */
export type Bad = Extract<LogVerdict, { ok: false }>;

/** {@link Bad} in a line. */
export function bad(kind: TamperKind, index: number, through: number, message: string): Bad {
  return { ok: false, index, through, kind, message };
}

/** The number in a record; undefined when it is not JSON with one. */
export function seqOf(record: Uint8Array): number | undefined {
  try {
    const value: unknown = JSON.parse(decodeBuffer(record));
    const seq = (value as { seq?: unknown } | null)?.seq;
    return typeof seq === 'number' && Number.isSafeInteger(seq) && seq >= 0 ? seq : undefined;
  } catch {
    return undefined;
  }
}

function decodeBuffer(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('utf8');
}
