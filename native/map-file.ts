/**
 * Mapped files: a file as memory, without reading it (`docs/adr/0010-mapped-files.md`).
 * @module
 */
import { constants } from 'node:buffer';
import { getSystemErrorName } from 'node:util';
import { CloisterError, ERROR_CODES, type ErrorCode } from '../src/base/index.ts';
import { type Binding, loadBinding, nativeStatus } from './loader.ts';

/** A file that {@link mapFile} mapped. */
export interface MappedFile extends Disposable {
  /**
   * The file, from its first byte to its last as of the time of mapping; it starts at a page. Every view of its buffer
   * keeps the mapping, with or without this object.
   * @throws {CloisterError} `CLOSED`.
   */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /**
   * Detaches the buffer: every view of it is empty from now on, and the memory goes back at the next turn of the event
   * loop. Asynchronous work that was given the bytes and has not finished may read memory that is gone: wait for it
   * (that of this room copies what it is given, before it returns). Harmless twice. Who transferred the buffer away has
   * the memory; closing does not reach it.
   */
  close(): void;
}

/** The part of the addon's exports that maps. A string is an error, `CODE: message`; a number is the system's. */
interface FilesBinding {
  mapFile(path: string, limitBytes: number): ArrayBuffer | string | number;
}

/**
 * Maps a regular file and returns its bytes, which are read from the disk as they are touched, and not before. Takes no
 * memory that the system could not take back.
 *
 * The bytes are copy on write: writing to them changes neither the file nor any other mapping. They are not a snapshot:
 * a page that was not yet written shows what others write to the file. **When the file is cut short, touching the pages
 * behind its new end kills the process (SIGBUS).** No check can prevent that, so map only files that nobody changes in
 * place (replacing a file by `rename` is safe), or map in a process that may die. What has to stay what it was when it
 * was verified or hashed is read, not mapped.
 *
 * @param path - The file. Links on the way to it are followed; the file itself may not be one.
 * @throws {CloisterError} `INVALID_ARGUMENT` when there is no such file, it is not a regular one, may not be read, or
 *   cannot be mapped (as those that the kernel makes up, below `/proc`); `OUT_OF_MEMORY` when this process has mapped
 *   16,384 files (closed ones count until the event loop has turned), or the system has no address space or descriptors
 *   left; `MISSING_DEPENDENCY` without the native binary, on Windows, and in a runtime without external buffers:
 *   `readFile` does the rest there.
 * @example
 * Weights in place, or a copy of them where nothing can be mapped.
 * ```ts
 * await writeFile('model.safetensors', writeSafetensors({ w: Tensor.of('f32', [1, 2]) }));
 * const mapped = nativeStatus().kind === 'loaded' ? mapFile('model.safetensors') : undefined;
 * const bytes = mapped?.bytes ?? new Uint8Array(await readFile('model.safetensors'));
 *
 * const { dtype, shape, offset, length } = parseSafetensors(bytesSource(bytes)).tensors.get('w')!;
 * const w = Tensor.fromBytes(dtype, shape, bytes.subarray(offset, offset + length));
 * w.toArray(); // [1, 2]
 * w.buffer === bytes.buffer; // true: no copy was made
 * mapped?.close();
 * ```
 */
export function mapFile(path: string): MappedFile {
  const binding: Binding | undefined = loadBinding();
  if (binding === undefined) throw cannotMap(path, 'MISSING_DEPENDENCY', 'there is no native binary');
  const result = (binding as unknown as FilesBinding).mapFile(path, constants.MAX_LENGTH);
  if (result instanceof ArrayBuffer) return hold(result);
  if (typeof result === 'number') throw systemError(path, getSystemErrorName(-result));
  const colon = result.indexOf(': ');
  const code = result.slice(0, colon);
  throw cannotMap(
    path,
    Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'OUT_OF_MEMORY',
    result.slice(colon + 2),
  );
}

function hold(buffer: ArrayBuffer): MappedFile {
  let held: Uint8Array<ArrayBuffer> | undefined = new Uint8Array(buffer);
  const close = (): void => {
    // Node unmaps when nothing refers to the memory any more, on the thread that mapped it: never under a view.
    if (held && !held.buffer.detached) held.buffer.transfer(0);
    held = undefined;
  };
  return Object.freeze({
    get bytes() {
      if (held) return held;
      throw new CloisterError('CLOSED', 'the mapped file is closed');
    },
    close,
    [Symbol.dispose]: close,
  });
}

/** What the system ran out of, as opposed to what is wrong with the file. */
const EXHAUSTED: ReadonlySet<string> = new Set(['ENOMEM', 'EMFILE', 'ENFILE', 'EAGAIN']);

/** What an error's name does not say by itself. */
const MEANINGS: Readonly<Record<string, string>> = {
  ELOOP: 'it is a symbolic link',
  ENODEV: 'its file system does not map it',
};

function systemError(path: string, name: string): CloisterError {
  const meaning = MEANINGS[name];
  const reason = meaning === undefined ? name : `${meaning} (${name})`;
  return cannotMap(path, EXHAUSTED.has(name) ? 'OUT_OF_MEMORY' : 'INVALID_ARGUMENT', reason);
}

function cannotMap(path: string, code: ErrorCode, reason: string): CloisterError {
  const shown = typeof path === 'string' ? path : typeof path;
  if (code !== 'MISSING_DEPENDENCY') return new CloisterError(code, `cannot map ${shown}: ${reason}`, { path: shown });
  const status = nativeStatus();
  // Where the binary is there, nothing that could be installed would help.
  const install = status.kind === 'loaded' ? {} : { install: status.mend };
  const message = `cannot map ${shown}: ${reason}; read it instead (readFile of node:fs/promises)`;
  return new CloisterError(code, message, { path: shown, fallback: 'readFile', ...install });
}
