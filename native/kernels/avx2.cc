// The AVX2+FMA row.
#include "row.h"

namespace cloister {

const Kernels kAvx2Kernels = simd_row("avx2");

}  // namespace cloister
