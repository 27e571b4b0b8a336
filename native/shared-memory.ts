/**
 * Memory that two processes share: made by one, mapped by another that inherits its descriptor.
 * @module
 */
import { closeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import { CloisterError } from '../src/base/index.ts';
import { loadBinding } from './loader.ts';

/** Memory that this process made. */
export interface SharedMemory {
  /** The memory, zeros at first. **Whoever else has mapped it can change it at any moment**: copy what you read before you look at it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** For a process that is to map it as well. */
  readonly descriptor: number;
  /** Closes the descriptor. The memory stays mapped. Harmless twice. */
  closeDescriptor(): void;
  /** Closes the descriptor, and detaches {@link bytes}: the memory goes back when nobody else has it mapped. Harmless twice. */
  close(): void;
}

/** The part of the addon's exports that shares. A number is the system's error. */
interface SharedMemoryBinding {
  createSharedMemory(bytes: number): { readonly buffer: ArrayBuffer | number; readonly descriptor: number } | number;
  mapSharedMemory(descriptor: number, bytes: number): ArrayBuffer | number;
}

/**
 * Makes memory without a name, of a size that nobody can change any more. Its pages are taken when they are first touched.
 *
 * @param bytes - 1 to 2^31-1.
 * @returns `undefined` where there is none: without the native binary, on Windows, and where the system has run out.
 * @throws {CloisterError} `INVALID_ARGUMENT` on a size out of range; what {@link loadBinding} throws.
 * @example
 * ```ts
 * const shared = createSharedMemory(65_536);
 * shared?.bytes.fill(1);
 * shared?.close();
 * ```
 */
export function createSharedMemory(bytes: number): SharedMemory | undefined {
  if (!Number.isSafeInteger(bytes) || bytes < 1 || bytes > 0x7fff_ffff) {
    throw new CloisterError('INVALID_ARGUMENT', `shared memory: expected 1 to 2^31-1 bytes, got ${bytes}`);
  }
  const made = binding()?.createSharedMemory(bytes);
  if (made === undefined || typeof made === 'number') return undefined;
  const { buffer, descriptor } = made;
  let open = true;
  const closeDescriptor = (): void => {
    if (open) closeSync(descriptor);
    open = false;
  };
  if (typeof buffer === 'number') {
    closeDescriptor();
    return undefined;
  }
  const close = (): void => {
    closeDescriptor();
    if (!buffer.detached) buffer.transfer(0);
  };
  return Object.freeze({ bytes: new Uint8Array(buffer), descriptor, closeDescriptor, close });
}

/**
 * Maps memory that {@link createSharedMemory} made, by a descriptor that this process inherited. The descriptor may be closed afterwards.
 *
 * @throws {CloisterError} `INVALID_ARGUMENT` when the descriptor is no such memory of that size, or the memory could still shrink;
 *   `OUT_OF_MEMORY` when there is no address space; `MISSING_DEPENDENCY` without the native binary.
 */
export function mapSharedMemory(descriptor: number, bytes: number): Uint8Array<ArrayBuffer> {
  const native = binding();
  if (native === undefined)
    throw new CloisterError('MISSING_DEPENDENCY', 'there is no native binary to map memory with');
  const buffer = native.mapSharedMemory(descriptor, bytes);
  if (typeof buffer !== 'number') return new Uint8Array(buffer);
  const name = getSystemErrorName(-buffer);
  const code = name === 'ENOMEM' ? 'OUT_OF_MEMORY' : 'INVALID_ARGUMENT';
  throw new CloisterError(code, `descriptor ${descriptor} is no shared memory of ${bytes} bytes (${name})`);
}

/** Undefined without the binary, and with one that is older than this. */
function binding(): SharedMemoryBinding | undefined {
  const native = loadBinding() as unknown as SharedMemoryBinding | undefined;
  return native?.createSharedMemory === undefined ? undefined : native;
}
