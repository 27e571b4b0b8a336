// The AVX-512 row.
#include "row.h"

namespace cloister {

const Kernels kAvx512Kernels = simd_row("avx512");

}  // namespace cloister
