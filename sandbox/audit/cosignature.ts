/**
 * Cosignatures of checkpoints, as C2SP tlog-cosignature has them: what witnesses add to a checkpoint, and the line after ML-DSA-44
 * that a log adds to its own. Pure.
 *
 * | type | public key | signature line, after the key id | signed message |
 * |---|---|---|---|
 * | 0x04 Ed25519 | 32 bytes | u64 seconds, 64 bytes | `cosignature/v1`, `time N` and the text of the note, each line ended by a newline |
 * | 0x06 ML-DSA-44 | 1,312 bytes | u64 seconds, 2,420 bytes | the structure below |
 *
 * | bytes | meaning, integers big-endian |
 * |---|---|
 * | 12 | `subtree/v1`, a newline, a zero |
 * | 1 + n | length and name of the cosigner, UTF-8, 1 to 255 bytes |
 * | 8 | seconds since 1970; 0 where the cosigner says nothing of the time, as a log does of its own checkpoints |
 * | 1 + n | length and origin of the log, UTF-8, 1 to 255 bytes |
 * | 8, 8 | first leaf, 0 for a checkpoint; size of the tree |
 * | 32 | root |
 * @module
 * @see https://c2sp.org/tlog-cosignature
 */
import { concatBytes, encodeUtf8 } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import { type Checkpoint, type CheckpointVerdict, parseCheckpoint } from './checkpoint.ts';
import {
  assertKeyName,
  formatSignature,
  hex32,
  NOTE_LIMIT_BYTES,
  type NoteSignature,
  parseNote,
  parseSignature,
  pureEd25519,
  readVkey,
  SIGNATURE_LIMIT,
  spellVkey,
} from './note.ts';

/** What a cosigner signs with. C2SP recommends ML-DSA-44 for new ones: it withstands quantum computers. */
export type CosignatureType = 'ed25519' | 'ml-dsa-44';

/** The public key of a cosigner, as its vkey spells it. */
export interface Cosigner {
  /** Name of its key: a URL without scheme as a rule. */
  readonly name: string;
  /** Key id, see {@link parseCosigner}. */
  readonly id: number;
  readonly type: CosignatureType;
  readonly publicKey: Uint8Array;
}

/** Something that cosigns checkpoints; `createCosigner` makes one. */
export interface CosignSigner {
  readonly name: string;
  readonly id: number;
  readonly type: CosignatureType;
  /** Public key, for those who verify. */
  readonly vkey: string;
  /** Signs `message` after {@link type}. */
  sign(message: Uint8Array): Uint8Array;
}

/** Verifies a signature of a type. */
export type CosignatureVerify = (
  type: CosignatureType,
  signature: Uint8Array,
  message: Uint8Array,
  publicKey: Uint8Array,
) => boolean;

/** A cosignature that holds. */
export interface Cosignature {
  readonly cosigner: Cosigner;
  /** When it was made by the cosigner's clock, seconds since 1970; 0 where it says nothing of the time. */
  readonly time: number;
}

/** What {@link verifyCosignatures} found. */
export type CosignatureVerdict =
  | { readonly ok: true; readonly checkpoint: Checkpoint; readonly cosigned: readonly Cosignature[] }
  | { readonly ok: false; readonly reason: string };

/**
 * {@link CosignatureVerify} without Node, for Ed25519 alone.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` for ML-DSA-44: `nodeCosignature` verifies it.
 */
export const pureCosignature: CosignatureVerify = (type, signature, message, publicKey) => {
  if (type === 'ed25519') return pureEd25519(signature, message, publicKey);
  throw new CloisterError('INVALID_ARGUMENT', 'ML-DSA-44 is verified with nodeCosignature, or one that you pass');
};

/**
 * Reads the vkey of a cosigner: `NAME+ID+base64(0x04 || Ed25519 key)` or `NAME+ID+base64(0x06 || ML-DSA-44 key)`, where the id is the
 * first four bytes of SHA-256(name || 0x0A || type || key).
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the spelling, the id, the type or the length of the key is wrong.
 */
export function parseCosigner(vkey: string): Cosigner {
  const { name, id, type, publicKey } = readVkey(
    vkey,
    'an Ed25519 key (type 4, 32 bytes) or an ML-DSA-44 key (type 6, 1,312 bytes)',
    TYPES.map(one => [FORMS[one].byte, FORMS[one].keyBytes]),
  );
  assertFits('the name of a cosigner', name);
  return { name, id, type: TYPES.find(one => FORMS[one].byte === type)!, publicKey };
}

