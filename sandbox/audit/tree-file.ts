/**
 * The tree file: the hashes of a log's Merkle tree, in the order in which they become known. It is derived from the segment
 * and can be rebuilt; it makes proofs and starting cheap, and it tells which record was changed.
 *
 * For record i = 0, 1, 2 …:
 *
 * | size | meaning |
 * |---|---|
 * | 8 | offset in the segment at which the frame of record i ends, little-endian |
 * | 32 | leaf hash of record i |
 * | 32 each | the nodes that leaf i completes, from level 1 upwards: as many as i has trailing one bits |
 *
 * So node (level, index) follows leaf `(index + 1) * 2^level - 1`, and every place is computed, not searched: before record i
 * lie i leaves and `i - popcount(i)` nodes.
 * @module
 */
import { CloisterError } from '../../src/base/errors.ts';
import type { LogFile } from './directory.ts';
import { HASH_BYTES, popcount } from './merkle.ts';

const OFFSET_BYTES = 8;

/** Bytes that the entries of the first `size` records take. */
export function treeBytes(size: number): number {
  return OFFSET_BYTES * size + HASH_BYTES * (2 * size - popcount(size));
}

/** Where the tree file has the hash of node (level, index); level 0 is a leaf. */
export function nodePosition(level: number, index: number): number {
  return treeBytes((index + 1) * 2 ** level - 1) + OFFSET_BYTES + HASH_BYTES * level;
}

/** The entry of one record. */
export function treeEntry(frameEnd: number, leafHash: Uint8Array, completed: readonly Uint8Array[]): Uint8Array {
  const entry = new Uint8Array(OFFSET_BYTES + HASH_BYTES * (1 + completed.length));
  new DataView(entry.buffer).setBigUint64(0, BigInt(frameEnd), true);
  entry.set(leafHash, OFFSET_BYTES);
  completed.forEach((hash, i) => {
    entry.set(hash, OFFSET_BYTES + HASH_BYTES * (i + 1));
  });
  return entry;
}

/**
 * The hash of node (level, index).
 *
 * @throws {CloisterError} `AUDIT_INVALID` when the file ends before it.
 */
export function readNode(file: LogFile, level: number, index: number): Uint8Array {
  const hash = new Uint8Array(HASH_BYTES);
  if (file.readAt(hash, nodePosition(level, index)) !== HASH_BYTES) {
    throw new CloisterError('AUDIT_INVALID', `the tree file ends before node ${index} of level ${level}`);
  }
  return hash;
}

/** Where the frame of record `index` ends in the segment, as far as the tree file knows. -1: it does not. */
export function readFrameEnd(file: LogFile, index: number): number {
  const bytes = new Uint8Array(OFFSET_BYTES);
  if (file.readAt(bytes, treeBytes(index)) !== OFFSET_BYTES) return -1;
  const end = new DataView(bytes.buffer).getBigUint64(0, true);
  return end <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(end) : -1;
}

/** Reads the entries one after another with 64 KiB of memory. */
export class TreeReader {
  readonly #file: LogFile;
  readonly #buffer: Uint8Array = new Uint8Array(65_536);
  readonly #view: DataView = new DataView(this.#buffer.buffer);
  #index = 0;
  #position = 0; // file offset of the next entry
  #base = 0;
  #filled = 0;

  constructor(file: LogFile) {
    this.#file = file;
  }

  /** The next entry, its hashes views that the next read overwrites; undefined when the file ends before its end. */
  next(): { readonly frameEnd: bigint; readonly leafHash: Uint8Array; readonly nodes: Uint8Array } | undefined {
    const end = treeBytes(this.#index + 1);
    const bytes = end - this.#position;
    if (end > this.#base + this.#filled) {
      this.#base = this.#position;
      this.#filled = this.#file.readAt(this.#buffer, this.#base);
      if (this.#filled < bytes) return undefined;
    }
    const at = this.#position - this.#base;
    const nodesAt = at + OFFSET_BYTES + HASH_BYTES;
    this.#position = end;
    this.#index++;
    return {
      frameEnd: this.#view.getBigUint64(at, true),
      leafHash: this.#buffer.subarray(at + OFFSET_BYTES, nodesAt),
      nodes: this.#buffer.subarray(nodesAt, at + bytes),
    };
  }
}
