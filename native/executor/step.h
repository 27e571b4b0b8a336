// A verified kernel call, and what it runs on.
#pragma once
#include <atomic>
#include <cstdint>
#include <vector>

#include "../kernels/kernels.h"

namespace cloister {

constexpr uint64_t kArenaAlignment = 64;

// Rounded up to a multiple of kArenaAlignment, or 2^64-1 where that is no number of 64 bits.
inline uint64_t aligned(uint64_t bytes) {
  return bytes > UINT64_MAX - kArenaAlignment
             ? UINT64_MAX
             : (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

// A place: the slot says which arena, input or output. Verified to hold the bytes that its step touches.
struct Ref {
  uint32_t slot = 0;
  uint64_t offset = 0;
};

// The slots of a run: the arenas, then the inputs, then the outputs.
enum Slot : uint32_t { kSlotTemporary = 1, kSlotPermanent = 2, kSlotStaging = 3, kSlotPorts = 4 };

// What one task of a step runs on.
class Frame {
 public:
  Frame(const Kernels& row, uint8_t* const* slots, uint8_t* scratch, std::atomic<bool>* fault)
      : row(row), slots_(slots), scratch_(scratch), fault_(fault) {}

  const Kernels& row;

  template <typename T>
  T* at(const Ref& ref) const {
    return reinterpret_cast<T*>(slots_[ref.slot] + ref.offset);
  }
  // `Step::scratch_bytes` bytes at a multiple of 64, of this task alone, with anything in them; `offset` of them in.
  template <typename T>
  T* scratch(uint64_t offset = 0) const {
    return reinterpret_cast<T*>(scratch_ + offset);
  }
  // Data asked for what is not there, such as an index outside its axis: the run ends, and fails, after this step.
  void fault() const { fault_->store(true, std::memory_order_relaxed); }

 private:
  uint8_t* const* slots_;
  uint8_t* scratch_;
  std::atomic<bool>* fault_;
};

// A stretch of a slot that a step reads or writes.
struct Access {
  uint32_t slot;
  uint64_t from, to;
  bool write;
};

// One verified call. A step splits into tasks that may run at the same time and in any order: each writes bytes of its
// own, and an element has the same value whichever task computes it, so a result does not depend on threads.
class Step {
 public:
  virtual ~Step() = default;
  virtual void run(const Frame& frame, uint32_t task) const = 0;

  uint32_t tasks = 1;
  uint64_t scratch_bytes = 0;  // of one task
  uint64_t work = 0;           // multiply-adds and bytes moved, of all tasks
  uint32_t kind = 0;           // its row in the table of kinds
  std::vector<Access> accesses;
};

// Items [first, last) of `count` that task `task` of `tasks` does: as evenly as it goes.
struct Share {
  uint64_t first, last;
};
inline Share share_of(uint64_t count, uint32_t task, uint32_t tasks) {
  const uint64_t each = count / tasks, rest = count % tasks;
  const uint64_t first = task * each + (task < rest ? task : rest);
  return {first, first + each + (task < rest ? 1 : 0)};
}

// Into how many tasks a step of `work` should be cut, at most `most`: a task is worth some 30 microseconds or more.
inline uint32_t tasks_for(uint64_t work, uint64_t most) {
  constexpr uint64_t kTaskWork = uint64_t{1} << 19, kMaxTasks = 256;
  uint64_t tasks = work / kTaskWork;
  if (tasks > most) tasks = most;
  if (tasks > kMaxTasks) tasks = kMaxTasks;
  return tasks < 1 ? 1 : static_cast<uint32_t>(tasks);
}

// Whether a result of `bytes` at `ref` is stored past the caches: it is far larger than a core's, and goes to the caller,
// not to a next step.
inline bool streams(const Ref& ref, uint64_t bytes) {
  constexpr uint64_t kStreamBytes = uint64_t{4} << 20;
  return ref.slot >= kSlotPorts && bytes >= kStreamBytes;
}

}  // namespace cloister
