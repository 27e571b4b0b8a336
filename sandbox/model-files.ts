/**
 * A model and the files beside it, laid one behind another in one buffer: what the guest is lent, and what a worker is sent.
 * @module
 */
import { createHash } from 'node:crypto';
import { CloisterError } from '../src/base/index.ts';
import { staysInFolder } from '../src/formats/onnx/external.ts';
import { refuseGuest } from './untrusted.ts';

/** Files that a model may keep its weights in, at most. */
const MAX_FILES = 1_024;

/** Where one file beside the model lies in the buffer. */
export interface PlacedFile {
  /** Its path, relative to the model's folder. */
  readonly location: string;
  readonly offset: number;
  readonly size: number;
}

/** A model with its files. */
export interface ModelFiles {
  /** The model, then each file. Not written any more. */
  readonly bytes: Uint8Array;
  /** How many of them are the model file's. */
  readonly modelBytes: number;
  readonly files: readonly PlacedFile[];
}

/**
 * The file at a path, relative to the model's folder, that a model says its weights are in; undefined where there is none. The path
 * was checked to be of plain names; the model's author chose it.
 */
export type OpenExternal = (location: string) => Uint8Array | undefined | Promise<Uint8Array | undefined>;

/** A model without any file beside it. */
export function aloneModel(bytes: Uint8Array): ModelFiles {
  return { bytes, modelBytes: bytes.length, files: [] };
}

/** The size of each symbolic dimension of the inputs that is fixed on import, by name. */
export type FixedDims = Readonly<Record<string, number>>;

/**
 * Returns `model` with the files that a guest asked for behind it. What the guest asks for is a claim: paths are checked, none may be
 * asked for twice, and the host alone opens them.
 *
 * @param limitBytes - The most that model and files may have together.
 * @throws {CloisterError} `GUEST_FAILED` when `asked` is no list of new paths inside the folder; `INVALID_MODEL` when there is no such
 *   file; `MODEL_TOO_LARGE`; what `open` throws.
 */
export async function addFiles(
  model: ModelFiles,
  asked: unknown,
  open: OpenExternal | undefined,
  limitBytes: number,
): Promise<ModelFiles> {
  // A file names all that it needs, so a guest that asks twice is one that lies.
  if (model.files.length > 0) throw refuseGuest('external', 'no files but those that were given', asked);
  if (!Array.isArray(asked) || asked.length === 0 || asked.length > MAX_FILES) {
    throw refuseGuest('external', `1 to ${MAX_FILES} files`, Array.isArray(asked) ? asked.length : asked);
  }
  const known = new Set<string>();
  const parts: Uint8Array[] = [model.bytes];
  const files: PlacedFile[] = [];
  let end = model.bytes.length;
  for (const location of asked as unknown[]) {
    if (typeof location !== 'string' || !location.isWellFormed() || !staysInFolder(location) || known.has(location)) {
      throw refuseGuest('external', "a new path inside the model's folder", location);
    }
    known.add(location);
    const bytes = await open?.(location);
    if (bytes === undefined) {
      const why = open === undefined ? 'only the model file was given' : 'there is no such file beside the model';
      throw new CloisterError('INVALID_MODEL', `weights are in ${JSON.stringify(location)}: ${why}`, { location });
    }
    if (!(bytes instanceof Uint8Array)) {
      throw new CloisterError('INVALID_ARGUMENT', `external: expected the bytes of ${JSON.stringify(location)}`);
    }
    if (end + bytes.length > limitBytes) {
      const message = `the model and its files have more than ${limitBytes} bytes, the limit modelBytes`;
      throw new CloisterError('MODEL_TOO_LARGE', message, { bytes: end + bytes.length, allowed: limitBytes });
    }
    files.push({ location, offset: end, size: bytes.length });
    parts.push(bytes);
    end += bytes.length;
  }
  const joined = new Uint8Array(end);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return { bytes: joined, modelBytes: model.modelBytes, files };
}

/** The names and sizes of the files, as a request says them. */
export function describeFiles({ modelBytes, files }: ModelFiles): object {
  return { bytes: modelBytes, files: files.map(({ location, offset, size }) => ({ location, offset, size })) };
}

/** The model that a supervisor sent: `header` says where each file lies in `bytes`. */
export function readFiles(header: Readonly<Record<string, unknown>>, bytes: Uint8Array): ModelFiles {
  return { bytes, modelBytes: header['bytes'] as number, files: header['files'] as readonly PlacedFile[] };
}

/**
 * What names a model and its files in the log, in receipts and in caches: `sha256:…` of the model file where it is alone. Where files
 * lie beside it, SHA-256 over the line `cloister model 1`, then for the model and for each file, sorted by path, one line: the SHA-256
 * of its bytes in hexadecimal, its length in decimal, and its path as JSON (the model's is `""`), separated by spaces.
 */
export function digestModel({ bytes, modelBytes, files }: ModelFiles): string {
  const sha = (part: Uint8Array | string): string => createHash('sha256').update(part).digest('hex');
  const model = sha(bytes.subarray(0, modelBytes));
  if (files.length === 0) return `sha256:${model}`;
  const rows = files
    .toSorted((a, b) => (a.location < b.location ? -1 : 1))
    .map(({ location, offset, size }) => {
      return `${sha(bytes.subarray(offset, offset + size))} ${size} ${JSON.stringify(location)}\n`;
    });
  return `sha256:${sha(['cloister model 1\n', `${model} ${modelBytes} ""\n`, ...rows].join(''))}`;
}
