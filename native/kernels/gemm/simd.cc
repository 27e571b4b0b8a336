// C = act(alpha A B + bias + addend), f32.
//
// Products of some size are blocked as in Goto & van de Geijn, "Anatomy of High-Performance Matrix Multiplication",
// ACM TOMS 34(3), 2008: a block of A lies packed in L2 while slices of panels of B pass over it. B comes packed, or each
// slice of a panel is packed when the first tile needs it. Products of a few rows or columns read their large operand
// once, as it lies in memory: their bound is the bandwidth.
//
// An element is summed in one order, whatever part of C it is computed with: from one p to the next within slices of
// kDepth, and in the few forms below in as many partial sums as the form has, which the product's sizes choose.
#include "../epilogue.h"
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

// A tile of kTileRows x kTileVectors accumulators, the vectors of B and one broadcast fill the register file.
constexpr size_t kTileVectors = 2;
constexpr size_t kPanel = kTileVectors * kLanes;
constexpr size_t kTileRows = kLanes == 16 ? 14 : kLanes == 8 ? 6 : 12;
// A block of A, kRows x kDepth, takes about half of L2: of 1 MiB where there is AVX-512, of 256 KiB else.
constexpr size_t kDepth = kLanes == 16 ? 512 : 256;
constexpr size_t kRows = kTileRows * (kLanes == 16 ? 16 : kLanes == 8 ? 20 : 10);
// Columns of B that are packed at a time where B does not come packed and several blocks of A pass over them.
constexpr size_t kColumns = 32 * kPanel;
// Products of at most so many rows, or columns, have forms of their own.
constexpr size_t kFew = 4;

// ---- tiles ----

// Where one tile reads and writes.
struct Tile {
  const float* a;         // element (0, first p)
  size_t a_row, a_depth;  // steps of A from row to row, and from p to p
  const float* b;         // the first column at the first p
  size_t b_depth;         // from p to p
  size_t depth;
  float* c;
  size_t ldc, columns;  // columns <= Vectors * kLanes
  bool first, last;     // slices of k: the first overwrites C, the last applies the epilogue
  const float* bias;    // at this tile's first column, or null
  const float* addend;  // at this tile's first element, or null
  size_t addend_step;
  float alpha;
  float lo, hi;  // the result is clamped to these; a NaN passes
  const float* ahead;  // what is fetched into L2 meanwhile: ahead_step elements for each p
  size_t ahead_step;
};

// Where a mask costs nothing, there is one way for whole and other vectors.
inline F load_masked(const float* p, size_t n) { return kLanes == 16 ? load_first(p, n) : load_up_to(p, n); }
inline void store_masked(float* p, F v, size_t n) { kLanes == 16 ? store_first(p, v, n) : store_up_to(p, v, n); }

template <size_t Rows, size_t Vectors>
inline void write_tile(const Tile& t, F (&sum)[Rows][Vectors]) {
  const auto width = [&](size_t v) { return v + 1 < Vectors ? kLanes : t.columns - v * kLanes; };
  if (!t.first) {
#pragma GCC unroll 16
    for (size_t i = 0; i < Rows; i++) {
#pragma GCC unroll 4
      for (size_t v = 0; v < Vectors; v++) sum[i][v] += load_masked(t.c + i * t.ldc + v * kLanes, width(v));
    }
  }
  if (t.last) {
    const F alpha = broadcast(t.alpha), lo = broadcast(t.lo), hi = broadcast(t.hi);
#pragma GCC unroll 4
    for (size_t v = 0; v < Vectors; v++) {
      // Minus zero is the zero that changes no sum.
      const F bias = t.bias ? load_masked(t.bias + v * kLanes, width(v)) : broadcast(-0.0f);
#pragma GCC unroll 16
      for (size_t i = 0; i < Rows; i++) {
        F value = sum[i][v] * alpha + bias;
        if (t.addend) value += load_masked(t.addend + i * t.addend_step + v * kLanes, width(v));
        sum[i][v] = clip(value, lo, hi);
      }
    }
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < Rows; i++) {
#pragma GCC unroll 4
    for (size_t v = 0; v < Vectors; v++) store_masked(t.c + i * t.ldc + v * kLanes, sum[i][v], width(v));
  }
}

