#include "step_reader.h"

#include <cinttypes>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "kinds.h"
#include "program.h"

namespace cloister {
namespace {

constexpr uint64_t kTooMuch = UINT64_MAX;
constexpr uint64_t kMaxVolume = uint64_t{1} << 44;  // elements; far above any model, far below overflow in a kernel

const char* const kSpaceNames[] = {"?", "temporary", "permanent", "staging", "packed", "input", "output"};

const char* space_name(uint32_t space) { return space < kSpaceEnd ? kSpaceNames[space] : "an unknown space"; }

}  // namespace

uint64_t product(std::initializer_list<uint64_t> factors) {
  uint64_t result = 1;
  for (const uint64_t factor : factors) {
    if (factor != 0 && result > kTooMuch / factor) return kTooMuch;
    result *= factor;
  }
  return result;
}

uint64_t sum(uint64_t a, uint64_t b) { return a > kTooMuch - b ? kTooMuch : a + b; }

uint64_t padded_elements(const Window& w) {
  return product({w.in_c, w.in_h + 2 * (uint64_t{w.kernel_h} - 1) * w.dilation_h,
                  w.in_w + 2 * (uint64_t{w.kernel_w} - 1) * w.dilation_w});
}

uint64_t weight_bytes(const Window& w) { return product({w.out_c, w.in_c / w.groups, w.kernel_h, w.kernel_w, 4}); }

// ---- the step at hand ----

void StepReader::begin_step(uint32_t index, uint32_t kind) {
  index_ = index;
  kind_ = kind;
  operands_.clear();
  words_.clear();
  allowed_.clear();
  accesses_.clear();
  access_operand_.clear();
}

void StepReader::add_slot(uint64_t bytes) {
  slot_bytes.push_back(bytes);
  defined.emplace_back();
  alignment.push_back(1);
}

void StepReader::add_operand(uint32_t space, uint32_t index, uint64_t offset, uint64_t length) {
  operands_.push_back({space, index, offset, length});
}

float StepReader::real(size_t i) const {
  const uint32_t bits = word(i);
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

bool StepReader::is_packed(size_t i) const { return i < operands_.size() && operands_[i].space == kPacked; }

bool StepReader::fail(const char* invariant, const char* format, ...) {
  char text[320];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  reason_ = where() + text + " [" + invariant + "]";
  return false;
}

std::string StepReader::where() const {
  if (phase_ == nullptr) return "";
  char text[64];
  std::snprintf(text, sizeof text, "%s step %u (%s): ", phase_, index_, step_kind_name(kind_));
  return text;
}

bool StepReader::form(size_t least_operands, size_t most_operands, size_t words) {
  if (operands_.size() < least_operands || operands_.size() > most_operands || words_.size() != words) {
    return fail("step-form", "expected %zu to %zu operands and %zu parameters, got %zu and %zu", least_operands,
                most_operands, words, operands_.size(), words_.size());
  }
  return true;
}

// ---- operands ----

// An operand of exactly `bytes`, inside its arena, aligned to its elements, in a space that this phase may use.
bool StepReader::place(size_t i, uint64_t bytes, uint32_t element, bool write, uint32_t* slot) {
  if (i >= operands_.size()) return fail("step-form", "there is no operand %zu", i);
  const Operand& operand = operands_[i];
  const bool port = operand.space == kInput || operand.space == kOutput;
  const bool allowed = setup_ ? operand.space == kStaging || operand.space == kPermanent
                              : operand.space == kTemporary || operand.space == kOutput ||
                                    (!write && (operand.space == kPermanent || operand.space == kInput));
  if (!allowed) {
    return fail("space", "operand %zu: may not %s %s", i, write ? "write" : "read", space_name(operand.space));
  }
  const size_t outputs = slot_bytes.size() - kSlotPorts - inputs;
  if (port ? operand.index >= (operand.space == kInput ? inputs : outputs) : operand.index != 0) {
    return fail(port ? "port" : "step-form", "operand %zu: index %u on %s", i, operand.index,
                space_name(operand.space));
  }
  switch (operand.space) {
    case kTemporary: *slot = kSlotTemporary; break;
    case kPermanent: *slot = kSlotPermanent; break;
    case kStaging: *slot = kSlotStaging; break;
    case kInput: *slot = kSlotPorts + operand.index; break;
    default: *slot = kSlotPorts + inputs + operand.index;
  }
  const uint64_t arena = slot_bytes[*slot];
  if (operand.offset > arena || operand.length > arena - operand.offset) {
    return fail("operand-in-arena", "operand %zu: %" PRIu64 " bytes at %" PRIu64 " of the %" PRIu64 " of the %s arena",
                i, operand.length, operand.offset, arena, space_name(operand.space));
  }
  if (operand.length != bytes) {
    return fail("operand-size", "operand %zu: expected %" PRIu64 " bytes, got %" PRIu64, i, bytes, operand.length);
  }
  if (operand.offset % element != 0) {
    return fail("alignment", "operand %zu: offset %" PRIu64 " is not a multiple of %u", i, operand.offset, element);
  }
  if (alignment[*slot] < element) alignment[*slot] = element;
  return true;
}

bool StepReader::reads(size_t i, uint64_t bytes, uint32_t element, Ref* ref) {
  uint32_t slot = 0;
  if (!place(i, bytes, element, false, &slot)) return false;
  const uint64_t from = operands_[i].offset, end = from + bytes;
  const uint64_t missing = defined[slot].first_missing(from, end);
  if (missing != end) {
    return fail("defined", "operand %zu: byte %" PRIu64 " of the %s arena is read before it is written", i, missing,
                space_name(operands_[i].space));
  }
  *ref = {slot, from};
  accesses_.push_back({slot, from, end, false});
  access_operand_.push_back(i);
  return true;
}

bool StepReader::writes(size_t i, uint64_t bytes, uint32_t element, Ref* ref) {
  uint32_t slot = 0;
  if (!place(i, bytes, element, true, &slot)) return false;
  *ref = {slot, operands_[i].offset};
  accesses_.push_back({slot, ref->offset, ref->offset + bytes, true});
  access_operand_.push_back(i);
  return true;
}

bool StepReader::packed(size_t i, uint32_t layout, const uint32_t* words, Ref* ref) {
  const Operand& operand = operands_[i];
  if (operand.space != kPacked || operand.index >= weights.size() || operand.offset != 0 || operand.length != 0) {
    return fail("packed-layout", "operand %zu: packed weight %u of %zu, offset and length zero", i, operand.index,
                weights.size());
  }
  const PackedWeight& weight = weights[operand.index];
  if (weight.layout != layout) {
    return fail("packed-layout", "operand %zu: packed weight %u is of another layout", i, operand.index);
  }
  for (uint32_t j = 0; j < kPackedWords; j++) {
    if (weight.words[j] != words[j]) {
      return fail("packed-layout", "operand %zu: packed weight %u was packed with %u, not %u, at word %u", i,
                  operand.index, weight.words[j], words[j], j);
    }
  }
  if (!weight.filled) return fail("defined", "operand %zu: packed weight %u is not filled yet", i, operand.index);
  *ref = {kSlotPermanent, weight.offset};
  return true;
}

bool StepReader::may_overlap(size_t read, size_t written) const {
  const Operand &x = operands_[read], &y = operands_[written];
  if (x.offset != y.offset || x.length != y.length) return false;
  for (const Pair& pair : allowed_) {
    if (pair.read == read && pair.written == written) return true;
  }
  return false;
}

bool StepReader::finish(Step* step) {
  for (size_t w = 0; w < accesses_.size(); w++) {
    if (!accesses_[w].write) continue;
    for (size_t r = 0; r < accesses_.size(); r++) {
      const Access &written = accesses_[w], &other = accesses_[r];
      if (r == w || other.slot != written.slot || other.from >= written.to || written.from >= other.to) continue;
      if (!other.write && may_overlap(access_operand_[r], access_operand_[w])) continue;
      return fail("aliasing", "operand %zu, which is written, overlaps operand %zu", access_operand_[w],
                  access_operand_[r]);
    }
  }
  for (const Access& access : accesses_) {
    if (access.write) defined[access.slot].add(access.from, access.to);
  }
  if (step != nullptr) {
    step->kind = kind_;
    step->accesses = accesses_;
  }
  return true;
}

// ---- parameters ----

bool StepReader::dim(uint32_t value, const char* what) {
  return (value >= 1 && value <= kMaxDim) || fail("dimension", "%s: expected 1 to %u, got %u", what, kMaxDim, value);
}

bool StepReader::flag(uint32_t value, const char* what) {
  return value <= 1 || fail("enum", "%s: expected 0 or 1, got %u", what, value);
}

bool StepReader::choice(uint32_t value, uint32_t count, const char* what) {
  return value < count || fail("enum", "%s: expected 0 to %u, got %u", what, count - 1, value);
}

bool StepReader::rank(uint32_t value) {
  return (value >= 1 && value <= kMaxRank) || fail("dimension", "rank: expected 1 to %zu, got %u", kMaxRank, value);
}

bool StepReader::ordered(float lo, float hi) {
  if (std::isnan(lo) || std::isnan(hi) || lo > hi) {
    return fail("enum", "clip: expected lo <= hi, got %g and %g", static_cast<double>(lo), static_cast<double>(hi));
  }
  return true;
}

bool StepReader::epilogue(size_t first, Epilogue* out) {
  if (!choice(word(first), kActCount, "activation")) return false;
  *out = {nullptr, static_cast<Activation>(word(first)), real(first + 1), real(first + 2)};
  return out->activation != kActClip || ordered(out->lo, out->hi);
}

namespace {

// One axis of a window: every position overlaps the input before dilation, so no kernel meets a window that lies
// outside.
bool window_axis(StepReader& reader, const char* name, uint64_t in, uint64_t out, uint64_t kernel, uint64_t stride,
                 uint64_t dilation, uint64_t pad) {
  const uint64_t extent = (kernel - 1) * dilation + 1;
  if (extent > kMaxDim) return reader.fail("window", "%s: a dilated kernel of %" PRIu64, name, extent);
  if (pad >= extent) {
    return reader.fail("window", "%s: padding %" PRIu64 " must be below the dilated kernel, %" PRIu64, name, pad,
                       extent);
  }
  if ((out - 1) * stride >= in + pad) {
    return reader.fail("window",
                       "%s: window %" PRIu64 " at stride %" PRIu64 " starts after the input of %" PRIu64
                       " with padding %" PRIu64,
                       name, out - 1, stride, in, pad);
  }
  return true;
}

}  // namespace

bool StepReader::window(const uint32_t* words, bool pooling, Window* w) {
  static_assert(sizeof(Window) == kPackedWords * 4, "a window is 16 words");
  std::memcpy(w, words, sizeof *w);
  for (uint32_t i = 0; i < kPackedWords; i++) {
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
  if (!window_axis(*this, "height", w->in_h, w->out_h, w->kernel_h, w->stride_h, w->dilation_h, w->pad_top) ||
      !window_axis(*this, "width", w->in_w, w->out_w, w->kernel_w, w->stride_w, w->dilation_w, w->pad_left)) {
    return false;
  }
  // What kernels compute sizes from: unrolled patches, and the input with its padding on both sides.
  const uint64_t patches = product({w->in_c / w->groups, w->kernel_h, w->kernel_w, w->out_h, w->out_w});
  if (patches > kMaxVolume || padded_elements(*w) > kMaxVolume || weight_bytes(*w) > kMaxArenaBytes) {
    return fail("no-overflow", "the window's volume is over %" PRIu64 " elements", kMaxVolume);
  }
  return true;
}

}  // namespace cloister
