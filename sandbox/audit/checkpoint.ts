/**
 * Checkpoints: signed tree heads in the form of C2SP tlog-checkpoint. Pure.
 * @module
 * @see https://c2sp.org/tlog-checkpoint
 */
import { fromBase64, toBase64 } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import { HASH_BYTES } from './merkle.ts';
import { type Ed25519Verify, type NoteSigner, type NoteVerifier, signNote, verifyNote } from './note.ts';

/** A tree head: which log, how many records, and their root. */
export interface Checkpoint {
  /** The log's name; for a log of ours also the name of its key. */
  readonly origin: string;
  /** Records in the tree. */
  readonly size: number;
  /** Root hash of RFC 6962, 32 bytes. */
  readonly root: Uint8Array;
  /** Lines after the third, opaque. A log of ours writes none. */
  readonly extensions: readonly string[];
}

/** What {@link verifyCheckpoint} found. */
export type CheckpointVerdict =
  | { readonly ok: true; readonly checkpoint: Checkpoint }
  | { readonly ok: false; readonly reason: string };

/** The note text of a tree head. */
export function formatCheckpoint(head: Pick<Checkpoint, 'origin' | 'size' | 'root'>): string {
  return `${head.origin}\n${head.size}\n${toBase64(head.root)}\n`;
}

/**
 * Reads the text of a checkpoint note. Call it only with text that a signature vouches for.
 *
 * @throws {CloisterError} `AUDIT_INVALID` when the text is not a checkpoint: at least three lines that are not empty; the size
 *   in decimal without leading zeros and below 2^53; the root 32 bytes in base64.
 */
export function parseCheckpoint(text: string): Checkpoint {
  const refuse = (why: string): never => {
    throw new CloisterError('AUDIT_INVALID', `malformed checkpoint: ${why}`);
  };
  if (!text.endsWith('\n')) refuse('no newline at the end');
  const [origin = '', sizeText = '', rootText = '', ...extensions] = text.slice(0, -1).split('\n');
  if (origin === '' || extensions.includes('')) refuse('an empty line');
  const size = Number(sizeText);
  if (!/^(0|[1-9][0-9]*)$/.test(sizeText) || !Number.isSafeInteger(size))
    refuse('the tree size is not a decimal number below 2^53');
  let root: Uint8Array = new Uint8Array(0);
  try {
    root = fromBase64(rootText);
  } catch {
    refuse('the root is not base64');
  }
  if (root.length !== HASH_BYTES) refuse(`the root is ${root.length} bytes, not ${HASH_BYTES}`);
  return { origin, size, root, extensions };
}

/** Signs a tree head; the origin is the signer's name. */
export function signCheckpoint(size: number, root: Uint8Array, signer: NoteSigner): string {
  return signNote(formatCheckpoint({ origin: signer.name, size, root }), signer);
}

/**
 * Verifies that `note` is a checkpoint signed by `key`, of the log whose name is the name of that key.
 *
 * @param note - The checkpoint as stored or received. Hostile bytes are refused, never thrown on.
 */
export function verifyCheckpoint(
  note: Uint8Array | string,
  key: NoteVerifier,
  verify?: Ed25519Verify,
): CheckpointVerdict {
  const verdict = verifyNote(note, [key], verify);
  if (!verdict.ok) return verdict;
  try {
    const checkpoint = parseCheckpoint(verdict.text);
    if (checkpoint.origin !== key.name)
      return { ok: false, reason: `the checkpoint is of log ${checkpoint.origin}, the key of ${key.name}` };
    return { ok: true, checkpoint };
  } catch (error) {
    return { ok: false, reason: error instanceof Error ? error.message : 'malformed checkpoint' };
  }
}
