#include "mapping.h"

#include <atomic>

#ifndef _WIN32
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#endif

namespace cloister {

#ifdef _WIN32

std::shared_ptr<Mapping> Mapping::open(const char*, uint64_t, MapProblem* problem) {
  *problem = {"MISSING_DEPENDENCY", "this build does not map files on Windows", 0};
  return nullptr;
}

void Mapping::release() {}

#else

namespace {

// Of the whole process, its worker threads included. Linux gives a process 65,530 mappings, and V8 dies when it gets
// none for itself: a loop that maps and closes, and never lets the event loop turn, must end in an error before.
constexpr size_t kMostMappings = 16384;
std::atomic<size_t> mappings{0};

// Not needed once the file is mapped, or has been refused.
class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  int value() const { return value_; }

 private:
  const int value_;
};

int open_to_read(const char* path) {
  // O_NONBLOCK: opening a pipe must not wait for its other end. Reading a mapped regular file knows no such flag.
  constexpr int kFlags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  int value = -1;
  do {
    value = ::open(path, kFlags);
  } while (value < 0 && errno == EINTR);
  return value;
}

// Private and writable needs only a descriptor that reads. Without MAP_NORESERVE the kernel counts every page as if it
// were going to be written, and refuses a file that is larger than the memory it has.
void* map(int descriptor, size_t bytes) {
#ifdef MAP_NORESERVE
  constexpr int kFlags = MAP_PRIVATE | MAP_NORESERVE;
#else
  constexpr int kFlags = MAP_PRIVATE;
#endif
  return ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kFlags, descriptor, 0);
}

}  // namespace

std::shared_ptr<Mapping> Mapping::open(const char* path, uint64_t limit_bytes, MapProblem* problem) {
  const auto refuse = [problem](const char* code, const char* message) {
    *problem = {code, message, 0};
    return nullptr;
  };
  const auto system_refuses = [problem] {
    *problem = {nullptr, nullptr, errno};
    return nullptr;
  };
  const Descriptor file(open_to_read(path));
  if (file.value() < 0) return system_refuses();
  struct stat facts;
  if (::fstat(file.value(), &facts) != 0) return system_refuses();
  if (!S_ISREG(facts.st_mode)) return refuse("INVALID_ARGUMENT", "it is not a regular file");
  const auto size = static_cast<uint64_t>(facts.st_size);
  if (size > limit_bytes || size > SIZE_MAX) return refuse("OUT_OF_MEMORY", "it is larger than any buffer can be");

  // Files that the kernel makes up (procfs and the like) are regular and say that they are empty, which they are not.
  // They cannot be mapped, though, and that shows on a page too: so an empty file is mapped as well, and let go.
  const size_t bytes = static_cast<size_t>(size);
  if (mappings.load() >= kMostMappings)
    return refuse("OUT_OF_MEMORY", "16384 files are mapped; closed ones count until the event loop has turned");
  void* const data = map(file.value(), bytes > 0 ? bytes : 1);
  if (data == MAP_FAILED) return system_refuses();
  if (bytes > 0) {
    mappings++;
    return std::shared_ptr<Mapping>(new Mapping(data, bytes));
  }
  ::munmap(data, 1);
  return std::shared_ptr<Mapping>(new Mapping(nullptr, 0));
}

void Mapping::release() {
  if (data_ == nullptr) return;
  ::munmap(data_, bytes_);
  data_ = nullptr;
  mappings--;
}

#endif

}  // namespace cloister
