// How many CPUs this process may keep busy: what its control group and its affinity leave it, not what the host has.
#pragma once
#include <cstdint>

namespace cloister {

struct Cpus {
  uint32_t affinity = 1;  // CPUs that the calling thread may run on
  double quota = 0;       // CPUs' worth of time that the control groups allow; 0: no limit
  // Threads that never wait for quota: whole CPUs of the smaller of the two, at least one. A quota of 1.5 gives one: a
  // second thread would spend the period's time early, and then every thread stands still until the next period.
  uint32_t threads = 1;
};

// Asks the system. Without sched_getaffinity it counts all CPUs; without control groups there is no quota. `root` is
// put before every path that is read (tests have a tree of their own there); the system's is "".
Cpus find_cpus(const char* root = "");

}  // namespace cloister
