#include "shared_memory.h"

#include <cerrno>

#ifndef _WIN32
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#endif

namespace cloister {

#ifdef _WIN32

std::shared_ptr<SharedMemory> SharedMemory::create(size_t, int*, int* error) {
  *error = ENOSYS;
  return nullptr;
}

std::shared_ptr<SharedMemory> SharedMemory::map(int, size_t, int* error) {
  *error = ENOSYS;
  return nullptr;
}

void SharedMemory::release() {}

#else

namespace {

#ifdef __linux__

// Neither side can pull pages from under the other, nor take this promise back.
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

int make(size_t bytes) {
#ifdef MFD_NOEXEC_SEAL
  // Never to be executed, where the kernel knows that (6.3).
  int descriptor = ::memfd_create("cloister", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
  if (descriptor < 0 && errno == EINVAL) descriptor = ::memfd_create("cloister", MFD_CLOEXEC | MFD_ALLOW_SEALING);
#else
  int descriptor = ::memfd_create("cloister", MFD_CLOEXEC | MFD_ALLOW_SEALING);
#endif
  if (descriptor < 0) return -1;
  if (::ftruncate(descriptor, static_cast<off_t>(bytes)) == 0 && ::fcntl(descriptor, F_ADD_SEALS, kSeals) == 0)
    return descriptor;
  const int error = errno;
  ::close(descriptor);
  errno = error;
  return -1;
}

bool is_sealed(int descriptor) {
  const int seals = ::fcntl(descriptor, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
}

#else

// A name for as long as it takes to drop it. The size of such an object can be set only once on macOS.
int make(size_t bytes) {
  char name[32];
  for (unsigned attempt = 0; attempt < 64; attempt++) {
    std::snprintf(name, sizeof(name), "/cloister-%x-%x", static_cast<unsigned>(::getpid()), attempt);
    const int descriptor = ::shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (descriptor < 0 && errno == EEXIST) continue;
    if (descriptor < 0) return -1;
    ::shm_unlink(name);
    ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
    if (::ftruncate(descriptor, static_cast<off_t>(bytes)) == 0) return descriptor;
    const int error = errno;
    ::close(descriptor);
    errno = error;
    return -1;
  }
  errno = EEXIST;
  return -1;
}

bool is_sealed(int) { return true; }

#endif

}  // namespace

std::shared_ptr<SharedMemory> SharedMemory::create(size_t bytes, int* descriptor, int* error) {
  *descriptor = make(bytes);
  if (*descriptor < 0) {
    *error = errno;
    return nullptr;
  }
  auto memory = map(*descriptor, bytes, error);
  if (!memory) {
    ::close(*descriptor);
    *descriptor = -1;
  }
  return memory;
}

std::shared_ptr<SharedMemory> SharedMemory::map(int descriptor, size_t bytes, int* error) {
  struct stat facts;
  if (::fstat(descriptor, &facts) != 0) {
    *error = errno;
    return nullptr;
  }
  // macOS rounds the size up to pages.
  const auto size = static_cast<uint64_t>(facts.st_size);
  if (bytes == 0 || size < bytes || !is_sealed(descriptor)) {
    *error = EINVAL;
    return nullptr;
  }
  void* const data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
  if (data == MAP_FAILED) {
    *error = errno;
    return nullptr;
  }
  return std::shared_ptr<SharedMemory>(new SharedMemory(data, bytes));
}

void SharedMemory::release() {
  if (data_ == nullptr) return;
  ::munmap(data_, bytes_);
  data_ = nullptr;
}

#endif

}  // namespace cloister
