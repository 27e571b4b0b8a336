// Reductions and softmax over the middle axis of outer x n x inner.
#include "../fold.h"
#include "../math.h"
#include "../row.h"
#include "../square.h"
#include "../stream.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

struct Reduction {
  float divisor;
  bool root;
  F finish(F v) const {
    if (divisor != 1) v = v / broadcast(divisor);
    return root ? square_root(v) : v;
  }
};

// Vectors x kLanes neighbouring columns (the last `width` wide), folded down n rows.
template <typename Fold, size_t Vectors, typename Map>
inline void fold_columns(size_t n, size_t inner, const float* x, size_t width, Reduction how, float* y, Map map) {
  F total[Vectors];
  for (F& t : total) t = broadcast(Fold::start());
  for (size_t j0 = 0; j0 < n; j0 += kTerms) {
    const size_t end = smaller(j0 + kTerms, n);
    F part[Vectors];
    for (F& p : part) p = broadcast(Fold::start());
    for (size_t j = j0; j < end; j++) {
#pragma GCC unroll 4
      for (size_t v = 0; v < Vectors; v++) {
        const float* at = x + j * inner + v * kLanes;
        part[v] = Fold::fold(part[v], map(Vectors > 1 ? load(at) : load_up_to(at, width)));
      }
    }
    for (size_t v = 0; v < Vectors; v++) total[v] = Fold::fold(total[v], part[v]);
  }
  for (size_t v = 0; v < Vectors; v++) {
    const F value = how.finish(total[v]);
    Vectors > 1 ? store(y + v * kLanes, value) : store_up_to(y, value, width);
  }
}

// kLanes rows, side by side in the end: the same folds as fold_lanes, one row a lane.
template <typename Fold, typename Map>
inline void fold_rows(size_t n, const float* x, Reduction how, float* y, Map map) {
  F part[kLanes];
  for (size_t r = 0; r < kLanes; r++) part[r] = fold_row<Fold>(n, x + r * n, map);
  transpose_square(part, uint32_t());
#pragma GCC unroll 4
  for (size_t width = kLanes / 2; width > 0; width /= 2) {
#pragma GCC unroll 8
    for (size_t i = 0; i < width; i++) part[i] = Fold::fold(part[i], part[i + width]);
  }
  store(y, how.finish(part[0]));
}

template <typename Fold, typename Map>
void reduce_with(size_t outer, size_t n, size_t inner, Reduction how, const float* x, float* y, Map map) {
  if (inner == 1) {
    size_t o = 0;
    for (; o + kLanes <= outer; o += kLanes) fold_rows<Fold>(n, x + o * n, how, y + o, map);
    for (; o < outer; o++) y[o] = first_lane(how.finish(fold_lanes<Fold>(fold_row<Fold>(n, x + o * n, map))));
    return;
  }
  for (size_t o = 0; o < outer; o++, x += n * inner, y += inner) {
    size_t i = 0;
    for (; i + 4 * kLanes <= inner; i += 4 * kLanes) fold_columns<Fold, 4>(n, inner, x + i, 0, how, y + i, map);
    for (; i < inner; i += kLanes) {
      fold_columns<Fold, 1>(n, inner, x + i, smaller(inner - i, kLanes), how, y + i, map);
    }
  }
}

void reduce_axis(ReduceOp op, size_t outer, size_t n, size_t inner, const float* x, float* y) {
  const Reduction plain = {1, false}, mean = {static_cast<float>(n), false}, root = {1, true};
  const auto same = [](F v) { return v; };
  const auto square = [](F v) { return v * v; };
  switch (op) {
    case kReduceSum: return reduce_with<FoldSum>(outer, n, inner, plain, x, y, same);
    case kReduceMean: return reduce_with<FoldSum>(outer, n, inner, mean, x, y, same);
    case kReduceMax: return reduce_with<FoldMax>(outer, n, inner, plain, x, y, same);
    case kReduceMin: return reduce_with<FoldMin>(outer, n, inner, plain, x, y, same);
    case kReduceProduct: return reduce_with<FoldProduct>(outer, n, inner, plain, x, y, same);
    case kReduceL1: return reduce_with<FoldSum>(outer, n, inner, plain, x, y, absolute);
    case kReduceSumSquare: return reduce_with<FoldSum>(outer, n, inner, plain, x, y, square);
    case kReduceL2: return reduce_with<FoldSum>(outer, n, inner, root, x, y, square);
    case kReduceOpCount: return;
  }
}

