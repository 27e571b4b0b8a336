// chain: y, x... · operands instructions rank dims[rank] operand[operands] instruction[instructions][4]
//
// A chain of functions of elements, for all elements of y, in blocks that stay in the first cache.
//
// dims are those of y. An operand is dtype | mask << 8: it is dense and has the dims whose bits are set in the mask (bit
// i: dim i), and is repeated along the others. Operands are values 0 and on, the result of instruction i is value
// operands + i, and the last one is y. An instruction is four words: class | op << 8 | type << 16, then a | b << 8 |
// c << 16 (the values it takes; those it does not take are 0), then the two parameters of a unary function.
//
//   class      takes    op                type                 gives
//   0 unary    a        UnaryOp           0                    f32 of f32
//   1 binary   a b      BinaryOp          0                    f32 of f32
//   2 choose   a b c    0                 0                    f32 of f32: a is not 0 ? b : c
//   3 convert  a        the dtype         0                    any of any
//   4 integer  a b      IntegerOp         0                    i8, u8, bool, i32 or i64 of two of the same; bool of a
//                                                              comparison
//
// y may lie exactly over an operand that has all its dims and elements as large.
#include <cstring>

#include "../executor/kinds.h"

namespace cloister {
namespace {

constexpr uint32_t kMaxChainOperands = 16, kMaxInstructions = 64, kMaxValues = kMaxChainOperands + kMaxInstructions;
constexpr size_t kChunk = 512;              // elements of a block
constexpr uint64_t kSlotBytes = kChunk * 8;
constexpr uint32_t kNoSlot = UINT32_MAX;
constexpr uint32_t kElementBytes[kDTypeCount] = {4, 8, 2, 2, 1, 1, 2, 2, 4, 4, 8, 8, 1};

enum InstructionClass : uint32_t { kUnary, kBinary, kChoose, kConvert, kInteger, kInstructionClassCount };

struct Instruction {
  InstructionClass what;
  uint32_t op;
  uint32_t takes[3], taken;
  float p0, p1;
};

struct Value {
  DType type;
  bool whole;     // one element for each of y; else one for all, or, for an operand, some dims
  bool single;    // one element for all
  uint32_t slot;  // where it is kept within a block; kNoSlot: read in place
};

class Chain final : public Step {
 public:
  uint32_t operands, count, rank;
  uint64_t elements = 1, inner;
  uint32_t dims[kMaxRank];
  uint64_t strides[kMaxChainOperands][kMaxRank];  // of operands, in elements
  bool rows_alike[kMaxChainOperands] = {};        // repeats along all dims but the last
  bool spreads = false;                           // some operand has neither all dims nor none
  Value values[kMaxValues];
  Instruction instructions[kMaxInstructions];
  Ref x[kMaxChainOperands], y;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(elements, task, tasks);
    const Value& result = values[operands + count - 1];
    const uint32_t bytes = kElementBytes[result.type];
    const bool past = streams(y, elements * bytes) && bytes == 4;
    const void* at[kMaxValues];
    uint64_t filled[kMaxChainOperands] = {};  // elements that stand in the slot of an operand whose rows are alike
    for (uint64_t pos = share.first; pos < share.last;) {
      const uint64_t left = share.last - pos, into_row = spreads ? pos % inner : 0;
      uint64_t n = left < kChunk ? left : kChunk;
      const bool long_rows = spreads && inner >= kChunk / 2;
      if (spreads) {
        // To the end of a row, or of as many whole rows as a block holds.
        const uint64_t most = into_row != 0 || long_rows ? inner - into_row : kChunk / inner * inner;
        if (n > most) n = most;
      }
      uint32_t step[kMaxValues];
      for (uint32_t i = 0; i < operands; i++) {
        const Value& value = values[i];
        const uint8_t* const from = frame.at<uint8_t>(x[i]);
        const uint32_t size = kElementBytes[value.type];
        step[i] = value.single ? 0 : 1;
        if (value.single || value.whole) {
          at[i] = from + (value.whole ? pos * size : 0);
        } else if (long_rows && strides[i][rank - 1] <= 1) {
          step[i] = static_cast<uint32_t>(strides[i][rank - 1]);
          at[i] = from + (row_start(i, pos / inner) + into_row * step[i]) * size;
        } else {
          uint8_t* const slot = frame.scratch<uint8_t>(value.slot * kSlotBytes);
          at[i] = slot;
          if (!(rows_alike[i] && into_row == 0 && n <= filled[i])) fill(i, pos, n, from, slot);
          filled[i] = into_row == 0 ? n : 0;
        }
      }
      for (uint32_t i = 0; i < count; i++) {
        const uint32_t v = operands + i;
        const bool last = i + 1 == count;
        void* to = frame.scratch<uint8_t>(values[v].slot * kSlotBytes);
        if (last && !past) to = frame.at<uint8_t>(y) + pos * bytes;
        at[v] = to;
        step[v] = values[v].single ? 0 : 1;
        execute(frame.row, instructions[i], values[v].single ? 1 : n, at, step, to);
      }
      if (past) {
        frame.row.elementwise.stream(n, static_cast<const float*>(at[operands + count - 1]),
                                     frame.at<float>(y) + pos);
      }
      pos += n;
    }
  }

