// Recurrent cells. The weights of the state lie in blocks of kLanes hidden units, all gates of a unit in one lane: a
// block's sums go from registers through the gates' functions into the state, and no matrix of gates is ever stored.
#include "../math.h"
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

constexpr size_t kTileRows = kRegisters == 32 ? 6 : 3;
constexpr size_t kMaxGates = 4;

inline size_t padded(size_t hidden) { return divide_up(hidden, kLanes) * kLanes; }

// How many gates one pass over the state sums: GRU needs r before it can sum for n.
inline size_t first_gates(Cell cell) { return cell == kGru ? 2 : cell_gates(cell); }

size_t recurrent_packed(Cell cell, size_t hidden) { return cell_gates(cell) * hidden * padded(hidden); }

// [block][k][gate][lane] of `gates` gates; lanes beyond the last unit are zero.
float* pack_gates(size_t gates, size_t hidden, const float* r, float* out) {
  for (size_t unit = 0; unit < hidden; unit += kLanes) {
    for (size_t k = 0; k < hidden; k++) {
      for (size_t gate = 0; gate < gates; gate++) {
        for (size_t i = 0; i < kLanes; i++) *out++ = unit + i < hidden ? r[(gate * hidden + unit + i) * hidden + k] : 0;
      }
    }
  }
  return out;
}

void recurrent_pack(Cell cell, size_t hidden, const float* r, float* out) {
  const size_t first = first_gates(cell);
  out = pack_gates(first, hidden, r, out);
  if (first < cell_gates(cell)) pack_gates(cell_gates(cell) - first, hidden, r + first * hidden * hidden, out);
}

struct Function {
  CellActivation activation;
  F clip;

  F operator()(F v) const {
    const F x = clip_both(v), alpha = broadcast(activation.alpha), beta = broadcast(activation.beta), zero = broadcast(0);
    switch (activation.function) {
      case kCellSigmoid: return sigmoid_of(x);
      case kCellTanh: return tanh_of(x);
      case kCellRelu: return relu(x);
      case kCellAffine: return fma(alpha, x, beta);
      case kCellLeakyRelu: return select((I)(x < zero), alpha * x, x);
      case kCellThresholdedRelu: return select((I)(x < alpha), zero, x);
      case kCellScaledTanh: return alpha * tanh_of(beta * x);
      case kCellHardSigmoid: return cloister::clip(fma(alpha, x, beta), zero, broadcast(1));
      case kCellSoftsign: return x / (broadcast(1) + absolute(x));
      case kCellFunctionCount: break;
    }
    return x;
  }

 private:
  F clip_both(F v) const { return cloister::clip(v, -clip, clip); }
};

// Some batch rows in step. States lie row by row, padded to whole blocks.
struct Tile {
  const Recurrence& shape;
  const RecurrentData& data;
  Function f, g, h;
  size_t width;   // a padded row
  float* state;
  float* next;    // GRU: r H
  float* cells;   // LSTM: C; GRU: z
};

// Sums of one block: out[row][gate] = sum_k weights[k][gate] state[row][k]. With few gates, every Chains-th k is summed
// apart, so that an FMA need not wait for the one before it; in the same order for any number of rows.
template <size_t Rows, size_t Gates>
inline void sum_block(const float* weights, const float* state, size_t width, size_t hidden, F (&out)[Rows][Gates]) {
  constexpr size_t kChains = Gates >= 3 ? 1 : Gates == 2 ? 2 : 4;
  F sum[kChains][Rows][Gates] = {};
  size_t k = 0;
  for (; k + kChains <= hidden; k += kChains) {
#pragma GCC unroll 4
    for (size_t chain = 0; chain < kChains; chain++, weights += Gates * kLanes) {
      F columns[Gates];
#pragma GCC unroll 4
      for (size_t gate = 0; gate < Gates; gate++) columns[gate] = load(weights + gate * kLanes);
#pragma GCC unroll 6
      for (size_t i = 0; i < Rows; i++) {
        const F value = broadcast(state[i * width + k + chain]);
#pragma GCC unroll 4
        for (size_t gate = 0; gate < Gates; gate++) sum[chain][i][gate] = fma(value, columns[gate], sum[chain][i][gate]);
      }
    }
  }
  for (; k < hidden; k++, weights += Gates * kLanes) {
    for (size_t i = 0; i < Rows; i++) {
      for (size_t gate = 0; gate < Gates; gate++) {
        sum[0][i][gate] = fma(broadcast(state[i * width + k]), load(weights + gate * kLanes), sum[0][i][gate]);
      }
    }
  }
#pragma GCC unroll 6
  for (size_t i = 0; i < Rows; i++) {
#pragma GCC unroll 4
    for (size_t gate = 0; gate < Gates; gate++) {
      F value = sum[0][i][gate];
#pragma GCC unroll 4
      for (size_t chain = 1; chain < kChains; chain++) value += sum[chain][i][gate];
      out[i][gate] = value;
    }
  }
}

