// The recurrent part of RNN, GRU and LSTM, f32. What the inputs contribute comes as a matrix that a product made before:
// for each time and batch row, gate after gate, `hidden` columns a gate, with all biases but one added (`state_bias`).
#pragma once
#include "../types.h"

namespace cloister {

// H is the state before, X what the inputs contribute, R the weights of the state; f, g and h are `functions`.
enum Cell : uint32_t {
  kRnn,      // H = f(X + R H)
  kGru,      // z, r = f(X + R H), n = g(X + R (r H)), H = (1 - z) n + z H; gates z, r, n
  kGruLate,  // the same with n = g(X + r (R H + state_bias))
  kLstm,     // i, f = f(X + R H + P C), n = g(X + R H), C = f C + i n, o = f(X + R H + P C), H = o h(C); gates i, o, f, n
  kCellCount
};

enum CellFunction : uint32_t {
  kCellSigmoid, kCellTanh, kCellRelu,
  kCellAffine,           // alpha x + beta
  kCellLeakyRelu,        // x < 0 ? alpha x : x
  kCellThresholdedRelu,  // x >= alpha ? x : 0
  kCellScaledTanh,       // alpha tanh(beta x)
  kCellHardSigmoid,      // alpha x + beta, between 0 and 1
  kCellSoftsign,         // x / (1 + |x|)
  kCellFunctionCount
};

struct CellActivation {
  CellFunction function;
  float alpha, beta;
};

// One direction of a sequence.
struct Recurrence {
  Cell cell;
  bool reverse;       // from the last time to the first
  bool input_forget;  // LSTM: the forget gate is 1 - i
  uint32_t sequence, batch, hidden;
  CellActivation functions[3];
  float clip;         // arguments of functions are brought into [-clip, clip]; infinite: they stay
  // Strides in elements. A row of `x` has gates * hidden elements, one of the others `hidden`.
  uint64_t x_time, x_row;
  uint64_t y_time, y_row;
  uint64_t state_row;  // of the initial and the last states
};

struct RecurrentData {
  const float* x;
  const float* r;           // packed
  const float* state_bias;  // `hidden` of them; kGruLate alone
  const float* peepholes;   // i, o, f: 3 * hidden; kLstm alone; or null
  const float* h0;          // null: zeros
  const float* c0;          // the same; kLstm alone
  const int32_t* lengths;   // times of each row, 0 ... sequence; the outputs behind are zero; null: all
  float* y;                 // all states, or null
  float* h;                 // the last state; of no row that is also y's
  float* c;                 // the last cell state; kLstm alone
};

struct RecurrentKernels {
  // R (gates * hidden rows, gate after gate, x hidden columns) as `run` reads it.
  size_t (*packed_elements)(Cell cell, size_t hidden);
  void (*pack)(Cell cell, size_t hidden, const float* r, float* out);
  size_t (*workspace_elements)(const Recurrence& shape);
  // Batch rows [first, last), each for itself: how rows are dealt out changes no bit.
  //
  // A gate's argument is within (hidden + 3) u sum |terms| of the exact one for the state it sees; functions are within
  // 2 ulp, an LSTM's or GRU's combination of them rounds once a term. workspace: 64-byte aligned.
  void (*run)(const Recurrence& shape, const RecurrentData& data, size_t first, size_t last, float* workspace);
};

inline size_t cell_gates(Cell cell) { return cell == kRnn ? 1 : cell == kLstm ? 4 : 3; }

}  // namespace cloister
