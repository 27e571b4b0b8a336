// Recurrent cells as their definition reads: one batch row and one unit at a time, sums and functions in double, states
// rounded to float after every step.
#include <cmath>

#include "../row.h"
#include "table.h"

namespace cloister::scalar {
namespace {

size_t recurrent_packed(Cell cell, size_t hidden) { return cell_gates(cell) * hidden * hidden; }

void recurrent_pack(Cell cell, size_t hidden, const float* r, float* out) {
  for (size_t i = 0; i < recurrent_packed(cell, hidden); i++) out[i] = r[i];
}

double apply(const CellActivation& a, double clip, double v) {
  // A NaN fails both comparisons and passes through.
  const double x = v < -clip ? -clip : v > clip ? clip : v, alpha = a.alpha, beta = a.beta;
  switch (a.function) {
    case kCellSigmoid: return 1 / (1 + std::exp(-x));
    case kCellTanh: return std::tanh(x);
    case kCellRelu: return x < 0 ? 0 : x;
    case kCellAffine: return alpha * x + beta;
    case kCellLeakyRelu: return x < 0 ? alpha * x : x;
    case kCellThresholdedRelu: return x < alpha ? 0 : x;
    case kCellScaledTanh: return alpha * std::tanh(beta * x);
    case kCellHardSigmoid: {
      const double y = alpha * x + beta;
      return y < 0 ? 0 : y > 1 ? 1 : y;
    }
    case kCellSoftsign: return x / (1 + std::fabs(x));
    case kCellFunctionCount: break;
  }
  return x;
}

// One batch row, whose state is h and, for an LSTM, c. `next` takes the new state.
struct Row {
  const Recurrence& s;
  const RecurrentData& d;
  float* h;
  float* c;
  float* next;

  double act(size_t function, double x) const { return apply(s.functions[function], s.clip, x); }

  // What the state adds to a gate of a unit.
  double sum(size_t gate, size_t unit, const float* state) const {
    double total = 0;
    const float* weights = d.r + (gate * s.hidden + unit) * s.hidden;
    for (size_t k = 0; k < s.hidden; k++) total += static_cast<double>(weights[k]) * state[k];
    return total;
  }

  // `reset`: r H of all units.
  void step(const float* x, float* reset) const {
    const size_t hidden = s.hidden;
    const auto argument = [&](size_t gate, size_t unit) { return x[gate * hidden + unit] + sum(gate, unit, h); };
    if (s.cell == kGru) {
      for (size_t u = 0; u < hidden; u++) reset[u] = static_cast<float>(act(0, argument(1, u)) * h[u]);
    }
    for (size_t u = 0; u < hidden; u++) {
      if (s.cell == kRnn) {
        next[u] = static_cast<float>(act(0, argument(0, u)));
      } else if (s.cell == kLstm) {
        const auto peephole = [&](size_t gate, double cell) {
          return d.peepholes == nullptr ? 0.0 : d.peepholes[gate * hidden + u] * cell;
        };
        const double input = act(0, argument(0, u) + peephole(0, c[u]));
        const double forget = s.input_forget ? 1 - input : act(0, argument(2, u) + peephole(2, c[u]));
        const double after = forget * c[u] + input * act(1, argument(3, u));
        c[u] = static_cast<float>(after);
        next[u] = static_cast<float>(act(0, argument(1, u) + peephole(1, after)) * act(2, after));
      } else {
        const double z = act(0, argument(0, u)), from_x = x[2 * hidden + u];
        const double n = s.cell == kGru ? act(1, from_x + sum(2, u, reset))
                                        : act(1, from_x + act(0, argument(1, u)) * (sum(2, u, h) + d.state_bias[u]));
        next[u] = static_cast<float>((1 - z) * n + z * h[u]);
      }
    }
    for (size_t u = 0; u < hidden; u++) h[u] = next[u];
  }
};

void recurrent_run(const Recurrence& s, const RecurrentData& d, size_t first, size_t last, float* workspace) {
  const size_t hidden = s.hidden;
  float* const reset = workspace + 3 * hidden;
  const Row row{s, d, workspace, workspace + hidden, workspace + 2 * hidden};
  for (size_t i = first; i < last; i++) {
    const size_t at = i * s.state_row;
    for (size_t u = 0; u < hidden; u++) {
      row.h[u] = d.h0 == nullptr ? 0 : d.h0[at + u];
      row.c[u] = s.cell != kLstm || d.c0 == nullptr ? 0 : d.c0[at + u];
    }
    size_t times = s.sequence;
    if (d.lengths != nullptr && d.lengths[i] < static_cast<int64_t>(times)) times = d.lengths[i] < 0 ? 0 : d.lengths[i];
    for (size_t time = 0; time < s.sequence; time++) {
      const size_t now = time < times && s.reverse ? times - 1 - time : time;
      if (time < times) row.step(d.x + now * s.x_time + i * s.x_row, reset);
      for (size_t u = 0; d.y != nullptr && u < hidden; u++) {
        d.y[now * s.y_time + i * s.y_row + u] = time < times ? row.h[u] : 0;
      }
    }
    for (size_t u = 0; u < hidden; u++) {
      d.h[at + u] = row.h[u];
      if (s.cell == kLstm) d.c[at + u] = row.c[u];
    }
  }
}

size_t recurrent_workspace(const Recurrence& s) { return 4 * size_t{s.hidden}; }

}  // namespace

constinit const RecurrentKernels recurrent = {recurrent_packed, recurrent_pack, recurrent_workspace, recurrent_run};

}  // namespace cloister::scalar
