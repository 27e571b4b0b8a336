/**
 * Ed25519 without Node. The build puts the one curve in this file's place (`.ci/inline.ts`).
 * @module
 */
export { ed25519 } from '@noble/curves/ed25519.js';
