#include "program.h"

#include <cinttypes>
#include <cstdio>
#include <cstring>

#include "kinds.h"

namespace cloister {
namespace {

constexpr uint64_t kRecordBytes = 24;  // constants and operands
constexpr uint64_t kPortBytes = 16;
constexpr uint64_t kPackedRecordBytes = 72;
constexpr uint64_t kStepHeadBytes = 16;

constexpr uint64_t kDTypeBytes[] = {4, 8, 2, 2, 1, 1, 2,
                                    2, 4, 4, 8, 8, 1};  // f32 f64 f16 bf16 i8 u8 i16 u16 i32 u32 i64 u64 bool
constexpr uint32_t kDTypes = sizeof(kDTypeBytes) / sizeof(kDTypeBytes[0]);

struct Constant {
  bool from_model;
  uint64_t offset, length;
};

// A step of setup that packs a weight: its bytes are read from where they lie and never needed again.
class Pack final : public Step {
 public:
  Pack(const PackedLayout& layout, const uint32_t* words, Ref from, Ref to)
      : layout_(layout), from_(from), to_(to) {
    std::memcpy(words_, words, sizeof words_);
  }
  void run(const Frame& frame, uint32_t) const override {
    if (!layout_.pack(frame.row, words_, frame.at<uint8_t>(from_), frame.at<uint8_t>(to_))) frame.fault();
  }

 private:
  const PackedLayout& layout_;
  uint32_t words_[kPackedWords];
  const Ref from_, to_;
};

class Verifier {
 public:
  Verifier(const uint8_t* bytes, size_t length, const Kernels& row, uint64_t model_bytes, uint64_t limit_bytes,
           uint64_t limit_work, Program* out)
      : bytes_(bytes),
        length_(length),
        model_bytes_(model_bytes),
        limit_(limit_bytes),
        limit_work_(limit_work),
        out_(*out) {
    reader_.begin(row);
  }

  Verdict run() {
    if (header() && constants() && packed_weights() && ports() && steps(true) && packed_filled() && steps(false) &&
        results() && inline_section()) {
      total();
    }
    if (verdict_.ok() && !reader_.good()) verdict_ = {"INVALID_PROGRAM", reader_.reason()};
    return verdict_;
  }

 private:
  // ---- reading ----

  uint32_t u32(uint64_t at) const {
    return static_cast<uint32_t>(bytes_[at]) | static_cast<uint32_t>(bytes_[at + 1]) << 8 |
           static_cast<uint32_t>(bytes_[at + 2]) << 16 | static_cast<uint32_t>(bytes_[at + 3]) << 24;
  }
  uint64_t u64(uint64_t at) const { return u32(at) | static_cast<uint64_t>(u32(at + 4)) << 32; }

  // Whether `count` more bytes are there.
  bool need(uint64_t count, const char* what) {
    if (count <= length_ - at_) return true;
    return reader_.fail("exact-length", "%s needs %" PRIu64 " bytes at %" PRIu64 ", the program has %" PRIu64 " left",
                        what, count, at_, length_ - at_);
  }

  bool over_memory(const char* what, uint64_t bytes) {
    char text[160];
    std::snprintf(text, sizeof text, "%s needs %" PRIu64 " bytes, the limit is %" PRIu64 " [total-memory]", what, bytes,
                  limit_);
    verdict_ = {"OUT_OF_MEMORY", reader_.where() + text};
    return false;
  }

  // ---- sections ----

