// OpenBLAS, where the machine has it: opened while the process runs, never linked. A library that was opened stays to
// the end of the process, for it may have threads of its own.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace cloister {

// The entry points of one library. Those that are only of some builds may be null.
struct OpenBlas {
  void (*sgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float* a, int lda,
                const float* b, int ldb, float beta, float* c, int ldc) = nullptr;
  void (*set_threads)(int) = nullptr;
  std::string path;    // of the file, as the loader found it
  std::string config;  // what the library says of its build; may be empty
  std::string core;    // whose kernels it runs; may be empty
};

// What came of opening a library: `blas` unless `why` says what is wrong; `found` is whether there was a library at all.
struct OpenedBlas {
  const OpenBlas* blas = nullptr;
  bool found = false;
  std::string why;
};

// Opens `name`, a path or what the loader looks for in its usual places; `threads` is what the library may use.
// It is taken only with 32-bit integers and if it computes a small product as it should. Of any thread.
OpenedBlas open_blas(const char* name, int threads);

// C = alpha * op(A) * op(B) + beta * C, row-major f32: op(A) is m x k, op(B) is k x n, C is m x n, and op is the
// transpose where its flag is set. Leading dimensions and offsets count elements.
struct BlasProduct {
  double m, n, k;
  bool transpose_a, transpose_b;
  double offset_a, lda, offset_b, ldb, offset_c, ldc;
  float alpha, beta;
};

struct BlasBlock {
  float* data;
  size_t length;  // elements
};

// Checks every size against the 32-bit integers of the interface and against the blocks, then calls the library.
// Null, or what is wrong, with nothing computed.
const char* multiply(const OpenBlas& blas, const BlasProduct& product, BlasBlock a, BlasBlock b, BlasBlock c);

}  // namespace cloister
