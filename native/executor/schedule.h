// In which order the steps of a program may run: derived once, at load, from what each verified step reads and writes.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "../pool/pool.h"
#include "step.h"

namespace cloister {

// Node i of the graph is the steps [first[i], first[i + 1]) of the program, one behind another on one thread: a step
// that splits into tasks, or small steps in a row, which are not worth passing from thread to thread.
//
// A node comes after every earlier node of which it reads what that one writes, writes what that one reads, or writes
// what that one writes. So in every order that the graph allows, each step finds and leaves the bytes that it finds and
// leaves in the program's order.
struct Schedule {
  std::shared_ptr<TaskGraph> graph = std::make_shared<TaskGraph>();
  std::vector<uint32_t> first;
};

// Takes time and memory in proportion to the accesses: where hazards are many more than that, the nodes simply follow
// one another. Unless `merge`, each step is a node of its own.
Schedule make_schedule(const std::vector<std::unique_ptr<const Step>>& steps, bool merge);

}  // namespace cloister
