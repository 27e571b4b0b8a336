/**
 * Signed notes: text with signature lines, as the C2SP signed-note specification has them; Ed25519 is verified here, the types that only
 * checkpoints carry in `cosignature.ts`. Pure.
 *
 * ```text
 * TEXT (ends in a newline)
 * (empty line)
 * — NAME base64(key id, 4 bytes big-endian || signature, of an Ed25519 key 64 bytes)      one line for each signature
 * ```
 *
 * The parser is strict: UTF-8, no control characters but newline, at most 100 signature lines, base64 in its one spelling.
 * @module
 * @see https://c2sp.org/signed-note
 */
import { concatBytes, decodeUtf8, encodeUtf8, equalBytes, fromBase64, toBase64, toHex } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import { sha256 } from '../../src/base/sha256.ts';
import { ed25519 } from './ed25519.ts';

/** Signature lines that a note may have. The specification asks for at least 16. */
export const SIGNATURE_LIMIT = 100;

/** Bytes that a note may have: room for 16 signatures of the largest kinds. */
export const NOTE_LIMIT_BYTES = 131_072;

/** A public key, as its vkey spells it. */
export interface NoteVerifier {
  /** Key name: not empty, without white space and without `+`. */
  readonly name: string;
  /** The first four bytes of SHA-256(name || 0x0A || 0x01 || public key), big-endian. */
  readonly id: number;
  /** Ed25519 public key, 32 bytes. */
  readonly publicKey: Uint8Array;
}

/** Something that signs notes. */
export interface NoteSigner {
  readonly name: string;
  readonly id: number;
  /** The Ed25519 signature of `text`, 64 bytes (RFC 8032 §5.1.6). */
  sign(text: Uint8Array): Uint8Array;
}

/** One signature line. */
export interface NoteSignature {
  readonly name: string;
  readonly id: number;
  /** What follows the key id; for a key of ours 64 bytes. */
  readonly signature: Uint8Array;
}

