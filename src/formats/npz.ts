/**
 * npz: several arrays of NumPy in one zip archive, stored or deflated.
 *
 * | part | what is read of it |
 * |---|---|
 * | end of central directory, `PK\5\6`, in the last 65,557 bytes | number of entries; size and place of the directory |
 * | central directory, `PK\1\2` for each entry | method, CRC-32, both sizes, name, place of the local header |
 * | local header, `PK\3\4` | how long its name and extra field are: the bytes of the entry follow |
 *
 * Refused: several disks, zip64, encryption, other methods, entries that overlap, names given twice, sizes or checksums that are not
 * true. What an archive unpacks to is bounded before anything is unpacked.
 * @see PKWARE APPNOTE.TXT 6.3.10, https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
 * @module
 */
import { CloisterError, concatBytes, decodeUtf8, encodeUtf8 } from '../base/index.ts';
import type { Tensor } from '../tensor/index.ts';
import { inflateSync } from './inflate.ts';
import { parseNpy, writeNpy } from './npy.ts';

/** What an archive may ask of its reader. */
export interface NpzLimits {
  readonly entries: number;
  /** All entries together, unpacked. */
  readonly bytes: number;
}

/** Limits that real archives stay below. */
export const DEFAULT_NPZ_LIMITS: NpzLimits = Object.freeze({ entries: 10_000, bytes: 2 ** 31 - 1 });

const END = 0x06054b50;
const ENTRY = 0x02014b50;
const LOCAL = 0x04034b50;
const END_BYTES = 22;
const MAX_COMMENT = 65_535;

interface Entry {
  readonly name: string;
  readonly method: number;
  readonly crc: number;
  readonly packed: number;
  readonly size: number;
  readonly at: number;
}

/**
 * Returns the arrays of an npz archive by name, without the `.npy` of their files. Stored arrays share `bytes` where they are aligned.
 *
 * @throws {CloisterError} `INVALID_MODEL` with what breaks the format; `MODEL_TOO_LARGE` naming the limit; `UNSUPPORTED_MODEL` for an
 *   entry that is no array, is packed in another way, or holds a type that has no dtype here.
 * @example
 * ```ts
 * const bytes = writeNpz({ w: Tensor.of('f32', [1, 2]), b: Tensor.of('f32', 3) });
 * parseNpz(bytes).get('b')?.toArray(); // 3
 * ```
 */
export function parseNpz(bytes: Uint8Array, limits: Partial<NpzLimits> = {}): ReadonlyMap<string, Tensor> {
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const { entries: most, bytes: mostBytes } = { ...DEFAULT_NPZ_LIMITS, ...limits };
  const view = new DataView(plain.buffer, plain.byteOffset, plain.length);
  const entries = readDirectory(plain, view, most);
  const total = entries.reduce((sum, { size }) => sum + size, 0);
  if (total > mostBytes) {
    const message = `npz: the entries unpack to ${total} bytes, the limit is ${mostBytes}`;
    throw new CloisterError('MODEL_TOO_LARGE', message, { limit: 'bytes', most: mostBytes, came: total });
  }
  const arrays = new Map<string, Tensor>();
  let end = 0;
  for (const entry of entries.toSorted((a, b) => a.at - b.at)) {
    const start = dataOf(entry, view);
    if (entry.at < end) fail(`entry ${quote(entry.name)} overlaps another`);
    end = start + entry.packed;
    if (end > plain.length) fail(`entry ${quote(entry.name)} passes the end of the file`);
    if (!entry.name.endsWith('.npy')) unsupported(`entry ${quote(entry.name)}, which is no array,`);
    const name = entry.name.slice(0, -4);
    if (arrays.has(name)) fail(`entry ${quote(entry.name)} is there twice`);
    arrays.set(name, parseNpy(unpack(entry, plain.subarray(start, end))));
  }
  return arrays;
}

function readDirectory(bytes: Uint8Array, view: DataView, most: number): readonly Entry[] {
  const end = findEnd(view);
  const count = view.getUint16(end + 10, true);
  const size = view.getUint32(end + 12, true);
  const start = view.getUint32(end + 16, true);
  if (view.getUint16(end + 4, true) !== 0 || view.getUint16(end + 8, true) !== count)
    unsupported('an archive on several disks');
  if (count === 0xffff || start === 0xffffffff) unsupported('zip64');
  if (count > most) {
    throw new CloisterError('MODEL_TOO_LARGE', `npz: ${count} entries, the limit is ${most}`, {
      limit: 'entries',
      most,
    });
  }
  if (start + size > end) fail('the directory passes its end');
  const entries: Entry[] = [];
  let at = start;
  for (let i = 0; i < count; i++) {
    if (at + 46 > end || view.getUint32(at, true) !== ENTRY)
      fail(`entry ${i} of the directory is none (at byte ${at})`);
    const nameBytes = view.getUint16(at + 28, true);
    const next = at + 46 + nameBytes + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    if (next > end) fail(`entry ${i} passes the end of the directory`);
    if (view.getUint16(at + 8, true) & 1) unsupported('an encrypted entry');
    const entry: Entry = {
      name: text(bytes.subarray(at + 46, at + 46 + nameBytes)),
      method: view.getUint16(at + 10, true),
      crc: view.getUint32(at + 16, true),
      packed: view.getUint32(at + 20, true),
      size: view.getUint32(at + 24, true),
      at: view.getUint32(at + 42, true),
    };
    if (entry.packed === 0xffffffff || entry.size === 0xffffffff || entry.at === 0xffffffff) unsupported('zip64');
    entries.push(entry);
    at = next;
  }
  return entries;
}

