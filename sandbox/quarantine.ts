/**
 * The quarantine: inputs that ended several workers in a row are refused, while others go on.
 * @module
 */
import { createHmac, randomBytes } from 'node:crypto';
import { CloisterError } from '../src/base/index.ts';
import type { PackedTensors } from './tensors.ts';

/** How many workers the same inputs may end in a row. */
export const MAX_ENDED_WORKERS = 2;
/** Inputs that are remembered; the oldest give way. */
const MAX_SUSPECTS = 1_024;
/** After this they are tried once more: a machine that was too busy for them may not be any more. */
const FORGET_MS = 600_000;

interface Suspect {
  readonly bytes: number;
  ended: number;
  until: number;
}

/**
 * Remembers which inputs ended workers, by a digest under a key that leaves this object no more than the digest does. The digest is
 * made only when inputs of the same size have ended a worker before.
 */
export class Quarantine {
  readonly #key = randomBytes(32);
  readonly #suspects = new Map<string, Suspect>();
  readonly #now: () => number;

  /** @param now - Milliseconds that only go forward. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** How many inputs are refused. */
  get size(): number {
    const now = this.#now();
    return [...this.#suspects.values()].filter(({ ended, until }) => ended >= MAX_ENDED_WORKERS && until > now).length;
  }

  /** Whether these inputs are refused. */
  holds(inputs: PackedTensors): boolean {
    const suspect = this.#find(inputs);
    return suspect !== undefined && suspect.ended >= MAX_ENDED_WORKERS;
  }

  /** @throws {CloisterError} `REQUEST_QUARANTINED` when {@link holds}. */
  assertFree(inputs: PackedTensors): void {
    if (!this.holds(inputs)) return;
    const message = `these inputs ended ${MAX_ENDED_WORKERS} workers in a row; they are refused, others are not`;
    throw new CloisterError('REQUEST_QUARANTINED', message, { workers: MAX_ENDED_WORKERS });
  }

  /** These inputs ended a worker. */
  ended(inputs: PackedTensors): void {
    const digest = this.#digest(inputs);
    const suspect = this.#find(inputs) ?? { bytes: inputs.bytes, ended: 0, until: 0 };
    suspect.ended++;
    suspect.until = this.#now() + FORGET_MS;
    this.#suspects.delete(digest);
    this.#suspects.set(digest, suspect);
    const [oldest] = this.#suspects.keys();
    if (this.#suspects.size > MAX_SUSPECTS && oldest !== undefined) this.#suspects.delete(oldest);
  }

  /** These inputs were answered. */
  answered(inputs: PackedTensors): void {
    if (this.#find(inputs) !== undefined) this.#suspects.delete(this.#digest(inputs));
  }

  #find(inputs: PackedTensors): Suspect | undefined {
    if (![...this.#suspects.values()].some(({ bytes }) => bytes === inputs.bytes)) return undefined;
    const digest = this.#digest(inputs);
    const suspect = this.#suspects.get(digest);
    if (suspect === undefined || suspect.until > this.#now()) return suspect;
    this.#suspects.delete(digest);
    return undefined;
  }

  #digest({ heads, parts }: PackedTensors): string {
    const hmac = createHmac('sha256', this.#key);
    hmac.update(JSON.stringify(heads)).update('\n');
    for (const part of parts) hmac.update(part);
    return hmac.digest('base64');
  }
}
