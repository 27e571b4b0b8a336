// Attention over blocks of queries and keys. One lane is one query, from the scores to the result: a row's maximum and
// sum are then plain arithmetic on vectors, keys and values are read where they lie, an element at a time, and only the
// queries of a block (in) and its results (out) are transposed.
//
// Keys are taken kKeys at a time, with the maximum and sum so far and the results rescaled where a larger maximum comes:
// Milakov & Gimelshein, "Online normalizer calculation for softmax", 2018, https://arxiv.org/abs/1805.02867; Dao et al.,
// "FlashAttention", 2022, https://arxiv.org/abs/2205.14135.
#include "../math.h"
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

constexpr size_t kVectors = 2;
constexpr size_t kBlock = kVectors * kLanes;
constexpr size_t kTileRows = kLanes == 16 ? 14 : kLanes == 8 ? 6 : 12;
constexpr size_t kKeys = 128;  // their scores, of a block of queries, stay in L1

// c[i] = sum_p a[i * a_row + p * a_depth] * b[p] (+ c[i] * factor), where b and c are rows of a block.
template <size_t Rows, bool Add>
void multiply_rows(const float* a, size_t a_row, size_t a_depth, const float* b, size_t depth, const F* factor, float* c) {
  F sum[Rows][kVectors];
#pragma GCC unroll 16
  for (size_t i = 0; i < Rows; i++) {
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; v++) {
      sum[i][v] = Add ? load(c + i * kBlock + v * kLanes) * factor[v] : broadcast(0);
    }
  }
  for (size_t p = 0; p < depth; p++, a += a_depth, b += kBlock) {
    F columns[kVectors];
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; v++) columns[v] = load(b + v * kLanes);
#pragma GCC unroll 16
    for (size_t i = 0; i < Rows; i++) {
      const F value = broadcast(a[i * a_row]);
#pragma GCC unroll 2
      for (size_t v = 0; v < kVectors; v++) sum[i][v] = fma(value, columns[v], sum[i][v]);
    }
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < Rows; i++) {
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; v++) store(c + i * kBlock + v * kLanes, sum[i][v]);
  }
}

using RowsKernel = void (*)(const float*, size_t, size_t, const float*, size_t, const F*, float*);
template <bool Add>
struct RowsTable {
  RowsKernel rows[kTileRows + 1];
};
template <bool Add, size_t Rows>
constexpr void fill_rows(RowsTable<Add>& table) {
  table.rows[Rows] = multiply_rows<Rows, Add>;
  if constexpr (Rows > 1) fill_rows<Add, Rows - 1>(table);
}
template <bool Add>
constexpr RowsTable<Add> make_rows() {
  RowsTable<Add> table{};
  fill_rows<Add, kTileRows>(table);
  return table;
}
constexpr RowsTable<false> kScores = make_rows<false>();
constexpr RowsTable<true> kResults = make_rows<true>();

// `rows` rows, dealt out evenly.
template <bool Add>
inline void multiply_all(const RowsTable<Add>& table, size_t rows, const float* a, size_t a_row, size_t a_depth,
                         const float* b, size_t depth, const F* factor, float* c) {
  const size_t tiles = divide_up(rows, kTileRows);
  for (size_t tile = 0; tile < tiles; tile++) {
    const size_t from = tile * rows / tiles, height = (tile + 1) * rows / tiles - from;
    table.rows[height](a + from * a_row, a_row, a_depth, b, depth, factor, c + from * kBlock);
  }
}

// What is true of one block of queries.
struct Block {
  const AttentionShape& shape;
  const float* k;
  const float* v;
  const float* mask;  // at the first query, or null
  size_t top, rows;   // queries [top, top + rows)
  float* queries;     // size x kBlock, scaled
  float* scores;      // kKeys x kBlock
  float* results;     // value_size x kBlock
};

// Scores of `count` keys from `first` on, capped and masked, with the lanes' maxima; lanes that see one of them are
// added to `seen`.
inline void score(const Block& b, size_t first, size_t count, F* maxima, I* seen) {
  const AttentionShape& s = b.shape;
  multiply_all(kScores, count, b.k + first * s.k.row, s.k.row, 1, b.queries, s.size, nullptr, b.scores);
  const F hidden = broadcast(-__builtin_inff());
  if (s.softcap > 0) {
    const F cap = broadcast(s.softcap);
    for (size_t i = 0; i < count * kVectors; i++) {
      float* p = b.scores + i * kLanes;
      store(p, cap * tanh_of(load(p) / cap));
    }
  }
  if (b.mask == nullptr && !s.causal) {
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; v++) {
      F largest = maxima[v];
      for (size_t j = 0; j < count; j++) largest = max_nan(largest, load(b.scores + j * kBlock + v * kLanes));
      maxima[v] = largest;
      seen[v] = each(-1);
    }
    return;
  }
  alignas(64) float bias[kBlock] = {};
  for (size_t j = 0; j < count; j++) {
    const size_t key = first + j;
    if (b.mask != nullptr) {
      const float* mask = b.mask + key * s.mask_key;
      if (s.mask.row == 0) {
        for (size_t v = 0; v < kVectors; v++) store(bias + v * kLanes, broadcast(*mask));
      } else {
        for (size_t i = 0; i < b.rows; i++) bias[i] = mask[i * s.mask.row];
      }
    }
    // Query top + i sees this key where i >= key - past - top.
    const int64_t from = s.causal ? static_cast<int64_t>(key) - s.past - static_cast<int64_t>(b.top) : 0;
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; v++) {
      float* p = b.scores + j * kBlock + v * kLanes;
      F added = load(bias + v * kLanes);
      if (from > 0) {
        I lane;
        for (size_t i = 0; i < kLanes; i++) lane[i] = static_cast<int32_t>(i + v * kLanes);
        const int32_t bound = from > static_cast<int64_t>(kBlock) ? kBlock : static_cast<int32_t>(from);
        added = select((I)(lane < each(bound)), hidden, added);
      }
      const F value = load(p) + added;
      store(p, value);
      maxima[v] = max_nan(maxima[v], value);
      seen[v] |= (I)(added != hidden);
    }
  }
}