// Rows x Vectors accumulators, Chains of each: every Chains-th p is summed apart. In place, B is not read beyond the
// tile's last column.
template <size_t Rows, size_t Vectors, size_t Chains, bool InPlace>
void multiply_tile(const Tile& t) {
  // Into L2: until it is written, A and B have pushed it out of L1.
#pragma GCC unroll 16
  for (size_t i = 0; i < Rows; i++) {
    __builtin_prefetch(t.c + i * t.ldc, 1, 2);
    if (Vectors > 1) __builtin_prefetch(t.c + i * t.ldc + (Vectors - 1) * kLanes, 1, 2);
  }
  F sum[Chains][Rows][Vectors] = {};
  const float* a = t.a;
  const float* b = t.b;
  const float* ahead = t.ahead;
  const size_t a_row = t.a_row, a_depth = t.a_depth, b_depth = t.b_depth;
  const size_t rest = t.columns - (Vectors - 1) * kLanes;
  const auto column = [&](size_t v) {
    return InPlace && v + 1 == Vectors ? load_masked(b + v * kLanes, rest) : load(b + v * kLanes);
  };
  size_t p = 0;
  for (; p + Chains <= t.depth; p += Chains) {
    if (Chains == 1) {
      __builtin_prefetch(ahead, 0, 2);
      ahead += t.ahead_step;
    }
#pragma GCC unroll 4
    for (size_t chain = 0; chain < Chains; chain++) {
      F columns[Vectors];
#pragma GCC unroll 4
      for (size_t v = 0; v < Vectors; v++) columns[v] = column(v);
#pragma GCC unroll 16
      for (size_t i = 0; i < Rows; i++) {
        const F value = broadcast(a[i * a_row]);
#pragma GCC unroll 4
        for (size_t v = 0; v < Vectors; v++) sum[chain][i][v] = fma(value, columns[v], sum[chain][i][v]);
      }
      a += a_depth;
      b += b_depth;
    }
  }
  for (; Chains > 1 && p < t.depth; p++, a += a_depth, b += b_depth) {
#pragma GCC unroll 16
    for (size_t i = 0; i < Rows; i++) {
#pragma GCC unroll 4
      for (size_t v = 0; v < Vectors; v++) {
        sum[0][i][v] = fma(broadcast(a[i * a_row]), column(v), sum[0][i][v]);
      }
    }
  }
#pragma GCC unroll 4
  for (size_t chain = 1; chain < Chains; chain++) {
#pragma GCC unroll 16
    for (size_t i = 0; i < Rows; i++) {
#pragma GCC unroll 4
      for (size_t v = 0; v < Vectors; v++) sum[0][i][v] += sum[chain][i][v];
    }
  }
  write_tile(t, sum[0]);
}

// The same for tiles of A packed p by p before packed panels, whose steps are then constants.
template <size_t Rows, size_t Vectors>
void multiply_packed_tile(const Tile& t) {
  Tile packed = t;
  packed.a_row = 1;
  packed.a_depth = Rows;
  packed.b_depth = kPanel;
  multiply_tile<Rows, Vectors, 1, false>(packed);
}

// A form for few rows: enough partial sums to hide the latency of an FMA.
template <size_t Rows, size_t Vectors>
void multiply_few_rows(const Tile& t) {
  multiply_tile<Rows, Vectors, Rows == 1 ? 4 : Rows == 2 || kRegisters == 32 ? 2 : 1, false>(t);
}

