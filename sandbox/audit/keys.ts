/**
 * Signing keys: made, kept and read.
 *
 * | file | mode | content |
 * |---|---|---|
 * | `key` | 0600 | `PRIVATE+KEY+NAME+ID+base64(0x01 || seed)` and a newline: the form of golang.org/x/mod/sumdb/note |
 * | `vkey` | 0644 | `NAME+ID+base64(0x01 || public key)` and a newline |
 * @module
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { concatBytes, decodeUtf8, encodeUtf8, fromBase64, toBase64 } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import type { LogDirectory } from './directory.ts';
import { SPKI_PREFIX } from './node-crypto.ts';
import { assertKeyName, formatVkey, type NoteSigner, parseVkey } from './note.ts';

/** File with the private key of one who has but one. */
export const KEY_FILE = 'key';
/** File with the public key; for a log that of its first epoch. */
export const VKEY_FILE = 'vkey';
/** Bytes that a key file may have. */
export const KEY_LIMIT_BYTES = 4096;

/** A signer with its published key. */
export interface LogSigner extends NoteSigner {
  /** What a verifier needs; see {@link parseVkey}. */
  readonly vkey: string;
}

/**
 * Makes a key called `name` and stores it durably in `key` and `vkey`, the private part readable by its owner alone. An existing key
 * stays.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when `name` cannot be a key name; `LOCKED` when the directory has a key already;
 *   `STORE_FAILED` when it cannot be stored.
 */
export function createLogKey(directory: LogDirectory, name: string): LogSigner {
  const signer = createSigner(directory, KEY_FILE, name);
  publish(directory, signer);
  return signer;
}

/**
 * Reads what {@link createLogKey} made; undefined when there is none. A public part that a crash left unwritten is written.
 *
 * @throws {CloisterError} `AUDIT_INVALID` when a key file is malformed or the two do not belong together; `STORE_FAILED` when
 *   it cannot be read or others than its owner may read it.
 */
export function loadLogKey(directory: LogDirectory): LogSigner | undefined {
  const signer = loadSigner(directory, KEY_FILE);
  if (signer !== undefined) publish(directory, signer);
  return signer;
}

/** Makes a key and stores its private part in `file`; throws as {@link createLogKey}. */
export function createSigner(directory: LogDirectory, file: string, name: string): LogSigner {
  assertKeyName(name);
  const seed = seedOf(generateKeyPairSync('ed25519').privateKey);
  const signer = signerOf(name, seed);
  const id = signer.vkey.split('+')[1]!;
  const text = `PRIVATE+KEY+${name}+${id}+${toBase64(concatBytes(Uint8Array.of(1), seed))}\n`;
  if (!directory.create(file, encodeUtf8(text), 0o600)) {
    throw new CloisterError('LOCKED', `${directory.path} has a key already`);
  }
  return signer;
}

/** Reads a private key; undefined when there is none. Throws as {@link loadLogKey}. */
export function loadSigner(directory: LogDirectory, file: string): LogSigner | undefined {
  const bytes = directory.read(file, KEY_LIMIT_BYTES);
  if (bytes === undefined) return undefined;
  assertPrivate(directory, file);
  try {
    return parseSigner(decodeUtf8(bytes).replace(/\n$/, ''));
  } catch (cause) {
    throw new CloisterError('AUDIT_INVALID', `${directory.path}/${file} is not a signing key`, {}, { cause });
  }
}

/** @throws {CloisterError} `STORE_FAILED` when others than its owner may read a file. */
export function assertPrivate(directory: LogDirectory, file: string): void {
  const mode = directory.mode(file);
  if (mode !== undefined && (mode & 0o077) !== 0) {
    throw new CloisterError(
      'STORE_FAILED',
      `${directory.path}/${file} is open to others (mode ${mode.toString(8)}); chmod 600 it`,
    );
  }
}

/**
 * Stores the public part of a key, or checks the one that is there.
 *
 * @throws {CloisterError} `AUDIT_INVALID` when it is of another key; `STORE_FAILED`.
 */
export function publish(directory: LogDirectory, signer: LogSigner): void {
  const published = directory.read(VKEY_FILE, KEY_LIMIT_BYTES);
  if (published === undefined) directory.create(VKEY_FILE, encodeUtf8(`${signer.vkey}\n`), 0o644);
  else if (decodeLossy(published) !== `${signer.vkey}\n`) {
    throw new CloisterError('AUDIT_INVALID', `${directory.path}/${VKEY_FILE} does not belong to ${KEY_FILE}`);
  }
}

/**
 * Reads a signing key as {@link createSigner} spells it, without the newline.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when it is not one, or its id is not that of its key.
 */
export function parseSigner(text: string): LogSigner {
  const match = /^PRIVATE\+KEY\+([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/u.exec(text);
  const key = match === null ? undefined : fromBase64(match[3]!);
  if (match === null || key === undefined || key.length !== 33 || key[0] !== 1) {
    throw new CloisterError('INVALID_ARGUMENT', 'a signing key is PRIVATE+KEY+NAME+ID+base64 of 0x01 and 32 bytes');
  }
  assertKeyName(match[1]!);
  const signer = signerOf(match[1]!, key.slice(1));
  if (signer.vkey.split('+')[1] !== match[2])
    throw new CloisterError('INVALID_ARGUMENT', 'the id of a signing key is not that of its key');
  return signer;
}

function signerOf(name: string, seed: Uint8Array): LogSigner {
  const privateKey = createPrivateKey({ key: Buffer.concat([PKCS8_PREFIX, seed]), format: 'der', type: 'pkcs8' });
  const spki = createPublicKey(privateKey).export({ format: 'der', type: 'spki' });
  const vkey = formatVkey(name, new Uint8Array(spki.subarray(SPKI_PREFIX.length)));
  return { name, id: parseVkey(vkey).id, vkey, sign: text => sign(null, text, privateKey) };
}

function seedOf(key: KeyObject): Uint8Array {
  return new Uint8Array(key.export({ format: 'der', type: 'pkcs8' }).subarray(PKCS8_PREFIX.length));
}

function decodeLossy(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('utf8');
}

/** RFC 8410 §7: PrivateKeyInfo of an Ed25519 key, up to the 32 bytes of the seed. */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex');
