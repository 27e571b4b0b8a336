/**
 * The files of a log that everyone may read, as C2SP tlog-tiles has them: names of tiles, and what is in them. Pure.
 *
 * | path | content |
 * |---|---|
 * | `tile/<L>/<N>` | hash tile: 256 hashes of 32 bytes, the tree's nodes at level `8 L` from index `256 N` on |
 * | `tile/entries/<N>` | entry bundle: 256 times a length of 2 bytes, big-endian, and that many bytes of a record |
 * | `<path>.p/<W>` | the same with its first W entries alone, 1 to 255, where the tree has no more yet |
 *
 * N is spelt in groups of three digits, each but the last with an `x` before it: 1234067 is `x001/x234/067`. A node at a level that is
 * no multiple of 8 is not stored; it follows from the hashes of one tile.
 * @module
 * @see https://c2sp.org/tlog-tiles
 */
import { CloisterError } from '../../src/base/errors.ts';
import { HASH_BYTES, type Hasher, type NodeReader, pureHasher } from './merkle.ts';
import { RECORD_LIMIT_BYTES } from './record.ts';

/** Hashes in a full tile, and records in a full bundle. */
export const TILE_WIDTH = 256;
/** Levels of the tree that one tile spans. */
export const TILE_HEIGHT = 8;
/** Bytes before a record in a bundle. */
export const ENTRY_HEADER_BYTES = 2;

/** Which tile: of hashes at a level from 0 to 6, or of entries. */
export type TileLevel = number | 'entries';

/** A tile by its name. */
export interface TileName {
  readonly level: TileLevel;
  /** Which one of its level, from 0. */
  readonly index: number;
  /** Entries in it, 1 to 256. */
  readonly width: number;
}

/**
 * The path of a tile in the directory of a log.
 *
 * @param width - Entries in it, 1 to 256; 256 is a full tile.
 * @throws {CloisterError} `INVALID_ARGUMENT` when a number is out of range.
 * @example
 * ```ts
 * tilePath(0, 1234067); // 'tile/0/x001/x234/067'
 * tilePath('entries', 7, 12); // 'tile/entries/007.p/12'
 * ```
 */
export function tilePath(level: TileLevel, index: number, width: number = TILE_WIDTH): string {
  const fits = level === 'entries' || (Number.isInteger(level) && level >= 0 && level <= LEVEL_LIMIT);
  if (!fits || !Number.isSafeInteger(index) || index < 0 || !isWidth(width)) {
    throw new CloisterError('INVALID_ARGUMENT', `there is no tile ${index} of width ${width} at level ${level}`);
  }
  let number = String(index % 1000).padStart(3, '0');
  for (let rest = Math.floor(index / 1000); rest > 0; rest = Math.floor(rest / 1000)) {
    number = `x${String(rest % 1000).padStart(3, '0')}/${number}`;
  }
  return `tile/${level}/${number}${width === TILE_WIDTH ? '' : `.p/${width}`}`;
}

/**
 * Reads the path of a tile; undefined when it is not the one spelling of one.
 *
 * @example
 * ```ts
 * parseTilePath('tile/0/x001/067.p/5'); // { level: 0, index: 1067, width: 5 }
 * parseTilePath('tile/0/../../key'); // undefined
 * ```
 */
export function parseTilePath(path: string): TileName | undefined {
  if (path.length > PATH_LIMIT) return undefined;
  const match = /^tile\/(entries|[0-9]+)\/((?:x[0-9]{3}\/)*[0-9]{3})(?:\.p\/([0-9]+))?$/.exec(path);
  if (match === null) return undefined;
  const [, levelText = '', numberText = '', widthText] = match;
  const level = levelText === 'entries' ? levelText : Number(levelText);
  const index = Number(numberText.replaceAll(/[x/]/g, ''));
  const width = widthText === undefined ? TILE_WIDTH : Number(widthText);
  if (level !== 'entries' && level > LEVEL_LIMIT) return undefined;
  if (!Number.isSafeInteger(index) || !isWidth(width)) return undefined;
  return tilePath(level, index, width) === path ? { level, index, width } : undefined;
}

/** The tiles of one level that the tree of `size` leaves has: so many full ones, and one of this width behind them unless it is 0. */
export function tilesAt(level: TileLevel, size: number): { readonly full: number; readonly partial: number } {
  const hashes = level === 'entries' ? size : Math.floor(size / TILE_WIDTH ** level);
  return { full: Math.floor(hashes / TILE_WIDTH), partial: hashes % TILE_WIDTH };
}