/** A note taken apart, not verified. */
export interface Note {
  /** The signed text with its final newline. */
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

/** What {@link verifyNote} found: the text and who signed it, or why the text must be ignored. */
export type NoteVerdict =
  | { readonly ok: true; readonly text: string; readonly signedBy: readonly NoteVerifier[] }
  | { readonly ok: false; readonly reason: string };

/** Verifies an Ed25519 signature. */
export type Ed25519Verify = (signature: Uint8Array, message: Uint8Array, publicKey: Uint8Array) => boolean;

/** Ed25519 verification after RFC 8032 §5.1.7 (no ZIP 215 leniency), on `@noble/curves`. */
export const pureEd25519: Ed25519Verify = (signature, message, publicKey) => {
  try {
    return ed25519.verify(signature, message, publicKey, { zip215: false });
  } catch {
    return false; // noble throws on a point or length that is not one
  }
};

/** The key id of a key under a name, as C2SP recommends it; `type` is the byte of the signature type. */
export function noteKeyId(name: string, publicKey: Uint8Array, type: number = ED25519): number {
  return uint32(sha256(concatBytes(encodeUtf8(name), Uint8Array.of(0x0a, type), publicKey)));
}

/**
 * The vkey of a public key: `NAME+ID+base64(0x01 || public key)`.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` on a name that is empty or holds white space or `+`, or a key that is not 32 bytes.
 */
export function formatVkey(name: string, publicKey: Uint8Array): string {
  assertKeyName(name);
  if (publicKey.length !== 32)
    throw new CloisterError('INVALID_ARGUMENT', `an Ed25519 key is 32 bytes, got ${publicKey.length}`);
  return spellVkey(name, ED25519, publicKey);
}

/** `NAME+ID+base64(type || key)`: how keys of every signature type are spelt. */
export function spellVkey(name: string, type: number, publicKey: Uint8Array): string {
  const id = hex32(noteKeyId(name, publicKey, type));
  return `${name}+${id}+${toBase64(concatBytes(Uint8Array.of(type), publicKey))}`;
}

/**
 * Reads a vkey.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the spelling, the key id, the algorithm or the key length is wrong.
 */
export function parseVkey(text: string): NoteVerifier {
  const { name, id, publicKey } = readVkey(text, 'an Ed25519 key (type 1, 32 bytes)', [[ED25519, 32]]);
  return { name, id, publicKey };
}

/**
 * Reads a vkey of one of the signature types given, each with the bytes of its key.
 *
 * @param expected - Says which, for messages.
 * @throws {CloisterError} `INVALID_ARGUMENT` when the spelling, the type, the length of the key or the id is wrong.
 */
export function readVkey(
  text: string,
  expected: string,
  types: readonly (readonly [type: number, keyBytes: number])[],
): NoteVerifier & { readonly type: number } {
  const match = /^([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/u.exec(text);
  if (match === null) throw new CloisterError('INVALID_ARGUMENT', 'a vkey is NAME+8 hexadecimal digits+base64');
  const [, name = '', id = '', encoded = ''] = match;
  assertKeyName(name);
  const key = fromBase64(encoded);
  const type = key[0] ?? 0;
  const publicKey = key.slice(1);
  // First the type: others have ids of another kind.
  if (!types.some(([known, keyBytes]) => known === type && keyBytes === publicKey.length)) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `expected a vkey that holds ${expected}, got type ${type}, ${publicKey.length} bytes`,
    );
  }
  const computed = noteKeyId(name, publicKey, type);
  if (hex32(computed) !== id) {
    throw new CloisterError('INVALID_ARGUMENT', `the key id of ${name} is ${hex32(computed)}, the vkey says ${id}`);
  }
  return { name, id: computed, type, publicKey };
}

/**
 * Takes a note apart. Its text means nothing until {@link verifyNote} has accepted it.
 *
 * @throws {CloisterError} `AUDIT_INVALID` when the bytes are not a well-formed note.
 */
export function parseNote(note: Uint8Array | string): Note {
  if (note.length > NOTE_LIMIT_BYTES) malformed(`longer than ${NOTE_LIMIT_BYTES} bytes`);
  let all: string;
  try {
    all = typeof note === 'string' ? note : decodeUtf8(note);
  } catch {
    return malformed('not UTF-8');
  }
  if (!all.isWellFormed()) malformed('not UTF-8');
  for (let i = 0; i < all.length; i++) {
    const code = all.charCodeAt(i);
    if (code < 0x20 && code !== 0x0a) malformed(`control character at ${i}`);
  }
  const split = all.lastIndexOf('\n\n');
  if (split < 0) malformed('no empty line before the signatures');
  const text = all.slice(0, split + 1);
  const block = all.slice(split + 2);
  if (!block.endsWith('\n')) malformed('no newline at the end of the signatures');
  const lines = block.slice(0, -1).split('\n');
  if (lines.length > SIGNATURE_LIMIT) malformed(`more than ${SIGNATURE_LIMIT} signatures`);
  return { text, signatures: lines.map(parseSignature) };
}

/**
 * Verifies a note: every signature by a key in `keys` must hold, and there must be at least one. Lines by other keys are
 * ignored, as the specification demands; a repeated line by one key counts once.
 *
 * @param note - The note as it was stored or received. Hostile bytes are refused, never thrown on.
 * @param keys - The keys to trust.
 */
export function verifyNote(
  note: Uint8Array | string,
  keys: readonly NoteVerifier[],
  verify: Ed25519Verify = pureEd25519,
): NoteVerdict {
  let parsed: Note;
  try {
    parsed = parseNote(note);
  } catch (error) {
    return { ok: false, reason: error instanceof Error ? error.message : 'malformed note' };
  }
  const message = encodeUtf8(parsed.text);
  const signedBy: NoteVerifier[] = [];
  for (const { name, id, signature } of parsed.signatures) {
    const known = keys.filter(key => key.name === name && key.id === id);
    if (known.length > 1) return { ok: false, reason: `ambiguous key ${name}+${hex32(id)}` };
    const key = known[0];
    if (key === undefined || signedBy.includes(key)) continue;
    if (signature.length !== 64 || !verify(signature, message, key.publicKey)) {
      return { ok: false, reason: `invalid signature for key ${name}+${hex32(id)}` };
    }
    signedBy.push(key);
  }
  if (signedBy.length === 0) return { ok: false, reason: 'the note has no signature by a known key' };
  return { ok: true, text: parsed.text, signedBy };
}

/**
 * Signs `text` and returns the note.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when `text` does not end in a newline or cannot be the text of a note.
 */
export function signNote(text: string, signer: NoteSigner): string {
  if (!text.endsWith('\n')) throw new CloisterError('INVALID_ARGUMENT', 'the text of a note must end in a newline');
  assertKeyName(signer.name);
  return `${text}\n${formatSignature({ ...signer, signature: signer.sign(encodeUtf8(text)) })}\n`;
}

/** A signature line, without its newline. */
export function formatSignature({ name, id, signature }: NoteSignature): string {
  const prefix = new Uint8Array(4);
  new DataView(prefix.buffer).setUint32(0, id);
  return `— ${name} ${toBase64(concatBytes(prefix, signature))}`;
}

/**
 * Reads a signature line as {@link formatSignature} spells it.
 *
 * @throws {CloisterError} `AUDIT_INVALID` when it is not one.
 */
export function parseSignature(line: string): NoteSignature {
  if (!line.startsWith('— ')) malformed('a signature line starts with an em dash and a space');
  const space = line.indexOf(' ', 2);
  if (space < 0) malformed('a signature line has a name and a signature');
  const name = line.slice(2, space);
  let bytes: Uint8Array;
  try {
    bytes = fromBase64(line.slice(space + 1));
  } catch {
    return malformed('a signature is not base64');
  }
  if (!isKeyName(name) || bytes.length < 5) malformed('a signature line has a bad name or is too short');
  return { name, id: uint32(bytes), signature: bytes.slice(4) };
}

/** Whether two keys are the same key under the same name. */
export function sameKey(a: NoteVerifier, b: NoteVerifier): boolean {
  return a.name === b.name && a.id === b.id && equalBytes(a.publicKey, b.publicKey);
}

/**
 * Checks that `name` can be the name of a key.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when it is empty, longer than 256 characters, or holds white space, a control
 *   character or `+`.
 */
export function assertKeyName(name: string): void {
  if (!isKeyName(name)) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      'a key name must be 1 to 256 characters without white space, control characters or "+"',
    );
  }
}

function isKeyName(name: string): boolean {
  return name.length > 0 && name.length <= 256 && name.isWellFormed() && !/[\p{White_Space}\p{Cc}+]/u.test(name);
}

function malformed(why: string): never {
  throw new CloisterError('AUDIT_INVALID', `malformed note: ${why}`);
}

function uint32(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
}

/** A key id as vkeys and messages spell it. */
export function hex32(id: number): string {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, id);
  return toHex(bytes);
}

/** C2SP signed-note, signature types: 0x01 is Ed25519. */
const ED25519 = 1;