// Whether `a` stands before `b` in a search, given that it comes later in the row.
inline bool beats(bool smallest, bool last, float a, float b) {
  if (b != b) return last && a != a;
  if (a != a) return true;
  return smallest ? a < b || (last && a == b) : a > b || (last && a == b);
}

// First the extreme value of each row or column, then its place.
void arg(bool smallest, bool last, size_t outer, size_t n, size_t inner, const float* x, int64_t* y) {
  for (size_t o = 0; o < outer; o++, x += n * inner, y += inner) {
    if (inner == 1) {
      const F lanes = smallest ? fold_lanes<FoldMin>(fold_row<FoldMin>(n, x)) : fold_lanes<FoldMax>(fold_row<FoldMax>(n, x));
      const float best = first_lane(lanes);
      const auto is_best = [=](size_t j) { return x[j] == best || (best != best && x[j] != x[j]); };
      size_t at = last ? n - 1 : 0;
      while (!is_best(at)) last ? at-- : at++;
      *y = static_cast<int64_t>(at);
      continue;
    }
    for (size_t i = 0; i < inner; i++) y[i] = 0;
    for (size_t j = 1; j < n; j++) {
      const float* const row = x + j * inner;
      for (size_t i = 0; i < inner; i++) {
        if (beats(smallest, last, row[i], x[static_cast<size_t>(y[i]) * inner + i])) y[i] = static_cast<int64_t>(j);
      }
    }
  }
}

// Rows up to this length are kept on the stack between their passes, so that their result is written once.
constexpr size_t kRowOnStack = 4096;

// e^(x - top) of a row, and the lanes of their sum.
template <bool kLog>
inline F exponentials(size_t n, const float* x, F top, float* y) {
  F total = broadcast(0);
  size_t i = 0;
  while (i + 2 * kLanes <= n) {
    F part[2] = {broadcast(0), broadcast(0)};
    for (size_t step = 0; step < kTerms && i + 2 * kLanes <= n; step++, i += 2 * kLanes) {
#pragma GCC unroll 2
      for (size_t j = 0; j < 2; j++) {
        const F shifted = load(x + i + j * kLanes) - top, power = exp_below(shifted);
        store(y + i + j * kLanes, kLog ? shifted : power);
        part[j] += power;
      }
    }
    total += part[0] + part[1];
  }
  for (; i < n; i += kLanes) {
    const size_t width = smaller(n - i, kLanes);
    const F shifted = load_up_to(x + i, width) - top, power = exp_below(shifted);
    store_up_to(y + i, kLog ? shifted : power, width);
    total += width == kLanes ? power : only_first<FoldSum>(power, width);
  }
  return total;
}

template <bool kLog, bool kStream>
inline void normalise(size_t n, const float* x, F by, float* y) {
  const auto map = [by](F v) { return kLog ? v - by : v * by; };
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) put<kStream>(y + i, map(load(x + i)));
  if (i < n) store_first(y + i, map(load_first(x + i, n - i)), n - i);
}

