// pool: x, y · window[16] op
#include "../executor/kinds.h"

namespace cloister {
namespace {

class Pool final : public Step {
 public:
  Window window;
  PoolOp op;
  Ref x, y;

  void run(const Frame& frame, uint32_t) const override {
    frame.row.pool.pool(window, op, frame.at<float>(x), frame.at<float>(y));
  }
};

}  // namespace

std::unique_ptr<Step> read_pool(StepReader& r) {
  auto step = std::make_unique<Pool>();
  if (!r.form(2, 2, kPackedWords + 1) || !r.window(r.words_from(0), true, &step->window) ||
      !r.choice(r.word(kPackedWords), kPoolOpCount, "operation")) {
    return nullptr;
  }
  const Window& w = step->window;
  step->op = static_cast<PoolOp>(r.word(kPackedWords));
  if (!r.reads(0, product({w.batch, w.in_c, w.in_h, w.in_w, 4}), 4, &step->x) ||
      !r.writes(1, product({w.batch, w.out_c, w.out_h, w.out_w, 4}), 4, &step->y)) {
    return nullptr;
  }
  step->work = product({w.batch, w.out_c, w.out_h, w.out_w, w.kernel_h, w.kernel_w});
  return step;
}

}  // namespace cloister