 private:
  // Where the row of operand i stands that row `row` of y takes.
  uint64_t row_start(uint32_t i, uint64_t row) const {
    uint64_t start = 0;
    for (uint32_t d = rank - 1; d-- > 0; row /= dims[d]) start += row % dims[d] * strides[i][d];
    return start;
  }

  // The elements of operand i for places [pos, pos + n) of y.
  void fill(uint32_t i, uint64_t pos, uint64_t n, const uint8_t* from, uint8_t* to) const {
    switch (kElementBytes[values[i].type]) {
      case 1: return fill_rows<uint8_t>(i, pos, n, from, to);
      case 2: return fill_rows<uint16_t>(i, pos, n, from, to);
      case 4: return fill_rows<uint32_t>(i, pos, n, from, to);
      default: return fill_rows<uint64_t>(i, pos, n, from, to);
    }
  }

  template <typename T>
  void fill_rows(uint32_t i, uint64_t pos, uint64_t n, const uint8_t* bytes, uint8_t* out) const {
    const T* const from = reinterpret_cast<const T*>(bytes);
    T* to = reinterpret_cast<T*>(out);
    const uint64_t along = strides[i][rank - 1];
    uint64_t row = pos / inner, column = pos % inner;
    while (n > 0) {
      const uint64_t width = n < inner - column ? n : inner - column;
      const T* const source = from + row_start(i, row) + column * along;
      for (uint64_t j = 0; j < width; j++) to[j] = source[j * along];
      to += width;
      n -= width;
      column = 0;
      row++;
    }
  }

  void execute(const Kernels& row, const Instruction& in, size_t n, const void* const* at, const uint32_t* step,
               void* to) const {
    const uint32_t a = in.takes[0], b = in.takes[1], c = in.takes[2];
    const auto floats = [at](uint32_t v) { return static_cast<const float*>(at[v]); };
    float* const y = static_cast<float*>(to);
    switch (in.what) {
      case kUnary: return row.elementwise.unary(static_cast<UnaryOp>(in.op), n, floats(a), y, in.p0, in.p1);
      case kBinary:
        return row.elementwise.combine(static_cast<BinaryOp>(in.op), n, floats(a), step[a], floats(b), step[b], y);
      case kChoose: return row.elementwise.choose(n, floats(a), step[a], floats(b), step[b], floats(c), step[c], y);
      case kConvert: return row.conversion.convert(values[a].type, static_cast<DType>(in.op), n, at[a], to);
      case kInteger:
        return row.integer.combine(static_cast<IntegerOp>(in.op), integer_type(values[a].type), n, at[a], step[a],
                                   at[b], step[b], to);
      case kInstructionClassCount: return;
    }
  }

