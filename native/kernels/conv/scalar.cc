// The scalar convolution, as its definition reads.
#include "../scalar.h"
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

size_t conv_packed_elements(const Window& w) {
  return size_t{w.out_c} * (w.in_c / w.groups) * w.kernel_h * w.kernel_w;
}

void conv_pack(const Window& w, const float* weights, float* out) {
  for (size_t i = 0, count = conv_packed_elements(w); i < count; i++) out[i] = weights[i];
}

size_t conv_workspace_elements(const Window&) { return 0; }

// The outputs [first, last) of one axis whose tap at `offset` falls inside the input.
struct Span {
  int64_t first, last;
};
Span inside(int64_t offset, int64_t stride, int64_t in, int64_t out) {
  const int64_t before = offset < 0 ? (-offset + stride - 1) / stride : 0;
  const int64_t end = in > offset ? (in - offset + stride - 1) / stride : 0;
  const int64_t first = before < out ? before : out, last = end < out ? end : out;
  return {first, last > first ? last : first};
}

void convolve(const Window& w, const float* x, const float* weights, float* y, const Epilogue& e, float*) {
  const size_t in_group = w.in_c / w.groups, out_group = w.out_c / w.groups;
  const size_t in_plane = size_t{w.in_h} * w.in_w, taps = size_t{w.kernel_h} * w.kernel_w;
  for (size_t n = 0; n < w.batch; n++) {
    for (size_t oc = 0; oc < w.out_c; oc++) {
      const float* kernel = weights + oc * in_group * taps;
      const float* planes = x + (n * w.in_c + oc / out_group * in_group) * in_plane;
      for (int64_t oh = 0; oh < w.out_h; oh++) {
        float* row = y + ((n * w.out_c + oc) * w.out_h + oh) * w.out_w;
        for (size_t ow = 0; ow < w.out_w; ow++) row[ow] = 0;
        for (size_t ic = 0; ic < in_group; ic++) {
          for (int64_t kh = 0; kh < w.kernel_h; kh++) {
            const int64_t ih = oh * w.stride_h - w.pad_top + kh * w.dilation_h;
            const bool outside = ih < 0 || ih >= w.in_h;
            const float* in_row = outside ? nullptr : planes + ic * in_plane + ih * w.in_w;
            for (int64_t kw = 0; kw < w.kernel_w; kw++) {
              const int64_t offset = kw * w.dilation_w - int64_t{w.pad_left};
              const Span span = outside ? Span{0, 0} : inside(offset, w.stride_w, w.in_w, w.out_w);
              const float weight = kernel[ic * taps + kh * w.kernel_w + kw];
              // Padding is zeros, and zero times a NaN or an infinity is NaN, as on every other row.
              if (const float padding = weight * 0; padding != 0) {
                for (int64_t ow = 0; ow < span.first; ow++) row[ow] += padding;
                for (int64_t ow = span.last; ow < w.out_w; ow++) row[ow] += padding;
              }
              for (int64_t ow = span.first; ow < span.last; ow++) row[ow] += weight * in_row[ow * w.stride_w + offset];
            }
          }
        }
        for (size_t ow = 0; ow < w.out_w; ow++) row[ow] = activate(e.bias ? row[ow] + e.bias[oc] : row[ow], e);
      }
    }
  }
}

}  // namespace

constinit const ConvKernels conv = {conv_packed_elements, conv_pack, conv_workspace_elements, convolve};

}  // namespace cloister::CLOISTER_ROW
