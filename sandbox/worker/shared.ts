/**
 * Payloads through shared memory: one copy in, one copy out, instead of two copies through a socket in pieces.
 *
 * Supervisor and worker have the same {@link SHARED_BYTES} mapped, which nobody can shrink. The first half carries payloads of requests,
 * the second those of answers. Headers always go through the socket, and one of them says that its payload, of `shared` bytes, lies at
 * the start of a half instead of behind it. One request at a time has the memory, from when it is made until it is answered: its
 * header has `shared`, which is 0 where only the answer may use it. What does not fit goes through the socket.
 *
 * The other side may write the memory at any moment. So nobody looks at a byte there but to copy it, once.
 * @module
 */
import { createSharedMemory, mapSharedMemory, type SharedMemory } from '../../native/index.ts';
import { freshBytes } from './frames.ts';

/** Bytes of both halves. */
export const SHARED_BYTES: number = 4 * 1_048_576;
/** The worker's descriptor of the memory. */
export const SHARED_FD = 4;

/** Below this a payload leaves with its header in one write. */
const LEAST_BYTES = 16_384;

/** The memory, as one side sees it. */
export class Lane {
  readonly #out: Uint8Array;
  readonly #in: Uint8Array;

  /** @param side - Whose payloads go out. */
  constructor(bytes: Uint8Array, side: 'supervisor' | 'worker') {
    const halves = [bytes.subarray(0, bytes.length / 2), bytes.subarray(bytes.length / 2)] as const;
    [this.#out, this.#in] = side === 'supervisor' ? halves : [halves[1], halves[0]];
  }

  /** Lays a payload of `length` bytes there. 0 where it goes through the socket instead. */
  put(parts: readonly Uint8Array[], length: number): number {
    if (length < LEAST_BYTES || length > this.#out.length) return 0;
    let at = 0;
    for (const part of parts) {
      this.#out.set(part, at);
      at += part.length;
    }
    return length;
  }

  /** A copy of the payload that the other side says lies there; undefined when `length`, which it said too, cannot be. */
  take(length: unknown): Uint8Array<ArrayBuffer> | undefined {
    const fits = Number.isSafeInteger(length) && (length as number) > 0 && (length as number) <= this.#in.length;
    if (!fits) return undefined;
    const bytes = freshBytes(length as number);
    bytes.set(this.#in.subarray(0, length as number));
    return bytes;
  }
}

/** Memory for one worker; undefined where there is none to be had, and everything goes through the socket. */
export function openShared(): SharedMemory | undefined {
  try {
    return createSharedMemory(SHARED_BYTES);
  } catch {
    return undefined; // kernels that were asked for are missing here: whoever runs them says so
  }
}

/** The worker's side of memory that it inherited as `descriptor`; undefined where it cannot be mapped. */
export function mapLane(descriptor: number): Lane | undefined {
  try {
    return new Lane(mapSharedMemory(descriptor, SHARED_BYTES), 'worker');
  } catch {
    return undefined;
  }
}
