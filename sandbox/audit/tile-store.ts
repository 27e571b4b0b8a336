/**
 * Tiles in the directory of a log: reading them, also while a writer puts wider ones in their place, and writing those that records
 * complete.
 * @module
 */
import { CloisterError } from '../../src/base/errors.ts';
import type { LogDirectory, WholeFile } from './directory.ts';
import { HASH_BYTES, type NodeReader } from './merkle.ts';
import { nodeHasher } from './node-crypto.ts';
import { RECORD_LIMIT_BYTES } from './record.ts';
import {
  type Bundle,
  decodeBundle,
  ENTRY_HEADER_BYTES,
  encodeBundle,
  nodesOfTiles,
  TILE_HEIGHT,
  TILE_WIDTH,
  type TileLevel,
  tilePath,
  tilesAt,
  tileWidth,
} from './tiles.ts';

/** A tile as it is on disk. */
export interface StoredTile {
  readonly bytes: Uint8Array;
  /** Entries that its name says it has. */
  readonly width: number;
}

/**
 * A tile that is at least `width` wide: a writer removes a partial one once a wider one is durable. Undefined when there is none.
 *
 * @throws {CloisterError} `STORE_FAILED`; `AUDIT_INVALID` when something else lies where a tile should.
 */
export function readTile(
  directory: LogDirectory,
  level: TileLevel,
  index: number,
  width: number,
): StoredTile | undefined {
  const limitBytes = 1 + (level === 'entries' ? BUNDLE_LIMIT_BYTES : TILE_WIDTH * HASH_BYTES);
  const read = (w: number): StoredTile | undefined => {
    const bytes = directory.read(tilePath(level, index, w), limitBytes);
    return bytes && { bytes, width: w };
  };
  for (let attempt = 0; attempt < 8; attempt++) {
    const exact = read(width) ?? read(TILE_WIDTH);
    if (exact !== undefined) return exact;
    const wider = partialWidths(directory, level, index).find(w => w > width);
    if (wider === undefined) return undefined;
    const found = read(wider);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Widths of the partial tiles that there are in one place, ascending. */
export function partialWidths(directory: LogDirectory, level: TileLevel, index: number): number[] {
  return directory
    .list(`${tilePath(level, index)}.p`)
    .filter(name => /^[1-9][0-9]{0,2}$/.test(name) && Number(name) < TILE_WIDTH)
    .map(Number)
    .sort((a, b) => a - b);
}

/** Reads the tiles of a tree of a given size. Keeps what it read last in memory, less than three megabytes as a rule. */
export class TileReader {
  readonly size: number;
  /** Any node of the tree. Throws `AUDIT_INVALID` when the tile that it is in, or follows from, is missing or short. */
  readonly node: NodeReader;
  readonly #directory: LogDirectory;
  readonly #hashes: Map<string, Uint8Array> = new Map();
  #bundle: { readonly index: number; readonly records: readonly Uint8Array[] } | undefined;

  constructor(directory: LogDirectory, size: number) {
    this.#directory = directory;
    this.size = size;
    this.node = nodesOfTiles((level, index, width) => this.#tile(level, index, width), size, nodeHasher);
  }

  /**
   * The hashes of a tile, all that the tree has there; empty when it has none.
   *
   * @throws {CloisterError} `AUDIT_INVALID` when the tile is missing or short; `STORE_FAILED`.
   */
  hashes(level: number, index: number): Uint8Array {
    const width = tileWidth(level, index, this.size);
    return width === 0 ? new Uint8Array(0) : this.#tile(level, index, width);
  }

  /**
   * The records of a bundle, all that the tree has there, as bytes that nobody has compared with their hashes.
   *
   * @throws {CloisterError} `AUDIT_INVALID` when the bundle is missing or short; `STORE_FAILED`.
   */
  records(index: number): readonly Uint8Array[] {
    if (this.#bundle?.index === index) return this.#bundle.records;
    const width = tileWidth('entries', index, this.size);
    const { records } = readBundle(this.#directory, index, width) ?? { records: [] };
    if (records.length < width) {
      const first = index * TILE_WIDTH + records.length;
      throw new CloisterError(
        'AUDIT_INVALID',
        `record ${first} is not in ${this.#directory.path}: its bundle is missing or damaged`,
        { kind: 'truncated', index: first },
      );
    }
    this.#bundle = { index, records };
    return records;
  }

  /**
   * One record, as {@link records} gives it.
   *
   * @throws {CloisterError} `INVALID_ARGUMENT` unless `0 <= index < size`; otherwise as {@link records}.
   */
  leaf(index: number): Uint8Array {
    if (!Number.isSafeInteger(index) || index < 0 || index >= this.size)
      throw new CloisterError('INVALID_ARGUMENT', `a log of ${this.size} records has no record ${index}`, { index });
    return this.records(Math.floor(index / TILE_WIDTH))[index % TILE_WIDTH]!;
  }

  #tile(level: number, index: number, width: number): Uint8Array {
    const key = `${level}/${index}`;
    const known = this.#hashes.get(key);
    this.#hashes.delete(key);
    const bytes = known ?? readTile(this.#directory, level, index, width)?.bytes;
    if (bytes === undefined || bytes.length < width * HASH_BYTES) {
      throw new CloisterError(
        'AUDIT_INVALID',
        `${tilePath(level, index, width)} is missing or short in ${this.#directory.path}`,
      );
    }
    this.#hashes.set(key, bytes); // the last used is the last in the map
    if (this.#hashes.size > CACHED_TILES) this.#hashes.delete(this.#hashes.keys().next().value!);
    return bytes.subarray(0, width * HASH_BYTES);
  }
}

/** The first `width` records of a bundle, as many as are whole; undefined when there is no bundle that wide. */
export function readBundle(directory: LogDirectory, index: number, width: number): Bundle | undefined {
  const tile = readTile(directory, 'entries', index, width);
  return tile && decodeBundle(tile.bytes, width);
}

/**
 * Records from `from` on that lie in bundles beyond what a checkpoint covers: a writer puts a bundle there first. They matter where a
 * log was copied while it was written, checkpoint first.
 */
export function* surplusRecords(directory: LogDirectory, from: number): Generator<Uint8Array, void, undefined> {
  for (let index = Math.floor(from / TILE_WIDTH); ; index++) {
    const full = readBundle(directory, index, TILE_WIDTH);
    const width = partialWidths(directory, 'entries', index).at(-1) ?? 0;
    const { records } = full ?? readBundle(directory, index, Math.max(1, width)) ?? { records: [] };
    yield* records.slice(Math.max(0, from - index * TILE_WIDTH));
    if (records.length < TILE_WIDTH) return;
  }
}

/** Writes tiles as a tree grows. It holds what the last, partial tile of each level has, and everything since. */
export class TileWriter {
  #size: number;
  #settled: number;
  /** By level: hashes from the first tile on that is not settled as a full one. */
  readonly #hashes: Uint8Array[][] = [];
  readonly #records: Uint8Array[];

  /**
   * @param reader - The tiles that there are.
   * @throws {CloisterError} `AUDIT_INVALID` when one of the last tiles is missing or short; `STORE_FAILED`.
   */
  constructor(reader: TileReader) {
    this.#size = reader.size;
    this.#settled = reader.size;
    for (let level = 0; TILE_WIDTH ** level <= reader.size; level++) {
      const bytes = reader.hashes(level, tilesAt(level, reader.size).full);
      const hashes: Uint8Array[] = [];
      for (let at = 0; at < bytes.length; at += HASH_BYTES) hashes.push(bytes.slice(at, at + HASH_BYTES));
      this.#hashes.push(hashes);
    }
    const { full, partial } = tilesAt('entries', reader.size);
    this.#records = partial === 0 ? [] : reader.records(full).map(record => record.slice());
  }

  /** Records that wait for {@link settle}. */
  get waiting(): number {
    return this.#size - this.#settled;
  }

  /** Takes a record with its hash and the nodes that it completes, from level 1 upwards. Keeps the arrays. */
  add(record: Uint8Array, leafHash: Uint8Array, completed: readonly Uint8Array[]): void {
    this.#records.push(record);
    this.#hashAt(0).push(leafHash);
    for (let level = 1; level * TILE_HEIGHT <= completed.length; level++)
      this.#hashAt(level).push(completed[level * TILE_HEIGHT - 1]!);
    this.#size++;
  }

  /** The files that hold all that was added since the last {@link settle}. */
  files(): WholeFile[] {
    const files: WholeFile[] = [];
    const cut = <T>(level: TileLevel, all: readonly T[], encode: (part: readonly T[]) => Uint8Array): void => {
      const settled = tilesAt(level, this.#settled);
      for (let at = 0; at < all.length; at += TILE_WIDTH) {
        const part = all.slice(at, at + TILE_WIDTH);
        const index = settled.full + at / TILE_WIDTH;
        if (at === 0 && part.length === settled.partial) continue; // as it was
        files.push({ name: tilePath(level, index, part.length), bytes: encode(part) });
      }
    };
    cut('entries', this.#records, encodeBundle);
    this.#hashes.forEach((hashes, level) => {
      cut(level, hashes, Buffer.concat);
    });
    return files;
  }

  /** To be called when those files, and a checkpoint over them, are durable. Returns the partial tiles that they make superfluous. */
  settle(): string[] {
    const superfluous: string[] = [];
    const drop = (level: TileLevel, all: unknown[]): void => {
      const { full, partial } = tilesAt(level, this.#settled);
      if (partial > 0 && all.length > partial) superfluous.push(tilePath(level, full, partial));
      all.splice(0, Math.floor(all.length / TILE_WIDTH) * TILE_WIDTH);
    };
    drop('entries', this.#records);
    this.#hashes.forEach((hashes, level) => {
      drop(level, hashes);
    });
    this.#settled = this.#size;
    return superfluous;
  }

  #hashAt(level: number): Uint8Array[] {
    this.#hashes[level] ??= [];
    return this.#hashes[level];
  }
}

const BUNDLE_LIMIT_BYTES = TILE_WIDTH * (ENTRY_HEADER_BYTES + RECORD_LIMIT_BYTES);
const CACHED_TILES = 64;
