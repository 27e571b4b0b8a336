/**
 * Element types: one table, from which sizes, array constructors and names follow everywhere.
 * @module
 */
import { CloisterError } from '../base/index.ts';

/** One row per element type: bytes per element, and the typed array that holds a buffer of them. */
export const DTYPES = {
  f32: { bytes: 4, kind: 'float', array: Float32Array },
  f64: { bytes: 8, kind: 'float', array: Float64Array },
  /** Stored as raw IEEE 754 binary16 bits. */
  f16: { bytes: 2, kind: 'float', array: Uint16Array },
  /** Stored as the upper 16 bits of a float32. */
  bf16: { bytes: 2, kind: 'float', array: Uint16Array },
  i8: { bytes: 1, kind: 'int', array: Int8Array },
  u8: { bytes: 1, kind: 'int', array: Uint8Array },
  i16: { bytes: 2, kind: 'int', array: Int16Array },
  u16: { bytes: 2, kind: 'int', array: Uint16Array },
  i32: { bytes: 4, kind: 'int', array: Int32Array },
  u32: { bytes: 4, kind: 'int', array: Uint32Array },
  i64: { bytes: 8, kind: 'int', array: BigInt64Array },
  u64: { bytes: 8, kind: 'int', array: BigUint64Array },
  /** One byte per element, 0 or 1. */
  bool: { bytes: 1, kind: 'bool', array: Uint8Array },
} as const;

/** The name of an element type. */
export type DType = keyof typeof DTYPES;

/** The typed array that holds elements of `D`. */
export type ArrayOf<D extends DType> = InstanceType<(typeof DTYPES)[D]['array']>;

/** A JavaScript value of one element: bigint for the 64-bit integers, number otherwise (bool is 0 or 1). */
export type ElementOf<D extends DType> = D extends 'i64' | 'u64' ? bigint : number;

/**
 * Returns `name` as a {@link DType}.
 *
 * @throws {CloisterError} `DTYPE_MISMATCH` when it names none.
 */
export function parseDType(name: string): DType {
  if (!Object.hasOwn(DTYPES, name)) {
    throw new CloisterError(
      'DTYPE_MISMATCH',
      `expected one of ${Object.keys(DTYPES).join(' ')}, got ${JSON.stringify(name.slice(0, 40))}`,
    );
  }
  return name as DType;
}
