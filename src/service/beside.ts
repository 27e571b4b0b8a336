/**
 * The files beside a model, opened because the model names them: nobody vouches for what it names.
 * @module
 */
import { constants } from 'node:fs';
import { type FileHandle, open, readlink, realpath, stat } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import type { OpenExternal } from '../../sandbox/index.ts';
import { CloisterError } from '../base/index.ts';
import { readOpenFile } from './files.ts';

/** What {@link openBeside} is told. */
export interface BesideOptions {
  /** The most bytes that one file may hold. */
  readonly limitBytes: number;
  /** Folders in which nothing is opened, whatever a model names: where keys and ledgers lie. */
  readonly except?: readonly string[];
}

/** Neither to wait for the other end of a pipe, nor to follow a link at the end of the path. Windows has neither flag. */
const FLAGS: number = constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) | (constants.O_NOFOLLOW ?? 0);

/**
 * Returns what opens files in the folder of the model at `modelPath`. Only regular files that lie in that folder or below it are read:
 * the last part of a path is no link, and what was opened is asked where it lies. A file is read whole at that moment; what becomes of
 * it afterwards changes nothing.
 *
 * Whatever lies in the folder may be read by the model: give models a folder of their own.
 */
export function openBeside(modelPath: string, { limitBytes, except = [] }: BesideOptions): OpenExternal {
  return async location => {
    const folder = await realpath(dirname(modelPath));
    const refuse = (why: string, cause?: unknown): CloisterError =>
      new CloisterError('INVALID_MODEL', `weights are in ${JSON.stringify(location)}: ${why}`, { location }, { cause });
    const opened = await openInside(folder, location, refuse);
    if (opened === undefined) return undefined;
    await using file = opened.file;
    for (const other of except) {
      const closed = await realpath(other).catch(() => undefined);
      if (closed !== undefined && isInside(opened.place, closed)) {
        throw refuse('it lies in the directory of the service');
      }
    }
    return await readOpenFile(file, location, limitBytes, 'MODEL_TOO_LARGE');
  };
}

/**
 * Opens the regular file at `location` below `folder`, without following a link at its end, and says where it lies; undefined where
 * there is none.
 *
 * @param folder - A path without links.
 * @param location - Plain names joined by slashes.
 * @param refuse - Makes the error for a file that is there and may not be read.
 */
export async function openInside(
  folder: string,
  location: string,
  refuse: (why: string, cause?: unknown) => CloisterError,
): Promise<{ readonly file: FileHandle; readonly place: string } | undefined> {
  const path = join(folder, ...location.split('/'));
  let file: FileHandle;
  try {
    file = await open(path, FLAGS);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw refuse(code === 'ELOOP' ? 'it is a link; copy the file itself there' : `it cannot be read (${code})`, cause);
  }
  try {
    if (!(await file.stat()).isFile()) throw refuse('it is not a regular file');
    const place = await placeOf(file, path);
    if (place === undefined || !isInside(place, folder)) throw refuse('it lies outside of the folder');
    return { file, place };
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Where an open file lies; undefined where that cannot be told, or it has changed since it was opened. */
async function placeOf(file: FileHandle, path: string): Promise<string | undefined> {
  // The descriptor itself knows, on Linux; elsewhere the path is resolved, and must lead to the same file.
  if (process.platform === 'linux') {
    const place = await readlink(`/proc/self/fd/${file.fd}`).catch(() => undefined);
    if (place !== undefined) return place;
  }
  const real = await realpath(path).catch(() => undefined);
  if (real === undefined) return undefined;
  const [there, here] = await Promise.all([stat(real, { bigint: true }), file.stat({ bigint: true })]);
  return there.dev === here.dev && there.ino === here.ino ? real : undefined;
}

function isInside(path: string, folder: string): boolean {
  return path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}
