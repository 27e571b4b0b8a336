// The AVX-512 row.
#include "row.h"

namespace cloister {

// constinit: nothing of this file may run before the CPU was asked.
constinit const Kernels kAvx512Kernels = simd_row("avx512");

}  // namespace cloister
