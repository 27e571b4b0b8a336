/**
 * The container of a package: a tar archive in one spelling. Any tar lists and unpacks it; nothing but what {@link writeArchive}
 * writes is read.
 *
 * ```text
 * for each file: a header of 512 bytes, the bytes of the file, zeros up to a multiple of 512
 * at the end:    1024 zeros, and nothing more
 *
 * header (POSIX.1-1988 ustar; numbers are octal digits)
 *   0   100  name, filled with NUL
 * 100     8  mode      "0000644" NUL
 * 108    16  uid, gid  "0000000" NUL, twice
 * 124    12  size      11 digits NUL
 * 136    12  mtime     "00000000000" NUL
 * 148     8  checksum  6 digits NUL space: the sum of all bytes of the header, with spaces here
 * 156     1  type      "0", a regular file
 * 157   100  link      NUL
 * 257     8  magic     "ustar" NUL "00"
 * 265   247  owner, group, device, prefix: NUL
 * ```
 *
 * The reader takes name and size out of a header, writes the header that this name and size have, and compares. So links, devices,
 * folders, sparse files, long names, extended headers, owners and times need no rule each: they are other bytes. Nothing is
 * compressed, so nothing expands.
 * @module
 */
import { CloisterError, decodeUtf8, encodeUtf8 } from '../../src/base/index.ts';

/** One file of an archive. */
export interface ArchiveFile {
  /** 1 to 100 characters of ASCII. */
  readonly name: string;
  readonly bytes: Uint8Array;
}

const BLOCK = 512;

/** Bytes that an archive of these files has. */
export function archiveBytes(sizes: readonly number[]): number {
  return sizes.reduce((sum, size) => sum + BLOCK + roundUp(size), 2 * BLOCK);
}

/** Writes an archive of `files` in their order. */
export function writeArchive(files: readonly ArchiveFile[]): Uint8Array<ArrayBuffer> {
  const archive = new Uint8Array(archiveBytes(files.map(file => file.bytes.length)));
  let at = 0;
  for (const { name, bytes } of files) {
    archive.set(headerOf(encodeUtf8(name), bytes.length), at);
    archive.set(bytes, at + BLOCK);
    at += BLOCK + roundUp(bytes.length);
  }
  return archive;
}

/**
 * Reads an archive. The bytes of the files are views of `archive`.
 *
 * @param limitFiles - The most files that it may hold.
 * @throws {CloisterError} `INVALID_PLUGIN` when `archive` is not what {@link writeArchive} writes, or names a file twice.
 */
export function readArchive(archive: Uint8Array, limitFiles: number): readonly ArchiveFile[] {
  const files: ArchiveFile[] = [];
  const names = new Set<string>();
  let at = 0;
  while (archive.length - at >= BLOCK && archive[at] !== 0) {
    if (files.length === limitFiles) refuse(at, `more than ${limitFiles} files`);
    const header = archive.subarray(at, at + BLOCK);
    const end = header.subarray(0, 100).indexOf(0);
    const name = header.subarray(0, end < 0 ? 100 : end);
    const size = sizeIn(header);
    if (size === undefined || !sameBytes(header, headerOf(name, size))) refuse(at, reasonIn(header));
    const from = at + BLOCK;
    const next = from + roundUp(size);
    if (next > archive.length) refuse(at, 'a file goes on after the end');
    if (archive.subarray(from + size, next).some(byte => byte !== 0)) refuse(at, 'bytes between files are not zero');
    const text = nameOf(name, at);
    if (names.has(text)) refuse(at, `two files are named ${text}`);
    names.add(text);
    files.push({ name: text, bytes: archive.subarray(from, from + size) });
    at = next;
  }
  if (archive.length - at !== 2 * BLOCK) {
    refuse(at, archive.length - at > 2 * BLOCK ? 'something follows its end' : 'it is cut off');
  }
  if (archive.subarray(at).some(byte => byte !== 0)) refuse(at, 'its end is not zeros');
  return files;
}

function headerOf(name: Uint8Array, size: number): Uint8Array {
  const header = new Uint8Array(BLOCK);
  const put = (offset: number, text: string): void => header.set(encodeUtf8(text), offset);
  header.set(name);
  put(100, '0000644\x000000000\x000000000\x00');
  put(124, `${size.toString(8).padStart(11, '0')}\x0000000000000\x00`);
  put(148, ' '.repeat(8));
  put(156, '0');
  put(257, 'ustar\x0000');
  const sum = header.reduce((total, byte) => total + byte, 0);
  put(148, `${sum.toString(8).padStart(6, '0')}\x00 `);
  return header;
}

/** The size that a header spells; undefined where it is not eleven octal digits. */
function sizeIn(header: Uint8Array): number | undefined {
  let size = 0;
  for (const digit of header.subarray(124, 135)) {
    if (digit < 0x30 || digit > 0x37) return undefined;
    size = size * 8 + digit - 0x30;
  }
  return size;
}

/** What else the writer of a header may have meant. */
function reasonIn(header: Uint8Array): string {
  if (header[0] === 0x1f && header[1] === 0x8b) return 'it is compressed; a package is a plain tar archive';
  if (header[0] === 0x50 && header[1] === 0x4b) return 'it is a zip archive; a package is a plain tar archive';
  const what = TYPES[String.fromCharCode(header[156]!)];
  if (what !== undefined) return `it holds ${what}; a package holds regular files alone`;
  return 'its header is not as `cloister plugin pack` writes it';
}

const TYPES: Readonly<Record<string, string | undefined>> = {
  '1': 'a hard link',
  '2': 'a symbolic link',
  '3': 'a character device',
  '4': 'a block device',
  '5': 'a folder',
  '6': 'a pipe',
  S: 'a sparse file',
  L: 'a long name',
  K: 'a long link',
  x: 'an extended header',
  g: 'an extended header',
};

function nameOf(bytes: Uint8Array, at: number): string {
  if (bytes.some(byte => byte < 0x21 || byte > 0x7e)) refuse(at, 'a name is not printable ASCII');
  return decodeUtf8(bytes);
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, i) => byte === b[i]);
}

function roundUp(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

function refuse(at: number, why: string): never {
  throw new CloisterError('INVALID_PLUGIN', `the package does not hold, at byte ${at}: ${why}`, { at });
}
