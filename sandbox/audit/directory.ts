/**
 * The directory that a log lives in: the few file operations that it needs, as a seam, and their implementation on node:fs.
 * Tests put a directory behind the seam that loses power at any byte.
 * @module
 */
import fs from 'node:fs';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { CloisterError, isCloisterError } from '../../src/base/errors.ts';
import { makeDirectory, syncDirectory } from '../../src/store/directory.ts';

/** A file that is read anywhere and written only at its end. */
export interface LogFile {
  size(): number;
  /** Reads up to `target.length` bytes from `position` on and returns how many there were; 0 at the end. */
  readAt(target: Uint8Array, position: number): number;
  /** Appends all of `bytes`. They are durable only after {@link sync}. */
  append(bytes: Uint8Array): Promise<void>;
  /** Makes what was appended durable (fdatasync). */
  sync(): Promise<void>;
  close(): void;
}

/** A file that is written whole. */
export interface WholeFile {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/**
 * A directory of log files, in it and in directories below it: a name may have slashes. Every method throws `STORE_FAILED` when the medium fails, and `AUDIT_INVALID` when something that
 * is not a regular file lies where a file should.
 */
export interface LogDirectory {
  /** For messages. */
  readonly path: string;
  /** Opens a regular file to read; undefined when there is none. */
  open(name: string): LogFile | undefined;
  /** Opens a file to append to; undefined when there is none. */
  openAppend(name: string): LogFile | undefined;
  /** The names in a directory below, in no order; none when there is no such directory. */
  list(name: string): string[];
  /** The first `limitBytes` of a small file; undefined when there is none. */
  read(name: string, limitBytes: number): Uint8Array | undefined;
  /** Replaces a small file atomically and durably: after a crash it has the old content or the new. */
  replace(name: string, bytes: Uint8Array, mode: number): Promise<void>;
  /** Makes a small file atomically and durably; false when it exists already. */
  create(name: string, bytes: Uint8Array, mode: number): boolean;
  /**
   * Writes files (mode 0600), each atomically, and makes them durable together. After a crash each has its old content (or none) or
   * the new.
   */
  writeAll(files: readonly WholeFile[]): Promise<void>;
  /** Removes files that are there, and directories `*.p` that are empty then. Not durable: after a crash any may be back. */
  remove(names: readonly string[]): void;
  /** Overwrites a file with zeros and removes it, durably; nothing happens when there is none. */
  erase(name: string): void;
  /** Permission bits of a file, where the system has them. */
  mode(name: string): number | undefined;
  /**
   * Takes the directory for this log alone and returns what releases it. The operating system releases it too when the
   * process dies, however it dies.
   *
   * @throws {CloisterError} `LOCKED` when another log, of this process or another, has it.
   */
  lock(name: string): () => void;
}

/**
 * Opens a directory on disk.
 *
 * @param directory - Its path.
 * @param make - Whether to make it (mode 0700) when it does not exist.
 * @throws {CloisterError} `STORE_FAILED` when it cannot be made.
 */
export function nodeDirectory(directory: string, make: boolean): LogDirectory {
  const at = (name: string): string => path.join(directory, name);
  if (make) makeDirectory(directory);
  const made = new Set<string>([directory]);
  /** The directory of a file, which is made (durably) when it is not there. */
  const parentOf = (file: string): string => {
    const parent = path.dirname(file);
    if (!made.has(parent)) {
      makeDirectory(parent);
      made.add(parent);
    }
    return parent;
  };
  return {
    path: directory,
    open: name => openFile(at(name), fs.constants.O_RDONLY | NONBLOCK),
    openAppend: name => openFile(at(name), fs.constants.O_RDWR | fs.constants.O_APPEND | NONBLOCK),
    list: name =>
      guard(at(name), 'list', () => {
        try {
          return fs.readdirSync(at(name));
        } catch (error) {
          if (isMissing(error)) return [];
          if ((error as NodeJS.ErrnoException).code === 'ENOTDIR') throw misplaced(at(name), 'directory');
          throw error;
        }
      }),
    read(name, limitBytes) {
      const file = openFile(at(name), fs.constants.O_RDONLY | NONBLOCK);
      if (file === undefined) return undefined;
      try {
        const bytes = new Uint8Array(Math.min(limitBytes, file.size()));
        return bytes.subarray(0, file.readAt(bytes, 0));
      } finally {
        file.close();
      }
    },
    async replace(name, bytes, mode) {
      const parent = parentOf(at(name));
      const temporary = writeTemporary(at(name), bytes, mode);
      guard(at(name), 'replace', () => {
        fs.renameSync(temporary, at(name));
        syncDirectory(parent);
      });
    },
    create(name, bytes, mode) {
      const parent = parentOf(at(name));
      const temporary = writeTemporary(at(name), bytes, mode);
      return guard(at(name), 'create', () => {
        try {
          fs.linkSync(temporary, at(name)); // unlike rename, link never overwrites
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
          throw error;
        } finally {
          fs.unlinkSync(temporary);
        }
        syncDirectory(parent);
        return true;
      });
    },
    async writeAll(files) {
      const parents = new Set(files.map(({ name }) => parentOf(at(name))));
      const temporaries = files.map((_, i) => path.join(directory, TEMPORARY_DIRECTORY, String(i)));
      for (const temporary of temporaries) parentOf(temporary);
      await Promise.all(files.map(({ bytes }, i) => writeDurably(temporaries[i]!, bytes)));
      files.forEach(({ name }, i) => {
        guard(at(name), 'write', () => fs.renameSync(temporaries[i]!, at(name)));
      });
      await Promise.all([...parents].map(syncNames));
    },
    remove(names) {
      for (const name of names) {
        guard(at(name), 'remove', () => {
          fs.rmSync(at(name), { force: true });
          const parent = path.dirname(at(name));
          if (parent.endsWith('.p') && removeEmpty(parent)) made.delete(parent);
        });
      }
    },
    erase(name) {
      guard(at(name), 'erase', () => {
        let fd: number;
        try {
          fd = fs.openSync(at(name), 'r+');
        } catch (error) {
          if (isMissing(error)) return;
          throw error;
        }
        try {
          fs.writeSync(fd, new Uint8Array(fs.fstatSync(fd).size), 0, null, 0);
          fs.fsyncSync(fd);
        } finally {
          fs.closeSync(fd);
        }
        fs.unlinkSync(at(name));
        syncDirectory(path.dirname(at(name)));
      });
    },
    mode(name) {
      if (process.platform === 'win32') return undefined;
      return guard(at(name), 'stat', () => fs.statSync(at(name)).mode & 0o777);
    },
    lock: name => lockFile(at(name)),
  };
}

/**
 * Locks a file for as long as this process lives. SQLite's exclusive lock on an empty database serves: a record lock of the
 * kernel (LockFileEx on Windows), so `kill -9`, a crash or a reboot leaves nothing stale, process ids are not compared across
 * containers, and a second lock from the same process is refused too. On POSIX systems the lock would also go if this process
 * opened and closed the file by other means; the log therefore checks before each write that nobody else has written.
 */
function lockFile(file: string): () => void {
  let database: DatabaseSync | undefined;
  try {
    database = new DatabaseSync(file);
    database.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE');
  } catch (cause) {
    database?.close();
    const code = (cause as { errcode?: number }).errcode;
    if (code === 5 || code === 261) {
      throw new CloisterError(
        'LOCKED',
        `another process writes in ${path.dirname(file)}; close it first`,
        {},
        { cause },
      );
    }
    throw new CloisterError('STORE_FAILED', `cannot lock ${file}: ${(cause as Error).message}`, {}, { cause });
  }
  const held = database;
  return () => held.close();
}

/** Where files wait for their name; what a crash leaves there is overwritten. */
export const TEMPORARY_DIRECTORY = 'tmp';

/** Not to hang on a pipe that lies where a file should. Windows has no such flag. */
const NONBLOCK: number = fs.constants.O_NONBLOCK ?? 0;

function openFile(file: string, flags: number): LogFile | undefined {
  let fd: number;
  try {
    fd = fs.openSync(file, flags, 0o600);
  } catch (error) {
    if (isMissing(error)) return undefined;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EISDIR') throw misplaced(file, 'regular file');
    if (code === 'ENOTDIR') throw misplaced(path.dirname(file), 'directory');
    throw failed(file, 'open', error);
  }
  if (!fs.fstatSync(fd).isFile()) {
    fs.closeSync(fd);
    throw misplaced(file, 'regular file');
  }
  return {
    size: () => guard(file, 'stat', () => fs.fstatSync(fd).size),
    readAt: (target, position) =>
      guard(file, 'read', () => {
        let done = 0;
        while (done < target.length) {
          const count = fs.readSync(fd, target, done, target.length - done, position + done);
          if (count === 0) break;
          done += count;
        }
        return done;
      }),
    // On this thread: the bytes go into the page cache, and handing them to another thread takes longer than that.
    append: async bytes => {
      for (let done = 0; done < bytes.length; )
        done += guard(file, 'write', () => fs.writeSync(fd, bytes, done, bytes.length - done));
    },
    sync: () =>
      new Promise((resolve, reject) => {
        fs.fdatasync(fd, error => (error ? reject(failed(file, 'sync', error)) : resolve()));
      }),
    close: () => fs.closeSync(fd),
  };
}

function writeTemporary(file: string, bytes: Uint8Array, mode: number): string {
  const temporary = `${file}.tmp`; // one name will do: the directory is locked
  return guard(file, 'write', () => {
    const fd = fs.openSync(temporary, 'w', mode);
    try {
      fs.fchmodSync(fd, mode);
      fs.writeFileSync(fd, bytes);
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    return temporary;
  });
}

/** Writes a file and makes its content durable; its name is not yet. */
async function writeDurably(file: string, bytes: Uint8Array): Promise<void> {
  const fd = guard(file, 'write', () => fs.openSync(file, 'w', 0o600));
  try {
    guard(file, 'write', () => fs.writeFileSync(fd, bytes));
    await new Promise<void>((resolve, reject) => {
      fs.fdatasync(fd, error => (error ? reject(failed(file, 'sync', error)) : resolve()));
    });
  } finally {
    fs.closeSync(fd);
  }
}

/** Makes the names in a directory durable, off the thread that calls. */
async function syncNames(directory: string): Promise<void> {
  if (process.platform === 'win32') return; // see syncDirectory
  const fd = guard(directory, 'sync', () => fs.openSync(directory, 'r'));
  try {
    await new Promise<void>((resolve, reject) => {
      fs.fsync(fd, error => (error ? reject(failed(directory, 'sync', error)) : resolve()));
    });
  } finally {
    fs.closeSync(fd);
  }
}

/** Removes a directory; false where something is in it. */
function removeEmpty(directory: string): boolean {
  try {
    fs.rmdirSync(directory);
    return true;
  } catch {
    return false;
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

function misplaced(file: string, expected: string): CloisterError {
  return new CloisterError('AUDIT_INVALID', `${file} is not a ${expected}`);
}

function guard<T>(file: string, verb: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw failed(file, verb, error);
  }
}

function failed(file: string, verb: string, cause: unknown): CloisterError {
  if (isCloisterError(cause)) return cause;
  const code = (cause as NodeJS.ErrnoException).code ?? 'EIO';
  return new CloisterError('STORE_FAILED', `cannot ${verb} ${file}: ${code}`, { system: code }, { cause });
}
