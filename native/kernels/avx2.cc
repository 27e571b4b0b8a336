// The AVX2+FMA row.
#include "row.h"

namespace cloister {

// constinit: nothing of this file may run before the CPU was asked.
constinit const Kernels kAvx2Kernels = simd_row("avx2");

}  // namespace cloister
