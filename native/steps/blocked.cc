// Steps in the blocked layout: channels in blocks of 16, the last block filled up.
//
// blockedConv:    x, w, y, [bias], [residual] · window[16] form bias residual activation a b
// blockedPool:    x, y · window[16] op
// blockedPoolAll: x, y · op batch channels pixels
// toBlocks:       x, y · batch channels pixels
// fromBlocks:     x, y · batch channels pixels
//
// w is packed, in the layout of the step's form and for exactly its window. `bias` and `residual` are flags: whether the
// operand is there. A window's channels are those that exist. blockedPoolAll leaves one pixel of each channel.
#include <cstring>

#include "../executor/kinds.h"

namespace cloister {
namespace {

uint64_t whole_blocks(uint64_t channels) { return (channels + kBlock - 1) / kBlock * kBlock; }

uint64_t blocked_bytes(uint64_t batch, uint64_t channels, uint64_t height, uint64_t width) {
  return product({batch, whole_blocks(channels), height, width, 4});
}

// Whether convolutions of this form go over the window.
bool form_fits(StepReader& reader, uint32_t form, const Window& w) {
  const bool depthwise = w.groups == w.in_c && w.groups == w.out_c;
  const bool whole = w.in_c / w.groups % kBlock == 0 && w.out_c / w.groups % kBlock == 0;
  const bool fits = form == kBlockedDepthwise ? depthwise : w.groups == 1 || (form == kBlockedFull && whole);
  return fits || reader.fail("window", "form %u: %u groups of %u to %u channels", form, w.groups, w.in_c, w.out_c);
}

// Multiply-adds and moves, of all lanes and of the copy with padding around it, which a dilated kernel makes far larger
// than the image.
uint64_t conv_work(const Window& w) {
  return sum(product({w.batch, whole_blocks(w.out_c), w.out_h, w.out_w, w.kernel_h, w.kernel_w, w.in_c / w.groups}),
             product({w.batch, kBlock, padded_elements(w)}));
}

class BlockedConv final : public Step {
 public:
  Window window;
  BlockedForm form;
  BlockedTail tail;
  Ref x, w, y, bias, residual;
  bool has_bias = false, has_residual = false;
  uint64_t parts = 1;  // of the kernel's own; a task does a share of them

  void run(const Frame& frame, uint32_t task) const override {
    BlockedTail with = tail;
    with.bias = has_bias ? frame.at<float>(bias) : nullptr;
    with.residual = has_residual ? frame.at<float>(residual) : nullptr;
    const Share share = share_of(parts, task, tasks);
    for (uint64_t part = share.first; part < share.last; part++) {
      frame.row.blocked.convolve(window, form, part, frame.at<float>(x), frame.at<float>(w), frame.at<float>(y), with,
                                 frame.scratch<float>());
    }
  }
};

class BlockedPool final : public Step {
 public:
  Window window;
  PoolOp op;
  uint64_t blocks;
  Ref x, y;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(blocks, task, tasks);
    frame.row.blocked.pool(window, op, share.first, share.last, frame.at<float>(x), frame.at<float>(y));
  }
};

class BlockedPoolAll final : public Step {
 public:
  PoolOp op;
  uint64_t blocks, pixels;
  Ref x, y;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(blocks, task, tasks);
    frame.row.blocked.pool_all(op, pixels, share.last - share.first, frame.at<float>(x) + share.first * pixels * kBlock,
                               frame.at<float>(y) + share.first * kBlock);
  }
};

class Reorder final : public Step {
 public:
  bool to_blocks;
  uint64_t channels, pixels, blocks;
  Ref x, y;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(blocks, task, tasks);
    const auto reorder = to_blocks ? frame.row.blocked.from_plain : frame.row.blocked.to_plain;
    reorder(channels, pixels, share.first, share.last, frame.at<float>(x), frame.at<float>(y));
  }
};

template <BlockedForm form>
bool measure(StepReader& reader, const uint32_t* words, uint64_t* source_bytes, uint64_t* packed_bytes) {
  Window window;
  if (!reader.window(words, false, &window) || !form_fits(reader, form, window)) return false;
  *source_bytes = weight_bytes(window);
  *packed_bytes = product({reader.row().blocked.packed_elements(window, form), 4});
  return true;
}

template <BlockedForm form>
bool pack(const Kernels& row, const uint32_t* words, const uint8_t* source, uint8_t* packed) {
  Window window;
  std::memcpy(&window, words, sizeof window);
  row.blocked.pack(window, form, reinterpret_cast<const float*>(source), reinterpret_cast<float*>(packed));
  return true;
}

// batch, channels and pixels from word `first` on.
bool image(StepReader& r, size_t first) {
  return r.dim(r.word(first), "batch") && r.dim(r.word(first + 1), "channels") && r.dim(r.word(first + 2), "pixels");
}

std::unique_ptr<Step> read_reorder(StepReader& r, bool to_blocks) {
  auto step = std::make_unique<Reorder>();
  if (!r.form(2, 2, 3) || !image(r, 0)) return nullptr;
  step->to_blocks = to_blocks;
  step->channels = r.word(1);
  step->pixels = r.word(2);
  step->blocks = product({r.word(0), whole_blocks(step->channels) / kBlock});
  const uint64_t plain = product({r.word(0), step->channels, step->pixels, 4});
  const uint64_t blocked = blocked_bytes(r.word(0), step->channels, step->pixels, 1);
  if (!r.reads(0, to_blocks ? plain : blocked, 4, &step->x) || !r.writes(1, to_blocks ? blocked : plain, 4, &step->y)) {
    return nullptr;
  }
  step->work = blocked;
  step->tasks = tasks_for(blocked, step->blocks);
  return step;
}

}  // namespace

