// Sums, maxima and minima of rows and of the lanes of a vector.
//
// Sums of blocks of kTerms terms are added to a total, so that the error of a sum of n terms grows with
// kTerms + n / kTerms, not with n (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 4.2).
#pragma once
#include "simd.h"

namespace cloister {
namespace {

struct FoldSum {
  static float start() { return 0; }
  static F fold(F a, F b) { return a + b; }
};
struct FoldProduct {
  static float start() { return 1; }
  static F fold(F a, F b) { return a * b; }
};
struct FoldMax {
  static float start() { return -__builtin_inff(); }
  static F fold(F a, F b) { return max_nan(a, b); }
};
struct FoldMin {
  static float start() { return __builtin_inff(); }
  static F fold(F a, F b) { return min_nan(a, b); }
};

// A maximum that may lose a NaN.
struct FoldMaxLoose {
  static float start() { return -__builtin_inff(); }
  static F fold(F a, F b) { return max_second(a, b); }
};

constexpr size_t kTerms = 64;

// Lane i of the result is lane i ^ kWidth of v, for kWidth < kLanes a power of two.
template <size_t kWidth>
inline F swap_lanes(F v) {
#if defined(__AVX512F__)
  if constexpr (kWidth == 8) return _mm512_maskz_shuffle_f32x4(kAll, v, v, 0x4e);
  if constexpr (kWidth == 4) return _mm512_maskz_shuffle_f32x4(kAll, v, v, 0xb1);
  if constexpr (kWidth == 2) return _mm512_maskz_permute_ps(kAll, v, 0x4e);
  return _mm512_maskz_permute_ps(kAll, v, 0xb1);
#elif defined(__AVX2__)
  if constexpr (kWidth == 4) return _mm256_permute2f128_ps(v, v, 1);
  if constexpr (kWidth == 2) return _mm256_permute_ps(v, 0x4e);
  return _mm256_permute_ps(v, 0xb1);
#else
  if constexpr (kWidth == 2) return vextq_f32(v, v, 2);
  return vrev64q_f32(v);
#endif
}

// The fold of all lanes, in each lane: lane i with lane i + kLanes / 2 first, neighbours last.
template <typename Fold>
inline F fold_lanes(F v) {
  if constexpr (kLanes == 16) v = Fold::fold(v, swap_lanes<8 % kLanes>(v));
  if constexpr (kLanes >= 8) v = Fold::fold(v, swap_lanes<4 % kLanes>(v));
  v = Fold::fold(v, swap_lanes<2>(v));
  return Fold::fold(v, swap_lanes<1>(v));
}

inline float first_lane(F v) {
  float lanes[kLanes];
  store(lanes, v);
  return lanes[0];
}

// `width` lanes of v, the others those that do not count.
template <typename Fold>
inline F only_first(F v, size_t width) {
#if defined(__AVX512F__)
  return _mm512_mask_mov_ps(broadcast(Fold::start()), first_lanes(width), v);
#elif defined(__AVX2__)
  return _mm256_blendv_ps(broadcast(Fold::start()), v, _mm256_castsi256_ps(first_lanes(width)));
#else
  for (size_t i = width; i < kLanes; i++) v[i] = Fold::start();
  return v;
#endif
}

// The lanes whose fold is the fold of a row, each element taken through `map`.
template <typename Fold, typename Map>
inline F fold_row(size_t n, const float* x, Map map) {
  F total = broadcast(Fold::start());
  size_t i = 0;
  while (i + 4 * kLanes <= n) {
    F part[4];
    for (F& p : part) p = broadcast(Fold::start());
    for (size_t step = 0; step < kTerms && i + 4 * kLanes <= n; step++, i += 4 * kLanes) {
#pragma GCC unroll 4
      for (size_t j = 0; j < 4; j++) part[j] = Fold::fold(part[j], map(load(x + i + j * kLanes)));
    }
    total = Fold::fold(total, Fold::fold(Fold::fold(part[0], part[1]), Fold::fold(part[2], part[3])));
  }
  for (; i + kLanes <= n; i += kLanes) total = Fold::fold(total, map(load(x + i)));
  if (i < n) total = Fold::fold(total, only_first<Fold>(map(load_first(x + i, n - i)), n - i));
  return total;
}

template <typename Fold>
inline F fold_row(size_t n, const float* x) {
  return fold_row<Fold>(n, x, [](F v) { return v; });
}

}  // namespace
}  // namespace cloister
