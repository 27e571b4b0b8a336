// Convolutions of NCHW f32.
#pragma once
#include "../types.h"

namespace cloister {

struct ConvKernels {
  // Weights OIHW -> the row's own layout.
  size_t (*packed_elements)(const Window& w);
  void (*pack)(const Window& w, const float* weights, float* out);
  size_t (*workspace_elements)(const Window& w);
  void (*convolve)(const Window& w, const float* x, const float* weights_packed, float* y, const Epilogue& epilogue,
               float* workspace);
};

}  // namespace cloister
