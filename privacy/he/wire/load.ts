/**
 * Handing SEAL bytes that were put together here.
 * @module
 */
import type { ParmsIdType, SEALContext } from 'node-seal';
import { sealError } from '../seal.ts';

/**
 * Loads `object` from bytes, or deletes it.
 *
 * @throws {CloisterError} `HE_INVALID_MESSAGE` when SEAL does not take them.
 */
export function load<T extends { loadFromArray(context: SEALContext, bytes: Uint8Array): void; delete(): void }>(
  context: SEALContext,
  object: T,
  bytes: Uint8Array,
): T {
  try {
    object.loadFromArray(context, bytes);
    return object;
  } catch (error) {
    object.delete();
    throw sealError(error, 'HE_INVALID_MESSAGE', 'SEAL does not take the bytes');
  }
}

/** The id of a modulus as bytes. */
export function idBytes(id: ParmsIdType): Uint8Array {
  return new Uint8Array(BigUint64Array.from(id.values() as Iterable<bigint>).buffer);
}