using TileKernel = void (*)(const Tile&);
struct TileTable {
  TileKernel strided[kTileRows + 1][kTileVectors + 1];
  TileKernel packed[kTileRows + 1][kTileVectors + 1];
  TileKernel few[kFew + 1][kTileVectors + 1];
};
template <size_t Rows, size_t Vectors>
constexpr void fill_tiles(TileTable& table) {
  table.strided[Rows][Vectors] = multiply_tile<Rows, Vectors, 1, true>;
  table.packed[Rows][Vectors] = multiply_packed_tile<Rows, Vectors>;
  if constexpr (Rows <= kFew) table.few[Rows][Vectors] = multiply_few_rows<Rows, Vectors>;
  if constexpr (Vectors > 1) fill_tiles<Rows, Vectors - 1>(table);
  if constexpr (Vectors == kTileVectors && Rows > 1) fill_tiles<Rows - 1, kTileVectors>(table);
}
constexpr TileTable make_tiles() {
  TileTable table{};
  fill_tiles<kTileRows, kTileVectors>(table);
  return table;
}
constexpr TileTable kTiles = make_tiles();

// ---- packing ----

// out[p * step + i] = x[i * stride + p] for `rows` rows, at most Groups * kLanes, and `depth` p. Writes Groups whole
// vectors for each p, one p after another, so that what is beyond a p's rows is overwritten by the next.
template <size_t Groups>
inline void transpose_rows(const float* x, size_t stride, size_t rows, size_t depth, size_t step, float* out) {
  constexpr size_t kParts = kLanes / 4;
  size_t p = 0;
  for (; p + 4 <= depth; p += 4) {
    F column[Groups][4];
#pragma GCC unroll 3
    for (size_t g = 0; g < Groups; g++) {
#pragma GCC unroll 4
      for (size_t r = 0; r < 4; r++) {
        const float* from[kParts];
#pragma GCC unroll 4
        for (size_t q = 0; q < kParts; q++) {
          from[q] = x + smaller(g * kLanes + q * 4 + r, rows - 1) * stride + p;  // rows beyond the last repeat it
        }
        column[g][r] = load_quads(from);
      }
      transpose_quads(column[g]);
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < 4; r++) {
#pragma GCC unroll 3
      for (size_t g = 0; g < Groups; g++) store(out + (p + r) * step + g * kLanes, column[g][r]);
    }
  }
  for (; p < depth; p++) {
    for (size_t i = 0; i < Groups * kLanes; i++) out[p * step + i] = x[smaller(i, rows - 1) * stride + p];
  }
}

// A slice of a panel: `columns` columns of B, `depth` p, kPanel elements for each. Beyond the columns: anything finite
// or not, that no result takes part of.
void pack_slice(const float* b, size_t ldb, bool transposed, size_t columns, size_t depth, float* out) {
  if (transposed) {
    transpose_rows<kTileVectors>(b, ldb, columns, depth, kPanel, out);
    return;
  }
  for (size_t p = 0; p < depth; p++, b += ldb, out += kPanel) {
#pragma GCC unroll 2
    for (size_t at = 0; at < kPanel; at += kLanes) {
      store(out + at, load_up_to(b + at, columns > at ? smaller(columns - at, kLanes) : 0));
    }
  }
}

// A tile of A, p by p.
inline void pack_tile(const float* a, size_t lda, bool transposed, size_t rows, size_t depth, float* out) {
  if (!transposed) {
    transpose_rows<divide_up(kTileRows, kLanes)>(a, lda, rows, depth, rows, out);
    return;
  }
  for (size_t p = 0; p < depth; p++, a += lda, out += rows) {
    for (size_t i = 0; i < rows; i++) out[i] = a[i];
  }
}

// ---- a few columns, or a few rows before the columns of B: sums along k ----

// Packed operands of a few columns are those columns, one after another.
inline bool packs_columns(size_t k, size_t n) { return n <= kFew && k >= 2 * kLanes; }

struct Dots {
  const float* x;  // rows of A
  size_t x_step;
  const float* y;  // columns of B
  size_t y_step;
  size_t k;
  float* sums;  // sum (i, j) at i * row + j * column
  size_t row, column;
};

