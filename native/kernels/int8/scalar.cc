// Bytes as the definitions read. The oracle of the other rows: it takes every zero point off before it multiplies.
#include "../row.h"
#include "../scalar.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

constexpr size_t kPanel = 16;

// The integer that a byte stands for.
inline int32_t value_of(uint8_t byte, uint8_t flip) { return static_cast<int32_t>(byte ^ flip) - (flip ? 128 : 0); }
inline int32_t zero_of(const Int8Operand& x, size_t j) {
  return x.zeros ? value_of(x.zeros[x.per_column ? j : 0], x.flip) : 0;
}

// 1.5 * 2^23: a float of this size has no fraction, so adding it rounds to an integer, ties to even.
constexpr float kWhole = 12582912.0f;

inline uint8_t quantised(float v, int32_t zero, int32_t least, int32_t most) {
  const float lo = static_cast<float>(least - zero), hi = static_cast<float>(most - zero);
  const float bounded = v > lo ? v < hi ? v : hi : lo;
  return static_cast<uint8_t>(static_cast<int32_t>(bounded + kWhole - kWhole) + zero);
}

// Sums wrap as 32-bit integers do.
inline void put(const Int8Output& out, void* y, size_t at, size_t column, uint32_t sum) {
  const int32_t whole = static_cast<int32_t>(sum);
  if (!out.factors) {
    static_cast<int32_t*>(y)[at] = whole;
    return;
  }
  const float v = static_cast<float>(whole) * out.factors[out.per_column ? column : 0];
  static_cast<uint8_t*>(y)[at] = quantised(v, out.zero, out.least, out.most);
}

inline uint32_t product(int32_t a, int32_t b) { return static_cast<uint32_t>(a * b); }

// B packed is B as it was, one column behind another; its flip is told again with each product.
size_t packed_bytes(size_t k, size_t n) { return (k * n + 63) / 64 * 64; }

void pack(const Int8Matrix& s, const uint8_t* b, uint8_t, void* out) {
  uint8_t* to = static_cast<uint8_t*>(out);
  for (size_t j = 0; j < s.n; j++) {
    for (size_t tap = 0; tap < s.taps; tap++) {
      for (size_t d = 0; d < s.depth; d++) *to++ = b[tap * s.tap_step + d * s.depth_step + j * s.column_step];
    }
  }
}

size_t product_workspace(size_t, size_t, size_t) { return 0; }

void multiply(const Int8Product& p, size_t first, size_t last, size_t from, size_t to, void*) {
  const int32_t a_zero = zero_of(p.a, 0);
  for (size_t i = first; i < last; i++) {
    for (size_t j = from; j < to; j++) {
      const int32_t b_zero = zero_of(p.b, j);
      uint32_t sum = p.bias ? static_cast<uint32_t>(p.bias[j]) : 0;
      for (size_t q = 0; q < p.k; q++) {
        sum += product(value_of(p.a.data[i * p.lda + q], p.a.flip) - a_zero,
                       value_of(p.b.data[j * p.k + q], p.b.flip) - b_zero);
      }
      put(p.output, p.c, i * p.ldc + j, j, sum);
    }
  }
}

size_t conv_workspace(const Window&) { return 0; }

// One output channel at one place; weights of a channel are tap by tap, each `depth` deep.
inline void convolve_one(const Int8Conv& c, size_t place, size_t oc, const uint8_t* weights) {
  const Window& w = c.window;
  const size_t depth = w.in_c / w.groups, group = oc / (w.out_c / w.groups);
  const size_t ow = place % w.out_w, oh = place / w.out_w % w.out_h, image = place / w.out_w / w.out_h;
  const int32_t x_zero = zero_of(c.x, 0), w_zero = zero_of(c.w, oc);
  uint32_t sum = c.bias ? static_cast<uint32_t>(c.bias[oc]) : 0;
  for (size_t kh = 0; kh < w.kernel_h; kh++) {
    for (size_t kw = 0; kw < w.kernel_w; kw++) {
      // Both wrap before the image, and are then too large.
      const size_t ih = oh * w.stride_h + kh * w.dilation_h - w.pad_top;
      const size_t iw = ow * w.stride_w + kw * w.dilation_w - w.pad_left;
      if (ih >= w.in_h || iw >= w.in_w) continue;
      const uint8_t* x = c.x.data + ((image * w.in_h + ih) * w.in_w + iw) * w.in_c + group * depth;
      for (size_t d = 0; d < depth; d++) {
        sum += product(value_of(x[d], c.x.flip) - x_zero,
                       value_of(weights[(kh * w.kernel_w + kw) * depth + d], c.w.flip) - w_zero);
      }
    }
  }
  put(c.output, c.y, place * w.out_c + oc, oc, sum);
}

