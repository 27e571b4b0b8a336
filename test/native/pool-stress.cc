// Runs random graphs on the kernel pool from several threads at once, for a sanitised build: pool-sanitize.test.ts
// compiles it with ThreadSanitizer, and with AddressSanitizer and UndefinedBehaviorSanitizer.
//
//   pool-stress SECONDS SEED [fork]
//
// Every task reads, without atomics, what the tasks of the nodes before its own have written, and writes a value that
// depends on all of it: a task that ran too early, twice or never, and a seat that two threads had at once, change the
// result or are a data race. Meanwhile jobs come and go, threads park and wake, the pool is stopped and started. Prints
// one line of JSON.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#ifndef _WIN32
#include <sys/wait.h>
#include <unistd.h>
#endif

#include "../../native/pool/pool.h"

using namespace cloister;

namespace {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  uint32_t below(uint32_t bound) {  // xorshift64*, the upper half
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>((state_ * 2685821657736338717ull) >> 32) % bound;
  }

 private:
  uint64_t state_;
};

uint64_t mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
  return value ^ (value >> 31);
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

struct Plan {
  std::shared_ptr<TaskGraph> graph = std::make_shared<TaskGraph>();
  std::vector<std::vector<uint32_t>> predecessors;
  std::vector<size_t> first;  // of each node, in the list of all tasks
  size_t tasks = 0;
};

Plan random_plan(Random& random) {
  Plan plan;
  const uint32_t count = 1 + random.below(random.below(4) == 0 ? 200 : 20);
  const uint32_t width = 1 + random.below(8);
  std::vector<std::vector<uint32_t>> successors(count);
  plan.predecessors.resize(count);
  for (uint32_t i = 0; i < count; i++) {
    TaskGraph::Node node;
    node.tasks = random.below(3) == 0 ? 1 : 1 + random.below(random.below(8) == 0 ? 256 : 12);
    node.cost = 100'000 + random.below(400'000);
    for (uint32_t edge = random.below(4); edge > 0 && i > 0; edge--) {
      const uint32_t from = i - 1 - random.below(i < width ? i : width);
      bool known = false;
      for (const uint32_t other : plan.predecessors[i]) known |= other == from;
      if (known) continue;
      plan.predecessors[i].push_back(from);
      successors[from].push_back(i);
    }
    node.predecessors = static_cast<uint32_t>(plan.predecessors[i].size());
    plan.graph->nodes.push_back(node);
    plan.first.push_back(plan.tasks);
    plan.tasks += node.tasks;
  }
  for (uint32_t i = 0; i < count; i++) {
    plan.graph->nodes[i].first_successor = static_cast<uint32_t>(plan.graph->successors.size());
    plan.graph->nodes[i].successor_count = static_cast<uint32_t>(successors[i].size());
    plan.graph->successors.insert(plan.graph->successors.end(), successors[i].begin(), successors[i].end());
  }
  return plan;
}

// Of one run. On the heap and freed right after it, so that a late touch is seen.
struct Run {
  const Plan& plan;
  uint64_t salt;
  uint32_t slow;  // one in so many tasks yields; 0: none
  std::vector<uint64_t> values;
  std::vector<uint64_t> scratch;  // by seat

  Run(const Plan& plan, uint64_t salt, uint32_t slow, uint32_t seats)
      : plan(plan), salt(salt), slow(slow), values(plan.tasks), scratch(seats * 8) {}

  void task(uint32_t node, uint32_t task, uint32_t seat) {
    uint64_t value = mix(salt + plan.first[node] + task);
    for (const uint32_t before : plan.predecessors[node]) {
      for (uint32_t i = 0; i < plan.graph->nodes[before].tasks; i++) value = mix(value + values[plan.first[before] + i]);
    }
    scratch[seat * 8] = value;
    if (slow > 0 && value % slow == 0) std::this_thread::yield();
    if (slow > 0 && value % (slow * 64) == 1) std::this_thread::sleep_for(std::chrono::microseconds(value % 300));
    uint64_t& result = values[plan.first[node] + task];
    if (result != 0) fail("a task ran twice");
    result = scratch[seat * 8] | 1;
  }