// The sums of Rows x Columns pairs of vectors along k, each in two partial sums.
template <size_t Rows, size_t Columns>
void dot_tile(const Dots& d, size_t i0, size_t j0) {
  const float* x = d.x + i0 * d.x_step;
  const float* y = d.y + j0 * d.y_step;
  F sum[2][Rows][Columns] = {};
  size_t p = 0;
  for (; p + 2 * kLanes <= d.k; p += 2 * kLanes) {
#pragma GCC unroll 2
    for (size_t part = 0; part < 2; part++) {
      F column[Columns];
#pragma GCC unroll 8
      for (size_t j = 0; j < Columns; j++) column[j] = load(y + j * d.y_step + p + part * kLanes);
#pragma GCC unroll 8
      for (size_t i = 0; i < Rows; i++) {
        const F row = load(x + i * d.x_step + p + part * kLanes);
#pragma GCC unroll 8
        for (size_t j = 0; j < Columns; j++) sum[part][i][j] = fma(row, column[j], sum[part][i][j]);
      }
    }
  }
  for (size_t part = 0; p < d.k; p += kLanes, part++) {
    const size_t width = smaller(d.k - p, kLanes);
#pragma GCC unroll 8
    for (size_t i = 0; i < Rows; i++) {
      const F row = load_up_to(x + i * d.x_step + p, width);
#pragma GCC unroll 8
      for (size_t j = 0; j < Columns; j++) {
        F& to = part == 0 ? sum[0][i][j] : sum[1][i][j];
        to = fma(row, load_up_to(y + j * d.y_step + p, width), to);
      }
    }
  }
  for (size_t i = 0; i < Rows; i++) {
    for (size_t j = 0; j < Columns; j++) {
      d.sums[(i0 + i) * d.row + (j0 + j) * d.column] = sum_lanes(sum[0][i][j] + sum[1][i][j]);
    }
  }
}

// Columns (at most kFew) against any number of rows, kPairs pairs at a time.
template <size_t Columns>
void dot_columns(const Dots& d, size_t rows) {
  constexpr size_t kPairs = kRegisters == 32 ? 8 : 4;
  constexpr size_t kTall = kPairs / Columns;
  size_t i = 0;
  for (; i + kTall <= rows; i += kTall) dot_tile<kTall, Columns>(d, i, 0);
  for (; i < rows; i++) dot_tile<1, Columns>(d, i, 0);
}
constexpr void (*kDots[])(const Dots&, size_t) = {nullptr, dot_columns<1>, dot_columns<2>, dot_columns<3>,
                                                  dot_columns<4>};

// ---- a few rows before the rows of B ----

// Each p adds a row of B to each row of C, four p at a time, over as many columns as stay in L1.
constexpr size_t kSweep = 4096;

template <size_t Rows>
void sweep(const GemmProduct& g, size_t column, size_t columns) {
  const size_t a_row = g.a_transposed ? 1 : g.lda, a_depth = g.a_transposed ? g.lda : 1;
  for (size_t p = 0; p < g.k; p += 4) {
    const size_t steps = smaller(g.k - p, 4);
    const float* b = g.b + p * g.ldb + column;
    float* c = g.c + column;
    if (steps < 4) {
      for (size_t s = 0; s < steps; s++, b += g.ldb) {
        for (size_t j = 0; j < columns; j += kLanes) {
          const size_t width = smaller(columns - j, kLanes);
          const F row = load_up_to(b + j, width);
          for (size_t i = 0; i < Rows; i++) {
            float* to = c + i * g.ldc + j;
            const F sum = p + s == 0 ? broadcast(0) : load_up_to(to, width);
            store_up_to(to, fma(broadcast(g.a[i * a_row + (p + s) * a_depth]), row, sum), width);
          }
        }
      }
      return;
    }
    F value[Rows][4];
    for (size_t i = 0; i < Rows; i++) {
      for (size_t s = 0; s < 4; s++) value[i][s] = broadcast(g.a[i * a_row + (p + s) * a_depth]);
    }
    const auto add = [&](size_t j, size_t width) __attribute__((always_inline)) {
      F row[4];
#pragma GCC unroll 4
      for (size_t s = 0; s < 4; s++) row[s] = load_up_to(b + s * g.ldb + j, width);
#pragma GCC unroll 4
      for (size_t i = 0; i < Rows; i++) {
        float* to = c + i * g.ldc + j;
        F sum = p == 0 ? broadcast(0) : load_up_to(to, width);
#pragma GCC unroll 4
        for (size_t s = 0; s < 4; s++) sum = fma(value[i][s], row[s], sum);
        store_up_to(to, sum, width);
      }
    };
    size_t j = 0;
    for (; j + kLanes <= columns; j += kLanes) add(j, kLanes);
    if (j < columns) add(j, columns - j);
  }
}

