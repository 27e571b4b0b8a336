/**
 * The records under a checkpoint, bundle by bundle, beside the hash tiles: what tells which record is bad, and what was done to it.
 * @module
 */
import { CloisterError, isCloisterError } from '../../src/base/errors.ts';
import type { LogDirectory } from './directory.ts';
import { HASH_BYTES } from './merkle.ts';
import { nodeHasher } from './node-crypto.ts';
import { decodeRecord, RECORD_LIMIT_BYTES } from './record.ts';
import { readTile, type StoredTile, TileReader } from './tile-store.ts';
import { decodeBundle, ENTRY_HEADER_BYTES, foldTile, TILE_HEIGHT, TILE_WIDTH, tilePath, tileWidth } from './tiles.ts';
import { type Bad, bad, seqOf } from './verdict.ts';

/** The records of a bundle with their hashes, or what is wrong with it already. */
export type CheckedBundle =
  | { readonly records: readonly Uint8Array[]; readonly hashes: readonly Uint8Array[]; readonly flaw?: undefined }
  | { readonly flaw: Bad };

/** Where records and hash tiles part. */
interface Suspect {
  readonly bundle: number;
  /** Of the first record in it that is not the one in the hash tile. */
  readonly position: number;
  readonly records: readonly Uint8Array[];
  readonly hashes: readonly Uint8Array[];
}

/**
 * Reads bundles one after another and compares them with hash tiles. Neither is believed: only the root, which the caller computes from
 * the records, says whether what was found is damage of a record or of a tile.
 */
export class BundleCheck {
  readonly #directory: LogDirectory;
  readonly #signed: number;
  readonly #tiles: TileReader | undefined;
  #suspect: Suspect | undefined;
  #replaced: { readonly from: number; readonly through: number } | undefined; // the first subtree that is not the one in its tile
  #tileFlaw: { readonly index: number; readonly tile: string } | undefined;

  /** @param readTiles - Whether to look at hash tiles at all. */
  constructor(directory: LogDirectory, signed: number, readTiles: boolean) {
    this.#directory = directory;
    this.#signed = signed;
    this.#tiles = readTiles ? new TileReader(directory, signed) : undefined;
  }

