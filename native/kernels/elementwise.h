// Elementwise functions of one and two operands.
#pragma once
#include "kernels.h"
#include "math.h"

namespace cloister {
namespace {

template <typename Map>
inline void map_all(size_t count, const float* x, float* y, Map map) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(y + i, map(load(x + i)));
  if (i < count) store_first(y + i, map(load_first(x + i, count - i)), count - i);
}

void unary(UnaryOp op, size_t count, const float* x, float* y, float p0, float p1) {
  const F first = broadcast(p0), second = broadcast(p1), zero = broadcast(0);
  switch (op) {
    case kRelu: return map_all(count, x, y, [](F v) { return relu(v); });
    case kNeg: return map_all(count, x, y, [](F v) { return -v; });
    case kAbs: return map_all(count, x, y, absolute);
    case kSqrt: return map_all(count, x, y, square_root);
    case kExp: return map_all(count, x, y, exp_of);
    case kLog: return map_all(count, x, y, log_of);
    case kTanh: return map_all(count, x, y, tanh_of);
    case kSigmoid: return map_all(count, x, y, sigmoid_of);
    case kErf: return map_all(count, x, y, erf_of);
    case kFloor: return map_all(count, x, y, floor_of);
    case kCeil: return map_all(count, x, y, ceil_of);
    case kReciprocal: return map_all(count, x, y, [](F v) { return broadcast(1) / v; });
    case kClip: return map_all(count, x, y, [=](F v) { return clip(v, first, second); });
    case kLeakyRelu: return map_all(count, x, y, [=](F v) { return select((I)(v < zero), first * v, v); });
    case kUnaryOpCount: return;
  }
}

// One row of the innermost dimension: each operand runs along it (a step of 1), or stays (0), or strides.
template <typename Combine>
inline void combine_row(size_t count, const float* a, size_t a_step, const float* b, size_t b_step, float* y,
    Combine combine) {
  if (a_step <= 1 && b_step <= 1) {
    const F a_all = broadcast(*a), b_all = broadcast(*b);
    for (size_t i = 0; i < count; i += kLanes) {
      const size_t width = smaller(count - i, kLanes);
      const F left = a_step ? load_up_to(a + i, width) : a_all;
      const F right = b_step ? load_up_to(b + i, width) : b_all;
      store_up_to(y + i, combine(left, right), width);
    }
    return;
  }
  for (size_t i = 0; i < count; i += kLanes) {
    const size_t width = smaller(count - i, kLanes);
    float left[kLanes] = {}, right[kLanes] = {};
    for (size_t j = 0; j < width; j++) {
      left[j] = a[(i + j) * a_step];
      right[j] = b[(i + j) * b_step];
    }
    store_up_to(y + i, combine(load(left), load(right)), width);
  }
}

// Dimensions of a broadcast, fewer where neighbours can be walked as one.
struct Broadcast {
  size_t rank = 0;
  size_t dims[kMaxRank], a[kMaxRank], b[kMaxRank];

  Broadcast(size_t full_rank, const uint32_t* full_dims, const uint32_t* a_strides, const uint32_t* b_strides) {
    for (size_t d = 0; d < full_rank; d++) {
      if (full_dims[d] == 1) continue;
      const size_t size = full_dims[d];
      if (rank > 0 && a[rank - 1] == size * a_strides[d] && b[rank - 1] == size * b_strides[d]) {
        dims[rank - 1] *= size;
        a[rank - 1] = a_strides[d];
        b[rank - 1] = b_strides[d];
      } else {
        dims[rank] = size;
        a[rank] = a_strides[d];
        b[rank] = b_strides[d];
        rank++;
      }
    }
    if (rank == 0) dims[0] = 1, a[0] = b[0] = 0, rank = 1;
  }
};

template <typename Combine>
inline void combine_all(const Broadcast& shape, const float* a, const float* b, float* y, Combine combine) {
  const size_t inner = shape.rank - 1, width = shape.dims[inner];
  size_t index[kMaxRank] = {};
  for (;;) {
    combine_row(width, a, shape.a[inner], b, shape.b[inner], y, combine);
    y += width;
    size_t d = inner;
    for (;; d--) {
      if (d == 0) return;
      a += shape.a[d - 1];
      b += shape.b[d - 1];
      if (++index[d - 1] < shape.dims[d - 1]) break;
      a -= shape.a[d - 1] * shape.dims[d - 1];
      b -= shape.b[d - 1] * shape.dims[d - 1];
      index[d - 1] = 0;
    }
  }
}

// libm's pow in double, rounded once: no vector form keeps its special cases.
inline F power(F a, F b) {
  float base[kLanes], exponent[kLanes];
  store(base, a);
  store(exponent, b);
  for (size_t i = 0; i < kLanes; i++) base[i] = static_cast<float>(__builtin_pow(base[i], exponent[i]));
  return load(base);
}

void binary(BinaryOp op, size_t rank, const uint32_t* dims, const float* a, const uint32_t* a_strides, const float* b,
            const uint32_t* b_strides, float* y) {
  const Broadcast shape(rank, dims, a_strides, b_strides);
  switch (op) {
    case kAdd: return combine_all(shape, a, b, y, [](F l, F r) { return l + r; });
    case kSub: return combine_all(shape, a, b, y, [](F l, F r) { return l - r; });
    case kMul: return combine_all(shape, a, b, y, [](F l, F r) { return l * r; });
    case kDiv: return combine_all(shape, a, b, y, [](F l, F r) { return l / r; });
    case kMin: return combine_all(shape, a, b, y, min_nan);
    case kMax: return combine_all(shape, a, b, y, max_nan);
    case kPow: return combine_all(shape, a, b, y, power);
    case kBinaryOpCount: return;
  }
}

}  // namespace
}  // namespace cloister
