// Gathering. The one family whose addresses depend on data: each index is compared with its axis before it is used.
#include "../row.h"
#include "../simd.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

// The index as one from 0; `*outside` counts those that are none.
inline size_t place_of(const void* indices, bool wide, size_t i, size_t n, size_t* outside) {
  const int64_t given = wide ? static_cast<const int64_t*>(indices)[i] : static_cast<const int32_t*>(indices)[i];
  const uint64_t index = static_cast<uint64_t>(given < 0 ? given + static_cast<int64_t>(n) : given);
  const bool inside = index < n;
  *outside += !inside;
  // By arithmetic, not by a branch: a processor that guesses would read outside first and be told later.
  return static_cast<size_t>(index & (uint64_t{0} - inside));
}

inline void copy_bytes(size_t bytes, const char* x, char* y) {
  constexpr size_t kVector = kLanes * sizeof(float), kSmall = 2048;
  if (bytes < kVector || bytes > kSmall) {
    __builtin_memcpy(y, x, bytes);
    return;
  }
  const auto move = [=](size_t at) { store(reinterpret_cast<float*>(y + at), load(reinterpret_cast<const float*>(x + at))); };
  for (size_t at = 0; at + kVector < bytes; at += kVector) move(at);
  move(bytes - kVector);
}

template <typename T>
inline size_t gather_small(const Gather& g, size_t first, size_t last) {
  size_t outside = 0, o = first / g.count, j = first % g.count;
  const T* x = static_cast<const T*>(g.x) + o * g.n;
  T* const y = static_cast<T*>(g.y);
  for (size_t at = first; at < last; at++) {
    y[at] = x[place_of(g.indices, g.wide, j, g.n, &outside)];
    if (++j == g.count) j = 0, x += g.n;
  }
  return outside;
}

size_t rows(const Gather& g, size_t first, size_t last) {
  if (g.inner_bytes == 4) return gather_small<uint32_t>(g, first, last);
  if (g.inner_bytes == 8) return gather_small<uint64_t>(g, first, last);
  size_t outside = 0, o = first / g.count, j = first % g.count;
  for (size_t at = first; at < last; at++) {
    const size_t place = place_of(g.indices, g.wide, j, g.n, &outside);
    copy_bytes(g.inner_bytes, static_cast<const char*>(g.x) + (o * g.n + place) * g.inner_bytes,
        static_cast<char*>(g.y) + at * g.inner_bytes);
    if (++j == g.count) j = 0, o++;
  }
  return outside;
}

template <typename T>
inline size_t gather_elements(const GatherElements& g) {
  size_t strides[kMaxRank], index[kMaxRank] = {}, step = 1, outside = 0, base = 0;
  for (uint32_t d = g.rank; d-- > 0;) {
    strides[d] = step;
    step *= g.x_dims[d];
  }
  const T* const x = static_cast<const T*>(g.x);
  T* const y = static_cast<T*>(g.y);
  const size_t n = g.x_dims[g.axis], along = strides[g.axis];
  strides[g.axis] = 0;  // the index says how far along it
  for (size_t at = 0;; at++) {
    y[at] = x[base + place_of(g.indices, g.wide, at, n, &outside) * along];
    uint32_t d = g.rank;
    for (;; d--) {
      if (d == 0) return outside;
      base += strides[d - 1];
      if (++index[d - 1] < g.y_dims[d - 1]) break;
      base -= strides[d - 1] * g.y_dims[d - 1];
      index[d - 1] = 0;
    }
  }
}

size_t elements(const GatherElements& g) {
  switch (g.element_bytes) {
    case 1: return gather_elements<uint8_t>(g);
    case 2: return gather_elements<uint16_t>(g);
    case 4: return gather_elements<uint32_t>(g);
    default: return gather_elements<uint64_t>(g);
  }
}

}  // namespace

constinit const GatherKernels gather = {rows, elements};

}  // namespace cloister::CLOISTER_ROW