void attend_block(const Block& b, float* out) {
  const AttentionShape& s = b.shape;
  const F lowest = broadcast(-__builtin_inff());
  F maxima[kVectors], sums[kVectors];
  I seen[kVectors];
  for (size_t v = 0; v < kVectors; v++) maxima[v] = lowest, sums[v] = broadcast(0), seen[v] = each(0);
  for (size_t i = 0; i < s.value_size * kVectors; i++) store(b.results + i * kLanes, broadcast(0));

  for (size_t first = 0; first < s.keys; first += kKeys) {
    const size_t count = smaller(s.keys - first, kKeys);
    const F before[kVectors] = {maxima[0], maxima[1]};
    score(b, first, count, maxima, seen);
    F factor[kVectors];
#pragma GCC unroll 2
    for (size_t v = 0; v < kVectors; v++) {
      // While all keys are hidden the maximum is -infinity, and weights are e^(-infinity), not e^NaN.
      const F top = select((I)(maxima[v] == lowest), broadcast(0), maxima[v]);
      factor[v] = exp_of(before[v] - top);
      F sum = sums[v] * factor[v], partial = broadcast(0);
      for (size_t j = 0; j < count; j++) {
        float* p = b.scores + j * kBlock + v * kLanes;
        const F weight = exp_of(load(p) - top);
        store(p, weight);
        partial += weight;
      }
      sums[v] = sum + partial;
    }
    multiply_all(kResults, s.value_size, b.v + first * s.v.row, 1, s.v.row, b.scores, count, factor, b.results);
  }

  for (size_t v = 0; v * kLanes < b.rows; v++) {
    const F inverse = broadcast(1) / sums[v];
    const size_t lanes = smaller(b.rows - v * kLanes, kLanes);
    for (size_t d = 0; d < s.value_size; d++) {
      float* p = b.results + d * kBlock + v * kLanes;
      store(p, select(seen[v], load(p) * inverse, broadcast(0)));
    }
    for (size_t i = 0; i < lanes; i++) {
      float* row = out + (v * kLanes + i) * s.out.row;
      const float* from = b.results + v * kLanes + i;
      for (size_t d = 0; d < s.value_size; d++) row[d] = from[d * kBlock];
    }
  }
}

size_t attention_workspace(const AttentionShape& s) {
  return (size_t{s.size} + kKeys + s.value_size) * kBlock;
}

void attend(const AttentionShape& s, const float* q, const float* k, const float* v, const float* mask, float* out,
            size_t first, size_t last, float* workspace) {
  const size_t blocks = divide_up(s.queries, kBlock), group = s.heads / s.kv_heads;
  float* const queries = workspace;
  for (size_t unit = first; unit < last; unit++) {
    const size_t head = unit / blocks % s.heads, batch = unit / blocks / s.heads;
    const size_t top = unit % blocks * kBlock, rows = smaller(s.queries - top, kBlock);
    const float* from = q + batch * s.q.batch + head * s.q.head + top * s.q.row;
    for (size_t i = 0; i < kBlock; i++) {
      // Lanes without a query compute on zeros.
      const float* row = from + i * s.q.row;
      for (size_t d = 0; d < s.size; d++) queries[d * kBlock + i] = i < rows ? row[d] * s.scale : 0;
    }
    const Block block{
        s,
        k + batch * s.k.batch + head / group * s.k.head,
        v + batch * s.v.batch + head / group * s.v.head,
        mask == nullptr ? nullptr : mask + batch * s.mask.batch + head * s.mask.head + top * s.mask.row,
        top, rows,
        queries, queries + size_t{s.size} * kBlock, queries + (size_t{s.size} + kKeys) * kBlock,
    };
    attend_block(block, out + batch * s.out.batch + head * s.out.head + top * s.out.row);
  }
}

}  // namespace

constinit const AttentionKernels attention = {kBlock, attention_workspace, attend};

}  // namespace cloister::CLOISTER_ROW
