/**
 * Salted commitments: what the log may say of personal data. Pure.
 * @module
 */
import { concatBytes, encodeUtf8, toHex } from '../../src/base/bytes.ts';
import { CloisterError } from '../../src/base/errors.ts';
import { sha256 } from '../../src/base/sha256.ts';

/**
 * Commits to a value without showing it: `sha256:` and SHA-256(salt || UTF-8 of value). Destroy the salt, and the commitment
 * says nothing any more, while the log still verifies.
 *
 * @param salt - At least 16 random bytes, fresh for each value; kept outside the log.
 * @throws {CloisterError} `INVALID_ARGUMENT` when the salt is shorter: short values could then be guessed.
 * @example
 * ```ts
 * const salt = crypto.getRandomValues(new Uint8Array(16));
 * commit(salt, 'record 4711').startsWith('sha256:'); // true
 * ```
 */
export function commit(salt: Uint8Array, value: string): string {
  if (salt.length < 16)
    throw new CloisterError('INVALID_ARGUMENT', `a salt needs at least 16 bytes, got ${salt.length}`);
  return `sha256:${toHex(sha256(concatBytes(salt, encodeUtf8(value))))}`;
}
