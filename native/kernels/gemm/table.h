// Matrix products of f32.
#pragma once
#include "../types.h"

namespace cloister {

// How B lies in memory.
enum GemmLayout : uint32_t {
  kGemmRows,     // k x n, row-major: element (p, j) at p * ldb + j
  kGemmColumns,  // n x k, row-major, so transposed: element (p, j) at j * ldb + p
  kGemmPacked,   // as pack_b made it
};

// C[i][j] = act(alpha * sum_p A[i][p] * B[p][j] + bias[j] + addend[i][j]), of m x n. m, n, k >= 1.
struct GemmProduct {
  size_t m, n, k;
  const float* a;
  size_t lda;         // >= k; >= m when transposed
  bool a_transposed;  // A is stored k x m
  GemmLayout layout;
  const float* b;
  size_t ldb;  // >= n of rows, >= k of columns; unused when packed
  float* c;
  size_t ldc;  // >= n
  const float* addend;  // null: none
  size_t addend_step;   // from row to row; 0 repeats one row
  float alpha;
  Epilogue epilogue;  // bias: one per column
};

// A part of C.
struct GemmRange {
  size_t row, rows, column, columns;
};

struct GemmKernels {
  uint32_t rows, panel;  // the sides of a tile; columns of a range begin at a multiple of `panel`
  uint32_t few;          // products of at most so many rows or columns are computed from memory, without packing

  // B (k x n, or n x k when transposed) in this row's own layout.
  size_t (*packed_elements)(size_t k, size_t n);
  void (*pack_b)(size_t k, size_t n, const float* b, size_t ldb, bool transposed, float* out);
  // Computes the range of C, which is not empty. What an element comes to depends on the product alone, never on the
  // range that it is computed in. C overlaps nothing. workspace: workspace_elements(m, n, k, layout) floats, with the
  // m, n and k of the product, 64-byte aligned, may be anything before and after.
  size_t (*workspace_elements)(size_t m, size_t n, size_t k, GemmLayout layout);
  void (*multiply)(const GemmProduct& product, const GemmRange& range, float* workspace);
};

}  // namespace cloister
