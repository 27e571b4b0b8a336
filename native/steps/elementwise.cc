// unary:  x, y · op p0 p1
// binary: a, b, y · op rank dims[rank] a_strides[rank] b_strides[rank]
//
// y may lie exactly over an operand that is read element for element.
#include "../executor/kinds.h"

namespace cloister {
namespace {

// Elements that are computed in the first cache before they are stored past the others.
constexpr uint64_t kStreamBlock = 1024;

class Unary final : public Step {
 public:
  UnaryOp op;
  float p0, p1;
  size_t count;
  Ref x, y;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(count, task, tasks);
    const ElementwiseKernels& kernels = frame.row.elementwise;
    const float* const from = frame.at<float>(x);
    float* const to = frame.at<float>(y);
    if (!streams(y, count * 4)) {
      return kernels.unary(op, share.last - share.first, from + share.first, to + share.first, p0, p1);
    }
    alignas(64) float block[kStreamBlock];
    for (uint64_t i = share.first; i < share.last; i += kStreamBlock) {
      const uint64_t n = share.last - i < kStreamBlock ? share.last - i : kStreamBlock;
      kernels.unary(op, n, from + i, block, p0, p1);
      kernels.stream(n, block, to + i);
    }
  }
};

class Binary final : public Step {
 public:
  BinaryOp op;
  uint32_t rank;
  uint32_t dims[kMaxRank], a_strides[kMaxRank], b_strides[kMaxRank];
  Ref a, b, y;

  // Both operands have y's shape: tasks share the elements.
  bool dense = false;
  uint64_t count = 0;

  void run(const Frame& frame, uint32_t task) const override {
    const ElementwiseKernels& kernels = frame.row.elementwise;
    if (dense) {
      const Share share = share_of(count, task, tasks);
      const float* const left = frame.at<float>(a);
      const float* const right = frame.at<float>(b);
      float* const to = frame.at<float>(y);
      if (!streams(y, count * 4)) {
        return kernels.combine(op, share.last - share.first, left + share.first, 1, right + share.first, 1,
                               to + share.first);
      }
      alignas(64) float block[kStreamBlock];
      for (uint64_t i = share.first; i < share.last; i += kStreamBlock) {
        const uint64_t n = share.last - i < kStreamBlock ? share.last - i : kStreamBlock;
        kernels.combine(op, n, left + i, 1, right + i, 1, block);
        kernels.stream(n, block, to + i);
      }
      return;
    }
    kernels.binary(op, rank, dims, frame.at<float>(a), a_strides, frame.at<float>(b), b_strides,
                   frame.at<float>(y));
  }
};

bool is_dense(uint32_t rank, const uint32_t* dims, const uint32_t* strides) {
  uint64_t expected = 1;
  for (uint32_t i = rank; i-- > 0;) {
    if (dims[i] != 1 && strides[i] != expected) return false;
    expected *= dims[i];
  }
  return true;
}

}  // namespace

std::unique_ptr<Step> read_unary(StepReader& r) {
  auto step = std::make_unique<Unary>();
  if (!r.form(2, 2, 3) || !r.choice(r.word(0), kUnaryOpCount, "operation")) return nullptr;
  step->op = static_cast<UnaryOp>(r.word(0));
  step->p0 = r.real(1);
  step->p1 = r.real(2);
  if (step->op == kClip && !r.ordered(step->p0, step->p1)) return nullptr;
  const uint64_t bytes = r.length(1);
  if (bytes == 0 || bytes % 4 != 0) {
    return r.fail("operand-size", "y: expected one or more elements of 4 bytes, got %llu",
                  static_cast<unsigned long long>(bytes)),
           nullptr;
  }
  step->count = bytes / 4;
  r.in_place(0, 1);
  if (!r.reads(0, bytes, 4, &step->x) || !r.writes(1, bytes, 4, &step->y)) return nullptr;
  step->tasks = tasks_for(bytes, step->count);
  return step;
}

std::unique_ptr<Step> read_binary(StepReader& r) {
  auto step = std::make_unique<Binary>();
  const uint32_t rank = r.word(1);
  if ((r.words() < 2 && !r.form(3, 3, 2)) || !r.rank(rank) || !r.form(3, 3, 2 + 3 * rank) || !r.choice(r.word(0), kBinaryOpCount, "operation")) return nullptr;
  step->op = static_cast<BinaryOp>(r.word(0));
  step->rank = rank;
  uint64_t dense = 4, a_span = 1, b_span = 1;
  for (uint32_t i = 0; i < rank; i++) {
    step->dims[i] = r.word(2 + i);
    step->a_strides[i] = r.word(2 + rank + i);
    step->b_strides[i] = r.word(2 + 2 * rank + i);
    if (!r.dim(step->dims[i], "dimension")) return nullptr;
    dense = product({dense, step->dims[i]});
    a_span = sum(a_span, product({step->dims[i] - 1u, step->a_strides[i]}));
    b_span = sum(b_span, product({step->dims[i] - 1u, step->b_strides[i]}));
  }
  // In place only where element i of the operand is element i of y.
  const bool a_dense = is_dense(rank, step->dims, step->a_strides);
  const bool b_dense = is_dense(rank, step->dims, step->b_strides);
  if (a_dense) r.in_place(0, 2);
  if (b_dense) r.in_place(1, 2);
  if (!r.reads(0, product({a_span, 4}), 4, &step->a) || !r.reads(1, product({b_span, 4}), 4, &step->b) ||
      !r.writes(2, dense, 4, &step->y)) {
    return nullptr;
  }
  step->count = dense / 4;
  step->dense = a_dense && b_dense;
  if (step->dense) step->tasks = tasks_for(dense, step->count);
  return step;
}

}  // namespace cloister
