// The kernel table: what every row of the dispatch table (scalar, avx2, avx512, neon) provides.
//
// Kernels are pure functions. They allocate nothing, keep no state, cannot fail, and touch only the memory that their
// arguments describe. They check nothing: the executor verified every size before it calls (executor/INVARIANTS.md).
// All tensors are dense, row-major, little-endian f32 unless said otherwise. Sizes are in elements.
//
// Accuracy, of every row: a sum of k products (gemm, conv) is within g * sum|a*b| of the exact one, where g =
// k*u/(1-k*u) and u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 3.1), with k one more
// where there is a bias; exp, log, tanh, sigmoid, erf, both forms of gelu, swish, softplus, elu and mish are within 2 ulp,
// where an ulp is never less than 2^-149; the arithmetic operators, sqrt, floor and ceil are rounded once. NaN goes through
// everything, activations, clip, min, max and pooling included, but for thresholds, which it is not above. Which zero comes
// of min or max of two is left open, and whether a zero or NaN comes of gelu, swish and mish at -infinity.
//
// A convolution in blocks with a 3x3 kernel, a stride of 1 and one group may go through a transformed domain, in tiles of
// m x m outputs (m = 2 or 4; blocked/simd.cc says when, which depends on its sizes alone). It is then within
// (c + 20) u * A * S of the exact one, where c is the number of input channels, S the sum over them of max|x| * max|w| with x in
// the (m + 2)^2 inputs of the tile, and A = 64 for m = 2, 751 for m = 4: the transforms' sums of magnitudes, squared. On random
// data that is far from sharp: with 144 to 2304 products the error stayed below 12 u * sum|a*b|, a direct sum's below 6. A NaN
// or an infinity makes NaN of every output of the tiles that read it, not only of those whose windows hold it.
#pragma once
#include "attention/table.h"
#include "blocked/table.h"
#include "conv/table.h"
#include "convert/table.h"
#include "copy/table.h"
#include "elementwise/table.h"
#include "gather/table.h"
#include "gemm/table.h"
#include "integer/table.h"
#include "norm/table.h"
#include "int8/table.h"
#include "pool/table.h"
#include "recurrent/table.h"
#include "reduce/table.h"
#include "trees/table.h"

namespace cloister {

// One row of the dispatch table: a table of functions for each family of kernels.
struct Kernels {
  const char* isa;
  const GemmKernels& gemm;
  const ConvKernels& conv;
  const BlockedKernels& blocked;
  const PoolKernels& pool;
  const ElementwiseKernels& elementwise;
  const ReduceKernels& reduce;
  const CopyKernels& copy;
  const AttentionKernels& attention;
  const RecurrentKernels& recurrent;
  const TreeKernels& trees;
  const NormKernels& norm;
  const ConvertKernels& conversion;
  const IntegerKernels& integer;
  const GatherKernels& gather;
  const Int8Kernels& int8;
};

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
