// Reads one step of a program as if a hostile guest had written it: the operands and parameters, each checked as it is
// asked for. What every accepted step keeps is in INVARIANTS.md; the names in brackets there are those of `fail`.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "interval_set.h"
#include "step.h"

namespace cloister {

// A product that stays at 2^64-1 once it has overflowed: no length that was checked against an arena equals it.
uint64_t product(std::initializer_list<uint64_t> factors);
// The same for a sum.
uint64_t sum(uint64_t a, uint64_t b);

constexpr uint32_t kPackedWords = 16;

class StepReader {
 public:
  // ---- for readers of steps (steps/*.cc) ----
  //
  // Those that return bool are false when the step is refused; the reason is then noted, and the reader of the step
  // returns null at once.

  const Kernels& row() const { return *row_; }
  bool in_setup() const { return setup_; }

  // Exactly so many operands and parameter words.
  bool form(size_t least_operands, size_t most_operands, size_t words);
  size_t operands() const { return operands_.size(); }
  size_t words() const { return words_.size(); }
  // Parameter i; 0 when there is none, so that it may be read before `form`.
  uint32_t word(size_t i) const { return i < words_.size() ? words_[i] : 0; }
  float real(size_t i) const;
  // From word i on. There must be as many as the caller takes.
  const uint32_t* words_from(size_t i) const { return words_.data() + i; }
  // Bytes that operand i says it has.
  uint64_t length(size_t i) const { return operands_[i].length; }
  bool is_packed(size_t i) const;

  // Operand i is read: exactly `bytes`, inside its arena, defined, at a multiple of `element`, in a space that may be
  // read now.
  bool reads(size_t i, uint64_t bytes, uint32_t element, Ref* ref);
  // Operand i is written whole: likewise. It must overlap nothing that is read, but for what `in_place` allows.
  bool writes(size_t i, uint64_t bytes, uint32_t element, Ref* ref);
  // Allows that the written operand lies exactly where the read one does.
  void in_place(size_t read, size_t written) { allowed_.push_back({read, written}); }
  // Operand i is a packed weight of this layout and these words, all 16 of them.
  bool packed(size_t i, uint32_t layout, const uint32_t* words, Ref* ref);

  // A size: 1 to 2^30.
  bool dim(uint32_t value, const char* what);
  bool flag(uint32_t value, const char* what);
  // An enum below `count`.
  bool choice(uint32_t value, uint32_t count, const char* what);
  bool rank(uint32_t value);
  // Bounds of a clip: ordered, no NaN.
  bool ordered(float lo, float hi);
  // Three words, activation, lo and hi. The bias is for the caller to set.
  bool epilogue(size_t first, Epilogue* out);
  // 16 words.
  bool window(const uint32_t* words, bool pooling, Window* out);

  // Refuses for the reason `format`, by the invariant of that name. Always false.
#if defined(__GNUC__)
  __attribute__((format(printf, 3, 4)))
#endif
  bool
  fail(const char* invariant, const char* format, ...);

  // ---- for the verifier (program.cc) ----

  struct PackedWeight {
    uint32_t layout = 0;
    uint32_t words[kPackedWords] = {};
    uint64_t source_bytes = 0;
    uint64_t offset = 0;  // in the permanent arena
    bool filled = false;
  };

  void begin(const Kernels& row) { row_ = &row; }
  void add_slot(uint64_t bytes);
  void begin_phase(bool setup) { setup_ = setup, phase_ = setup ? "setup" : "run"; }
  void end_phase() { phase_ = nullptr; }
  void begin_step(uint32_t index, uint32_t kind);
  // Adds what is next read as an operand (a parameter).
  void add_operand(uint32_t space, uint32_t index, uint64_t offset, uint64_t length);
  void add_word(uint32_t word) { words_.push_back(word); }
  // Once the step was read: what it writes overlaps nothing, and is defined from now on. `step`, unless null, learns
  // what it touches.
  bool finish(Step* step);

  std::string where() const;
  const std::string& reason() const { return reason_; }
  bool good() const { return reason_.empty(); }

  std::vector<PackedWeight> weights;
  uint32_t inputs = 0;               // how many slots are inputs
  std::vector<uint64_t> slot_bytes;  // by slot
  std::vector<IntervalSet> defined;  // by slot: bytes written so far
  std::vector<uint32_t> alignment;   // by slot: the largest element that it was taken for

 private:
  struct Operand {
    uint32_t space, index;
    uint64_t offset, length;
  };
  struct Pair {
    size_t read, written;
  };

  bool place(size_t i, uint64_t bytes, uint32_t element, bool write, uint32_t* slot);
  bool may_overlap(size_t read, size_t written) const;

  const Kernels* row_ = nullptr;
  bool setup_ = false;
  const char* phase_ = nullptr;
  uint32_t index_ = 0, kind_ = 0;
  std::vector<Operand> operands_;
  std::vector<uint32_t> words_;
  std::vector<Pair> allowed_;
  std::vector<Access> accesses_;
  std::vector<size_t> access_operand_;  // beside `accesses_`
  std::string reason_;
};

// What kernels compute sizes from: an image with as much padding on both sides as a window may have, in elements.
uint64_t padded_elements(const Window& w);
// Bytes of a window's f32 weights.
uint64_t weight_bytes(const Window& w);

}  // namespace cloister
