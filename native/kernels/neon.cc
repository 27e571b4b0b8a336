// The NEON row.
#include "row.h"

namespace cloister {

// constinit: nothing of this file may run before the CPU was asked.
constinit const Kernels kNeonKernels = simd_row("neon");

}  // namespace cloister
