// Reductions and softmax over the middle axis of outer x n x inner.
//
// Sums of blocks of kBlock terms are added to a total, so that the error of a sum of n terms grows with
// kBlock + n / kBlock, not with n (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 4.2).
#pragma once
#include "kernels.h"
#include "math.h"

namespace cloister {
namespace {

struct FoldSum {
  static float start() { return 0; }
  static F fold(F a, F b) { return a + b; }
};
struct FoldMax {
  static float start() { return -__builtin_inff(); }
  static F fold(F a, F b) { return max_nan(a, b); }
};
struct FoldMin {
  static float start() { return __builtin_inff(); }
  static F fold(F a, F b) { return min_nan(a, b); }
};

constexpr size_t kBlock = 64;

template <typename Fold>
inline float fold_lanes(F v) {
  float lanes[2 * kLanes];
  for (size_t width = kLanes / 2; width > 0; width /= 2) {
    store(lanes, v);
    store(lanes + kLanes, broadcast(Fold::start()));
    v = Fold::fold(v, load(lanes + width));
  }
  store(lanes, v);
  return lanes[0];
}

// What is left of a row that ends inside a vector, with lanes that do not count.
template <typename Fold>
inline F load_tail(const float* x, size_t width) {
  float lanes[kLanes];
  store(lanes, broadcast(Fold::start()));
  store_first(lanes, load_first(x, width), width);
  return load(lanes);
}

template <typename Fold>
inline float fold_row(size_t n, const float* x) {
  F total = broadcast(Fold::start());
  size_t i = 0;
  while (i + 4 * kLanes <= n) {
    F part[4];
    for (F& p : part) p = broadcast(Fold::start());
    for (size_t step = 0; step < kBlock && i + 4 * kLanes <= n; step++, i += 4 * kLanes) {
#pragma GCC unroll 4
      for (size_t j = 0; j < 4; j++) part[j] = Fold::fold(part[j], load(x + i + j * kLanes));
    }
    total = Fold::fold(total, Fold::fold(Fold::fold(part[0], part[1]), Fold::fold(part[2], part[3])));
  }
  for (; i + kLanes <= n; i += kLanes) total = Fold::fold(total, load(x + i));
  if (i < n) total = Fold::fold(total, load_tail<Fold>(x + i, n - i));
  return fold_lanes<Fold>(total);
}

// Vectors x kLanes neighbouring columns (the last `width` wide), folded down n rows.
template <typename Fold, size_t Vectors>
inline void fold_columns(size_t n, size_t inner, const float* x, size_t width, float scale_by, float* y) {
  F total[Vectors];
  for (F& t : total) t = broadcast(Fold::start());
  for (size_t j0 = 0; j0 < n; j0 += kBlock) {
    const size_t end = smaller(j0 + kBlock, n);
    F part[Vectors];
    for (F& p : part) p = broadcast(Fold::start());
    for (size_t j = j0; j < end; j++) {
#pragma GCC unroll 4
      for (size_t v = 0; v < Vectors; v++) {
        const float* at = x + j * inner + v * kLanes;
        part[v] = Fold::fold(part[v], Vectors > 1 ? load(at) : load_up_to(at, width));
      }
    }
    for (size_t v = 0; v < Vectors; v++) total[v] = Fold::fold(total[v], part[v]);
  }
  for (size_t v = 0; v < Vectors; v++) {
    const F value = scale_by == 1 ? total[v] : total[v] / broadcast(scale_by);
    Vectors > 1 ? store(y + v * kLanes, value) : store_up_to(y, value, width);
  }
}

template <typename Fold>
void reduce_with(size_t outer, size_t n, size_t inner, float divisor, const float* x, float* y) {
  for (size_t o = 0; o < outer; o++, x += n * inner, y += inner) {
    if (inner == 1) {
      *y = fold_row<Fold>(n, x) / divisor;
      continue;
    }
    size_t i = 0;
    for (; i + 4 * kLanes <= inner; i += 4 * kLanes) fold_columns<Fold, 4>(n, inner, x + i, 0, divisor, y + i);
    for (; i < inner; i += kLanes) fold_columns<Fold, 1>(n, inner, x + i, smaller(inner - i, kLanes), divisor, y + i);
  }
}

void reduce(ReduceOp op, size_t outer, size_t n, size_t inner, const float* x, float* y) {
  switch (op) {
    case kReduceSum: return reduce_with<FoldSum>(outer, n, inner, 1, x, y);
    case kReduceMean: return reduce_with<FoldSum>(outer, n, inner, static_cast<float>(n), x, y);
    case kReduceMax: return reduce_with<FoldMax>(outer, n, inner, 1, x, y);
    case kReduceMin: return reduce_with<FoldMin>(outer, n, inner, 1, x, y);
    case kReduceOpCount: return;
  }
}

inline float log_of_one(float v) {
  float lanes[kLanes];
  store(lanes, log_of(broadcast(v)));
  return lanes[0];
}

inline void softmax_row(size_t n, bool log, const float* x, float* y) {
  const F top = broadcast(fold_row<FoldMax>(n, x));
  F total = broadcast(0);
  for (size_t i = 0; i < n;) {
    F part = broadcast(0);
    for (size_t step = 0; step < kBlock && i < n; step++, i += kLanes) {
      const size_t width = smaller(n - i, kLanes);
      const F shifted = load_up_to(x + i, width) - top, power = exp_of(shifted);
      store_up_to(y + i, log ? shifted : power, width);
      part += width == kLanes ? power : load_tail<FoldSum>(reinterpret_cast<const float*>(&power), width);
    }
    total += part;
  }
  const float sum = sum_lanes(total), less = log ? log_of_one(sum) : 0;
  const F shift = broadcast(less), divisor = broadcast(sum);
  for (size_t i = 0; i < n; i += kLanes) {
    const size_t width = smaller(n - i, kLanes);
    const F value = load_up_to(y + i, width);
    store_up_to(y + i, log ? value - shift : value / divisor, width);
  }
}

// `width` neighbouring columns, each a softmax of its own.
inline void softmax_columns(size_t n, size_t inner, bool log, const float* x, size_t width, float* y) {
  F top = broadcast(FoldMax::start());
  for (size_t j = 0; j < n; j++) top = max_nan(top, load_up_to(x + j * inner, width));
  F total = broadcast(0);
  for (size_t j0 = 0; j0 < n; j0 += kBlock) {
    F part = broadcast(0);
    for (size_t j = j0; j < smaller(j0 + kBlock, n); j++) {
      const F shifted = load_up_to(x + j * inner, width) - top, power = exp_of(shifted);
      store_up_to(y + j * inner, log ? shifted : power, width);
      part += power;
    }
    total += part;
  }
  const F shift = log ? log_of(total) : broadcast(0);
  for (size_t j = 0; j < n; j++) {
    const F value = load_up_to(y + j * inner, width);
    store_up_to(y + j * inner, log ? value - shift : value / total, width);
  }
}

void softmax(size_t outer, size_t n, size_t inner, bool log, const float* x, float* y) {
  for (size_t o = 0; o < outer; o++, x += n * inner, y += n * inner) {
    if (inner == 1) {
      softmax_row(n, log, x, y);
    } else {
      for (size_t i = 0; i < inner; i += kLanes) {
        softmax_columns(n, inner, log, x + i, smaller(inner - i, kLanes), y + i);
      }
    }
  }
}

}  // namespace
}  // namespace cloister
