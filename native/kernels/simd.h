// The vectors of one row: one type F of kLanes floats, one type I of as many ints, and what the kernels do with them.
//
// Arithmetic, comparisons (a lane of all ones or zeros in I) and `mask ? a : b` are the operators of the compiler's
// vector extension; only what those lack is named here. Everything is in an unnamed namespace, and no standard header
// with inline code is included after this one, so that code made with one row's flags is never the copy that another
// file runs.
#pragma once
#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#else
#error "no SIMD row for this target"
#endif

namespace cloister {
namespace {

#if defined(__AVX512F__)

using F = __m512;
constexpr size_t kLanes = 16;
constexpr size_t kRegisters = 32;

inline __mmask16 first_lanes(size_t n) { return static_cast<__mmask16>((1u << n) - 1); }
// Masked forms with every lane on, where GCC 12 would warn that the unmasked ones read an undefined vector (its bug
// 105593).
constexpr __mmask16 kAll = 0xffff;
inline F load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, F v) { _mm512_storeu_ps(p, v); }
inline F load_first(const float* p, size_t n) { return _mm512_maskz_loadu_ps(first_lanes(n), p); }
inline void store_first(float* p, F v, size_t n) { _mm512_mask_storeu_ps(p, first_lanes(n), v); }
inline F broadcast(float v) { return _mm512_set1_ps(v); }
inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F square_root(F v) { return _mm512_maskz_sqrt_ps(kAll, v); }
inline F round_even(F v) { return _mm512_maskz_roundscale_ps(kAll, v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F floor_of(F v) { return _mm512_maskz_roundscale_ps(kAll, v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
inline F ceil_of(F v) { return _mm512_maskz_roundscale_ps(kAll, v, _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC); }
// The larger (smaller) of two; the second if either is NaN.
inline F max_second(F a, F b) { return _mm512_maskz_max_ps(kAll, a, b); }
inline F min_second(F a, F b) { return _mm512_maskz_min_ps(kAll, a, b); }
// v * 2^n for an integral n, rounded once, with gradual underflow.
inline F scale(F v, F n) { return _mm512_maskz_scalef_ps(kAll, v, n); }
// p[0], p[2], ... p[2 * kLanes - 2]; reads one element more.
inline F load_even(const float* p) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_permutex2var_ps(load(p), even, load(p + kLanes));
}
// Four floats from each of kLanes / 4 places.
inline F load_quads(const float* const* from) {
  const __m256 low = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from[0])), _mm_loadu_ps(from[1]), 1);
  const __m256 high = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from[2])), _mm_loadu_ps(from[3]), 1);
  return _mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
}
// Of four floats from each operand, the first (last) two, alternating.
inline F zip_low(F a, F b) { return _mm512_maskz_unpacklo_ps(kAll, a, b); }
inline F zip_high(F a, F b) { return _mm512_maskz_unpackhi_ps(kAll, a, b); }

#elif defined(__AVX2__)

using F = __m256;
constexpr size_t kLanes = 8;
constexpr size_t kRegisters = 16;

const int32_t kFirstLanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
inline __m256i first_lanes(size_t n) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kFirstLanes + kLanes - n));
}
inline F load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, F v) { _mm256_storeu_ps(p, v); }
inline F load_first(const float* p, size_t n) { return _mm256_maskload_ps(p, first_lanes(n)); }
inline void store_first(float* p, F v, size_t n) { _mm256_maskstore_ps(p, first_lanes(n), v); }
inline F broadcast(float v) { return _mm256_set1_ps(v); }
inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F square_root(F v) { return _mm256_sqrt_ps(v); }
inline F round_even(F v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F floor_of(F v) { return _mm256_floor_ps(v); }
inline F ceil_of(F v) { return _mm256_ceil_ps(v); }
inline F max_second(F a, F b) { return _mm256_max_ps(a, b); }
inline F min_second(F a, F b) { return _mm256_min_ps(a, b); }
inline F load_even(const float* p) {
  const F pairs = _mm256_shuffle_ps(load(p), load(p + kLanes), _MM_SHUFFLE(2, 0, 2, 0));
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(pairs), _MM_SHUFFLE(3, 1, 2, 0)));
}
inline F load_quads(const float* const* from) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from[0])), _mm_loadu_ps(from[1]), 1);
}
inline F zip_low(F a, F b) { return _mm256_unpacklo_ps(a, b); }
inline F zip_high(F a, F b) { return _mm256_unpackhi_ps(a, b); }

#else

using F = float32x4_t;
constexpr size_t kLanes = 4;
constexpr size_t kRegisters = 32;

