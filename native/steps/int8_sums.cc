// int8Gemm: a, b, y, [a_zero], [b_zeros], [bias], [factors] · m n k batches a_shared b_shared b_transposed a_signed
//            b_signed, then the words of Int8Sum
// int8Conv: x, w, y, [x_zero], [w_zeros], [bias], [factors] · window[16] x_signed w_signed, then the words of Int8Sum
// int8Depthwise: x, w, y, [x_zero], [bias], [factors] · window[16] x_signed w_signed, then the words of Int8Sum
//
// Products of bytes, with sums modulo 2^32. b and w may be packed (layout 7), a depthwise w is (layout 8). Images are
// NHWC; weights OIHW.
#include "int8.h"

namespace cloister {

bool read_byte_range(StepReader& r, int32_t zero, int32_t least, int32_t most) {
  const int32_t from = least < 0 ? -128 : 0, to = least < 0 ? 127 : 255;
  if (least < from || most > to || least > most || zero < -128 || zero > 255) {
    return r.fail("enum", "expected a zero point and bounds of bytes, got %d, %d and %d", zero, least, most);
  }
  return true;
}

bool Int8Sum::read(StepReader& r, size_t first, size_t operand, uint64_t columns) {
  if (!r.flag(r.word(first), "a_zero") || !r.choice(r.word(first + 1), 3, "b_zeros") ||
      !r.flag(r.word(first + 2), "bias") || !r.choice(r.word(first + 3), 3, "factors")) {
    return false;
  }
  has_a_zero_ = r.word(first) == 1;
  b_zeros_ = r.word(first + 1);
  has_bias_ = r.word(first + 2) == 1;
  factors_ = r.word(first + 3);
  zero_ = static_cast<int32_t>(r.word(first + 4));
  least_ = static_cast<int32_t>(r.word(first + 5));
  most_ = static_cast<int32_t>(r.word(first + 6));
  const size_t expected = operand + has_a_zero_ + (b_zeros_ > 0) + has_bias_ + (factors_ > 0);
  if (r.operands() != expected) {
    return r.fail("step-form", "expected %zu operands, got %zu", expected, r.operands());
  }
  if (factors_ ? !read_byte_range(r, zero_, least_, most_) : (zero_ | least_ | most_) != 0) {
    return r.good() ? r.fail("enum", "sums that stay as they are have no bounds") : false;
  }
  if (has_a_zero_ && !r.reads(operand++, 1, 1, &a_zero_)) return false;
  if (b_zeros_ && !r.reads(operand++, b_zeros_ == 2 ? columns : 1, 1, &b_zero_)) return false;
  if (has_bias_ && !r.reads(operand++, product({columns, 4}), 4, &bias_)) return false;
  return !factors_ || r.reads(operand, factors_ == 2 ? product({columns, 4}) : 4, 4, &factor_);
}

namespace {

// Layout 7: groups taps depth n transposed signed, then ten zeros. A matrix of taps * depth rows and n columns for each
// group: (taps * depth) x n, of one tap; or transposed, n x depth x taps, as the weights of a convolution are.
//
// Layout 8: channels kernel_h kernel_w signed, then twelve zeros. The weights of a depthwise convolution, then a zero
// point for each channel.
Int8Matrix matrix_of(const uint32_t* words) {
  const size_t taps = words[1], depth = words[2], n = words[3];
  if (words[4]) return {taps, depth, n, 1, taps, taps * depth};
  return {1, taps * depth, n, 0, n, 1};
}

// Multiply-adds of bytes beside those of floats, by which work is counted.
constexpr uint64_t kPerWork = 4;

bool zeros_from(StepReader& r, const uint32_t* words, uint32_t first) {
  for (uint32_t i = first; i < kPackedWords; i++) {
    if (words[i] != 0) return r.fail("packed-layout", "word %u must be zero, got %u", i, words[i]);
  }
  return true;
}

bool measure_matrix(StepReader& r, const uint32_t* words, uint64_t* source_bytes, uint64_t* packed_bytes) {
  if (!r.dim(words[0], "groups") || !r.dim(words[1], "taps") || !r.dim(words[2], "depth") || !r.dim(words[3], "n") ||
      !r.flag(words[4], "transposed") || !r.flag(words[5], "signed") || !zeros_from(r, words, 6)) {
    return false;
  }
  if (!words[4] && words[1] != 1) return r.fail("packed-layout", "rows of taps are transposed");
  *source_bytes = product({words[0], words[1], words[2], words[3]});
  // Below 2^44, as all volumes that kernels compute sizes from.
  if (*source_bytes >> 44) return r.fail("no-overflow", "a matrix of %u x %u x %u", words[1], words[2], words[3]);
  *packed_bytes = product({words[0], r.row().int8.packed_bytes(size_t{words[1]} * words[2], words[3])});
  return true;
}

bool pack_matrix(const Kernels& row, const uint32_t* words, const uint8_t* source, uint8_t* packed) {
  const Int8Matrix matrix = matrix_of(words);
  const size_t k = matrix.taps * matrix.depth, each = row.int8.packed_bytes(k, matrix.n);
  for (size_t group = 0; group < words[0]; group++) {
    row.int8.pack(matrix, source + group * k * matrix.n, flip_of(words[5]), packed + group * each);
  }
  return true;
}

Window depthwise_window(const uint32_t* words) {
  Window w{};
  w.out_c = words[0];
  w.kernel_h = words[1];
  w.kernel_w = words[2];
  return w;
}

bool measure_depthwise(StepReader& r, const uint32_t* words, uint64_t* source_bytes, uint64_t* packed_bytes) {
  if (!r.dim(words[0], "channels") || !r.dim(words[1], "kernel_h") || !r.dim(words[2], "kernel_w") ||
      !r.flag(words[3], "signed") || !zeros_from(r, words, 4)) {
    return false;
  }
  *source_bytes = sum(product({words[0], words[1], words[2]}), words[0]);
  if (*source_bytes >> 44) return r.fail("no-overflow", "%u kernels of %u x %u", words[0], words[1], words[2]);
  *packed_bytes = r.row().int8.depthwise_bytes(depthwise_window(words));
  return true;
}

bool pack_depthwise(const Kernels& row, const uint32_t* words, const uint8_t* source, uint8_t* packed) {
  const Window window = depthwise_window(words);
  const size_t taps = size_t{window.kernel_h} * window.kernel_w;
  row.int8.depthwise_pack(window, {source, flip_of(words[3]), source + window.out_c * taps, true}, packed);
  return true;
}

class Int8Gemm final : public Step {
 public:
  size_t m, n, k, batches, a_step, b_step;  // steps in bytes from one batch to the next; 0 when shared
  bool b_transposed, packed, by_rows;
  uint8_t a_flip, b_flip;
  Int8Sum sums;
  Ref a, b, y;
  uint64_t workspace_at = 0;  // in scratch, behind B where each run packs it

