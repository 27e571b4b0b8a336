#include "program.h"

#include <cinttypes>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "interval_set.h"

namespace cloister {
namespace {

constexpr uint64_t kTooMuch = UINT64_MAX;
constexpr uint64_t kRecordBytes = 24;  // constants, ports and operands
constexpr uint64_t kPackedRecordBytes = 72;
constexpr uint64_t kStepHeadBytes = 16;
constexpr uint32_t kWindowWords = 16;
constexpr uint64_t kMaxVolume = uint64_t{1}
                                << 44;  // elements; far above any model, far below overflow in a kernel's sizes

constexpr uint64_t kDTypeBytes[] = {4, 8, 2, 2, 1, 1, 2,
                                    2, 4, 4, 8, 8, 1};  // f32 f64 f16 bf16 i8 u8 i16 u16 i32 u32 i64 u64 bool
constexpr uint32_t kDTypes = sizeof(kDTypeBytes) / sizeof(kDTypeBytes[0]);

const char* const kStepNames[] = {"?",     "load",   "pack",    "gemm",   "conv", "pool",
                                  "unary", "binary", "softmax", "reduce", "copy", "concat"};
const char* const kSpaceNames[] = {"?", "temporary", "permanent", "staging", "packed"};

// A product that stays at kTooMuch once it has overflowed, so that it equals no length that was checked against an
// arena.
uint64_t product(std::initializer_list<uint64_t> factors) {
  uint64_t result = 1;
  for (const uint64_t factor : factors) {
    if (factor != 0 && result > kTooMuch / factor) return kTooMuch;
    result *= factor;
  }
  return result;
}

uint64_t sum(uint64_t a, uint64_t b) { return a > kTooMuch - b ? kTooMuch : a + b; }

uint64_t aligned(uint64_t bytes) {
  return bytes > kTooMuch - kArenaAlignment ? kTooMuch
                                            : (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

struct Operand {
  uint32_t space = 0, packed = 0;
  uint64_t offset = 0, length = 0;
};

struct PackedWeight {
  bool conv = false;
  bool transposed = false;
  size_t k = 0, n = 0;
  Window window = {};
  uint64_t source_bytes = 0;  // of the weights as the model has them
  uint64_t offset = 0;        // in the permanent arena
  bool filled = false;
};

struct Constant {
  bool from_model;
  uint64_t offset, length;
};

class Verifier {
 public:
  Verifier(const uint8_t* bytes, size_t length, const Kernels& row, uint64_t model_bytes, uint64_t limit_bytes,
           uint64_t limit_work, Program* out)
      : bytes_(bytes),
        length_(length),
        row_(row),
        model_bytes_(model_bytes),
        limit_(limit_bytes),
        limit_work_(limit_work),
        out_(*out) {}

  Verdict run() {
    if (header() && constants() && packed_weights() && ports() && steps(true) && packed_filled() && steps(false) &&
        results() && inline_section()) {
      total();
    }
    return verdict_;
  }

 private:
  // ---- reading ----

  uint32_t u32(uint64_t at) const {
    return static_cast<uint32_t>(bytes_[at]) | static_cast<uint32_t>(bytes_[at + 1]) << 8 |
           static_cast<uint32_t>(bytes_[at + 2]) << 16 | static_cast<uint32_t>(bytes_[at + 3]) << 24;
  }
  uint64_t u64(uint64_t at) const { return u32(at) | static_cast<uint64_t>(u32(at + 4)) << 32; }
  static float bits(uint32_t word) {
    float value;
    std::memcpy(&value, &word, sizeof value);
    return value;
  }

  // Whether `count` more bytes are there.
  bool need(uint64_t count, const char* what) {
    if (count <= length_ - at_) return true;
    return fail("exact-length", "%s needs %" PRIu64 " bytes at %" PRIu64 ", the program has %" PRIu64 " left", what,
                count, at_, length_ - at_);
  }

  // ---- refusing ----

#if defined(__GNUC__)
  __attribute__((format(printf, 3, 4)))
#endif
  bool fail(const char* invariant, const char* format, ...) {
    char text[320];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    verdict_.code = "INVALID_PROGRAM";
    verdict_.message = where() + text + " [" + invariant + "]";
    return false;
  }

  bool over_memory(const char* what, uint64_t bytes) {
    char text[160];
    std::snprintf(text, sizeof text, "%s needs %" PRIu64 " bytes, the limit is %" PRIu64 " [total-memory]", what, bytes,
                  limit_);
    verdict_.code = "OUT_OF_MEMORY";
    verdict_.message = where() + text;
    return false;
  }

  std::string where() const {
    if (phase_ == nullptr) return "";
    char text[64];
    std::snprintf(text, sizeof text, "%s step %u (%s): ", phase_, index_,
                  kind_ < kStepKindEnd ? kStepNames[kind_] : "?");
    return text;
  }

  // ---- sections ----

  bool header() {
    if (length_ < kHeaderBytes || length_ > kMaxProgramBytes || length_ % 8 != 0) {
      return fail("exact-length", "expected %" PRIu64 " to %" PRIu64 " bytes, a multiple of 8, got %zu", kHeaderBytes,
                  kMaxProgramBytes, length_);
    }
    if (u32(0) != kProgramMagic) return fail("header", "expected magic 0x%08x, got 0x%08x", kProgramMagic, u32(0));
    if (u32(4) != kProgramVersion) return fail("header", "expected version %u, got %u", kProgramVersion, u32(4));
    if (u32(76) != 0) return fail("header", "expected zero at 76, got %u", u32(76));
    if (u64(8) != length_) return fail("exact-length", "the header says %" PRIu64 " bytes, got %zu", u64(8), length_);
    if (u64(16) != model_bytes_) {
      return fail("model-length", "expected a model of %" PRIu64 " bytes, got %" PRIu64, u64(16), model_bytes_);
    }
    const char* const arenas[] = {"permanent arena", "temporary arena", "staging arena"};
    for (int i = 0; i < 3; i++) {
      const uint64_t bytes = u64(24 + 8 * i);
      if (bytes > kMaxArenaBytes) {
        return fail("arena-size", "the %s is at most %" PRIu64 " bytes, got %" PRIu64, arenas[i], kMaxArenaBytes,
                    bytes);
      }
    }
    arena_[kPermanent] = u64(24);
    arena_[kTemporary] = u64(32);
    arena_[kStaging] = u64(40);
    const uint32_t most[] = {kMaxConstants, kMaxPacked, kMaxPorts, kMaxPorts, kMaxSteps, kMaxSteps, kMaxInlineBytes};
    const char* const counted[] = {"constants",   "packed weights", "inputs",      "outputs",
                                   "setup steps", "run steps",      "inline bytes"};
    for (int i = 0; i < 7; i++) {
      count_[i] = u32(48 + 4 * i);
      if (count_[i] > most[i]) return fail("count", "at most %u %s, got %u", most[i], counted[i], count_[i]);
    }
    out_.permanent_bytes = aligned(arena_[kPermanent]);
    out_.temporary_bytes = arena_[kTemporary];
    out_.staging_bytes = arena_[kStaging];
    at_ = kHeaderBytes;
    return total();
  }

  // Refused before anything is allocated, and again whenever a size has grown.
  bool total() {
    const uint64_t bytes = sum(sum(out_.permanent_bytes, aligned(out_.temporary_bytes)),
                               sum(aligned(out_.staging_bytes), out_.scratch_bytes));
    return bytes <= limit_ || over_memory("the program", bytes);
  }

  bool constants() {
    if (!need(count_[0] * kRecordBytes, "the constant table")) return false;
    constants_.reserve(count_[0]);
    for (uint32_t i = 0; i < count_[0]; i++, at_ += kRecordBytes) {
      const uint32_t source = u32(at_);
      const uint64_t offset = u64(at_ + 8), bytes = u64(at_ + 16);
      if (source > 1 || u32(at_ + 4) != 0)
        return fail("constant", "constant %u: source %u, pad %u", i, source, u32(at_ + 4));
      const uint64_t most = source == 0 ? model_bytes_ : count_[6];
      if (bytes == 0 || offset > most || bytes > most - offset) {
        return fail("constant",
                    "constant %u: expected 1 or more bytes within the %" PRIu64 " of the %s, got %" PRIu64
                    " at %" PRIu64,
                    i, most, source == 0 ? "model" : "inline section", bytes, offset);
      }
      constants_.push_back({source == 0, offset, bytes});
    }
    return true;
  }

  bool packed_weights() {
    if (!need(count_[1] * kPackedRecordBytes, "the table of packed weights")) return false;
    packed_.reserve(count_[1]);
    for (uint32_t i = 0; i < count_[1]; i++, at_ += kPackedRecordBytes) {
      const uint32_t layout = u32(at_);
      if (layout > 1 || u32(at_ + 4) != 0)
        return fail("packed-layout", "packed weight %u: layout %u, pad %u", i, layout, u32(at_ + 4));
      PackedWeight weight;
      weight.conv = layout == 1;
      uint32_t words[kWindowWords];
      for (uint32_t j = 0; j < kWindowWords; j++) words[j] = u32(at_ + 8 + 4 * j);
      uint64_t elements = 0;
      if (weight.conv) {
        if (!window(words, false, &weight.window)) return false;
        weight.source_bytes = weight_bytes(weight.window);
        elements = row_.conv_packed_elements(weight.window);
      } else {
        weight.k = words[0];
        weight.n = words[1];
        weight.transposed = words[2] == 1;
        if (!dim(words[0], "k") || !dim(words[1], "n") || !flag(words[2], "transposed")) return false;
        for (uint32_t j = 3; j < kWindowWords; j++) {
          if (words[j] != 0)
            return fail("packed-layout", "packed weight %u: word %u must be zero, got %u", i, j, words[j]);
        }
        weight.source_bytes = product({weight.k, weight.n, 4});
        if (weight.source_bytes > kMaxArenaBytes)
          return fail("no-overflow", "packed weight %u: %u x %u", i, words[0], words[1]);
        elements = row_.gemm_packed_elements(weight.k, weight.n);
      }
      weight.offset = out_.permanent_bytes;
      out_.permanent_bytes = sum(out_.permanent_bytes, aligned(product({elements, 4})));
      if (!total()) return false;
      packed_.push_back(weight);
    }
    return true;
  }

  bool ports() {
    if (!need((uint64_t{count_[2]} + count_[3]) * kRecordBytes, "the port table")) return false;
    for (uint32_t i = 0; i < count_[2] + count_[3]; i++, at_ += kRecordBytes) {
      const bool input = i < count_[2];
      const char* const side = input ? "input" : "output";
      const uint32_t number = input ? i : i - count_[2];
      const uint32_t dtype = u32(at_), space = u32(at_ + 4);
      const uint64_t offset = u64(at_ + 8), bytes = u64(at_ + 16);
      if (dtype >= kDTypes) return fail("port", "%s %u: dtype %u of %u", side, number, dtype, kDTypes);
      if (space != kTemporary && (input || space != kPermanent))
        return fail("port", "%s %u: space %u", side, number, space);
      if (bytes % kDTypeBytes[dtype] != 0) {
        return fail("port", "%s %u: %" PRIu64 " bytes are no whole number of elements of %" PRIu64, side, number, bytes,
                    kDTypeBytes[dtype]);
      }
      if (offset > arena_[space] || bytes > arena_[space] - offset) {
        return fail("operand-in-arena", "%s %u: %" PRIu64 " bytes at %" PRIu64 " of %" PRIu64, side, number, bytes,
                    offset, arena_[space]);
      }
      const Port port = {dtype, {static_cast<Space>(space), offset}, bytes};
      if (input) {
        // Disjoint inputs: none may overwrite another after both were copied in.
        for (const Port& other : out_.inputs) {
          if (offset < other.at.offset + other.length && other.at.offset < offset + bytes) {
            return fail("aliasing", "input %u overlaps an earlier input at %" PRIu64, number, other.at.offset);
          }
        }
        out_.inputs.push_back(port);
      } else {
        out_.outputs.push_back(port);
      }
    }
    return true;
  }

  bool packed_filled() {
    for (size_t i = 0; i < packed_.size(); i++) {
      if (!packed_[i].filled) return fail("packed-once", "packed weight %zu: no setup step fills it", i);
    }
    return true;
  }

  bool results() {
    for (size_t i = 0; i < out_.outputs.size(); i++) {
      const Port& port = out_.outputs[i];
      const uint64_t end = port.at.offset + port.length;
      const uint64_t missing = defined_[port.at.space].first_missing(port.at.offset, end);
      if (missing != end) {
        return fail("defined", "output %zu: byte %" PRIu64 " of the %s arena is never written", i, missing,
                    kSpaceNames[port.at.space]);
      }
    }
    return true;
  }

  bool inline_section() {
    const uint64_t padded = (uint64_t{count_[6]} + 7) / 8 * 8;
    if (!need(padded, "the inline section")) return false;
    out_.inline_offset = at_;
    for (uint64_t i = count_[6]; i < padded; i++) {
      if (bytes_[at_ + i] != 0) return fail("exact-length", "the padding after the inline section is not zero");
    }
    at_ += padded;
    return at_ == length_ || fail("exact-length", "%" PRIu64 " bytes follow the inline section", length_ - at_);
  }

  // ---- steps ----

  bool steps(bool setup) {
    setup_ = setup;
    phase_ = setup ? "setup" : "run";
    if (!setup) {
      for (const Port& port : out_.inputs) defined_[kTemporary].add(port.at.offset, port.at.offset + port.length);
    }
    const uint32_t count = count_[setup ? 4 : 5];
    std::vector<Step>& list = setup ? out_.setup : out_.run;
    for (index_ = 0; index_ < count; index_++) {
      kind_ = kStepKindEnd;
      if (!need(kStepHeadBytes, "a step")) return false;
      kind_ = u32(at_);
      const uint32_t operands = u32(at_ + 4), words = u32(at_ + 8);
      if (kind_ == 0 || kind_ >= kStepKindEnd) return fail("step-form", "kind %u", kind_);
      if (operands > kMaxOperands || words > kMaxParameters || u32(at_ + 12) != 0) {
        return fail("step-form", "at most %u operands and %u parameters, got %u and %u, pad %u", kMaxOperands,
                    kMaxParameters, operands, words, u32(at_ + 12));
      }
      at_ += kStepHeadBytes;
      const uint64_t parameter_bytes = (words + 1u) / 2 * 8;
      if (!need(operands * kRecordBytes + parameter_bytes, "a step")) return false;
      operands_.clear();
      for (uint32_t i = 0; i < operands; i++, at_ += kRecordBytes) {
        operands_.push_back({u32(at_), u32(at_ + 4), u64(at_ + 8), u64(at_ + 16)});
      }
      words_.clear();
      for (uint32_t i = 0; i < words; i++) words_.push_back(u32(at_ + 4 * i));
      if (words % 2 == 1 && u32(at_ + 4 * words) != 0)
        return fail("step-form", "the word after the parameters is not zero");
      at_ += parameter_bytes;

      Step step;
      step.kind = static_cast<StepKind>(kind_);
      if (!check(&step) || !affordable(step)) return false;
      list.push_back(std::move(step));
    }
    phase_ = nullptr;
    return true;
  }

  bool check(Step* step) {
    switch (step->kind) {
      case kStepLoad: return load(step);
      case kStepPack: return pack(step);
      case kStepGemm: return gemm(step);
      case kStepConv: return conv(step);
      case kStepPool: return pool(step);
      case kStepUnary: return unary(step);
      case kStepBinary: return binary(step);
      case kStepSoftmax: return softmax(step);
      case kStepReduce: return reduce(step);
      case kStepCopy: return copy(step);
      case kStepConcat: return concat(step);
      case kStepKindEnd: break;
    }
    return false;
  }

  bool load(Step* step) {
    if (!setup_) return fail("step-form", "only setup may load");
    if (!form(1, 1, 1)) return false;
    if (words_[0] >= constants_.size()) return fail("constant", "constant %u of %zu", words_[0], constants_.size());
    const Constant& constant = constants_[words_[0]];
    step->from_model = constant.from_model;
    step->source = constant.offset;
    step->length = constant.length;
    return writes(0, constant.length, 1, &step->y) && define(0);
  }

  bool pack(Step* step) {
    if (!setup_) return fail("step-form", "only setup may pack");
    if (!form(1, 1, 1)) return false;
    if (words_[0] >= packed_.size()) return fail("packed-layout", "packed weight %u of %zu", words_[0], packed_.size());
    PackedWeight& weight = packed_[words_[0]];
    if (weight.filled) return fail("packed-once", "packed weight %u is filled twice", words_[0]);
    if (!reads(0, weight.source_bytes, 4, &step->x)) return false;
    weight.filled = true;
    step->op = weight.conv ? 1 : 0;
    step->window = weight.window;
    step->k = weight.k;
    step->n = weight.n;
    step->b_transposed = weight.transposed;
    step->y = {kPermanent, weight.offset};
    return true;
  }

  bool gemm(Step* step) {
    if (!form(3, 4, 11)) return false;
    for (int i = 0; i < 3; i++) {
      if (!dim(words_[i], i == 0 ? "m" : i == 1 ? "n" : "k")) return false;
    }
    if (!flag(words_[3], "a_transposed") || !flag(words_[4], "b_transposed") || !dim(words_[5], "batches") ||
        !flag(words_[6], "a_shared") || !flag(words_[7], "b_shared") || !epilogue(8, step)) {
      return false;
    }
    const uint64_t m = words_[0], n = words_[1], k = words_[2], batches = words_[5];
    const bool a_shared = words_[6] == 1, b_shared = words_[7] == 1;
    step->m = m;
    step->n = n;
    step->k = k;
    step->batches = batches;
    step->a_transposed = words_[3] == 1;
    step->b_transposed = words_[4] == 1;
    step->a_step = a_shared ? 0 : m * k;
    step->b_step = b_shared ? 0 : k * n;
    if (!reads(0, product({a_shared ? 1 : batches, m, k, 4}), 4, &step->x)) return false;
    step->w_packed = operands_[1].space == kPacked;
    if (step->w_packed) {
      const PackedWeight* weight = packed_operand(1, false, step);
      if (weight == nullptr) return false;
      if (weight->k != k || weight->n != n || !b_shared || step->b_transposed) {
        return fail("packed-layout", "b is packed as %zu x %zu, the step is of k %" PRIu64 " and n %" PRIu64, weight->k,
                    weight->n, k, n);
      }
    } else if (!reads(1, product({b_shared ? 1 : batches, k, n, 4}), 4, &step->w)) {
      return false;
    }
    if (!bias(3, n, step) || !writes(2, product({batches, m, n, 4}), 4, &step->y)) return false;
    uint64_t bytes = aligned(product({row_.gemm_workspace_elements(m, n, k), 4}));
    if (!step->w_packed) bytes = sum(bytes, aligned(product({row_.gemm_packed_elements(k, n), 4})));
    return apart(2) && workspace(bytes) && define(2);
  }

  bool conv(Step* step) {
    if (!form(3, 4, kWindowWords + 3) || !window(words_.data(), false, &step->window) || !epilogue(kWindowWords, step))
      return false;
    const Window& w = step->window;
    if (!reads(0, product({w.batch, w.in_c, w.in_h, w.in_w, 4}), 4, &step->x)) return false;
    step->w_packed = operands_[1].space == kPacked;
    if (step->w_packed) {
      const PackedWeight* weight = packed_operand(1, true, step);
      if (weight == nullptr) return false;
      if (std::memcmp(&weight->window, &w, sizeof w) != 0) {
        return fail("packed-layout", "w was packed for another window than the step's");
      }
    } else if (!reads(1, weight_bytes(w), 4, &step->w)) {
      return false;
    }
    if (!bias(3, w.out_c, step) || !writes(2, product({w.batch, w.out_c, w.out_h, w.out_w, 4}), 4, &step->y))
      return false;
    uint64_t bytes = aligned(product({row_.conv_workspace_elements(w), 4}));
    if (!step->w_packed) bytes = sum(bytes, aligned(product({row_.conv_packed_elements(w), 4})));
    return apart(2) && workspace(bytes) && define(2);
  }

  bool pool(Step* step) {
    if (!form(2, 2, kWindowWords + 1) || !window(words_.data(), true, &step->window) ||
        !op(words_[kWindowWords], kPoolOpCount, step)) {
      return false;
    }
    const Window& w = step->window;
    return reads(0, product({w.batch, w.in_c, w.in_h, w.in_w, 4}), 4, &step->x) &&
           writes(1, product({w.batch, w.out_c, w.out_h, w.out_w, 4}), 4, &step->y) && apart(1) && define(1);
  }

  bool unary(Step* step) {
    if (!form(2, 2, 3) || !op(words_[0], kUnaryOpCount, step)) return false;
    step->p0 = bits(words_[1]);
    step->p1 = bits(words_[2]);
    if (step->op == kClip && !ordered(step)) return false;
    const uint64_t bytes = operands_[1].length;
    if (bytes == 0 || bytes % 4 != 0)
      return fail("operand-size", "y: expected one or more elements of 4 bytes, got %" PRIu64, bytes);
    step->count = bytes / 4;
    return reads(0, bytes, 4, &step->x) && writes(1, bytes, 4, &step->y) && (same(0, 1) || apart(1)) && define(1);
  }

  bool binary(Step* step) {
    if (words_.size() < 2 || !rank(words_[1], step)) return fail_form();
    if (!form(3, 3, 2 + 3 * step->rank) || !op(words_[0], kBinaryOpCount, step)) return false;
    uint64_t dense = 4, a_span = 1, b_span = 1;
    for (uint32_t i = 0; i < step->rank; i++) {
      step->dims[i] = words_[2 + i];
      step->a_strides[i] = words_[2 + step->rank + i];
      step->b_strides[i] = words_[2 + 2 * step->rank + i];
      if (!dim(step->dims[i], "dimension")) return false;
      dense = product({dense, step->dims[i]});
      a_span = sum(a_span, product({step->dims[i] - 1u, step->a_strides[i]}));
      b_span = sum(b_span, product({step->dims[i] - 1u, step->b_strides[i]}));
    }
    if (!reads(0, product({a_span, 4}), 4, &step->x) || !reads(1, product({b_span, 4}), 4, &step->w) ||
        !writes(2, dense, 4, &step->y)) {
      return false;
    }
    // In place only where element i of the operand is element i of y.
    const bool a_in_place = same(0, 2) && is_dense(*step, step->a_strides);
    const bool b_in_place = same(1, 2) && is_dense(*step, step->b_strides);
    return (a_in_place || apart_from(0, 2)) && (b_in_place || apart_from(1, 2)) && define(2);
  }

  bool softmax(Step* step) {
    if (!form(2, 2, 4) || !axis(0, step) || !flag(words_[3], "log")) return false;
    step->log = words_[3] == 1;
    const uint64_t bytes = product({step->outer, step->n, step->inner, 4});
    return reads(0, bytes, 4, &step->x) && writes(1, bytes, 4, &step->y) && (same(0, 1) || apart(1)) && define(1);
  }

  bool reduce(Step* step) {
    if (!form(2, 2, 4) || !op(words_[0], kReduceOpCount, step) || !axis(1, step)) return false;
    return reads(0, product({step->outer, step->n, step->inner, 4}), 4, &step->x) &&
           writes(1, product({step->outer, step->inner, 4}), 4, &step->y) && apart(1) && define(1);
  }

  bool copy(Step* step) {
    if (words_.size() < 2 || !rank(words_[1], step)) return fail_form();
    if (!form(2, 2, 2 + 3 * step->rank)) return false;
    const uint32_t bytes = words_[0];
    if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8)
      return fail("enum", "element bytes 1, 2, 4 or 8, got %u", bytes);
    step->element_bytes = bytes;
    uint64_t dense = bytes, up = 0, down = 0;
    for (uint32_t i = 0; i < step->rank; i++) {
      step->dims[i] = words_[2 + i];
      const uint32_t low = words_[2 + step->rank + 2 * i], high = words_[2 + step->rank + 2 * i + 1];
      const uint64_t stride = low | static_cast<uint64_t>(high) << 32;
      const bool negative = high >> 31;
      const uint64_t magnitude = negative ? ~stride + 1 : stride;
      if (!dim(step->dims[i], "dimension")) return false;
      if (magnitude > kMaxArenaBytes)
        return fail("dimension", "stride %u: its magnitude is over %" PRIu64, i, kMaxArenaBytes);
      step->strides[i] = negative ? -static_cast<int64_t>(magnitude) : static_cast<int64_t>(magnitude);
      dense = product({dense, step->dims[i]});
      (negative ? down : up) = sum(negative ? down : up, product({step->dims[i] - 1u, magnitude}));
    }
    if (!reads(0, product({sum(sum(up, down), 1), bytes}), bytes, &step->x) || !writes(1, dense, bytes, &step->y))
      return false;
    step->start = down * bytes;
    return apart(1) && define(1);
  }

  bool concat(Step* step) {
    if (!form(2, kMaxOperands, 1) || !dim(words_[0], "outer")) return false;
    step->outer = words_[0];
    uint64_t total_bytes = 0;
    for (size_t i = 1; i < operands_.size(); i++) {
      const uint64_t bytes = operands_[i].length;
      if (bytes == 0 || bytes % step->outer != 0) {
        return fail("operand-size", "operand %zu: expected a multiple of %zu rows, got %" PRIu64 " bytes", i,
                    step->outer, bytes);
      }
      Ref part;
      if (!reads(static_cast<uint32_t>(i), bytes, 1, &part)) return false;
      step->parts.push_back(part);
      step->row_bytes.push_back(bytes / step->outer);
      total_bytes = sum(total_bytes, bytes);
    }
    return writes(0, total_bytes, 1, &step->y) && apart(0) && define(0);
  }

  // ---- the invariants that steps share ----

  bool fail_form() { return verdict_.ok() ? fail("step-form", "too few parameters: %zu", words_.size()) : false; }

  bool form(uint32_t least, uint32_t most, uint32_t words) {
    if (operands_.size() < least || operands_.size() > most || words_.size() != words) {
      return fail("step-form", "expected %u to %u operands and %u parameters, got %zu and %zu", least, most, words,
                  operands_.size(), words_.size());
    }
    return true;
  }

  bool dim(uint32_t value, const char* what) {
    return (value >= 1 && value <= kMaxDim) || fail("dimension", "%s: expected 1 to %u, got %u", what, kMaxDim, value);
  }

  bool flag(uint32_t value, const char* what) {
    return value <= 1 || fail("enum", "%s: expected 0 or 1, got %u", what, value);
  }

  bool op(uint32_t value, uint32_t count, Step* step) {
    step->op = value;
    return value < count || fail("enum", "operation: expected 0 to %u, got %u", count - 1, value);
  }

  bool rank(uint32_t value, Step* step) {
    step->rank = value;
    return (value >= 1 && value <= kMaxRank) || fail("dimension", "rank: expected 1 to %zu, got %u", kMaxRank, value);
  }

  bool axis(uint32_t first, Step* step) {
    step->outer = words_[first];
    step->n = words_[first + 1];
    step->inner = words_[first + 2];
    return dim(words_[first], "outer") && dim(words_[first + 1], "n") && dim(words_[first + 2], "inner");
  }

  bool ordered(const Step* step) {
    if (std::isnan(step->p0) || std::isnan(step->p1) || step->p0 > step->p1) {
      return fail("enum", "clip: expected lo <= hi, got %g and %g", static_cast<double>(step->p0),
                  static_cast<double>(step->p1));
    }
    return true;
  }

  bool epilogue(uint32_t first, Step* step) {
    if (words_[first] >= kActCount)
      return fail("enum", "activation: expected 0 to %u, got %u", kActCount - 1, words_[first]);
    step->activation = static_cast<Activation>(words_[first]);
    step->p0 = bits(words_[first + 1]);
    step->p1 = bits(words_[first + 2]);
    return step->activation != kActClip || ordered(step);
  }

  bool bias(uint32_t i, uint64_t count, Step* step) {
    step->has_bias = operands_.size() > i;
    return !step->has_bias || reads(i, product({count, 4}), 4, &step->bias);
  }

  // One axis of a window: every position overlaps the input before dilation, so no kernel meets a window that lies
  // outside.
  bool window_axis(const char* name, uint64_t in, uint64_t out, uint64_t kernel, uint64_t stride, uint64_t dilation,
                   uint64_t pad) {
    const uint64_t extent = (kernel - 1) * dilation + 1;
    if (extent > kMaxDim) return fail("window", "%s: a dilated kernel of %" PRIu64, name, extent);
    if (pad >= extent)
      return fail("window", "%s: padding %" PRIu64 " must be below the dilated kernel, %" PRIu64, name, pad, extent);
    if ((out - 1) * stride >= in + pad) {
      return fail("window",
                  "%s: window %" PRIu64 " at stride %" PRIu64 " starts after the input of %" PRIu64
                  " with padding %" PRIu64,
                  name, out - 1, stride, in, pad);
    }
    return true;
  }

  bool window(const uint32_t* words, bool pooling, Window* w) {
    static_assert(sizeof(Window) == kWindowWords * 4, "a window is 16 words");
    std::memcpy(w, words, sizeof *w);
    for (uint32_t i = 0; i < kWindowWords; i++) {
      const bool pad = i == 13 || i == 14;
      if (!pad && !dim(words[i], "window")) return false;
      if (pad && words[i] > kMaxDim) return fail("dimension", "padding: at most %u, got %u", kMaxDim, words[i]);
    }
    if (w->in_c % w->groups != 0 || w->out_c % w->groups != 0) {
      return fail("window", "%u groups do not divide %u input and %u output channels", w->groups, w->in_c, w->out_c);
    }
    if (pooling && (w->groups != 1 || w->in_c != w->out_c)) {
      return fail("window", "pooling keeps channels: %u in, %u out, %u groups", w->in_c, w->out_c, w->groups);
    }
    if (!window_axis("height", w->in_h, w->out_h, w->kernel_h, w->stride_h, w->dilation_h, w->pad_top) ||
        !window_axis("width", w->in_w, w->out_w, w->kernel_w, w->stride_w, w->dilation_w, w->pad_left)) {
      return false;
    }
    // What kernels compute sizes from: unrolled patches, and the input with its padding on both sides.
    const uint64_t patches = product({w->in_c / w->groups, w->kernel_h, w->kernel_w, w->out_h, w->out_w});
    if (patches > kMaxVolume || padded_elements(*w) > kMaxVolume || weight_bytes(*w) > kMaxArenaBytes) {
      return fail("no-overflow", "the window's volume is over %" PRIu64 " elements", kMaxVolume);
    }
    return true;
  }

  // An image with as much padding on both sides as a window may have.
  static uint64_t padded_elements(const Window& w) {
    return product({w.in_c, w.in_h + 2 * (uint64_t{w.kernel_h} - 1) * w.dilation_h,
                    w.in_w + 2 * (uint64_t{w.kernel_w} - 1) * w.dilation_w});
  }

  static uint64_t weight_bytes(const Window& w) {
    return product({w.out_c, w.in_c / w.groups, w.kernel_h, w.kernel_w, 4});
  }

  const PackedWeight* packed_operand(uint32_t i, bool conv, Step* step) {
    const Operand& operand = operands_[i];
    if (operand.packed >= packed_.size() || operand.offset != 0 || operand.length != 0) {
      fail("packed-layout", "operand %u: packed weight %u of %zu, offset and length zero", i, operand.packed,
           packed_.size());
      return nullptr;
    }
    const PackedWeight& weight = packed_[operand.packed];
    if (weight.conv != conv) {
      fail("packed-layout", "operand %u: packed weight %u is of the other layout", i, operand.packed);
      return nullptr;
    }
    if (!weight.filled) {
      fail("defined", "operand %u: packed weight %u is not filled yet", i, operand.packed);
      return nullptr;
    }
    step->w = {kPermanent, weight.offset};
    return &weight;
  }

  // An operand of exactly `bytes`, inside its arena, aligned to its elements, in a space that this phase may use.
  bool place(uint32_t i, uint64_t bytes, uint32_t element, bool write, Ref* ref) {
    const Operand& operand = operands_[i];
    const bool allowed = setup_ ? operand.space == kStaging || operand.space == kPermanent
                                : operand.space == kTemporary || (operand.space == kPermanent && !write);
    if (!allowed) {
      return fail("space", "operand %u: may not %s %s", i, write ? "write" : "read",
                  operand.space <= kPacked ? kSpaceNames[operand.space] : "an unknown space");
    }
    if (operand.packed != 0)
      return fail("step-form", "operand %u: packed index %u on a plain operand", i, operand.packed);
    const uint64_t arena = arena_[operand.space];
    if (operand.offset > arena || operand.length > arena - operand.offset) {
      return fail("operand-in-arena", "operand %u: %" PRIu64 " bytes at %" PRIu64 " of the %" PRIu64 " of the %s arena",
                  i, operand.length, operand.offset, arena, kSpaceNames[operand.space]);
    }
    if (operand.length != bytes) {
      return fail("operand-size", "operand %u: expected %" PRIu64 " bytes, got %" PRIu64, i, bytes, operand.length);
    }
    if (operand.offset % element != 0) {
      return fail("alignment", "operand %u: offset %" PRIu64 " is not a multiple of %u", i, operand.offset, element);
    }
    *ref = {static_cast<Space>(operand.space), operand.offset};
    return true;
  }

  bool reads(uint32_t i, uint64_t bytes, uint32_t element, Ref* ref) {
    if (!place(i, bytes, element, false, ref)) return false;
    const Operand& operand = operands_[i];
    const uint64_t end = operand.offset + operand.length;
    const uint64_t missing = defined_[operand.space].first_missing(operand.offset, end);
    return missing == end ||
           fail("defined", "operand %u: byte %" PRIu64 " of the %s arena is read before it is written", i, missing,
                kSpaceNames[operand.space]);
  }

  bool writes(uint32_t i, uint64_t bytes, uint32_t element, Ref* ref) { return place(i, bytes, element, true, ref); }

  bool define(uint32_t i) {
    defined_[operands_[i].space].add(operands_[i].offset, operands_[i].offset + operands_[i].length);
    return true;
  }

  bool same(uint32_t a, uint32_t b) const {
    const Operand &x = operands_[a], &y = operands_[b];
    return x.space == y.space && x.offset == y.offset && x.length == y.length;
  }

  bool apart_from(uint32_t a, uint32_t b) {
    const Operand &x = operands_[a], &y = operands_[b];
    if (x.space != y.space || x.offset >= y.offset + y.length || y.offset >= x.offset + x.length) return true;
    return fail("aliasing", "operand %u, which is written, overlaps operand %u", b, a);
  }

  // Nothing that the step reads overlaps what it writes. Packed weights lie outside every offset that a program can
  // name.
  bool apart(uint32_t written) {
    for (uint32_t i = 0; i < operands_.size(); i++) {
      if (i != written && operands_[i].space != kPacked && !apart_from(i, written)) return false;
    }
    return true;
  }

  static bool is_dense(const Step& step, const uint32_t* strides) {
    uint64_t expected = 1;
    for (uint32_t i = step.rank; i-- > 0;) {
      if (step.dims[i] != 1 && strides[i] != expected) return false;
      expected *= step.dims[i];
    }
    return true;
  }

  // What a step costs: multiply-adds of products and windows, bytes of everything that is moved.
  bool affordable(const Step& step) {
    const Window& w = step.window;
    const uint64_t taps = product({w.batch, w.out_c, w.out_h, w.out_w, w.kernel_h, w.kernel_w});
    uint64_t bytes = 0;
    for (const Operand& operand : operands_) bytes = sum(bytes, operand.length);
    uint64_t cost = sum(bytes, step.kind == kStepConcat ? product({step.outer, operands_.size()}) : 0);
    if (step.kind == kStepGemm) cost = sum(cost, product({step.batches, step.m, step.n, step.k}));
    if (step.kind == kStepConv) {
      cost = sum(cost, product({taps, w.in_c / w.groups}));
      // The image is staged with its padding, which a dilated kernel makes far larger than the image.
      cost = sum(cost, product({w.batch, padded_elements(w)}));
    }
    if (step.kind == kStepPool) cost = sum(cost, taps);
    out_.work = sum(out_.work, cost);
    return out_.work <= limit_work_ ||
           fail("bounded-work", "at most %" PRIu64 " operations in all, the program comes to %" PRIu64, limit_work_,
                out_.work);
  }

  bool workspace(uint64_t bytes) {
    if (bytes > out_.scratch_bytes) out_.scratch_bytes = bytes;
    return total();
  }

  const uint8_t* const bytes_;
  const size_t length_;
  const Kernels& row_;
  const uint64_t model_bytes_, limit_, limit_work_;
  Program& out_;
  Verdict verdict_;

  uint64_t at_ = 0;
  uint64_t arena_[kPacked] = {};  // by space: bytes
  uint32_t count_[7] = {};        // constants, packed, inputs, outputs, setup, run, inline bytes
  std::vector<Constant> constants_;
  std::vector<PackedWeight> packed_;
  IntervalSet defined_[kPacked];  // by space: bytes written so far

  bool setup_ = false;
  const char* phase_ = nullptr;
  uint32_t index_ = 0, kind_ = 0;
  std::vector<Operand> operands_;
  std::vector<uint32_t> words_;
};

}  // namespace

Verdict verify_program(const uint8_t* bytes, size_t length, const Kernels& row, uint64_t model_bytes,
                       uint64_t limit_bytes, uint64_t limit_work, Program* out) {
  *out = Program();
  return Verifier(bytes, length, row, model_bytes, limit_bytes, limit_work, out).run();
}

}  // namespace cloister
