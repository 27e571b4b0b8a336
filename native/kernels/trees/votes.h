// What walking trees has in common on every row: keys, and what a leaf does to the scores.
#pragma once
#include "table.h"

namespace cloister {
namespace {

// The place of a float among all floats: -0 with 0, and NaN, quiet or not and of either sign, above everything.
inline uint32_t feature_key(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  bits = value == 0 ? 0 : bits;
  const uint32_t key = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return value != value ? UINT32_MAX : key;
}

// The leaf's votes, counted for one row.
inline void count_votes(const TreeTable& t, TreeAggregate aggregate, uint32_t leaf, double* scores, uint8_t* voted) {
  for (uint32_t i = t.starts[leaf]; i < t.starts[leaf + 1]; i++) {
    const uint32_t target = t.vote_targets[i];
    const double weight = t.weights[i];
    double& score = scores[target];
    if (aggregate == kTreeMin) score = !voted[target] || weight < score ? weight : score;
    else if (aggregate == kTreeMax) score = !voted[target] || weight > score ? weight : score;
    else score += weight;
    voted[target] = 1;
  }
}

}  // namespace
}  // namespace cloister
