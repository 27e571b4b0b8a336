/**
 * Who made a plugin: an Ed25519 signature over the digest of its manifest, and so over every file that the manifest names.
 *
 * The signature is a signed note (`sandbox/audit/note.ts`) with this text. Its first line sets it apart from every other note that a
 * key may sign: a tree head begins with the name of its log, which has no space.
 *
 * ```text
 * cloister plugin 1
 * SHA-256 of the manifest, 64 hexadecimal digits
 * ```
 * @module
 */

import { CloisterError, decodeUtf8, encodeUtf8 } from '../../src/base/index.ts';
import { nodeDirectory } from '../audit/directory.ts';
import { type NoteSigner, type NoteVerifier, signNote, verifyNote } from '../audit/index.ts';
import { createLogKey, loadLogKey } from '../audit/keys.ts';
import { nodeEd25519 } from '../audit/node-crypto.ts';
import { encodeManifest, type PluginManifest } from './manifest.ts';
import { encodePackage, type PluginPackage, readPackage, sha256Hex } from './package.ts';

/** A key of a publisher. */
export interface PublisherKey extends NoteSigner {
  /** The public key, as the policy of whoever installs names it. */
  readonly vkey: string;
}

/** What {@link verifyPublisher} found. */
export type PublisherVerdict =
  /** Signed by a key that is trusted. */
  | { readonly kind: 'signed'; readonly publisher: string }
  /** Neither names a publisher nor has a signature. */
  | { readonly kind: 'unsigned' }
  /** Names a publisher whose key is not among those that are trusted, so that nothing can be verified. */
  | { readonly kind: 'unknown'; readonly publisher: string }
  /** The signature and the manifest do not belong together. */
  | { readonly kind: 'invalid'; readonly reason: string };

/**
 * Makes a key in the folder `directory`, which is made: `key` (mode 0600) and `vkey`.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when `name` cannot be the name of a publisher; `LOCKED` when there is a key already;
 *   `STORE_FAILED`.
 */
export function createPublisherKey(directory: string, name: string): PublisherKey {
  if (!/^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,127}$/.test(name)) {
    const message = 'the name of a publisher is 1 to 128 of A-Z a-z 0-9 . _ / : @ -, the first a letter or digit';
    throw new CloisterError('INVALID_ARGUMENT', message);
  }
  return createLogKey(nodeDirectory(directory, true), name);
}

/**
 * Reads the key in the folder `directory`.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is none; `AUDIT_INVALID` when it is malformed; `STORE_FAILED` when it cannot
 *   be read, or others than its owner may read it.
 */
export function loadPublisherKey(directory: string): PublisherKey {
  const key = loadLogKey(nodeDirectory(directory, false));
  if (key) return key;
  const message = `there is no key in ${directory}: make one with \`cloister plugin keygen\``;
  throw new CloisterError('INVALID_ARGUMENT', message, { directory });
}

/** How a manifest names a key: `NAME+8 hexadecimal digits`. */
export function publisherOf({ name, id }: Pick<NoteVerifier, 'name' | 'id'>): string {
  return `${name}+${id.toString(16).padStart(8, '0')}`;
}

/**
 * Signs a package: its manifest names the key from then on.
 *
 * @returns The package with the signature. An earlier signature by the same key is replaced.
 * @throws {CloisterError} `INVALID_PLUGIN` when `bytes` are not a package; `INVALID_ARGUMENT` when it names another publisher.
 */
export function signPackage(bytes: Uint8Array, key: PublisherKey): Uint8Array<ArrayBuffer> {
  const { manifest, files } = readPackage(bytes);
  const publisher = publisherOf(key);
  if (manifest.publisher !== undefined && manifest.publisher !== publisher) {
    const message = `the package names ${manifest.publisher} as its publisher, the key is ${publisher}: pack the plugin anew`;
    throw new CloisterError('INVALID_ARGUMENT', message, { publisher: manifest.publisher, key: publisher });
  }
  const signed: PluginManifest = { ...manifest, publisher };
  const note = signNote(textFor(sha256Hex(encodeManifest(signed))), key);
  return encodePackage(signed, files, encodeUtf8(note));
}

/**
 * Verifies who made a package.
 *
 * @param trusted - The public keys to trust.
 */
export function verifyPublisher(
  { manifest, manifestDigest, signature }: PluginPackage,
  trusted: readonly NoteVerifier[],
): PublisherVerdict {
  const { publisher } = manifest;
  if (publisher === undefined) {
    return signature === undefined
      ? { kind: 'unsigned' }
      : { kind: 'invalid', reason: 'it is signed, and its manifest names no publisher' };
  }
  if (signature === undefined) return { kind: 'invalid', reason: `it names ${publisher}, and is not signed` };
  const keys = trusted.filter(key => publisherOf(key) === publisher);
  if (keys.length === 0) return { kind: 'unknown', publisher };
  const verdict = verifyNote(signature, keys, nodeEd25519);
  if (!verdict.ok) return { kind: 'invalid', reason: verdict.reason };
  if (verdict.text !== textFor(manifestDigest)) {
    return { kind: 'invalid', reason: 'its signature is about another manifest' };
  }
  // One line of signature in one spelling: what is not verified must not be carried along.
  if (decodeUtf8(signature).split('\n').length !== 5) {
    return { kind: 'invalid', reason: 'it has more than one signature' };
  }
  return { kind: 'signed', publisher };
}

function textFor(manifestDigest: string): string {
  return `cloister plugin 1\n${manifestDigest}\n`;
}
