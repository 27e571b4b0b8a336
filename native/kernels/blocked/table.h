// Convolution, pooling and reordering in the blocked layout: channels in blocks of kBlock, N (C/16) H W 16, the last block filled up.
//
// The block is 16 on every row, so that a program is the same wherever it runs: one AVX-512 vector, two of AVX2, four of
// NEON, and in each case a tile of a few pixels by one or more blocks fills the registers. Lanes that fill up the last
// block hold whatever the arithmetic of padding gives; no kernel lets them reach a channel that exists.
#pragma once
#include "../pool/table.h"
#include "../types.h"

namespace cloister {

constexpr size_t kBlock = 16;

// What a convolution computes after its sums: y = act(x * w + bias + residual).
enum BlockedActivation : uint32_t {
  kBlockedClip,         // [a, b]; an infinite bound is none
  kBlockedLeaky,        // x < 0 ? a x : x
  kBlockedSigmoid,
  kBlockedTanh,
  kBlockedHardSigmoid,  // clip(a x + b, 0, 1)
  kBlockedHardSwish,    // x clip(a x + b, 0, 1)
  kBlockedSwish,        // x sigmoid(a x)
  kBlockedActivationCount
};

struct BlockedTail {
  const float* bias;      // one per output channel; null: none
  const float* residual;  // in the layout of y; null: none
  BlockedActivation activation;
  float a, b;
};

// What a convolution reads, and how its sums go.
enum BlockedForm : uint32_t {
  kBlockedFull,       // x blocked; channels of a group are whole blocks where there are several groups
  kBlockedFromPlain,  // x NCHW, y blocked; one group
  kBlockedDepthwise,  // x blocked, one filter per channel; Window::groups = in_c = out_c
  kBlockedFormCount
};

struct BlockedKernels {
  // Weights OIHW -> the row's own layout.
  size_t (*packed_elements)(const Window& w, BlockedForm form);
  void (*pack)(const Window& w, BlockedForm form, const float* weights, float* out);
  // Parts of the work, from geometry alone; they write disjoint results and may run at the same time, each over its own
  // workspace.
  size_t (*tasks)(const Window& w, BlockedForm form);
  size_t (*workspace_elements)(const Window& w, BlockedForm form);
  void (*convolve)(const Window& w, BlockedForm form, size_t task, const float* x, const float* weights_packed, float* y,
                   const BlockedTail& tail, float* workspace);
  // Blocks [first, last) of all images: a block is 16 channels of one image. As in PoolKernels.
  void (*pool)(const Window& w, PoolOp op, size_t first, size_t last, const float* x, float* y);
  // The mean or the maximum over each channel's `pixels`, of as many blocks: y is one pixel a block.
  void (*pool_all)(PoolOp op, size_t pixels, size_t blocks, const float* x, float* y);
  // NCHW <-> blocks, for blocks [first, last) of images of so many channels and pixels. Channels that do not exist are
  // filled with zeros.
  void (*from_plain)(size_t channels, size_t pixels, size_t first, size_t last, const float* x, float* y);
  void (*to_plain)(size_t channels, size_t pixels, size_t first, size_t last, const float* x, float* y);
};

}  // namespace cloister
