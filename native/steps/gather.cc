// gather:          x, indices, y · outer n inner_bytes count wide element_bytes
// gather_elements: x, indices, y · element_bytes wide rank axis x_dims[rank] y_dims[rank]
//
// An index outside its axis is taken for 0, and the run fails.
#include "../executor/kinds.h"

namespace cloister {
namespace {

class GatherRows final : public Step {
 public:
  Gather sizes;
  Ref x, indices, y;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(sizes.outer * sizes.count, task, tasks);
    Gather gather = sizes;
    gather.x = frame.at<uint8_t>(x);
    gather.indices = frame.at<uint8_t>(indices);
    gather.y = frame.at<uint8_t>(y);
    if (frame.row.gather.rows(gather, share.first, share.last) > 0) frame.fault();
  }
};

class Elements final : public Step {
 public:
  GatherElements sizes;
  Ref x, indices, y;

  void run(const Frame& frame, uint32_t) const override {
    GatherElements gather = sizes;
    gather.x = frame.at<uint8_t>(x);
    gather.indices = frame.at<uint8_t>(indices);
    gather.y = frame.at<uint8_t>(y);
    if (frame.row.gather.elements(gather) > 0) frame.fault();
  }
};

bool element(StepReader& r, uint32_t bytes) {
  if (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8) return true;
  return r.fail("enum", "element bytes 1, 2, 4 or 8, got %u", bytes);
}

}  // namespace

std::unique_ptr<Step> read_gather(StepReader& r) {
  auto step = std::make_unique<GatherRows>();
  const uint32_t size = r.word(5);
  if (!r.form(3, 3, 6) || !r.dim(r.word(0), "outer") || !r.dim(r.word(1), "n") || !r.dim(r.word(2), "inner bytes") ||
      !r.dim(r.word(3), "count") || !r.flag(r.word(4), "wide") || !element(r, size)) {
    return nullptr;
  }
  Gather& g = step->sizes;
  g = {r.word(0), r.word(1), r.word(2), r.word(3), r.word(4) == 1, nullptr, nullptr, nullptr};
  if (g.inner_bytes % size != 0) return r.fail("operand-size", "inner is no whole number of elements"), nullptr;
  // Rows of 4 and 8 bytes are moved as one element.
  const uint32_t whole = g.inner_bytes == 4 || g.inner_bytes == 8 ? static_cast<uint32_t>(g.inner_bytes) : size;
  const uint32_t width = g.wide ? 8 : 4;
  const uint64_t bytes = product({g.outer, g.count, g.inner_bytes});
  if (!r.reads(0, product({g.outer, g.n, g.inner_bytes}), whole, &step->x) ||
      !r.reads(1, product({g.count, width}), width, &step->indices) || !r.writes(2, bytes, whole, &step->y)) {
    return nullptr;
  }
  step->work = bytes;
  step->tasks = tasks_for(bytes, product({g.outer, g.count}));
  return step;
}

std::unique_ptr<Step> read_gather_elements(StepReader& r) {
  auto step = std::make_unique<Elements>();
  const uint32_t rank = r.word(2);
  if ((r.words() < 4 && !r.form(3, 3, 4)) || !r.rank(rank) || !r.form(3, 3, 4 + 2 * rank) ||
      !element(r, r.word(0)) || !r.flag(r.word(1), "wide") || !r.choice(r.word(3), rank, "axis")) {
    return nullptr;
  }
  GatherElements& g = step->sizes;
  g = {};
  g.element_bytes = r.word(0);
  g.wide = r.word(1) == 1;
  g.rank = rank;
  g.axis = r.word(3);
  uint64_t from = g.element_bytes, to = 1;
  for (uint32_t d = 0; d < rank; d++) {
    g.x_dims[d] = r.word(4 + d);
    g.y_dims[d] = r.word(4 + rank + d);
    if (!r.dim(g.x_dims[d], "dimension of x") || !r.dim(g.y_dims[d], "dimension of y")) return nullptr;
    if (d != g.axis && g.y_dims[d] > g.x_dims[d]) {
      return r.fail("dimension", "dimension %u of y reaches over that of x", d), nullptr;
    }
    from = product({from, g.x_dims[d]});
    to = product({to, g.y_dims[d]});
  }
  const uint32_t width = g.wide ? 8 : 4;
  if (!r.reads(0, from, g.element_bytes, &step->x) || !r.reads(1, product({to, width}), width, &step->indices) ||
      !r.writes(2, product({to, g.element_bytes}), g.element_bytes, &step->y)) {
    return nullptr;
  }
  step->work = product({to, 8});
  return step;
}

}  // namespace cloister
