// Memory that a program owns.
#pragma once
#include <cstdint>

namespace cloister {

// Bytes at a multiple of kArenaAlignment. Empty when the system refused them. Given back to the system at once, and
// nobody reads what they held.
class Arena {
 public:
  Arena() = default;
  explicit Arena(uint64_t bytes);
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();
  uint8_t* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  // Zeros, which a compiler may not leave out.
  void wipe();
  // False only when bytes were asked for and the system refused them.
  bool ok() const { return data_ != nullptr || bytes_ == 0; }

 private:
  void* block_ = nullptr;  // what the system gave; `data_` is its first aligned byte
  uint8_t* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace cloister
