/**
 * The second key of a log: ML-DSA-44, whose signatures a quantum computer does not forge. Every checkpoint that is stored carries its line
 * beside that of the Ed25519 key, as C2SP tlog-cosignature has it: the name is the origin, the time 0. It changes with the epoch.
 *
 * | file | mode | content |
 * |---|---|---|
 * | `keys/<epoch>-ml-dsa-44` | 0600 | `PRIVATE+KEY+NAME+ID+base64(0x06 || seed)` and a newline; of past epochs there is none |
 * | `ml-dsa-44/<epoch>` | 0644 | `NAME+ID+base64(0x06 || public key)` and a newline, of every epoch |
 *
 * That of epoch 0 is for the auditor to keep; the record that announces the next key of the log has the digest of the next one here.
 * @module
 * @see https://c2sp.org/tlog-cosignature
 */
import { hash } from 'node:crypto';
import { decodeUtf8, encodeUtf8 } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import { type CheckpointVerdict, signCheckpoint, verifyCheckpoint } from './checkpoint.ts';
import {
  addSignatures,
  type Cosigner,
  type CosignSigner,
  cosign,
  parseCosigner,
  verifySecondLine,
} from './cosignature.ts';
import { createCosigner, nodeCosignature, parseCosignSigner } from './cosigner.ts';
import type { LogDirectory } from './directory.ts';
import { assertPrivate, KEY_LIMIT_BYTES, type LogSigner } from './keys.ts';
import { nodeEd25519 } from './node-crypto.ts';
import { type NoteVerifier, parseNote } from './note.ts';

/** The public keys of an epoch. */
export interface EpochKey extends NoteVerifier {
  /** After ML-DSA-44, in a log that has one. */
  readonly second?: Cosigner | undefined;
}

/** The private keys of an epoch. */
export interface EpochSigner extends LogSigner {
  readonly second?: CosignSigner | undefined;
}

/** A second key that is not stored yet. */
export type NewSecond = ReturnType<typeof createCosigner>;

/** Name of the file with the private second key of an epoch. */
export function secondKeyFile(epoch: number): string {
  return `keys/${epoch}-ml-dsa-44`;
}

/** Name of the file with the public second key of an epoch. */
export function secondVkeyFile(epoch: number): string {
  return `ml-dsa-44/${epoch}`;
}

/**
 * Makes the second key of a log called `origin`, and stores nothing.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the name cannot be one, or is over 255 bytes.
 */
export function newSecond(origin: string): NewSecond {
  return createCosigner(origin, 'ml-dsa-44');
}

/** Stores both parts of a second key durably; throws `LOCKED` when the epoch has one, and `STORE_FAILED`. */
export async function storeSecond(directory: LogDirectory, epoch: number, made: NewSecond): Promise<CosignSigner> {
  if (!directory.create(secondKeyFile(epoch), encodeUtf8(`${made.secret}\n`), 0o600))
    throw new CloisterError('LOCKED', `${directory.path} has a second key already`);
  await publishSecond(directory, epoch, made.signer);
  return made.signer;
}

/** Stores the public part of a second key durably. */
export async function publishSecond(directory: LogDirectory, epoch: number, signer: CosignSigner): Promise<void> {
  await directory.replace(secondVkeyFile(epoch), encodeUtf8(`${signer.vkey}\n`), 0o644);
}

/**
 * The private second key of an epoch; undefined when there is none.
 *
 * @throws {CloisterError} `AUDIT_INVALID` when it is malformed; `STORE_FAILED` when others than its owner may read it.
 */
export function loadSecond(directory: LogDirectory, epoch: number): CosignSigner | undefined {
  return readKey(directory, secondKeyFile(epoch), text => {
    assertPrivate(directory, secondKeyFile(epoch));
    return parseCosignSigner(text);
  });
}

/** The public second key of an epoch as it lies beside the log; undefined when there is none. Throws `AUDIT_INVALID` on any other. */
export function publishedSecond(directory: LogDirectory, epoch: number): Cosigner | undefined {
  return readKey(directory, secondVkeyFile(epoch), parseCosigner);
}

/** What a record says of a second key: `sha256:` and the digest of its vkey. */
export function secondDigest(vkey: string): string {
  return `sha256:${hash('sha256', vkey)}`;
}

/** The second key of an epoch beside the log, if it is the one that was announced; undefined when it is not. */
export function announcedSecond(
  directory: LogDirectory,
  epoch: number,
  digest: string | undefined,
): Cosigner | undefined {
  return readKey(directory, secondVkeyFile(epoch), text =>
    secondDigest(text) === digest ? parseCosigner(text) : undefined,
  );
}

/** Signs a tree head with each key of the epoch: what is stored. About a millisecond where there are two. */
export function signStored(size: number, root: Uint8Array, signer: EpochSigner): string {
  return withSecond(signCheckpoint(size, root, signer), signer);
}

/** A checkpoint with the line of the second key, where there is one. */
export function withSecond(note: string, { second }: EpochSigner): string {
  return second === undefined ? note : addSignatures(note, [cosign(parseNote(note).text, second, 0)]);
}

/** Verifies a checkpoint under all keys of an epoch. */
export function verifyStoredCheckpoint(note: Uint8Array | string, key: EpochKey): CheckpointVerdict {
  const verdict = verifyCheckpoint(note, key, nodeEd25519);
  return verdict.ok && key.second !== undefined ? verifySecondLine(note, key.second, nodeCosignature) : verdict;
}

function readKey<Key>(directory: LogDirectory, file: string, parse: (text: string) => Key): Key | undefined {
  const bytes = directory.read(file, KEY_LIMIT_BYTES);
  if (bytes === undefined) return undefined;
  try {
    return parse(decodeUtf8(bytes).replace(/\n$/, ''));
  } catch (cause) {
    if (cause instanceof CloisterError && cause.code === 'STORE_FAILED') throw cause;
    throw new CloisterError('AUDIT_INVALID', `${directory.path}/${file} is not an ML-DSA-44 key`, {}, { cause });
  }
}
