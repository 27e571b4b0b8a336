// gemm: a, b, c, [bias], [addend] · m n k a_transposed b_transposed alpha act lo hi has_bias has_addend
//       rank dims[rank] a_strides[rank] b_strides[rank]
//
// C = act(alpha A B + bias + addend) for each batch of `dims`. A stride is in matrices of its operand; 0 repeats one. C
// and the addend are dense. B may be packed (layout 0: k n transposed, then 13 zeros), as one matrix for all batches;
// b_transposed then says how it was stored before.
#include "../executor/kinds.h"

namespace cloister {
namespace {

class Gemm final : public Step {
 public:
  GemmProduct product = {};
  Ref a, b, c, bias, addend;
  bool has_bias = false, has_addend = false;
  uint32_t rank = 0;
  uint64_t batches = 1, dims[kMaxRank] = {}, a_strides[kMaxRank] = {}, b_strides[kMaxRank] = {};
  uint32_t parts = 1;  // of each batch, side by side or one below the other; more than one only where each batch is a task
  bool by_rows = false;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(batches, parts > 1 ? task / parts : task, parts > 1 ? tasks / parts : tasks);
    for (uint64_t i = share.first; i < share.last; i++) run_batch(frame, i, parts > 1 ? task % parts : 0);
  }

 private:
  void run_batch(const Frame& frame, uint64_t index, uint32_t part) const {
    uint64_t a_matrix = 0, b_matrix = 0, rest = index;
    for (uint32_t d = rank; d-- > 0; rest /= dims[d]) {
      a_matrix += rest % dims[d] * a_strides[d];
      b_matrix += rest % dims[d] * b_strides[d];
    }
    GemmProduct g = product;
    const uint64_t size = g.m * g.n;
    g.a = frame.at<float>(a) + a_matrix * g.m * g.k;
    g.b = frame.at<float>(b) + b_matrix * g.k * g.n;
    g.c = frame.at<float>(c) + index * size;
    g.addend = has_addend ? frame.at<float>(addend) + index * size : nullptr;
    g.epilogue.bias = has_bias ? frame.at<float>(bias) : nullptr;
    GemmRange range = {0, g.m, 0, g.n};
    if (by_rows) {
      const Share rows = share_of(g.m, part, parts);
      range.row = rows.first;
      range.rows = rows.last - rows.first;
    } else {
      const uint64_t panel = frame.row.gemm.panel;
      const Share panels = share_of((g.n + panel - 1) / panel, part, parts);
      range.column = panels.first * panel;
      range.columns = (panels.last * panel < g.n ? panels.last * panel : g.n) - range.column;
    }
    frame.row.gemm.multiply(g, range, frame.scratch<float>());
  }
};

// Cuts a step into tasks: by batches where there are many, else each batch by rows or by columns. A part packs what it
// needs for itself, so parts are large enough to make that cheap, and even in number.
void cut(Gemm* step, const GemmKernels& kernels) {
  const GemmProduct& g = step->product;
  const uint32_t wanted = tasks_for(step->work, UINT32_MAX);
  if (wanted <= step->batches) {
    step->tasks = wanted;
    return;
  }
  const bool few_rows = g.m <= kernels.few, few_columns = g.n <= kernels.few, packed = g.layout == kGemmPacked;
  const uint64_t least_rows = kernels.rows * (packed || few_columns ? 4 : 24);
  const uint64_t least_columns = kernels.panel * (few_rows ? 4 : 16);
  const uint64_t rows = few_rows ? 1 : g.m / least_rows, columns = g.n / least_columns;
  step->by_rows = rows >= columns;
  const uint64_t most = step->by_rows ? rows : columns, each = (wanted + step->batches - 1) / step->batches;
  while (step->parts * 2 <= (each < most ? each : most)) step->parts *= 2;
  step->tasks = static_cast<uint32_t>(step->batches) * step->parts;
}

bool measure(StepReader& reader, const uint32_t* words, uint64_t* source_bytes, uint64_t* packed_bytes) {
  if (!reader.dim(words[0], "k") || !reader.dim(words[1], "n") || !reader.flag(words[2], "transposed")) return false;
  for (uint32_t i = 3; i < kPackedWords; i++) {
    if (words[i] != 0) return reader.fail("packed-layout", "word %u must be zero, got %u", i, words[i]);
  }
  *source_bytes = product({words[0], words[1], 4});
  *packed_bytes = product({reader.row().gemm.packed_elements(words[0], words[1]), 4});
  return true;
}

bool pack(const Kernels& row, const uint32_t* words, const uint8_t* source, uint8_t* packed) {
  const size_t k = words[0], n = words[1];
  const bool transposed = words[2] == 1;
  row.gemm.pack_b(k, n, reinterpret_cast<const float*>(source), transposed ? k : n, transposed,
                  reinterpret_cast<float*>(packed));
  return true;
}

}  // namespace

