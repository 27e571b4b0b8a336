// The kernel table: what every row of the dispatch table (scalar, avx2, avx512, neon) provides.
//
// Kernels are pure functions. They allocate nothing, keep no state, cannot fail, and touch only the memory that their
// arguments describe. They check nothing: the executor verified every size before it calls (executor/INVARIANTS.md).
// All tensors are dense, row-major, little-endian f32 unless said otherwise. Sizes are in elements.
//
// Accuracy, of every row: a sum of k products (gemm, conv) is within g * sum|a*b| of the exact one, where g =
// k*u/(1-k*u) and u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 3.1), with k one more
// where there is a bias; exp, log, tanh, sigmoid and erf are within 2 ulp; the arithmetic operators, sqrt, floor and
// ceil are rounded once. NaN goes through everything, activations, clip, min, max and pooling included. Which zero
// comes of min or max of two is left open.
#pragma once
#include <cstddef>
#include <cstdint>

namespace cloister {

// What a GEMM or convolution does to each result before it stores it: y = act(x + bias).
enum Activation : uint32_t { kActNone = 0, kActRelu = 1, kActClip = 2, kActCount = 3 };

struct Epilogue {
  const float* bias;      // null: none. GEMM: one per column (n). Convolution: one per output channel.
  Activation activation;  // kActClip clamps to [lo, hi]
  float lo, hi;
};

// Geometry of a 2-D convolution or pooling over NCHW. 1-D work has in_h = out_h = kernel_h = 1.
struct Window {
  uint32_t batch, in_c, in_h, in_w;
  uint32_t out_c, out_h, out_w;  // pooling: out_c == in_c
  uint32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
  uint32_t pad_top, pad_left;    // bottom and right padding follow from out_h, out_w
  uint32_t groups;               // divides in_c and out_c; 1 for pooling
};

constexpr size_t kMaxRank = 8;

enum UnaryOp : uint32_t {
  kRelu, kNeg, kAbs, kSqrt, kExp, kLog, kTanh, kSigmoid, kErf, kFloor, kCeil, kReciprocal,
  kClip,       // clamps to [p0, p1]
  kLeakyRelu,  // x < 0 ? p0 * x : x
  kUnaryOpCount
};
enum BinaryOp : uint32_t { kAdd, kSub, kMul, kDiv, kMin, kMax, kPow, kBinaryOpCount };
enum ReduceOp : uint32_t { kReduceSum, kReduceMean, kReduceMax, kReduceMin, kReduceOpCount };
enum PoolOp : uint32_t { kPoolMax, kPoolAverage, kPoolAverageIncludePad, kPoolOpCount };

struct Kernels {
  const char* isa;
  uint32_t gemm_panel;  // NR: columns of one packed panel

  // B (k x n, or n x k when transposed) -> panels of gemm_panel columns, k-major, the last padded with zeros.
  size_t (*gemm_packed_elements)(size_t k, size_t n);
  void (*gemm_pack_b)(size_t k, size_t n, const float* b, size_t ldb, bool transposed, float* out);
  // C[m][n] = act(sum_p A[m][p] * B[p][n] + bias[n]); A is m x k with lda >= k (or k x m when a_transposed, lda >= m);
  // B packed. workspace: gemm_workspace_elements(m, n, k) floats, 64-byte aligned, may be anything before and after.
  size_t (*gemm_workspace_elements)(size_t m, size_t n, size_t k);
  void (*gemm)(size_t m, size_t n, size_t k, const float* a, size_t lda, bool a_transposed, const float* b_packed,
               float* c, size_t ldc, const Epilogue& epilogue, float* workspace);

  // Weights OIHW -> the row's own layout.
  size_t (*conv_packed_elements)(const Window& w);
  void (*conv_pack)(const Window& w, const float* weights, float* out);
  size_t (*conv_workspace_elements)(const Window& w);
  void (*conv)(const Window& w, const float* x, const float* weights_packed, float* y, const Epilogue& epilogue,
               float* workspace);

  // Padding never wins a max and, but for IncludePad, is not counted in an average.
  void (*pool)(const Window& w, PoolOp op, const float* x, float* y);

  void (*unary)(UnaryOp op, size_t count, const float* x, float* y, float p0, float p1);  // y may be x
  // Broadcast over `rank` output dims; a stride of 0 repeats. Strides in elements. y dense; y may be a or b when that
  // operand is dense and of y's shape.
  void (*binary)(BinaryOp op, size_t rank, const uint32_t* dims, const float* a, const uint32_t* a_strides,
                 const float* b, const uint32_t* b_strides, float* y);

  // x and y are outer x n x inner; the middle axis is normalised (y may be x) ...
  void (*softmax)(size_t outer, size_t n, size_t inner, bool log, const float* x, float* y);
  // ... or reduced away: y is outer x inner.
  void (*reduce)(ReduceOp op, size_t outer, size_t n, size_t inner, const float* x, float* y);

  // y (dense, of `dims`) = x read at `strides` (elements, 0 repeats) from its first element: transpose, expand, slice.
  // Works on any element of `element_bytes` in {1, 2, 4, 8}.
  void (*copy_strided)(size_t rank, const uint32_t* dims, const int64_t* strides, size_t element_bytes,
      const void* x, void* y);
};

// The rows that this binary has, best first; scalar is always last and always present.
extern const Kernels kScalarKernels;
#if defined(__x86_64__) || defined(_M_X64)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
extern const Kernels kNeonKernels;
#endif

// The row that runs: the best one this CPU supports, or the one that force_isa names (the loader passes CLOISTER_ISA
// on). Packed operands belong to the row that packed them: whoever keeps some keeps the row as well.
const Kernels& kernels() noexcept;
// Forces a row by name; null or empty returns to the best. False, and no change, if the CPU or the build lacks it.
bool force_isa(const char* name) noexcept;
// All rows this CPU can run, best first; returns their number.
size_t supported_kernels(const Kernels* const** rows) noexcept;
// What this CPU has of the features that rows ask for, separated by spaces.
const char* cpu_features() noexcept;

}  // namespace cloister