// `x` is at the first row and the time at hand.
template <size_t Rows>
void step_rnn(const Tile& t, const float* x) {
  const Recurrence& s = t.shape;
  for (size_t unit = 0; unit < s.hidden; unit += kLanes) {
    const size_t lanes = smaller(s.hidden - unit, kLanes);
    F sums[Rows][1];
    sum_block<Rows, 1>(t.data.r + unit * s.hidden, t.state, t.width, s.hidden, sums);
    for (size_t i = 0; i < Rows; i++) {
      store(t.next + i * t.width + unit, t.f(load_up_to(x + i * s.x_row + unit, lanes) + sums[i][0]));
    }
  }
}

template <size_t Rows>
void step_gru(const Tile& t, const float* x) {
  const Recurrence& s = t.shape;
  const size_t hidden = s.hidden;
  const F one = broadcast(1);
  for (size_t unit = 0; unit < hidden; unit += kLanes) {
    const size_t lanes = smaller(hidden - unit, kLanes);
    F sums[Rows][2];
    sum_block<Rows, 2>(t.data.r + 2 * unit * hidden, t.state, t.width, hidden, sums);
    for (size_t i = 0; i < Rows; i++) {
      const float* from = x + i * s.x_row + unit;
      const size_t at = i * t.width + unit;
      store(t.cells + at, t.f(load_up_to(from, lanes) + sums[i][0]));
      store(t.next + at, t.f(load_up_to(from + hidden, lanes) + sums[i][1]) * load(t.state + at));
    }
  }
  const float* weights = t.data.r + 2 * hidden * t.width;
  for (size_t unit = 0; unit < hidden; unit += kLanes) {
    const size_t lanes = smaller(hidden - unit, kLanes);
    F sums[Rows][1];
    sum_block<Rows, 1>(weights + unit * hidden, t.next, t.width, hidden, sums);
    for (size_t i = 0; i < Rows; i++) {
      const size_t at = i * t.width + unit;
      const F n = t.g(load_up_to(x + i * s.x_row + 2 * hidden + unit, lanes) + sums[i][0]), z = load(t.cells + at);
      store(t.state + at, fma(z, load(t.state + at), (one - z) * n));
    }
  }
}

template <size_t Rows>
void step_gru_late(const Tile& t, const float* x) {
  const Recurrence& s = t.shape;
  const size_t hidden = s.hidden;
  for (size_t unit = 0; unit < hidden; unit += kLanes) {
    const size_t lanes = smaller(hidden - unit, kLanes);
    const F bias = load_up_to(t.data.state_bias + unit, lanes);
    F sums[Rows][3];
    sum_block<Rows, 3>(t.data.r + 3 * unit * hidden, t.state, t.width, hidden, sums);
    for (size_t i = 0; i < Rows; i++) {
      const float* from = x + i * s.x_row + unit;
      const F z = t.f(load_up_to(from, lanes) + sums[i][0]), r = t.f(load_up_to(from + hidden, lanes) + sums[i][1]);
      const F n = t.g(fma(r, sums[i][2] + bias, load_up_to(from + 2 * hidden, lanes)));
      const size_t at = i * t.width + unit;
      store(t.next + at, fma(z, load(t.state + at), (broadcast(1) - z) * n));
    }
  }
}

template <size_t Rows>
void step_lstm(const Tile& t, const float* x) {
  const Recurrence& s = t.shape;
  const size_t hidden = s.hidden;
  const float* peepholes = t.data.peepholes;
  for (size_t unit = 0; unit < hidden; unit += kLanes) {
    const size_t lanes = smaller(hidden - unit, kLanes);
    F sums[Rows][4];
    sum_block<Rows, 4>(t.data.r + 4 * unit * hidden, t.state, t.width, hidden, sums);
    F weight[3] = {broadcast(0), broadcast(0), broadcast(0)};
    for (size_t gate = 0; peepholes != nullptr && gate < 3; gate++) {
      weight[gate] = load_up_to(peepholes + gate * hidden + unit, lanes);
    }
    for (size_t i = 0; i < Rows; i++) {
      const float* from = x + i * s.x_row + unit;
      const size_t at = i * t.width + unit;
      const F before = load(t.cells + at);
      const auto gate = [&](size_t g) { return load_up_to(from + g * hidden, lanes) + sums[i][g]; };
      const F input = t.f(peepholes ? fma(weight[0], before, gate(0)) : gate(0));
      const F forget = s.input_forget ? broadcast(1) - input : t.f(peepholes ? fma(weight[2], before, gate(2)) : gate(2));
      const F after = fma(forget, before, input * t.g(gate(3)));
      store(t.cells + at, after);
      const F output = t.f(peepholes ? fma(weight[1], after, gate(1)) : gate(1));
      store(t.next + at, output * t.h(after));
    }
  }
}