extern const PackedLayout kGemmLayout = {"gemm", 4, measure, pack};

std::unique_ptr<Step> read_gemm(StepReader& r) {
  auto step = std::make_unique<Gemm>();
  GemmProduct& g = step->product;
  constexpr size_t kHead = 12;
  if (!r.rank(r.word(11)) || !r.flag(r.word(9), "has_bias") || !r.flag(r.word(10), "has_addend")) return nullptr;
  step->rank = r.word(11);
  step->has_bias = r.word(9) == 1;
  step->has_addend = r.word(10) == 1;
  const size_t operands = 3 + r.word(9) + r.word(10);
  if (!r.form(operands, operands, kHead + 3 * step->rank) || !r.dim(r.word(0), "m") || !r.dim(r.word(1), "n") ||
      !r.dim(r.word(2), "k") || !r.flag(r.word(3), "a_transposed") || !r.flag(r.word(4), "b_transposed") ||
      !r.epilogue(6, &g.epilogue)) {
    return nullptr;
  }
  g.m = r.word(0);
  g.n = r.word(1);
  g.k = r.word(2);
  g.a_transposed = r.word(3) == 1;
  g.lda = g.a_transposed ? g.m : g.k;
  g.ldc = g.addend_step = g.n;
  g.alpha = r.real(5);
  const bool b_transposed = r.word(4) == 1, packed = r.is_packed(1);
  g.layout = packed ? kGemmPacked : b_transposed ? kGemmColumns : kGemmRows;
  g.ldb = b_transposed ? g.k : g.n;

  uint64_t batches = 1, last_a = 0, last_b = 0;
  for (uint32_t d = 0; d < step->rank; d++) {
    const uint32_t size = r.word(kHead + d);
    if (!r.dim(size, "a batch dimension")) return nullptr;
    step->dims[d] = size;
    step->a_strides[d] = r.word(kHead + step->rank + d);
    step->b_strides[d] = r.word(kHead + 2 * step->rank + d);
    batches = product({batches, size});
    last_a = sum(last_a, product({size - 1, step->a_strides[d]}));
    last_b = sum(last_b, product({size - 1, step->b_strides[d]}));
  }
  step->batches = batches;
  if (!r.reads(0, product({sum(last_a, 1), g.m, g.k, 4}), 4, &step->a)) return nullptr;
  if (packed) {
    const uint32_t words[kPackedWords] = {r.word(2), r.word(1), r.word(4)};
    if (last_b != 0) return r.fail("packed-layout", "a packed b is the same for all batches"), nullptr;
    if (!r.packed(1, kLayoutGemm, words, &step->b)) return nullptr;
  } else if (!r.reads(1, product({sum(last_b, 1), g.k, g.n, 4}), 4, &step->b)) {
    return nullptr;
  }
  if (step->has_bias && !r.reads(3, product({g.n, 4}), 4, &step->bias)) return nullptr;
  const uint64_t bytes = product({batches, g.m, g.n, 4});
  if ((step->has_addend && !r.reads(operands - 1, bytes, 4, &step->addend)) || !r.writes(2, bytes, 4, &step->c)) {
    return nullptr;
  }
  step->scratch_bytes = product({r.row().gemm.workspace_elements(g.m, g.n, g.k, g.layout), 4});
  step->work = product({batches, g.m, g.n, g.k});
  cut(step.get(), r.row().gemm);
  return step;
}

}  // namespace cloister
