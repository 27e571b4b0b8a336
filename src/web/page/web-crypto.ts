/**
 * SHA-256 and Ed25519 by the browser itself (WebCrypto), which it offers on this machine and over HTTPS. Elsewhere, and where it has
 * no Ed25519, pure code does the same.
 * @module
 */
import { type Ed25519Verify, parseNote, parseVkey, pureEd25519 } from '../../../sandbox/audit/note.ts';
import { encodeUtf8, toHex } from '../../base/bytes.ts';
import { leafHash } from '../check/tile-tree.ts';

const subtle: SubtleCrypto | undefined = globalThis.crypto?.subtle;

/** RFC 6962 leaf hashes of many records at once: the browser hashes them beside this thread. */
export async function hashLeaves(records: readonly Uint8Array[]): Promise<readonly Uint8Array[]> {
  if (subtle === undefined) return records.map(leafHash);
  const digests = records.map(record => {
    const message = new Uint8Array(record.length + 1); // RFC 6962 §2.1: 0x00 marks a leaf
    message.set(record, 1);
    return subtle.digest('SHA-256', message);
  });
  return (await Promise.all(digests)).map(digest => new Uint8Array(digest));
}

/** Verifies the signatures of a note beforehand, so that what checks the note need not wait. */
export async function verifierFor(note: Uint8Array, vkey: string): Promise<Ed25519Verify> {
  const known = new Map<string, boolean>();
  try {
    const { text, signatures } = parseNote(note);
    const { id, publicKey } = parseVkey(vkey.trim());
    const key = await subtle?.importKey('raw', new Uint8Array(publicKey), 'Ed25519', false, ['verify']);
    for (const { signature, id: signer } of signatures) {
      if (key === undefined || subtle === undefined || signer !== id) continue;
      const holds = await subtle.verify('Ed25519', key, new Uint8Array(signature), new Uint8Array(encodeUtf8(text)));
      known.set(keyOf(signature, publicKey), holds);
    }
  } catch {
    // A note or key that cannot be read is refused where it is checked; no Ed25519 in this browser leaves it to pure code.
  }
  return (signature, message, publicKey) =>
    known.get(keyOf(signature, publicKey)) ?? pureEd25519(signature, message, publicKey);
}

function keyOf(signature: Uint8Array, publicKey: Uint8Array): string {
  return `${toHex(signature)} ${toHex(publicKey)}`;
}
