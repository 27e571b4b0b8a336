/**
 * Verification of what a log hands out: receipts and checkpoints. Pure, so it runs wherever a receipt is received.
 * @module
 */
import { equalBytes, fromBase64 } from '../../src/base/bytes.ts';
import * as z from '../../src/base/zod.ts';
import { type CheckpointVerdict, verifyCheckpoint } from './checkpoint.ts';
import { pureHasher, type Verdict, verifyConsistency, verifyInclusion } from './merkle.ts';
import { NOTE_LIMIT_BYTES, type NoteVerifier, parseVkey } from './note.ts';
import { type AuditRecord, auditRecordSchema, encodeRecord } from './record.ts';

/** Proof that a record is in the log under a signed checkpoint. JSON; needs nothing but the log's vkey to verify. */
export interface Receipt {
  /** Version of this form. */
  readonly v: 1;
  /** Name of the log. */
  readonly origin: string;
  /** Position of the record. */
  readonly index: number;
  /** Leaf hash of the record, base64. */
  readonly leafHash: string;
  /** The record, when the receipt was made as it was appended. */
  readonly record?: AuditRecord | undefined;
  /** Audit path from the leaf to the root of the checkpoint, base64, lowest first. */
  readonly proof: readonly string[];
  /** Signed note of the tree head. */
  readonly checkpoint: string;
}

/** What {@link verifyReceipt} found. */
export type ReceiptVerdict =
  | {
      readonly ok: true;
      readonly origin: string;
      readonly index: number;
      readonly size: number;
      readonly root: Uint8Array;
    }
  | { readonly ok: false; readonly reason: string };

const hash = z.string().length(44);
const index = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

/** Checks the form of a receipt; whether it holds is for {@link verifyReceipt} to say. */
export const receiptSchema: z.ZodType<Receipt> = z.strictObject({
  v: z.literal(1),
  origin: z.string().min(1).max(256),
  index,
  leafHash: hash,
  record: auditRecordSchema.optional(),
  proof: z.array(hash).max(53), // a tree of 2^53 leaves is 53 levels high
  checkpoint: z.string().max(NOTE_LIMIT_BYTES),
});

/**
 * Verifies that the log with key `vkey` vouches for the record of a receipt at its position.
 *
 * It does not say that the log has kept the record since, nor that it shows everyone the same tree: compare checkpoints over
 * time with {@link verifyExtension} for that.
 *
 * @param receipt - As received: anything. It is refused, never thrown on.
 * @param vkey - The log's public key, or the keys of its epochs, from where you trust them; not from beside the receipt.
 * @param record - The record that the receipt should be for. Without one, the record inside, if any, is checked.
 * @throws {CloisterError} `INVALID_ARGUMENT` when `vkey` is not a vkey.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit');
 * const object = { kind: 'model', id: 'digits' } as const;
 * const receipt = await log.append({ actor: 'ward-3', action: 'load', object, decision: { outcome: 'allow' } });
 * verifyReceipt(JSON.parse(JSON.stringify(receipt)), log.vkey); // { ok: true, index: 0, … }
 * verifyReceipt({ ...receipt, index: 7 }, log.vkey).ok; // false
 * ```
 */
export function verifyReceipt(
  receipt: unknown,
  vkey: string | readonly string[],
  record?: AuditRecord,
): ReceiptVerdict {
  const keys = (typeof vkey === 'string' ? [vkey] : vkey).map(parseVkey);
  const refuse = (reason: string): ReceiptVerdict => ({ ok: false, reason });
  try {
    const parsed = receiptSchema.safeParse(receipt);
    if (!parsed.success) return refuse(`not a receipt: ${z.prettifyError(parsed.error)}`);
    const { origin, index, leafHash, proof, checkpoint, record: inside } = parsed.data;
    const head = verifyByAny(checkpoint, keys);
    if (!head.ok) return refuse(head.reason);
    if (head.checkpoint.origin !== origin)
      return refuse(`the receipt is of log ${origin}, its checkpoint of ${head.checkpoint.origin}`);
    const leaf = fromBase64(leafHash);
    for (const claimed of [inside, record]) {
      if (claimed === undefined) continue;
      if (claimed.seq !== index) return refuse(`the record is number ${claimed.seq}, the receipt is for ${index}`);
      if (!equalBytes(pureHasher.leaf(encodeRecord(claimed)), leaf))
        return refuse('the record is not the one that the receipt is for');
    }
    const { size, root } = head.checkpoint;
    const included = verifyInclusion(index, size, leaf, proof.map(fromBase64), root);
    return included.ok ? { ok: true, origin, index, size, root } : refuse(included.reason);
  } catch (error) {
    return refuse(error instanceof Error ? error.message : 'not a receipt');
  }
}

/**
 * Verifies that a later checkpoint of a log extends an earlier one: nothing was changed or removed in between.
 *
 * @param earlier - Signed note, kept from before.
 * @param later - Signed note.
 * @param proof - Consistency proof, base64 hashes, from {@link AuditLog.extension}.
 * @param vkey - The log's public key, or the keys of its epochs.
 * @throws {CloisterError} `INVALID_ARGUMENT` when `vkey` is not a vkey.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit');
 * const object = { kind: 'model', id: 'digits' } as const;
 * const event = { actor: 'ward-3', action: 'run', object, decision: { outcome: 'allow' } } as const;
 * const { checkpoint: earlier } = await log.append(event);
 * await log.append(event);
 * const { checkpoint: later, proof } = log.extension(1);
 * verifyExtension(earlier, later, proof, log.vkey); // { ok: true }
 * ```
 */
export function verifyExtension(
  earlier: string,
  later: string,
  proof: readonly string[],
  vkey: string | readonly string[],
): Verdict {
  const keys = (typeof vkey === 'string' ? [vkey] : vkey).map(parseVkey);
  const from = verifyByAny(earlier, keys);
  if (!from.ok) return { ok: false, reason: `earlier checkpoint: ${from.reason}` };
  const to = verifyByAny(later, keys);
  if (!to.ok) return { ok: false, reason: `later checkpoint: ${to.reason}` };
  let hashes: Uint8Array[];
  try {
    hashes = proof.map(fromBase64);
  } catch {
    return { ok: false, reason: 'the proof is not base64' };
  }
  return verifyConsistency(from.checkpoint.size, to.checkpoint.size, from.checkpoint.root, to.checkpoint.root, hashes);
}

/** Verifies a checkpoint by whichever of the keys signed it. */
function verifyByAny(note: string, keys: readonly NoteVerifier[]): CheckpointVerdict {
  let verdict: CheckpointVerdict = { ok: false, reason: 'there is no key to verify it with' };
  for (const key of keys) {
    verdict = verifyCheckpoint(note, key);
    if (verdict.ok) return verdict;
  }
  return verdict;
}
