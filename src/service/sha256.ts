/**
 * SHA-256 for bytes of any number, by Node. It is loaded when something is hashed: an import of the facade does without.
 * @module
 */
import type { Hash } from 'node:crypto';

/** A SHA-256 that has seen nothing yet. */
export function startSha256(): Hash {
  return process.getBuiltinModule('node:crypto').createHash('sha256');
}
