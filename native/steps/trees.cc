// trees:  x, table, scores, voted · rows aggregate, then the words of the table's layout
// scores: x, voted, base, labels, y, best · rows targets transform form voter positive
//
// The table is packed (layout `trees`: features slots targets trees nodes leaves votes depth single). Its weights as a
// program has them: f64[votes] · (root, depth)[trees] · node[nodes] · u32[leaves + 1] starts · u32[votes] targets, and
// then up to a multiple of 8. What they say is checked when they are packed, so that a walk, which follows
// them, cannot leave them.
//
// scores turns sums, f64 (rows, targets), into f32 ones. Form 0: a regression; 1: `best`, i64 (rows), is the label of
// the first largest of the targets voted for; 2: of two classes, which one target, `voter`, decides. base: f64, as many
// as there are targets, or none, or one in form 2. labels: i64 (targets); none in form 0.
#include <cinttypes>
#include <cmath>
#include <cstring>

#include "../executor/kinds.h"
#include "../executor/program.h"

namespace cloister {
namespace {

struct TableSizes {
  uint32_t features, slots, targets, trees, nodes, leaves, votes, depth, single;
};
constexpr size_t kTableWords = 9;
constexpr uint32_t kMaxDepth = 1u << 12;

// Where the parts of a table begin.
struct TableParts {
  uint64_t roots, nodes, starts, targets, end;
  explicit TableParts(const TableSizes& s)
      : roots(uint64_t{s.votes} * 8),
        nodes(roots + uint64_t{s.trees} * 8),
        starts(nodes + uint64_t{s.nodes} * sizeof(TreeNode)),
        targets(starts + (uint64_t{s.leaves} + 1) * 4),
        end((targets + uint64_t{s.votes} * 4 + 7) / 8 * 8) {}
};

TreeTable table_at(const TableSizes& s, const uint8_t* bytes) {
  const TableParts parts(s);
  return {
      s.features, s.slots, s.targets, s.trees, s.single == 1,
      reinterpret_cast<const Tree*>(bytes + parts.roots),
      reinterpret_cast<const TreeNode*>(bytes + parts.nodes),
      reinterpret_cast<const uint32_t*>(bytes + parts.starts),
      reinterpret_cast<const uint32_t*>(bytes + parts.targets),
      reinterpret_cast<const double*>(bytes),
  };
}

bool measure(StepReader& reader, const uint32_t* words, uint64_t* source_bytes, uint64_t* packed_bytes) {
  TableSizes s;
  std::memcpy(&s, words, sizeof s);
  for (uint32_t i = kTableWords; i < kPackedWords; i++) {
    if (words[i] != 0) return reader.fail("packed-layout", "word %u must be zero, got %u", i, words[i]);
  }
  if (!reader.dim(s.features, "features") || !reader.dim(s.targets, "targets") || !reader.dim(s.trees, "trees") ||
      !reader.dim(s.nodes, "nodes") || !reader.dim(s.leaves, "leaves") || !reader.flag(s.single, "single")) {
    return false;
  }
  if (s.slots != s.features && s.slots != 2 * s.features) {
    return reader.fail("packed-layout", "%u slots for %u features", s.slots, s.features);
  }
  if (s.votes > kMaxDim || s.depth > kMaxDepth) {
    return reader.fail("dimension", "%u votes, at most %u; %u steps, at most %u", s.votes, kMaxDim, s.depth, kMaxDepth);
  }
  if (s.single == 1 && (s.targets != 1 || s.votes != s.leaves)) {
    return reader.fail("packed-layout", "%u votes of %u leaves for %u targets are not single", s.votes, s.leaves,
                       s.targets);
  }
  *source_bytes = *packed_bytes = TableParts(s).end;
  return true;
}

// True when every index is one of what it points into.
bool sound(const TableSizes& s, const TreeTable& t) {
  for (uint32_t i = 0; i < s.trees; i++) {
    if (t.roots[i].root >= s.nodes || t.roots[i].depth > s.depth) return false;
  }
  for (uint32_t i = 0; i < s.nodes; i++) {
    const TreeNode& node = t.nodes[i];
    // The last node is nobody's child and leads nowhere: it is there so that child + 1 always is one.
    const bool padding = i + 1 == s.nodes && node.child == 0;
    if (node.feature >= s.slots || node.leaf >= s.leaves) return false;
    if (!padding && node.child >= s.nodes - 1) return false;
  }
  if (t.starts[0] != 0 || t.starts[s.leaves] != s.votes) return false;
  for (uint32_t i = 0; i < s.leaves; i++) {
    if (t.starts[i] > t.starts[i + 1] || (t.single && t.starts[i] != i)) return false;
  }
  for (uint32_t i = 0; i < s.votes; i++) {
    if (t.vote_targets[i] >= s.targets) return false;
  }
  return true;
}

bool pack(const Kernels&, const uint32_t* words, const uint8_t* source, uint8_t* packed) {
  TableSizes s;
  std::memcpy(&s, words, sizeof s);
  std::memcpy(packed, source, TableParts(s).end);
  return sound(s, table_at(s, packed));
}

class Trees final : public Step {
 public:
  TableSizes sizes;
  TreeAggregate aggregate;
  size_t rows;
  Ref x, table, scores, voted;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(rows, task, tasks);
    frame.row.trees.vote(table_at(sizes, frame.at<uint8_t>(table)), aggregate,
                         frame.at<float>(x) + share.first * sizes.features, share.last - share.first,
                         frame.at<double>(scores) + share.first * sizes.targets,
                         frame.at<uint8_t>(voted) + share.first * sizes.targets, frame.scratch<uint8_t>());
  }
};

enum Transform : uint32_t { kNone, kSoftmax, kLogistic, kSoftmaxZero, kProbit, kTransformCount };
enum ScoreForm : uint32_t { kRegression, kClasses, kPair, kScoreFormCount };

// The normal quantile by Winitzki's formula for the inverse error function.
double probit(double p) {
  const double x = 2 * p - 1, log = std::log((1 - x) * (1 + x)), half = 2 / (M_PI * 0.147) + log / 2;
  const double size = std::sqrt(std::sqrt(half * half - log / 0.147) - half);
  return M_SQRT2 * (x > 0 ? 1 : x < 0 ? -1 : x) * size;
}

void transform_scores(Transform transform, double* scores, size_t count) {
  switch (transform) {
    case kNone:
    case kTransformCount: return;
    case kLogistic:
      for (size_t i = 0; i < count; i++) scores[i] = 1 / (1 + std::exp(-scores[i]));
      return;
    case kProbit:
      for (size_t i = 0; i < count; i++) scores[i] = probit(scores[i]);
      return;
    case kSoftmax:
    case kSoftmaxZero: {
      double largest = -INFINITY, sum = 0;
      for (size_t i = 0; i < count; i++) {
        if (scores[i] > largest || scores[i] != scores[i]) largest = scores[i];
      }
      for (size_t i = 0; i < count; i++) {
        // With kSoftmaxZero a score of zero, for which nothing spoke, stays zero.
        scores[i] = transform == kSoftmaxZero && std::fabs(scores[i]) <= 1e-7 ? 0 : std::exp(scores[i] - largest);
        sum += scores[i];
      }
      for (size_t i = 0; sum != 0 && i < count; i++) scores[i] /= sum;
    }
  }
}

class Scores final : public Step {
 public:
  size_t rows, targets, bases;
  Transform transform;
  ScoreForm form;
  uint32_t voter;
  bool positive;
  Ref x, voted, base, labels, y, best;

