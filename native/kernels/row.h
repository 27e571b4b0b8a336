// The tables that each family defines in the namespace of its row. The build compiles a family's `simd.cc` once per row,
// with the row's flags and CLOISTER_ROW as its name; `scalar.cc` is the row `scalar`.
#pragma once
#include "kernels.h"

#if !defined(CLOISTER_ROW)
#define CLOISTER_ROW scalar
#endif

// What one row defines.
#define CLOISTER_DECLARE_ROW(row)                \
  namespace cloister::row {                      \
  extern const GemmKernels gemm;                 \
  extern const ConvKernels conv;                 \
  extern const BlockedKernels blocked;           \
  extern const PoolKernels pool;                 \
  extern const ElementwiseKernels elementwise;   \
  extern const ReduceKernels reduce;             \
  extern const CopyKernels copy;                 \
  extern const AttentionKernels attention;       \
  extern const RecurrentKernels recurrent;       \
  extern const TreeKernels trees;                \
  extern const NormKernels norm;                 \
  extern const ConvertKernels conversion;        \
  extern const IntegerKernels integer;           \
  extern const GatherKernels gather;             \
  extern const Int8Kernels int8;                 \
  }

CLOISTER_DECLARE_ROW(scalar)
#if defined(__x86_64__) || defined(_M_X64)
CLOISTER_DECLARE_ROW(avx2)
CLOISTER_DECLARE_ROW(avx512)
// The families that VNNI instructions make faster; the others are those of avx512.
namespace cloister::avx512vnni {
extern const Int8Kernels int8;
}
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
CLOISTER_DECLARE_ROW(neon)
#endif
