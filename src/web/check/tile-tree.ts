/**
 * The Merkle tree of a log that somebody else serves, read from its tiles. No hash of a tile is believed before it leads to the root
 * of the signed checkpoint. Pure.
 * @module
 */

import { HASH_BYTES, inclusionProof, type NodeReader, pureHasher, rootAt } from '../../../sandbox/audit/merkle.ts';
import {
  foldTile,
  nodesOfTiles,
  TILE_HEIGHT,
  TILE_WIDTH,
  tilePath,
  tilesAt,
  tileWidth,
} from '../../../sandbox/audit/tiles.ts';
import { equalBytes } from '../../base/bytes.ts';

/** Fetches a file of the log by its path; undefined where there is none. */
export type FetchFile = (path: string) => Promise<Uint8Array | undefined>;

/** A tile that is not there, has the wrong length, or does not lead to the signed root. */
export class TileError extends Error {
  override readonly name = 'TileError';
  readonly level: number;
  readonly index: number;
  /** Whether the file was not there at all. */
  readonly absent: boolean;

  constructor(level: number, index: number, why: string, absent = false) {
    super(`hash tile ${tilePath(level, index)}: ${why}`);
    this.level = level;
    this.index = index;
    this.absent = absent;
  }
}

/** The tree of the first `size` records, whose root is known from a signature. */
export class TileTree {
  readonly size: number;
  readonly root: Uint8Array;
  readonly #fetch: FetchFile;
  readonly #tiles = new Map<string, Uint8Array>();
  readonly #node: NodeReader;

  private constructor(size: number, root: Uint8Array, fetchFile: FetchFile) {
    this.size = size;
    this.root = root;
    this.#fetch = fetchFile;
    this.#node = nodesOfTiles((level, index) => {
      const tile = this.#tiles.get(keyOf(level, index));
      if (tile === undefined) throw new NotLoaded(level, index);
      return tile;
    }, size);
  }

  /**
   * Opens the tree: reads the tile at its right edge on every level, and checks that together they give `root`.
   *
   * @throws {TileError} when one is not there, or they give another root.
   */
  static async open(size: number, root: Uint8Array, fetchFile: FetchFile): Promise<TileTree> {
    const tree = new TileTree(size, root, fetchFile);
    const edge: Promise<void>[] = [];
    for (let level = 0; ; level++) {
      const { full, partial } = tilesAt(level, size);
      if (full === 0 && partial === 0) break;
      if (partial > 0) edge.push(tree.#keep(level, full));
    }
    await Promise.all(edge);
    // Every hash of these tiles is in exactly one subtree of the root's compact range, so the root vouches for all of them.
    if (!equalBytes(rootAt(size, tree.#node), root)) {
      throw new TileError(0, tilesAt(0, size).full, 'the tiles at the edge of the tree do not lead to the signed root');
    }
    return tree;
  }

  /**
   * The hash tile at `level` with number `index`, checked up to the root.
   *
   * @throws {TileError} when it is not there or does not lead to the root.
   */
  async tile(level: number, index: number): Promise<Uint8Array> {
    const key = keyOf(level, index);
    const known = this.#tiles.get(key);
    if (known !== undefined) return known;
    const above = await this.hash((level + 1) * TILE_HEIGHT, index);
    const bytes = await this.unchecked(level, index);
    if (!equalBytes(foldTile(bytes), above)) throw new TileError(level, index, 'it does not lead to the signed root');
    this.#tiles.set(key, bytes);
    if (this.#tiles.size > TILE_LIMIT) this.#drop();
    return bytes;
  }

  /** The hash of a complete subtree, as `NodeReader` gives it, checked. */
  async hash(level: number, index: number): Promise<Uint8Array> {
    return await this.#read(node => node(level, index));
  }

  /** The audit path of a record, lowest sibling first. */
  async inclusionProof(index: number): Promise<Uint8Array[]> {
    return await this.#read(node => inclusionProof(index, this.size, node));
  }

  /** The root that the log had at `size` records, at most the records of this tree. */
  async rootAt(size: number): Promise<Uint8Array> {
    return await this.#read(node => rootAt(size, node));
  }

  /** A tile as it is served, of the right length but not checked. */
  async unchecked(level: number, index: number): Promise<Uint8Array> {
    const width = tileWidth(level, index, this.size);
    // A log that has grown may have a wider tile alone.
    const bytes =
      (await this.#fetch(tilePath(level, index, width))) ??
      (width < TILE_WIDTH ? await this.#fetch(tilePath(level, index)) : undefined);
    if (bytes === undefined) throw new TileError(level, index, 'it is missing', true);
    if (bytes.length < width * HASH_BYTES || bytes.length % HASH_BYTES !== 0)
      throw new TileError(level, index, `expected ${width} hashes of ${HASH_BYTES} bytes, got ${bytes.length} bytes`);
    return bytes.subarray(0, width * HASH_BYTES);
  }

  async #keep(level: number, index: number): Promise<void> {
    this.#tiles.set(keyOf(level, index), await this.unchecked(level, index));
  }

  /** Runs a computation over nodes as often as it takes until all tiles that it needs are there: they lie on one path. */
  async #read<T>(compute: (node: NodeReader) => T): Promise<T> {
    for (;;) {
      try {
        return compute(this.#node);
      } catch (error) {
        if (!(error instanceof NotLoaded)) throw error;
        await this.tile(error.level, error.index);
      }
    }
  }

  /** Forgets the oldest full tiles; those at the edge stay, as nothing else vouches for them. */
  #drop(): void {
    for (const key of this.#tiles.keys()) {
      const [level = 0, index = 0] = key.split('/').map(Number);
      if (tileWidth(level, index, this.size) < TILE_WIDTH || level > 0) continue;
      this.#tiles.delete(key);
      if (this.#tiles.size <= TILE_LIMIT / 2) return;
    }
  }
}

/** The leaf hash of a record, on the pure hasher. */
export function leafHash(record: Uint8Array): Uint8Array {
  return pureHasher.leaf(record);
}

/** Tiles that are kept, 8 KiB each. */
const TILE_LIMIT = 1024;

class NotLoaded extends Error {
  readonly level: number;
  readonly index: number;

  constructor(level: number, index: number) {
    super('a tile is not loaded');
    this.level = level;
    this.index = index;
  }
}

function keyOf(level: number, index: number): string {
  return `${level}/${index}`;
}