  void run(const Frame& frame, uint32_t) const override {
    double* row = frame.scratch<double>();
    for (size_t i = 0; i < rows; i++) {
      std::memcpy(row, frame.at<double>(x) + i * targets, targets * sizeof *row);
      for (size_t j = 0; j < bases; j++) row[j] += frame.at<double>(base)[j];
      if (form == kRegression) {
        transform_scores(transform, row, targets);
      } else {
        const size_t winner = form == kPair ? finish_pair(row) : first_largest(row, frame.at<uint8_t>(voted) + i * targets);
        frame.at<int64_t>(best)[i] = frame.at<int64_t>(labels)[winner];
      }
      for (size_t j = 0; j < targets; j++) frame.at<float>(y)[i * targets + j] = static_cast<float>(row[j]);
    }
  }

 private:
  size_t first_largest(double* row, const uint8_t* votes) const {
    size_t found = targets;
    for (size_t j = 0; j < targets; j++) {
      if ((votes[j] || j < bases) && (found == targets || row[j] > row[found])) found = j;
    }
    transform_scores(transform, row, targets);
    return found == targets ? 0 : found;
  }

  size_t finish_pair(double* row) const {
    const double score = row[voter];
    if (voter == 0 && bases < 2) {
      // One score tells both: the second class has it, the first its opposite.
      row[0] = transform == kProbit || (transform == kNone && positive) ? 1 - score : -score;
      row[1] = score;
    }
    transform_scores(transform, row, 2);
    return score > (positive && (transform == kNone || transform == kProbit) ? 0.5 : 0) ? 1 : 0;
  }
};

}  // namespace

