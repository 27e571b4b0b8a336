// copy:   x, y · element_bytes rank dims[rank] strides[rank] (i64: low word, high word)
// concat: y, x... · outer
// pad:    x, value, y · element_bytes mode rank x_dims[rank] y_dims[rank] before[rank] (i32)
//
// A copy takes the bytes from the lowest to the highest element that it reads; negative strides start at the end.
#include <cstring>

#include "../executor/kinds.h"
#include "../executor/program.h"

namespace cloister {
namespace {

class Copy final : public Step {
 public:
  uint32_t rank, element_bytes;
  uint32_t dims[kMaxRank];
  int64_t strides[kMaxRank];
  uint64_t start;  // bytes from the lowest byte of x to its first element
  Ref x, y;

  uint64_t bytes;  // of y

  // Tasks share the first dimension.
  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(dims[0], task, tasks);
    uint32_t part[kMaxRank];
    std::memcpy(part, dims, sizeof part);
    part[0] = static_cast<uint32_t>(share.last - share.first);
    const int64_t from = static_cast<int64_t>(share.first) * strides[0] * static_cast<int64_t>(element_bytes);
    frame.row.copy.copy_strided(rank, part, strides, element_bytes, frame.at<uint8_t>(x) + start + from,
                                frame.at<uint8_t>(y) + bytes / dims[0] * share.first, streams(y, bytes));
  }
};

class Concat final : public Step {
 public:
  size_t outer;
  std::vector<Ref> parts;
  std::vector<uint64_t> row_bytes;
  Ref y;

  void run(const Frame& frame, uint32_t) const override {
    uint8_t* to = frame.at<uint8_t>(y);
    for (size_t row = 0; row < outer; row++) {
      for (size_t i = 0; i < parts.size(); i++) {
        std::memcpy(to, frame.at<uint8_t>(parts[i]) + row * row_bytes[i], row_bytes[i]);
        to += row_bytes[i];
      }
    }
  }
};

class PadStep final : public Step {
 public:
  Pad sizes;
  uint64_t rows = 1;
  Ref x, value, y;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(rows, task, tasks);
    Pad pad = sizes;
    pad.x = frame.at<uint8_t>(x);
    pad.value = frame.at<uint8_t>(value);
    pad.y = frame.at<uint8_t>(y);
    frame.row.copy.pad(pad, share.first, share.last);
  }
};

}  // namespace

std::unique_ptr<Step> read_copy(StepReader& r) {
  auto step = std::make_unique<Copy>();
  const uint32_t bytes = r.word(0), rank = r.word(1);
  if ((r.words() < 2 && !r.form(2, 2, 2)) || !r.rank(rank) || !r.form(2, 2, 2 + 3 * rank)) return nullptr;
  if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) {
    return r.fail("enum", "element bytes 1, 2, 4 or 8, got %u", bytes), nullptr;
  }
  step->element_bytes = bytes;
  step->rank = rank;
  uint64_t dense = bytes, up = 0, down = 0;
  for (uint32_t i = 0; i < rank; i++) {
    step->dims[i] = r.word(2 + i);
    const uint32_t low = r.word(2 + rank + 2 * i), high = r.word(2 + rank + 2 * i + 1);
    const uint64_t stride = low | static_cast<uint64_t>(high) << 32;
    const bool negative = high >> 31;
    const uint64_t magnitude = negative ? ~stride + 1 : stride;
    if (!r.dim(step->dims[i], "dimension")) return nullptr;
    if (magnitude > kMaxArenaBytes) {
      return r.fail("dimension", "stride %u: its magnitude is over 2^40", i), nullptr;
    }
    step->strides[i] = negative ? -static_cast<int64_t>(magnitude) : static_cast<int64_t>(magnitude);
    dense = product({dense, step->dims[i]});
    (negative ? down : up) = sum(negative ? down : up, product({step->dims[i] - 1u, magnitude}));
  }
  if (!r.reads(0, product({sum(sum(up, down), 1), bytes}), bytes, &step->x) || !r.writes(1, dense, bytes, &step->y)) {
    return nullptr;
  }
  step->start = down * bytes;
  step->bytes = dense;
  step->tasks = tasks_for(dense, step->dims[0]);
  return step;
}

std::unique_ptr<Step> read_concat(StepReader& r) {
  auto step = std::make_unique<Concat>();
  if (!r.form(2, kMaxOperands, 1) || !r.dim(r.word(0), "outer")) return nullptr;
  step->outer = r.word(0);
  uint64_t total = 0;
  for (size_t i = 1; i < r.operands(); i++) {
    const uint64_t bytes = r.length(i);
    if (bytes == 0 || bytes % step->outer != 0) {
      return r.fail("operand-size", "operand %zu: expected a multiple of %zu rows, got %llu bytes", i, step->outer,
                    static_cast<unsigned long long>(bytes)),
             nullptr;
    }
    Ref part;
    if (!r.reads(i, bytes, 1, &part)) return nullptr;
    step->parts.push_back(part);
    step->row_bytes.push_back(bytes / step->outer);
    total = sum(total, bytes);
  }
  if (!r.writes(0, total, 1, &step->y)) return nullptr;
  step->work = product({step->outer, r.operands()});
  return step;
}

std::unique_ptr<Step> read_pad(StepReader& r) {
  auto step = std::make_unique<PadStep>();
  const uint32_t bytes = r.word(0), rank = r.word(2);
  if ((r.words() < 3 && !r.form(3, 3, 3)) || !r.rank(rank) || !r.form(3, 3, 3 + 3 * rank) ||
      !r.choice(r.word(1), kPadModeCount, "mode")) {
    return nullptr;
  }
  if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8) {
    return r.fail("enum", "element bytes 1, 2, 4 or 8, got %u", bytes), nullptr;
  }
  Pad& pad = step->sizes;
  pad = {};
  pad.rank = rank;
  pad.mode = static_cast<PadMode>(r.word(1));
  pad.element_bytes = bytes;
  uint64_t from = bytes, to = bytes;
  for (uint32_t d = 0; d < rank; d++) {
    pad.x_dims[d] = r.word(3 + d);
    pad.y_dims[d] = r.word(3 + rank + d);
    pad.before[d] = static_cast<int32_t>(r.word(3 + 2 * rank + d));
    if (!r.dim(pad.x_dims[d], "dimension of x") || !r.dim(pad.y_dims[d], "dimension of y")) return nullptr;
    from = product({from, pad.x_dims[d]});
    to = product({to, pad.y_dims[d]});
    if (d + 1 < rank) step->rows = product({step->rows, pad.y_dims[d]});
  }
  if (!r.reads(0, from, bytes, &step->x) || !r.reads(1, bytes, bytes, &step->value) ||
      !r.writes(2, to, bytes, &step->y)) {
    return nullptr;
  }
  step->work = to;
  step->tasks = tasks_for(to, step->rows);
  return step;
}

}  // namespace cloister
