/**
 * Tensors: element types, shapes, views, and conversion. Pure.
 * @module
 */
export { type ArrayOf, type BufferDType, DTYPES, type DType, type ElementOf, parseDType } from './dtype.ts';
export { fromBf16Bits, fromF16Bits, toBf16Bits, toF16Bits } from './half.ts';
export {
  broadcastShapes,
  denseStrides,
  elementCount,
  formatShape,
  MAX_ELEMENTS,
  MAX_RANK,
  normaliseAxis,
  type Shape,
  sameShape,
} from './shape.ts';
export { type AxisSlice, type Nested, newArray, sliceRange, Tensor } from './tensor.ts';
