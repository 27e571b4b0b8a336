/**
 * SHA-256 without Node. The build puts the one function in this file's place (`.ci/inline.ts`).
 * @module
 */
export { sha256 } from '@noble/hashes/sha2.js';
