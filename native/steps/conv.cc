// conv: x, w, y, [bias] · window[16] act lo hi
//
// Convolution of NCHW. w may be packed (layout 1: its window); it then serves exactly that window.
//
// window, 16 words: batch in_c in_h in_w out_c out_h out_w kernel_h kernel_w stride_h stride_w dilation_h dilation_w
//                   pad_top pad_left groups
#include <cstring>

#include "../executor/kinds.h"

namespace cloister {
namespace {

class Conv final : public Step {
 public:
  Window window;
  Epilogue epilogue;
  Ref x, w, y, bias;
  bool has_bias = false, packed = false;
  uint64_t workspace_at = 0;  // in scratch, behind the weights where each run packs them

  void run(const Frame& frame, uint32_t) const override {
    Epilogue with_bias = epilogue;
    with_bias.bias = has_bias ? frame.at<float>(bias) : nullptr;
    const float* weights = frame.at<float>(w);
    if (!packed) {
      frame.row.conv.pack(window, weights, frame.scratch<float>());
      weights = frame.scratch<float>();
    }
    frame.row.conv.convolve(window, frame.at<float>(x), weights, frame.at<float>(y), with_bias,
                            frame.scratch<float>(workspace_at));
  }
};

bool measure(StepReader& reader, const uint32_t* words, uint64_t* source_bytes, uint64_t* packed_bytes) {
  Window window;
  if (!reader.window(words, false, &window)) return false;
  *source_bytes = weight_bytes(window);
  *packed_bytes = product({reader.row().conv.packed_elements(window), 4});
  return true;
}

bool pack(const Kernels& row, const uint32_t* words, const uint8_t* source, uint8_t* packed) {
  Window window;
  std::memcpy(&window, words, sizeof window);
  row.conv.pack(window, reinterpret_cast<const float*>(source), reinterpret_cast<float*>(packed));
  return true;
}

}  // namespace

extern const PackedLayout kConvLayout = {"conv", 4, measure, pack};

std::unique_ptr<Step> read_conv(StepReader& r) {
  auto step = std::make_unique<Conv>();
  if (!r.form(3, 4, kPackedWords + 3) || !r.window(r.words_from(0), false, &step->window) ||
      !r.epilogue(kPackedWords, &step->epilogue)) {
    return nullptr;
  }
  const Window& w = step->window;
  step->packed = r.is_packed(1);
  step->has_bias = r.operands() > 3;
  if (!r.reads(0, product({w.batch, w.in_c, w.in_h, w.in_w, 4}), 4, &step->x)) return nullptr;
  if (step->packed ? !r.packed(1, kLayoutConv, r.words_from(0), &step->w)
                   : !r.reads(1, weight_bytes(w), 4, &step->w)) {
    return nullptr;
  }
  if ((step->has_bias && !r.reads(3, product({w.out_c, 4}), 4, &step->bias)) ||
      !r.writes(2, product({w.batch, w.out_c, w.out_h, w.out_w, 4}), 4, &step->y)) {
    return nullptr;
  }
  step->workspace_at = step->packed ? 0 : aligned(product({r.row().conv.packed_elements(w), 4}));
  step->scratch_bytes = sum(step->workspace_at, product({r.row().conv.workspace_elements(w), 4}));
  // The image is staged with its padding, which a dilated kernel makes far larger than the image.
  step->work = sum(product({w.batch, w.out_c, w.out_h, w.out_w, w.kernel_h, w.kernel_w, w.in_c / w.groups}),
                   product({w.batch, padded_elements(w)}));
  return step;
}

}  // namespace cloister
