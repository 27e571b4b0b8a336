/**
 * Which subjects were seen, in bounded memory for each.
 * @module
 */
import { osRandom } from '../../../src/base/index.ts';

const SALT_BYTES = 16;
const FIRST_SLOTS = 1024;

/**
 * A set of subject keys that holds 128 bits of a salted SHA-256 of each: 32 to 64 bytes of memory for each distinct subject,
 * however long its key, and no keys. Two keys meet with a probability of about n^2 / 2^128 among n, which nobody can raise
 * without knowing the salt.
 */
export class SubjectSet {
  // Loaded with the first set of subjects, not with this module.
  readonly #hash = process.getBuiltinModule('node:crypto').hash;
  readonly #salt = new Uint8Array(SALT_BYTES);
  /** Open addressing: four words for each slot, the first odd when it is taken. */
  #slots = new Uint32Array(4 * FIRST_SLOTS);
  #size = 0;

  constructor() {
    osRandom.fill(this.#salt);
  }

  /** Adds `subject`; whether it was new. */
  add(subject: string): boolean {
    // UTF-16 code units tell every two strings apart; UTF-8 would merge lone surrogates.
    const message = Buffer.alloc(SALT_BYTES + 2 * subject.length);
    message.set(this.#salt);
    message.write(subject, SALT_BYTES, 'utf16le');
    const digest = this.#hash('sha256', message, 'buffer');
    const [a, b, c, d] = [0, 4, 8, 12].map(at => digest.readUInt32LE(at)) as [number, number, number, number];
    if (!this.#insert((a | 1) >>> 0, b, c, d)) return false;
    this.#size++;
    if (8 * this.#size > this.#slots.length) this.#grow(); // more than half full
    return true;
  }

  #insert(a: number, b: number, c: number, d: number): boolean {
    const slots = this.#slots;
    const last = slots.length / 4 - 1;
    for (let slot = b & last; ; slot = (slot + 1) & last) {
      const at = 4 * slot;
      if (slots[at] === 0) {
        slots[at] = a;
        slots[at + 1] = b;
        slots[at + 2] = c;
        slots[at + 3] = d;
        return true;
      }
      if (slots[at] === a && slots[at + 1] === b && slots[at + 2] === c && slots[at + 3] === d) return false;
    }
  }

  #grow(): void {
    const before = this.#slots;
    this.#slots = new Uint32Array(2 * before.length);
    for (let at = 0; at < before.length; at += 4) {
      if (before[at] !== 0) this.#insert(before[at]!, before[at + 1]!, before[at + 2]!, before[at + 3]!);
    }
  }
}