  bool header() {
    if (length_ < kHeaderBytes || length_ > kMaxProgramBytes || length_ % 8 != 0) {
      return reader_.fail("exact-length", "expected %" PRIu64 " to %" PRIu64 " bytes, a multiple of 8, got %zu", kHeaderBytes,
                  kMaxProgramBytes, length_);
    }
    if (u32(0) != kProgramMagic) return reader_.fail("header", "expected magic 0x%08x, got 0x%08x", kProgramMagic, u32(0));
    if (u32(4) != kProgramVersion) return reader_.fail("header", "expected version %u, got %u", kProgramVersion, u32(4));
    if (u32(76) != 0) return reader_.fail("header", "expected zero at 76, got %u", u32(76));
    if (u64(8) != length_) return reader_.fail("exact-length", "the header says %" PRIu64 " bytes, got %zu", u64(8), length_);
    if (u64(16) != model_bytes_) {
      return reader_.fail("model-length", "expected a model of %" PRIu64 " bytes, got %" PRIu64, u64(16), model_bytes_);
    }
    const char* const arenas[] = {"permanent arena", "temporary arena", "staging arena"};
    for (int i = 0; i < 3; i++) {
      const uint64_t bytes = u64(24 + 8 * i);
      if (bytes > kMaxArenaBytes) {
        return reader_.fail("arena-size", "the %s is at most %" PRIu64 " bytes, got %" PRIu64, arenas[i], kMaxArenaBytes,
                    bytes);
      }
    }
    for (const uint64_t bytes : {uint64_t{0}, u64(32), u64(24), u64(40)}) reader_.add_slot(bytes);
    const uint32_t most[] = {kMaxConstants, kMaxPacked, kMaxPorts, kMaxPorts, kMaxSteps, kMaxSteps, kMaxInlineBytes};
    const char* const counted[] = {"constants",   "packed weights", "inputs",      "outputs",
                                   "setup steps", "run steps",      "inline bytes"};
    for (int i = 0; i < 7; i++) {
      count_[i] = u32(48 + 4 * i);
      if (count_[i] > most[i]) return reader_.fail("count", "at most %u %s, got %u", most[i], counted[i], count_[i]);
    }
    out_.permanent_bytes = aligned(u64(24));
    out_.temporary_bytes = u64(32);
    out_.staging_bytes = u64(40);
    at_ = kHeaderBytes;
    return total();
  }

  // Refused before anything is allocated, and again whenever a size has grown.
  bool total() {
    const uint64_t arenas = sum(sum(out_.permanent_bytes, aligned(out_.temporary_bytes)),
                                sum(aligned(out_.staging_bytes), out_.scratch_bytes));
    const uint64_t bytes = sum(arenas, port_bytes_);
    return bytes <= limit_ || over_memory("the program", bytes);
  }