/**
 * The vkey of a cosigner.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` on a name that cannot be one, or a key of another length.
 */
export function formatCosigner(name: string, type: CosignatureType, publicKey: Uint8Array): string {
  assertKeyName(name);
  assertFits('the name of a cosigner', name);
  const { byte, keyBytes } = FORMS[type];
  if (publicKey.length !== keyBytes) {
    throw new CloisterError('INVALID_ARGUMENT', `a key of ${type} is ${keyBytes} bytes, got ${publicKey.length}`);
  }
  return spellVkey(name, byte, publicKey);
}

/**
 * Cosigns a checkpoint and returns the signature line, without its newline. It says that the tree extends every other of this log that
 * the cosigner has seen, and none was larger: that must have been checked before.
 *
 * @param text - Text of the note: a checkpoint. Its signatures are not looked at.
 * @param time - Seconds since 1970, or 0 to say nothing of the time.
 * @throws {CloisterError} `AUDIT_INVALID` when the text is not a checkpoint; `INVALID_ARGUMENT` when `time` is no count, the origin is
 *   over 255 bytes, or the checkpoint has extension lines, which ML-DSA-44 cosignatures do not cover.
 * @see https://c2sp.org/tlog-cosignature
 */
export function cosign(text: string, signer: CosignSigner, time: number): string {
  if (!Number.isSafeInteger(time) || time < 0) {
    throw new CloisterError('INVALID_ARGUMENT', `the time of a cosignature is in whole seconds, got ${time}`);
  }
  const message = cosignedMessage(signer.type, signer.name, text, time);
  return formatSignature({ ...signer, signature: concatBytes(uint64(time), signer.sign(message)) });
}

/**
 * Returns `note` with further signature lines. A line by the same key replaces the older one, so that a checkpoint does not grow with each
 * look of a witness. Nothing is verified.
 *
 * @throws {CloisterError} `AUDIT_INVALID` when one is malformed, or there would be more than 100 lines or 131,072 bytes.
 */
export function addSignatures(note: string, lines: readonly string[]): string {
  const { text, signatures } = parseNote(note);
  const added = lines.map(parseSignature);
  const same = (a: NoteSignature, b: NoteSignature): boolean => a.name === b.name && a.id === b.id;
  const kept = signatures.filter(old => !added.some(one => same(one, old)));
  const all = [...kept, ...added.filter((one, i) => !added.slice(i + 1).some(later => same(later, one)))];
  const grown = `${text}\n${all.map(one => `${formatSignature(one)}\n`).join('')}`;
  if (all.length > SIGNATURE_LIMIT || encodeUtf8(grown).length > NOTE_LIMIT_BYTES) {
    throw new CloisterError('AUDIT_INVALID', 'a note holds 100 signatures and 131,072 bytes at most');
  }
  return grown;
}

/**
 * Verifies the cosignatures on a checkpoint by the cosigners given. Each that is there must hold; that one is missing is for the caller to
 * judge, see `verifyWitnessed`. Lines by others are ignored. The log's own signature is not looked at: `verifyCheckpoint` does that.
 *
 * @param note - The checkpoint as stored or received. Hostile bytes are refused, never thrown on.
 * @param verify - By default Ed25519 alone, without Node; pass `nodeCosignature` where one of the keys is after ML-DSA-44.
 * @throws {CloisterError} `INVALID_ARGUMENT` when `verify` has no way to verify a type that is asked for.
 */
export function verifyCosignatures(
  note: Uint8Array | string,
  cosigners: readonly Cosigner[],
  verify: CosignatureVerify = pureCosignature,
): CosignatureVerdict {
  let text: string;
  let signatures: readonly NoteSignature[];
  let checkpoint: Checkpoint;
  try {
    ({ text, signatures } = parseNote(note));
    checkpoint = parseCheckpoint(text);
  } catch (error) {
    return { ok: false, reason: error instanceof Error ? error.message : 'malformed checkpoint' };
  }
  const cosigned: Cosignature[] = [];
  for (const { name, id, signature } of signatures) {
    const known = cosigners.filter(one => one.name === name && one.id === id);
    if (known.length > 1) return { ok: false, reason: `ambiguous key ${name}+${hex32(id)}` };
    const cosigner = known[0];
    if (cosigner === undefined || cosigned.some(one => one.cosigner === cosigner)) continue;
    const time = timeIn(signature);
    if (time === undefined || !holds(cosigner, signature, text, time, verify))
      return { ok: false, reason: `invalid cosignature for key ${name}+${hex32(id)}` };
    cosigned.push({ cosigner, time });
  }
  return { ok: true, checkpoint, cosigned };
}

