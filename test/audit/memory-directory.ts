/**
 * A log directory in memory that can lose power: after a given number of steps (a byte appended, a sync, a truncation, a
 * replacement) every operation fails, and what a disk would hold then can be taken out.
 * @module
 */
import type { LogDirectory, LogFile } from '../../sandbox/audit/directory.ts';
import { CloisterError } from '../../src/base/errors.ts';

interface Content {
  bytes: Uint8Array;
  /** How many of them are durable. */
  synced: number;
  mode: number;
}

/** What happens to bytes that were written and not synced when the power goes. */
export type Loss = 'lost' | 'kept' | 'zeroed' | 'holes';

export class MemoryDirectory implements LogDirectory {
  readonly path = '/memory';
  readonly files: Map<string, Content> = new Map();
  /** Steps until the power goes. */
  stepsLeft: number = Number.POSITIVE_INFINITY;
  steps = 0;
  /** Counts after which an operation ended, for tests that cut exactly there. */
  readonly boundaries: Set<number> = new Set();
  /** When set, the named operation fails as a full or broken disk would. */
  failing: { operation: 'append' | 'sync' | 'replace'; file: string; system: string } | undefined;
  #locked = false;

  /** A copy of the bytes of all files, power on, nobody holding the lock. */
  clone(): MemoryDirectory {
    const copy = new MemoryDirectory();
    for (const [name, { bytes, mode }] of this.files)
      copy.files.set(name, { bytes: bytes.slice(), synced: bytes.length, mode });
    return copy;
  }

  /** What the disk holds after the power went. */
  afterPowerLoss(loss: Loss): MemoryDirectory {
    const copy = new MemoryDirectory();
    for (const [name, { bytes, synced, mode }] of this.files) {
      const survived = loss === 'lost' ? bytes.slice(0, synced) : bytes.slice();
      if (loss === 'zeroed') survived.fill(0, synced);
      if (loss === 'holes')
        for (let i = synced; i < survived.length; i++) if (Math.floor(i / 64) % 2 === 0) survived[i] = 0;
      copy.files.set(name, { bytes: survived, synced: survived.length, mode });
    }
    return copy;
  }

  bytes(name: string): Uint8Array {
    return this.#content(name).bytes;
  }

  set(name: string, bytes: Uint8Array): void {
    this.files.set(name, { bytes, synced: bytes.length, mode: this.files.get(name)?.mode ?? 0o600 });
  }

  open(name: string): LogFile | undefined {
    return this.files.has(name) ? this.#file(name) : undefined;
  }

  openAppend(name: string): LogFile {
    if (!this.files.has(name)) {
      this.#step();
      this.files.set(name, { bytes: new Uint8Array(0), synced: 0, mode: 0o600 });
    }
    return this.#file(name);
  }

  read(name: string, limitBytes: number): Uint8Array | undefined {
    return this.files.get(name)?.bytes.slice(0, limitBytes);
  }

  async replace(name: string, bytes: Uint8Array, mode: number): Promise<void> {
    this.#breakIf('replace', name);
    this.#step();
    this.files.set(name, { bytes: Uint8Array.from(bytes), synced: bytes.length, mode });
    this.#step();
  }

  create(name: string, bytes: Uint8Array, mode: number): boolean {
    if (this.files.has(name)) return false;
    this.#step();
    this.files.set(name, { bytes: Uint8Array.from(bytes), synced: bytes.length, mode });
    return true;
  }

  mode(name: string): number {
    return this.#content(name).mode;
  }

  lock(): () => void {
    if (this.#locked) throw new CloisterError('LOCKED', 'held');
    this.#locked = true;
    return () => {
      this.#locked = false;
    };
  }

  #file(name: string): LogFile {
    return {
      size: () => this.#content(name).bytes.length,
      readAt: (target, position) => {
        const part = this.#content(name).bytes.subarray(position, position + target.length);
        target.set(part);
        return part.length;
      },
      append: async bytes => {
        this.#breakIf('append', name);
        const content = this.#content(name);
        const room = Math.min(bytes.length, this.stepsLeft - this.steps);
        const grown = new Uint8Array(content.bytes.length + room);
        grown.set(content.bytes);
        grown.set(bytes.subarray(0, room), content.bytes.length);
        content.bytes = grown;
        this.steps += room;
        if (room < bytes.length) throw powerCut();
        this.boundaries.add(this.steps);
      },
      sync: async () => {
        this.#breakIf('sync', name);
        this.#step();
        const content = this.#content(name);
        content.synced = content.bytes.length;
      },
      truncate: size => {
        this.#step();
        const content = this.#content(name);
        content.bytes = content.bytes.slice(0, size);
        content.synced = Math.min(content.synced, size);
      },
      close: () => undefined,
    };
  }

  #content(name: string): Content {
    const content = this.files.get(name);
    if (content === undefined) throw new Error(`no file ${name}`);
    return content;
  }

  #step(): void {
    if (this.steps >= this.stepsLeft) throw powerCut();
    this.steps++;
    this.boundaries.add(this.steps);
  }

  #breakIf(operation: 'append' | 'sync' | 'replace', file: string): void {
    if (this.failing?.operation === operation && this.failing.file === file) {
      const { system } = this.failing;
      throw new CloisterError('STORE_FAILED', `cannot ${operation} ${file}: ${system}`, { system });
    }
  }
}

function powerCut(): CloisterError {
  return new CloisterError('STORE_FAILED', 'the power is gone', { system: 'EIO' });
}
