/**
 * Epochs: the spans of a log that one key signs. The key of epoch 0 is the log's vkey, all that an auditor needs: the last record of an
 * epoch announces the key of the next, and the seal, a checkpoint over exactly the records up to it, is the last thing that the old key
 * signs before it is destroyed. So whoever has the key of today cannot sign the records of an earlier epoch anew.
 *
 * | file | content |
 * |---|---|
 * | `vkey` | public key of epoch 0 |
 * | `keys/<epoch>` | private key of the epoch (mode 0600); of past epochs there is none |
 * | `seal/<epoch>` | the checkpoint with which a past epoch ended |
 * @module
 */
import { decodeUtf8 } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import { type AnnouncedKey, announcedKey } from './announcement.ts';
import type { Checkpoint, CheckpointVerdict } from './checkpoint.ts';
import { type Cosigner, parseCosigner } from './cosignature.ts';
import { type LogDirectory, nodeDirectory } from './directory.ts';
import { KEY_LIMIT_BYTES, VKEY_FILE } from './keys.ts';
import { assertLayout, CHECKPOINT_FILE } from './layout.ts';
import { inclusionProof, verifyInclusion } from './merkle.ts';
import { nodeHasher } from './node-crypto.ts';
import { formatVkey, NOTE_LIMIT_BYTES, type NoteVerifier, parseVkey } from './note.ts';
import { decodeRecord } from './record.ts';
import { announcedSecond, type EpochKey, publishedSecond, verifyStoredCheckpoint } from './second-key.ts';
import { TileReader } from './tile-store.ts';

/** Directory of the seals. */
export const SEAL_DIRECTORY = 'seal';

/** An epoch that has ended. */
export interface Seal {
  readonly key: EpochKey;
  readonly checkpoint: Checkpoint;
  readonly note: Uint8Array;
}

/** The keys of a log, epoch by epoch; the last one signs now. */
export interface Epochs {
  readonly keys: readonly EpochKey[];
  /** One for each key but the last. */
  readonly seals: readonly Seal[];
}

/** Name of the file with the seal of an epoch. */
export function sealFile(epoch: number): string {
  return `${SEAL_DIRECTORY}/${epoch}`;
}

/** Name of the file with the private key of an epoch. */
export function keyFile(epoch: number): string {
  return `keys/${epoch}`;
}

/** The seals that lie beside a log, as bytes, up to the first that is missing. */
export function readSeals(directory: LogDirectory): Uint8Array[] {
  const notes: Uint8Array[] = [];
  for (;;) {
    const note = directory.read(sealFile(notes.length), NOTE_LIMIT_BYTES + 1);
    if (note === undefined) return notes;
    notes.push(note);
  }
}

/** {@link announcedKey} of encoded bytes, cheap for those that announce none: `action` comes first in a record. */
export function announcedIn(leaf: Uint8Array, origin: string): AnnouncedKey | undefined {
  if (leaf[11] !== 0x6b || leaf[12] !== 0x65) return undefined; // {"action":"ke
  try {
    return announcedKey(decodeRecord(leaf), origin);
  } catch {
    return undefined;
  }
}

/**
 * Follows the keys of a log from the first one, by its seals: each must be signed by the key of its epoch and cover, as its last record,
 * the one that announces the next key. Reads one record and one path of the tree for each.
 *
 * @param prove - Whether to prove that record by the tiles; false for a caller who compares all records with the seals.
 * @throws {CloisterError} `AUDIT_INVALID` with `detail.kind` and `detail.index` when a seal does not hold; `STORE_FAILED`.
 */
export function followKeys(directory: LogDirectory, first: EpochKey, prove = true): Epochs {
  const keys: EpochKey[] = [first];
  const seals: Seal[] = [];
  for (const [epoch, note] of readSeals(directory).entries()) {
    const key = keys[epoch]!;
    const from = seals.at(-1)?.checkpoint.size ?? 0;
    let through = from;
    const refuse = (why: string): never => {
      const detail = { kind: 'resealed', index: from, through };
      throw new CloisterError('AUDIT_INVALID', `the seal of epoch ${epoch} does not hold: ${why}`, detail);
    };
    const verdict = verifyStoredCheckpoint(note, key);
    if (!verdict.ok) return refuse(verdict.reason);
    const { size, root } = verdict.checkpoint;
    through = Math.max(from, size - 1);
    if (size <= from) return refuse(`it covers ${size} records, the one before ${from}`);
    const tiles = new TileReader(directory, size);
    const leaf = tiles.leaf(size - 1);
    const proof = prove ? inclusionProof(size - 1, size, tiles.node, nodeHasher) : [];
    if (prove && !verifyInclusion(size - 1, size, nodeHasher.leaf(leaf), proof, root, nodeHasher).ok)
      return refuse(`record ${size - 1} is not under it`);
    const next = announcedIn(leaf, key.name);
    if (next === undefined) return refuse(`its last record announces no key`);
    seals.push({ key, checkpoint: verdict.checkpoint, note });
    if (key.second === undefined) {
      keys.push(next);
      continue;
    }
    const second = announcedSecond(directory, epoch + 1, next.secondDigest);
    if (second === undefined) return refuse('the second key that its last record announces is not there');
    keys.push({ ...next, second });
  }
  return { keys, seals };
}

