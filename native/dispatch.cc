// The dispatch table: which row of kernels runs on this CPU.
#include <atomic>
#include <cstring>

#include "kernels/row.h"

namespace cloister {
namespace {

constexpr size_t kMaxRows = 5;

#define CLOISTER_ROW_TABLE(row) \
  {                                                                                                              \
    #row, row::gemm, row::conv, row::blocked, row::pool, row::elementwise, row::reduce, row::copy, row::attention, \
        row::recurrent, row::trees, row::norm, row::conversion, row::integer, row::gather, row::int8             \
  }

// constinit: nothing that an ISA's flags compiled may run before the CPU was asked.
constinit const Kernels kScalar = CLOISTER_ROW_TABLE(scalar);
#if defined(__x86_64__)
constinit const Kernels kAvx2 = CLOISTER_ROW_TABLE(avx2);
constinit const Kernels kAvx512 = CLOISTER_ROW_TABLE(avx512);
// Other families have nothing that VNNI instructions would make faster.
constinit const Kernels kAvx512Vnni = {
    "avx512vnni", avx512::gemm, avx512::conv, avx512::blocked, avx512::pool, avx512::elementwise,
    avx512::reduce, avx512::copy, avx512::attention, avx512::recurrent, avx512::trees,
    avx512::norm, avx512::conversion, avx512::integer, avx512::gather, avx512vnni::int8,
};
#elif defined(__aarch64__)
constinit const Kernels kNeon = CLOISTER_ROW_TABLE(neon);
#endif

struct Machine {
  const Kernels* rows[kMaxRows];
  size_t count = 0;
  char features[64] = "";

  bool has(const char* name, bool present) {
    if (present) {
      if (features[0]) std::strcat(features, " ");
      std::strcat(features, name);
    }
    return present;
  }

  Machine() {
#if defined(__x86_64__)
    // libgcc and compiler-rt also ask XGETBV whether the operating system saves the wide registers.
    __builtin_cpu_init();
    const bool avx2 = has("avx2", __builtin_cpu_supports("avx2")) & has("fma", __builtin_cpu_supports("fma"));
    const bool avx512 =
        has("avx512f", __builtin_cpu_supports("avx512f")) & has("avx512dq", __builtin_cpu_supports("avx512dq")) &
        has("avx512bw", __builtin_cpu_supports("avx512bw")) & has("avx512vl", __builtin_cpu_supports("avx512vl"));
    const bool vnni = has("avx512vnni", __builtin_cpu_supports("avx512vnni"));
    if (vnni && avx512 && avx2) rows[count++] = &kAvx512Vnni;
    if (avx512 && avx2) rows[count++] = &kAvx512;
    if (avx2) rows[count++] = &kAvx2;
#elif defined(__aarch64__)
    if (has("neon", true)) rows[count++] = &kNeon;
#endif
    rows[count++] = &kScalar;
  }
};

const Machine& machine() noexcept {
  static const Machine found;
  return found;
}

// One choice for the process: every environment (worker thread) that loads the addon shares it.
std::atomic<const Kernels*> forced{nullptr};

}  // namespace

const Kernels& kernels() noexcept {
  const Kernels* row = forced.load(std::memory_order_relaxed);
  return row ? *row : *machine().rows[0];
}

bool force_isa(const char* name) noexcept {
  const Kernels* row = nullptr;
  if (name && *name) {
    for (size_t i = 0; i < machine().count; i++) {
      if (std::strcmp(machine().rows[i]->isa, name) == 0) row = machine().rows[i];
    }
    if (!row) return false;
  }
  forced.store(row, std::memory_order_relaxed);
  return true;
}

size_t supported_kernels(const Kernels* const** rows) noexcept {
  *rows = machine().rows;
  return machine().count;
}

const char* cpu_features() noexcept { return machine().features; }

}  // namespace cloister