inline F load(const float* p) { return vld1q_f32(p); }
inline void store(float* p, F v) { vst1q_f32(p, v); }
inline F load_first(const float* p, size_t n) {
  F v = vdupq_n_f32(0);
  for (size_t i = 0; i < n; i++) v[i] = p[i];
  return v;
}
inline void store_first(float* p, F v, size_t n) {
  for (size_t i = 0; i < n; i++) p[i] = v[i];
}
inline F broadcast(float v) { return vdupq_n_f32(v); }
inline F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
inline F square_root(F v) { return vsqrtq_f32(v); }
inline F round_even(F v) { return vrndnq_f32(v); }
inline F floor_of(F v) { return vrndmq_f32(v); }
inline F ceil_of(F v) { return vrndpq_f32(v); }
// NEON's own maximum is NaN when either operand is; that serves every caller of max_second.
inline F max_second(F a, F b) { return vmaxq_f32(a, b); }
inline F min_second(F a, F b) { return vminq_f32(a, b); }
inline F load_even(const float* p) { return vuzp1q_f32(load(p), load(p + kLanes)); }
inline F load_quads(const float* const* from) { return vld1q_f32(from[0]); }
inline F zip_low(F a, F b) { return vzip1q_f32(a, b); }
inline F zip_high(F a, F b) { return vzip2q_f32(a, b); }

#endif

typedef int32_t I __attribute__((vector_size(kLanes * sizeof(float))));
typedef uint32_t U __attribute__((vector_size(kLanes * sizeof(float))));  // for sums that may wrap

inline I bits(F v) { return (I)v; }
inline F from_bits(I v) { return (F)v; }
inline I each(int32_t v) { return (I){} + v; }
inline I to_int(F v) { return __builtin_convertvector(v, I); }
inline F to_float(I v) { return (F)__builtin_convertvector(v, F); }
inline F select(I mask, F a, F b) { return from_bits((mask & bits(a)) | (~mask & bits(b))); }
inline I is_nan(F v) { return (I)(v != v); }
inline F absolute(F v) { return from_bits(bits(v) & each(0x7fffffff)); }
inline F sign_of(F v) { return from_bits(bits(v) & each(INT32_MIN)); }
inline F copy_sign(F magnitude, F sign) { return from_bits(bits(magnitude) | bits(sign_of(sign))); }

#if !defined(__AVX512F__)
// v * 2^n for an integral |n| <= 300: in two halves, of which only the last can leave the normal range.
inline F scale(F v, F n) {
  const I whole = to_int(n), half = whole >> 1;
  return v * from_bits((half + 127) << 23) * from_bits((whole - half + 127) << 23);
}
#endif

// The larger (smaller) of two, NaN if either is.
inline F max_nan(F a, F b) { return select(is_nan(a), a, max_second(a, b)); }
inline F min_nan(F a, F b) { return select(is_nan(a), a, min_second(a, b)); }
// A NaN passes through both.
inline F relu(F v) { return max_second(broadcast(0), v); }
inline F clip(F v, F lo, F hi) { return min_second(hi, max_second(lo, v)); }

inline F load_up_to(const float* p, size_t n) { return n >= kLanes ? load(p) : load_first(p, n); }
inline void store_up_to(float* p, F v, size_t n) { n >= kLanes ? store(p, v) : store_first(p, v, n); }

inline float sum_lanes(F v) {
  float lanes[kLanes];
  store(lanes, v);
  for (size_t width = kLanes / 2; width > 0; width /= 2) {
    for (size_t i = 0; i < width; i++) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

// Transposes the squares of four by four floats that lie side by side in four vectors.
inline void transpose_quads(F (&v)[4]) {
  const F low = zip_low(v[0], v[2]), high = zip_high(v[0], v[2]);
  const F low_odd = zip_low(v[1], v[3]), high_odd = zip_high(v[1], v[3]);
  v[0] = zip_low(low, low_odd);
  v[1] = zip_high(low, low_odd);
  v[2] = zip_low(high, high_odd);
  v[3] = zip_high(high, high_odd);
}

// The lanes of `mask`, side by side from p on.
inline void store_chosen(float* p, F v, uint32_t mask) {
#if defined(__AVX512F__)
  store_first(p, _mm512_maskz_compress_ps(static_cast<__mmask16>(mask), v),
      static_cast<size_t>(__builtin_popcount(mask)));
#else
  float lanes[kLanes];
  store(lanes, v);
  for (; mask; mask &= mask - 1) *p++ = lanes[__builtin_ctz(mask)];
#endif
}

inline constexpr size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
inline constexpr size_t divide_up(size_t a, size_t b) { return (a + b - 1) / b; }

}  // namespace
}  // namespace cloister
