/**
 * Keys that cosign checkpoints: Ed25519 and ML-DSA-44 on node:crypto.
 *
 * A private key is spelt `PRIVATE+KEY+NAME+ID+base64(type || seed)`, type 0x04 or 0x06, the seed 32 bytes (for ML-DSA-44 the xi of
 * FIPS 204 §6.1).
 * @module
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto';
import { concatBytes, fromBase64, toBase64 } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import {
  type CosignatureType,
  type CosignatureVerify,
  type CosignSigner,
  cosignatureByte,
  formatCosigner,
  parseCosigner,
} from './cosignature.ts';
import { assertKeyName } from './note.ts';

/**
 * Makes a key that cosigns checkpoints, for a witness.
 *
 * @param name - Name of the key: a URL without scheme as a rule (`witness.example/w1`).
 * @returns The cosigner, and its private key as text for {@link parseCosignSigner}.
 * @throws {CloisterError} `INVALID_ARGUMENT` on a name that cannot be one.
 * @example
 * ```ts
 * const { signer, secret } = createCosigner('witness.example/w1');
 * parseCosignSigner(secret).vkey === signer.vkey; // true
 * signer.type; // 'ml-dsa-44'
 * ```
 */
export function createCosigner(
  name: string,
  type: CosignatureType = 'ml-dsa-44',
): { readonly signer: CosignSigner; readonly secret: string } {
  assertKeyName(name);
  const { privateKey } = type === 'ed25519' ? generateKeyPairSync('ed25519') : generateKeyPairSync('ml-dsa-44');
  const seed = seedOf(type, privateKey);
  const signer = signerOf(name, type, seed);
  const id = signer.vkey.slice(name.length + 1, name.length + 9);
  const spelt = toBase64(concatBytes(Uint8Array.of(cosignatureByte(type)), seed));
  return { signer, secret: `PRIVATE+KEY+${name}+${id}+${spelt}` };
}

/**
 * Reads a private key that {@link createCosigner} gave.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when it is not one, or its id is not that of its key.
 */
export function parseCosignSigner(secret: string): CosignSigner {
  const match = /^PRIVATE\+KEY\+([^+]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)$/u.exec(secret);
  const key = match === null ? undefined : fromBase64(match[3]!);
  const type = TYPES.find(one => cosignatureByte(one) === key?.[0]);
  if (match === null || key === undefined || type === undefined || key.length !== 1 + SEED_BYTES) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      'the private key of a cosigner is PRIVATE+KEY+NAME+ID+base64 of a type (4 or 6) and 32 bytes',
    );
  }
  const signer = signerOf(match[1]!, type, key.subarray(1));
  if (!signer.vkey.startsWith(`${match[1]}+${match[2]}+`))
    throw new CloisterError('INVALID_ARGUMENT', 'the id of a private key is not that of its key');
  return signer;
}

/** {@link CosignatureVerify} by OpenSSL, for both types. */
export const nodeCosignature: CosignatureVerify = (type, signature, message, publicKey) => {
  try {
    const key = createPublicKey({ key: Buffer.concat([SPKI[type], publicKey]), format: 'der', type: 'spki' });
    return verify(null, message, key, signature);
  } catch {
    return false;
  }
};

const TYPES = ['ed25519', 'ml-dsa-44'] as const;
const SEED_BYTES = 32;

/** SubjectPublicKeyInfo up to the bytes of the key: RFC 8410 §4 and RFC 9881 §4. */
const SPKI: Readonly<Record<CosignatureType, Buffer>> = {
  ed25519: Buffer.from('302a300506032b6570032100', 'hex'),
  'ml-dsa-44': Buffer.from('30820532300b06096086480165030403110382052100', 'hex'),
};

/** PrivateKeyInfo up to the 32 bytes of the seed: RFC 8410 §7 and RFC 9881 §6, the form with the seed alone. */
const PKCS8: Readonly<Record<CosignatureType, Buffer>> = {
  ed25519: Buffer.from('302e020100300506032b657004220420', 'hex'),
  'ml-dsa-44': Buffer.from('3034020100300b060960864801650304031104228020', 'hex'),
};

function signerOf(name: string, type: CosignatureType, seed: Uint8Array): CosignSigner {
  const key = createPrivateKey({ key: Buffer.concat([PKCS8[type], seed]), format: 'der', type: 'pkcs8' });
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
  const vkey = formatCosigner(name, type, new Uint8Array(spki.subarray(SPKI[type].length)));
  return { name, id: parseCosigner(vkey).id, type, vkey, sign: message => sign(null, message, key) };
}

function seedOf(type: CosignatureType, key: KeyObject): Uint8Array {
  const jwk = key.export({ format: 'jwk' }) as { readonly d?: string; readonly priv?: string };
  return new Uint8Array(Buffer.from((type === 'ed25519' ? jwk.d : jwk.priv) ?? '', 'base64url'));
}
