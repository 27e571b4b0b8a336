// A file as memory. No Node-API here, and no exceptions: what is wrong comes back as a value.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

namespace cloister {

// Why a file was not mapped: a phrase, or the system's error number.
struct MapProblem {
  const char* code = nullptr;  // of src/base/errors.ts; null when `error` says it
  const char* message = nullptr;
  int error = 0;
};

// The bytes of a regular file, copy on write: what this process writes to them stays in it, and reaches neither the
// file nor another mapping. They are not a snapshot. Until a page is first written it follows the file, and when the
// file shrinks, its last pages are gone, written or not: touching them is SIGBUS, which nothing here can turn into an
// error (docs/adr/0010-mapped-files.md).
class Mapping {
 public:
  // Opens, checks and maps the file at `path`; nothing is read. Null, and the reason in `problem`, for anything but a
  // regular file (the last component of the path may not be a link), and for one of over `limit_bytes`.
  static std::shared_ptr<Mapping> open(const char* path, uint64_t limit_bytes, MapProblem* problem);

  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() { release(); }

  // Gives the pages back. Once; whoever still has a pointer must not use it again.
  void release();

  void* data() const { return data_; }  // null for an empty file, and after `release`
  size_t bytes() const { return bytes_; }

 private:
  Mapping(void* data, size_t bytes) : data_(data), bytes_(bytes) {}

  void* data_;
  const size_t bytes_;
};

}  // namespace cloister
