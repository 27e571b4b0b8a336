// Functions of two integers, as their definition reads: on 64 bits and cut to the type.
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

int64_t at(IntegerType type, const void* x, size_t i) {
  switch (type) {
    case kInt8: return static_cast<const int8_t*>(x)[i];
    case kUint8: return static_cast<const uint8_t*>(x)[i];
    case kInt32: return static_cast<const int32_t*>(x)[i];
    default: return static_cast<const int64_t*>(x)[i];
  }
}

// INT64_MIN / -1 is the one quotient that is no number of its type: -1 is answered without dividing.
int64_t quotient(int64_t a, int64_t b) {
  return b == 0 ? 0 : b == -1 ? static_cast<int64_t>(0 - static_cast<uint64_t>(a)) : a / b;
}
int64_t remainder_of(int64_t a, int64_t b) { return b == 0 || b == -1 ? 0 : a % b; }

int64_t apply(IntegerOp op, int64_t a, int64_t b) {
  const uint64_t left = static_cast<uint64_t>(a), right = static_cast<uint64_t>(b);
  switch (op) {
    case kIntAdd: return static_cast<int64_t>(left + right);
    case kIntSub: return static_cast<int64_t>(left - right);
    case kIntMul: return static_cast<int64_t>(left * right);
    case kIntDiv: return quotient(a, b);
    case kIntMin: return a < b ? a : b;
    case kIntMax: return a > b ? a : b;
    case kIntMod: {
      const int64_t rest = remainder_of(a, b);
      return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
    }
    case kIntRem: return remainder_of(a, b);
    case kIntAnd: return a & b;
    case kIntOr: return a | b;
    case kIntXor: return a ^ b;
    case kIntLess: return a < b;
    case kIntLessOrEqual: return a <= b;
    case kIntGreater: return a > b;
    case kIntGreaterOrEqual: return a >= b;
    case kIntEqual: return a == b;
    case kIntegerOpCount: break;
  }
  return 0;
}

void combine(IntegerOp op, IntegerType type, size_t count, const void* a, size_t a_step, const void* b, size_t b_step,
             void* y) {
  for (size_t i = 0; i < count; i++) {
    const int64_t value = apply(op, at(type, a, i * a_step), at(type, b, i * b_step));
    if (op >= kIntLess || type == kInt8 || type == kUint8) {
      static_cast<uint8_t*>(y)[i] = static_cast<uint8_t>(value);
    } else if (type == kInt32) {
      static_cast<int32_t*>(y)[i] = static_cast<int32_t>(value);
    } else {
      static_cast<int64_t*>(y)[i] = value;
    }
  }
}

}  // namespace

constinit const IntegerKernels integer = {combine};

}  // namespace cloister::CLOISTER_ROW