// ---- the whole ----

struct Bounds {
  float lo, hi;
};
inline Bounds bounds_of(const Epilogue& e) {
  const float infinity = __builtin_inff();
  if (e.activation == kActRelu) return {0, infinity};
  if (e.activation == kActClip) return {e.lo, e.hi};
  return {-infinity, infinity};
}

// What is left to do to sums that lie in C.
void finish(const GemmProduct& g, const GemmRange& range) {
  const Bounds bounds = bounds_of(g.epilogue);
  const F alpha = broadcast(g.alpha), lo = broadcast(bounds.lo), hi = broadcast(bounds.hi);
  for (size_t i = range.row; i < range.row + range.rows; i++) {
    for (size_t j = range.column; j < range.column + range.columns; j += kLanes) {
      const size_t width = smaller(range.column + range.columns - j, kLanes);
      F value = load_up_to(g.c + i * g.ldc + j, width) * alpha;
      if (g.epilogue.bias) value += load_up_to(g.epilogue.bias + j, width);
      if (g.addend) value += load_up_to(g.addend + i * g.addend_step + j, width);
      store_up_to(g.c + i * g.ldc + j, clip(value, lo, hi), width);
    }
  }
}

bool is_plain(const GemmProduct& g) {
  return g.alpha == 1 && !g.epilogue.bias && !g.addend && g.epilogue.activation == kActNone;
}

enum Form { kTiled, kFewRowsPacked, kSweeps, kDotsOfColumns, kDotsOfRows };
inline Form form_of(const GemmProduct& g) {
  const bool columns = g.layout == kGemmColumns || (g.layout == kGemmPacked && packs_columns(g.k, g.n));
  if (g.m <= kFew && g.layout == kGemmPacked && !columns) return kFewRowsPacked;
  if (g.m <= kFew && g.layout == kGemmRows) return kSweeps;
  if (g.a_transposed || g.k < 2 * kLanes) return kTiled;
  if (g.n <= kFew && (columns || g.layout == kGemmRows)) return kDotsOfColumns;
  return g.m <= kFew && columns ? kDotsOfRows : kTiled;
}

size_t gemm_packed_elements(size_t k, size_t n) {
  return packs_columns(k, n) ? k * n : divide_up(n, kPanel) * kPanel * k;
}

void gemm_pack_b(size_t k, size_t n, const float* b, size_t ldb, bool transposed, float* out) {
  if (packs_columns(k, n)) {
    for (size_t j = 0; j < n; j++) {
      for (size_t p = 0; p < k; p++) *out++ = transposed ? b[j * ldb + p] : b[p * ldb + j];
    }
    return;
  }
  for (size_t j = 0; j < n; j += kPanel, out += k * kPanel) {
    pack_slice(b + j * (transposed ? ldb : 1), ldb, transposed, smaller(n - j, kPanel), k, out);
  }
}

