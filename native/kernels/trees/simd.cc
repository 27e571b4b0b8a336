// Walks through trees, kWalks at a time: a step of one walk waits for its node and its feature, those of the others fill
// the time. With many rows, the walks are rows in one tree, which stays in L1 meanwhile; with few, trees for one row.
//
// Plain integer code: gathers of nodes take twice as long as loads one by one (Zen 4).
#include "../row.h"
#include "../simd.h"
#include "table.h"
#include "votes.h"

namespace cloister::CLOISTER_ROW {
namespace {

constexpr size_t kWalks = 8;
constexpr size_t kRowBlock = 8 * kWalks;  // rows whose keys are made at a time

// Keys lie as [group of kWalks rows][slot][row of the group].
inline void make_keys(const TreeTable& t, const float* x, size_t rows, uint32_t* keys) {
  for (size_t i = 0; i < rows; i++, x += t.features) {
    uint32_t* to = keys + i / kWalks * kWalks * t.slots + i % kWalks;
    for (size_t f = 0; f < t.features; f++) to[f * kWalks] = feature_key(x[f]);
    if (t.slots == t.features) continue;
    uint32_t* low = to + t.features * kWalks;
    for (size_t f = 0; f < t.features; f++) {
      const uint32_t key = to[f * kWalks];
      low[f * kWalks] = key == UINT32_MAX ? 0 : key;
    }
  }
}

// Moves walk i, which is at at[i], `steps` steps on. `Apart`: each walk has a row of its own.
template <bool Apart>
inline void walk(const TreeNode* nodes, const uint32_t* keys, uint32_t steps, uint32_t* at) {
  uint32_t now[kWalks];
#pragma GCC unroll 8
  for (size_t i = 0; i < kWalks; i++) now[i] = at[i];
  for (uint32_t step = 0; step < steps; step++) {
#pragma GCC unroll 8
    for (size_t i = 0; i < kWalks; i++) {
      const TreeNode& node = nodes[now[i]];
      now[i] = node.child + (keys[size_t{node.feature} * kWalks + (Apart ? i : 0)] > node.split);
    }
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < kWalks; i++) at[i] = now[i];
}

void vote(const TreeTable& t, TreeAggregate aggregate, const float* x, size_t rows, double* scores, uint8_t* voted,
          void* workspace) {
  uint32_t* const keys = static_cast<uint32_t*>(workspace);
  const size_t size = rows * t.targets;
  const bool plain = t.single && aggregate <= kTreeAverage;
  for (size_t i = 0; i < size; i++) scores[i] = 0, voted[i] = plain && t.trees > 0;
  for (size_t top = 0; top < rows; top += kRowBlock) {
    const size_t count = smaller(rows - top, kRowBlock), full = count / kWalks * kWalks;
    make_keys(t, x + top * t.features, count, keys);
    for (size_t tree = 0; full > 0 && tree < t.trees; tree++) {
      for (size_t row = 0; row < full; row += kWalks) {
        uint32_t at[kWalks];
        for (size_t i = 0; i < kWalks; i++) at[i] = t.roots[tree].root;
        walk<true>(t.nodes, keys + row * t.slots, t.roots[tree].depth, at);
        if (plain) {
          for (size_t i = 0; i < kWalks; i++) scores[top + row + i] += t.weights[t.nodes[at[i]].leaf];
          continue;
        }
        for (size_t i = 0; i < kWalks; i++) {
          const size_t to = (top + row + i) * t.targets;
          count_votes(t, aggregate, t.nodes[at[i]].leaf, scores + to, voted + to);
        }
      }
    }
    for (size_t row = full; row < count; row++) {
      const size_t to = (top + row) * t.targets;
      for (size_t tree = 0; tree < t.trees; tree += kWalks) {
        const size_t trees = smaller(t.trees - tree, kWalks);
        uint32_t at[kWalks], steps = 0;
        for (size_t i = 0; i < kWalks; i++) {
          const Tree& next = t.roots[i < trees ? tree + i : tree];
          at[i] = next.root;
          steps = next.depth > steps ? next.depth : steps;
        }
        walk<false>(t.nodes, keys + full * t.slots + (row - full), steps, at);
        for (size_t i = 0; i < trees; i++) {
          const uint32_t leaf = t.nodes[at[i]].leaf;
          if (plain) scores[to] += t.weights[leaf];
          else count_votes(t, aggregate, leaf, scores + to, voted + to);
        }
      }
    }
  }
  if (aggregate == kTreeAverage && t.trees > 0) {
    for (size_t i = 0; i < size; i++) scores[i] /= t.trees;
  }
}

size_t tree_workspace(uint32_t slots) { return size_t{slots} * kRowBlock * sizeof(uint32_t); }

}  // namespace

constinit const TreeKernels trees = {tree_workspace, vote};

}  // namespace cloister::CLOISTER_ROW
