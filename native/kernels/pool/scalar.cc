// Scalar pooling, as its definition reads.
#include <math.h>

#include "../scalar.h"
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

void pool_windows(const Window& w, PoolOp op, const float* x, float* y) {
  const size_t planes = size_t{w.batch} * w.in_c, in_plane = size_t{w.in_h} * w.in_w;
  for (size_t c = 0; c < planes; c++) {
    for (int64_t oh = 0; oh < w.out_h; oh++) {
      for (int64_t ow = 0; ow < w.out_w; ow++) {
        float best = op == kPoolMax ? -INFINITY : 0;
        size_t counted = 0;
        for (int64_t kh = 0; kh < w.kernel_h; kh++) {
          const int64_t ih = oh * w.stride_h - w.pad_top + kh * w.dilation_h;
          if (ih < 0 || ih >= w.in_h) continue;
          for (int64_t kw = 0; kw < w.kernel_w; kw++) {
            const int64_t iw = ow * w.stride_w - w.pad_left + kw * w.dilation_w;
            if (iw < 0 || iw >= w.in_w) continue;
            const float value = x[c * in_plane + ih * w.in_w + iw];
            best = op == kPoolMax ? max_of(best, value) : best + value;
            counted++;
          }
        }
        if (op == kPoolAverageIncludePad) counted = size_t{w.kernel_h} * w.kernel_w;
        *y++ = op == kPoolMax ? best : best / static_cast<float>(counted);
      }
    }
  }
}

}  // namespace

constinit const PoolKernels pool = {pool_windows};

}  // namespace cloister::CLOISTER_ROW
