// Functions of two integers, in loops that the compiler makes vectors of.
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

// Division: each element on its own. The one quotient that is out of range wraps.
template <typename T>
inline T quotient(T a, T b) {
  if (b == 0) return 0;
  if (static_cast<T>(-1) < 0 && b == static_cast<T>(-1)) return static_cast<T>(0 - static_cast<uint64_t>(a));
  return static_cast<T>(a / b);
}
template <typename T>
inline T remainder_of(T a, T b) {
  if (b == 0 || (static_cast<T>(-1) < 0 && b == static_cast<T>(-1))) return 0;
  return static_cast<T>(a % b);
}
template <typename T>
inline T modulo(T a, T b) {
  const T rest = remainder_of(a, b);
  return rest != 0 && (rest < 0) != (b < 0) ? static_cast<T>(rest + b) : rest;
}

// Calls `with` with the function that `op` names and with what its results are. U: sums that may wrap.
template <typename T, typename U, typename With>
inline void with_function(IntegerOp op, With with) {
  switch (op) {
    case kIntAdd: return with(T(), [](T a, T b) { return static_cast<T>(static_cast<U>(a) + static_cast<U>(b)); });
    case kIntSub: return with(T(), [](T a, T b) { return static_cast<T>(static_cast<U>(a) - static_cast<U>(b)); });
    case kIntMul: return with(T(), [](T a, T b) { return static_cast<T>(static_cast<U>(a) * static_cast<U>(b)); });
    case kIntDiv: return with(T(), quotient<T>);
    case kIntMin: return with(T(), [](T a, T b) { return a < b ? a : b; });
    case kIntMax: return with(T(), [](T a, T b) { return a > b ? a : b; });
    case kIntMod: return with(T(), modulo<T>);
    case kIntRem: return with(T(), remainder_of<T>);
    case kIntAnd: return with(T(), [](T a, T b) { return static_cast<T>(a & b); });
    case kIntOr: return with(T(), [](T a, T b) { return static_cast<T>(a | b); });
    case kIntXor: return with(T(), [](T a, T b) { return static_cast<T>(a ^ b); });
    case kIntLess: return with(uint8_t(), [](T a, T b) -> uint8_t { return a < b; });
    case kIntLessOrEqual: return with(uint8_t(), [](T a, T b) -> uint8_t { return a <= b; });
    case kIntGreater: return with(uint8_t(), [](T a, T b) -> uint8_t { return a > b; });
    case kIntGreaterOrEqual: return with(uint8_t(), [](T a, T b) -> uint8_t { return a >= b; });
    case kIntEqual: return with(uint8_t(), [](T a, T b) -> uint8_t { return a == b; });
    case kIntegerOpCount: return;
  }
}

template <typename T, typename U>
void combine_type(IntegerOp op, size_t count, const void* left, size_t a_step, const void* right, size_t b_step,
                  void* out) {
  with_function<T, U>(op, [=](auto result, auto function) {
    const T* const a = static_cast<const T*>(left);
    const T* const b = static_cast<const T*>(right);
    decltype(result)* const y = static_cast<decltype(result)*>(out);
    if (a_step && b_step) {
      for (size_t i = 0; i < count; i++) y[i] = function(a[i], b[i]);
    } else if (a_step) {
      const T other = *b;
      for (size_t i = 0; i < count; i++) y[i] = function(a[i], other);
    } else {
      const T other = *a;
      for (size_t i = 0; i < count; i++) y[i] = function(other, b[i * b_step]);
    }
  });
}

void combine(IntegerOp op, IntegerType type, size_t count, const void* a, size_t a_step, const void* b, size_t b_step,
             void* y) {
  switch (type) {
    case kInt8: return combine_type<int8_t, uint32_t>(op, count, a, a_step, b, b_step, y);
    case kUint8: return combine_type<uint8_t, uint32_t>(op, count, a, a_step, b, b_step, y);
    case kInt32: return combine_type<int32_t, uint32_t>(op, count, a, a_step, b, b_step, y);
    case kInt64: return combine_type<int64_t, uint64_t>(op, count, a, a_step, b, b_step, y);
    case kIntegerTypeCount: return;
  }
}

}  // namespace

constinit const IntegerKernels integer = {combine};

}  // namespace cloister::CLOISTER_ROW
