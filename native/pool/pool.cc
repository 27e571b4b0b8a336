#include "pool.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <new>
#include <utility>

#include "cpus.h"

#ifndef _WIN32
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#endif

namespace cloister {
namespace {

// All in nanoseconds. Measured on two virtual cores: waking a thread takes 8,000 of the caller's time
// and 20,000 to 30,000 until the thread runs; a barrier between two threads that are awake some 300.
constexpr uint64_t kSpin = 50'000;          // the longest that a thread looks for work before it sleeps
constexpr uint64_t kWorthAJob = 50'000;     // what helpers must save of a run by the estimates
constexpr uint64_t kWorthWaking = 100'000;  // what must still be ahead of them when one is woken
constexpr uint64_t kWindow = 1'000'000;     // how long sharing is watched before it is judged
constexpr uint64_t kSolo = 4'000'000;       // how long nobody is let in when sharing did not pay the first time
constexpr uint32_t kMaxPenalty = 2;         // four times as long the next time, 64 ms at most
constexpr uint32_t kPauses = 16;            // between looks at the clock
constexpr size_t kMaxRanges = size_t{1} << 20;
constexpr size_t kStackBytes = size_t{4} << 20;

constexpr uint32_t kNone = UINT32_MAX;
constexpr uint32_t kNodeBits = 20;  // of an entry in the list of ready nodes; the rest is the generation

uint64_t now() {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// The CPU that this thread is on; negative where the system does not say.
int current_cpu() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

uint64_t pack(uint32_t first, uint32_t last) { return uint64_t{first} << 32 | last; }
uint32_t first_of(uint64_t range) { return static_cast<uint32_t>(range >> 32); }
uint32_t last_of(uint64_t range) { return static_cast<uint32_t>(range); }

template <typename T>
std::unique_ptr<std::atomic<T>[]> zeros(size_t count) {
  return std::unique_ptr<std::atomic<T>[]>(new (std::nothrow) std::atomic<T>[count]());
}

}  // namespace

// ---- the pool ----

class KernelPool {
 public:
  static KernelPool& shared();

  void retain();
  void release();
  uint32_t limit() const { return limit_.load(std::memory_order_relaxed); }
  void set_limit(uint32_t threads);
  PoolState state();

  // As many threads as it takes for `threads` with a caller; false when there is none.
  bool start(uint32_t threads);
  void add(Job* job);
  void remove(Job* job);

  void enter() {
    callers_.fetch_add(1, std::memory_order_relaxed);
    arrivals_.fetch_add(1, std::memory_order_relaxed);
  }
  void leave() { callers_.fetch_sub(1, std::memory_order_relaxed); }

  // There is something new to claim.
  void announce() { epoch_.fetch_add(1, std::memory_order_seq_cst); }
  // Wakes a thread, if one sleeps and another one may work.
  void invite(const Job& job);

 private:
  KernelPool();
  void stop(std::unique_lock<std::mutex>& lock);
  void serve();
  Job* join(uint32_t* seat);
  void part(Job* job, uint32_t seat);
  void help(Job* job, uint32_t seat, uint64_t* idle_since, uint32_t* seen);
  void park(uint32_t seen);
  void link(Job* job);
  void unlink(Job* job);
  // Whether there are `more` threads than may be: callers run anyhow, helpers only where a CPU is left.
  bool crowded(const Job& job, uint32_t more) const {
    const uint32_t busy = callers_.load(std::memory_order_relaxed) + helping_.load(std::memory_order_relaxed);
    return busy + more > std::max(limit(), job.seats_);
  }

  std::atomic<uint32_t> limit_{1};
  std::atomic<bool> stopping_{false};
  alignas(64) std::atomic<uint32_t> epoch_{0};     // announcements
  alignas(64) std::atomic<uint32_t> sleepers_{0};  // threads that sleep and that nobody has chosen to wake
  std::atomic<uint32_t> tokens_{0};                // threads chosen that have not noticed
  alignas(64) std::atomic<uint32_t> callers_{0};   // in runs
  std::atomic<uint32_t> helping_{0};               // in jobs
  std::atomic<uint32_t> arrivals_{0};              // runs begun

