// C = act(A B + bias), f32. B comes packed in panels of kPanel columns; A is packed tile by tile into the workspace
// where that pays.
//
// Blocking as in Goto & van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34(3), 2008: a
// kDepth x kPanel slice of B stays in L1 while the tiles of a kRows x kDepth block of A, in L2, pass over it.
#pragma once
#include "kernels.h"
#include "simd.h"

namespace cloister {
namespace {

// A tile of kTileRows x kTileVectors accumulators, the vectors of B and one broadcast fill the register file.
constexpr size_t kTileVectors = 2;
constexpr size_t kPanel = kTileVectors * kLanes;
constexpr size_t kTileRows = kLanes == 16 ? 14 : kLanes == 8 ? 6 : 12;
constexpr size_t kDepth = 384;
constexpr size_t kRows = kTileRows * 16;

inline F activate(F v, const Epilogue& e) {
  if (e.activation == kActRelu) return relu(v);
  if (e.activation == kActClip) return clip(v, broadcast(e.lo), broadcast(e.hi));
  return v;
}

// Where one tile reads and writes.
struct Tile {
  const float* a;        // element (0, first p)
  size_t a_row, a_depth; // steps of A from row to row, and from p to p
  const float* b;        // kPanel columns of the panel per p
  size_t depth;
  float* c;
  size_t ldc, columns;   // columns <= Vectors * kLanes
  bool first, last;      // slices of k: the first overwrites C, the last applies the epilogue
  const float* bias;     // at this tile's first column, or null
};

// Rows x Vectors accumulators. A tile of few rows has too few to hide the latency of an FMA: it sums every Chains-th p
// apart.
template <size_t Rows, size_t Vectors>
void multiply_tile(const Tile& t, const Epilogue& e) {
  constexpr size_t kChains = Rows * Vectors >= 8 ? 1 : Rows * Vectors >= 4 ? 2 : 4;
  F sum[kChains][Rows][Vectors] = {};
  const float* a = t.a;
  const float* b = t.b;
  const size_t a_row = t.a_row, a_depth = t.a_depth;
  size_t p = 0;
  for (; p + kChains <= t.depth; p += kChains) {
#pragma GCC unroll 4
    for (size_t chain = 0; chain < kChains; chain++) {
      F columns[Vectors];
#pragma GCC unroll 4
      for (size_t v = 0; v < Vectors; v++) columns[v] = load(b + v * kLanes);
#pragma GCC unroll 16
      for (size_t i = 0; i < Rows; i++) {
        const F value = broadcast(a[i * a_row]);
#pragma GCC unroll 4
        for (size_t v = 0; v < Vectors; v++) sum[chain][i][v] = fma(value, columns[v], sum[chain][i][v]);
      }
      a += a_depth;
      b += kPanel;
    }
  }
  for (; kChains > 1 && p < t.depth; p++, a += a_depth, b += kPanel) {
#pragma GCC unroll 16
    for (size_t i = 0; i < Rows; i++) {
#pragma GCC unroll 4
      for (size_t v = 0; v < Vectors; v++) {
        sum[0][i][v] = fma(broadcast(a[i * a_row]), load(b + v * kLanes), sum[0][i][v]);
      }
    }
  }
#pragma GCC unroll 4
  for (size_t v = 0; v < Vectors; v++) {
    const size_t at = v * kLanes, width = smaller(t.columns - at, kLanes);
    const F bias = t.last && t.bias ? load_up_to(t.bias + at, width) : broadcast(0);
#pragma GCC unroll 16
    for (size_t i = 0; i < Rows; i++) {
      F value = sum[0][i][v];
#pragma GCC unroll 4
      for (size_t chain = 1; chain < kChains; chain++) value += sum[chain][i][v];
      float* c = t.c + i * t.ldc + at;
      if (!t.first) value += load_up_to(c, width);
      if (t.last) value = activate(t.bias ? value + bias : value, e);
      store_up_to(c, value, width);
    }
  }
}

// The same for tiles of A packed p by p, whose steps are then constants.
template <size_t Rows, size_t Vectors>
void multiply_packed_tile(const Tile& t, const Epilogue& e) {
  Tile packed = t;
  packed.a_row = 1;
  packed.a_depth = Rows;
  multiply_tile<Rows, Vectors>(packed, e);
}

using TileKernel = void (*)(const Tile&, const Epilogue&);
struct TileTable {
  TileKernel strided[kTileRows + 1][kTileVectors + 1];
  TileKernel packed[kTileRows + 1][kTileVectors + 1];
};
template <size_t Rows>
constexpr void fill_tiles(TileTable& table) {
  table.strided[Rows][1] = multiply_tile<Rows, 1>;
  table.strided[Rows][2] = multiply_tile<Rows, 2>;
  table.packed[Rows][1] = multiply_packed_tile<Rows, 1>;
  table.packed[Rows][2] = multiply_packed_tile<Rows, 2>;
  if constexpr (Rows > 1) fill_tiles<Rows - 1>(table);
}
constexpr TileTable make_tiles() {
  TileTable table{};
  fill_tiles<kTileRows>(table);
  return table;
}
constexpr TileTable kTiles = make_tiles();

size_t gemm_packed_elements(size_t k, size_t n) { return divide_up(n, kPanel) * kPanel * k; }

void gemm_pack_b(size_t k, size_t n, const float* b, size_t ldb, bool transposed, float* out) {
  for (size_t j0 = 0; j0 < n; j0 += kPanel) {
    const size_t columns = smaller(n - j0, kPanel);
    if (!transposed) {
      for (size_t p = 0; p < k; p++, out += kPanel) {
#pragma GCC unroll 2
        for (size_t at = 0; at < kPanel; at += kLanes) {
          const size_t left = columns > at ? smaller(columns - at, kLanes) : 0;
          store(out + at, load_up_to(b + p * ldb + j0 + at, left));
        }
      }
      continue;
    }
    // Column j of the panel is a row of b: a few p at a time keeps both sides in cache lines that are already there.
    constexpr size_t kStrip = 16;
    for (size_t p0 = 0; p0 < k; p0 += kStrip, out += kStrip * kPanel) {
      const size_t strip = smaller(k - p0, kStrip);
      for (size_t j = 0; j < kPanel; j++) {
        const float* row = b + (j0 + j) * ldb + p0;
        for (size_t p = 0; p < strip; p++) out[p * kPanel + j] = j < columns ? row[p] : 0;
      }
      if (strip < kStrip) out -= (kStrip - strip) * kPanel;
    }
  }
}

// A of one tile of rows, or before few panels, is read so seldom that packing it costs more than it saves. So it does
// where rows are contiguous, unless they start at the same place of their pages and push one another out of L1.
inline bool may_pack_a(size_t m, size_t n) { return m > kTileRows && n > 3 * kPanel; }
inline bool packs_a(size_t m, size_t n, size_t lda, bool transposed) {
  return may_pack_a(m, n) && (transposed || lda * sizeof(float) % 4096 == 0);
}

size_t gemm_workspace_elements(size_t m, size_t n, size_t k) {
  return may_pack_a(m, n) ? smaller(m, kRows) * smaller(k, kDepth) : 0;
}

// `rows` rows of A from p on, p by p.
inline void pack_a(const float* a, size_t a_row, size_t a_depth, size_t rows, size_t depth, float* out) {
  if (a_row == 1) {
    for (size_t p = 0; p < depth; p++, a += a_depth) {
      for (size_t i = 0; i < rows; i++) *out++ = a[i];
    }
    return;
  }
  // a_depth is 1. Eight p at a time: eight elements of a row are one or two cache lines.
  constexpr size_t kStrip = 8;
  size_t p = 0;
  for (; p + kStrip <= depth; p += kStrip, out += kStrip * rows) {
    for (size_t i = 0; i < rows; i++) {
      const float* row = a + i * a_row + p;
#pragma GCC unroll 8
      for (size_t s = 0; s < kStrip; s++) out[s * rows + i] = row[s];
    }
  }
  for (; p < depth; p++) {
    for (size_t i = 0; i < rows; i++) *out++ = a[i * a_row + p];
  }
}

void gemm(size_t m, size_t n, size_t k, const float* a, size_t lda, bool a_transposed, const float* b_packed, float* c,
          size_t ldc, const Epilogue& e, float* workspace) {
  const bool pack = packs_a(m, n, lda, a_transposed);
  const size_t a_row = a_transposed ? 1 : lda, a_depth = a_transposed ? lda : 1;
  // With one tile of rows nothing of B is read twice, so there is nothing to keep in cache by slicing k.
  const size_t slice = m <= kTileRows ? k : kDepth;
  for (size_t p0 = 0; p0 < k; p0 += slice) {
    const size_t depth = smaller(k - p0, slice);
    for (size_t i0 = 0; i0 < m; i0 += kRows) {
      const size_t rows = smaller(m - i0, kRows), tiles = divide_up(rows, kTileRows);
      // Rows are dealt out evenly: 15 rows are tiles of 8 and 7, not of 14 and 1.
      const auto tile_start = [&](size_t tile) { return tile * rows / tiles; };
      if (pack) {
        for (size_t tile = 0; tile < tiles; tile++) {
          const size_t from = tile_start(tile);
          pack_a(a + (i0 + from) * a_row + p0 * a_depth, a_row, a_depth, tile_start(tile + 1) - from, depth,
                 workspace + from * depth);
        }
      }
      for (size_t j0 = 0; j0 < n; j0 += kPanel) {
        const size_t columns = smaller(n - j0, kPanel), vectors = divide_up(columns, kLanes);
        for (size_t tile = 0; tile < tiles; tile++) {
          const size_t from = tile_start(tile), height = tile_start(tile + 1) - from;
          const Tile work{
              pack ? workspace + from * depth : a + (i0 + from) * a_row + p0 * a_depth,
              a_row, a_depth,
              b_packed + j0 * k + p0 * kPanel, depth,
              c + (i0 + from) * ldc + j0, ldc, columns,
              p0 == 0, p0 + depth == k,
              e.bias ? e.bias + j0 : nullptr,
          };
          (pack ? kTiles.packed : kTiles.strided)[height][vectors](work, e);
        }
      }
    }
  }
}

}  // namespace
}  // namespace cloister
