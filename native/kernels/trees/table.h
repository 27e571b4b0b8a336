// Ensembles of decision trees over rows of f32 features.
#pragma once
#include "../types.h"

namespace cloister {

// A branch goes to node `child` where the row's key of `feature` is at most `split`, else to `child + 1`. A leaf is its
// own child, with a split that no key is above, so that a walk may go on standing there: all walks of a tree take as
// many steps as it is deep. Keys are features as integers in the same order (feature_key), so that NaN has a place too.
struct TreeNode {
  uint32_t split;
  uint32_t feature;  // below `slots`; from `features` on, the key under which NaN is lowest instead of highest
  uint32_t child;    // child + 1 is a node too
  uint32_t leaf;     // its place in `starts`; 0 in branches
};

struct Tree {
  uint32_t root, depth;
};

enum TreeAggregate : uint32_t { kTreeSum, kTreeAverage, kTreeMin, kTreeMax, kTreeAggregateCount };

// A verified ensemble: whatever the features, walks stay among its nodes, leaves and votes.
struct TreeTable {
  uint32_t features, slots;  // slots: features, or twice as many
  uint32_t targets, trees;
  bool single;               // leaf i has the one vote i, and there is one target
  const Tree* roots;
  const TreeNode* nodes;
  const uint32_t* starts;    // the votes of leaf i are [starts[i], starts[i + 1])
  const uint32_t* vote_targets;
  const double* weights;
};

struct TreeKernels {
  size_t (*workspace_bytes)(uint32_t slots);
  // scores[row * targets + target]: the votes of all trees, in their order, in double; AVERAGE divides by the number of
  // trees. voted, in the same places: 1 where there was any, else 0. Every row of the dispatch table gives the same
  // bits. workspace: 64-byte aligned.
  void (*vote)(const TreeTable& table, TreeAggregate aggregate, const float* x, size_t rows, double* scores,
               uint8_t* voted, void* workspace);
};

}  // namespace cloister
