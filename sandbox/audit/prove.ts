/**
 * Proofs from the files of a log, without its signing key and without a lock: of records, and that it extends what it was.
 * @module
 */
import { CloisterError } from '../../src/base/errors.ts';
import type { ProofBundle } from './bundle.ts';
import type { Checkpoint } from './checkpoint.ts';
import { type LogDirectory, nodeDirectory } from './directory.ts';
import { type Seal, signedHead, verifyByAny } from './epochs.ts';
import { headOf } from './layout.ts';
import { consistencyProof, inclusionProof, verifyConsistency, verifyInclusion } from './merkle.ts';
import { nodeHasher } from './node-crypto.ts';
import { formatVkey } from './note.ts';
import { decodeRecordAt } from './read.ts';
import { type AuditRecord, encodeRecord } from './record.ts';
import { TileReader } from './tile-store.ts';
import type { TamperKind } from './verdict.ts';
import type { Receipt } from './verify.ts';
import { verifyDirectory } from './verify-directory.ts';

/** Whether a log extends an earlier checkpoint. */
export type ExtensionVerdict =
  | {
      readonly ok: true;
      /** Records under the earlier checkpoint, and in the log. */
      readonly from: number;
      readonly size: number;
      /**
       * The log's own checkpoint and the proof between the two, for `verifyExtension`. Left out where the log's checkpoint is the
       * older one of the two: all records were read instead, and they lead to the earlier checkpoint.
       */
      readonly extension?: { readonly checkpoint: string; readonly proof: readonly string[] };
    }
  | { readonly ok: false; readonly kind: TamperKind; readonly message: string };

/** A log of which records are proved, see {@link openProver}. */
export interface Prover extends Disposable {
  /** The checkpoint under which they are. */
  readonly checkpoint: Checkpoint;
  /**
   * The proof of a record that was read from the log.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when the checkpoint does not cover it yet; `AUDIT_INVALID` when the record is not the
   *   one under the checkpoint, or a tile is damaged.
   */
  prove(record: AuditRecord): ProofBundle;
  /**
   * Whether the log extends `note`, a checkpoint that somebody kept. Reads hash tiles alone where that is enough, else all
   * records.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` when the checkpoint covers no record: every log extends that; `STORE_FAILED`.
   */
  extends(note: Uint8Array | string): Promise<ExtensionVerdict>;
}

/**
 * Opens the log in `dir` to prove what is in it. It may be written to meanwhile: proofs are under the checkpoint that it has now.
 *
 * @param vkey - The log's public key; by default the one beside it.
 * @throws {CloisterError} `AUDIT_INVALID` when there is no checkpoint by that key; `INVALID_ARGUMENT` when `vkey` is not one;
 *   `STORE_FAILED`.
 * @example
 * ```ts
 * const log = await openLog('./cloister-data/audit');
 * const object = { kind: 'model', id: 'digits' } as const;
 * await log.append({ actor: 'ward-3', action: 'load', object, decision: { outcome: 'allow' } });
 * const earlier = await log.checkpoint();
 * await log.close();
 * using prover = openProver('./cloister-data/audit', log.vkey);
 * for await (const record of readRecords('./cloister-data/audit')) {
 *   verifyBundle(prover.prove(record)).ok; // true
 * }
 * await prover.extends(earlier); // { ok: true, from: 1, … }
 * ```
 */
export function openProver(dir: string, vkey?: string): Prover {
  return directoryProver(nodeDirectory(dir, false), vkey);
}

/** {@link openProver} behind the directory seam. */
export function directoryProver(directory: LogDirectory, vkey?: string): Prover {
  const { note, key, epochs, checkpoint } = signedHead(directory, vkey);
  const { keys } = epochs;
  const { size, root } = checkpoint;
  const text = new TextDecoder().decode(note);
  const { node } = new TileReader(directory, size);
  const spine = new Map<number, Uint8Array>();
  const first = formatVkey(keys[0]!.name, keys[0]!.publicKey);
  const steps = epochs.seals.slice(0, keys.indexOf(key)).map(seal => stepOf(directory, seal));

  return {
    checkpoint,
    prove(record) {
      const { seq } = record;
      if (seq >= size) {
        throw new CloisterError(
          'INVALID_ARGUMENT',
          `record ${seq} is not under the checkpoint yet, which covers ${size}: wait a second, or close the log`,
          { index: seq, size },
        );
      }
      const leaf = nodeHasher.leaf(encodeRecord(record));
      const proof = inclusionProof(seq, size, node, nodeHasher, spine);
      const verdict = verifyInclusion(seq, size, leaf, proof, root, nodeHasher);
      if (!verdict.ok) {
        throw new CloisterError(
          'AUDIT_INVALID',
          `record ${seq} cannot be proved: ${verdict.reason}. Verify the log: it says what is damaged`,
          { index: seq },
        );
      }
      const { origin } = checkpoint;
      const hashes = { leafHash: base64(leaf), proof: proof.map(base64) };
      const receipt = { v: 1, origin, index: seq, ...hashes, checkpoint: text, record } as const;
      return { v: 1, vkey: first, ...(steps.length > 0 && { epochs: steps }), receipt };
    },
    async extends(earlier) {
      const from = verifyByAny(earlier, keys);
      if (!from.ok) return { ok: false, kind: 'malformed', message: `the earlier checkpoint: ${from.reason}` };
      const { size: size1, root: root1 } = from.checkpoint;
      if (size1 === 0) {
        throw new CloisterError(
          'INVALID_ARGUMENT',
          'the earlier checkpoint covers no record: every log extends that. Take a later one',
        );
      }
      const proof = size1 <= size ? attempt(() => consistencyProof(size1, size, node, nodeHasher)) : undefined;
      if (proof !== undefined && verifyConsistency(size1, size, root1, root, proof, nodeHasher).ok)
        return { ok: true, from: size1, size, extension: { checkpoint: text, proof: proof.map(base64) } };
      // Only the records can tell a forked log from a damaged tile.
      const anchor = headOf(size1, root1);
      const verdict = await verifyDirectory(directory, { vkey: first, anchor });
      if (verdict.ok) return { ok: true, from: size1, size: verdict.size };
      return { ok: false, kind: verdict.kind, message: verdict.message };
    },
    [Symbol.dispose]: () => undefined,
  };
}

/** The receipt of the record with which an epoch ended, under its seal. */
function stepOf(directory: LogDirectory, { checkpoint, note }: Seal): Receipt & { readonly record: AuditRecord } {
  const { origin, size } = checkpoint;
  const tiles = new TileReader(directory, size);
  const index = size - 1;
  const leaf = tiles.leaf(index);
  const hashes = inclusionProof(index, size, tiles.node, nodeHasher).map(base64);
  const record = decodeRecordAt(leaf, index);
  const text = new TextDecoder().decode(note);
  return { v: 1, origin, index, leafHash: base64(nodeHasher.leaf(leaf)), proof: hashes, checkpoint: text, record };
}

/** What `body` returns; undefined where a tile is missing or too short for it. */
function attempt<T>(body: () => T): T | undefined {
  try {
    return body();
  } catch (error) {
    if (error instanceof CloisterError && error.code === 'AUDIT_INVALID') return undefined;
    throw error;
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64');
}
