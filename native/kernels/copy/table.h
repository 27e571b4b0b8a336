// Strided copies.
#pragma once
#include "../types.h"

namespace cloister {

enum PadMode : uint32_t { kPadConstant, kPadEdge, kPadReflect, kPadWrap, kPadModeCount };

// y is x with `before` elements more in front of each dim (fewer where negative), and as many as y_dims says in all.
struct Pad {
  uint32_t rank;
  uint32_t x_dims[kMaxRank], y_dims[kMaxRank];
  int64_t before[kMaxRank];
  PadMode mode;
  uint32_t element_bytes;  // 1, 2, 4 or 8
  const void* value;       // one element: what stands where x has nothing
  const void* x;
  void* y;
};

struct CopyKernels {
  // y (dense, of `dims`) = x read at `strides` (elements, 0 repeats) from its first element: transpose, expand, slice.
  // Works on any element of `element_bytes` in {1, 2, 4, 8}. `stream`: y is written past the caches where that is
  // possible.
  void (*copy_strided)(size_t rank, const uint32_t* dims, const int64_t* strides, size_t element_bytes,
      const void* x, void* y, bool stream);
  // Rows [first, last) of y, a row being its last dim.
  void (*pad)(const Pad& pad, size_t first, size_t last);
};

// The element of a dim of x that stands at place i of y; -1 where none does.
static inline int64_t pad_source(int64_t i, int64_t before, int64_t size, PadMode mode) {
  const int64_t at = i - before;
  if (at >= 0 && at < size) return at;
  if (mode == kPadConstant) return -1;
  if (mode == kPadEdge) return at < 0 ? 0 : size - 1;
  const int64_t period = mode == kPadWrap ? size : size == 1 ? 1 : 2 * (size - 1);  // a reflection repeats no edge
  const int64_t inside = (at % period + period) % period;
  return inside < size ? inside : period - inside;
}

}  // namespace cloister