/**
 * Verifies that a checkpoint carries the line of the second key that its log has beside its Ed25519 key: see `secondSignature` of
 * `openLog`. The line of the first key is not looked at: `verifyCheckpoint` does that.
 *
 * @param note - The checkpoint as stored or received. Hostile bytes are refused, never thrown on.
 * @param second - The second key of the log in the epoch of the checkpoint: its name is the origin.
 * @param verify - Where to verify ML-DSA-44: `nodeCosignature`, or one of your own.
 * @example
 * ```ts
 * await using log = await openLog('./cloister-data/audit', { secondSignature: 'ml-dsa-44' });
 * const note = await log.checkpoint();
 * verifySecondLine(note, parseCosigner(log.secondVkey!), nodeCosignature).ok; // true
 * verifyCheckpoint(note, parseVkey(log.vkey)).ok; // true, for those who know Ed25519 alone
 * ```
 */
export function verifySecondLine(
  note: Uint8Array | string,
  second: Cosigner,
  verify: CosignatureVerify,
): CheckpointVerdict {
  const verdict = verifyCosignatures(note, [second], verify);
  if (!verdict.ok) return verdict;
  const { checkpoint, cosigned } = verdict;
  if (cosigned.length === 0)
    return {
      ok: false,
      reason: `the checkpoint has no line by the ${second.type} key ${second.name}+${hex32(second.id)}`,
    };
  if (checkpoint.origin !== second.name)
    return { ok: false, reason: `the checkpoint is of log ${checkpoint.origin}, the second key of ${second.name}` };
  return { ok: true, checkpoint };
}

const TYPES = ['ed25519', 'ml-dsa-44'] as const;

/** What the specification fixes for each type. */
const FORMS = {
  ed25519: { byte: 4, keyBytes: 32, signatureBytes: 64 },
  'ml-dsa-44': { byte: 6, keyBytes: 1312, signatureBytes: 2420 },
} as const satisfies Record<CosignatureType, { byte: number; keyBytes: number; signatureBytes: number }>;

const TIME_BYTES = 8;
const LABEL = encodeUtf8('subtree/v1\n\0');

/** The byte of a signature type. */
export function cosignatureByte(type: CosignatureType): number {
  return FORMS[type].byte;
}

function holds(
  { name, type, publicKey }: Cosigner,
  signature: Uint8Array,
  text: string,
  time: number,
  verify: CosignatureVerify,
): boolean {
  const raw = signature.subarray(TIME_BYTES);
  if (raw.length !== FORMS[type].signatureBytes) return false;
  let message: Uint8Array;
  try {
    message = cosignedMessage(type, name, text, time);
  } catch {
    return false; // an origin or extension lines that a cosignature cannot cover
  }
  return verify(type, raw, message, publicKey);
}

function cosignedMessage(type: CosignatureType, name: string, text: string, time: number): Uint8Array {
  const { origin, size, root, extensions } = parseCheckpoint(text);
  if (type === 'ed25519') return encodeUtf8(`cosignature/v1\ntime ${time}\n${text}`);
  if (extensions.length > 0) {
    throw new CloisterError('INVALID_ARGUMENT', 'an ML-DSA-44 cosignature does not cover extension lines');
  }
  return concatBytes(
    LABEL,
    prefixed('the name of a cosigner', name),
    uint64(time),
    prefixed('an origin', origin),
    uint64(0),
    uint64(size),
    root,
  );
}

function prefixed(what: string, text: string): Uint8Array {
  const bytes = assertFits(what, text);
  return concatBytes(Uint8Array.of(bytes.length), bytes);
}

/** RFC 8446 §3.4: a vector of one length byte. */
function assertFits(what: string, text: string): Uint8Array {
  const bytes = encodeUtf8(text);
  if (bytes.length < 1 || bytes.length > 255)
    throw new CloisterError('INVALID_ARGUMENT', `${what} is 1 to 255 bytes long, got ${bytes.length}`);
  return bytes;
}

function uint64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  return bytes;
}

/** The seconds at the start of a signature; undefined when they are missing or beyond 2^53. */
function timeIn(signature: Uint8Array): number | undefined {
  if (signature.length < TIME_BYTES) return undefined;
  const time = new DataView(signature.buffer, signature.byteOffset).getBigUint64(0);
  return time <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(time) : undefined;
}
