/**
 * Proof bundles: a record with everything that it takes to check it, in one JSON value. Pure.
 * @module
 */
import { CloisterError } from '../../src/base/errors.ts';
import * as z from '../../src/base/zod.ts';
import { announcedKey } from './announcement.ts';
import { formatVkey, parseVkey, sameKey } from './note.ts';
import type { AuditRecord } from './record.ts';
import { type Receipt, receiptSchema, verifyReceipt } from './verify.ts';

/** A record, its proof, the signed checkpoint, and the key that signed it. JSON. */
export interface ProofBundle {
  /** Version of this form. */
  readonly v: 1;
  /** Public key of the log, as it says itself; whoever checks the bundle should know it from elsewhere. */
  readonly vkey: string;
  /**
   * How that key leads to the one that signed the receipt, where the log has changed its key: for each epoch that ended the receipt of
   * the record that announces the next key, under the seal of the epoch.
   */
  readonly epochs?: readonly (Receipt & { readonly record: AuditRecord })[] | undefined;
  /** Receipt of the record, with the record. */
  readonly receipt: Receipt & { readonly record: AuditRecord };
}

/** What {@link verifyBundle} found. */
export type BundleVerdict =
  | {
      readonly ok: true;
      readonly origin: string;
      /** The record, which is in the log at position `record.seq`. */
      readonly record: AuditRecord;
      /** Records in the tree that it was proved to be in. */
      readonly size: number;
    }
  | { readonly ok: false; readonly reason: string };

const EPOCH_LIMIT = 10_000;
const withRecord = receiptSchema.refine(receipt => receipt.record !== undefined, 'the record is missing');

/** Checks the form of a bundle; whether it holds is for {@link verifyBundle} to say. */
export const bundleSchema: z.ZodType<ProofBundle> = z.strictObject({
  v: z.literal(1),
  vkey: z.string().max(1024),
  epochs: z.array(withRecord).max(EPOCH_LIMIT).optional(),
  receipt: withRecord,
}) as z.ZodType<ProofBundle>;

/**
 * Verifies a bundle alone: no log, no network. Without `vkey` it holds under the key that it carries, which says that nothing in it
 * was changed since it was made, and not by whom it was made.
 *
 * @param bundle - As received: anything. It is refused, never thrown on.
 * @param vkey - The log's public key, that of its first epoch, from where you trust it.
 * @throws {CloisterError} `INVALID_ARGUMENT` when `vkey` is not a vkey.
 * @example
 * ```ts
 * const cloister = await openCloister({ dir: './cloister-data' });
 * await cloister.close();
 * const bundle = await proveAudit('./cloister-data', 0);
 * const verdict = verifyBundle(JSON.parse(JSON.stringify(bundle)), cloister.auditKey);
 * verdict.ok && verdict.record.action; // 'open'
 * verifyBundle({ ...bundle, vkey: 'another' }).ok; // false
 * ```
 */
export function verifyBundle(bundle: unknown, vkey?: string): BundleVerdict {
  const trusted = vkey === undefined ? undefined : parseVkey(vkey);
  const parsed = bundleSchema.safeParse(bundle);
  if (!parsed.success) return { ok: false, reason: `not a proof bundle: ${z.prettifyError(parsed.error)}` };
  const { receipt, epochs = [], vkey: carried } = parsed.data;
  try {
    if (trusted !== undefined && !sameKey(trusted, parseVkey(carried)))
      return { ok: false, reason: 'the bundle is of a log with another key' };
    let key = carried;
    for (const [epoch, step] of epochs.entries()) {
      const sealed = verifyReceipt(step, key);
      if (!sealed.ok) return { ok: false, reason: `the seal of epoch ${epoch} does not hold: ${sealed.reason}` };
      const next = announcedKey(step.record, sealed.origin);
      if (next === undefined || sealed.index + 1 !== sealed.size)
        return { ok: false, reason: `epoch ${epoch} does not end with a record that announces a key` };
      key = formatVkey(next.name, next.publicKey);
    }
    const verdict = verifyReceipt(receipt, key);
    return verdict.ok ? { ok: true, origin: verdict.origin, record: receipt.record, size: verdict.size } : verdict;
  } catch (error) {
    if (error instanceof CloisterError) return { ok: false, reason: `not a proof bundle: ${error.message}` };
    throw error;
  }
}
