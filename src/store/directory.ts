/**
 * Directories that survive the loss of power: making one is durable only when its parent is synced.
 * @module
 */
import fs from 'node:fs';
import path from 'node:path';
import { CloisterError } from '../base/index.ts';

/**
 * Makes `directory` and its missing parents for their owner alone (mode 0700), durably. One that exists is left as it is.
 *
 * Not `mkdir` with `recursive`: that loops for ever where a file system answers ENOENT under a parent that exists, as /proc does.
 *
 * @throws {CloisterError} `STORE_FAILED` when it cannot be made.
 */
export function makeDirectory(directory: string): void {
  try {
    make(path.resolve(directory));
  } catch (cause) {
    const message = `the directory ${directory} cannot be made: ${(cause as Error).message}`;
    throw new CloisterError(
      'STORE_FAILED',
      message,
      { directory, system: (cause as NodeJS.ErrnoException).code },
      { cause },
    );
  }
}

/** Makes the entries of a directory durable: files that were created, renamed or removed in it. */
export function syncDirectory(directory: string): void {
  if (process.platform === 'win32') return; // a directory cannot be opened there; NTFS journals its entries
  const fd = fs.openSync(directory, 'r');
  try {
    fs.fsyncSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}

function make(directory: string): void {
  const parent = path.dirname(directory);
  try {
    fs.mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && fs.statSync(directory).isDirectory()) return;
    if (code !== 'ENOENT' || fs.existsSync(parent)) throw error;
    make(parent);
    fs.mkdirSync(directory, { mode: 0o700 });
  }
  syncDirectory(parent);
}
