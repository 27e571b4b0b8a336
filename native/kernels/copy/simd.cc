// Strided copies: transpose, expand, slice. Elements are moved as integers of their size.
#include "../row.h"
#include "../stream.h"
#include "../square.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

struct CopyDim {
  size_t size;
  int64_t stride;  // of the source, in elements
  size_t step;     // of the result, in elements
};

// rows x columns of a plane, read across at `across` (any stride) and down at `down`, written at `step` per row and 1
// per column. In squares, so that a line of the source which serves several rows is still in cache for each.
template <typename T>
inline void copy_squares(size_t rows, size_t columns, const T* x, int64_t down, int64_t across, T* y, size_t step) {
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

// A transposition: down is 1. Whole squares go through registers, along the source, so that each of its lines is read
// once; what is left at the right and at the bottom goes one by one.
template <typename T, bool kStream>
inline void transpose_plane(size_t rows, size_t columns, const T* x, int64_t across, T* y, size_t step) {
  constexpr size_t kSide = kLanes * sizeof(float) / sizeof(T);
  // Streamed lines must be whole: the columns before the first aligned one go one by one.
  const size_t ahead = kStream ? floats_to_line(reinterpret_cast<float*>(y)) * sizeof(float) / sizeof(T) : 0;
  const size_t first = smaller(ahead, columns);
  // A line of the result is written whole before the next is begun: in AVX2 that is two squares side by side.
  constexpr size_t kLine = kSide * (kVectorBytes < kLineBytes ? kLineBytes / kVectorBytes : 1);
  const size_t last = first + (columns - first) / kLine * kLine, bottom = rows / kSide * kSide;
  if (first > 0) copy_squares(rows, first, x, 1, across, y, step);
  for (size_t c = first; c < last; c += kLine) {
    for (size_t r = 0; r < bottom; r += kSide) {
#pragma GCC unroll 2
      for (size_t half = c; half < c + kLine; half += kSide) {
        const T* const from = x + static_cast<int64_t>(half) * across + r;
        F v[kSide];
#pragma GCC unroll 16
        for (size_t i = 0; i < kSide; i++) {
          v[i] = load(reinterpret_cast<const float*>(from + static_cast<int64_t>(i) * across));
        }
        transpose_square(v, T());
#pragma GCC unroll 16
        for (size_t i = 0; i < kSide; i++) put<kStream>(reinterpret_cast<float*>(y + (r + i) * step + half), v[i]);
      }
    }
  }
  if (bottom < rows) {
    copy_squares(rows - bottom, last - first, x + static_cast<int64_t>(first) * across + bottom, 1, across,
        y + bottom * step + first, step);
  }
  if (last < columns) {
    copy_squares(rows, columns - last, x + static_cast<int64_t>(last) * across, 1, across, y + last, step);
  }
}

template <typename T>
inline void copy_plane(size_t rows, size_t columns, const T* x, int64_t across, T* y, size_t step, bool stream) {
  if constexpr (sizeof(T) >= 4) {
    // Rows that all start at the same place in a line.
    if (stream && step * sizeof(T) % kLineBytes == 0) {
      transpose_plane<T, true>(rows, columns, x, across, y, step);
    } else {
      transpose_plane<T, false>(rows, columns, x, across, y, step);
    }
  } else {
    copy_squares(rows, columns, x, 1, across, y, step);
  }
}

template <typename T>
inline void copy_row(size_t count, const T* x, int64_t stride, T* y) {
  if (stride == 1) {
    constexpr size_t kSmall = 512;  // bytes, below which a call costs more than it copies
    const size_t bytes = count * sizeof(T);
    if (bytes >= kVectorBytes && bytes <= kSmall) {
      // The last vector may write again what the one before it wrote: the same elements.
      const char* const from = reinterpret_cast<const char*>(x);
      char* const to = reinterpret_cast<char*>(y);
      const auto move = [=](size_t at) { store(reinterpret_cast<float*>(to + at), load(reinterpret_cast<const float*>(from + at))); };
      for (size_t at = 0; at + kVectorBytes < bytes; at += kVectorBytes) move(at);
      move(bytes - kVectorBytes);
    } else {
      __builtin_memcpy(y, x, bytes);
    }
  } else if (stride == 0) {
    const T value = *x;
    for (size_t i = 0; i < count; i++) y[i] = value;
  } else {
    for (size_t i = 0; i < count; i++) y[i] = x[static_cast<int64_t>(i) * stride];
  }
}

template <typename T>
void copy_elements(size_t rank, const uint32_t* dims, const int64_t* strides, const T* x, T* y, bool stream) {
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
      copy_plane(rows.size, columns.size, x, columns.stride, y, rows.step, stream);
    } else {
      copy_row(columns.size, x, columns.stride, y);
    }
    size_t d = count;
    for (;; d--) {
      if (d == 0) {
        if (stream) stream_end();
        return;
      }
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
    void* y, bool stream) {
  switch (element_bytes) {
    case 1: return copy_elements(rank, dims, strides, static_cast<const uint8_t*>(x), static_cast<uint8_t*>(y), stream);
    case 2: return copy_elements(rank, dims, strides, static_cast<const uint16_t*>(x), static_cast<uint16_t*>(y), stream);
    case 4: return copy_elements(rank, dims, strides, static_cast<const uint32_t*>(x), static_cast<uint32_t*>(y), stream);
    default: return copy_elements(rank, dims, strides, static_cast<const uint64_t*>(x), static_cast<uint64_t*>(y), stream);
  }
}

template <typename T>
void pad_rows(const Pad& p, size_t first, size_t last) {
  const uint32_t inner = p.rank - 1;
  const int64_t width = p.y_dims[inner], size = p.x_dims[inner], before = p.before[inner];
  // What of x stands in a row of y: [from, to) of y.
  const int64_t from = before < 0 ? 0 : before < width ? before : width;
  const int64_t end = before + size, to = end < from ? from : end < width ? end : width;
  const T value = *static_cast<const T*>(p.value);
  for (size_t row = first; row < last; row++) {
    T* const y = static_cast<T*>(p.y) + row * static_cast<size_t>(width);
    size_t rest = row;
    int64_t source = 0, step = 1;
    for (uint32_t d = inner; d-- > 0; step *= p.x_dims[d]) {
      const int64_t at = pad_source(static_cast<int64_t>(rest % p.y_dims[d]), p.before[d], p.x_dims[d], p.mode);
      rest /= p.y_dims[d];
      source = at < 0 || source < 0 ? -1 : source + at * step;
    }
    if (source < 0) {
      for (int64_t i = 0; i < width; i++) y[i] = value;
      continue;
    }
    const T* const x = static_cast<const T*>(p.x) + source * size;
    const auto fill = [&](int64_t i, int64_t stop) {
      for (; i < stop; i++) {
        const int64_t at = pad_source(i, before, size, p.mode);
        y[i] = at < 0 ? value : x[at];
      }
    };
    fill(0, from);
    if (to > from) copy_row(static_cast<size_t>(to - from), x + (from - before), 1, y + from);
    fill(to, width);
  }
}

void pad(const Pad& p, size_t first, size_t last) {
  switch (p.element_bytes) {
    case 1: return pad_rows<uint8_t>(p, first, last);
    case 2: return pad_rows<uint16_t>(p, first, last);
    case 4: return pad_rows<uint32_t>(p, first, last);
    default: return pad_rows<uint64_t>(p, first, last);
  }
}

}  // namespace

constinit const CopyKernels copy = {copy_strided, pad};

}  // namespace cloister::CLOISTER_ROW