// `kStream` where y starts at a line, and so does each row. The maximum of the next row is found before this one is
// divided by its sum, which comes late. A NaN may be lost from the maximum: it reaches the sum, and so every element.
template <bool kLog, bool kStream>
inline void softmax_rows(size_t outer, size_t n, const float* x, float* y) {
  float row[kStream ? kRowOnStack : 1];
  F top = fold_lanes<FoldMaxLoose>(fold_row<FoldMaxLoose>(n, x));
  for (size_t o = 0; o < outer; o++, x += n, y += n) {
    float* const between = kStream ? row : y;
    const F sum = fold_lanes<FoldSum>(exponentials<kLog>(n, x, top, between));
    if (o + 1 < outer) top = fold_lanes<FoldMaxLoose>(fold_row<FoldMaxLoose>(n, x + n));
    normalise<kLog, kStream>(n, between, kLog ? log_of(sum) : broadcast(1) / sum, y);
  }
}

template <bool kLog>
inline void softmax_rows(size_t outer, size_t n, const float* x, float* y, bool stream) {
  const bool lines = n * sizeof(float) % kLineBytes == 0 && floats_to_line(y) == 0;
  if (stream && lines && n <= kRowOnStack) {
    softmax_rows<kLog, true>(outer, n, x, y);
    stream_end();
  } else if (outer > 0) {
    softmax_rows<kLog, false>(outer, n, x, y);
  }
}

// `width` neighbouring columns, each a softmax of its own.
inline void softmax_columns(size_t n, size_t inner, bool log, const float* x, size_t width, float* y) {
  F top = broadcast(FoldMax::start());
  for (size_t j = 0; j < n; j++) top = max_nan(top, load_up_to(x + j * inner, width));
  F total = broadcast(0);
  for (size_t j0 = 0; j0 < n; j0 += kTerms) {
    F part = broadcast(0);
    for (size_t j = j0; j < smaller(j0 + kTerms, n); j++) {
      const F shifted = load_up_to(x + j * inner, width) - top, power = exp_below(shifted);
      store_up_to(y + j * inner, log ? shifted : power, width);
      part += power;
    }
    total += part;
  }
  const F by = log ? log_of(total) : broadcast(1) / total;
  for (size_t j = 0; j < n; j++) {
    const F value = load_up_to(y + j * inner, width);
    store_up_to(y + j * inner, log ? value - by : value * by, width);
  }
}

// Rows of at most kLanes elements, kLanes rows side by side, each in a lane of its own.
template <bool kLog>
void softmax_short(size_t outer, size_t n, const float* x, float* y) {
  for (size_t o = 0; o < outer; o += kLanes, x += kLanes * n, y += kLanes * n) {
    const size_t rows = smaller(outer - o, kLanes);
    F v[kLanes];
    for (size_t r = 0; r < kLanes; r++) v[r] = r < rows ? load_first(x + r * n, n) : broadcast(0);
    transpose_square(v, uint32_t());
    F top = v[0];
    for (size_t j = 1; j < n; j++) top = max_second(top, v[j]);
    F total = broadcast(0);
    for (size_t j = 0; j < n; j++) {
      const F shifted = v[j] - top, power = exp_below(shifted);
      v[j] = kLog ? shifted : power;
      total += power;
    }
    const F by = kLog ? log_of(total) : broadcast(1) / total;
    for (size_t j = 0; j < n; j++) v[j] = kLog ? v[j] - by : v[j] * by;
    transpose_square(v, uint32_t());
    for (size_t r = 0; r < rows; r++) store_first(y + r * n, v[r], n);
  }
}

void softmax(size_t outer, size_t n, size_t inner, bool log, const float* x, float* y, bool stream) {
  if (inner == 1 && n <= kLanes) return log ? softmax_short<true>(outer, n, x, y) : softmax_short<false>(outer, n, x, y);
  if (inner == 1) return log ? softmax_rows<true>(outer, n, x, y, stream) : softmax_rows<false>(outer, n, x, y, stream);
  for (size_t o = 0; o < outer; o++, x += n * inner, y += n * inner) {
    for (size_t i = 0; i < inner; i += kLanes) {
      softmax_columns(n, inner, log, x + i, smaller(inner - i, kLanes), y + i);
    }
  }
}

}  // namespace

constinit const ReduceKernels reduce = {softmax, reduce_axis, arg};

}  // namespace cloister::CLOISTER_ROW