  void run(const Frame& frame, uint32_t task) const override {
    const Int8Kernels& kernels = frame.row.int8;
    const size_t panel = kernels.panel, element = sums.element();
    const Share rows = by_rows ? share_of(m, task, tasks) : Share{0, m};
    const Share panels = by_rows ? Share{0, (n + panel - 1) / panel} : share_of((n + panel - 1) / panel, task, tasks);
    const size_t from = panels.first * panel, to = panels.last * panel < n ? panels.last * panel : n;
    Int8Product p{m, n, k, sums.a(frame, nullptr, a_flip), sums.b(frame, frame.at<uint8_t>(b), b_flip), k,
                  sums.bias(frame), sums.output(frame), nullptr, n};
    size_t first = from, last = to;
    if (!packed) {
      // A task packs the columns that it multiplies: to the kernel they are all that there is.
      p.n = to - from;
      p.b.data = frame.scratch<uint8_t>();
      if (p.b.per_column) p.b.zeros += from;
      if (p.bias) p.bias += from;
      if (p.output.per_column) p.output.factors += from;
      first = 0;
      last = p.n;
    }
    for (size_t i = 0; i < batches; i++) {
      p.a.data = frame.at<uint8_t>(a) + i * a_step;
      p.c = frame.at<uint8_t>(y) + (i * m * n + (packed ? 0 : from)) * element;
      if (!packed && (i == 0 || b_step != 0)) {
        const Int8Matrix matrix{1, k, p.n, 0, b_transposed ? 1 : n, b_transposed ? k : 1};
        kernels.pack(matrix, frame.at<uint8_t>(b) + i * b_step + from * matrix.column_step, b_flip,
                     frame.scratch<uint8_t>());
      }
      kernels.multiply(p, rows.first, rows.last, first, last, frame.scratch<uint8_t>(workspace_at));
    }
  }
};

class Int8Convolution final : public Step {
 public:
  Window window;
  bool packed, depthwise;
  uint8_t x_flip, w_flip;
  Int8Sum sums;
  Ref x, w, y;
  uint64_t workspace_at = 0;  // in scratch, behind the weights where each run packs them

