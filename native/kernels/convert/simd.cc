// Conversions in loops that the compiler makes vectors of: directly where one of the two is wide enough to go through,
// else in blocks by way of f32, f64 or i64.
#include "../row.h"
#include "../simd.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

constexpr size_t kChunk = 256;

template <typename From, typename To, typename Map>
inline void map_elements(size_t count, const void* x, void* y, Map map) {
  const From* const from = static_cast<const From*>(x);
  To* const to = static_cast<To*>(y);
  for (size_t i = 0; i < count; i++) to[i] = map(from[i]);
}

inline uint32_t bits_of(float v) { return __builtin_bit_cast(uint32_t, v); }
inline float float_of(uint32_t bits) { return __builtin_bit_cast(float, bits); }

// Without branches, so that it becomes vectors. Rebias the exponent; denormals are made so by a subtraction.
inline float f16_to_f32(uint16_t half) {
  const uint32_t shifted = static_cast<uint32_t>(half & 0x7fff) << 13, exponent = shifted & 0x0f800000u;
  const uint32_t normal = shifted + 0x38000000u, special = shifted + 0x70000000u;
  const uint32_t tiny = bits_of(float_of(shifted + 0x38800000u) - float_of(0x38800000u));
  const uint32_t size = exponent == 0 ? tiny : exponent == 0x0f800000u ? special : normal;
  return float_of(size | static_cast<uint32_t>(half & 0x8000) << 16);
}