/** The spellings of keys. */
export function vkeysOf(keys: readonly NoteVerifier[]): string[] {
  return keys.map(({ name, publicKey }) => formatVkey(name, publicKey));
}

/** The stored checkpoint of a log, and who signed it. */
export interface SignedHead {
  readonly note: Uint8Array;
  readonly checkpoint: Checkpoint;
  readonly key: NoteVerifier;
  readonly epochs: Epochs;
}

/**
 * Reads and verifies the stored checkpoint of a log, also of one that is written to meanwhile. What it covers is in tiles.
 *
 * @param vkey - Key of the first epoch; by default the one beside the log.
 * @throws {CloisterError} `AUDIT_INVALID` when there is no checkpoint by a key of the log, or a seal does not hold; `INVALID_ARGUMENT`
 *   when `vkey` is not one; `STORE_FAILED`.
 */
export function signedHead(directory: LogDirectory, vkey?: string): SignedHead {
  assertLayout(directory);
  const first = firstKey(directory, vkey);
  for (let tried = -1; ; ) {
    const note = directory.read(CHECKPOINT_FILE, NOTE_LIMIT_BYTES + 1);
    if (note === undefined) throw new CloisterError('AUDIT_INVALID', `there is no checkpoint in ${directory.path}`);
    const epochs = followKeys(directory, first);
    const signed = verifyByAny(note, epochs.keys);
    if (signed.ok) return { note, epochs, key: signed.key, checkpoint: signed.checkpoint };
    // The key may have been changed between the two; then there is one more by now.
    if (epochs.keys.length === tried) {
      const message = `the checkpoint in ${directory.path} does not verify: ${signed.reason}`;
      throw new CloisterError('AUDIT_INVALID', message);
    }
    tried = epochs.keys.length;
  }
}

/** Verifies a checkpoint of a log by whichever of its keys signed it. */
export function verifyByAny(
  note: Uint8Array | string,
  keys: readonly EpochKey[],
):
  | (CheckpointVerdict & { readonly ok: true; readonly key: NoteVerifier })
  | (CheckpointVerdict & { readonly ok: false }) {
  let verdict: CheckpointVerdict = { ok: false, reason: 'no key' };
  for (const key of keys.toReversed()) {
    const found = verifyStoredCheckpoint(note, key);
    if (found.ok) return { ...found, key };
    if (key === keys.at(-1)) verdict = found;
  }
  return verdict as CheckpointVerdict & { readonly ok: false };
}

/**
 * The public keys of all epochs of the log in `dir`, proved one from the other: what receipts of it verify with.
 *
 * @param vkey - Key of the first epoch; by default the one beside the log.
 * @throws {CloisterError} `AUDIT_INVALID` when one does not follow from the one before; `INVALID_ARGUMENT` when `vkey` is not one;
 *   `STORE_FAILED`.
 * @example
 * ```ts
 * const log = await openLog('./cloister-data/audit');
 * await log.rotateKey();
 * await log.close();
 * readKeys('./cloister-data/audit', log.vkey).length; // 2
 * ```
 */
export function readKeys(dir: string, vkey?: string): string[] {
  const directory = nodeDirectory(dir, false);
  return vkeysOf(followKeys(directory, firstKey(directory, vkey)).keys);
}

/**
 * The keys of epoch 0: those that are given, and those beside the log.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when one that is given is no key; `AUDIT_INVALID` when one beside the log is none.
 */
export function firstKey(directory: LogDirectory, vkey?: string, secondVkey?: string): EpochKey {
  const first = vkey === undefined ? publishedKey(directory) : parseVkey(vkey);
  return { ...first, second: secondVkey === undefined ? publishedSecond(directory, 0) : parseSecond(secondVkey) };
}

function parseSecond(vkey: string): Cosigner {
  const second = parseCosigner(vkey);
  if (second.type !== 'ml-dsa-44')
    throw new CloisterError('INVALID_ARGUMENT', 'the second key of a log is after ML-DSA-44 (type 6)');
  return second;
}

/** The key that is published beside a log: that of epoch 0. */
export function publishedKey(directory: LogDirectory): NoteVerifier {
  const bytes = directory.read(VKEY_FILE, KEY_LIMIT_BYTES);
  if (bytes === undefined) throw new CloisterError('AUDIT_INVALID', `there is no vkey in ${directory.path}`);
  try {
    return parseVkey(decodeUtf8(bytes).replace(/\n$/, ''));
  } catch (cause) {
    throw new CloisterError(
      'AUDIT_INVALID',
      `${directory.path}/${VKEY_FILE} is not a vkey: ${(cause as Error).message}`,
      {},
      { cause },
    );
  }
}
