// Words that kernels of several families use.
#pragma once
#include <cstddef>
#include <cstdint>

namespace cloister {

// What a GEMM or convolution does to each result before it stores it: y = act(x + bias).
enum Activation : uint32_t { kActNone = 0, kActRelu = 1, kActClip = 2, kActCount = 3 };

struct Epilogue {
  const float* bias;      // null: none. GEMM: one per column (n). Convolution: one per output channel.
  Activation activation;  // kActClip clamps to [lo, hi]
  float lo, hi;
};

// Geometry of a 2-D convolution or pooling over NCHW. 1-D work has in_h = out_h = kernel_h = 1.
struct Window {
  uint32_t batch, in_c, in_h, in_w;
  uint32_t out_c, out_h, out_w;  // pooling: out_c == in_c
  uint32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  uint32_t pad_top, pad_left;    // bottom and right padding follow from out_h, out_w
  uint32_t groups;               // divides in_c and out_c; 1 for pooling
};

constexpr size_t kMaxRank = 8;

}  // namespace cloister
