/**
 * The model file as a guest sees it: lent, in ranges.
 * @module
 */
import { CloisterError } from '../../src/base/index.ts';
import type { ModelSource } from '../../src/formats/index.ts';

const PAGE_BYTES = 65_536;

/** Copies bytes of the model file into the guest. Throws when the range is not inside the file. */
export type Read = (offset: number, length: number) => ArrayBuffer;

/**
 * A source over `read`, for a file of `size` bytes. Small reads are served from the last page, since each crossing of the
 * border costs more than the copy.
 */
export function lentSource(size: number, read: Read): ModelSource {
  let page = new Uint8Array(0);
  let pageStart = 0;
  return {
    size,
    read(offset, length) {
      if (
        !Number.isSafeInteger(offset) ||
        !Number.isSafeInteger(length) ||
        offset < 0 ||
        length < 0 ||
        offset + length > size
      ) {
        const message = `expected ${length} bytes at ${offset}, the file has ${size}`;
        throw new CloisterError('INVALID_MODEL', message, { offset, length, size });
      }
      if (length > PAGE_BYTES / 2) return new Uint8Array(read(offset, length));
      if (offset < pageStart || offset + length > pageStart + page.length) {
        page = new Uint8Array(read(offset, Math.min(PAGE_BYTES, size - offset)));
        pageStart = offset;
      }
      return page.subarray(offset - pageStart, offset - pageStart + length);
    },
  };
}