  std::mutex mutex_;  // of what follows; taken by helpers between runs, at load and at disposal, in no run
  uint32_t environments_ = 0;
  uint32_t threads_ = 0;
  Job* jobs_ = nullptr;  // joined longest ago first
  Job* last_ = nullptr;
  uint32_t job_count_ = 0;
  uint64_t joined_ = 0;
#ifndef _WIN32
  pthread_t handles_[kMaxThreads];
#endif
};

KernelPool& KernelPool::shared() {
  // Never destroyed: at process exit its threads may still be at a task.
  alignas(KernelPool) static unsigned char storage[sizeof(KernelPool)];
  static KernelPool* const pool = new (storage) KernelPool;
  return *pool;
}

KernelPool::KernelPool() {
  set_limit(0);
#ifndef _WIN32
  // A forked child has none of the threads. It may start its own; runs of other threads stay behind, half done, with
  // their jobs.
  pthread_atfork([] { shared().mutex_.lock(); }, [] { shared().mutex_.unlock(); },
                 [] {
                   KernelPool& pool = shared();
                   new (&pool.mutex_) std::mutex;
                   pool.threads_ = 0;
                   pool.sleepers_ = 0;
                   pool.tokens_ = 0;
                   pool.callers_ = 0;
                   pool.helping_ = 0;
                   for (Job* job = pool.jobs_; job != nullptr; job = job->next_) {
                     job->shared_ = false;
                     job->taken_ = 1;
                   }
                 });
#endif
}

void KernelPool::set_limit(uint32_t threads) {
  const uint32_t limit = threads > 0 ? threads : find_cpus().threads;
  limit_.store(std::clamp(limit, 1u, kMaxThreads), std::memory_order_relaxed);
}

void KernelPool::retain() {
  const std::lock_guard<std::mutex> lock(mutex_);
  environments_++;
}

void KernelPool::release() {
  std::unique_lock<std::mutex> lock(mutex_);
  if (--environments_ == 0) stop(lock);
}

PoolState KernelPool::state() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return {threads_, job_count_, joined_};
}

bool KernelPool::start(uint32_t threads) {
#ifdef _WIN32
  (void)threads;
  return false;
#else
  const std::lock_guard<std::mutex> lock(mutex_);
  if (environments_ == 0 || stopping_.load(std::memory_order_relaxed)) return false;
  if (threads_ + 1 < threads) {
    // Signals are for the threads of whoever loaded the library.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, kStackBytes);
    while (threads_ + 1 < std::min(threads, kMaxThreads)) {
      const auto begin = [](void* pool) -> void* { return static_cast<KernelPool*>(pool)->serve(), nullptr; };
      if (pthread_create(&handles_[threads_], &attributes, begin, this) != 0) break;  // fewer, then
#if defined(__linux__)
      pthread_setname_np(handles_[threads_], "cloister");
#endif
      threads_++;
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  return threads_ > 0;
#endif
}

void KernelPool::stop(std::unique_lock<std::mutex>& lock) {
#ifndef _WIN32
  const uint32_t count = std::exchange(threads_, 0);
  if (count == 0) return;
  stopping_.store(true, std::memory_order_seq_cst);
  lock.unlock();  // threads on their way out still join and part
  tokens_.fetch_add(count, std::memory_order_seq_cst);
  tokens_.notify_all();
  for (uint32_t i = 0; i < count; i++) pthread_join(handles_[i], nullptr);
  lock.lock();
  tokens_.store(0, std::memory_order_relaxed);
  sleepers_.store(0, std::memory_order_relaxed);
  stopping_.store(false, std::memory_order_seq_cst);
#else
  (void)lock;
#endif
}

void KernelPool::link(Job* job) {
  job->previous_ = last_;
  job->next_ = nullptr;
  (last_ != nullptr ? last_->next_ : jobs_) = job;
  last_ = job;
}

void KernelPool::unlink(Job* job) {
  (job->previous_ != nullptr ? job->previous_->next_ : jobs_) = job->next_;
  (job->next_ != nullptr ? job->next_->previous_ : last_) = job->previous_;
}

void KernelPool::add(Job* job) {
  const std::lock_guard<std::mutex> lock(mutex_);
  link(job);
  job_count_++;
}

void KernelPool::remove(Job* job) {
  const std::lock_guard<std::mutex> lock(mutex_);
  unlink(job);
  job_count_--;
}

void KernelPool::invite(const Job& job) {
  if (crowded(job, 1)) return;
  uint32_t sleeping = sleepers_.load(std::memory_order_seq_cst);
  while (sleeping > 0) {
    if (!sleepers_.compare_exchange_weak(sleeping, sleeping - 1, std::memory_order_seq_cst)) continue;
    tokens_.fetch_add(1, std::memory_order_seq_cst);
    tokens_.notify_one();
    return;
  }
}

// The run with the fewest helpers that takes another; of equal ones that which was joined longest ago.
Job* KernelPool::join(uint32_t* seat) {
  if (callers_.load(std::memory_order_relaxed) == 0) return nullptr;
  const std::lock_guard<std::mutex> lock(mutex_);
  Job* best = nullptr;
  int fewest = 0;
  for (Job* job = jobs_; job != nullptr; job = job->next_) {
    if (!job->shared_.load(std::memory_order_acquire)) continue;
    const int members = __builtin_popcountll(job->taken_.load(std::memory_order_acquire));
    if (members >= static_cast<int>(job->seats_) || crowded(*job, 1)) continue;
    if (best == nullptr || members < fewest) best = job, fewest = members;
  }
  if (best == nullptr) return nullptr;
  *seat = static_cast<uint32_t>(__builtin_ctzll(~best->taken_.load(std::memory_order_acquire)));
  best->taken_.fetch_or(uint64_t{1} << *seat, std::memory_order_acq_rel);
  best->references_.fetch_add(1, std::memory_order_relaxed);
  helping_.fetch_add(1, std::memory_order_relaxed);
  joined_++;
  unlink(best);
  link(best);
  return best;
}

void KernelPool::part(Job* job, uint32_t seat) {
  job->taken_.fetch_and(~(uint64_t{1} << seat), std::memory_order_acq_rel);
  helping_.fetch_sub(1, std::memory_order_relaxed);
  job->release();
}

void KernelPool::serve() {
  uint64_t idle_since = now();
  uint32_t seen = epoch_.load(std::memory_order_seq_cst) - 1;  // nothing yet
  while (!stopping_.load(std::memory_order_seq_cst)) {
    const uint32_t epoch = epoch_.load(std::memory_order_seq_cst);
    if (epoch != seen) {
      seen = epoch;
      uint32_t seat = 0;
      if (Job* const job = join(&seat)) {
        help(job, seat, &idle_since, &seen);
        part(job, seat);
      }
    }
    for (uint32_t i = 0; i < kPauses; i++) pause();
    if (now() - idle_since < kSpin) continue;
    park(seen);
    idle_since = now();
    seen = epoch_.load(std::memory_order_seq_cst) - 1;
  }
}

// Works on `job` until it has had nothing to claim for too long, or others need a thread more. `seen` is then the
// announcement up to which there was nothing.
void KernelPool::help(Job* job, uint32_t seat, uint64_t* idle_since, uint32_t* seen) {
  const uint32_t arrivals = arrivals_.load(std::memory_order_relaxed);
  uint64_t generation = 0;
  uint32_t cursor = 0;
  for (bool first = true; !stopping_.load(std::memory_order_relaxed);) {
    const uint32_t epoch = epoch_.load(std::memory_order_seq_cst);
    const uint64_t current = job->generation_.load(std::memory_order_acquire);
    if (current != generation) generation = current, cursor = 0;
    if (!job->shared_.load(std::memory_order_acquire)) {
      *seen = epoch;
      return;
    }
    if (job->displaces(current_cpu())) {
      *seen = epoch;
      *idle_since = 0;  // sleep at once
      return;
    }
    if (job->work(seat, generation, &cursor)) {
      *idle_since = now();
      // Whoever was woken wakes the next, while there is something left for it.
      if (first && job->claimable(generation, cursor)) invite(*job);
      first = false;
    } else {
      *seen = epoch;
      for (uint32_t i = 0; i < kPauses; i++) pause();
      if (now() - *idle_since >= kSpin) return;
    }
    if (crowded(*job, 0) || arrivals != arrivals_.load(std::memory_order_relaxed)) {
      *seen = epoch_.load(std::memory_order_seq_cst) - 1;  // look again, at all jobs
      return;
    }
  }
}

void KernelPool::park(uint32_t seen) {
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  if (epoch_.load(std::memory_order_seq_cst) != seen || stopping_.load(std::memory_order_seq_cst)) {
    uint32_t sleeping = sleepers_.load(std::memory_order_seq_cst);
    while (sleeping > 0) {
      if (sleepers_.compare_exchange_weak(sleeping, sleeping - 1, std::memory_order_seq_cst)) return;
    }
    // Somebody has chosen this thread already: its token comes, or is there.
  }
  for (;;) {
    uint32_t tokens = tokens_.load(std::memory_order_seq_cst);
    while (tokens > 0) {
      if (tokens_.compare_exchange_weak(tokens, tokens - 1, std::memory_order_seq_cst)) return;
    }
    tokens_.wait(0, std::memory_order_seq_cst);
  }
}

// ---- a graph ----

uint64_t TaskGraph::saving(uint32_t threads) const {
  std::vector<uint64_t> reached(nodes.size());  // the longest path up to each node
  uint64_t total = 0, longest = 0;
  for (size_t i = 0; i < nodes.size(); i++) {
    const Node& node = nodes[i];
    const uint64_t end = reached[i] + node.cost / std::min(node.tasks, threads);
    total += node.cost;
    longest = std::max(longest, end);
    for (uint32_t s = 0; s < node.successor_count; s++) {
      uint64_t& at = reached[successors[node.first_successor + s]];
      at = std::max(at, end);
    }
  }
  return total - std::max(longest, total / threads);
}

// ---- a job ----

uint32_t Job::seats_for(const TaskGraph& graph, uint32_t threads) {
  const size_t nodes = graph.nodes.size();
  if (nodes == 0 || nodes >= size_t{1} << kNodeBits) return 1;
  const uint32_t seats = std::min({threads, kMaxThreads, static_cast<uint32_t>(kMaxRanges / nodes)});
  return seats > 1 && graph.saving(seats) >= kWorthAJob ? seats : 1;
}

JobPointer Job::create(std::shared_ptr<const TaskGraph> graph, uint32_t seats) {
  KernelPool& pool = KernelPool::shared();
  if (seats < 2 || !pool.start(std::max(seats, pool.limit()))) return nullptr;
  Job* const job = new (std::nothrow) Job(std::move(graph), seats);
  if (job == nullptr) return nullptr;
  if (!job->allocate()) {
    delete job;
    return nullptr;
  }
  pool.add(job);
  return JobPointer(job);
}

void JobDeleter::operator()(Job* job) const {
  KernelPool::shared().remove(job);
  job->release();
}

void Job::release() {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

Job::Job(std::shared_ptr<const TaskGraph> graph, uint32_t seats)
    : graph_(std::move(graph)), seats_(seats), nodes_(static_cast<uint32_t>(graph_->nodes.size())), invites_(nodes_) {
  // What helpers can save from a node on: its part of what they can save in all.
  uint64_t total = 1, ahead = 0;
  for (const TaskGraph::Node& node : graph_->nodes) total += node.cost;
  const double part = static_cast<double>(graph_->saving(seats)) / static_cast<double>(total);
  for (uint32_t i = nodes_; i-- > 0;) {
    ahead += graph_->nodes[i].cost;
    invites_[i] = static_cast<double>(ahead) * part >= static_cast<double>(kWorthWaking);
  }
  for (uint32_t i = 0; i < nodes_; i++) {
    if (graph_->nodes[i].predecessors == 0) roots_.push_back(i);
  }
}

bool Job::allocate() {
  pending_ = zeros<uint32_t>(nodes_);
  left_ = zeros<uint32_t>(nodes_);
  ready_ = zeros<uint64_t>(nodes_);
  ranges_ = zeros<uint64_t>(size_t{nodes_} * seats_);
  if (!pending_ || !left_ || !ready_ || !ranges_) return false;
  for (uint32_t i = 0; i < nodes_; i++) pending_[i].store(graph_->nodes[i].predecessors, std::memory_order_relaxed);
  return true;
}

void Job::run(TaskFunction function, void* context) {
  KernelPool& pool = KernelPool::shared();
  function_ = function;
  context_ = context;
  const uint64_t generation = generation_.load(std::memory_order_relaxed) + 1;
  unfinished_.store(nodes_, std::memory_order_relaxed);
  tail_.store(0, std::memory_order_relaxed);
  generation_.store(generation, std::memory_order_release);
  pool.enter();
  ledger_.mark = now();
  reconsider();

  uint32_t mine = kNone, cursor = 0;
  for (const uint32_t root : roots_) {
    if (mine == kNone && graph_->nodes[root].tasks == 1) {
      mine = root;
    } else {
      open(root);
    }
  }
  if (mine != kNone) perform(mine, 0, 0);
  while (finished_.load(std::memory_order_acquire) != generation) {
    if (!work(0, generation, &cursor)) {
      wait(generation, cursor);
      continue;
    }
    if (!shared_.load(std::memory_order_relaxed)) {
      reconsider();
    } else if (displaced_.load(std::memory_order_relaxed)) {
      go_alone(now() + kSolo);  // it costs little to find out, so there is no penalty
    } else {
      cpu_.store(current_cpu(), std::memory_order_relaxed);
    }
  }
  shared_.store(false, std::memory_order_release);
  pool.leave();
  settle();
}

uint32_t Job::shares(uint32_t node) const { return std::min(graph_->nodes[node].tasks, seats_); }

bool Job::claim(uint32_t node, uint32_t seat, uint32_t* task) {
  const uint32_t count = shares(node);
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t whose = (seat + i) % count;
    std::atomic<uint64_t>& word = range(whose, node);
    uint64_t range = word.load(std::memory_order_acquire);
    while (first_of(range) < last_of(range)) {
      const bool own = whose == seat;
      const uint64_t rest = own ? pack(first_of(range) + 1, last_of(range)) : pack(first_of(range), last_of(range) - 1);
      if (!word.compare_exchange_weak(range, rest, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      *task = own ? first_of(range) : last_of(range) - 1;
      return true;
    }
  }
  return false;
}

bool Job::claimable(uint64_t generation, uint32_t cursor) const {
  for (uint32_t at = cursor; at < nodes_; at++) {
    const uint64_t entry = ready_[at].load(std::memory_order_seq_cst);
    if (entry >> kNodeBits != generation) return false;
    const uint32_t node = entry & ((1u << kNodeBits) - 1);
    for (uint32_t i = 0; i < shares(node); i++) {
      const uint64_t range = this->range(i, node).load(std::memory_order_relaxed);
      if (first_of(range) < last_of(range)) return true;
    }
  }
  return false;
}

// Claims a task and performs it. `cursor` is an entry of the list before which there is nothing left to claim.
bool Job::work(uint32_t seat, uint64_t generation, uint32_t* cursor) {
  for (uint32_t at = *cursor; at < nodes_; at++) {
    const uint64_t entry = ready_[at].load(std::memory_order_acquire);
    if (entry >> kNodeBits != generation) return false;
    uint32_t task = 0;
    const uint32_t node = entry & ((1u << kNodeBits) - 1);
    if (claim(node, seat, &task)) {
      perform(node, task, seat);
      return true;
    }
    if (at == *cursor) ++*cursor;
  }
  return false;
}

// Runs a task that was claimed; then, while it was the last of its node, what that makes ready and is one task only.
void Job::perform(uint32_t node, uint32_t task, uint32_t seat) {
  while (node != kNone) {
    const TaskGraph::Node& facts = graph_->nodes[node];
    function_(context_, node, task, seat);
    const uint64_t cost = facts.cost / facts.tasks;
    if (seat == 0) {
      ledger_.own += cost;
    } else {
      helped_.fetch_add(cost, std::memory_order_relaxed);
    }
    if (facts.tasks > 1 && left_[node].fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    node = complete(node);
    task = 0;
  }
}

// Opens what waited for `node` alone, but for one node of one task, which it returns.
uint32_t Job::complete(uint32_t node) {
  const TaskGraph::Node& facts = graph_->nodes[node];
  uint32_t mine = kNone;
  for (uint32_t i = 0; i < facts.successor_count; i++) {
    const uint32_t next = graph_->successors[facts.first_successor + i];
    const TaskGraph::Node& successor = graph_->nodes[next];
    if (successor.predecessors > 1) {
      if (pending_[next].fetch_sub(1, std::memory_order_acq_rel) != 1) continue;
      pending_[next].store(successor.predecessors, std::memory_order_relaxed);  // for the next run
    }
    if (mine == kNone && successor.tasks == 1) {
      mine = next;
    } else {
      open(next);
    }
  }
  if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    finished_.store(generation_.load(std::memory_order_relaxed), std::memory_order_seq_cst);
    wake_caller();
  }
  return mine;
}

void Job::open(uint32_t node) {
  const uint32_t tasks = graph_->nodes[node].tasks, count = shares(node);
  left_[node].store(tasks, std::memory_order_relaxed);
  for (uint32_t i = 0; i < count; i++) {
    const auto bound = [&](uint32_t seat) { return static_cast<uint32_t>(uint64_t{tasks} * seat / count); };
    range(i, node).store(pack(bound(i), bound(i + 1)), std::memory_order_release);
  }
  const uint64_t generation = generation_.load(std::memory_order_relaxed);
  const uint32_t at = tail_.fetch_add(1, std::memory_order_relaxed);
  ready_[at].store(generation << kNodeBits | node, std::memory_order_seq_cst);
  wake_caller();
  if (!shared_.load(std::memory_order_relaxed)) return;
  KernelPool& pool = KernelPool::shared();
  pool.announce();
  if (invites_[node]) pool.invite(*this);
}

// Returns when there is something to claim or the run has ended.
void Job::wait(uint64_t generation, uint32_t cursor) {
  const auto over = [&] {
    return finished_.load(std::memory_order_seq_cst) == generation || claimable(generation, cursor);
  };
  const uint64_t start = now();
  uint64_t end = start;
  bool done = over();
  while (!done && end - start < kSpin) {
    for (uint32_t i = 0; i < kPauses && !done; i++) pause(), done = over();
    end = now();
  }
  while (!done) {
    const uint32_t signal = signal_.load(std::memory_order_seq_cst);
    parked_.store(1, std::memory_order_seq_cst);
    if (!over()) signal_.wait(signal, std::memory_order_seq_cst);
    parked_.store(0, std::memory_order_seq_cst);
    done = over();
    end = now();
  }
  ledger_.waited += end - start;
  settle();
}

void Job::wake_caller() {
  if (parked_.load(std::memory_order_seq_cst) == 0) return;
  if (parked_.exchange(0, std::memory_order_seq_cst) == 0) return;
  signal_.fetch_add(1, std::memory_order_seq_cst);
  signal_.notify_one();
}

// One thread would have needed (busy - waited) * (own + helped) / own, two or more needed `busy`: where the caller has
// waited longer than helpers saved it, as on a machine where they lose their CPU in the middle of a task, it works
// alone for a while, longer each time that this happens again.
void Job::settle() {
  const uint64_t time = now();
  ledger_.busy += time - ledger_.mark;
  ledger_.mark = time;
  if (ledger_.busy < kWindow) return;
  const auto helped = static_cast<double>(helped_.exchange(0, std::memory_order_relaxed));
  const auto own = static_cast<double>(ledger_.own), waited = static_cast<double>(ledger_.waited);
  const auto active = static_cast<double>(ledger_.busy - std::min(ledger_.waited, ledger_.busy));
  if (waited * own > active * helped && waited > 0) {
    go_alone(time + (kSolo << (2 * ledger_.penalty)));
    ledger_.penalty = std::min(ledger_.penalty + 1, kMaxPenalty);
  } else if (helped > 0 && ledger_.penalty > 0) {
    ledger_.penalty--;
  }
  ledger_.busy = ledger_.waited = ledger_.own = 0;
}

void Job::go_alone(uint64_t until) {
  ledger_.solo_until = until;
  shared_.store(false, std::memory_order_release);
}

// A thread on the CPU that the caller was on a task ago, while the caller has work, took that CPU from it: there is
// none to spare.
bool Job::displaces(int cpu) {
  if (cpu < 0 || cpu != cpu_.load(std::memory_order_relaxed) || parked_.load(std::memory_order_relaxed) != 0) return false;
  displaced_.store(true, std::memory_order_relaxed);
  return true;
}

void Job::reconsider() {
  if (ledger_.solo_until > 0) {
    if (now() < ledger_.solo_until) return;
    ledger_.solo_until = ledger_.busy = ledger_.waited = ledger_.own = 0;  // solo work says nothing of sharing
    ledger_.mark = now();
  }
  displaced_.store(false, std::memory_order_relaxed);
  cpu_.store(current_cpu(), std::memory_order_relaxed);
  shared_.store(true, std::memory_order_release);
}

// ---- what others see ----

uint32_t pool_threads() { return KernelPool::shared().limit(); }
void set_pool_threads(uint32_t threads) { KernelPool::shared().set_limit(threads); }
void retain_pool() { KernelPool::shared().retain(); }
void release_pool() { KernelPool::shared().release(); }
PoolState pool_state() { return KernelPool::shared().state(); }

}  // namespace cloister
