// Conversions, as their definition reads: each element by way of a double or a 64-bit integer.
#include <math.h>

#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

struct Value {
  bool whole;
  double real;
  uint64_t integer;  // the two's complement
};

template <typename T>
T at(const void* x, size_t i) {
  T value;
  __builtin_memcpy(&value, static_cast<const char*>(x) + i * sizeof(T), sizeof(T));
  return value;
}

template <typename T>
void put(void* y, size_t i, T value) {
  __builtin_memcpy(static_cast<char*>(y) + i * sizeof(T), &value, sizeof(T));
}

float from_bf16(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  return at<float>(&bits, 0);
}

double from_f16(uint16_t half) {
  const int exponent = half >> 10 & 31, mantissa = half & 1023;
  const double size = exponent == 31  ? (mantissa ? static_cast<double>(NAN) : static_cast<double>(INFINITY))
                      : exponent == 0 ? ldexp(mantissa, -24)
                                      : ldexp(1024 + mantissa, exponent - 25);
  return half & 0x8000 ? -size : size;
}

uint16_t to_f16(double v) {
  if (v != v) return 0x7e00;
  const uint16_t sign = signbit(v) ? 0x8000 : 0;
  const double size = fabs(v);
  if (size == 0) return sign;
  if (size >= 65520) return sign | 0x7c00;  // half way from the largest finite 65504 to 65536: the tie goes to even
  int exponent;
  frexp(size, &exponent);
  // The distance between neighbours: 2^-24 below 2^-14, then as the exponent says. rint rounds ties to even.
  const int step = exponent - 1 < -14 ? -24 : exponent - 11;
  const double steps = rint(ldexp(size, -step));
  if (step == -24) return static_cast<uint16_t>(sign | static_cast<int>(steps));
  return static_cast<uint16_t>(sign | ((step + 24) * 1024 + static_cast<int>(steps)));
}

uint16_t to_bf16(float v) {
  if (v != v) return 0x7fc0;
  const uint32_t bits = at<uint32_t>(&v, 0);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

Value real(double v) { return {false, v, 0}; }
Value whole(int64_t v) { return {true, static_cast<double>(v), static_cast<uint64_t>(v)}; }

Value read(DType type, const void* x, size_t i) {
  switch (type) {
    case kF32: return real(at<float>(x, i));
    case kF64: return real(at<double>(x, i));
    case kF16: return real(from_f16(at<uint16_t>(x, i)));
    case kBf16: return real(from_bf16(at<uint16_t>(x, i)));
    case kI8: return whole(at<int8_t>(x, i));
    case kU8: case kBool: return whole(at<uint8_t>(x, i));
    case kI16: return whole(at<int16_t>(x, i));
    case kU16: return whole(at<uint16_t>(x, i));
    case kI32: return whole(at<int32_t>(x, i));
    case kU32: return whole(at<uint32_t>(x, i));
    case kI64: return whole(at<int64_t>(x, i));
    case kU64: return {true, static_cast<double>(at<uint64_t>(x, i)), at<uint64_t>(x, i)};
    case kDTypeCount: break;
  }
  return real(0);
}

uint64_t integer_of(const Value& v) {
  if (v.whole) return v.integer;
  if (!isfinite(v.real)) return 0;
  const double part = fmod(trunc(v.real), 18446744073709551616.0);
  return part < 0 ? 0 - static_cast<uint64_t>(-part) : static_cast<uint64_t>(part);
}

void convert(DType from, DType to, size_t count, const void* x, void* y) {
  for (size_t i = 0; i < count; i++) {
    const Value v = read(from, x, i);
    switch (to) {
      case kF32: put(y, i, static_cast<float>(v.real)); break;
      case kF64: put(y, i, v.real); break;
      case kF16: put(y, i, to_f16(v.real)); break;
      case kBf16: put(y, i, to_bf16(static_cast<float>(v.real))); break;
      case kI8: case kU8: put(y, i, static_cast<uint8_t>(integer_of(v))); break;
      case kI16: case kU16: put(y, i, static_cast<uint16_t>(integer_of(v))); break;
      case kI32: case kU32: put(y, i, static_cast<uint32_t>(integer_of(v))); break;
      case kI64: case kU64: put(y, i, integer_of(v)); break;
      case kBool: put(y, i, static_cast<uint8_t>(v.whole ? v.integer != 0 : v.real != 0)); break;
      case kDTypeCount: break;
    }
  }
}

}  // namespace

constinit const ConvertKernels conversion = {convert};

}  // namespace cloister::CLOISTER_ROW
