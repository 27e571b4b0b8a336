// Pooling of NCHW f32: kernel rows are folded into one row of the padded input, vector by vector; then the kernel's
// columns.
#include "../row.h"
#include "../simd.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

struct PoolMax {
  static float start() { return -__builtin_inff(); }
  static F fold(F a, F b) { return max_nan(a, b); }
  static float fold(float a, float b) { return a != a || a > b ? a : b; }
};
struct PoolSum {
  static float start() { return 0; }
  static F fold(F a, F b) { return a + b; }
  static float fold(float a, float b) { return a + b; }
};

// The taps of an axis, at `start` and every `dilation` on, that fall inside [0, size).
inline size_t taps_inside(int64_t start, size_t taps, size_t dilation, size_t size) {
  size_t count = 0;
  for (size_t tap = 0; tap < taps; tap++) {
    const int64_t at = start + static_cast<int64_t>(tap * dilation);
    if (at >= 0 && at < static_cast<int64_t>(size)) count++;
  }
  return count;
}

constexpr size_t kPoolRow = 1024;

// Outputs [ow0, ow1) of every row of every plane. Their input columns fit in kPoolRow.
template <typename Fold>
void pool_columns(const Window& w, PoolOp op, size_t ow0, size_t ow1, const float* x, float* y) {
  float row[kPoolRow + 2 * kLanes];
  float divisor[kPoolRow];
  const int64_t from = static_cast<int64_t>(ow0) * w.stride_w - w.pad_left;  // input column of row[0]
  const size_t reach = (ow1 - ow0 - 1) * w.stride_w + size_t{w.kernel_w - 1} * w.dilation_w + 1;
  const size_t left = smaller(from < 0 ? static_cast<size_t>(-from) : 0, reach);
  const int64_t right_edge = static_cast<int64_t>(w.in_w) - from;
  const bool some = right_edge > static_cast<int64_t>(left);
  const size_t right = some ? smaller(static_cast<size_t>(right_edge), reach) : left;
  for (size_t i = 0; i < kPoolRow + 2 * kLanes; i++) row[i] = Fold::start();
  for (size_t ow = ow0; ow < ow1; ow++) {
    const int64_t start = static_cast<int64_t>(ow) * w.stride_w - w.pad_left;
    divisor[ow - ow0] = static_cast<float>(taps_inside(start, w.kernel_w, w.dilation_w, w.in_w));
  }
  const size_t planes = size_t{w.batch} * w.in_c, in_plane = size_t{w.in_h} * w.in_w;
  for (size_t plane = 0; plane < planes; plane++, x += in_plane) {
    for (size_t oh = 0; oh < w.out_h; oh++) {
      const int64_t top = static_cast<int64_t>(oh) * w.stride_h - w.pad_top;
      for (size_t i = left; i < right; i += kLanes) {
        F folded = broadcast(Fold::start());
        const size_t width = smaller(right - i, kLanes);
        for (size_t kh = 0; kh < w.kernel_h; kh++) {
          // Wraps above the input, and is then too large.
          const size_t ih = static_cast<size_t>(top) + kh * w.dilation_h;
          const int64_t at = static_cast<int64_t>(ih * w.in_w + i) + from;
          if (ih < w.in_h) folded = Fold::fold(folded, load_up_to(x + at, width));
        }
        store_up_to(row + i, folded, width);
      }
      float* out = y + (plane * w.out_h + oh) * w.out_w + ow0;
      const size_t count = ow1 - ow0;
      size_t ow = 0;
      if (w.stride_w <= 2) {  // reads at most 2 * kLanes - 1 past the last input column
        for (; ow < count; ow += kLanes) {
          const float* at = row + ow * w.stride_w;
          F folded = broadcast(Fold::start());
          for (size_t kw = 0; kw < w.kernel_w; kw++, at += w.dilation_w) {
            folded = Fold::fold(folded, w.stride_w == 1 ? load(at) : load_even(at));
          }
          store_up_to(out + ow, folded, count - ow);
        }
      } else {
        for (; ow < count; ow++) {
          float folded = Fold::start();
          for (size_t kw = 0; kw < w.kernel_w; kw++) {
            folded = Fold::fold(folded, row[ow * w.stride_w + kw * w.dilation_w]);
          }
          out[ow] = folded;
        }
      }
      if (op == kPoolMax) continue;
      const float area = static_cast<float>(size_t{w.kernel_h} * w.kernel_w);
      const float inside = static_cast<float>(taps_inside(top, w.kernel_h, w.dilation_h, w.in_h));
      for (size_t i = 0; i < count; i++) out[i] /= op == kPoolAverage ? inside * divisor[i] : area;
    }
  }
}

// A kernel that is wider than kPoolRow, as its definition reads.
template <typename Fold>
void pool_wide(const Window& w, PoolOp op, const float* x, float* y) {
  const size_t planes = size_t{w.batch} * w.in_c, in_plane = size_t{w.in_h} * w.in_w;
  for (size_t plane = 0; plane < planes; plane++, x += in_plane) {
    for (size_t oh = 0; oh < w.out_h; oh++) {
      for (size_t ow = 0; ow < w.out_w; ow++) {
        float folded = Fold::start();
        size_t inside = 0;
        for (size_t kh = 0; kh < w.kernel_h; kh++) {
          const size_t ih = oh * w.stride_h + kh * w.dilation_h - w.pad_top;
          for (size_t kw = 0; ih < w.in_h && kw < w.kernel_w; kw++) {
            const size_t iw = ow * w.stride_w + kw * w.dilation_w - w.pad_left;
            if (iw >= w.in_w) continue;
            folded = Fold::fold(folded, x[ih * w.in_w + iw]);
            inside++;
          }
        }
        const size_t count = op == kPoolAverage ? inside : size_t{w.kernel_h} * w.kernel_w;
        *y++ = op == kPoolMax ? folded : folded / static_cast<float>(count);
      }
    }
  }
}

template <typename Fold>
void pool_with(const Window& w, PoolOp op, const float* x, float* y) {
  const size_t kernel = size_t{w.kernel_w - 1} * w.dilation_w + 1;
  if (kernel > kPoolRow || w.stride_w > kPoolRow) return pool_wide<Fold>(w, op, x, y);
  const size_t most = (kPoolRow - kernel) / w.stride_w + 1;
  for (size_t ow = 0; ow < w.out_w; ow += most) pool_columns<Fold>(w, op, ow, smaller(ow + most, w.out_w), x, y);
}

void pool_windows(const Window& w, PoolOp op, const float* x, float* y) {
  op == kPoolMax ? pool_with<PoolMax>(w, op, x, y) : pool_with<PoolSum>(w, op, x, y);
}

}  // namespace

constinit const PoolKernels pool = {pool_windows};

}  // namespace cloister::CLOISTER_ROW
