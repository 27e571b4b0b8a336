// Elementwise functions of one and two operands.
#include "../math.h"
#include "../row.h"
#include "../stream.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

template <typename Map>
inline void map_all(size_t count, const float* x, float* y, Map map) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(y + i, map(load(x + i)));
  if (i < count) store_first(y + i, map(load_first(x + i, count - i)), count - i);
}

// libm in double, rounded once: for what is rare.
template <typename Map>
inline void map_each(size_t count, const float* x, float* y, Map map) {
  for (size_t i = 0; i < count; i++) y[i] = static_cast<float>(map(static_cast<double>(x[i])));
}

inline F truth(I mask) { return mask ? broadcast(1) : broadcast(0); }

void unary(UnaryOp op, size_t count, const float* x, float* y, float p0, float p1) {
  const F first = broadcast(p0), second = broadcast(p1), zero = broadcast(0), one = broadcast(1);
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
    case kLeakyRelu: return map_all(count, x, y, [=](F v) { return v < zero ? first * v : v; });
    case kRound: return map_all(count, x, y, round_even);
    case kSign: return map_all(count, x, y, [=](F v) { return v < zero ? -one : (v > zero ? one : v); });
    case kGelu: return map_all(count, x, y, gelu_of);
    case kGeluTanh: return map_all(count, x, y, gelu_tanh_of);
    case kSwish: return map_all(count, x, y, [=](F v) { return swish_of(v, first); });
    case kHardSigmoid: return map_all(count, x, y, [=](F v) { return clip(fma(first, v, second), zero, one); });
    case kHardSwish: return map_all(count, x, y, [=](F v) {
      return v * (clip(v + broadcast(3), zero, broadcast(6)) / broadcast(6));
    });
    case kSoftplus: return map_all(count, x, y, softplus_of);
    case kSoftsign: return map_all(count, x, y, [=](F v) { return v / (one + absolute(v)); });
    case kElu: {
      // The product of both factors in two parts.
      const F factor = first * second, rest = fma(first, second, -factor);
      return map_all(count, x, y, [=](F v) {
        const F below = expm1_below(v);
        return v < zero ? fma(below, factor, below * rest) : second * v;
      });
    }
    case kCelu: return map_all(count, x, y, [=](F v) { return v < zero ? first * expm1_below(v / first) : v; });
    case kMish: return map_all(count, x, y, mish_of);
    case kThresholdedRelu: return map_all(count, x, y, [=](F v) { return v > first ? v : zero; });
    case kShrink: return map_all(count, x, y, [=](F v) {
      return v < -second ? v + first : (v > second ? v - first : zero);
    });
    case kNot: return map_all(count, x, y, [=](F v) { return truth((I)(v == zero)); });
    case kIsNan: return map_all(count, x, y, [](F v) { return truth(is_nan(v)); });
    case kIsInf: {
      // A NaN equals nothing, itself included: the sign that is not asked for.
      const F up = broadcast(p0 != 0 ? __builtin_inff() : __builtin_nanf(""));
      const F down = broadcast(p1 != 0 ? -__builtin_inff() : __builtin_nanf(""));
      return map_all(count, x, y, [=](F v) { return truth((I)(v == up) | (I)(v == down)); });
    }
    case kSin: return map_each(count, x, y, [](double v) { return __builtin_sin(v); });
    case kCos: return map_each(count, x, y, [](double v) { return __builtin_cos(v); });
    case kTan: return map_each(count, x, y, [](double v) { return __builtin_tan(v); });
    case kAsin: return map_each(count, x, y, [](double v) { return __builtin_asin(v); });
    case kAcos: return map_each(count, x, y, [](double v) { return __builtin_acos(v); });
    case kAtan: return map_each(count, x, y, [](double v) { return __builtin_atan(v); });
    case kSinh: return map_each(count, x, y, [](double v) { return __builtin_sinh(v); });
    case kCosh: return map_each(count, x, y, [](double v) { return __builtin_cosh(v); });
    case kAsinh: return map_each(count, x, y, [](double v) { return __builtin_asinh(v); });
    case kAcosh: return map_each(count, x, y, [](double v) { return __builtin_acosh(v); });
    case kAtanh: return map_each(count, x, y, [](double v) { return __builtin_atanh(v); });
    case kUnaryOpCount: return;
  }
}

// Each operand runs along (a step of 1), or stays (0).
template <typename Combine>
inline void combine_row(size_t count, const float* a, size_t a_step, const float* b, size_t b_step, float* y,
    Combine combine) {
  const F a_all = broadcast(*a), b_all = broadcast(*b);
  size_t i = 0;
  if (a_step && b_step) {
    for (; i + kLanes <= count; i += kLanes) store(y + i, combine(load(a + i), load(b + i)));
  } else if (a_step) {
    for (; i + kLanes <= count; i += kLanes) store(y + i, combine(load(a + i), b_all));
  } else if (b_step) {
    for (; i + kLanes <= count; i += kLanes) store(y + i, combine(a_all, load(b + i)));
  } else {
    const F value = combine(a_all, b_all);
    for (; i + kLanes <= count; i += kLanes) store(y + i, value);
  }
  if (i < count) {
    const size_t width = count - i;
    const F left = a_step ? load_first(a + i, width) : a_all, right = b_step ? load_first(b + i, width) : b_all;
    store_first(y + i, combine(left, right), width);
  }
}

