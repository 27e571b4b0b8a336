// row_norm:     y, x, scale, [bias], [residual], [residual_bias] · rows n epsilon centred bias residual residual_bias
// row_norm_sum: y, sum, x, scale, [bias], residual, [residual_bias] · the same
// group_norm:   y, x, scale, [bias] · groups_in_all groups channels inner epsilon
//
// row_norm: layer normalisation (centred) or by the root mean square, of x or of x + residual + residual_bias, which
// row_norm_sum writes as well. Without a residual, y may lie exactly over x. The last three words are flags.
// group_norm: groups_in_all groups of channels x inner elements; scale and bias have groups x channels elements.
#include "../executor/kinds.h"

namespace cloister {
namespace {

class RowNorm final : public Step {
 public:
  size_t rows, n;
  float epsilon;
  bool centred, has_bias, has_residual, has_residual_bias, has_sum;
  Ref x, scale, y, bias, residual, residual_bias, sum;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(rows, task, tasks);
    const size_t from = share.first * n;
    frame.row.norm.rows({
        .rows = share.last - share.first,
        .n = n,
        .x = frame.at<float>(x) + from,
        .residual = has_residual ? frame.at<float>(residual) + from : nullptr,
        .residual_bias = has_residual_bias ? frame.at<float>(residual_bias) : nullptr,
        .scale = frame.at<float>(scale),
        .bias = has_bias ? frame.at<float>(bias) : nullptr,
        .epsilon = epsilon,
        .centred = centred,
        .y = frame.at<float>(y) + from,
        .sum = has_sum ? frame.at<float>(sum) + from : nullptr,
        .stream = streams(y, rows * n * 4),
    });
  }
};

class GroupNorm final : public Step {
 public:
  size_t all, groups, channels, inner;
  float epsilon;
  bool has_bias;
  Ref x, scale, y, bias;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(all, task, tasks);
    for (uint64_t i = share.first; i < share.last; i++) {
      const size_t from = i * channels * inner, channel = i % groups * channels;
      frame.row.norm.group(channels, inner, frame.at<float>(x) + from, frame.at<float>(scale) + channel,
                           has_bias ? frame.at<float>(bias) + channel : nullptr, epsilon, frame.at<float>(y) + from);
    }
  }
};

std::unique_ptr<Step> read_rows(StepReader& r, bool has_sum) {
  auto step = std::make_unique<RowNorm>();
  const char* const names[] = {"centred", "bias", "residual", "residual bias"};
  if ((r.words() != 7 && !r.form(3, 7, 7)) || !r.dim(r.word(0), "rows") || !r.dim(r.word(1), "n")) return nullptr;
  for (uint32_t i = 0; i < 4; i++) {
    if (!r.flag(r.word(3 + i), names[i])) return nullptr;
  }
  step->rows = r.word(0);
  step->n = r.word(1);
  step->epsilon = r.real(2);
  step->centred = r.word(3) == 1;
  step->has_bias = r.word(4) == 1;
  step->has_residual = r.word(5) == 1;
  step->has_residual_bias = r.word(6) == 1;
  step->has_sum = has_sum;
  if (!step->has_residual && (step->has_residual_bias || has_sum)) {
    return r.fail("step-form", "a residual bias and a sum need a residual"), nullptr;
  }
  size_t next = has_sum ? 2 : 1;
  const size_t operands = next + 2 + step->has_bias + step->has_residual + step->has_residual_bias;
  if (!r.form(operands, operands, 7)) return nullptr;
  const uint64_t row = product({step->n, 4}), bytes = product({step->rows, row});
  if (!step->has_residual) r.in_place(next, 0);
  if (!r.reads(next, bytes, 4, &step->x) || !r.reads(next + 1, row, 4, &step->scale)) return nullptr;
  next += 2;
  if (step->has_bias && !r.reads(next++, row, 4, &step->bias)) return nullptr;
  if (step->has_residual && !r.reads(next++, bytes, 4, &step->residual)) return nullptr;
  if (step->has_residual_bias && !r.reads(next++, row, 4, &step->residual_bias)) return nullptr;
  if (!r.writes(0, bytes, 4, &step->y) || (has_sum && !r.writes(1, bytes, 4, &step->sum))) return nullptr;
  step->work = product({bytes, 2});
  step->tasks = tasks_for(step->work, step->rows);
  return step;
}

}  // namespace

std::unique_ptr<Step> read_row_norm(StepReader& r) { return read_rows(r, false); }
std::unique_ptr<Step> read_row_norm_sum(StepReader& r) { return read_rows(r, true); }

std::unique_ptr<Step> read_group_norm(StepReader& r) {
  auto step = std::make_unique<GroupNorm>();
  if (!r.form(3, 4, 5) || !r.dim(r.word(0), "groups in all") || !r.dim(r.word(1), "groups") ||
      !r.dim(r.word(2), "channels") || !r.dim(r.word(3), "inner")) {
    return nullptr;
  }
  step->all = r.word(0);
  step->groups = r.word(1);
  step->channels = r.word(2);
  step->inner = r.word(3);
  step->epsilon = r.real(4);
  step->has_bias = r.operands() > 3;
  const uint64_t bytes = product({step->all, step->channels, step->inner, 4});
  const uint64_t affine = product({step->groups, step->channels, 4});
  r.in_place(1, 0);
  if (!r.reads(1, bytes, 4, &step->x) || !r.reads(2, affine, 4, &step->scale) ||
      (step->has_bias && !r.reads(3, affine, 4, &step->bias)) || !r.writes(0, bytes, 4, &step->y)) {
    return nullptr;
  }
  step->work = product({bytes, 2});
  step->tasks = tasks_for(step->work, step->all);
  return step;
}

}  // namespace cloister
