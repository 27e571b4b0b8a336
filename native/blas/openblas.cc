#include "openblas.h"

#include <cmath>
#include <cstring>
#include <list>
#include <mutex>

#ifndef _WIN32
#include <dlfcn.h>
#endif

namespace cloister {

namespace {

constexpr int kRowMajor = 101, kPlain = 111, kTransposed = 112;  // CBLAS_ORDER, CBLAS_TRANSPOSE
constexpr double kMostSize = 2147483647;                         // of the interface's int
constexpr double kMostOffset = 9007199254740991;                 // 2^53-1

bool is_integer(double value, double least, double most) {
  return value >= least && value <= most && value == std::floor(value);
}

// What `rows` rows of `columns` elements need from `offset` on. Below 2^64 for sizes and offsets that were checked.
uint64_t end_of(double offset, double rows, double columns, double ld) {
  return static_cast<uint64_t>(offset) + (static_cast<uint64_t>(rows) - 1) * static_cast<uint64_t>(ld) +
         static_cast<uint64_t>(columns);
}

bool apart(const float* a, uint64_t a_length, const float* b, uint64_t b_length) {
  return a + a_length <= b || b + b_length <= a;
}

#ifndef _WIN32

// Whether the library computes 2 * A * B' + C of these numbers, which are exact in any order, and touches nothing else.
bool computes(const OpenBlas& blas) {
  const float a[] = {1, 2, 3, -1, 4, 5, 6, -1};  // 2 x 3, lda 4
  const float b[] = {1, 0, 2, 0, 1, 1};          // 2 x 3, ldb 3
  float c[] = {1, 1, -7, 1, 1, -7};              // 2 x 2, ldc 3
  const float expected[] = {15, 11, -7, 33, 23, -7};
  blas.sgemm(kRowMajor, kPlain, kTransposed, 2, 2, 3, 2, a, 4, b, 3, 1, c, 3);
  return std::memcmp(c, expected, sizeof c) == 0;
}

template <typename Function>
void resolve(void* library, const char* symbol, Function* out) {
  *out = reinterpret_cast<Function>(dlsym(library, symbol));
}

std::string text_of(const char* text) { return text ? std::string(text, strnlen(text, 200)) : std::string(); }

// Empty when all is well, else why the library is of no use.
std::string take(void* library, OpenBlas* blas) {
  resolve(library, "cblas_sgemm", &blas->sgemm);
  if (!blas->sgemm) {
    const bool wide = dlsym(library, "cblas_sgemm64_") || dlsym(library, "cblas_sgemm_64");
    return wide ? "it takes 64-bit integers (ILP64), a build with 32-bit ones is needed" : "it has no cblas_sgemm";
  }
  Dl_info where;
  if (dladdr(reinterpret_cast<void*>(blas->sgemm), &where)) blas->path = text_of(where.dli_fname);
  char* (*config)() = nullptr;
  char* (*core)() = nullptr;
  resolve(library, "openblas_get_config", &config);
  resolve(library, "openblas_get_corename", &core);
  resolve(library, "openblas_set_num_threads", &blas->set_threads);
  if (config) blas->config = text_of(config());
  // Some builds have wide integers under the usual names.
  if (blas->config.find("USE64BITINT") != std::string::npos) {
    return "it takes 64-bit integers (USE64BITINT), a build with 32-bit ones is needed";
  }
  if (core) blas->core = text_of(core());
  return computes(*blas) ? std::string() : "its cblas_sgemm computes a small product wrongly";
}

#endif

}  // namespace

#ifdef _WIN32

OpenedBlas open_blas(const char*, int) { return {nullptr, false, "this build does not look for OpenBLAS on Windows"}; }

#else

OpenedBlas open_blas(const char* name, int threads) {
  static std::mutex mutex;
  static std::list<OpenBlas> opened;  // places stay; as many as there are libraries
  const std::lock_guard<std::mutex> lock(mutex);
  void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
  if (!library) return {nullptr, false, text_of(dlerror())};
  OpenBlas blas;
  std::string why = take(library, &blas);
  if (!why.empty()) return {nullptr, true, std::move(why)};
  if (blas.set_threads) blas.set_threads(threads);
  for (const OpenBlas& known : opened) {
    if (known.sgemm == blas.sgemm) return {&known, true, {}};
  }
  opened.push_back(std::move(blas));
  return {&opened.back(), true, {}};
}

#endif

const char* multiply(const OpenBlas& blas, const BlasProduct& p, BlasBlock a, BlasBlock b, BlasBlock c) {
  for (const double size : {p.m, p.n, p.k, p.lda, p.ldb, p.ldc}) {
    if (!is_integer(size, 1, kMostSize)) return "sizes and leading dimensions must be integers from 1 to 2^31-1";
  }
  for (const double offset : {p.offset_a, p.offset_b, p.offset_c}) {
    if (!is_integer(offset, 0, kMostOffset)) return "offsets must be integers from 0 to 2^53-1";
  }
  const double rows_a = p.transpose_a ? p.k : p.m, columns_a = p.transpose_a ? p.m : p.k;
  const double rows_b = p.transpose_b ? p.n : p.k, columns_b = p.transpose_b ? p.k : p.n;
  if (p.lda < columns_a) return "lda must be at least the columns of a";
  if (p.ldb < columns_b) return "ldb must be at least the columns of b";
  if (p.ldc < p.n) return "ldc must be at least n";
  const uint64_t end_a = end_of(p.offset_a, rows_a, columns_a, p.lda);
  const uint64_t end_b = end_of(p.offset_b, rows_b, columns_b, p.ldb);
  const uint64_t end_c = end_of(p.offset_c, p.m, p.n, p.ldc);
  if (end_a > a.length) return "a is detached or too small";
  if (end_b > b.length) return "b is detached or too small";
  if (end_c > c.length) return "c is detached or too small";
  const auto from_a = static_cast<uint64_t>(p.offset_a), from_b = static_cast<uint64_t>(p.offset_b);
  const auto from_c = static_cast<uint64_t>(p.offset_c);
  if (!apart(c.data + from_c, end_c - from_c, a.data + from_a, end_a - from_a) ||
      !apart(c.data + from_c, end_c - from_c, b.data + from_b, end_b - from_b)) {
    return "c must not overlap a or b";
  }
  blas.sgemm(kRowMajor, p.transpose_a ? kTransposed : kPlain, p.transpose_b ? kTransposed : kPlain,
             static_cast<int>(p.m), static_cast<int>(p.n), static_cast<int>(p.k), p.alpha, a.data + from_a,
             static_cast<int>(p.lda), b.data + from_b, static_cast<int>(p.ldb), p.beta, c.data + from_c,
             static_cast<int>(p.ldc));
  return nullptr;
}

}  // namespace cloister