// Likewise; the addition of 0.5 leaves of a denormal what a half keeps, rounded to even.
inline uint16_t f32_to_f16(float v) {
  const uint32_t bits = bits_of(v), size = bits & 0x7fffffffu;
  const uint32_t normal = (size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13;
  const uint32_t tiny = bits_of(float_of(size) + 0.5f) - 0x3f000000u;
  const uint32_t large = size > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t half = size >= 0x47800000u ? large : size < 0x38800000u ? tiny : normal;
  return static_cast<uint16_t>(half | (size > 0x7f800000u ? 0 : bits >> 16 & 0x8000u));
}

inline uint16_t f64_to_f16(double v) {
  const uint64_t bits = __builtin_bit_cast(uint64_t, v), size = bits & 0x7fffffffffffffffull;
  const uint64_t normal = (size - (uint64_t{1008} << 52) + 0x1ffffffffffull + (size >> 42 & 1)) >> 42;
  // 2^28: its last place is 2^-24.
  const uint64_t tiny = __builtin_bit_cast(uint64_t, __builtin_fabs(v) + 268435456.0) - (uint64_t{1051} << 52);
  const uint64_t large = size > (uint64_t{2047} << 52) ? 0x7e00u : 0x7c00u;
  const uint64_t half = size >= (uint64_t{1039} << 52) ? large : size < (uint64_t{1009} << 52) ? tiny : normal;
  return static_cast<uint16_t>(half | (large == 0x7e00u ? 0 : bits >> 48 & 0x8000u));
}

inline float bf16_to_f32(uint16_t half) { return float_of(static_cast<uint32_t>(half) << 16); }

inline uint16_t f32_to_bf16(float v) {
  const uint32_t bits = bits_of(v), rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

// Modulo 2^64, of any double.
inline uint64_t whole_of(double v) {
  if (__builtin_fabs(v) < 9223372036854775808.0) return static_cast<uint64_t>(static_cast<int64_t>(v));
  if (!__builtin_isfinite(v)) return 0;
  const double part = __builtin_fmod(v, 18446744073709551616.0);
  return part < 0 ? 0 - static_cast<uint64_t>(-part) : static_cast<uint64_t>(part);
}

// Blocks whose elements all fit into 32 bits are converted as vectors are.
template <typename From, typename To>
inline void floats_to_whole(size_t count, const void* x, void* y) {
  const From* from = static_cast<const From*>(x);
  To* to = static_cast<To*>(y);
  for (size_t i = 0; i < count; i += kChunk, from += kChunk, to += kChunk) {
    const size_t width = smaller(count - i, kChunk);
    int32_t outside = 0;
    for (size_t j = 0; j < width; j++) {
      outside |= !(from[j] > static_cast<From>(-2147483000.0) && from[j] < static_cast<From>(2147483000.0));
    }
    if (outside) {
      for (size_t j = 0; j < width; j++) to[j] = static_cast<To>(whole_of(from[j]));
    } else {
      for (size_t j = 0; j < width; j++) to[j] = static_cast<To>(static_cast<int32_t>(from[j]));
    }
  }
}

template <typename From>
inline bool from_floats(DType to, size_t count, const void* x, void* y) {
  switch (to) {
    case kF32: return map_elements<From, float>(count, x, y, [](From v) { return static_cast<float>(v); }), true;
    case kF64: return map_elements<From, double>(count, x, y, [](From v) { return static_cast<double>(v); }), true;
    case kI8: case kU8: return floats_to_whole<From, uint8_t>(count, x, y), true;
    case kI16: case kU16: return floats_to_whole<From, uint16_t>(count, x, y), true;
    case kI32: case kU32: return floats_to_whole<From, uint32_t>(count, x, y), true;
    case kI64: case kU64: return floats_to_whole<From, uint64_t>(count, x, y), true;
    case kBool: return map_elements<From, uint8_t>(count, x, y, [](From v) -> uint8_t { return v != 0; }), true;
    default: return false;
  }
}

template <typename From>
inline bool from_integers(DType to, size_t count, const void* x, void* y) {
  switch (to) {
    case kF32: return map_elements<From, float>(count, x, y, [](From v) {
      return sizeof(From) == 8 ? static_cast<float>(static_cast<double>(v)) : static_cast<float>(v);
    }), true;
    case kF64: return map_elements<From, double>(count, x, y, [](From v) { return static_cast<double>(v); }), true;
    case kI8: case kU8: return map_elements<From, uint8_t>(count, x, y, [](From v) { return static_cast<uint8_t>(v); }), true;
    case kI16: case kU16: return map_elements<From, uint16_t>(count, x, y, [](From v) { return static_cast<uint16_t>(v); }), true;
    case kI32: case kU32: return map_elements<From, uint32_t>(count, x, y, [](From v) { return static_cast<uint32_t>(v); }), true;
    case kI64: case kU64: return map_elements<From, uint64_t>(count, x, y, [](From v) { return static_cast<uint64_t>(v); }), true;
    case kBool: return map_elements<From, uint8_t>(count, x, y, [](From v) -> uint8_t { return v != 0; }), true;
    default: return false;
  }
}

// False where there is no direct way.
bool directly(DType from, DType to, size_t count, const void* x, void* y) {
  switch (from) {
    case kF32:
      if (to == kF16) return map_elements<float, uint16_t>(count, x, y, f32_to_f16), true;
      if (to == kBf16) return map_elements<float, uint16_t>(count, x, y, f32_to_bf16), true;
      return from_floats<float>(to, count, x, y);
    case kF64:
      if (to == kF16) return map_elements<double, uint16_t>(count, x, y, f64_to_f16), true;
      return from_floats<double>(to, count, x, y);
    case kF16: return to == kF32 && (map_elements<uint16_t, float>(count, x, y, f16_to_f32), true);
    case kBf16: return to == kF32 && (map_elements<uint16_t, float>(count, x, y, bf16_to_f32), true);
    case kI8: return from_integers<int8_t>(to, count, x, y);
    case kU8: case kBool: return from_integers<uint8_t>(to, count, x, y);
    case kI16: return from_integers<int16_t>(to, count, x, y);
    case kU16: return from_integers<uint16_t>(to, count, x, y);
    case kI32: return from_integers<int32_t>(to, count, x, y);
    case kU32: return from_integers<uint32_t>(to, count, x, y);
    case kI64: return from_integers<int64_t>(to, count, x, y);
    case kU64: return from_integers<uint64_t>(to, count, x, y);
    case kDTypeCount: break;
  }
  return false;
}

constexpr uint32_t kBytes[kDTypeCount] = {4, 8, 2, 2, 1, 1, 2, 2, 4, 4, 8, 8, 1};

void convert(DType from, DType to, size_t count, const void* x, void* y) {
  if (directly(from, to, count, x, y)) return;
  // To bf16 by way of f32, to f16 by way of f64; from either by way of f32, which has them all.
  const DType middle = from == kF16 || from == kBf16 ? kF32 : to == kBf16 ? kF32 : kF64;
  double between[kChunk];
  for (size_t i = 0; i < count; i += kChunk) {
    const size_t width = smaller(count - i, kChunk);
    directly(from, middle, width, static_cast<const char*>(x) + i * kBytes[from], between);
    directly(middle, to, width, between, static_cast<char*>(y) + i * kBytes[to]);
  }
}

}  // namespace

constinit const ConvertKernels conversion = {convert};

}  // namespace cloister::CLOISTER_ROW
