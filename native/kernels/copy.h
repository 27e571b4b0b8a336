// Strided copies: transpose, expand, slice. Elements are moved as integers of their size.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace cloister {
namespace {

struct CopyDim {
  size_t size;
  int64_t stride;  // of the source, in elements
  size_t step;     // of the result, in elements
};

// rows x columns, read across at `across` (any stride) and down at `down`, written at `step` per row and 1 per column.
// In squares, so that a line of the source which serves several rows is still in cache for each.
template <typename T>
inline void copy_plane(size_t rows, size_t columns, const T* x, int64_t down, int64_t across, T* y, size_t step) {
  constexpr size_t kSquare = 16;
  for (size_t r0 = 0; r0 < rows; r0 += kSquare) {
    for (size_t c0 = 0; c0 < columns; c0 += kSquare) {
      const size_t r1 = smaller(r0 + kSquare, rows), c1 = smaller(c0 + kSquare, columns);
      for (size_t r = r0; r < r1; r++) {
        const T* from = x + static_cast<int64_t>(r) * down;
        T* to = y + r * step;
        for (size_t c = c0; c < c1; c++) to[c] = from[static_cast<int64_t>(c) * across];
      }
    }
  }
}

template <typename T>
inline void copy_row(size_t count, const T* x, int64_t stride, T* y) {
  if (stride == 1) {
    __builtin_memcpy(y, x, count * sizeof(T));
  } else {
    for (size_t i = 0; i < count; i++) y[i] = x[static_cast<int64_t>(i) * stride];
  }
}

template <typename T>
void copy_elements(size_t rank, const uint32_t* dims, const int64_t* strides, const T* x, T* y) {
  // Neighbours that can be walked as one are; dimensions of one element go.
  CopyDim merged[kMaxRank];
  size_t count = 0;
  for (size_t d = 0; d < rank; d++) {
    if (dims[d] == 1) continue;
    if (count > 0 && merged[count - 1].stride == strides[d] * static_cast<int64_t>(dims[d])) {
      merged[count - 1].size *= dims[d];
      merged[count - 1].stride = strides[d];
    } else {
      merged[count++] = {dims[d], strides[d], 0};
    }
  }
  if (count == 0) merged[count++] = {1, 1, 0};
  size_t step = 1;
  for (size_t d = count; d-- > 0;) {
    merged[d].step = step;
    step *= merged[d].size;
  }
  const CopyDim columns = merged[--count];
  // The rows of a transposition: the dimension along which the source is contiguous.
  CopyDim rows{1, 0, 0};
  if (columns.stride != 1 && columns.stride != 0) {
    for (size_t d = 0; d < count; d++) {
      if (merged[d].stride != 1) continue;
      rows = merged[d];
      for (count--; d < count; d++) merged[d] = merged[d + 1];
    }
  }
  size_t index[kMaxRank] = {};
  for (;;) {
    if (rows.size > 1) {
      copy_plane(rows.size, columns.size, x, rows.stride, columns.stride, y, rows.step);
    } else {
      copy_row(columns.size, x, columns.stride, y);
    }
    size_t d = count;
    for (;; d--) {
      if (d == 0) return;
      CopyDim& dim = merged[d - 1];
      x += dim.stride;
      y += dim.step;
      if (++index[d - 1] < dim.size) break;
      x -= dim.stride * static_cast<int64_t>(dim.size);
      y -= dim.step * dim.size;
      index[d - 1] = 0;
    }
  }
}

void copy_strided(size_t rank, const uint32_t* dims, const int64_t* strides, size_t element_bytes, const void* x,
    void* y) {
  switch (element_bytes) {
    case 1: return copy_elements(rank, dims, strides, static_cast<const uint8_t*>(x), static_cast<uint8_t*>(y));
    case 2: return copy_elements(rank, dims, strides, static_cast<const uint16_t*>(x), static_cast<uint16_t*>(y));
    case 4: return copy_elements(rank, dims, strides, static_cast<const uint32_t*>(x), static_cast<uint32_t*>(y));
    default: return copy_elements(rank, dims, strides, static_cast<const uint64_t*>(x), static_cast<uint64_t*>(y));
  }
}

}  // namespace
}  // namespace cloister
