/**
 * Frames: what a supervisor and a worker say to each other over one socket pair.
 *
 * All integers are unsigned, little-endian. A frame is
 *
 * | offset | size | meaning | limit |
 * |---|---|---|---|
 * | 0 | 4 | magic `CLF1` | |
 * | 4 | 4 | id: 0 is the worker's greeting; an answer, a message and credit carry their request's | of a pending request |
 * | 8 | 4 | H, bytes of the header | {@link MAX_HEADER_BYTES} |
 * | 12 | 4 | P, bytes of the payload | of the request |
 * | 16 | H | header: one JSON object, UTF-8 | |
 * | 16 + H | P | payload: raw bytes | |
 *
 * The receiver checks every length before it allocates, and takes a frame that breaks a rule as the end of the conversation.
 * Nothing but JSON.parse ever interprets what a worker sent.
 * @module
 */

/** Bytes before the header. */
export const PREFIX_BYTES = 16;

/** The most bytes of one header. */
export const MAX_HEADER_BYTES: number = 4 * 1_048_576;

const MAX_PAYLOAD_BYTES = 0xffff_ffff;
const MAGIC = 0x31464c43; // 'CLF1'

/** One message. */
export interface Frame {
  readonly id: number;
  readonly header: Readonly<Record<string, unknown>>;
  /** What the header had on the wire. */
  readonly headerBytes: number;
  /** Alone in its own buffer. */
  readonly payload: Uint8Array<ArrayBuffer>;
}

/** The lengths that a prefix announces. */
export interface Prefix {
  readonly id: number;
  readonly headerBytes: number;
  readonly payloadBytes: number;
}

/** A frame broke a rule of the table above. Stays inside this room: callers see `WORKER_CRASHED`. */
export class ProtocolViolation extends Error {
  override readonly name = 'ProtocolViolation';
}

/**
 * Prefix and header as one buffer; the payload's parts follow it on the wire.
 *
 * @throws {ProtocolViolation} when a length is over what the prefix can say.
 */
export function encodeHead(id: number, header: object, payloadBytes: number): Buffer {
  return encodeText(id, JSON.stringify(header), payloadBytes);
}

/** {@link encodeHead} of a header that is JSON already. */
export function encodeText(id: number, text: string, payloadBytes: number): Buffer {
  const headerBytes = Buffer.byteLength(text);
  if (headerBytes > MAX_HEADER_BYTES) throw new ProtocolViolation(`a header of ${headerBytes} bytes is over the limit`);
  if (payloadBytes > MAX_PAYLOAD_BYTES) {
    throw new ProtocolViolation(`a payload of ${payloadBytes} bytes is over the limit of ${MAX_PAYLOAD_BYTES}`);
  }
  const head = Buffer.allocUnsafe(PREFIX_BYTES + headerBytes);
  head.writeUInt32LE(MAGIC, 0);
  head.writeUInt32LE(id, 4);
  head.writeUInt32LE(headerBytes, 8);
  head.writeUInt32LE(payloadBytes, 12);
  head.write(text, PREFIX_BYTES, 'utf8');
  return head;
}

/**
 * Reads the prefix at `at`, which must lie whole in `bytes`.
 *
 * @throws {ProtocolViolation} on a wrong magic or a header over the limit.
 */
export function parsePrefix(bytes: Buffer, at: number): Prefix {
  if (bytes.readUInt32LE(at) !== MAGIC) throw new ProtocolViolation('a frame does not start with its magic');
  const headerBytes = bytes.readUInt32LE(at + 8);
  if (headerBytes < 2 || headerBytes > MAX_HEADER_BYTES) {
    throw new ProtocolViolation(`a header of ${headerBytes} bytes is out of range`);
  }
  return { id: bytes.readUInt32LE(at + 4), headerBytes, payloadBytes: bytes.readUInt32LE(at + 12) };
}

/** @throws {ProtocolViolation} when `bytes` are not one JSON object. */
export function parseHeader(bytes: Buffer): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new ProtocolViolation('a header is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ProtocolViolation('a header is not an object');
  }
  return value as Readonly<Record<string, unknown>>;
}

/** Bytes alone in their buffer, **not yet zeros**: for whoever writes all of them at once. */
export function freshBytes(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(length).buffer);
}

/**
 * Puts frames together from the pieces in which they arrive. Holds at most one frame, and allocates for it only after
 * `allow` said how large its payload may be.
 */
export class FrameDecoder {
  readonly #allow: (id: number) => number;
  readonly #head = new Gatherer();
  #prefix: Prefix | undefined;
  #header: Readonly<Record<string, unknown>> | undefined;
  #payload: Uint8Array<ArrayBuffer> | undefined;
  #filled = 0;

  /** @param allow - The most payload bytes that a frame with this id may have. Throws {@link ProtocolViolation} on an id that nobody waits for. */
  constructor(allow: (id: number) => number) {
    this.#allow = allow;
  }

  /**
   * Takes one piece of the stream; returns the frames that it completes.
   *
   * @throws {ProtocolViolation} at the first byte that breaks a rule. The decoder is of no use afterwards.
   */
  push(chunk: Uint8Array): readonly Frame[] {
    const frames: Frame[] = [];
    let at = 0;
    while (true) {
      if (this.#prefix === undefined) {
        at = this.#head.take(chunk, at, PREFIX_BYTES);
        const bytes = this.#head.finish(PREFIX_BYTES);
        if (bytes === undefined) return frames;
        const prefix = parsePrefix(bytes, 0);
        const allowed = this.#allow(prefix.id);
        if (prefix.payloadBytes > allowed) {
          throw new ProtocolViolation(`a payload of ${prefix.payloadBytes} bytes, where at most ${allowed} may come`);
        }
        this.#prefix = prefix;
      }
      if (this.#header === undefined) {
        at = this.#head.take(chunk, at, this.#prefix.headerBytes);
        const bytes = this.#head.finish(this.#prefix.headerBytes);
        if (bytes === undefined) return frames;
        this.#header = parseHeader(bytes);
        this.#payload = freshBytes(this.#prefix.payloadBytes);
        this.#filled = 0;
      }
      const payload = this.#payload!;
      const count = Math.min(payload.length - this.#filled, chunk.length - at);
      if (count > 0) {
        payload.set(chunk.subarray(at, at + count), this.#filled);
        this.#filled += count;
        at += count;
      }
      if (this.#filled < payload.length) return frames;
      const { id, headerBytes } = this.#prefix;
      frames.push({ id, header: this.#header, headerBytes, payload });
      this.#prefix = undefined;
      this.#header = undefined;
      this.#payload = undefined;
    }
  }
}

/** Collects a known number of bytes; passes a piece through uncopied when it holds them all. */
class Gatherer {
  #parts: Uint8Array[] = [];
  #length = 0;

  take(chunk: Uint8Array, at: number, wanted: number): number {
    const count = Math.min(wanted - this.#length, chunk.length - at);
    if (count > 0) {
      this.#parts.push(chunk.subarray(at, at + count));
      this.#length += count;
    }
    return at + Math.max(count, 0);
  }

  finish(wanted: number): Buffer | undefined {
    if (this.#length < wanted) return undefined;
    const [first] = this.#parts;
    const whole =
      this.#parts.length === 1 && first !== undefined
        ? Buffer.from(first.buffer, first.byteOffset, first.byteLength)
        : Buffer.concat(this.#parts, wanted);
    this.#parts = [];
    this.#length = 0;
    return whole;
  }
}
