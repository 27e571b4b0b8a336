/**
 * Deflate, unpacked without Node. The build puts the one function in this file's place (`.ci/inline.ts`).
 * @module
 */
export { inflateSync } from 'fflate';