using StepKernel = void (*)(const Tile&, const float*);
struct StepTable {
  StepKernel cells[kCellCount][kTileRows + 1];
};
template <size_t Rows>
constexpr void fill_steps(StepTable& table) {
  table.cells[kRnn][Rows] = step_rnn<Rows>;
  table.cells[kGru][Rows] = step_gru<Rows>;
  table.cells[kGruLate][Rows] = step_gru_late<Rows>;
  table.cells[kLstm][Rows] = step_lstm<Rows>;
  if constexpr (Rows > 1) fill_steps<Rows - 1>(table);
}
constexpr StepTable make_steps() {
  StepTable table{};
  fill_steps<kTileRows>(table);
  return table;
}
constexpr StepTable kSteps = make_steps();

inline void copy_row(const float* from, size_t count, float* to) {
  for (size_t i = 0; i < count; i += kLanes) {
    const size_t lanes = smaller(count - i, kLanes);
    store_up_to(to + i, from == nullptr ? broadcast(0) : load_up_to(from + i, lanes), lanes);
  }
}

// `rows` batch rows from `row` on, which are all `times` long.
void run_tile(const Recurrence& s, const RecurrentData& d, size_t row, size_t rows, size_t times, float* workspace) {
  const size_t hidden = s.hidden, width = padded(hidden);
  const auto function = [&](size_t i) { return Function{s.functions[i], broadcast(s.clip)}; };
  Tile t{s, d, function(0), function(1), function(2), width, workspace, workspace + rows * width,
         workspace + 2 * rows * width};
  for (size_t i = 0; i < rows; i++) {
    const size_t at = (row + i) * s.state_row;
    copy_row(d.h0 == nullptr ? nullptr : d.h0 + at, hidden, t.state + i * width);
    if (s.cell == kLstm) copy_row(d.c0 == nullptr ? nullptr : d.c0 + at, hidden, t.cells + i * width);
    // Lanes beyond the last unit compute too: on zeros, whose results nobody reads.
    for (size_t unit = hidden; unit < width; unit++) t.state[i * width + unit] = t.cells[i * width + unit] = 0;
  }
  for (size_t time = 0; time < times; time++) {
    const size_t now = s.reverse ? times - 1 - time : time;
    kSteps.cells[s.cell][rows](t, d.x + now * s.x_time + row * s.x_row);
    if (s.cell != kGru) {
      float* const before = t.state;
      t.state = t.next;
      t.next = before;
    }
    for (size_t i = 0; d.y != nullptr && i < rows; i++) {
      copy_row(t.state + i * width, hidden, d.y + now * s.y_time + (row + i) * s.y_row);
    }
  }
  for (size_t i = 0; i < rows; i++) {
    for (size_t time = times; d.y != nullptr && time < s.sequence; time++) {
      copy_row(nullptr, hidden, d.y + time * s.y_time + (row + i) * s.y_row);
    }
    const size_t at = (row + i) * s.state_row;
    copy_row(t.state + i * width, hidden, d.h + at);
    if (s.cell == kLstm) copy_row(t.cells + i * width, hidden, d.c + at);
  }
}

void recurrent_run(const Recurrence& s, const RecurrentData& d, size_t first, size_t last, float* workspace) {
  for (size_t row = first; row < last;) {
    const size_t rows = d.lengths == nullptr ? smaller(last - row, kTileRows) : 1;
    const size_t times = d.lengths == nullptr ? s.sequence : d.lengths[row] < 0 ? 0 : d.lengths[row];
    run_tile(s, d, row, rows, smaller(times, s.sequence), workspace);
    row += rows;
  }
}

size_t recurrent_workspace(const Recurrence& s) { return 3 * kTileRows * padded(s.hidden); }

}  // namespace

constinit const RecurrentKernels recurrent = {recurrent_packed, recurrent_pack, recurrent_workspace, recurrent_run};

}  // namespace cloister::CLOISTER_ROW
