// Pooling of NCHW f32.
#pragma once
#include "../types.h"

namespace cloister {

enum PoolOp : uint32_t { kPoolMax, kPoolAverage, kPoolAverageIncludePad, kPoolOpCount };

struct PoolKernels {
  // Padding never wins a max and, but for IncludePad, is not counted in an average.
  void (*pool)(const Window& w, PoolOp op, const float* x, float* y);
};

}  // namespace cloister
