/**
 * Tensors: element types, shapes, views, and conversion. Pure.
 * @module
 */
export { type ArrayOf, type BufferDType, DTYPES, type DType, type ElementOf, parseDType } from './dtype.ts';
export { fromBf16Bits, fromF16Bits, toBf16Bits, toF16Bits } from './half.ts';
export { fromTensor, MEMORY_TYPES, type MemoryHint, type MemoryType, toTensor } from './memory.ts';
export { type Overflow, rescale } from './rescale.ts';
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
export { type AxisSlice, type Nested, newArray, type Reshaped, sliceRange, Tensor } from './tensor.ts';
