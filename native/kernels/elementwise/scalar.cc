// Scalar functions of one and two operands, as its definition reads.
#include <math.h>

#include "../scalar.h"
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

constexpr double kSqrt2 = 1.4142135623730951;

// A NaN passes through.
float clamp(double v, double lo, double hi) { return static_cast<float>(v < lo ? lo : v > hi ? hi : v); }

double softplus(double v) { return v > 0 ? v + log1p(exp(-v)) : log1p(exp(v)); }

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
    case kRound: return __builtin_rintf(v);
    case kSign: return v < 0 ? -1 : v > 0 ? 1 : v;
    case kGelu: return static_cast<float>(v * 0.5 * erfc(-static_cast<double>(v) / kSqrt2));
    case kGeluTanh: {
      const double d = v;
      return static_cast<float>(d / (1 + exp(-1.5957691216057308 * (d + 0.044715 * d * d * d))));
    }
    case kSwish: return static_cast<float>(v / (1 + exp(-static_cast<double>(p0) * v)));
    case kHardSigmoid: return clamp(p0 * static_cast<double>(v) + p1, 0, 1);
    case kHardSwish: return static_cast<float>(v * static_cast<double>(clamp(v / 6.0 + 0.5, 0, 1)));
    case kSoftplus: return static_cast<float>(softplus(v));
    case kSoftsign: return v / (1 + __builtin_fabsf(v));
    case kElu: return static_cast<float>(p1 * (v < 0 ? p0 * expm1(static_cast<double>(v)) : v));
    case kCelu: return v < 0 ? static_cast<float>(p0 * expm1(v / static_cast<double>(p0))) : v;
    case kMish: return static_cast<float>(v * tanh(softplus(v)));
    case kThresholdedRelu: return v > p0 ? v : 0;
    case kShrink: return v < -p1 ? v + p0 : v > p1 ? v - p0 : 0;
    case kNot: return v == 0;
    case kIsNan: return v != v;
    case kIsInf: return (p0 != 0 && v == INFINITY) || (p1 != 0 && v == -INFINITY);
    case kSin: return static_cast<float>(sin(static_cast<double>(v)));
    case kCos: return static_cast<float>(cos(static_cast<double>(v)));
    case kTan: return static_cast<float>(tan(static_cast<double>(v)));
    case kAsin: return static_cast<float>(asin(static_cast<double>(v)));
    case kAcos: return static_cast<float>(acos(static_cast<double>(v)));
    case kAtan: return static_cast<float>(atan(static_cast<double>(v)));
    case kSinh: return static_cast<float>(sinh(static_cast<double>(v)));
    case kCosh: return static_cast<float>(cosh(static_cast<double>(v)));
    case kAsinh: return static_cast<float>(asinh(static_cast<double>(v)));
    case kAcosh: return static_cast<float>(acosh(static_cast<double>(v)));
    case kAtanh: return static_cast<float>(atanh(static_cast<double>(v)));
    case kUnaryOpCount: break;
  }
  return v;
}

void unary(UnaryOp op, size_t count, const float* x, float* y, float p0, float p1) {
  for (size_t i = 0; i < count; i++) y[i] = apply(op, x[i], p0, p1);
}

float combine_two(BinaryOp op, float a, float b) {
  switch (op) {
    case kAdd: return a + b;
    case kSub: return a - b;
    case kMul: return a * b;
    case kDiv: return a / b;
    case kMin: return min_of(a, b);
    case kMax: return max_of(a, b);
    case kPow: return static_cast<float>(pow(static_cast<double>(a), static_cast<double>(b)));
    case kPrelu: return a < 0 ? b * a : a;
    case kFmod: return static_cast<float>(fmod(static_cast<double>(a), static_cast<double>(b)));
    case kLess: return a < b;
    case kLessOrEqual: return a <= b;
    case kGreater: return a > b;
    case kGreaterOrEqual: return a >= b;
    case kEqual: return a == b;
    case kAnd: return a != 0 && b != 0;
    case kOr: return a != 0 || b != 0;
    case kXor: return (a != 0) != (b != 0);
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
    y[i] = combine_two(op, a[at_a], b[at_b]);
  }
}

void combine(BinaryOp op, size_t count, const float* a, size_t a_step, const float* b, size_t b_step, float* y) {
  for (size_t i = 0; i < count; i++) y[i] = combine_two(op, a[i * a_step], b[i * b_step]);
}

void choose(size_t count, const float* c, size_t c_step, const float* a, size_t a_step, const float* b, size_t b_step,
            float* y) {
  for (size_t i = 0; i < count; i++) y[i] = c[i * c_step] != 0 ? a[i * a_step] : b[i * b_step];
}

void stream(size_t count, const float* x, float* y) {
  for (size_t i = 0; i < count; i++) y[i] = x[i];
}

}  // namespace

constinit const ElementwiseKernels elementwise = {unary, binary, combine, choose, stream};

}  // namespace cloister::CLOISTER_ROW
