// attention:     q, k, v, out, [mask] · batch heads kv_heads queries keys size value_size q_rows k_rows v_rows out_rows
//                scale softcap causal past mask_batch mask_heads mask_queries mask_keys
// attentionMask: x, y · form batch keys filter
//
// An operand whose `rows` flag is 1 is (batch, rows, heads, size); else (batch, heads, rows, size). The mask, f32, is
// dense and has each of its four axes where that flag is 1, else 1 in its place. `past` is an i32.
//
// attentionMask writes an f32 mask of 0 where a key is seen, else `filter`. Form 0: x, u8 (batch, keys), is not 0 there.
// 1: x, i32 (batch, keys), is over 0. 2: x, i32 (batch), says how many keys are seen. 3: x, i32 (2, batch), where they
// end and where they start.
#include "../executor/kinds.h"

namespace cloister {
namespace {

class Attention final : public Step {
 public:
  AttentionShape shape;
  uint64_t units;
  bool has_mask;
  Ref q, k, v, out, mask;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(units, task, tasks);
    frame.row.attention.attend(shape, frame.at<float>(q), frame.at<float>(k), frame.at<float>(v),
                               has_mask ? frame.at<float>(mask) : nullptr, frame.at<float>(out), share.first, share.last,
                               frame.scratch<float>());
  }
};

enum MaskForm : uint32_t { kMaskFlags, kMaskNumbers, kMaskEnds, kMaskRanges, kMaskFormCount };

class AttentionMask final : public Step {
 public:
  MaskForm form;
  size_t batch, keys;
  float filter;
  Ref x, y;

  void run(const Frame& frame, uint32_t) const override {
    const auto* flags = frame.at<uint8_t>(x);
    const auto* numbers = frame.at<int32_t>(x);
    auto* to = frame.at<float>(y);
    for (size_t b = 0; b < batch; b++, to += keys) {
      for (size_t j = 0; j < keys; j++) {
        const int64_t key = static_cast<int64_t>(j);
        const bool seen = form == kMaskFlags     ? flags[b * keys + j] != 0
                          : form == kMaskNumbers ? numbers[b * keys + j] > 0
                          : form == kMaskEnds    ? key < numbers[b]
                                                 : key >= numbers[batch + b] && key < numbers[b];
        to[j] = seen ? 0 : filter;
      }
    }
  }
};

}  // namespace

std::unique_ptr<Step> read_attention(StepReader& r) {
  auto step = std::make_unique<Attention>();
  AttentionShape& s = step->shape;
  uint32_t* const sizes[] = {&s.batch, &s.heads, &s.kv_heads, &s.queries, &s.keys, &s.size, &s.value_size};
  if (!r.form(4, 5, 19)) return nullptr;
  for (size_t i = 0; i < 7; i++) {
    if (!r.dim(r.word(i), "size")) return nullptr;
    *sizes[i] = r.word(i);
  }
  for (const size_t i : {7, 8, 9, 10, 13, 15, 16, 17, 18}) {
    if (!r.flag(r.word(i), "flag")) return nullptr;
  }
  if (s.heads % s.kv_heads != 0) {
    return r.fail("dimension", "%u heads cannot share %u", s.heads, s.kv_heads), nullptr;
  }
  s.scale = r.real(11);
  s.softcap = r.real(12);
  if (!(s.softcap >= 0)) return r.fail("enum", "softcap: expected 0 or more"), nullptr;
  s.causal = r.word(13) == 1;
  s.past = static_cast<int32_t>(r.word(14));

  const auto strides = [](bool rows_first, uint64_t heads, uint64_t rows, uint64_t size) {
    return rows_first ? HeadStrides{product({rows, heads, size}), size, product({heads, size})}
                      : HeadStrides{product({rows, heads, size}), product({rows, size}), size};
  };
  s.q = strides(r.word(7) == 1, s.heads, s.queries, s.size);
  s.k = strides(r.word(8) == 1, s.kv_heads, s.keys, s.size);
  s.v = strides(r.word(9) == 1, s.kv_heads, s.keys, s.value_size);
  s.out = strides(r.word(10) == 1, s.heads, s.queries, s.value_size);

  step->has_mask = r.operands() > 4;
  const bool axis[4] = {r.word(15) == 1, r.word(16) == 1, r.word(17) == 1, r.word(18) == 1};
  const uint64_t dims[4] = {axis[0] ? s.batch : 1u, axis[1] ? s.heads : 1u, axis[2] ? s.queries : 1u, axis[3] ? s.keys : 1u};
  s.mask_key = axis[3] ? 1 : 0;
  s.mask = {axis[0] ? product({dims[1], dims[2], dims[3]}) : 0, axis[1] ? product({dims[2], dims[3]}) : 0,
            axis[2] ? dims[3] : 0};

  if (!r.reads(0, product({s.batch, s.q.batch, 4}), 4, &step->q) ||
      !r.reads(1, product({s.batch, s.k.batch, 4}), 4, &step->k) ||
      !r.reads(2, product({s.batch, s.v.batch, 4}), 4, &step->v) ||
      (step->has_mask && !r.reads(4, product({dims[0], dims[1], dims[2], dims[3], 4}), 4, &step->mask)) ||
      !r.writes(3, product({s.batch, s.out.batch, 4}), 4, &step->out)) {
    return nullptr;
  }
  const AttentionKernels& kernels = r.row().attention;
  step->units = product({s.batch, s.heads, (uint64_t{s.queries} + kernels.block - 1) / kernels.block});
  step->scratch_bytes = product({kernels.workspace_elements(s), 4});
  // A score costs about as much as sixteen multiply-adds besides its products.
  step->work = product({s.batch, s.heads, s.queries, s.keys, sum(sum(s.size, s.value_size), 16)});
  step->tasks = tasks_for(step->work, step->units);
  return step;
}

std::unique_ptr<Step> read_attention_mask(StepReader& r) {
  auto step = std::make_unique<AttentionMask>();
  if (!r.form(2, 2, 4) || !r.choice(r.word(0), kMaskFormCount, "form") || !r.dim(r.word(1), "batch") ||
      !r.dim(r.word(2), "keys")) {
    return nullptr;
  }
  step->form = static_cast<MaskForm>(r.word(0));
  step->batch = r.word(1);
  step->keys = r.word(2);
  step->filter = r.real(3);
  const uint64_t count = product({step->batch, step->keys}), batch = step->batch;
  const uint64_t bytes = step->form == kMaskFlags     ? count
                         : step->form == kMaskNumbers ? product({count, 4})
                         : step->form == kMaskEnds    ? product({batch, 4})
                                                      : product({batch, 8});
  if (!r.reads(0, bytes, step->form == kMaskFlags ? 1 : 4, &step->x) ||
      !r.writes(1, product({count, 4}), 4, &step->y)) {
    return nullptr;
  }
  return step;
}

}  // namespace cloister
