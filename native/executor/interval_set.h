// Sets of bytes of an arena, as disjoint half-open intervals: which bytes have been written.
#pragma once
#include <cstdint>
#include <iterator>
#include <map>

namespace cloister {

class IntervalSet {
 public:
  // Adds [from, to). Merges what touches, so the set never holds more intervals than additions.
  void add(uint64_t from, uint64_t to) {
    if (from >= to) return;
    auto next = intervals_.upper_bound(from);
    if (next != intervals_.begin()) {
      auto before = std::prev(next);
      if (before->second >= from) {
        from = before->first;
        if (before->second > to) to = before->second;
        next = intervals_.erase(before);
      }
    }
    while (next != intervals_.end() && next->first <= to) {
      if (next->second > to) to = next->second;
      next = intervals_.erase(next);
    }
    intervals_.emplace_hint(next, from, to);
  }

  // The first byte of [from, to) that is not in the set, or `to` when all of them are.
  uint64_t first_missing(uint64_t from, uint64_t to) const {
    if (from >= to) return to;
    auto next = intervals_.upper_bound(from);
    if (next == intervals_.begin()) return from;
    const uint64_t end = std::prev(next)->second;
    if (end <= from) return from;
    return end < to ? end : to;
  }

 private:
  std::map<uint64_t, uint64_t> intervals_;  // start -> end
};

}  // namespace cloister