  bool constants() {
    if (!need(count_[0] * kRecordBytes, "the constant table")) return false;
    constants_.reserve(count_[0]);
    for (uint32_t i = 0; i < count_[0]; i++, at_ += kRecordBytes) {
      const uint32_t source = u32(at_);
      const uint64_t offset = u64(at_ + 8), bytes = u64(at_ + 16);
      if (source > 1 || u32(at_ + 4) != 0)
        return reader_.fail("constant", "constant %u: source %u, pad %u", i, source, u32(at_ + 4));
      const uint64_t most = source == 0 ? model_bytes_ : count_[6];
      if (bytes == 0 || offset > most || bytes > most - offset) {
        return reader_.fail("constant",
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
    reader_.weights.reserve(count_[1]);
    for (uint32_t i = 0; i < count_[1]; i++, at_ += kPackedRecordBytes) {
      const PackedLayout* const layout = packed_layout(u32(at_));
      if (layout == nullptr || u32(at_ + 4) != 0) {
        return reader_.fail("packed-layout", "packed weight %u: layout %u, pad %u", i, u32(at_), u32(at_ + 4));
      }
      StepReader::PackedWeight weight;
      weight.layout = u32(at_);
      for (uint32_t j = 0; j < kPackedWords; j++) weight.words[j] = u32(at_ + 8 + 4 * j);
      uint64_t bytes = 0;
      if (!layout->measure(reader_, weight.words, &weight.source_bytes, &bytes)) return false;
      if (weight.source_bytes > kMaxArenaBytes || bytes > kMaxArenaBytes) {
        return reader_.fail("no-overflow", "packed weight %u: %" PRIu64 " bytes, packed %" PRIu64, i,
                            weight.source_bytes, bytes);
      }
      weight.offset = out_.permanent_bytes;
      out_.permanent_bytes = sum(out_.permanent_bytes, aligned(bytes));
      if (!total()) return false;
      reader_.weights.push_back(weight);
    }
    return true;
  }

  bool ports() {
    if (!need((uint64_t{count_[2]} + count_[3]) * kPortBytes, "the port table")) return false;
    reader_.inputs = count_[2];
    for (uint32_t i = 0; i < count_[2] + count_[3]; i++, at_ += kPortBytes) {
      const bool input = i < count_[2];
      const char* const side = input ? "input" : "output";
      const uint32_t number = input ? i : i - count_[2];
      const uint32_t dtype = u32(at_), pad = u32(at_ + 4);
      const uint64_t bytes = u64(at_ + 8);
      if (dtype >= kDTypes || pad != 0) {
        return reader_.fail("port", "%s %u: dtype %u of %u, pad %u", side, number, dtype, kDTypes, pad);
      }
      if (bytes % kDTypeBytes[dtype] != 0) {
        return reader_.fail("port", "%s %u: %" PRIu64 " bytes are no whole number of elements of %" PRIu64, side,
                            number, bytes, kDTypeBytes[dtype]);
      }
      if (bytes > kMaxArenaBytes) {
        return reader_.fail("arena-size", "%s %u is at most %" PRIu64 " bytes, got %" PRIu64, side, number,
                            kMaxArenaBytes, bytes);
      }
      port_bytes_ = sum(port_bytes_, aligned(bytes));
      if (!total()) return false;
      reader_.add_slot(bytes);
      if (input) reader_.defined.back().add(0, bytes);
      (input ? out_.inputs : out_.outputs).push_back({dtype, 1, bytes});
    }
    return true;
  }

  bool packed_filled() {
    for (size_t i = 0; i < reader_.weights.size(); i++) {
      if (!reader_.weights[i].filled) return reader_.fail("packed-once", "packed weight %zu: no setup step fills it", i);
    }
    return true;
  }

  bool results() {
    for (size_t i = 0; i < out_.outputs.size(); i++) {
      const size_t slot = kSlotPorts + out_.inputs.size() + i;
      const uint64_t end = out_.outputs[i].length;
      const uint64_t missing = reader_.defined[slot].first_missing(0, end);
      if (missing != end) {
        return reader_.fail("defined", "output %zu: its byte %" PRIu64 " is never written", i, missing);
      }
      out_.outputs[i].alignment = reader_.alignment[slot];
    }
    for (size_t i = 0; i < out_.inputs.size(); i++) out_.inputs[i].alignment = reader_.alignment[kSlotPorts + i];
    return true;
  }

  bool inline_section() {
    const uint64_t padded = (uint64_t{count_[6]} + 7) / 8 * 8;
    if (!need(padded, "the inline section")) return false;
    out_.inline_offset = at_;
    for (uint64_t i = count_[6]; i < padded; i++) {
      if (bytes_[at_ + i] != 0) return reader_.fail("exact-length", "the padding after the inline section is not zero");
    }
    at_ += padded;
    return at_ == length_ || reader_.fail("exact-length", "%" PRIu64 " bytes follow the inline section", length_ - at_);
  }

  // ---- steps ----

  bool steps(bool setup) {
    reader_.begin_phase(setup);
    const uint32_t count = count_[setup ? 4 : 5];
    for (uint32_t index = 0; index < count; index++) {
      reader_.begin_step(index, 0);
      if (!need(kStepHeadBytes, "a step")) return false;
      const uint32_t kind = u32(at_), operands = u32(at_ + 4), words = u32(at_ + 8);
      reader_.begin_step(index, kind);
      if (kind != kStepLoad && kind != kStepPack && step_kind(kind) == nullptr) {
        return reader_.fail("step-form", "kind %u", kind);
      }
      if (operands > kMaxOperands || words > kMaxParameters || u32(at_ + 12) != 0) {
        return reader_.fail("step-form", "at most %u operands and %u parameters, got %u and %u, pad %u", kMaxOperands,
                            kMaxParameters, operands, words, u32(at_ + 12));
      }
      at_ += kStepHeadBytes;
      const uint64_t parameter_bytes = (words + 1u) / 2 * 8;
      if (!need(operands * kRecordBytes + parameter_bytes, "a step")) return false;
      uint64_t moved = 0;
      for (uint32_t i = 0; i < operands; i++, at_ += kRecordBytes) {
        reader_.add_operand(u32(at_), u32(at_ + 4), u64(at_ + 8), u64(at_ + 16));
        moved = sum(moved, u64(at_ + 16));
      }
      for (uint32_t i = 0; i < words; i++) reader_.add_word(u32(at_ + 4 * i));
      if (words % 2 == 1 && u32(at_ + 4 * words) != 0) {
        return reader_.fail("step-form", "the word after the parameters is not zero");
      }
      at_ += parameter_bytes;
      if (!step(setup, kind, moved)) return false;
    }
    reader_.end_phase();
    return true;
  }

  bool step(bool setup, uint32_t kind, uint64_t moved) {
    if (kind == kStepLoad) {
      SetupStep load;
      if (!this->load(setup, &load.load) || !affordable(moved)) return false;
      out_.setup.push_back(std::move(load));
      return true;
    }
    std::unique_ptr<Step> step = kind == kStepPack ? pack(setup) : step_kind(kind)->read(reader_);
    if (step == nullptr || !reader_.finish(step.get())) return false;
    step->work = sum(step->work, moved);
    if (!affordable(step->work)) return false;
    step->scratch_bytes = aligned(step->scratch_bytes);
    if (step->scratch_bytes > out_.scratch_bytes) out_.scratch_bytes = step->scratch_bytes;
    if (!total()) return false;
    if (setup) {
      out_.setup.push_back({{}, std::move(step)});
    } else {
      out_.run.push_back(std::move(step));
    }
    return true;
  }

  bool load(bool setup, Load* load) {
    if (!setup) return reader_.fail("step-form", "only setup may load");
    if (!reader_.form(1, 1, 1)) return false;
    const uint32_t which = reader_.word(0);
    if (which >= constants_.size()) return reader_.fail("constant", "constant %u of %zu", which, constants_.size());
    const Constant& constant = constants_[which];
    *load = {{}, constant.from_model, constant.offset, constant.length};
    return reader_.writes(0, constant.length, 1, &load->to) && reader_.finish(nullptr);
  }

  std::unique_ptr<Step> pack(bool setup) {
    if (!setup) return reader_.fail("step-form", "only setup may pack"), nullptr;
    if (!reader_.form(1, 1, 1)) return nullptr;
    const uint32_t which = reader_.word(0);
    if (which >= reader_.weights.size()) {
      return reader_.fail("packed-layout", "packed weight %u of %zu", which, reader_.weights.size()), nullptr;
    }
    StepReader::PackedWeight& weight = reader_.weights[which];
    if (weight.filled) return reader_.fail("packed-once", "packed weight %u is filled twice", which), nullptr;
    const PackedLayout& layout = *packed_layout(weight.layout);
    Ref from;
    if (!reader_.reads(0, weight.source_bytes, layout.element, &from)) return nullptr;
    weight.filled = true;
    return std::make_unique<Pack>(layout, weight.words, from, Ref{kSlotPermanent, weight.offset});
  }

  // What has to be done so far: multiply-adds of products and windows, bytes of everything that is moved.
  bool affordable(uint64_t work) {
    out_.work = sum(out_.work, work);
    return out_.work <= limit_work_ ||
           reader_.fail("bounded-work", "at most %" PRIu64 " operations in all, the program comes to %" PRIu64,
                        limit_work_, out_.work);
  }

  const uint8_t* const bytes_;
  const size_t length_;
  const uint64_t model_bytes_, limit_, limit_work_;
  Program& out_;
  Verdict verdict_;
  StepReader reader_;

  uint64_t at_ = 0;
  uint64_t port_bytes_ = 0;  // inputs and outputs, which the caller holds
  uint32_t count_[7] = {};  // constants, packed, inputs, outputs, setup, run, inline bytes
  std::vector<Constant> constants_;
};

}  // namespace

Verdict verify_program(const uint8_t* bytes, size_t length, const Kernels& row, uint64_t model_bytes,
                       uint64_t limit_bytes, uint64_t limit_work, Program* out) {
  *out = Program();
  return Verifier(bytes, length, row, model_bytes, limit_bytes, limit_work, out).run();
}

}  // namespace cloister
