// softmax: x, y · outer n inner log            y may lie exactly over x
// reduce:  x, y · op outer n inner
// arg:     x, y · smallest last outer n inner    y is i64
#include "../executor/kinds.h"

namespace cloister {
namespace {

class Softmax final : public Step {
 public:
  size_t outer, n, inner;
  bool log;
  Ref x, y;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(outer, task, tasks);
    const size_t from = share.first * n * inner;
    frame.row.reduce.softmax(share.last - share.first, n, inner, log, frame.at<float>(x) + from,
                             frame.at<float>(y) + from, streams(y, outer * n * inner * 4));
  }
};

// Shares that begin at a multiple of kReduceRows: a row's place among them decides how it is computed.
Share rows_of(uint64_t rows, uint32_t task, uint32_t tasks) {
  Share share = share_of((rows + kReduceRows - 1) / kReduceRows, task, tasks);
  share.first *= kReduceRows;
  share.last = share.last * kReduceRows < rows ? share.last * kReduceRows : rows;
  return share;
}

class Reduce final : public Step {
 public:
  ReduceOp op;
  size_t outer, n, inner;
  Ref x, y;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = rows_of(outer, task, tasks);
    frame.row.reduce.reduce(op, share.last - share.first, n, inner, frame.at<float>(x) + share.first * n * inner,
                            frame.at<float>(y) + share.first * inner);
  }
};

class Arg final : public Step {
 public:
  bool smallest, last;
  size_t outer, n, inner;
  Ref x, y;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(outer, task, tasks);
    frame.row.reduce.arg(smallest, last, share.last - share.first, n, inner,
                         frame.at<float>(x) + share.first * n * inner, frame.at<int64_t>(y) + share.first * inner);
  }
};

bool axis(StepReader& r, size_t first) {
  return r.dim(r.word(first), "outer") && r.dim(r.word(first + 1), "n") && r.dim(r.word(first + 2), "inner");
}

}  // namespace

std::unique_ptr<Step> read_softmax(StepReader& r) {
  auto step = std::make_unique<Softmax>();
  if (!r.form(2, 2, 4) || !axis(r, 0) || !r.flag(r.word(3), "log")) return nullptr;
  step->outer = r.word(0);
  step->n = r.word(1);
  step->inner = r.word(2);
  step->log = r.word(3) == 1;
  const uint64_t bytes = product({step->outer, step->n, step->inner, 4});
  r.in_place(0, 1);
  if (!r.reads(0, bytes, 4, &step->x) || !r.writes(1, bytes, 4, &step->y)) return nullptr;
  step->work = product({bytes, 4});
  step->tasks = tasks_for(step->work, step->outer);
  return step;
}

std::unique_ptr<Step> read_reduce(StepReader& r) {
  auto step = std::make_unique<Reduce>();
  if (!r.form(2, 2, 4) || !r.choice(r.word(0), kReduceOpCount, "operation") || !axis(r, 1)) return nullptr;
  step->op = static_cast<ReduceOp>(r.word(0));
  step->outer = r.word(1);
  step->n = r.word(2);
  step->inner = r.word(3);
  const uint64_t bytes = product({step->outer, step->n, step->inner, 4});
  if (!r.reads(0, bytes, 4, &step->x) || !r.writes(1, product({step->outer, step->inner, 4}), 4, &step->y)) {
    return nullptr;
  }
  step->work = bytes;
  step->tasks = tasks_for(bytes, (step->outer + kReduceRows - 1) / kReduceRows);
  return step;
}

std::unique_ptr<Step> read_arg(StepReader& r) {
  auto step = std::make_unique<Arg>();
  if (!r.form(2, 2, 5) || !r.flag(r.word(0), "smallest") || !r.flag(r.word(1), "last") || !axis(r, 2)) return nullptr;
  step->smallest = r.word(0) == 1;
  step->last = r.word(1) == 1;
  step->outer = r.word(2);
  step->n = r.word(3);
  step->inner = r.word(4);
  const uint64_t bytes = product({step->outer, step->n, step->inner, 4});
  if (!r.reads(0, bytes, 4, &step->x) || !r.writes(1, product({step->outer, step->inner, 8}), 8, &step->y)) {
    return nullptr;
  }
  step->work = bytes;
  step->tasks = tasks_for(bytes, step->outer);
  return step;
}

}  // namespace cloister