void convolve(const Int8Conv& c, size_t first, size_t last, void*) {
  const Window& w = c.window;
  const size_t n = w.out_c / w.groups, k = size_t{w.in_c / w.groups} * w.kernel_h * w.kernel_w;
  for (size_t place = first; place < last; place++) {
    for (size_t oc = 0; oc < w.out_c; oc++) {
      convolve_one(c, place, oc, c.w.data + oc / n * packed_bytes(k, n) + oc % n * k);
    }
  }
}

// Packed depthwise weights are what they were, then a zero point for each channel.
inline size_t taps_of(const Window& w) { return size_t{w.kernel_h} * w.kernel_w; }
size_t depthwise_bytes(const Window& w) { return (size_t{w.out_c} * (taps_of(w) + 1) + 63) / 64 * 64; }

void depthwise_pack(const Window& w, const Int8Operand& weights, void* out) {
  uint8_t* to = static_cast<uint8_t*>(out);
  for (size_t i = 0; i < w.out_c * taps_of(w); i++) *to++ = weights.data[i];
  for (size_t c = 0; c < w.out_c; c++) *to++ = weights.zeros ? weights.zeros[weights.per_column ? c : 0] : 0;
}

size_t depthwise_workspace(const Window&) { return 0; }

void depthwise(const Int8Conv& c, size_t first, size_t last, void*) {
  const Window& w = c.window;
  Int8Conv own = c;
  own.w.zeros = c.w.data + w.out_c * taps_of(w);
  own.w.per_column = true;
  for (size_t place = first * w.out_w; place < last * w.out_w; place++) {
    for (size_t oc = 0; oc < w.out_c; oc++) convolve_one(own, place, oc, c.w.data + oc * taps_of(w));
  }
}

void quantize(const float* x, uint8_t* y, size_t count, float scale, int32_t zero, int32_t least, int32_t most) {
  for (size_t i = 0; i < count; i++) {
    const float v = x[i] / scale;
    y[i] = v != v ? 0 : quantised(v, zero, least, most);
  }
}

void dequantize(const uint8_t* x, float* y, size_t count, uint8_t flip, int32_t zero, float scale) {
  for (size_t i = 0; i < count; i++) y[i] = static_cast<float>(value_of(x[i], flip) - zero) * scale;
}

void binary(Int8Binary op, const Int8Pair& p, const uint8_t* a, const uint8_t* b, size_t b_step, uint8_t* y,
            size_t count) {
  const double scale = p.scale;
  const float factor = p.a_scale * p.b_scale / p.scale;
  for (size_t i = 0; i < count; i++) {
    const int32_t left = value_of(a[i], p.flip) - p.a_zero, right = value_of(b[i * b_step], p.flip) - p.b_zero;
    const double sum = left * static_cast<double>(p.a_scale) / scale + right * static_cast<double>(p.b_scale) / scale;
    const float v = op == kInt8Add ? static_cast<float>(sum) : static_cast<float>(left * right) * factor;
    y[i] = quantised(v, p.zero, p.least, p.most);
  }
}

void range(const float* x, size_t count, float* least, float* most) {
  for (size_t i = 0; i < count; i++) {
    if (x[i] < *least) *least = x[i];
    if (x[i] > *most) *most = x[i];
  }
}

void lookup(const uint8_t* table, const uint8_t* x, uint8_t* y, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] = table[x[i]];
}

void sum_places(const uint8_t* x, uint8_t flip, size_t places, size_t channels, uint32_t* sums) {
  for (size_t c = 0; c < channels; c++) {
    sums[c] = 0;
    for (size_t place = 0; place < places; place++) sums[c] += x[place * channels + c] ^ flip;
  }
}

}  // namespace

constinit const Int8Kernels int8 = {
    kPanel, packed_bytes, pack, product_workspace, multiply, conv_workspace, convolve, depthwise_bytes, depthwise_pack,
    depthwise_workspace, depthwise, range, quantize, dequantize, binary, lookup, sum_places,
};

}  // namespace cloister::CLOISTER_ROW
