// What several scalar kernels share. The scalar row is the oracle of the others and runs on any CPU: each kernel reads
// as its definition, and transcendental functions are evaluated in double and rounded once.
#pragma once
#include "kernels.h"

namespace cloister {
namespace {

inline float activate(float v, const Epilogue& e) {
  // A NaN fails both comparisons and passes through.
  if (e.activation == kActRelu) return v < 0 ? 0 : v;
  if (e.activation == kActClip) return v < e.lo ? e.lo : v > e.hi ? e.hi : v;
  return v;
}

// The larger (smaller) of two, NaN if either is.
inline float max_of(float a, float b) { return a != a ? a : b < a ? a : b; }
inline float min_of(float a, float b) { return a != a ? a : b > a ? a : b; }

}  // namespace
}  // namespace cloister
