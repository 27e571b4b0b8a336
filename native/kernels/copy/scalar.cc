// The scalar strided copy, as its definition reads.
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

void copy_strided(size_t rank, const uint32_t* dims, const int64_t* strides, size_t element_bytes, const void* x,
    void* y, bool) {
  size_t count = 1;
  for (size_t d = 0; d < rank; d++) count *= dims[d];
  const char* from = static_cast<const char*>(x);
  char* to = static_cast<char*>(y);
  for (size_t i = 0; i < count; i++, to += element_bytes) {
    int64_t at = 0;
    for (size_t d = rank, rest = i; d-- > 0; rest /= dims[d]) at += static_cast<int64_t>(rest % dims[d]) * strides[d];
    __builtin_memcpy(to, from + at * static_cast<int64_t>(element_bytes), element_bytes);
  }
}

void pad(const Pad& p, size_t first, size_t last) {
  const size_t width = p.y_dims[p.rank - 1];
  for (size_t i = first * width; i < last * width; i++) {
    int64_t from = 0, step = 1;
    size_t rest = i;
    for (uint32_t d = p.rank; d-- > 0; rest /= p.y_dims[d], step *= p.x_dims[d]) {
      const int64_t at = pad_source(static_cast<int64_t>(rest % p.y_dims[d]), p.before[d], p.x_dims[d], p.mode);
      from = at < 0 || from < 0 ? -1 : from + at * step;
    }
    const char* const source = from < 0 ? static_cast<const char*>(p.value)
                                        : static_cast<const char*>(p.x) + from * static_cast<int64_t>(p.element_bytes);
    __builtin_memcpy(static_cast<char*>(p.y) + i * p.element_bytes, source, p.element_bytes);
  }
}

}  // namespace

constinit const CopyKernels copy = {copy_strided, pad};

}  // namespace cloister::CLOISTER_ROW