/** The end record is the last one whose comment reaches exactly to the end of the file. */
function findEnd(view: DataView): number {
  const last = view.byteLength - END_BYTES;
  for (let at = last; at >= Math.max(0, last - MAX_COMMENT); at--) {
    if (view.getUint32(at, true) === END && at + END_BYTES + view.getUint16(at + 20, true) === view.byteLength)
      return at;
  }
  return fail('there is no end of a directory: the file is no zip archive, or is cut off');
}

/** Where the bytes of an entry begin. */
function dataOf({ name, at }: Entry, view: DataView): number {
  if (at + 30 > view.byteLength || view.getUint32(at, true) !== LOCAL)
    fail(`entry ${quote(name)} has no header (at byte ${at})`);
  return at + 30 + view.getUint16(at + 26, true) + view.getUint16(at + 28, true);
}

function unpack({ name, method, crc, size }: Entry, packed: Uint8Array): Uint8Array {
  const unpacked = method === 0 ? packed : method === 8 ? inflate(name, packed, size) : unsupported(`method ${method}`);
  if (unpacked.length !== size) fail(`entry ${quote(name)} has ${unpacked.length} bytes, its directory says ${size}`);
  if (crc32(unpacked) !== crc) fail(`the checksum of entry ${quote(name)} is wrong`);
  return unpacked;
}

function inflate(name: string, packed: Uint8Array, size: number): Uint8Array {
  // Deflate gains a factor of at most 1,032: a size that the bytes cannot reach is not allocated.
  if (size > packed.length * 1032 + 64) fail(`entry ${quote(name)} cannot unpack to ${size} bytes`);
  try {
    return inflateSync(packed, { out: new Uint8Array(size) });
  } catch (cause) {
    return fail(`entry ${quote(name)} is not deflated`, cause);
  }
}

/**
 * Returns `arrays` as an npz archive, each stored as it is, in order, without a date. One set of arrays has one spelling.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` on a name that is empty or too long, or over 4 GiB; as {@link writeNpy}.
 */
export function writeNpz(arrays: Readonly<Record<string, Tensor>> | ReadonlyMap<string, Tensor>): Uint8Array {
  const entries = arrays instanceof Map ? [...arrays] : Object.entries(arrays as Readonly<Record<string, Tensor>>);
  const parts: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let at = 0;
  for (const [name, tensor] of entries) {
    const file = encodeUtf8(`${name}.npy`);
    const bytes = writeNpy(tensor);
    if (name === '' || file.length > 4096 || at + bytes.length > 0xfffffffe || entries.length > 0xfffe) {
      throw new CloisterError(
        'INVALID_ARGUMENT',
        `npz cannot hold ${quote(name)}: the name or the archive is too long`,
      );
    }
    const crc = crc32(bytes);
    // Version 2.0, flag 11 (the name is UTF-8), stored, 1980-01-01.
    const common = concatBytes(u16(20, 0x800, 0, 0, 0x21), u32(crc, bytes.length, bytes.length), u16(file.length, 0));
    const local = concatBytes(u32(LOCAL), common, file);
    directory.push(u32(ENTRY), u16(20), common, u16(0, 0, 0), u32(0, at), file);
    parts.push(local, bytes);
    at += local.length + bytes.length;
  }
  const index = concatBytes(...directory);
  return concatBytes(
    ...parts,
    index,
    u32(END),
    u16(0, 0, entries.length, entries.length),
    u32(index.length, at),
    u16(0),
  );
}

function u16(...values: readonly number[]): Uint8Array {
  return Uint8Array.from(values.flatMap(value => [value & 255, (value >> 8) & 255]));
}

function u32(...values: readonly number[]): Uint8Array {
  return Uint8Array.from(
    values.flatMap(value => [value, value >>> 8, value >>> 16, value >>> 24].map(byte => byte & 255)),
  );
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, i) => {
  let c = i;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** CRC-32 of ISO 3309, as zip has it. */
function crc32(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255]! ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

function text(bytes: Uint8Array): string {
  try {
    return decodeUtf8(bytes);
  } catch (cause) {
    return fail('a name is not UTF-8', cause);
  }
}

function quote(name: string): string {
  return JSON.stringify(name.slice(0, 80));
}

function fail(what: string, cause?: unknown): never {
  throw new CloisterError('INVALID_MODEL', `npz: ${what}`, {}, { cause });
}

function unsupported(what: string): never {
  throw new CloisterError('UNSUPPORTED_MODEL', `npz: ${what} is not supported`);
}
