// The executor: owns the arenas of one verified program and runs it, unchecked.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "program.h"

namespace cloister {

// Bytes aligned to kArenaAlignment. Empty when the system refused them. Wiped before they are given back.
class Arena {
 public:
  Arena() = default;
  explicit Arena(uint64_t bytes);
  Arena(Arena&& other) noexcept;
  Arena& operator=(Arena&& other) noexcept;
  ~Arena();
  uint8_t* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }
  // False only when bytes were asked for and the system refused them.
  bool ok() const { return data_ != nullptr || bytes_ == 0; }

 private:
  void* block_ = nullptr;  // what the system gave; `data_` is its first aligned byte
  uint8_t* data_ = nullptr;
  uint64_t bytes_ = 0;
};

struct MemoryUse {
  uint64_t permanent_bytes;  // constants and packed weights
  uint64_t temporary_bytes;  // activations, of one run
  uint64_t scratch_bytes;    // kernel workspace, of one run
  uint64_t peak_bytes;       // the most that was held at once so far, setup included
};

// Test hook: what each workspace is filled with before each run. A result that depends on it has read what nobody
// wrote.
constexpr int kNoFill = -1;

// Runs of one executor may overlap on several threads: they share the permanent arena, and each takes a workspace of
// its own.
class Executor {
 public:
  // Verifies `program`, allocates, runs the setup steps. `model` and `program` are not needed afterwards. Null, and the
  // reason in `verdict`, when the program is refused or memory is.
  static std::shared_ptr<Executor> load(const uint8_t* program, size_t program_bytes, const uint8_t* model,
                                        uint64_t model_bytes, uint64_t limit_bytes, uint64_t limit_work,
                                        const Kernels& row, int fill, Verdict* verdict);

  // Copies the inputs in, runs every step, copies the outputs out. Each pointer has the bytes that its port says. Waits
  // while the memory limit leaves no workspace free. `step_ns`, unless null, receives one duration for each run step.
  void run(const uint8_t* const* inputs, uint8_t* const* outputs, uint64_t* step_ns = nullptr);

  const Program& program() const { return program_; }
  MemoryUse memory() const;

 private:
  struct Workspace {
    Arena temporary, scratch;
    bool ok() const { return temporary.ok() && scratch.ok(); }
  };

  explicit Executor(const Kernels& row) : row_(row) {}
  Workspace* acquire();
  void release(Workspace* workspace);
  void execute(const Step& step, uint8_t* const* bases, uint8_t* scratch) const;
  void note_use(uint64_t bytes);
  uint64_t workspace_bytes() const;

  const Kernels& row_;
  Program program_;
  Arena permanent_;
  int fill_ = kNoFill;
  size_t most_workspaces_ = 1;

  mutable std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<std::unique_ptr<Workspace>> workspaces_;  // all there are
  std::vector<Workspace*> free_;
  uint64_t peak_bytes_ = 0;
};

}  // namespace cloister
