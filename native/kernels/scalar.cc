// The scalar row: each kernel as its definition reads. It is the oracle of the other rows, and runs on any CPU.
// Transcendental functions are evaluated in double and rounded once.
#include <math.h>

#include "kernels.h"

namespace cloister {
namespace {

constexpr size_t kPanel = 16;

float activate(float v, const Epilogue& e) {
  // A NaN fails both comparisons and passes through.
  if (e.activation == kActRelu) return v < 0 ? 0 : v;
  if (e.activation == kActClip) return v < e.lo ? e.lo : v > e.hi ? e.hi : v;
  return v;
}

size_t gemm_packed_elements(size_t k, size_t n) { return (n + kPanel - 1) / kPanel * kPanel * k; }

void gemm_pack_b(size_t k, size_t n, const float* b, size_t ldb, bool transposed, float* out) {
  for (size_t j0 = 0; j0 < n; j0 += kPanel) {
    for (size_t p = 0; p < k; p++) {
      for (size_t j = j0; j < j0 + kPanel; j++) *out++ = j >= n ? 0 : transposed ? b[j * ldb + p] : b[p * ldb + j];
    }
  }
}

size_t gemm_workspace_elements(size_t, size_t, size_t) { return 0; }

void gemm(size_t m, size_t n, size_t k, const float* a, size_t lda, bool a_transposed, const float* b_packed, float* c,
          size_t ldc, const Epilogue& e, float*) {
  const size_t row = a_transposed ? 1 : lda;
  const size_t column = a_transposed ? lda : 1;
  for (size_t j0 = 0; j0 < n; j0 += kPanel) {
    const float* panel = b_packed + j0 * k;
    const size_t width = n - j0 < kPanel ? n - j0 : kPanel;
    for (size_t i = 0; i < m; i++) {
      float sum[kPanel] = {};
      for (size_t p = 0; p < k; p++) {
        const float value = a[i * row + p * column];
        for (size_t j = 0; j < kPanel; j++) sum[j] += value * panel[p * kPanel + j];
      }
      for (size_t j = 0; j < width; j++) c[i * ldc + j0 + j] = activate(e.bias ? sum[j] + e.bias[j0 + j] : sum[j], e);
    }
  }
}

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

void conv(const Window& w, const float* x, const float* weights, float* y, const Epilogue& e, float*) {
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

// The larger (smaller) of two, NaN if either is.
float max_of(float a, float b) { return a != a ? a : b < a ? a : b; }
float min_of(float a, float b) { return a != a ? a : b > a ? a : b; }

void pool(const Window& w, PoolOp op, const float* x, float* y) {
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

float apply(UnaryOp op, float v, float p0, float p1) {
  switch (op) {
    case kRelu: return v < 0 ? 0 : v;
    case kNeg: return -v;
    case kAbs: return __builtin_fabsf(v);
    case kSqrt: return __builtin_sqrtf(v);
    case kExp: return static_cast<float>(exp(static_cast<double>(v)));
    case kLog: return static_cast<float>(log(static_cast<double>(v)));
    case kTanh: return static_cast<float>(tanh(static_cast<double>(v)));
    case kSigmoid: return static_cast<float>(1 / (1 + exp(-static_cast<double>(v))));
    case kErf: return static_cast<float>(erf(static_cast<double>(v)));
    case kFloor: return __builtin_floorf(v);
    case kCeil: return __builtin_ceilf(v);
    case kReciprocal: return 1 / v;
    case kClip: return v < p0 ? p0 : v > p1 ? p1 : v;
    case kLeakyRelu: return v < 0 ? p0 * v : v;
    case kUnaryOpCount: break;
  }
  return v;
}

void unary(UnaryOp op, size_t count, const float* x, float* y, float p0, float p1) {
  for (size_t i = 0; i < count; i++) y[i] = apply(op, x[i], p0, p1);
}

float combine(BinaryOp op, float a, float b) {
  switch (op) {
    case kAdd: return a + b;
    case kSub: return a - b;
    case kMul: return a * b;
    case kDiv: return a / b;
    case kMin: return min_of(a, b);
    case kMax: return max_of(a, b);
    case kPow: return static_cast<float>(pow(static_cast<double>(a), static_cast<double>(b)));
    case kBinaryOpCount: break;
  }
  return a;
}

void binary(BinaryOp op, size_t rank, const uint32_t* dims, const float* a, const uint32_t* a_strides, const float* b,
            const uint32_t* b_strides, float* y) {
  size_t count = 1;
  for (size_t d = 0; d < rank; d++) count *= dims[d];
  for (size_t i = 0; i < count; i++) {
    size_t at_a = 0, at_b = 0;
    for (size_t d = rank, rest = i; d-- > 0; rest /= dims[d]) {
      at_a += rest % dims[d] * a_strides[d];
      at_b += rest % dims[d] * b_strides[d];
    }
    y[i] = combine(op, a[at_a], b[at_b]);
  }
}

void softmax(size_t outer, size_t n, size_t inner, bool log_of, const float* x, float* y) {
  for (size_t o = 0; o < outer; o++) {
    for (size_t i = 0; i < inner; i++) {
      const size_t start = o * n * inner + i;
      float top = -INFINITY;
      for (size_t j = 0; j < n; j++) top = max_of(top, x[start + j * inner]);
      double sum = 0;
      for (size_t j = 0; j < n; j++) sum += exp(static_cast<double>(x[start + j * inner]) - top);
      for (size_t j = 0; j < n; j++) {
        const double shifted = static_cast<double>(x[start + j * inner]) - top;
        y[start + j * inner] = static_cast<float>(log_of ? shifted - log(sum) : exp(shifted) / sum);
      }
    }
  }
}

void reduce(ReduceOp op, size_t outer, size_t n, size_t inner, const float* x, float* y) {
  for (size_t o = 0; o < outer; o++) {
    for (size_t i = 0; i < inner; i++) {
      const float* column = x + o * n * inner + i;
      double sum = 0;
      float best = column[0];
      for (size_t j = 0; j < n; j++) {
        const float value = column[j * inner];
        sum += value;
        best = op == kReduceMax ? max_of(best, value) : min_of(best, value);
      }
      const bool sums = op == kReduceSum || op == kReduceMean;
      *y++ = !sums ? best : static_cast<float>(op == kReduceMean ? sum / static_cast<double>(n) : sum);
    }
  }
}

void copy_strided(size_t rank, const uint32_t* dims, const int64_t* strides, size_t element_bytes, const void* x,
    void* y) {
  size_t count = 1;
  for (size_t d = 0; d < rank; d++) count *= dims[d];
  const char* from = static_cast<const char*>(x);
  char* to = static_cast<char*>(y);
  for (size_t i = 0; i < count; i++, to += element_bytes) {
    int64_t at = 0;
    for (size_t d = rank, rest = i; d-- > 0; rest /= dims[d]) at += static_cast<int64_t>(rest % dims[d]) * strides[d];
    __builtin_memcpy(to, from + at * static_cast<int64_t>(element_bytes), element_bytes);
  }
}

}  // namespace

const Kernels kScalarKernels = {
    "scalar", kPanel, gemm_packed_elements, gemm_pack_b, gemm_workspace_elements, gemm, conv_packed_elements, conv_pack,
    conv_workspace_elements, conv, pool, unary, binary, softmax, reduce, copy_strided,
};

}  // namespace cloister
