// recurrent: x, r, y, h, c, h0, c0, state_bias, peepholes, lengths · cell reverse input_forget batch_first sequence
//            batch hidden (function alpha beta) x3 clip
//
// One direction of an RNN, GRU or LSTM. x is (sequence, batch, gates * hidden): what the inputs contribute, with the
// biases; y (sequence, batch, hidden), all states; with batch_first their first two axes change places. h, c, h0, c0 are
// (batch, hidden). r is packed (layout `recurrent`: cell hidden). Operands that a node has not got have no bytes: y may
// be; c, c0 and peepholes must be but for an LSTM; state_bias is there in a GruLate alone. lengths are i32 (batch): one
// outside 0 ... sequence is a fault.
#include "../executor/kinds.h"

namespace cloister {
namespace {

enum Operand : size_t { kX, kR, kY, kH, kC, kH0, kC0, kStateBias, kPeepholes, kLengths, kOperands };

class RecurrentStep final : public Step {
 public:
  Recurrence shape;
  Ref refs[kOperands];
  bool has[kOperands];

  void run(const Frame& frame, uint32_t task) const override {
    const auto floats = [&](Operand i) { return has[i] ? frame.at<float>(refs[i]) : nullptr; };
    const RecurrentData data{
        floats(kX),  floats(kR),  floats(kStateBias), floats(kPeepholes),
        floats(kH0), floats(kC0), has[kLengths] ? frame.at<int32_t>(refs[kLengths]) : nullptr,
        floats(kY),  floats(kH),  floats(kC),
    };
    const Share share = share_of(shape.batch, task, tasks);
    for (uint64_t i = share.first; data.lengths != nullptr && i < share.last; i++) {
      if (data.lengths[i] < 0 || static_cast<uint32_t>(data.lengths[i]) > shape.sequence) frame.fault();
    }
    frame.row.recurrent.run(shape, data, share.first, share.last, frame.scratch<float>());
  }
};

bool cell_words(StepReader& reader, uint32_t cell, uint32_t hidden) {
  return reader.choice(cell, kCellCount, "cell") && reader.dim(hidden, "hidden");
}

bool measure(StepReader& reader, const uint32_t* words, uint64_t* source_bytes, uint64_t* packed_bytes) {
  if (!cell_words(reader, words[0], words[1])) return false;
  for (uint32_t i = 2; i < kPackedWords; i++) {
    if (words[i] != 0) return reader.fail("packed-layout", "word %u must be zero, got %u", i, words[i]);
  }
  const Cell cell = static_cast<Cell>(words[0]);
  *source_bytes = product({cell_gates(cell), words[1], words[1], 4});
  *packed_bytes = product({reader.row().recurrent.packed_elements(cell, words[1]), 4});
  return true;
}

bool pack(const Kernels& row, const uint32_t* words, const uint8_t* source, uint8_t* packed) {
  row.recurrent.pack(static_cast<Cell>(words[0]), words[1], reinterpret_cast<const float*>(source),
                     reinterpret_cast<float*>(packed));
  return true;
}

}  // namespace

extern const PackedLayout kRecurrentLayout = {"recurrent", 4, measure, pack};

std::unique_ptr<Step> read_recurrent(StepReader& r) {
  auto step = std::make_unique<RecurrentStep>();
  Recurrence& s = step->shape;
  if (!r.form(kOperands, kOperands, 17) || !cell_words(r, r.word(0), r.word(6)) || !r.flag(r.word(1), "reverse") ||
      !r.flag(r.word(2), "input_forget") || !r.flag(r.word(3), "batch_first") || !r.dim(r.word(4), "sequence") ||
      !r.dim(r.word(5), "batch")) {
    return nullptr;
  }
  s.cell = static_cast<Cell>(r.word(0));
  s.reverse = r.word(1) == 1;
  s.input_forget = r.word(2) == 1;
  s.sequence = r.word(4);
  s.batch = r.word(5);
  s.hidden = r.word(6);
  for (size_t i = 0; i < 3; i++) {
    if (!r.choice(r.word(7 + 3 * i), kCellFunctionCount, "function")) return nullptr;
    s.functions[i] = {static_cast<CellFunction>(r.word(7 + 3 * i)), r.real(8 + 3 * i), r.real(9 + 3 * i)};
  }
  s.clip = r.real(16);
  if (!(s.clip > 0)) return r.fail("enum", "clip: expected more than 0"), nullptr;

  const bool batch_first = r.word(3) == 1, lstm = s.cell == kLstm;
  const uint64_t hidden = s.hidden, gates = product({cell_gates(s.cell), hidden});
  s.x_time = batch_first ? gates : product({s.batch, gates});
  s.x_row = batch_first ? product({s.sequence, gates}) : gates;
  s.y_time = batch_first ? hidden : product({s.batch, hidden});
  s.y_row = batch_first ? product({s.sequence, hidden}) : hidden;
  s.state_row = hidden;

  const uint64_t state = product({s.batch, hidden, 4});
  const uint64_t bytes[kOperands] = {
      product({s.sequence, s.batch, gates, 4}), 0, product({s.sequence, s.batch, hidden, 4}), state, lstm ? state : 0,
      state, lstm ? state : 0, s.cell == kGruLate ? product({hidden, 4}) : 0, lstm ? product({hidden, 12}) : 0,
      product({s.batch, 4}),
  };
  const uint32_t layout[kPackedWords] = {r.word(0), r.word(6)};
  if (!r.packed(kR, kLayoutRecurrent, layout, &step->refs[kR])) return nullptr;
  for (size_t i = 0; i < kOperands; i++) {
    const bool must = i == kX || i == kH || i == kC || i == kStateBias, writes = i == kY || i == kH || i == kC;
    step->has[i] = i == kR || r.length(i) > 0;
    if (i == kR) continue;
    const uint64_t expected = must || step->has[i] ? bytes[i] : 0;
    if (writes ? !r.writes(i, expected, 4, &step->refs[i]) : !r.reads(i, expected, 4, &step->refs[i])) return nullptr;
  }
  step->scratch_bytes = product({r.row().recurrent.workspace_elements(s), 4});
  // A gate's functions cost about as much as sixteen multiply-adds.
  step->work = product({s.sequence, s.batch, gates, sum(hidden, 16)});
  step->tasks = tasks_for(step->work, s.batch);
  return step;
}

}  // namespace cloister
