/**
 * A log directory in memory that can lose power: after a given number of steps (a byte appended, a sync, a rename, a removal) every
 * operation fails, and what a disk would hold then can be taken out.
 * @module
 */
import type { LogDirectory, LogFile, WholeFile } from '../../sandbox/audit/directory.ts';
import { CloisterError } from '../../src/base/errors.ts';

/** A file apart from its name, as an inode is. */
interface Content {
  bytes: Uint8Array;
  /** How many of them are durable. */
  synced: number;
  /** What the medium has where `bytes` were overwritten and not synced. */
  overwritten?: Uint8Array | undefined;
  mode: number;
}

/**
 * What happens to what was not synced when the power goes. Bytes: gone, there, zeros, or zeros here and there. Names (made, replaced,
 * removed): as before with `lost`, as after with `kept` and `zeroed`, and one or the other for each with `holes`.
 */
export type Loss = 'lost' | 'kept' | 'zeroed' | 'holes';

export type Operation = 'append' | 'sync' | 'replace' | 'write' | 'create' | 'remove' | 'erase';

export class MemoryDirectory implements LogDirectory {
  readonly path = '/memory';
  /** The files by name, as a process sees them. */
  readonly files: Map<string, Content> = new Map();
  /** The files by name, as far as names are durable. */
  readonly #durable: Map<string, Content> = new Map();
  /** Steps until the power goes. */
  stepsLeft: number = Number.POSITIVE_INFINITY;
  steps = 0;
  /** Counts after which an operation ended, for tests that cut exactly there. */
  readonly boundaries: Set<number> = new Set();
  /** When set, the named operation on files whose names begin so fails as a full or broken disk would. */
  failing: { operation: Operation; file: string; system: string } | undefined;
  /** When set, syncs of that kind do nothing and say that they did: what a broken disk does, for controls. */
  lying: 'bytes' | 'names' | undefined;
  #locked = false;

  /** A copy of the bytes of all files, power on, nobody holding the lock. */
  clone(): MemoryDirectory {
    const copy = new MemoryDirectory();
    for (const [name, { bytes, mode }] of this.files) copy.set(name, bytes.slice(), mode);
    return copy;
  }

  /** What the disk holds after the power went. */
  afterPowerLoss(loss: Loss): MemoryDirectory {
    const copy = new MemoryDirectory();
    for (const name of new Set([...this.files.keys(), ...this.#durable.keys()])) {
      const names = loss === 'lost' || (loss === 'holes' && name.length % 2 === 0) ? this.#durable : this.files;
      const content = names.get(name);
      if (content !== undefined) copy.set(name, surviving(content, loss), content.mode);
    }
    return copy;
  }

  bytes(name: string): Uint8Array {
    return this.#content(name).bytes;
  }

  /** Puts a file there, durably, as nobody who keeps the log would. */
  set(name: string, bytes: Uint8Array, mode: number = this.files.get(name)?.mode ?? 0o600): void {
    const content = { bytes, synced: bytes.length, mode };
    this.files.set(name, content);
    this.#durable.set(name, content);
  }

  /** Takes a file away in the same way. */
  delete(name: string): void {
    this.files.delete(name);
    this.#durable.delete(name);
  }

  /** Names of the files that begin so, sorted. */
  names(prefix = ''): string[] {
    return [...this.files.keys()].filter(name => name.startsWith(prefix)).sort();
  }

  open(name: string): LogFile | undefined {
    const content = this.files.get(name);
    return content && this.#file(name, content);
  }

  openAppend(name: string): LogFile | undefined {
    return this.open(name);
  }

  list(name: string): string[] {
    const below = this.names(`${name}/`).map(file => file.slice(name.length + 1).split('/')[0]!);
    return [...new Set(below)];
  }

  read(name: string, limitBytes: number): Uint8Array | undefined {
    return this.files.get(name)?.bytes.slice(0, limitBytes);
  }

  async replace(name: string, bytes: Uint8Array, mode: number): Promise<void> {
    this.#breakIf('replace', name);
    this.#put([{ name, bytes }], mode);
  }

  create(name: string, bytes: Uint8Array, mode: number): boolean {
    if (this.files.has(name)) return false;
    this.#breakIf('create', name);
    this.#put([{ name, bytes }], mode);
    return true;
  }

  async writeAll(files: readonly WholeFile[]): Promise<void> {
    for (const { name } of files) this.#breakIf('write', name);
    this.#put(files, 0o600);
  }

  remove(names: readonly string[]): void {
    for (const name of names) {
      if (!this.files.has(name)) continue;
      this.#breakIf('remove', name);
      this.#step();
      this.files.delete(name);
    }
  }

  erase(name: string): void {
    const content = this.files.get(name);
    if (content === undefined) return;
    this.#breakIf('erase', name);
    this.#step();
    content.overwritten = content.bytes;
    content.bytes = new Uint8Array(content.bytes.length);
    this.#step();
    content.overwritten = undefined;
    this.#step();
    this.files.delete(name);
    this.#step();
    this.#durable.delete(name);
  }

  mode(name: string): number | undefined {
    return this.files.get(name)?.mode;
  }

  lock(): () => void {
    if (this.#locked) throw new CloisterError('LOCKED', 'held');
    this.#locked = true;
    return () => {
      this.#locked = false;
    };
  }

  /** Writes files beside their names and makes them durable, gives them their names, makes those durable. */
  #put(files: readonly WholeFile[], mode: number): void {
    this.#step();
    for (const { name, bytes } of files) {
      this.#step();
      this.files.set(name, { bytes: Uint8Array.from(bytes), synced: bytes.length, mode });
    }
    this.#step();
    if (this.lying === 'names') return;
    for (const { name } of files) this.#durable.set(name, this.#content(name));
  }

  #file(name: string, content: Content): LogFile {
    return {
      size: () => content.bytes.length,
      readAt: (target, position) => {
        const part = content.bytes.subarray(position, position + target.length);
        target.set(part);
        return part.length;
      },
      append: async bytes => {
        this.#breakIf('append', name);
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
        if (this.lying !== 'bytes') content.synced = content.bytes.length;
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

  #breakIf(operation: Operation, file: string): void {
    if (this.failing?.operation === operation && file.startsWith(this.failing.file)) {
      const { system } = this.failing;
      throw new CloisterError('STORE_FAILED', `cannot ${operation} ${file}: ${system}`, { system });
    }
  }
}

function surviving({ bytes, synced, overwritten }: Content, loss: Loss): Uint8Array {
  if (overwritten !== undefined) {
    if (loss === 'lost') return overwritten.slice();
    return loss === 'holes' ? holes(overwritten.slice(), 0) : bytes.slice();
  }
  if (loss === 'lost') return bytes.slice(0, synced);
  const survived = bytes.slice();
  if (loss === 'zeroed') survived.fill(0, synced);
  return loss === 'holes' ? holes(survived, synced) : survived;
}

function holes(bytes: Uint8Array, from: number): Uint8Array {
  for (let i = from; i < bytes.length; i++) if (Math.floor(i / 64) % 2 === 0) bytes[i] = 0;
  return bytes;
}

function powerCut(): CloisterError {
  return new CloisterError('STORE_FAILED', 'the power is gone', { system: 'EIO' });
}
