/**
 * Model files read in pieces: a file of any size behind the `ConstantReader` and `ModelReader` seams, held nowhere.
 * @module
 */
import { type BigIntStats, closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { CloisterError } from '../src/base/index.ts';

/** Not to wait for the other end of a pipe. Windows has no such flag. */
const NONBLOCK: number = constants.O_NONBLOCK ?? 0;

/** A file that {@link openModelFile} opened. Fits the seams of `parseOnnx`, `Backend.prepare` and `NativeProgramHost.load`. */
export interface ModelFile extends Disposable {
  /** Bytes, when it was opened. */
  readonly size: number;
  /**
   * A copy of exactly `length` bytes from `offset`.
   *
   * @throws {CloisterError} `INVALID_MODEL` when that passes the end, or the file is no longer what was opened; `CLOSED`.
   */
  read(offset: number, length: number): Uint8Array<ArrayBuffer>;
  /** {@link ModelFile.read} into `target`, as many bytes as it has: nothing is allocated. */
  readInto(offset: number, target: Uint8Array): void;
  /** Closes the file. Later reads throw `CLOSED`. Harmless twice. */
  close(): void;
}

/**
 * Opens a regular file to be read in pieces, on the calling thread, each when it is asked for: a model is loaded without its file
 * ever being mapped or held beside the packed weights.
 *
 * The file that was opened is the one that is read, whatever its path names later: renaming another over it is safe. Each read looks
 * at size and time of writing, and refuses a file that was cut short or written to since it was opened, so that one load does not mix
 * two versions. That is for accidents: a writer who sets the time back, writes through a mapping, or within the few milliseconds of the
 * file system's clock, is not noticed. What has to be what was hashed is hashed as it is read.
 *
 * Keep it open for as long as something may load from it: a model with sizes that are known to runs only loads again with new ones.
 *
 * @param path - The file. Links are followed.
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no such file, it may not be read, or it is no regular one.
 * @example
 * A model whose file is in memory at no time.
 * ```ts
 * using file = openModelFile('digits.onnx');
 * const binding = loadBinding();
 * const backend = binding ? nativeBackend(openProgramHost(binding)) : referenceBackend;
 * const model = backend.prepare(parseOnnx(file), { constants: file });
 * model.runSync({ image: Tensor.zeros('f32', [1, 1, 28, 28]) })['logits']?.shape; // [1, 10]
 * ```
 */
export function openModelFile(path: string): ModelFile {
  let descriptor: number | undefined = openRegular(path);
  const opened = fstatSync(descriptor, { bigint: true });
  const size = Number(opened.size);

  const readInto = (offset: number, target: Uint8Array): void => {
    if (descriptor === undefined) throw new CloisterError('CLOSED', `the model file ${path} is closed`);
    const { length } = target;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + length > size) {
      const message = `${path}: expected ${length} bytes at ${offset}, the file has ${size}`;
      throw new CloisterError('INVALID_MODEL', message, { path, offset, length, size });
    }
    let done = 0;
    while (done < length) {
      const count = readSync(descriptor, target, done, length - done, offset + done);
      if (count === 0) break;
      done += count;
    }
    // Looked at after the bytes were read, so that these are of the file as it was opened.
    const now = fstatSync(descriptor, { bigint: true });
    if (done === length && isSame(opened, now)) return;
    target.fill(0);
    const message = `${path} changed while it was read: it had ${size} bytes when it was opened and has ${now.size}; replace a model by renaming another over it`;
    throw new CloisterError('INVALID_MODEL', message, { path, offset, length, size, now: Number(now.size) });
  };
  const close = (): void => {
    if (descriptor !== undefined) closeSync(descriptor);
    descriptor = undefined;
  };
  return Object.freeze({
    size,
    read(offset, length) {
      // Before memory is taken: what asks may have the length from the file.
      if (!Number.isSafeInteger(length) || length < 0 || length > size) {
        const message = `${path}: expected ${length} bytes at ${offset}, the file has ${size}`;
        throw new CloisterError('INVALID_MODEL', message, { path, offset, length, size });
      }
      const bytes = new Uint8Array(length);
      readInto(offset, bytes);
      return bytes;
    },
    readInto,
    close,
    [Symbol.dispose]: close,
  } satisfies ModelFile);
}

function openRegular(path: string): number {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(path, constants.O_RDONLY | NONBLOCK);
    if (fstatSync(descriptor).isFile()) return descriptor;
  } catch (cause) {
    if (descriptor !== undefined) closeSync(descriptor);
    const reason = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
    throw new CloisterError('INVALID_ARGUMENT', `cannot open ${path}: ${reason}`, { path }, { cause });
  }
  closeSync(descriptor);
  throw new CloisterError('INVALID_ARGUMENT', `cannot open ${path}: it is not a regular file`, { path });
}

function isSame(opened: BigIntStats, now: BigIntStats): boolean {
  return opened.size === now.size && opened.mtimeNs === now.mtimeNs;
}
