// The NEON row.
#include "row.h"

namespace cloister {

const Kernels kNeonKernels = simd_row("neon");

}  // namespace cloister
