// Functions of one, two and three f32 operands.
#pragma once
#include "../types.h"

namespace cloister {

enum UnaryOp : uint32_t {
  kRelu, kNeg, kAbs, kSqrt, kExp, kLog, kTanh, kSigmoid, kErf, kFloor, kCeil, kReciprocal,
  kClip,       // clamps to [p0, p1]
  kLeakyRelu,  // x < 0 ? p0 * x : x
  kRound,      // to even
  kSign,
  kGelu,
  kGeluTanh,   // gelu by its approximation with tanh
  kSwish,      // x sigmoid(p0 x)
  kHardSigmoid,  // p0 x + p1 clamped to [0, 1]
  kHardSwish,
  kSoftplus,
  kSoftsign,
  kElu,        // p1 (x < 0 ? p0 (e^x - 1) : x)
  kCelu,       // x < 0 ? p0 (e^(x / p0) - 1) : x; p0 > 0
  kMish,
  kThresholdedRelu,  // x > p0 ? x : 0
  kShrink,     // x < -p1 ? x + p0 : x > p1 ? x - p0 : 0
  kNot,        // truth is 1, falsehood 0; what is not 0 is true
  kIsNan,
  kIsInf,      // +infinity where p0 is not 0, -infinity where p1 is not 0
  kSin, kCos, kTan, kAsin, kAcos, kAtan, kSinh, kCosh, kAsinh, kAcosh, kAtanh,
  kUnaryOpCount
};
enum BinaryOp : uint32_t {
  kAdd, kSub, kMul, kDiv, kMin, kMax, kPow,
  kPrelu,  // a < 0 ? b * a : a
  kFmod,   // with the sign of a
  kLess, kLessOrEqual, kGreater, kGreaterOrEqual, kEqual, kAnd, kOr, kXor,  // give 1 or 0
  kBinaryOpCount
};

struct ElementwiseKernels {
  void (*unary)(UnaryOp op, size_t count, const float* x, float* y, float p0, float p1);  // y may be x
  // Broadcast over `rank` output dims; a stride of 0 repeats. Strides in elements. y dense; y may be a or b when that
  // operand is dense and of y's shape.
  void (*binary)(BinaryOp op, size_t rank, const uint32_t* dims, const float* a, const uint32_t* a_strides,
                 const float* b, const uint32_t* b_strides, float* y);
  // The same over `count` elements; an operand of step 0 is one element. y may be an operand of step 1.
  void (*combine)(BinaryOp op, size_t count, const float* a, size_t a_step, const float* b, size_t b_step, float* y);
  // y = c is not 0 ? a : b, with steps as above. y may be an operand of step 1.
  void (*choose)(size_t count, const float* c, size_t c_step, const float* a, size_t a_step, const float* b,
                 size_t b_step, float* y);
  // y = x, past the caches: for what is far larger than they are and not read soon.
  void (*stream)(size_t count, const float* x, float* y);
};

}  // namespace cloister
