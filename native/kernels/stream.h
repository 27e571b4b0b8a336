// Stores that pass the caches by, for results which are far larger than they are and which no step reads next: memory
// is then written without being read first. Whoever streams calls `stream_end` before it returns.
#pragma once
#include "simd.h"

namespace cloister {
namespace {

constexpr size_t kLineBytes = 64;
constexpr size_t kVectorBytes = kLanes * sizeof(float);

inline size_t floats_to_line(const float* p) {
  return (kLineBytes - reinterpret_cast<uintptr_t>(p) % kLineBytes) % kLineBytes / sizeof(float);
}

// p is a multiple of kVectorBytes.
inline void stream(float* p, F v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, v);
#elif defined(__AVX2__)
  _mm256_stream_ps(p, v);
#else
  store(p, v);
#endif
}

inline void stream_end() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

template <bool kStream>
inline void put(float* p, F v) {
  if constexpr (kStream) {
    stream(p, v);
  } else {
    store(p, v);
  }
}

}  // namespace
}  // namespace cloister