  /** Reads a bundle. A flaw is one that no root can excuse: records are missing, or too many. */
  read(bundle: number): CheckedBundle {
    const from = bundle * TILE_WIDTH;
    const width = tileWidth('entries', bundle, this.#signed);
    const tile = readTile(this.#directory, 'entries', bundle, width);
    const { records, end } = decodeBundle(tile?.bytes ?? new Uint8Array(0), width);
    const hashes = records.map(nodeHasher.leaf);
    const expected = this.#expected(bundle, width);
    const position = expected && hashes.findIndex((hash, i) => !same(hash, hashIn(expected, i)));
    if (position !== undefined && position >= 0) {
      const suspect = { bundle, position, records, hashes };
      if (records.length < width) return { flaw: this.#judge(this.#suspect ?? suspect) };
      if (this.#isTileToBlame(bundle, hashes)) this.#blame(from + position, tilePath(0, bundle, width));
      else this.#suspect ??= suspect;
    }
    if (expected === undefined) {
      // Without a hash to compare with only the form speaks: numbers without gaps.
      const flaw = misnumbered(records, from);
      if (flaw !== undefined) return { flaw };
    }
    if (records.length < width) {
      const short = this.#judgeShort(from + records.length, tile, end);
      return { flaw: this.#suspect ? this.#judge(this.#suspect) : short };
    }
    if (tile !== undefined && tile.width === width && end < tile.bytes.length) {
      const next = from + width;
      const more = decodeBundle(tile.bytes.subarray(end), 1).records.length > 0;
      const flaw = bad(
        more ? 'inserted' : 'malformed',
        next,
        next,
        `there is more in the bundle than record ${next - 1}`,
      );
      return { flaw: this.#suspect ? this.#judge(this.#suspect) : flaw };
    }
    return { records, hashes };
  }

  /** Compares the nodes that the last record of a bundle completed, from level 1 upwards, with the tiles that they are in. */
  compareNodes(bundle: number, completed: readonly Uint8Array[]): void {
    for (let level = 1; level * TILE_HEIGHT <= completed.length; level++) {
      const index = Math.floor(bundle / TILE_WIDTH ** (level - 1));
      const stored = this.#stored(level, index);
      if (stored === undefined || same(stored, completed[level * TILE_HEIGHT - 1]!)) continue;
      const through = (bundle + 1) * TILE_WIDTH - 1;
      const from = through + 1 - TILE_WIDTH ** level;
      this.#blame(from, tilePath(level, Math.floor(index / TILE_WIDTH)));
      if (this.#suspect === undefined) this.#replaced ??= { from, through };
    }
  }

  /** Hash of a record as its tile has it, for records whose tiles hold. */
  hashAt(index: number): Uint8Array {
    return this.#tiles!.node(0, index);
  }

  /** What is wrong, when the records do not lead to the signed root. */
  judge(): Bad {
    if (this.#suspect !== undefined) return this.#judge(this.#suspect);
    const { from, through } = this.#replaced ?? { from: 0, through: Math.max(0, this.#signed - 1) };
    const what = `a record from ${from} to ${through} and its hash were replaced: the root is not the signed one`;
    return bad('resealed', from, through, what);
  }

  /** What is wrong with hash tiles, when the records do lead to the signed root. */
  tileFlaw(): Bad | undefined {
    const found = this.#suspect && {
      index: this.#suspect.bundle * TILE_WIDTH + this.#suspect.position,
      tile: tilePath(0, this.#suspect.bundle),
    };
    const flaw = found ?? this.#tileFlaw;
    if (flaw === undefined) return undefined;
    const { index, tile } = flaw;
    const what = `the hash tile ${tile} is damaged at record ${index}; the records are intact. Delete the folder tile/0, and the next start writes the hash tiles anew`;
    return bad('malformed', index, index, what);
  }

  /** The hashes of a bundle's records as the tile has them; undefined, and noted, when it does not have them all. */
  #expected(bundle: number, width: number): Uint8Array | undefined {
    if (this.#tiles === undefined) return undefined;
    const tile = readTile(this.#directory, 0, bundle, width);
    if (tile !== undefined && tile.bytes.length === tile.width * HASH_BYTES) return tile.bytes;
    this.#blame(bundle * TILE_WIDTH, tilePath(0, bundle, width));
    return undefined;
  }

  /** A hash in a tile above the lowest; undefined, and noted, when it is missing. */
  #stored(level: number, index: number): Uint8Array | undefined {
    if (this.#tiles === undefined) return undefined;
    const tileIndex = Math.floor(index / TILE_WIDTH);
    try {
      return hashIn(this.#tiles.hashes(level, tileIndex), index % TILE_WIDTH);
    } catch (error) {
      if (!isCloisterError(error, 'AUDIT_INVALID')) throw error;
      this.#blame(index * TILE_WIDTH ** level, tilePath(level, tileIndex));
      return undefined;
    }
  }

  /** Whether the tile above vouches for the records of a full bundle, so that their own hash tile is what is wrong. */
  #isTileToBlame(bundle: number, hashes: readonly Uint8Array[]): boolean {
    const above = hashes.length === TILE_WIDTH ? this.#stored(1, bundle) : undefined;
    return above !== undefined && same(above, foldTile(Buffer.concat(hashes), nodeHasher));
  }

  #blame(index: number, tile: string): void {
    this.#tileFlaw ??= { index, tile };
  }

  /** What happened to the first record that is not the one in its hash tile. */
  #judge({ bundle, position, records, hashes }: Suspect): Bad {
    const index = bundle * TILE_WIDTH + position;
    const expected = this.hashAt(index);
    const seq = seqOf(records[position]!);
    const later = seq !== undefined && seq > index && seq < this.#signed && same(this.#hashOr(seq), hashes[position]!);
    const near = [bundle, bundle + 1, ...(later ? [Math.floor(seq / TILE_WIDTH)] : [])];
    const displaced = near.some(b =>
      this.#hashesOf(b).some((hash, i) => b * TILE_WIDTH + i > index && same(hash, expected)),
    );
    if (later && displaced) return bad('swapped', index, index, `record ${seq} stands in the place of record ${index}`);
    if (later) return bad('missing', index, index, `record ${index} was taken out: record ${seq} follows`);
    if (displaced) return bad('inserted', index, index, `a record was put in before record ${index}`);
    return bad('changed', index, index, `record ${index} was changed: its hash is not the one in the tree`);
  }

  /** What happened where a bundle ends, or cannot be read on, at record `index`. */
  #judgeShort(index: number, tile: StoredTile | undefined, end: number): Bad {
    if (tile === undefined) {
      const bundle = Math.floor(index / TILE_WIDTH);
      const last = !this.#hasBundleAfter(bundle);
      const what = `the bundle of record ${index} is gone, ${this.#signed} records are under the checkpoint`;
      return bad(last ? 'truncated' : 'missing', index, index, what);
    }
    const rest = tile.bytes.subarray(end + ENTRY_HEADER_BYTES, end + ENTRY_HEADER_BYTES + RECORD_LIMIT_BYTES);
    const expected = this.#tiles && this.#hashOr(index);
    // The record may be there with a damaged length before it: it ends in one of these braces.
    for (let at = rest.indexOf(BRACE); expected !== undefined && at >= 0; at = rest.indexOf(BRACE, at + 1)) {
      if (same(nodeHasher.leaf(rest.subarray(0, at + 1)), expected))
        return bad('changed', index, index, `the length before record ${index} was changed`);
    }
    const what = `the bundle ends within or before record ${index}, ${this.#signed} are under the checkpoint`;
    return bad('truncated', index, index, what);
  }

  #hasBundleAfter(bundle: number): boolean {
    for (let later = bundle + 1; later * TILE_WIDTH < this.#signed; later++) {
      if (readTile(this.#directory, 'entries', later, 1) !== undefined) return true;
    }
    return false;
  }

  #hashesOf(bundle: number): Uint8Array[] {
    const width = tileWidth('entries', bundle, this.#signed);
    const tile = width === 0 ? undefined : readTile(this.#directory, 'entries', bundle, width);
    return decodeBundle(tile?.bytes ?? new Uint8Array(0), TILE_WIDTH).records.map(nodeHasher.leaf);
  }

  /** Hash of a record in its tile; one that no record has where the tile is missing. */
  #hashOr(index: number): Uint8Array {
    try {
      return this.hashAt(index);
    } catch (error) {
      if (error instanceof CloisterError) return new Uint8Array(0);
      throw error;
    }
  }
}

/** The first record that has not the number of its place. */
function misnumbered(records: readonly Uint8Array[], from: number): Bad | undefined {
  for (const [i, record] of records.entries()) {
    const index = from + i;
    const seq = seqOf(record);
    if (seq === index) continue;
    if (seq === undefined || !isRecord(record))
      return bad('malformed', index, index, `record ${index} is not a record`);
    return bad(seq > index ? 'missing' : 'inserted', index, index, `record ${index} is numbered ${seq}`);
  }
  return undefined;
}

function isRecord(bytes: Uint8Array): boolean {
  try {
    decodeRecord(bytes);
    return true;
  } catch {
    return false;
  }
}

function hashIn(tile: Uint8Array, position: number): Uint8Array {
  return tile.subarray(position * HASH_BYTES, (position + 1) * HASH_BYTES);
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

const BRACE = 0x7d;
