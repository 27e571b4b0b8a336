/**
 * Where a reader takes its bytes from.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import type { ConstantReader } from '../graph/index.ts';
import type { ExternalData } from './onnx/external.ts';

/** A file (or anything like one) of known size, read at random. */
export interface ModelSource extends ConstantReader {
  /** Bytes in all. */
  readonly size: number;
}

/**
 * A source over bytes that are in memory. `read` returns views of `bytes`.
 *
 * @example
 * ```ts
 * parseOnnx(bytesSource(await readFile('digits.onnx'))).nodes.length; // 8
 * ```
 */
export function bytesSource(bytes: Uint8Array): ModelSource {
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength); // a Node Buffer slices differently
  return {
    size: plain.length,
    read(offset, length) {
      if (!Number.isSafeInteger(offset) || offset < 0 || length < 0 || offset + length > plain.length) {
        const message = `expected ${length} bytes at ${offset}, the file has ${plain.length}`;
        throw new CloisterError('INVALID_MODEL', message, { offset, length, size: plain.length });
      }
      return plain.subarray(offset, offset + length);
    },
  };
}

/**
 * A model with the files beside it, which are opened on first use and laid out behind it: one source for `parseOnnx`
 * (as `source` and as `options.external`) and for whoever runs the graph. Its `size` stays that of the model file.
 *
 * @param open - The file at a relative path that has been checked for its form; undefined where there is none.
 * @example
 * ```ts
 * const files = new Map([['weights.bin', new Uint8Array(64)]]);
 * const source = withExternalData(bytesSource(await readFile('digits.onnx')), name => {
 *   const bytes = files.get(name);
 *   return bytes && bytesSource(bytes);
 * });
 * parseOnnx(source, { external: source }).name; // 'digits'
 * ```
 */
export function withExternalData(
  model: ModelSource,
  open: (location: string) => ModelSource | undefined,
): ModelSource & ExternalData {
  const files = new Map<string, { readonly offset: number; readonly file: ModelSource }>();
  let end = model.size;
  /** The file that has the byte at `offset`, and where it starts. */
  const at = (offset: number, length: number): { readonly start: number; readonly file: ModelSource } => {
    if (offset < model.size) return { start: 0, file: model };
    for (const { offset: start, file } of files.values()) {
      if (offset >= start && offset < start + file.size) return { start, file };
    }
    const message = `expected ${length} bytes at ${offset}, no file lies there`;
    throw new CloisterError('INVALID_MODEL', message, { offset, length });
  };
  return {
    size: model.size,
    locate(location) {
      const known = files.get(location);
      if (known) return { offset: known.offset, size: known.file.size };
      const file = open(location);
      if (!file) return undefined;
      const offset = end;
      files.set(location, { offset, file });
      end += file.size;
      return { offset, size: file.size };
    },
    read(offset, length) {
      const { start, file } = at(offset, length);
      return file.read(offset - start, length);
    },
    readInto(offset, target) {
      const { start, file } = at(offset, target.length);
      if (file.readInto) file.readInto(offset - start, target);
      else target.set(file.read(offset - start, target.length));
    },
  };
}
