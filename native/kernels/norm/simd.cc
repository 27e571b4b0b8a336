// Normalisation: the mean, then the variance about it, then the result, over a row that the first pass brought near.
#include "../fold.h"
#include "../row.h"
#include "../stream.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

// Rows up to this length are kept on the stack between their passes, so that their result is written once.
constexpr size_t kRowOnStack = 4096;

inline void add_rows(size_t n, const float* x, const float* residual, const float* bias, float* sum) {
  for (size_t i = 0; i < n; i += kLanes) {
    const size_t width = smaller(n - i, kLanes);
    F v = load_up_to(x + i, width) + load_up_to(residual + i, width);
    if (bias) v = v + load_up_to(bias + i, width);
    store_up_to(sum + i, v, width);
  }
}

inline F mean_of(size_t n, const float* x) {
  return fold_lanes<FoldSum>(fold_row<FoldSum>(n, x)) / broadcast(static_cast<float>(n));
}

// 1 / sqrt(mean (x - centre)^2 + epsilon).
inline F inverse_deviation(size_t n, const float* x, F centre, float epsilon) {
  const F squares = fold_lanes<FoldSum>(fold_row<FoldSum>(n, x, [centre](F v) {
    const F d = v - centre;
    return d * d;
  }));
  return broadcast(1) / square_root(squares / broadcast(static_cast<float>(n)) + broadcast(epsilon));
}

template <bool kStream, bool kBias>
inline void finish_row(size_t n, const float* x, F centre, F inverse, const float* scale, const float* bias, float* y) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F v = (load(x + i) - centre) * inverse;
    put<kStream>(y + i, kBias ? fma(v, load(scale + i), load(bias + i)) : v * load(scale + i));
  }
  if (i < n) {
    const size_t width = n - i;
    const F v = (load_first(x + i, width) - centre) * inverse, s = load_first(scale + i, width);
    store_first(y + i, kBias ? fma(v, s, load_first(bias + i, width)) : v * s, width);
  }
}

template <bool kStream, bool kBias>
inline void all_rows(const NormRows& norm) {
  const size_t n = norm.n;
  float row[kStream ? kRowOnStack : 1];
  const F zero = broadcast(0);
  // A row's mean is found before the one before it is finished, whose deviation comes late.
  const bool ahead = norm.centred && !norm.residual;
  F next = ahead ? mean_of(n, norm.x) : zero;
  for (size_t r = 0; r < norm.rows; r++) {
    const float* x = norm.x + r * n;
    float* const y = norm.y + r * n;
    if (norm.residual) {
      float* const sum = norm.sum ? norm.sum + r * n : kStream ? row : y;
      add_rows(n, x, norm.residual + r * n, norm.residual_bias, sum);
      x = sum;
    }
    const F centre = ahead ? next : norm.centred ? mean_of(n, x) : zero;
    const F inverse = inverse_deviation(n, x, centre, norm.epsilon);
    if (ahead && r + 1 < norm.rows) next = mean_of(n, x + n);
    finish_row<kStream, kBias>(n, x, centre, inverse, norm.scale, norm.bias, y);
  }
}

void rows(const NormRows& norm) {
  const size_t n = norm.n;
  const bool lines = n * sizeof(float) % kLineBytes == 0 && floats_to_line(norm.y) == 0;
  if (norm.stream && lines && n <= kRowOnStack) {
    norm.bias ? all_rows<true, true>(norm) : all_rows<true, false>(norm);
    stream_end();
  } else {
    norm.bias ? all_rows<false, true>(norm) : all_rows<false, false>(norm);
  }
}

void group(size_t channels, size_t inner, const float* x, const float* scale, const float* bias, float epsilon,
           float* y) {
  const size_t n = channels * inner;
  const F centre = mean_of(n, x), inverse = inverse_deviation(n, x, centre, epsilon);
  for (size_t c = 0; c < channels; c++) {
    const F by = inverse * broadcast(scale[c]), shift = broadcast(bias ? bias[c] : 0);
    for (size_t i = 0; i < inner; i += kLanes) {
      const size_t at = c * inner + i, width = smaller(inner - i, kLanes);
      store_up_to(y + at, fma(load_up_to(x + at, width) - centre, by, shift), width);
    }
  }
}

}  // namespace

constinit const NormKernels norm = {rows, group};

}  // namespace cloister::CLOISTER_ROW
