#include "schedule.h"

#include <iterator>
#include <map>
#include <utility>

namespace cloister {
namespace {

constexpr uint32_t kNobody = UINT32_MAX;

// Work to nanoseconds, for what a thread would cost and save: 2^19, of which `tasks_for` makes a task, are 16,000.
// Kernels are between four times faster (a GEMM) and twice as slow (a copy out of main memory).
constexpr uint64_t kWorkPerNanosecond = 32;

// Steps in a row that do not split are one node up to this many nanoseconds.
constexpr uint64_t kSmallNode = 20'000;

// Of stretches and their readers looked at or copied, for each access of a step. It bounds time and memory.
constexpr uint64_t kMostVisits = 16;

// Who touched the bytes of one slot last, as disjoint stretches.
class History {
 public:
  // Calls `after(node)` for each node that `node` has to follow in order to read (write) [from, to). Returns what it
  // cost besides.
  template <typename After>
  uint64_t touch(uint32_t node, const Access& access, const After& after) {
    if (access.from >= access.to) return 0;
    uint64_t count = split(access.from) + split(access.to);
    uint64_t at = access.from;
    auto next = stretches_.lower_bound(at);
    while (at < access.to) {
      count++;
      if (next == stretches_.end() || next->first > at) {  // nobody was here
        const uint64_t end = next == stretches_.end() || next->first > access.to ? access.to : next->first;
        next = std::next(stretches_.emplace_hint(next, at, Stretch{end, kNobody, {}}));
        visit(&std::prev(next)->second, node, access.write, after);
        at = end;
        continue;
      }
      visit(&next->second, node, access.write, after);
      at = next->second.end;
      ++next;
    }
    if (access.write) {  // one stretch from now on
      auto first = stretches_.find(access.from);
      first->second.end = access.to;
      stretches_.erase(std::next(first), next);
    }
    return count;
  }

 private:
  struct Stretch {
    uint64_t end;
    uint32_t writer;                // kNobody: not yet in this run
    std::vector<uint32_t> readers;  // since it was written
  };

  template <typename After>
  static void visit(Stretch* stretch, uint32_t node, bool write, const After& after) {
    if (!write) {
      if (stretch->writer != kNobody) after(stretch->writer);
      if (stretch->readers.empty() || stretch->readers.back() != node) stretch->readers.push_back(node);
      return;
    }
    // Readers come after the writer, so who comes after them comes after it.
    for (const uint32_t reader : stretch->readers) after(reader);
    if (stretch->readers.empty() && stretch->writer != kNobody) after(stretch->writer);
    stretch->writer = node;
    stretch->readers.clear();
  }

  // Makes `at` a border between stretches. Returns how many readers it copied.
  uint64_t split(uint64_t at) {
    auto next = stretches_.upper_bound(at);
    if (next == stretches_.begin()) return 0;
    auto before = std::prev(next);
    if (before->first == at || before->second.end <= at) return 0;
    Stretch rest = before->second;
    before->second.end = at;
    return stretches_.emplace_hint(next, at, std::move(rest))->second.readers.size();
  }

  std::map<uint64_t, Stretch> stretches_;  // by their first byte
};

}  // namespace

Schedule make_schedule(const std::vector<std::unique_ptr<const Step>>& steps, bool merge) {
  Schedule schedule;
  std::vector<TaskGraph::Node>& nodes = schedule.graph->nodes;
  std::vector<bool> written;  // by slot: what no step writes orders nothing
  for (uint32_t i = 0; i < steps.size(); i++) {
    const Step& step = *steps[i];
    const uint64_t cost = step.work / kWorkPerNanosecond;
    const bool joins = merge && !nodes.empty() && step.tasks == 1 && nodes.back().tasks == 1 && cost < kSmallNode &&
                       nodes.back().cost < kSmallNode;
    if (!joins) {
      nodes.emplace_back().tasks = step.tasks;
      schedule.first.push_back(i);
    }
    nodes.back().cost += cost;
    for (const Access& access : step.accesses) {
      if (access.slot >= written.size()) written.resize(access.slot + 1);
      if (access.write) written[access.slot] = true;
    }
  }
  schedule.first.push_back(static_cast<uint32_t>(steps.size()));

  std::vector<History> histories(written.size());
  std::vector<std::pair<uint32_t, uint32_t>> edges;  // by their second node
  std::vector<uint32_t> followed(nodes.size(), kNobody);
  uint64_t allowed = 1024, visits = 0;
  for (uint32_t node = 0; node < nodes.size() && visits <= allowed; node++) {
    const auto after = [&](uint32_t before) {
      visits++;
      if (before == node || followed[before] == node) return;
      followed[before] = node;
      edges.push_back({before, node});
    };
    for (uint32_t i = schedule.first[node]; i < schedule.first[node + 1]; i++) {
      for (const Access& access : steps[i]->accesses) {
        allowed += kMostVisits;
        if (written[access.slot] && visits <= allowed) visits += histories[access.slot].touch(node, access, after);
      }
    }
  }
  if (visits > allowed) {
    edges.clear();
    for (uint32_t node = 1; node < nodes.size(); node++) edges.push_back({node - 1, node});
  }

  for (const auto& [before, node] : edges) nodes[before].successor_count++, nodes[node].predecessors++;
  uint32_t at = 0;
  for (TaskGraph::Node& node : nodes) node.first_successor = at, at += std::exchange(node.successor_count, 0);
  schedule.graph->successors.resize(at);
  for (const auto& [before, node] : edges) {
    TaskGraph::Node& from = nodes[before];
    schedule.graph->successors[from.first_successor + from.successor_count++] = node;
  }
  return schedule;
}

}  // namespace cloister
