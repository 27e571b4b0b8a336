/**
 * Files that a caller names: regular ones alone, and never more of them than a limit.
 * @module
 */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { CloisterError } from '../base/index.ts';

/** Not to wait for the other end of a pipe. Windows has no such flag. */
const NONBLOCK: number = constants.O_NONBLOCK ?? 0;

/**
 * Opens a regular file to read. Directories, pipes and devices are refused: they have no size, and may never end.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT`.
 */
export async function openRegularFile(path: string): Promise<FileHandle> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, constants.O_RDONLY | NONBLOCK);
    if ((await handle.stat()).isFile()) return handle;
  } catch (cause) {
    await handle?.close();
    throw new CloisterError('INVALID_ARGUMENT', `cannot read ${path}: ${reasonOf(cause)}`, { path }, { cause });
  }
  await handle.close();
  throw new CloisterError('INVALID_ARGUMENT', `cannot read ${path}: it is not a regular file`, { path });
}

/**
 * Reads a regular file whole. Its size is checked before memory is taken.
 *
 * @param limitBytes - The most that it may hold.
 * @param tooLarge - Code of the error when it holds more.
 * @throws {CloisterError} `INVALID_ARGUMENT`, or `tooLarge`.
 */
export async function readRegularFile(
  path: string,
  limitBytes: number,
  tooLarge: 'INVALID_ARGUMENT' | 'MODEL_TOO_LARGE' = 'INVALID_ARGUMENT',
): Promise<Uint8Array<ArrayBuffer>> {
  await using handle = await openRegularFile(path);
  return await readOpenFile(handle, path, limitBytes, tooLarge);
}

/**
 * {@link readRegularFile} for a file that is open. A file that is another size at the end than at the beginning is being written, and
 * refused.
 */
export async function readOpenFile(
  handle: FileHandle,
  path: string,
  limitBytes: number,
  tooLarge: 'INVALID_ARGUMENT' | 'MODEL_TOO_LARGE' = 'INVALID_ARGUMENT',
): Promise<Uint8Array<ArrayBuffer>> {
  const { size } = await handle.stat();
  if (size > limitBytes) {
    const message = `${path} has ${size} bytes, the limit is ${limitBytes}`;
    throw new CloisterError(tooLarge, message, { path, bytes: size, limitBytes });
  }
  const bytes = new Uint8Array(size + 1); // one more than expected, to see a file that is still being written
  let length = 0;
  try {
    for (let read = -1; read !== 0 && length < bytes.length; length += read) {
      read = (await handle.read(bytes, length)).bytesRead;
    }
  } catch (cause) {
    throw new CloisterError('INVALID_ARGUMENT', `cannot read ${path}: ${reasonOf(cause)}`, { path }, { cause });
  }
  if (length === size) return bytes.subarray(0, length);
  throw new CloisterError('INVALID_ARGUMENT', `${path} ${length > size ? 'grew' : 'shrank'} while it was read`, {
    path,
  });
}

/**
 * The lines of a regular file in UTF-8, without their ends, with the memory of one line.
 *
 * @param limitBytes - The most that one line may hold.
 * @throws {CloisterError} `INVALID_ARGUMENT` when the file cannot be read or a line is longer.
 */
export async function* readLines(path: string, limitBytes: number): AsyncGenerator<string, void, undefined> {
  await using handle = await openRegularFile(path);
  const chunk = Buffer.allocUnsafe(65_536);
  let parts: Buffer[] = [];
  let length = 0;
  const add = (part: Buffer): void => {
    length += part.length;
    if (length > limitBytes) {
      throw new CloisterError('INVALID_ARGUMENT', `a line of ${path} has more than ${limitBytes} bytes`, {
        path,
        limitBytes,
      });
    }
    parts.push(Buffer.from(part)); // a copy: the chunk is read into again
  };
  for (;;) {
    let bytesRead: number;
    try {
      ({ bytesRead } = await handle.read(chunk));
    } catch (cause) {
      throw new CloisterError('INVALID_ARGUMENT', `cannot read ${path}: ${reasonOf(cause)}`, { path }, { cause });
    }
    if (bytesRead === 0) break;
    const bytes = chunk.subarray(0, bytesRead);
    let from = 0;
    for (let to = bytes.indexOf(0x0a); to >= 0; to = bytes.indexOf(0x0a, from)) {
      add(bytes.subarray(from, to));
      yield Buffer.concat(parts).toString('utf8');
      parts = [];
      length = 0;
      from = to + 1;
    }
    add(bytes.subarray(from));
  }
  if (length > 0) yield Buffer.concat(parts).toString('utf8');
}

function reasonOf(cause: unknown): string {
  return (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
}