  void run(const Frame& frame, uint32_t task) const override {
    const Int8Kernels& kernels = frame.row.int8;
    const uint8_t* weights = frame.at<uint8_t>(w);
    if (!packed) {
      const uint32_t words[kPackedWords] = {window.groups, window.kernel_h * window.kernel_w,
                                            window.in_c / window.groups, window.out_c / window.groups, 1, w_flip != 0};
      pack_matrix(frame.row, words, weights, frame.scratch<uint8_t>());
      weights = frame.scratch<uint8_t>();
    }
    const Int8Conv c{window, sums.a(frame, frame.at<uint8_t>(x), x_flip), sums.b(frame, weights, w_flip),
                     sums.bias(frame), sums.output(frame), frame.at<uint8_t>(y)};
    const uint64_t lines = uint64_t{window.batch} * window.out_h;
    if (depthwise) {
      const Share share = share_of(lines, task, tasks);
      kernels.depthwise(c, share.first, share.last, frame.scratch<uint8_t>());
    } else {
      const Share share = share_of(lines * window.out_w, task, tasks);
      kernels.convolve(c, share.first, share.last, frame.scratch<uint8_t>(workspace_at));
    }
  }
};

std::unique_ptr<Step> read_convolution(StepReader& r, bool depthwise) {
  auto step = std::make_unique<Int8Convolution>();
  const size_t words = kPackedWords + 2 + kSumWords;
  if (!r.form(3, 7, words) || !r.window(r.words_from(0), false, &step->window) ||
      !r.flag(r.word(kPackedWords), "x_signed") || !r.flag(r.word(kPackedWords + 1), "w_signed")) {
    return nullptr;
  }
  const Window& w = step->window;
  const Int8Kernels& kernels = r.row().int8;
  step->depthwise = depthwise;
  step->packed = r.is_packed(1);
  step->x_flip = flip_of(r.word(kPackedWords));
  step->w_flip = flip_of(r.word(kPackedWords + 1));
  const uint32_t is_signed = r.word(kPackedWords + 1), depth = w.in_c / w.groups, n = w.out_c / w.groups;
  const uint64_t weights = weight_bytes(w) / 4, taps = uint64_t{w.kernel_h} * w.kernel_w;
  if (depthwise && (w.in_c != w.groups || w.out_c != w.groups || r.word(kPackedWords + 3) != 0)) {
    return r.fail("window", "depthwise: a group per channel, whose zero points are packed with the weights"), nullptr;
  }
  if (!r.reads(0, product({w.batch, w.in_c, w.in_h, w.in_w}), 1, &step->x)) return nullptr;
  if (depthwise || step->packed) {
    const uint32_t of_channels[kPackedWords] = {w.out_c, w.kernel_h, w.kernel_w, is_signed};
    // Taps fit: no weight is over 2^40 bytes, but their product may be over 32 bits where channels are few.
    if (taps > UINT32_MAX) return r.fail("no-overflow", "a kernel of %u x %u", w.kernel_h, w.kernel_w), nullptr;
    const uint32_t of_groups[kPackedWords] = {w.groups, static_cast<uint32_t>(taps), depth, n, 1, is_signed};
    if (!r.packed(1, depthwise ? kLayoutInt8Depthwise : kLayoutInt8, depthwise ? of_channels : of_groups, &step->w)) {
      return nullptr;
    }
  } else if (taps > UINT32_MAX || !r.reads(1, weights, 1, &step->w)) {
    return r.good() ? (r.fail("no-overflow", "a kernel of %u x %u", w.kernel_h, w.kernel_w), nullptr) : nullptr;
  }
  if (!step->sums.read(r, kPackedWords + 2, 3, w.out_c) ||
      !r.writes(2, product({w.batch, w.out_c, w.out_h, w.out_w, step->sums.element()}), step->sums.element(), &step->y)) {
    return nullptr;
  }
  const uint64_t lines = uint64_t{w.batch} * w.out_h;
  step->work = sum(product({lines, w.out_w, w.out_c, taps, depth}) / kPerWork,
                   product({w.batch, w.in_c, w.in_h, w.in_w}));
  if (depthwise) {
    step->scratch_bytes = kernels.depthwise_workspace(w);
    step->tasks = tasks_for(step->work, lines);
  } else {
    step->workspace_at = step->packed ? 0 : aligned(product({w.groups, kernels.packed_bytes(taps * depth, n)}));
    step->scratch_bytes = sum(step->workspace_at, kernels.conv_workspace(w));
    step->tasks = step->packed ? tasks_for(step->work, lines * w.out_w) : 1;
  }
  return step;
}

}  // namespace

extern const PackedLayout kInt8Layout = {"int8", 1, measure_matrix, pack_matrix};
extern const PackedLayout kInt8DepthwiseLayout = {"int8 depthwise", 1, measure_depthwise, pack_depthwise};

std::unique_ptr<Step> read_int8_gemm(StepReader& r) {
  auto step = std::make_unique<Int8Gemm>();
  if (!r.form(3, 7, 9 + kSumWords) || !r.dim(r.word(0), "m") || !r.dim(r.word(1), "n") || !r.dim(r.word(2), "k") ||
      !r.dim(r.word(3), "batches") || !r.flag(r.word(4), "a_shared") || !r.flag(r.word(5), "b_shared") ||
      !r.flag(r.word(6), "b_transposed") || !r.flag(r.word(7), "a_signed") || !r.flag(r.word(8), "b_signed")) {
    return nullptr;
  }
  const uint64_t m = r.word(0), n = r.word(1), k = r.word(2), batches = r.word(3);
  const bool a_shared = r.word(4) == 1, b_shared = r.word(5) == 1;
  const Int8Kernels& kernels = r.row().int8;
  step->m = m;
  step->n = n;
  step->k = k;
  step->batches = batches;
  step->a_step = a_shared ? 0 : m * k;
  step->b_step = b_shared ? 0 : k * n;
  step->b_transposed = r.word(6) == 1;
  step->a_flip = flip_of(r.word(7));
  step->b_flip = flip_of(r.word(8));
  step->packed = r.is_packed(1);
  if (!r.reads(0, product({a_shared ? 1 : batches, m, k}), 1, &step->a)) return nullptr;
  if (step->packed) {
    const uint32_t words[kPackedWords] = {1, 1, r.word(2), r.word(1), r.word(6), r.word(8)};
    if (!b_shared) return r.fail("packed-layout", "a packed b is the same for all batches"), nullptr;
    if (!r.packed(1, kLayoutInt8, words, &step->b)) return nullptr;
  } else if (!r.reads(1, product({b_shared ? 1 : batches, k, n}), 1, &step->b)) {
    return nullptr;
  }
  if (!step->sums.read(r, 9, 3, n) ||
      !r.writes(2, product({batches, m, n, step->sums.element()}), step->sums.element(), &step->y)) {
    return nullptr;
  }
  step->work = product({batches, m, n, k}) / kPerWork;
  const uint64_t panels = (n + kernels.panel - 1) / kernels.panel;
  step->by_rows = step->packed && m >= panels;
  step->tasks = tasks_for(step->work, step->by_rows ? m : panels);
  step->workspace_at = step->packed ? 0 : aligned(kernels.packed_bytes(k, n));
  step->scratch_bytes = sum(step->workspace_at, kernels.product_workspace(m, n, k));
  return step;
}

std::unique_ptr<Step> read_int8_conv(StepReader& r) { return read_convolution(r, false); }
std::unique_ptr<Step> read_int8_depthwise(StepReader& r) { return read_convolution(r, true); }

}  // namespace cloister
