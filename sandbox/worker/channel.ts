/**
 * The worker's end of the channel: blocking reads and writes on one inherited descriptor. A worker serves one call at a time
 * and has nothing else to do, and a blocked read wakes sooner than an event loop does.
 * @module
 */
import { readSync, writeSync, writevSync } from 'node:fs';
import { encodeHead, type Frame, freshBytes, PREFIX_BYTES, type Prefix, parseHeader, parsePrefix } from './frames.ts';

const BUFFER_BYTES = 65_536;
/** Up to here head and payload are joined and leave in one write; beyond, in one vectored write without a copy. */
const JOIN_BYTES = 65_536;

/** Frames over a blocking stream descriptor. */
export class BlockingChannel {
  readonly #fd: number;
  readonly #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #start = 0;
  #end = 0;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Waits for the next frame. `undefined` when the other side is gone. @throws {ProtocolViolation} */
  read(): Frame | undefined {
    if (!this.#fill(PREFIX_BYTES)) return undefined;
    const prefix: Prefix = parsePrefix(this.#buffer, this.#start);
    this.#start += PREFIX_BYTES;
    const head = this.#exactly(prefix.headerBytes);
    const payload = head && this.#exactly(prefix.payloadBytes);
    if (!head || !payload) return undefined;
    const header = parseHeader(Buffer.from(head.buffer, head.byteOffset, head.byteLength));
    return { id: prefix.id, header, headerBytes: prefix.headerBytes, payload };
  }

  /** Returns when the whole frame is in the kernel's hands. Throws what the system says when the other side is gone. */
  write(id: number, header: object, parts: readonly Uint8Array[] = []): void {
    const payloadBytes = parts.reduce((sum, part) => sum + part.length, 0);
    const head = encodeHead(id, header, payloadBytes);
    const total = head.length + payloadBytes;
    if (total <= JOIN_BYTES) {
      this.writeWhole(parts.length === 0 ? head : Buffer.concat([head, ...parts], total));
      return;
    }
    const pieces = [head, ...parts.filter(part => part.length > 0)];
    let written = writevSync(this.#fd, pieces);
    for (const piece of pieces) {
      if (written < piece.length) this.writeWhole(piece.subarray(written));
      written = Math.max(0, written - piece.length);
    }
  }

  /** Returns when the bytes, which are whole frames, are in the kernel's hands. */
  writeWhole(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#fd, bytes, at, bytes.length - at);
  }

  /** Makes at least `wanted` bytes lie in the buffer; false at the end of the stream. */
  #fill(wanted: number): boolean {
    if (this.#end - this.#start >= wanted) return true;
    this.#buffer.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    while (this.#end < wanted) {
      const count = readSync(this.#fd, this.#buffer, this.#end, BUFFER_BYTES - this.#end, null);
      if (count === 0) return false;
      this.#end += count;
    }
    return true;
  }

  /** The next `length` bytes, alone in a fresh buffer. */
  #exactly(length: number): Uint8Array<ArrayBuffer> | undefined {
    const bytes = freshBytes(length);
    let filled = Math.min(length, this.#end - this.#start);
    bytes.set(this.#buffer.subarray(this.#start, this.#start + filled));
    this.#start += filled;
    while (filled < length) {
      const count = readSync(this.#fd, bytes, filled, length - filled, null);
      if (count === 0) return undefined;
      filled += count;
    }
    return bytes;
  }
}
