// Elements read from places that other elements name.
#pragma once
#include "../types.h"

namespace cloister {

// x is outer x n x inner_bytes, y is outer x count x inner_bytes; `indices` (i64, or i32 where not wide) count from the
// end where negative.
struct Gather {
  size_t outer, n, inner_bytes, count;
  bool wide;
  const void* x;
  const void* indices;
  void* y;
};

// x is outer x n x inner elements, y and the indices are outer x count x inner: element (o, j, i) of y is
// (o, index, i) of x. The dims before and after the axis may be shorter in y than in x.
struct GatherElements {
  uint32_t rank, axis;
  uint32_t x_dims[kMaxRank], y_dims[kMaxRank];
  uint32_t element_bytes;  // 1, 2, 4 or 8
  bool wide;
  const void* x;
  const void* indices;
  void* y;
};

struct GatherKernels {
  // The items [first, last) of outer * count, in order. Whatever the indices are, nothing outside x is read: an index
  // outside the axis is taken for 0. Returns how many were.
  size_t (*rows)(const Gather& gather, size_t first, size_t last);
  size_t (*elements)(const GatherElements& gather);
};

}  // namespace cloister
