/**
 * Element types: one table, from which sizes, array constructors and names follow everywhere.
 * @module
 */
import { CloisterError } from '../base/index.ts';

/** The typed array that holds elements of each type. */
interface Arrays {
  f32: Float32Array;
  f64: Float64Array;
  /** Raw IEEE 754 binary16 bits. */
  f16: Uint16Array;
  /** The upper 16 bits of a float32. */
  bf16: Uint16Array;
  i8: Int8Array;
  u8: Uint8Array;
  i16: Int16Array;
  u16: Uint16Array;
  i32: Int32Array;
  u32: Uint32Array;
  i64: BigInt64Array;
  u64: BigUint64Array;
  /** One byte per element, 0 or 1. */
  bool: Uint8Array;
  /** Unicode text, in a plain array. */
  string: string[];
}

/** The name of an element type. */
export type DType = keyof Arrays;

/** The element types whose elements lie as bytes in a typed array: all but `string`. */
export type BufferDType = Exclude<DType, 'string'>;

/** The typed array that holds elements of `D`. */
export type ArrayOf<D extends DType> = Arrays[D];

/** How to make the array of an element type. */
export interface ArrayMaker<A> {
  readonly name: string;
  new (length: number): A;
}

/**
 * One row per element type: bytes per element, what its values are, and the array that holds them. The bytes of a string are
 * those of a reference; what it refers to is not counted.
 */
export const DTYPES: {
  readonly [D in DType]: {
    readonly bytes: 1 | 2 | 4 | 8;
    readonly kind: 'float' | 'int' | 'bool' | 'string';
    readonly array: ArrayMaker<Arrays[D]>;
  };
} = {
  f32: { bytes: 4, kind: 'float', array: Float32Array },
  f64: { bytes: 8, kind: 'float', array: Float64Array },
  f16: { bytes: 2, kind: 'float', array: Uint16Array },
  bf16: { bytes: 2, kind: 'float', array: Uint16Array },
  i8: { bytes: 1, kind: 'int', array: Int8Array },
  u8: { bytes: 1, kind: 'int', array: Uint8Array },
  i16: { bytes: 2, kind: 'int', array: Int16Array },
  u16: { bytes: 2, kind: 'int', array: Uint16Array },
  i32: { bytes: 4, kind: 'int', array: Int32Array },
  u32: { bytes: 4, kind: 'int', array: Uint32Array },
  i64: { bytes: 8, kind: 'int', array: BigInt64Array },
  u64: { bytes: 8, kind: 'int', array: BigUint64Array },
  bool: { bytes: 1, kind: 'bool', array: Uint8Array },
  string: { bytes: 8, kind: 'string', array: Array as ArrayMaker<string[]> },
};

/** A JavaScript value of one element: bigint for the 64-bit integers, string, number otherwise (bool is 0 or 1). */
export type ElementOf<D extends DType> = D extends 'i64' | 'u64' ? bigint : D extends 'string' ? string : number;

/**
 * Returns `name` as a {@link DType}.
 *
 * @throws {CloisterError} `DTYPE_MISMATCH` when it names none.
 * @example
 * ```ts
 * parseDType('f32'); // 'f32'
 * ```
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
