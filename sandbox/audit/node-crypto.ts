/**
 * SHA-256 and Ed25519 on node:crypto, for the writer and for verifying whole directories. A test holds them to the pure ones.
 * @module
 */
import { createPublicKey, hash, verify } from 'node:crypto';
import { HASH_BYTES, type Hasher } from './merkle.ts';
import type { Ed25519Verify } from './note.ts';
import { RECORD_LIMIT_BYTES } from './record.ts';

// One call on one buffer is twice as fast as create, update, digest. Both are overwritten at each use, synchronously.
const leafBuffer: Buffer = Buffer.alloc(1 + RECORD_LIMIT_BYTES);
const nodeBuffer: Buffer = Buffer.alloc(65, 1);

/** {@link Hasher} on node:crypto. A leaf may have up to {@link RECORD_LIMIT_BYTES}. */
export const nodeHasher: Hasher = {
  leaf(record) {
    leafBuffer.set(record, 1);
    return sha256(leafBuffer.subarray(0, 1 + record.length));
  },
  node(left, right) {
    nodeBuffer.set(left, 1);
    nodeBuffer.set(right, 33);
    return sha256(nodeBuffer);
  },
};

/** A digest as a part of a larger buffer: one of its own for each takes longer to make and to collect than the hash itself. */
function sha256(bytes: Buffer): Uint8Array {
  if (slabUsed === SLAB_BYTES) {
    slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
    slabUsed = 0;
  }
  const digest = slab.subarray(slabUsed, slabUsed + HASH_BYTES);
  slabUsed += HASH_BYTES;
  digest.write(hash('sha256', bytes, 'binary'), 'binary');
  return digest;
}

const SLAB_BYTES = 16_384;
let slab: Buffer = Buffer.alloc(0);
let slabUsed = SLAB_BYTES;

/** Ed25519 verification by OpenSSL. */
export const nodeEd25519: Ed25519Verify = (signature, message, publicKey) => {
  try {
    const key = createPublicKey({ key: Buffer.concat([SPKI_PREFIX, publicKey]), format: 'der', type: 'spki' });
    return verify(null, message, key, signature);
  } catch {
    return false;
  }
};

/** RFC 8410 §4: SubjectPublicKeyInfo of an Ed25519 key, up to the 32 bytes of the key. */
export const SPKI_PREFIX: Buffer = Buffer.from('302a300506032b6570032100', 'hex');
