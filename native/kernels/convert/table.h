// Elements of one type as elements of another.
#pragma once
#include "../types.h"

namespace cloister {

// The element types, in the order of the program format.
enum DType : uint32_t {
  kF32, kF64, kF16, kBf16, kI8, kU8, kI16, kU16, kI32, kU32, kI64, kU64, kBool,
  kDTypeCount
};

struct ConvertKernels {
  // Floats become integers by truncation towards zero, then modulo 2^bits; NaN and infinities become 0. Integers wrap.
  // bool is value != 0. 16-bit floats are rounded to nearest, ties to even, once from f32 or wider (bf16: from f32, to
  // which wider ones are rounded first); their NaN is 0x7e00 and 0x7fc0. 64-bit integers become f32 by way of f64.
  // x and y do not overlap.
  void (*convert)(DType from, DType to, size_t count, const void* x, void* y);
};

}  // namespace cloister
