/**
 * How often each subject was seen, in bounded memory for each.
 * @module
 */
import { osRandom } from '../../../src/base/index.ts';

const SALT_BYTES = 16;
const FIRST_SLOTS = 1024;
/** Words of a slot: 128 bits of digest, and the count; 0 where the slot is free. */
const WORDS = 5;

/**
 * Counts of pairs of a subject and a label, kept under 128 bits of a salted SHA-256 of each pair: 40 to 80 bytes of memory for a
 * distinct pair, however long its key, and no keys. Two pairs meet with a probability of about n^2 / 2^129 among n, which nobody
 * can raise without knowing the salt.
 */
export class SubjectCounts {
  // Loaded with the first of them, not with this module.
  readonly #hash = process.getBuiltinModule('node:crypto').hash;
  readonly #head = Buffer.alloc(SALT_BYTES + 4);
  #slots = new Uint32Array(WORDS * FIRST_SLOTS);
  #size = 0;

  constructor() {
    osRandom.fill(this.#head.subarray(0, SALT_BYTES));
  }

  /** Counts the pair once more if it was counted fewer than `limit` times; returns whether it was. */
  take(subject: string, label: number, limit: number): boolean {
    const at = this.#find(subject, label);
    const count = this.#slots[at + 4]!;
    if (count >= limit) return false;
    this.#slots[at + 4] = count + 1;
    if (count === 0 && 2 * WORDS * ++this.#size > this.#slots.length) this.#grow(); // more than half full
    return true;
  }

  /** How often the pair was counted. */
  count(subject: string, label: number): number {
    return this.#slots[this.#find(subject, label) + 4]!;
  }

  /** Where the pair is, or is to be: a slot that holds its digest. One with a count of 0 is not kept when the table grows. */
  #find(subject: string, label: number): number {
    this.#head.writeUInt32LE(label, SALT_BYTES);
    // UTF-16 code units tell every two strings apart; UTF-8 would merge lone surrogates.
    const message = Buffer.alloc(SALT_BYTES + 4 + 2 * subject.length);
    message.set(this.#head);
    message.write(subject, SALT_BYTES + 4, 'utf16le');
    const digest = this.#hash('sha256', message, 'buffer');
    const [a, b, c, d] = [0, 4, 8, 12].map(from => digest.readUInt32LE(from)) as [number, number, number, number];
    return this.#place(a, b, c, d);
  }

  #place(a: number, b: number, c: number, d: number): number {
    const slots = this.#slots;
    const last = slots.length / WORDS - 1;
    for (let slot = b & last; ; slot = (slot + 1) & last) {
      const at = WORDS * slot;
      // A slot that nobody was counted in is free, whatever was looked up there before.
      if (slots[at + 4] === 0) {
        slots[at] = a;
        slots[at + 1] = b;
        slots[at + 2] = c;
        slots[at + 3] = d;
        return at;
      }
      if (slots[at] === a && slots[at + 1] === b && slots[at + 2] === c && slots[at + 3] === d) return at;
    }
  }

  #grow(): void {
    const before = this.#slots;
    this.#slots = new Uint32Array(2 * before.length);
    for (let at = 0; at < before.length; at += WORDS) {
      const count = before[at + 4]!;
      if (count === 0) continue;
      this.#slots[this.#place(before[at]!, before[at + 1]!, before[at + 2]!, before[at + 3]!) + 4] = count;
    }
  }
}
