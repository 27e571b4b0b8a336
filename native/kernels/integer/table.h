// Functions of two integers.
#pragma once
#include "../types.h"

namespace cloister {

enum IntegerOp : uint32_t {
  kIntAdd, kIntSub, kIntMul,  // modulo 2^bits
  kIntDiv,   // towards zero; 0 where the divisor is 0
  kIntMin, kIntMax,
  kIntMod,   // with the sign of the divisor; 0 where it is 0
  kIntRem,   // with the sign of the dividend; 0 where the divisor is 0
  kIntAnd, kIntOr, kIntXor,  // bit by bit
  kIntLess, kIntLessOrEqual, kIntGreater, kIntGreaterOrEqual, kIntEqual,  // give a byte of 1 or 0
  kIntegerOpCount
};

enum IntegerType : uint32_t { kInt8, kUint8, kInt32, kInt64, kIntegerTypeCount };

struct IntegerKernels {
  // Over `count` elements; an operand of step 0 is one element. y may be an operand of step 1 and of its type.
  void (*combine)(IntegerOp op, IntegerType type, size_t count, const void* a, size_t a_step, const void* b,
                  size_t b_step, void* y);
};

}  // namespace cloister
