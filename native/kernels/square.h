// Transposes a square of vectors in registers: kLanes rows of 32-bit elements, kLanes / 2 of 64-bit ones. Elements are
// moved as bits, whatever they mean.
#pragma once
#include "simd.h"

namespace cloister {
namespace {

#if defined(__AVX512F__)

// Blocks of 128 bits: result l of `at` is block l of each of the four.
inline void transpose_blocks(F* v, size_t at, size_t step) {
  const F a = v[at], b = v[at + step], c = v[at + 2 * step], d = v[at + 3 * step];
  const F low_even = _mm512_maskz_shuffle_f32x4(kAll, a, b, 0x88), low_odd = _mm512_maskz_shuffle_f32x4(kAll, a, b, 0xdd);
  const F high_even = _mm512_maskz_shuffle_f32x4(kAll, c, d, 0x88);
  const F high_odd = _mm512_maskz_shuffle_f32x4(kAll, c, d, 0xdd);
  v[at] = _mm512_maskz_shuffle_f32x4(kAll, low_even, high_even, 0x88);
  v[at + step] = _mm512_maskz_shuffle_f32x4(kAll, low_odd, high_odd, 0x88);
  v[at + 2 * step] = _mm512_maskz_shuffle_f32x4(kAll, low_even, high_even, 0xdd);
  v[at + 3 * step] = _mm512_maskz_shuffle_f32x4(kAll, low_odd, high_odd, 0xdd);
}

inline F pairs_low(F a, F b) {
  return _mm512_castpd_ps(_mm512_maskz_unpacklo_pd(0xff, _mm512_castps_pd(a), _mm512_castps_pd(b)));
}
inline F pairs_high(F a, F b) {
  return _mm512_castpd_ps(_mm512_maskz_unpackhi_pd(0xff, _mm512_castps_pd(a), _mm512_castps_pd(b)));
}
inline F singles_low(F a, F b) { return _mm512_maskz_unpacklo_ps(kAll, a, b); }
inline F singles_high(F a, F b) { return _mm512_maskz_unpackhi_ps(kAll, a, b); }

#elif defined(__AVX2__)

inline void transpose_blocks(F* v, size_t at, size_t step) {
  const F a = v[at], b = v[at + step];
  v[at] = _mm256_permute2f128_ps(a, b, 0x20);
  v[at + step] = _mm256_permute2f128_ps(a, b, 0x31);
}

inline F pairs_low(F a, F b) {
  return _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
inline F pairs_high(F a, F b) {
  return _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
}
inline F singles_low(F a, F b) { return _mm256_unpacklo_ps(a, b); }
inline F singles_high(F a, F b) { return _mm256_unpackhi_ps(a, b); }

#else

inline void transpose_blocks(F*, size_t, size_t) {}  // a vector is one block

inline F pairs_low(F a, F b) {
  return vreinterpretq_f32_f64(vtrn1q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)));
}
inline F pairs_high(F a, F b) {
  return vreinterpretq_f32_f64(vtrn2q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)));
}
inline F singles_low(F a, F b) { return vzip1q_f32(a, b); }
inline F singles_high(F a, F b) { return vzip2q_f32(a, b); }

#endif

inline void transpose_square(F (&v)[kLanes], uint32_t) {
#pragma GCC unroll 16
  for (size_t g = 0; g < kLanes; g += 4) {
    const F a = singles_low(v[g], v[g + 1]), b = singles_high(v[g], v[g + 1]);
    const F c = singles_low(v[g + 2], v[g + 3]), d = singles_high(v[g + 2], v[g + 3]);
    v[g] = pairs_low(a, c);
    v[g + 1] = pairs_high(a, c);
    v[g + 2] = pairs_low(b, d);
    v[g + 3] = pairs_high(b, d);
  }
  // Vector 4g + j now has, in block l, column 4l + j of rows 4g to 4g + 3.
#pragma GCC unroll 4
  for (size_t j = 0; j < 4; j++) transpose_blocks(v, j, 4);
}

inline void transpose_square(F (&v)[kLanes / 2], uint64_t) {
#pragma GCC unroll 8
  for (size_t g = 0; g < kLanes / 2; g += 2) {
    const F a = v[g], b = v[g + 1];
    v[g] = pairs_low(a, b);
    v[g + 1] = pairs_high(a, b);
  }
#pragma GCC unroll 2
  for (size_t j = 0; j < 2; j++) transpose_blocks(v, j, 2);
}

}  // namespace
}  // namespace cloister
