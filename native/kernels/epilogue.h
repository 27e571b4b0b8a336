// The epilogue on vectors: y = act(x).
#pragma once
#include "kernels.h"
#include "simd.h"

namespace cloister {
namespace {

inline F activate(F v, const Epilogue& e) {
  if (e.activation == kActRelu) return relu(v);
  if (e.activation == kActClip) return clip(v, broadcast(e.lo), broadcast(e.hi));
  return v;
}

}  // namespace
}  // namespace cloister
