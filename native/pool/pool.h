// The kernel pool: threads that help a run with the tasks of its steps.
//
// A run is a graph of nodes, each of so many tasks. The calling thread works on it from beginning to end, and does all
// of it when nobody comes; helpers may join at any time. Tasks are claimed, never assigned: nobody waits for a thread
// that has not begun a task. Which thread runs a task changes no result, so results are the same for any number of
// threads.
//
// Ready nodes stand in one list a run, in the order in which they became ready. The tasks of a ready node are dealt out
// as one range for each seat (a participant of the run): a thread takes from the front of its own range, which is the
// same part of every step and so in its cache, and when that is empty from the back of the others'. A range is one
// 64-bit word, changed by compare-and-swap. All of it is allocated with the job; a run allocates nothing and takes no
// lock.
//
// A helper may be late by a whole run: it holds on to its job, looks for a task, is descheduled, and goes on when the
// run is over or the next has begun. That is harmless, because a claim that succeeds is the proof: the word said that
// the task was open, and it is open only in a run that cannot end before the task is done.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

namespace cloister {

constexpr uint32_t kMaxThreads = 64;

// What a run consists of. Nodes stand in an order in which they could run one after another: edges go forward.
struct TaskGraph {
  struct Node {
    uint32_t tasks = 1;         // at least one
    uint32_t predecessors = 0;  // how many nodes have it as a successor
    uint32_t first_successor = 0, successor_count = 0;
    uint64_t cost = 0;  // of all its tasks, an estimate in nanoseconds
  };
  std::vector<Node> nodes;
  std::vector<uint32_t> successors;

  // What `threads` threads could save of the nanoseconds that one needs, by the estimates: limited by the longest path
  // and by their number.
  uint64_t saving(uint32_t threads) const;
};

// Runs one task. `seat` is below the job's seats, and no two tasks run in the same seat at once. Called from any
// thread; must not fail, block, or run another job.
using TaskFunction = void (*)(void* context, uint32_t node, uint32_t task, uint32_t seat);

class Job;

// Lets go of a job. Helpers that still look at it do not hold this up; the last one frees it.
struct JobDeleter {
  void operator()(Job* job) const;
};
using JobPointer = std::unique_ptr<Job, JobDeleter>;

// A graph that is run again and again, by one thread at a time.
class Job {
 public:
  // How many threads, the caller's among them, are worth having for a run of `graph` when there are `threads`. 1 where
  // one does as well; fewer than there are for graphs of very many nodes.
  static uint32_t seats_for(const TaskGraph& graph, uint32_t threads);

  // `seats` is at most what `seats_for` said. Null when there is nobody to help: it is 1, or no thread can be started.
  static JobPointer create(std::shared_ptr<const TaskGraph> graph, uint32_t seats);

  uint32_t seats() const { return seats_; }

  // Runs every task, each after all tasks of its node's predecessors; the caller is in seat 0. When it returns, no
  // thread touches what `context` reaches.
  void run(TaskFunction function, void* context);

 private:
  friend class KernelPool;
  friend struct JobDeleter;

  // Whether sharing pays, as the caller sees it. In nanoseconds, `own` in those of the estimates.
  struct Ledger {
    uint64_t mark = 0;        // up to when time is accounted for
    uint64_t busy = 0;        // in runs
    uint64_t waited = 0;      // of that, with nothing to claim
    uint64_t own = 0;         // what the caller did
    uint64_t solo_until = 0;  // no helpers before that
    uint32_t penalty = 0;     // how often in a row it did not pay
  };

  Job(std::shared_ptr<const TaskGraph> graph, uint32_t seats);
  ~Job() = default;
  bool allocate();

  uint32_t shares(uint32_t node) const;
  std::atomic<uint64_t>& range(uint32_t seat, uint32_t node) const { return ranges_[size_t{seat} * nodes_ + node]; }
  bool claim(uint32_t node, uint32_t seat, uint32_t* task);
  bool claimable(uint64_t generation, uint32_t cursor) const;
  bool work(uint32_t seat, uint64_t generation, uint32_t* cursor);
  void perform(uint32_t node, uint32_t task, uint32_t seat);
  uint32_t complete(uint32_t node);
  void open(uint32_t node);
  void wait(uint64_t generation, uint32_t cursor);
  void wake_caller();
  void settle();
  void reconsider();
  void go_alone(uint64_t until);
  bool displaces(int cpu);
  void release();

  const std::shared_ptr<const TaskGraph> graph_;
  const uint32_t seats_;
  const uint32_t nodes_;
  std::vector<uint32_t> roots_;
  std::vector<uint8_t> invites_;  // by node: whether what is still to do there is worth waking a thread

  // Of the present run. The caller writes them before it opens a node; others read them after they claimed a task.
  TaskFunction function_ = nullptr;
  void* context_ = nullptr;

  std::unique_ptr<std::atomic<uint32_t>[]> pending_;  // predecessors that are not done; full again once all are
  std::unique_ptr<std::atomic<uint32_t>[]> left_;     // tasks that are not done
  std::unique_ptr<std::atomic<uint64_t>[]> ready_;    // generation and node; of another generation: nothing yet
  std::unique_ptr<std::atomic<uint64_t>[]> ranges_;   // by seat and node: first and last of the tasks not claimed

  alignas(64) std::atomic<uint32_t> tail_{0};        // entries of `ready_` in use
  alignas(64) std::atomic<uint32_t> unfinished_{0};  // nodes
  alignas(64) std::atomic<uint64_t> generation_{0};  // which run this is
  std::atomic<uint64_t> finished_{0};                // the last run that ended
  std::atomic<bool> shared_{false};                  // helpers may join
  alignas(64) std::atomic<uint32_t> parked_{0};      // whether the caller sleeps until `signal_` changes
  std::atomic<uint32_t> signal_{0};
  std::atomic<int> cpu_{-1};             // that the caller was last on
  std::atomic<bool> displaced_{false};  // a helper was there
  alignas(64) std::atomic<uint64_t> helped_{0};  // what helpers did, in nanoseconds of the estimates
  std::atomic<uint32_t> references_{1};
  std::atomic<uint64_t> taken_{1};  // seats, a bit each

  Ledger ledger_;            // the caller's
  Job* next_ = nullptr;      // the pool's list
  Job* previous_ = nullptr;
};

// How many threads there may be at once, callers among them. Shared by all environments (worker threads) of the
// process.
uint32_t pool_threads();
// 0: what find_cpus says. Threads that are there already stay.
void set_pool_threads(uint32_t threads);

// One for each environment that has loaded the addon. With the last release the pool's threads are stopped and joined,
// after the task that each is at: the library may be unloaded then. Without any, no threads are started.
void retain_pool();
void release_pool();

struct PoolState {
  uint32_t threads;  // of the pool's own
  uint32_t jobs;
  uint64_t joined;  // times that a helper has joined a run, of the whole process
};
PoolState pool_state();

}  // namespace cloister
