// Memory that two processes share: nameless, of one size for good. No Node-API here, and no exceptions.
#pragma once
#include <cstddef>
#include <memory>

namespace cloister {

// Pages of shared memory, mapped for reading and writing. Whoever has the descriptor can write them at any moment: what
// is read here is copied before it is looked at.
class SharedMemory {
 public:
  // Makes new memory of zeros, which nobody can shrink or grow from then on (so no access of ours can fail), and maps
  // it. `*descriptor` is open, closed on exec, and the caller's to close. Null, and the system's error number in
  // `*error`, where there is none; ENOSYS where this system has no such memory.
  static std::shared_ptr<SharedMemory> create(size_t bytes, int* descriptor, int* error);

  // Maps memory that `create` made, in this process or the one that gave us the descriptor. EINVAL when it has another
  // size, or could still shrink.
  static std::shared_ptr<SharedMemory> map(int descriptor, size_t bytes, int* error);

  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory() { release(); }

  // Unmaps. Once; whoever still has a pointer must not use it again.
  void release();

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  SharedMemory(void* data, size_t bytes) : data_(data), bytes_(bytes) {}

  void* data_;
  const size_t bytes_;
};

}  // namespace cloister
