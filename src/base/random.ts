/**
 * The randomness seam. There is one source for production, the operating system's; a seeded one exists in tests only.
 * @module
 */

/** Where random bytes come from. */
export interface RandomSource {
  /** Overwrites all of `target` with independent uniform bytes. Throws rather than fill with less than the source promises. */
  fill(target: Uint8Array): void;
}

const CHUNK = 65_536; // Web Cryptography API §10.1.1: getRandomValues refuses more than 65,536 bytes.

/** The operating system's generator, through the Web Cryptography API. */
export const osRandom: RandomSource = {
  fill(target) {
    for (let offset = 0; offset < target.length; offset += CHUNK) {
      globalThis.crypto.getRandomValues(
        target.subarray(offset, Math.min(offset + CHUNK, target.length)) as Uint8Array<ArrayBuffer>,
      );
    }
  },
};