// libm in double, rounded once: no vector form keeps the special cases of these.
template <typename Map>
inline F each_lane(F a, F b, Map map) {
  float left[kLanes], right[kLanes];
  store(left, a);
  store(right, b);
  for (size_t i = 0; i < kLanes; i++) left[i] = static_cast<float>(map(left[i], right[i]));
  return load(left);
}
inline F power(F a, F b) {
  return each_lane(a, b, [](double l, double r) { return __builtin_pow(l, r); });
}
inline F remainder_of(F a, F b) {
  return each_lane(a, b, [](double l, double r) { return __builtin_fmod(l, r); });
}

// Calls `with` with the function of two vectors that `op` names.
template <typename With>
inline void with_binary(BinaryOp op, With with) {
  switch (op) {
    case kAdd: return with([](F l, F r) { return l + r; });
    case kSub: return with([](F l, F r) { return l - r; });
    case kMul: return with([](F l, F r) { return l * r; });
    case kDiv: return with([](F l, F r) { return l / r; });
    case kMin: return with(min_nan);
    case kMax: return with(max_nan);
    case kPow: return with(power);
    case kPrelu: return with([](F l, F r) { return l < broadcast(0) ? r * l : l; });
    case kFmod: return with(remainder_of);
    case kLess: return with([](F l, F r) { return truth((I)(l < r)); });
    case kLessOrEqual: return with([](F l, F r) { return truth((I)(l <= r)); });
    case kGreater: return with([](F l, F r) { return truth((I)(l > r)); });
    case kGreaterOrEqual: return with([](F l, F r) { return truth((I)(l >= r)); });
    case kEqual: return with([](F l, F r) { return truth((I)(l == r)); });
    case kAnd: return with([](F l, F r) { return truth((I)(l != broadcast(0)) & (I)(r != broadcast(0))); });
    case kOr: return with([](F l, F r) { return truth((I)(l != broadcast(0)) | (I)(r != broadcast(0))); });
    case kXor: return with([](F l, F r) { return truth((I)(l != broadcast(0)) ^ (I)(r != broadcast(0))); });
    case kBinaryOpCount: return;
  }
}

// x to a power that a multiplication or a root gives, and as exactly as libm; false for the others.
inline bool simple_power(size_t count, const float* x, float exponent, float* y) {
  if (exponent == 2) return map_all(count, x, y, [](F v) { return v * v; }), true;
  if (exponent == 1) return map_all(count, x, y, [](F v) { return v; }), true;
  if (exponent == -1) return map_all(count, x, y, [](F v) { return broadcast(1) / v; }), true;
  if (exponent == 0.5f) {
    // pow(-0, 0.5) is 0 and pow(-infinity, 0.5) is infinity.
    return map_all(count, x, y, [](F v) {
      const F infinity = broadcast(__builtin_inff());
      return v == -infinity ? infinity : square_root(v + broadcast(0));
    }), true;
  }
  return false;
}

void combine(BinaryOp op, size_t count, const float* a, size_t a_step, const float* b, size_t b_step, float* y) {
  if (op == kPow && a_step == 1 && b_step == 0 && simple_power(count, a, *b, y)) return;
  with_binary(op, [=](auto combine) { combine_row(count, a, a_step, b, b_step, y, combine); });
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

// A row of the innermost dimension whose operands stride.
void combine_strided(BinaryOp op, size_t count, const float* a, size_t a_step, const float* b, size_t b_step, float* y) {
  constexpr size_t kChunk = 8 * kLanes;
  float left[kChunk], right[kChunk];
  for (size_t i = 0; i < count; i += kChunk) {
    const size_t width = smaller(count - i, kChunk);
    for (size_t j = 0; j < width; j++) {
      left[j] = a[(i + j) * a_step];
      right[j] = b[(i + j) * b_step];
    }
    combine(op, width, left, 1, right, 1, y + i);
  }
}

void binary(BinaryOp op, size_t rank, const uint32_t* dims, const float* a, const uint32_t* a_strides, const float* b,
            const uint32_t* b_strides, float* y) {
  const Broadcast shape(rank, dims, a_strides, b_strides);
  const size_t inner = shape.rank - 1, width = shape.dims[inner], a_step = shape.a[inner], b_step = shape.b[inner];
  const auto row = a_step <= 1 && b_step <= 1 ? combine : combine_strided;
  size_t index[kMaxRank] = {};
  for (;;) {
    row(op, width, a, a_step, b, b_step, y);
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

void choose(size_t count, const float* c, size_t c_step, const float* a, size_t a_step, const float* b, size_t b_step,
            float* y) {
  const F c_all = broadcast(*c), a_all = broadcast(*a), b_all = broadcast(*b);
  for (size_t i = 0; i < count; i += kLanes) {
    const size_t width = smaller(count - i, kLanes);
    const F condition = c_step ? load_up_to(c + i, width) : c_all;
    const F yes = a_step ? load_up_to(a + i, width) : a_all, no = b_step ? load_up_to(b + i, width) : b_all;
    store_up_to(y + i, condition != broadcast(0) ? yes : no, width);
  }
}

void stream_copy(size_t count, const float* x, float* y) {
  const size_t ahead = smaller(floats_to_line(y), count);
  size_t i = 0;
  for (; i < ahead; i += kLanes) store_up_to(y + i, load_up_to(x + i, smaller(ahead - i, kLanes)), smaller(ahead - i, kLanes));
  for (i = ahead; i + kLanes <= count; i += kLanes) stream(y + i, load(x + i));
  if (i < count) store_first(y + i, load_first(x + i, count - i), count - i);
  stream_end();
}

}  // namespace

constinit const ElementwiseKernels elementwise = {unary, binary, combine, choose, stream_copy};

}  // namespace cloister::CLOISTER_ROW