extern const PackedLayout kTreesLayout = {"trees", 8, measure, pack};

std::unique_ptr<Step> read_trees(StepReader& r) {
  auto step = std::make_unique<Trees>();
  if (!r.form(4, 4, 2 + kTableWords) || !r.dim(r.word(0), "rows") ||
      !r.choice(r.word(1), kTreeAggregateCount, "aggregate")) {
    return nullptr;
  }
  step->rows = r.word(0);
  step->aggregate = static_cast<TreeAggregate>(r.word(1));
  TableSizes& s = step->sizes;
  std::memcpy(&s, r.words_from(2), sizeof s);
  uint32_t words[kPackedWords] = {};
  std::memcpy(words, &s, sizeof s);
  // A table of these words exists, so they were measured.
  if (!r.packed(1, kLayoutTrees, words, &step->table) ||
      !r.reads(0, product({step->rows, s.features, 4}), 4, &step->x) ||
      !r.writes(2, product({step->rows, s.targets, 8}), 8, &step->scores) ||
      !r.writes(3, product({step->rows, s.targets}), 1, &step->voted)) {
    return nullptr;
  }
  step->scratch_bytes = r.row().trees.workspace_bytes(s.slots);
  // Votes of a leaf: all of them, at worst.
  const uint64_t per_tree = sum(product({s.depth, 4}), s.single == 1 ? 1 : s.votes);
  step->work = product({step->rows, sum(product({s.trees, per_tree}), s.slots)});
  step->tasks = tasks_for(product({step->rows, s.trees, s.depth, 4}), step->rows);
  return step;
}

std::unique_ptr<Step> read_scores(StepReader& r) {
  auto step = std::make_unique<Scores>();
  if (!r.form(6, 6, 6) || !r.dim(r.word(0), "rows") || !r.dim(r.word(1), "targets") ||
      !r.choice(r.word(2), kTransformCount, "transform") || !r.choice(r.word(3), kScoreFormCount, "form") ||
      !r.flag(r.word(4), "voter") || !r.flag(r.word(5), "positive")) {
    return nullptr;
  }
  step->rows = r.word(0);
  step->targets = r.word(1);
  step->transform = static_cast<Transform>(r.word(2));
  step->form = static_cast<ScoreForm>(r.word(3));
  step->voter = r.word(4);
  step->positive = r.word(5) == 1;
  const uint64_t rows = step->rows, targets = step->targets;
  if (step->form == kPair && targets != 2) return r.fail("dimension", "a pair of %" PRIu64 " targets", targets), nullptr;
  const bool classes = step->form != kRegression;
  const bool one = step->form == kPair && r.length(2) == 8;
  step->bases = r.length(2) == 0 ? 0 : one ? 1 : targets;
  if (!r.reads(0, product({rows, targets, 8}), 8, &step->x) || !r.reads(1, product({rows, targets}), 1, &step->voted) ||
      !r.reads(2, product({step->bases, 8}), 8, &step->base) ||
      !r.reads(3, classes ? product({targets, 8}) : 0, 8, &step->labels) ||
      !r.writes(4, product({rows, targets, 4}), 4, &step->y) ||
      !r.writes(5, classes ? product({rows, 8}) : 0, 8, &step->best)) {
    return nullptr;
  }
  step->scratch_bytes = product({targets, 8});
  step->work = product({rows, targets, 32});
  return step;
}

}  // namespace cloister
