/**
 * Bytes and text, for code that must also run in a bare isolate, where neither `TextEncoder` nor `Buffer` exists.
 * @module
 */
import { CloisterError } from './errors.ts';

const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/**
 * Lower-case hexadecimal of `bytes`.
 * @example
 * ```ts
 * toHex(Uint8Array.of(0, 255)); // '00ff'
 * ```
 */
export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += HEX[byte];
  return text;
}

/**
 * The bytes that `text` spells in hexadecimal.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` on an odd length or a character outside 0-9a-fA-F.
 */
export function fromHex(text: string): Uint8Array {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) {
    throw new CloisterError(
      'INVALID_ARGUMENT',
      `expected an even number of hexadecimal digits, got ${text.length} characters`,
    );
  }
  return Uint8Array.from({ length: text.length / 2 }, (_, i) => Number.parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

const BASE64 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';

/**
 * Standard base64 (RFC 4648 §4) with padding.
 * @example
 * ```ts
 * toBase64(encodeUtf8('hi')); // 'aGk='
 * ```
 */
export function toBase64(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; i += 3) {
    const left = bytes.length - i;
    const word = (bytes[i]! << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    text += BASE64[word >> 18]! + BASE64[(word >> 12) & 63]!;
    text += left > 1 ? BASE64[(word >> 6) & 63]! : '=';
    text += left > 2 ? BASE64[word & 63]! : '=';
  }
  return text;
}

/**
 * The bytes that `text` spells in standard padded base64. Strict: one spelling for each byte string (unused bits are zero).
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` on anything else.
 */
export function fromBase64(text: string): Uint8Array {
  const bad = (): never => {
    throw new CloisterError('INVALID_ARGUMENT', 'expected standard padded base64');
  };
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) bad();
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  let at = 0;
  for (let i = 0; i < text.length; i += 4) {
    let word = 0;
    for (let j = 0; j < 4; j++) word = (word << 6) | Math.max(0, BASE64.indexOf(text[i + j]!));
    for (let shift = 16; shift >= 0; shift -= 8) if (at < bytes.length) bytes[at++] = (word >> shift) & 255;
  }
  if (toBase64(bytes) !== text) bad();
  return bytes;
}

/** UTF-8 of `text`; a lone surrogate becomes U+FFFD, as the Encoding Standard says. */
export function encodeUtf8(text: string): Uint8Array {
  const out = new Uint8Array(text.length * 3);
  let at = 0;
  for (const char of text) {
    let code = char.codePointAt(0)!;
    if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
    if (code < 0x80) out[at++] = code;
    else if (code < 0x800) {
      out[at++] = 0xc0 | (code >> 6);
      out[at++] = 0x80 | (code & 63);
    } else if (code < 0x10000) {
      out[at++] = 0xe0 | (code >> 12);
      out[at++] = 0x80 | ((code >> 6) & 63);
      out[at++] = 0x80 | (code & 63);
    } else {
      out[at++] = 0xf0 | (code >> 18);
      out[at++] = 0x80 | ((code >> 12) & 63);
      out[at++] = 0x80 | ((code >> 6) & 63);
      out[at++] = 0x80 | (code & 63);
    }
  }
  return out.slice(0, at);
}

/** Characters of one run: a call takes so many arguments. */
const MAX_RUN = 4096;

/**
 * The text that `bytes` spell in UTF-8.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` at the first byte that is not well-formed UTF-8 (overlong forms and surrogates included).
 */
export function decodeUtf8(bytes: Uint8Array): string {
  let text = '';
  for (let i = 0; i < bytes.length; ) {
    const lead = bytes[i]!;
    if (lead < 0x80) {
      // A run at once: text that is put together character by character is slow to compare and to hash later.
      let end = i + 1;
      const most = Math.min(bytes.length, i + MAX_RUN);
      while (end < most && bytes[end]! < 0x80) end++;
      text += String.fromCharCode.apply(null, bytes.subarray(i, end) as unknown as number[]);
      i = end;
      continue;
    }
    const size =
      lead >= 0xc2 && lead <= 0xdf ? 2 : lead >= 0xe0 && lead <= 0xef ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
    let code = lead & (0x7f >> size);
    let good = size > 0 && i + size <= bytes.length;
    for (let j = 1; good && j < size; j++) {
      const byte = bytes[i + j]!;
      good = (byte & 0xc0) === 0x80;
      code = (code << 6) | (byte & 63);
    }
    if (
      !good ||
      (size === 3 && (code < 0x800 || (code >= 0xd800 && code <= 0xdfff))) ||
      (size === 4 && (code < 0x10000 || code > 0x10ffff))
    ) {
      throw new CloisterError('INVALID_ARGUMENT', `expected UTF-8, got byte 0x${HEX[lead]} at ${i}`, { at: i });
    }
    text += String.fromCodePoint(code);
    i += size;
  }
  return text;
}

/** The concatenation of `parts`, as a new array. */
export function concatBytes(...parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Whether two byte strings are equal. Not constant time: never for secrets. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
