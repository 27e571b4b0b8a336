#include "arena.h"

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "step.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__unix__) || defined(__APPLE__)
#define CLOISTER_MAPS 1
#include <sys/mman.h>
#endif

namespace cloister {
namespace {

// From here on a block is mapped by itself. malloc keeps what is freed among blocks that live on, and raises the size
// from which it maps with each large block that is freed: a thousand models, loaded and closed, left 27 MB behind.
constexpr uint64_t kMapBytes = 64u << 10;
// From here on large pages are asked for: weights of this size pass through more pages than a core remembers.
constexpr uint64_t kLargePageBytes = 8u << 20;

bool is_mapped(uint64_t bytes) {
#if defined(CLOISTER_MAPS)
  return bytes >= kMapBytes;
#else
  static_cast<void>(bytes);
  return false;
#endif
}

// memset that a compiler may not drop because the bytes are freed next.
void zero(uint8_t* data, uint64_t bytes) {
  std::memset(data, 0, bytes);
#if defined(__GNUC__)
  __asm__ __volatile__("" : : "r"(data) : "memory");
#else
  volatile uint8_t* last = data + bytes - 1;
  *last = 0;
#endif
}

}  // namespace

Arena::Arena(uint64_t bytes) : bytes_(bytes) {
  if (bytes == 0 || bytes > SIZE_MAX - kArenaAlignment) return;
#if defined(CLOISTER_MAPS)
  if (is_mapped(bytes)) {
    void* const block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) return;
#if defined(MADV_HUGEPAGE)
    if (bytes >= kLargePageBytes) madvise(block, bytes, MADV_HUGEPAGE);  // a wish: refusal costs speed only
#endif
    block_ = block;
    data_ = static_cast<uint8_t*>(block);
    return;
  }
#endif
  // Aligned by hand: before glibc 2.38 aligned allocations of changing sizes do not find their own freed blocks again
  // (its bug 14581), and a model that meets many batch sizes took gigabytes.
  block_ = std::malloc(bytes + kArenaAlignment);
  if (block_ == nullptr) return;
  const uintptr_t start = reinterpret_cast<uintptr_t>(block_);
  data_ = static_cast<uint8_t*>(block_) + (kArenaAlignment - start % kArenaAlignment) % kArenaAlignment;
#if defined(__SANITIZE_ADDRESS__)
  const uint8_t* const end = static_cast<uint8_t*>(block_) + bytes + kArenaAlignment;
  __asan_poison_memory_region(data_ + bytes, static_cast<size_t>(end - (data_ + bytes)));
#endif
}

Arena::Arena(Arena&& other) noexcept
    : block_(std::exchange(other.block_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(block_, other.block_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void Arena::wipe() {
  if (data_ != nullptr) zero(data_, bytes_);
}

Arena::~Arena() {
  if (data_ == nullptr) return;
#if defined(CLOISTER_MAPS)
  if (is_mapped(bytes_)) {
    munmap(block_, bytes_);  // the system clears a page before anyone else has it
    return;
  }
#endif
  zero(data_, bytes_);
  std::free(block_);
}

}  // namespace cloister
