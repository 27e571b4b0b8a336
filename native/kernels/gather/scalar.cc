// Gathering, as its definition reads.
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

size_t place_of(const void* indices, bool wide, size_t i, size_t n, size_t* outside) {
  int64_t index = wide ? static_cast<const int64_t*>(indices)[i] : static_cast<const int32_t*>(indices)[i];
  if (index < 0) index += static_cast<int64_t>(n);
  if (index >= 0 && static_cast<uint64_t>(index) < n) return static_cast<size_t>(index);
  ++*outside;
  return 0;
}

size_t rows(const Gather& g, size_t first, size_t last) {
  size_t outside = 0;
  for (size_t at = first; at < last; at++) {
    const size_t place = place_of(g.indices, g.wide, at % g.count, g.n, &outside);
    __builtin_memcpy(static_cast<char*>(g.y) + at * g.inner_bytes,
        static_cast<const char*>(g.x) + (at / g.count * g.n + place) * g.inner_bytes, g.inner_bytes);
  }
  return outside;
}

size_t elements(const GatherElements& g) {
  size_t outside = 0, count = 1;
  for (uint32_t d = 0; d < g.rank; d++) count *= g.y_dims[d];
  for (size_t at = 0; at < count; at++) {
    const size_t place = place_of(g.indices, g.wide, at, g.x_dims[g.axis], &outside);
    size_t from = 0, step = 1, rest = at;
    for (uint32_t d = g.rank; d-- > 0; step *= g.x_dims[d], rest /= g.y_dims[d]) {
      from += (d == g.axis ? place : rest % g.y_dims[d]) * step;
    }
    __builtin_memcpy(static_cast<char*>(g.y) + at * g.element_bytes,
        static_cast<const char*>(g.x) + from * g.element_bytes, g.element_bytes);
  }
  return outside;
}

}  // namespace

constinit const GatherKernels gather = {rows, elements};

}  // namespace cloister::CLOISTER_ROW