 public:
  static IntegerType integer_type(DType type) {
    return type == kI8 ? kInt8 : type == kU8 || type == kBool ? kUint8 : type == kI32 ? kInt32
         : type == kI64 ? kInt64 : kIntegerTypeCount;
  }
};

bool read_operand(StepReader& r, Chain& step, uint32_t i, uint32_t word) {
  const uint32_t type = word & 0xff, mask = word >> 8;
  if (!r.choice(type, kDTypeCount, "dtype") || !r.choice(mask, 1u << step.rank, "mask of dims")) return false;
  Value& value = step.values[i];
  value = {static_cast<DType>(type), true, true, kNoSlot};
  uint64_t size = 1;
  for (uint32_t d = step.rank; d-- > 0;) {
    const bool has = mask >> d & 1;
    step.strides[i][d] = has ? size : 0;
    if (has) size = product({size, step.dims[d]});
    if (step.dims[d] > 1) (has ? value.single : value.whole) = false;
  }
  if (value.whole) value.single = false;
  step.rows_alike[i] = size == step.inner && step.strides[i][step.rank - 1] == 1;
  if (!value.whole && !value.single) step.spreads = true;
  const uint32_t bytes = kElementBytes[type];
  if (value.whole) r.in_place(i + 1, 0);
  return r.reads(i + 1, product({size, bytes}), bytes, &step.x[i]);
}

bool read_instruction(StepReader& r, Chain& step, uint32_t i, const uint32_t* words) {
  Instruction& in = step.instructions[i];
  const uint32_t what = words[0] & 0xff, op = words[0] >> 8, values = step.operands + i;
  if (!r.choice(what, kInstructionClassCount, "class of instruction")) return false;
  const uint32_t ops[] = {kUnaryOpCount, kBinaryOpCount, 1, kDTypeCount, kIntegerOpCount};
  const uint32_t takes[] = {1, 2, 3, 1, 2};
  in.what = static_cast<InstructionClass>(what);
  in.op = op;
  in.taken = takes[what];
  std::memcpy(&in.p0, &words[2], 4);
  std::memcpy(&in.p1, &words[3], 4);
  if (!r.choice(op, ops[what], "operation")) return false;
  if (what == kUnary && op == kClip && !r.ordered(in.p0, in.p1)) return false;
  Value& result = step.values[values];
  result = {kF32, true, true, kNoSlot};
  for (uint32_t t = 0; t < 3; t++) {
    in.takes[t] = words[1] >> 8 * t & 0xff;
    if (t >= in.taken ? in.takes[t] != 0 : in.takes[t] >= values) {
      return r.fail("enum", "instruction %u takes value %u", i, in.takes[t]);
    }
    if (t >= in.taken) continue;
    const Value& value = step.values[in.takes[t]];
    if (!value.single) result.single = false;
    if (what != kConvert && what != kInteger && value.type != kF32) {
      return r.fail("enum", "instruction %u takes f32, value %u is not", i, in.takes[t]);
    }
  }
  result.whole = !result.single;
  if (words[1] >> 24 != 0 || (what != kUnary && (words[2] != 0 || words[3] != 0))) {
    return r.fail("step-form", "instruction %u: unused words must be zero", i);
  }
  if (what == kConvert) result.type = static_cast<DType>(op);
  if (what == kInteger) {
    const DType a = step.values[in.takes[0]].type, b = step.values[in.takes[1]].type;
    if (a != b || Chain::integer_type(a) == kIntegerTypeCount) {
      return r.fail("enum", "instruction %u takes two integers of one type", i);
    }
    result.type = op >= kIntLess ? kBool : a;
  }
  return true;
}

// Gives each value a slot from the instruction that makes it (operands: from the first) to the last that takes it.
uint32_t place_values(Chain& step) {
  const uint32_t all = step.operands + step.count;
  uint32_t last[kMaxValues] = {}, slots = 0;
  for (uint32_t i = 0; i < step.count; i++) {
    for (uint32_t t = 0; t < step.instructions[i].taken; t++) last[step.instructions[i].takes[t]] = step.operands + i;
  }
  bool taken[kMaxValues] = {};
  const auto place = [&](uint32_t v) {
    uint32_t slot = 0;
    while (taken[slot]) slot++;
    taken[slot] = true;
    step.values[v].slot = slot;
    if (slot + 1 > slots) slots = slot + 1;
  };
  // Those of operands stay: what stands in them may serve the next block.
  for (uint32_t v = 0; v < step.operands; v++) {
    if (!step.values[v].whole && !step.values[v].single) place(v);
  }
  for (uint32_t v = step.operands; v < all; v++) {
    place(v);
    // A conversion must not lie over what it takes, so values are given free only after.
    for (uint32_t w = step.operands; w < v; w++) {
      if (last[w] == v) taken[step.values[w].slot] = false;
    }
    if (last[v] == 0 && v + 1 < all) taken[step.values[v].slot] = false;
  }
  return slots;
}

}  // namespace

std::unique_ptr<Step> read_chain(StepReader& r) {
  auto step = std::make_unique<Chain>();
  const uint32_t operands = r.word(0), count = r.word(1), rank = r.word(2);
  if (r.words() < 3 && !r.form(2, kMaxChainOperands + 1, 3)) return nullptr;
  if (operands < 1 || operands > kMaxChainOperands || count < 1 || count > kMaxInstructions) {
    return r.fail("count", "1 to %u operands and 1 to %u instructions, got %u and %u", kMaxChainOperands,
                  kMaxInstructions, operands, count),
           nullptr;
  }
  if (!r.rank(rank) || !r.form(operands + 1, operands + 1, 3 + rank + operands + 4 * count)) return nullptr;
  step->operands = operands;
  step->count = count;
  step->rank = rank;
  for (uint32_t d = 0; d < rank; d++) {
    step->dims[d] = r.word(3 + d);
    if (!r.dim(step->dims[d], "dimension")) return nullptr;
    step->elements = product({step->elements, step->dims[d]});
  }
  step->inner = step->dims[rank - 1];
  for (uint32_t i = 0; i < operands; i++) {
    if (!read_operand(r, *step, i, r.word(3 + rank + i))) return nullptr;
  }
  for (uint32_t i = 0; i < count; i++) {
    if (!read_instruction(r, *step, i, r.words_from(3 + rank + operands + 4 * i))) return nullptr;
  }
  const Value& result = step->values[operands + count - 1];
  if (result.single && step->elements > 1) {
    return r.fail("operand-size", "the result is one element, y has more"), nullptr;
  }
  const uint32_t bytes = kElementBytes[result.type];
  if (!r.writes(0, product({step->elements, bytes}), bytes, &step->y)) return nullptr;
  step->scratch_bytes = place_values(*step) * kSlotBytes;
  step->work = product({step->elements, count, 4});
  step->tasks = tasks_for(step->work, step->elements / kChunk + 1);
  return step;
}

}  // namespace cloister
