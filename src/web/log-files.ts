/**
 * The files of a log that everyone may read, straight from its directory: checkpoint, public key, seals and tiles. The paths are those
 * of C2SP tlog-tiles, so other people's tools read the same; no other path opens anything.
 * @module
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { parseTilePath, TILE_WIDTH } from '../../sandbox/audit/tiles.ts';
import { CloisterError } from '../base/index.ts';

/** A file of the log. */
export interface LogFile {
  readonly bytes: Uint8Array;
  readonly type: string;
  /** Whether it never changes again: a full tile. */
  readonly immutable: boolean;
}

/**
 * Reads a file of the log in `directory`; undefined when `path` names none, or it is not there.
 *
 * @throws {CloisterError} `STORE_FAILED` when it cannot be read; `AUDIT_INVALID` when it is larger than such a file can be, or is no
 *   regular file.
 */
export async function readLogFile(directory: string, path: string): Promise<LogFile | undefined> {
  const tile = parseTilePath(path);
  const text = tile === undefined && /^(checkpoint|vkey|seal\/(0|[1-9][0-9]{0,8}))$/.test(path);
  if (tile === undefined && !text) return undefined;
  const bytes = await readBounded(join(directory, ...path.split('/')), tile ? TILE_LIMIT_BYTES : TEXT_LIMIT_BYTES);
  if (bytes === undefined) return undefined;
  const type = text ? 'text/plain; charset=utf-8' : 'application/octet-stream';
  return { bytes, type, immutable: tile?.width === TILE_WIDTH };
}

/** 256 records of at most 65,535 bytes, and their lengths. */
const TILE_LIMIT_BYTES = TILE_WIDTH * (2 + 65_535);
const TEXT_LIMIT_BYTES = 65_536;

async function readBounded(file: string, limitBytes: number): Promise<Uint8Array | undefined> {
  try {
    // Not to hang on a pipe, not to follow a link out of the directory.
    const flags = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOFOLLOW ?? 0);
    await using handle = await open(file, flags);
    const stat = await handle.stat();
    if (!stat.isFile() || stat.size > limitBytes)
      throw new CloisterError('AUDIT_INVALID', `${file} is no regular file of at most ${limitBytes} bytes`);
    return await handle.readFile();
  } catch (error) {
    if (error instanceof CloisterError) throw error;
    const { code = 'EIO' } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new CloisterError('STORE_FAILED', `cannot read ${file}: ${code}`, { system: code }, { cause: error });
  }
}