  static void call(void* run, uint32_t node, uint32_t task, uint32_t seat) {
    static_cast<Run*>(run)->task(node, task, seat);
  }
};

std::atomic<uint64_t> runs{0}, tasks{0}, alone{0};

// One run on `job`, and the same one task after another.
void check(const Plan& plan, Job& job, Random& random) {
  const uint64_t salt = random.below(UINT32_MAX);
  auto shared = std::make_unique<Run>(plan, salt, random.below(3) == 0 ? 1 + random.below(20) : 0, job.seats());
  job.run(Run::call, shared.get());
  const std::vector<uint64_t> came = std::move(shared->values);
  shared.reset();
  Run expected(plan, salt, 0, 1);
  for (uint32_t node = 0; node < plan.graph->nodes.size(); node++) {
    for (uint32_t task = 0; task < plan.graph->nodes[node].tasks; task++) expected.task(node, task, 0);
  }
  if (came != expected.values) fail("the result depends on threads");
  runs++;
  tasks += plan.tasks;
}

void call_runs(uint64_t seed, const std::atomic<bool>& stop) {
  Random random(seed);
  while (!stop.load()) {
    const Plan plan = random_plan(random);
    const JobPointer job = Job::create(plan.graph, Job::seats_for(*plan.graph, 2 + random.below(7)));
    if (!job) {
      alone++;
      continue;
    }
    for (uint32_t i = 1 + random.below(30); i > 0 && !stop.load(); i--) {
      check(plan, *job, random);
      // Long enough, at times, for the helpers to park.
      if (random.below(8) == 0) std::this_thread::sleep_for(std::chrono::microseconds(random.below(200)));
    }
  }
}

#ifndef _WIN32
// A child that was forked in the middle of others' runs has none of the threads; it gets its own.
int fork_once(uint64_t seed) {
  const pid_t child = fork();
  if (child == 0) {
    if (pool_state().threads != 0) _exit(2);
    Random random(seed);
    Plan plan;
    JobPointer job;
    while (!job) plan = random_plan(random), job = Job::create(plan.graph, Job::seats_for(*plan.graph, 4));
    if (pool_state().threads == 0) _exit(3);
    for (int i = 0; i < 50; i++) check(plan, *job, random);
    job.reset();
    release_pool();
    _exit(pool_state().threads == 0 ? 0 : 4);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
#endif

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  const double seconds = std::atof(arguments[1]);
  const uint64_t seed = std::strtoull(arguments[2], nullptr, 10);
  const bool forks = count > 3 && std::string_view(arguments[3]) == "fork";
  set_pool_threads(6);
  retain_pool();
  std::atomic<bool> stop{false};
  std::vector<std::thread> callers;
  for (uint64_t i = 0; i < 4; i++) callers.emplace_back(call_runs, seed * 16 + i, std::cref(stop));
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  uint64_t stops = 0, forked = 0;
  while (std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
#ifndef _WIN32
    if (forks) {
      const int status = fork_once(seed + forked++);
      if (status != 0) return std::fprintf(stderr, "a forked child ended with %d\n", status), 1;
      continue;
    }
#endif
    release_pool();  // in the middle of runs, which go on with their callers alone
    if (pool_state().threads != 0) fail("threads are left after the last release");
    retain_pool();
    stops++;
  }
  stop = true;
  for (std::thread& caller : callers) caller.join();
  const PoolState state = pool_state();
  release_pool();
  if (state.jobs != 0) fail("jobs are left");
  if (pool_state().threads != 0) fail("threads are left at the end");
  std::printf("{\"runs\":%llu,\"tasks\":%llu,\"alone\":%llu,\"joined\":%llu,\"stops\":%llu,\"forks\":%llu}\n",
              static_cast<unsigned long long>(runs), static_cast<unsigned long long>(tasks),
              static_cast<unsigned long long>(alone), static_cast<unsigned long long>(state.joined),
              static_cast<unsigned long long>(stops), static_cast<unsigned long long>(forked));
  return 0;
}
