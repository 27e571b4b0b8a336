// Trees as their definition reads: one row in one tree at a time.
#include "../row.h"
#include "table.h"
#include "votes.h"

namespace cloister::scalar {
namespace {

void vote(const TreeTable& t, TreeAggregate aggregate, const float* x, size_t rows, double* scores, uint8_t* voted,
          void*) {
  for (size_t i = 0; i < rows * t.targets; i++) scores[i] = 0, voted[i] = 0;
  for (size_t row = 0; row < rows; row++, x += t.features, scores += t.targets, voted += t.targets) {
    for (size_t tree = 0; tree < t.trees; tree++) {
      const TreeNode* node = t.nodes + t.roots[tree].root;
      for (uint32_t step = 0; step < t.roots[tree].depth; step++) {
        const bool low = node->feature >= t.features;
        const float value = x[node->feature - (low ? t.features : 0)];
        const uint32_t key = low && value != value ? 0 : feature_key(value);
        node = t.nodes + node->child + (key > node->split);
      }
      count_votes(t, aggregate, node->leaf, scores, voted);
    }
    if (aggregate != kTreeAverage || t.trees == 0) continue;
    for (size_t i = 0; i < t.targets; i++) scores[i] /= t.trees;
  }
}

size_t tree_workspace(uint32_t) { return 0; }

}  // namespace

constinit const TreeKernels trees = {tree_workspace, vote};

}  // namespace cloister::scalar
