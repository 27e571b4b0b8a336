/**
 * Where a reader takes its bytes from.
 * @module
 */
import { CloisterError } from '../base/index.ts';
import type { ConstantReader } from '../graph/index.ts';

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
