// The scalar convolution in the blocked layout, as its definition reads.
#include <math.h>

#include "../row.h"
#include "../scalar.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

size_t padded(size_t channels) { return (channels + kBlock - 1) / kBlock * kBlock; }

size_t packed_elements(const Window& w, BlockedForm) {
  return size_t{w.out_c} * (w.in_c / w.groups) * w.kernel_h * w.kernel_w;
}

void pack(const Window& w, BlockedForm form, const float* weights, float* out) {
  for (size_t i = 0, count = packed_elements(w, form); i < count; i++) out[i] = weights[i];
}

size_t tasks(const Window& w, BlockedForm) { return w.batch; }
size_t workspace_elements(const Window&, BlockedForm) { return 0; }

float activate(float v, const BlockedTail& t) {
  const auto hard = [&] {
    const float line = v * t.a + t.b;
    return line < 0 ? 0 : line > 1 ? 1 : line;
  };
  const auto sigmoid = [](float x) { return static_cast<float>(1 / (1 + exp(-static_cast<double>(x)))); };
  switch (t.activation) {
    case kBlockedClip:
      return v < t.a ? t.a : v > t.b ? t.b : v;  // a NaN fails both comparisons and passes through
    case kBlockedLeaky:
      return v < 0 ? v * t.a : v;
    case kBlockedSigmoid:
      return sigmoid(v);
    case kBlockedTanh:
      return static_cast<float>(tanh(static_cast<double>(v)));
    case kBlockedHardSigmoid:
      return hard();
    case kBlockedHardSwish:
      return v * hard();
    case kBlockedSwish:
      return v * sigmoid(v * t.a);
    default:
      return v;
  }
}

void convolve(const Window& w, BlockedForm form, size_t task, const float* x, const float* weights, float* y,
              const BlockedTail& t, float*) {
  const size_t in_group = w.in_c / w.groups, out_group = w.out_c / w.groups;
  const size_t in_plane = size_t{w.in_h} * w.in_w, out_plane = size_t{w.out_h} * w.out_w;
  const size_t in_channels = form == kBlockedFromPlain ? w.in_c : padded(w.in_c), out_channels = padded(w.out_c);
  x += task * in_channels * in_plane;
  y += task * out_channels * out_plane;
  const auto at = [](size_t c, size_t plane, size_t pixel) {
    return c / kBlock * kBlock * plane + pixel * kBlock + c % kBlock;
  };
  for (size_t oc = 0; oc < out_channels; oc++) {
    const bool exists = oc < w.out_c;
    for (size_t oh = 0; oh < w.out_h; oh++) {
      for (size_t ow = 0; ow < w.out_w; ow++) {
        float sum = 0;
        for (size_t i = 0; exists && i < in_group; i++) {
          const size_t ic = oc / out_group * in_group + i;
          for (size_t kh = 0; kh < w.kernel_h; kh++) {
            for (size_t kw = 0; kw < w.kernel_w; kw++) {
              // Both wrap above and left of the input, and are then too large. Padding is zeros, and zero times a NaN
              // or an infinity is NaN.
              const size_t ih = oh * w.stride_h + kh * w.dilation_h - w.pad_top;
              const size_t iw = ow * w.stride_w + kw * w.dilation_w - w.pad_left;
              const size_t pixel = ih * w.in_w + iw;
              const float in = ih >= w.in_h || iw >= w.in_w ? 0
                  : form == kBlockedFromPlain              ? x[ic * in_plane + pixel]
                                                           : x[at(ic, in_plane, pixel)];
              sum += in * weights[((oc * in_group + i) * w.kernel_h + kh) * w.kernel_w + kw];
            }
          }
        }
        if (exists && t.bias) sum += t.bias[oc];
        const size_t to = at(oc, out_plane, oh * w.out_w + ow);
        if (t.residual) sum += t.residual[task * out_channels * out_plane + to];
        y[to] = activate(sum, t);
      }
    }
  }
}

void pool_windows(const Window& w, PoolOp op, size_t first, size_t last, const float* x, float* y) {
  const size_t in_plane = size_t{w.in_h} * w.in_w * kBlock, out_plane = size_t{w.out_h} * w.out_w * kBlock;
  for (size_t block = first; block < last; block++) {
    for (size_t oh = 0; oh < w.out_h; oh++) {
      for (size_t ow = 0; ow < w.out_w; ow++) {
        for (size_t lane = 0; lane < kBlock; lane++) {
          float folded = op == kPoolMax ? -INFINITY : 0;
          size_t counted = 0;
          for (size_t kh = 0; kh < w.kernel_h; kh++) {
            for (size_t kw = 0; kw < w.kernel_w; kw++) {
              // Both wrap above and left of the input, and are then too large.
              const size_t ih = oh * w.stride_h + kh * w.dilation_h - w.pad_top;
              const size_t iw = ow * w.stride_w + kw * w.dilation_w - w.pad_left;
              if (ih >= w.in_h || iw >= w.in_w) continue;
              const float value = x[block * in_plane + (ih * w.in_w + iw) * kBlock + lane];
              folded = op == kPoolMax ? max_of(folded, value) : folded + value;
              counted++;
            }
          }
          if (op == kPoolAverageIncludePad) counted = size_t{w.kernel_h} * w.kernel_w;
          y[block * out_plane + (oh * w.out_w + ow) * kBlock + lane] =
              op == kPoolMax ? folded : folded / static_cast<float>(counted);
        }
      }
    }
  }
}

void pool_all(PoolOp op, size_t pixels, size_t blocks, const float* x, float* y) {
  for (size_t block = 0; block < blocks; block++) {
    for (size_t lane = 0; lane < kBlock; lane++) {
      float folded = op == kPoolMax ? -INFINITY : 0;
      for (size_t pixel = 0; pixel < pixels; pixel++) {
        const float value = x[(block * pixels + pixel) * kBlock + lane];
        folded = op == kPoolMax ? max_of(folded, value) : folded + value;
      }
      y[block * kBlock + lane] = op == kPoolMax ? folded : folded / static_cast<float>(pixels);
    }
  }
}

void from_plain(size_t channels, size_t pixels, size_t first, size_t last, const float* x, float* y) {
  const size_t blocks = padded(channels) / kBlock;
  for (size_t block = first; block < last; block++) {
    for (size_t pixel = 0; pixel < pixels; pixel++) {
      for (size_t lane = 0; lane < kBlock; lane++) {
        const size_t c = block % blocks * kBlock + lane;
        y[(block * pixels + pixel) * kBlock + lane] =
            c < channels ? x[(block / blocks * channels + c) * pixels + pixel] : 0;
      }
    }
  }
}

void to_plain(size_t channels, size_t pixels, size_t first, size_t last, const float* x, float* y) {
  const size_t blocks = padded(channels) / kBlock;
  for (size_t block = first; block < last; block++) {
    for (size_t pixel = 0; pixel < pixels; pixel++) {
      for (size_t lane = 0; lane < kBlock; lane++) {
        const size_t c = block % blocks * kBlock + lane;
        if (c < channels) {
          y[(block / blocks * channels + c) * pixels + pixel] = x[(block * pixels + pixel) * kBlock + lane];
        }
      }
    }
  }
}

}  // namespace

constinit const BlockedKernels blocked = {packed_elements, pack,     tasks,      workspace_elements, convolve,
                                          pool_windows,    pool_all, from_plain, to_plain};

}  // namespace cloister::CLOISTER_ROW
