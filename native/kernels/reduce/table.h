// Softmax and reductions of f32 along an axis.
#pragma once
#include "../types.h"

namespace cloister {

enum ReduceOp : uint32_t {
  kReduceSum, kReduceMean, kReduceMax, kReduceMin, kReduceProduct,
  kReduceL1,         // sum |x|
  kReduceSumSquare,  // sum x^2
  kReduceL2,         // sqrt(sum x^2)
  kReduceOpCount
};

// The fewest rows of `outer` that tasks are split by: within so many, a row's place decides how it is computed.
constexpr size_t kReduceRows = 16;

struct ReduceKernels {
  // x and y are outer x n x inner; the middle axis is normalised (y may be x) ... `stream`: y is written past the
  // caches where that is possible.
  void (*softmax)(size_t outer, size_t n, size_t inner, bool log, const float* x, float* y, bool stream);
  // ... or reduced away: y is outer x inner ...
  void (*reduce)(ReduceOp op, size_t outer, size_t n, size_t inner, const float* x, float* y);
  // ... or the place of its largest (smallest) element found: the first such, or the last; a NaN before all.
  void (*arg)(bool smallest, bool last, size_t outer, size_t n, size_t inner, const float* x, int64_t* y);
};

}  // namespace cloister
