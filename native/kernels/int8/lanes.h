// What kernels of bytes need of vectors beyond simd.h: sums of products of small integers, and bytes that come apart into
// 32-bit lanes and together again.
#pragma once
#include "../simd.h"

namespace cloister {
namespace {

// Both operands of a sum of products are cells, of which a 32-bit lane holds kGroup: with VNNI four bytes, of A unsigned
// and of B signed; else two 16-bit integers. The plain byte instruction (pmaddubsw) saturates and would not be exact.
#if defined(__AVX512VNNI__)
constexpr size_t kGroup = 4;
using CellA = uint8_t;
using CellB = int8_t;
#else
constexpr size_t kGroup = 2;
using CellA = int16_t;
using CellB = int16_t;
#endif

typedef uint8_t Bytes __attribute__((vector_size(kLanes * 4)));

inline U load_lanes(const void* p) {
  U v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store_lanes(void* p, U v) { __builtin_memcpy(p, &v, sizeof v); }
inline U lanes_of(uint32_t v) { return (U){} + v; }
inline uint32_t word_at(const void* p) {
  uint32_t v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline Bytes bytes_of(uint8_t v) { return (Bytes){} + v; }
inline Bytes load_bytes(const uint8_t* p) {
  Bytes v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
inline void store_bytes(uint8_t* p, Bytes v) { __builtin_memcpy(p, &v, sizeof v); }

#if !defined(__AVX512F__)  // no masks
inline Bytes load_first_bytes(const uint8_t* p, size_t n) {
  Bytes v = {};
  __builtin_memcpy(&v, p, smaller(n, sizeof v));
  return v;
}
inline void store_first_bytes(uint8_t* p, Bytes v, size_t n) { __builtin_memcpy(p, &v, smaller(n, sizeof v)); }
inline void store_second_half(uint8_t* p, Bytes v, size_t n) {
  uint8_t bytes[sizeof v];
  store_bytes(bytes, v);
  __builtin_memcpy(p, bytes + sizeof v / 2, n);
}
#endif

#if defined(__AVX512F__)

inline __mmask64 first_bytes(size_t n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; }
inline Bytes load_first_bytes(const uint8_t* p, size_t n) { return (Bytes)_mm512_maskz_loadu_epi8(first_bytes(n), p); }
inline void store_first_bytes(uint8_t* p, Bytes v, size_t n) {
  _mm512_mask_storeu_epi8(p, first_bytes(n), (__m512i)v);
}
inline I round_to_int(F v) { return (I)_mm512_maskz_cvtps_epi32(kAll, v); }
inline bool any_lane(I v) { return _mm512_test_epi32_mask((__m512i)v, (__m512i)v) != 0; }
// kLanes bytes, each in a lane.
inline I widened(const uint8_t* p) { return (I)_mm512_maskz_cvtepu8_epi32(kAll, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline Bytes zip_low_8(Bytes a, Bytes b) { return (Bytes)_mm512_unpacklo_epi8((__m512i)a, (__m512i)b); }
inline Bytes zip_high_8(Bytes a, Bytes b) { return (Bytes)_mm512_unpackhi_epi8((__m512i)a, (__m512i)b); }
inline U zip_low_16(Bytes a, Bytes b) { return (U)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b); }
inline U zip_high_16(Bytes a, Bytes b) { return (U)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b); }
// The first `n` bytes of the upper half.
inline void store_second_half(uint8_t* p, Bytes v, size_t n) {
  _mm256_mask_storeu_epi8(p, static_cast<__mmask32>(first_bytes(n)), _mm512_maskz_extracti64x4_epi64(0xf, (__m512i)v, 1));
}
// Four vectors of integers that fit, plus zero, as bytes, the way the zips of one vector of bytes undone.
inline Bytes join(I a, I b, I c, I d, int32_t zero) {
  const __m512i shift = _mm512_set1_epi16(static_cast<short>(zero));
  const __m512i low = _mm512_packs_epi32((__m512i)a, (__m512i)b), high = _mm512_packs_epi32((__m512i)c, (__m512i)d);
  return (Bytes)_mm512_packus_epi16(_mm512_add_epi16(low, shift), _mm512_add_epi16(high, shift));
}
// After join(a, b, c, d): the bytes of a and b in order, then those of c and d.
inline Bytes in_order(Bytes v) {
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return (Bytes)_mm512_maskz_permutexvar_epi32(kAll, order, (__m512i)v);
}
#if defined(__AVX512VNNI__)
// As assembly: GCC 12 copies the accumulators of the intrinsic.
inline void dot(U& sum, U a, U b) { asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "vm"(b)); }
#else
inline void dot(U& sum, U a, U b) { sum += (U)_mm512_madd_epi16((__m512i)a, (__m512i)b); }
#endif

#elif defined(__AVX2__)

inline I round_to_int(F v) { return (I)_mm256_cvtps_epi32(v); }
inline bool any_lane(I v) { return !_mm256_testz_si256((__m256i)v, (__m256i)v); }
inline I widened(const uint8_t* p) { return (I)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
inline Bytes zip_low_8(Bytes a, Bytes b) { return (Bytes)_mm256_unpacklo_epi8((__m256i)a, (__m256i)b); }
inline Bytes zip_high_8(Bytes a, Bytes b) { return (Bytes)_mm256_unpackhi_epi8((__m256i)a, (__m256i)b); }
inline U zip_low_16(Bytes a, Bytes b) { return (U)_mm256_unpacklo_epi16((__m256i)a, (__m256i)b); }
inline U zip_high_16(Bytes a, Bytes b) { return (U)_mm256_unpackhi_epi16((__m256i)a, (__m256i)b); }
inline Bytes join(I a, I b, I c, I d, int32_t zero) {
  const __m256i shift = _mm256_set1_epi16(static_cast<short>(zero));
  const __m256i low = _mm256_packs_epi32((__m256i)a, (__m256i)b), high = _mm256_packs_epi32((__m256i)c, (__m256i)d);
  return (Bytes)_mm256_packus_epi16(_mm256_add_epi16(low, shift), _mm256_add_epi16(high, shift));
}
inline Bytes in_order(Bytes v) {
  return (Bytes)_mm256_permutevar8x32_epi32((__m256i)v, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
inline void dot(U& sum, U a, U b) { sum += (U)_mm256_madd_epi16((__m256i)a, (__m256i)b); }

#else

inline I round_to_int(F v) { return (I)vcvtnq_s32_f32(v); }
inline bool any_lane(I v) { return vmaxvq_u32((uint32x4_t)v) != 0; }
inline I widened(const uint8_t* p) {
  uint32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return (I)vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(word))));
}
inline Bytes zip_low_8(Bytes a, Bytes b) { return (Bytes)vzip1q_u8((uint8x16_t)a, (uint8x16_t)b); }
inline Bytes zip_high_8(Bytes a, Bytes b) { return (Bytes)vzip2q_u8((uint8x16_t)a, (uint8x16_t)b); }
inline U zip_low_16(Bytes a, Bytes b) { return (U)vzip1q_u16((uint16x8_t)a, (uint16x8_t)b); }
inline U zip_high_16(Bytes a, Bytes b) { return (U)vzip2q_u16((uint16x8_t)a, (uint16x8_t)b); }
inline Bytes join(I a, I b, I c, I d, int32_t zero) {
  const int16x8_t shift = vdupq_n_s16(static_cast<int16_t>(zero));
  const int16x8_t low = vcombine_s16(vqmovn_s32((int32x4_t)a), vqmovn_s32((int32x4_t)b));
  const int16x8_t high = vcombine_s16(vqmovn_s32((int32x4_t)c), vqmovn_s32((int32x4_t)d));
  return (Bytes)vcombine_u8(vqmovun_s16(vaddq_s16(low, shift)), vqmovun_s16(vaddq_s16(high, shift)));
}
inline Bytes in_order(Bytes v) { return v; }
inline void dot(U& sum, U a, U b) {
  const int16x8_t x = (int16x8_t)a, y = (int16x8_t)b;
  sum += (U)vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
}

#endif

// Four bytes of each of 4 * kLanes channels, one from each of a to d: one channel to a 32-bit lane, in the order of the
// zips, which join() undoes.
struct Quads {
  U part[4];
};
inline Quads quads(Bytes a, Bytes b, Bytes c, Bytes d) {
  const Bytes ab_low = zip_low_8(a, b), ab_high = zip_high_8(a, b), cd_low = zip_low_8(c, d), cd_high = zip_high_8(c, d);
  return {{zip_low_16(ab_low, cd_low), zip_high_16(ab_low, cd_low), zip_low_16(ab_high, cd_high),
           zip_high_16(ab_high, cd_high)}};
}

// A sum in units of the result, clamped (NaN to lo), rounded, ties to even.
inline I quantised(U sum, F factor, F lo, F hi) {
  return round_to_int(min_second(hi, max_second(to_float((I)sum) * factor, lo)));
}

}  // namespace
}  // namespace cloister