/** Width of tile `index` of a level in the tree of `size` leaves; 0 when the tree has no such tile. */
export function tileWidth(level: TileLevel, index: number, size: number): number {
  const { full, partial } = tilesAt(level, size);
  return index < full ? TILE_WIDTH : index === full ? partial : 0;
}

/** A bundle of records. Each has 1 to {@link RECORD_LIMIT_BYTES} bytes. */
export function encodeBundle(records: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(records.reduce((sum, { length }) => sum + ENTRY_HEADER_BYTES + length, 0));
  let at = 0;
  for (const record of records) {
    bytes[at] = record.length >>> 8;
    bytes[at + 1] = record.length & 255;
    bytes.set(record, at + ENTRY_HEADER_BYTES);
    at += ENTRY_HEADER_BYTES + record.length;
  }
  return bytes;
}

/** A bundle taken apart. */
export interface Bundle {
  /** The records up to the first that is not whole, at most as many as were asked for: views of the bytes. */
  readonly records: readonly Uint8Array[];
  /** Where the bytes after the last of them begin. */
  readonly end: number;
}

/** Takes the first `count` records of a bundle apart, as many as there are. Never throws. */
export function decodeBundle(bytes: Uint8Array, count: number): Bundle {
  const records: Uint8Array[] = [];
  let end = 0;
  while (records.length < count && end + ENTRY_HEADER_BYTES <= bytes.length) {
    const from = end + ENTRY_HEADER_BYTES;
    const to = from + bytes[end]! * 256 + bytes[end + 1]!;
    if (to > bytes.length || to === from || to - from > RECORD_LIMIT_BYTES) break;
    records.push(bytes.subarray(from, to));
    end = to;
  }
  return { records, end };
}

/**
 * Reads nodes of the tree from its hash tiles.
 *
 * @param tile - Gives a hash tile that is at least `width` wide.
 * @param size - Leaves in the tree.
 * @example
 * ```ts
 * const leaves = [1, 2, 3].map(byte => pureHasher.leaf(Uint8Array.of(byte)));
 * const tile = Uint8Array.from(leaves.flatMap(leaf => [...leaf]));
 * const node = nodesOfTiles(() => tile, 3);
 * verifyInclusion(2, 3, leaves[2]!, inclusionProof(2, 3, node), rootAt(3, node)); // { ok: true }
 * ```
 */
export function nodesOfTiles(
  tile: (level: number, index: number, width: number) => Uint8Array,
  size: number,
  hasher: Hasher = pureHasher,
): NodeReader {
  return (level, index) => {
    const tileLevel = Math.floor(level / TILE_HEIGHT);
    const span = 2 ** (level % TILE_HEIGHT); // hashes of the tile below this node
    const first = index * span;
    const tileIndex = Math.floor(first / TILE_WIDTH);
    const width = tileWidth(tileLevel, tileIndex, size);
    const at = (first % TILE_WIDTH) * HASH_BYTES;
    if ((first % TILE_WIDTH) + span > width) {
      throw new CloisterError('INVALID_ARGUMENT', `a tree of ${size} leaves has no node ${index} at level ${level}`);
    }
    const bytes = tile(tileLevel, tileIndex, width);
    return foldTile(bytes.subarray(at, at + span * HASH_BYTES), hasher);
  };
}

/** The root over `2^k` hashes that follow one another in `bytes`. A copy. */
export function foldTile(bytes: Uint8Array, hasher: Hasher = pureHasher): Uint8Array {
  let hashes: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += HASH_BYTES) hashes.push(bytes.subarray(at, at + HASH_BYTES));
  while (hashes.length > 1) {
    const above: Uint8Array[] = [];
    for (let i = 0; i + 1 < hashes.length; i += 2) above.push(hasher.node(hashes[i]!, hashes[i + 1]!));
    hashes = above;
  }
  return hashes[0]!.slice();
}

/** A tree of 2^53 leaves has hashes at levels 0 to 6 of 8. */
const LEVEL_LIMIT = 6;
const PATH_LIMIT = 64;

function isWidth(width: number): boolean {
  return Number.isInteger(width) && width >= 1 && width <= TILE_WIDTH;
}