// Before few panels a tile of A is read so seldom that packing it costs more than it saves.
inline bool packs_a(size_t n) { return n > 3 * kPanel; }
// Rows of B are packed unless they are read by so few tiles that packing them costs more than it saves.
inline bool packs_b(size_t m, GemmLayout layout) { return layout == kGemmColumns || (layout == kGemmRows && m > 2 * kTileRows); }

constexpr size_t kSlack = kLanes;  // packing writes whole vectors
inline size_t a_elements(size_t m, size_t n, size_t k) {
  return packs_a(n) ? divide_up(smaller(m, kRows) * smaller(k, kDepth) + kSlack, 16) * 16 : 0;
}

size_t gemm_workspace_elements(size_t m, size_t n, size_t k, GemmLayout layout) {
  if (layout == kGemmPacked && packs_columns(k, n)) layout = kGemmColumns;
  const size_t panels = m <= kRows ? kPanel : smaller(divide_up(n, kPanel) * kPanel, kColumns);
  const size_t tiled = a_elements(m, n, k) + (packs_b(m, layout) ? panels * smaller(k, kDepth) : 0);
  return layout == kGemmRows && packs_columns(k, n) && k * n > tiled ? k * n : tiled;
}

void multiply_tiled(const GemmProduct& g, GemmLayout layout, const GemmRange& range, float* workspace) {
  const bool pack_a = packs_a(g.n), pack_b = packs_b(g.m, layout);
  float* const packed_a = workspace;
  float* const packed_b = workspace + a_elements(g.m, g.n, g.k);
  const size_t a_row = g.a_transposed ? 1 : g.lda, a_depth = g.a_transposed ? g.lda : 1;
  const size_t b_column = layout == kGemmRows ? 1 : g.ldb, b_depth = layout == kGemmRows ? g.ldb : 1;
  const Bounds bounds = bounds_of(g.epilogue);
  const bool plain = is_plain(g);
  // Slices of k and blocks of rows are dealt out evenly, and so are the rows of a block: 15 rows are tiles of 8 and 7,
  // not of 14 and 1.
  const size_t slices = divide_up(g.k, kDepth), blocks = divide_up(range.rows, kRows);
  // With one block of rows a slice of a panel is used up before the next is packed.
  const size_t chunk = pack_b && blocks > 1 ? kColumns : range.columns;
  for (size_t chunk0 = 0; chunk0 < range.columns; chunk0 += chunk) {
    const size_t chunk1 = smaller(range.columns, chunk0 + chunk);
    for (size_t slice = 0; slice < slices; slice++) {
      const size_t p0 = slice * g.k / slices, depth = (slice + 1) * g.k / slices - p0;
      for (size_t block = 0; block < blocks; block++) {
        const size_t i0 = range.row + block * range.rows / blocks;
        const size_t rows = range.row + (block + 1) * range.rows / blocks - i0, tiles = divide_up(rows, kTileRows);
        const auto tile_start = [&](size_t tile) { return tile * rows / tiles; };
        const float* a = g.a + i0 * a_row + p0 * a_depth;
        if (pack_a) {
          for (size_t tile = 0; tile < tiles; tile++) {
            const size_t from = tile_start(tile);
            pack_tile(a + from * a_row, g.lda, g.a_transposed, tile_start(tile + 1) - from, depth,
                      packed_a + from * depth);
          }
        }
        for (size_t j = chunk0; j < chunk1; j += kPanel) {
          const size_t j0 = range.column + j;
          const size_t columns = smaller(chunk1 - j, kPanel), vectors = divide_up(columns, kLanes);
          const float* b = g.b + j0 * b_column + p0 * b_depth;
          if (pack_b) {
            float* slot = blocks > 1 ? packed_b + (j - chunk0) * depth : packed_b;
            if (block == 0) pack_slice(b, g.ldb, layout == kGemmColumns, columns, depth, slot);
            b = slot;
          } else if (layout == kGemmPacked) {
            b = g.b + j0 * g.k + p0 * kPanel;
          }
          // The tiles fetch the next panel's slice together.
          const size_t share = divide_up(kPanel, tiles);
          const float* next = b + kPanel * (layout == kGemmPacked ? g.k : depth);
          for (size_t tile = 0; tile < tiles; tile++) {
            const size_t from = tile_start(tile), height = tile_start(tile + 1) - from;
            const Tile work{
                pack_a ? packed_a + from * depth : a + from * a_row,
                pack_a ? 1 : a_row,
                pack_a ? height : a_depth,
                b,
                layout == kGemmRows && !pack_b ? g.ldb : kPanel,
                depth,
                g.c + (i0 + from) * g.ldc + j0,
                g.ldc,
                columns,
                slice == 0,
                slice + 1 == slices && !plain,
                g.epilogue.bias ? g.epilogue.bias + j0 : nullptr,
                g.addend ? g.addend + (i0 + from) * g.addend_step + j0 : nullptr,
                g.addend_step,
                g.alpha,
                bounds.lo,
                bounds.hi,
                next + tile * depth * share,
                share,
            };
            const bool packed = pack_a && (pack_b || layout == kGemmPacked);
            (packed ? kTiles.packed : kTiles.strided)[height][vectors](work);
          }
        }
      }
    }
  }
}