extern const PackedLayout kBlockedFullLayout = {"blocked_full", 4, measure<kBlockedFull>, pack<kBlockedFull>};
extern const PackedLayout kBlockedFromPlainLayout = {"blocked_from_plain", 4, measure<kBlockedFromPlain>,
                                                     pack<kBlockedFromPlain>};
extern const PackedLayout kBlockedDepthwiseLayout = {"blocked_depthwise", 4, measure<kBlockedDepthwise>,
                                                     pack<kBlockedDepthwise>};

std::unique_ptr<Step> read_blocked_conv(StepReader& r) {
  auto step = std::make_unique<BlockedConv>();
  const uint32_t form = r.word(kPackedWords), activation = r.word(kPackedWords + 3);
  step->has_bias = r.word(kPackedWords + 1) == 1;
  step->has_residual = r.word(kPackedWords + 2) == 1;
  const size_t operands = size_t{3} + step->has_bias + step->has_residual;
  if (!r.form(operands, operands, kPackedWords + 6) || !r.window(r.words_from(0), false, &step->window) ||
      !r.choice(form, kBlockedFormCount, "form") || !form_fits(r, form, step->window) ||
      !r.flag(r.word(kPackedWords + 1), "bias") || !r.flag(r.word(kPackedWords + 2), "residual") ||
      !r.choice(activation, kBlockedActivationCount, "activation")) {
    return nullptr;
  }
  const Window& w = step->window;
  step->form = static_cast<BlockedForm>(form);
  step->tail.activation = static_cast<BlockedActivation>(activation);
  step->tail.a = r.real(kPackedWords + 4);
  step->tail.b = r.real(kPackedWords + 5);
  if (activation == kBlockedClip && !r.ordered(step->tail.a, step->tail.b)) return nullptr;
  const uint64_t x_bytes = form == kBlockedFromPlain ? product({w.batch, w.in_c, w.in_h, w.in_w, 4})
                                                     : blocked_bytes(w.batch, w.in_c, w.in_h, w.in_w);
  const uint64_t y_bytes = blocked_bytes(w.batch, w.out_c, w.out_h, w.out_w);
  if (!r.reads(0, x_bytes, 4, &step->x) || !r.packed(1, kLayoutBlocked + form, r.words_from(0), &step->w) ||
      (step->has_bias && !r.reads(3, product({w.out_c, 4}), 4, &step->bias)) ||
      (step->has_residual && !r.reads(operands - 1, y_bytes, 4, &step->residual)) ||
      !r.writes(2, y_bytes, 4, &step->y)) {
    return nullptr;
  }
  const BlockedKernels& kernels = r.row().blocked;
  step->parts = kernels.tasks(w, step->form);
  step->scratch_bytes = product({kernels.workspace_elements(w, step->form), 4});
  step->work = conv_work(w);
  step->tasks = tasks_for(step->work, step->parts);
  return step;
}

std::unique_ptr<Step> read_blocked_pool(StepReader& r) {
  auto step = std::make_unique<BlockedPool>();
  if (!r.form(2, 2, kPackedWords + 1) || !r.window(r.words_from(0), true, &step->window) ||
      !r.choice(r.word(kPackedWords), kPoolOpCount, "operation")) {
    return nullptr;
  }
  const Window& w = step->window;
  step->op = static_cast<PoolOp>(r.word(kPackedWords));
  step->blocks = product({w.batch, whole_blocks(w.in_c) / kBlock});
  if (!r.reads(0, blocked_bytes(w.batch, w.in_c, w.in_h, w.in_w), 4, &step->x) ||
      !r.writes(1, blocked_bytes(w.batch, w.out_c, w.out_h, w.out_w), 4, &step->y)) {
    return nullptr;
  }
  step->work = product({step->blocks, kBlock, w.out_h, w.out_w, w.kernel_h, w.kernel_w});
  step->tasks = tasks_for(step->work, step->blocks);
  return step;
}

std::unique_ptr<Step> read_blocked_pool_all(StepReader& r) {
  auto step = std::make_unique<BlockedPoolAll>();
  if (!r.form(2, 2, 4) || !r.choice(r.word(0), kPoolOpCount, "operation") || !image(r, 1)) return nullptr;
  step->op = static_cast<PoolOp>(r.word(0));
  step->blocks = product({r.word(1), whole_blocks(r.word(2)) / kBlock});
  step->pixels = r.word(3);
  const uint64_t bytes = blocked_bytes(r.word(1), r.word(2), step->pixels, 1);
  if (!r.reads(0, bytes, 4, &step->x) || !r.writes(1, blocked_bytes(r.word(1), r.word(2), 1, 1), 4, &step->y)) {
    return nullptr;
  }
  step->work = bytes;
  step->tasks = tasks_for(bytes, step->blocks);
  return step;
}

std::unique_ptr<Step> read_to_blocks(StepReader& r) { return read_reorder(r, true); }
std::unique_ptr<Step> read_from_blocks(StepReader& r) { return read_reorder(r, false); }

}  // namespace cloister
