// All kernels, made for the vectors of simd.h: included once by each row's file, which its ISA's flags compile.
#pragma once
#include "conv.h"
#include "copy.h"
#include "elementwise.h"
#include "gemm.h"
#include "pool.h"
#include "reduce.h"

namespace cloister {
namespace {

constexpr Kernels simd_row(const char* isa) {
  return {
      isa, kPanel, gemm_packed_elements, gemm_pack_b, gemm_workspace_elements, gemm, conv_packed_elements, conv_pack,
      conv_workspace_elements, conv, pool, unary, binary, softmax, reduce, copy_strided,
  };
}

}  // namespace
}  // namespace cloister