void gemm_multiply(const GemmProduct& g, const GemmRange& range, float* workspace) {
  const size_t a_row = g.a_transposed ? 1 : g.lda, a_depth = g.a_transposed ? g.lda : 1;
  GemmLayout layout = g.layout;
  GemmProduct columns = g;
  if (layout == kGemmPacked && packs_columns(g.k, g.n)) {
    columns.layout = layout = kGemmColumns;
    columns.ldb = g.k;
  }
  switch (form_of(g)) {
    case kTiled: multiply_tiled(columns, layout, range, workspace); return;
    case kFewRowsPacked: {
      const Bounds bounds = bounds_of(g.epilogue);
      for (size_t j = range.column; j < range.column + range.columns; j += kPanel) {
        const size_t width = smaller(range.column + range.columns - j, kPanel);
        const Tile work{
            g.a, a_row, a_depth, g.b + j * g.k, kPanel, g.k, g.c + j, g.ldc, width, true, !is_plain(g),
            g.epilogue.bias ? g.epilogue.bias + j : nullptr, g.addend ? g.addend + j : nullptr, g.addend_step, g.alpha,
            bounds.lo, bounds.hi, nullptr, 0,
        };
        kTiles.few[g.m][divide_up(width, kLanes)](work);
      }
      return;
    }
    case kSweeps:
      for (size_t j = 0; j < range.columns; j += kSweep / g.m) {
        const size_t column = range.column + j, width = smaller(range.columns - j, kSweep / g.m);
        switch (g.m) {
          case 1: sweep<1>(g, column, width); break;
          case 2: sweep<2>(g, column, width); break;
          case 3: sweep<3>(g, column, width); break;
          default: sweep<4>(g, column, width); break;
        }
      }
      break;
    case kDotsOfColumns:
      if (layout == kGemmRows) {
        gemm_pack_b(g.k, g.n, g.b, g.ldb, false, workspace);
        columns.b = workspace;
        columns.ldb = g.k;
      }
      kDots[g.n]({g.a + range.row * g.lda, g.lda, columns.b, columns.ldb, g.k, g.c + range.row * g.ldc, g.ldc, 1}, range.rows);
      break;
    case kDotsOfRows:
      kDots[g.m]({g.b + range.column * columns.ldb, columns.ldb, g.a, g.lda, g.k, g.c + range.column, 1, g.ldc},
                 range.columns);
      break;
  }
  if (!is_plain(g)) finish(g, range);
}

}  // namespace

constinit const GemmKernels gemm = {kTileRows, kPanel, kFew, gemm_packed_elements, gemm_pack_b,
                                    gemm_workspace_elements, gemm_multiply};

}  // namespace cloister::CLOISTER_ROW
