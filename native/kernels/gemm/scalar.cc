// The scalar matrix product, as its definition reads.
#include "../scalar.h"
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

size_t gemm_packed_elements(size_t k, size_t n) { return k * n; }

// Columns, one after another.
void gemm_pack_b(size_t k, size_t n, const float* b, size_t ldb, bool transposed, float* out) {
  for (size_t j = 0; j < n; j++) {
    for (size_t p = 0; p < k; p++) *out++ = transposed ? b[j * ldb + p] : b[p * ldb + j];
  }
}

size_t gemm_workspace_elements(size_t, size_t, size_t, GemmLayout) { return 0; }

void gemm_multiply(const GemmProduct& g, const GemmRange& range, float*) {
  const size_t a_row = g.a_transposed ? 1 : g.lda, a_depth = g.a_transposed ? g.lda : 1;
  const size_t b_column = g.layout == kGemmRows ? 1 : g.layout == kGemmPacked ? g.k : g.ldb;
  const size_t b_depth = g.layout == kGemmRows ? g.ldb : 1;
  for (size_t i = range.row; i < range.row + range.rows; i++) {
    for (size_t j = range.column; j < range.column + range.columns; j++) {
      float sum = 0;
      for (size_t p = 0; p < g.k; p++) sum += g.a[i * a_row + p * a_depth] * g.b[p * b_depth + j * b_column];
      sum *= g.alpha;
      if (g.epilogue.bias) sum += g.epilogue.bias[j];
      if (g.addend) sum += g.addend[i * g.addend_step + j];
      g.c[i * g.ldc + j] = activate(sum, g.epilogue);
    }
  }
}

}  // namespace

constinit const GemmKernels gemm = {1, 1, 1, gemm_packed_elements, gemm_pack_b, gemm_workspace_elements, gemm_multiply};

}  // namespace cloister::CLOISTER_ROW
