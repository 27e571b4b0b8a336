/**
 * Strings as bytes: for each element its length in bytes, u32 little-endian, then its UTF-8.
 * @module
 */
import { CloisterError, decodeUtf8, encodeUtf8 } from '../base/index.ts';

/** The bytes of `strings`, in order. */
export function encodeStrings(strings: readonly string[]): Uint8Array {
  const parts = strings.map(encodeUtf8);
  const out = new Uint8Array(parts.reduce((sum, part) => sum + 4 + part.length, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const part of parts) {
    view.setUint32(at, part.length, true);
    out.set(part, at + 4);
    at += 4 + part.length;
  }
  return out;
}

/** The `count` strings that are exactly `bytes`. @throws {CloisterError} `SHAPE_MISMATCH` when there are more or fewer. */
export function decodeStrings(bytes: Uint8Array, count: number): string[] {
  const refuse = (): never => {
    throw new CloisterError('SHAPE_MISMATCH', `${bytes.length} bytes are not ${count} strings`, {
      bytes: bytes.length,
    });
  };
  // Each string takes at least the four bytes of its length, so that what is allocated is paid for.
  if (count * 4 > bytes.length) refuse();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const out: string[] = [];
  let at = 0;
  while (out.length < count) {
    if (at + 4 > bytes.length) refuse();
    const end = at + 4 + view.getUint32(at, true);
    if (end > bytes.length) refuse();
    out.push(decodeUtf8(bytes.subarray(at + 4, end)));
    at = end;
  }
  if (at !== bytes.length) refuse();
  return out;
}
