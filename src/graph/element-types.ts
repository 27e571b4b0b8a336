/**
 * Element types as ONNX numbers them.
 * @module
 */
import type { DType } from '../tensor/index.ts';

/** Element types by their number in ONNX's TensorProto.DataType. Complex numbers and the 4 and 8-bit floats have none here. */
export const ONNX_DTYPES: ReadonlyMap<number, DType> = new Map<number, DType>([
  [1, 'f32'],
  [2, 'u8'],
  [3, 'i8'],
  [4, 'u16'],
  [5, 'i16'],
  [6, 'i32'],
  [7, 'i64'],
  [8, 'string'],
  [9, 'bool'],
  [10, 'f16'],
  [11, 'f64'],
  [12, 'u32'],
  [13, 'u64'],
  [16, 'bf16'],
]);
