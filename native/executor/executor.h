// The executor: owns the arenas of one verified program and runs it, unchecked.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "arena.h"
#include "program.h"
#include "schedule.h"

namespace cloister {

// Copies bytes [offset, offset + length) of the model to `to`; false when they cannot be had.
using ModelReader = std::function<bool(uint64_t offset, uint64_t length, uint8_t* to)>;

struct MemoryUse {
  uint64_t permanent_bytes;  // constants and packed weights
  uint64_t temporary_bytes;  // activations, of one run
  uint64_t scratch_bytes;    // kernel workspace, of one run: as much for each thread as one task asks for
  uint64_t port_bytes;       // inputs and outputs of one run, which the caller holds
  uint64_t block_bytes;      // copies of them for asynchronous runs: in use, and kept for the next
  uint64_t peak_bytes;       // the most so far of all that the limit counts, setup included
};

constexpr int kNoFill = -1;

struct ExecutorOptions {
  // The most threads that work on one run, the caller's among them. 0: what the pool allows. 1: no pool.
  uint32_t threads = 1;
  // Test hook: what each workspace is filled with before each run. A result that depends on it has read what nobody
  // wrote.
  int fill = kNoFill;
  // Test hook: unless 0, each run takes steps and tasks in another order that the schedule allows, on one thread. A
  // result that depends on it shows that the schedule allows too much.
  uint32_t shuffle = 0;
};

// Runs of one executor may overlap on several threads: they share the permanent arena, and each takes a workspace of
// its own.
class Executor {
 public:
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;
  // Verifies `program`, allocates, runs the setup steps. `model` and `program` are not needed afterwards. Null, and the
  // reason in `verdict`, when the program is refused, memory is, or the model cannot be read.
  static std::shared_ptr<Executor> load(const uint8_t* program, size_t program_bytes, const ModelReader& model,
                                        uint64_t model_bytes, uint64_t limit_bytes, uint64_t limit_work,
                                        const Kernels& row, const ExecutorOptions& options, Verdict* verdict);

  // Runs every step on the caller's inputs and outputs, where they lie, with the pool's help where that is worth it: each pointer has the bytes that its port says,
  // at a multiple of its alignment; outputs overlap neither inputs nor one another. Waits while the memory limit leaves
  // no workspace free. `step_ns`, unless null, receives one duration for each run step; such a run is this thread's alone. False when data asked for what
  // is not there; the outputs are then undefined.
  bool run(const uint8_t* const* inputs, uint8_t* const* outputs, uint64_t* step_ns = nullptr);

  // A block for copies of all inputs and outputs, each at a multiple of kArenaAlignment in the order of the ports: zeros.
  // Not ok() when the system refuses it even after every program has given up the blocks that it keeps.
  Arena take_block();
  // Takes it back, wiped: for the next run where the limit leaves room, else for the system.
  void give_block(Arena block);

  const Program& program() const { return program_; }
  MemoryUse memory() const;

 private:
  struct Workspace {
    Arena temporary, scratch;
    std::vector<uint8_t*> slots;
    std::atomic<bool> fault{false};
    JobPointer job;  // null: the caller's thread does it all
  };
  // What the tasks of a run need, besides the workspace.
  struct Shared {
    const Executor* executor;
    Workspace* workspace;
  };

  explicit Executor(const Kernels& row);
  // As Arena(bytes), but where the system refuses, all programs give up the blocks that they keep, and it is asked again.
  static Arena allocate(uint64_t bytes);
  static void drop_all_blocks();
  void drop_blocks();
  uint64_t held_bytes(size_t workspaces, size_t kept) const;
  Workspace* acquire();
  void release(Workspace* workspace);
  std::unique_ptr<Workspace> make_workspace() const;
  void execute(const Step& step, const Frame& frame) const;
  void choose_threads(uint64_t limit_bytes, const ExecutorOptions& options);
  uint64_t scratch_bytes() const;
  Frame frame_of(Workspace* workspace, uint32_t seat) const;
  bool run_alone(Workspace* workspace, uint64_t* step_ns) const;
  void run_shuffled(Workspace* workspace);
  static void run_task(void* shared, uint32_t node, uint32_t task, uint32_t seat);
  bool set_up(const uint8_t* program, const ModelReader& model, Verdict* verdict);
  void note_use(uint64_t bytes);
  uint64_t workspace_bytes() const;

  const Kernels& row_;
  Program program_;
  Arena permanent_;
  int fill_ = kNoFill;
  Schedule schedule_;
  uint32_t seats_ = 1;
  std::atomic<uint32_t> shuffle_{0};
  size_t most_workspaces_ = 1;
  uint64_t limit_bytes_ = 0;
  uint64_t port_bytes_ = 0;

  mutable std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<std::unique_ptr<Workspace>> workspaces_;  // all there are
  std::vector<Workspace*> free_;
  std::vector<Arena> kept_;  // blocks, wiped
  uint64_t blocks_in_use_ = 0;
  uint64_t peak_bytes_ = 0;
};

}  // namespace cloister
