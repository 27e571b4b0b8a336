// Products, convolutions and elementwise work on bytes. See table.h for what they compute and lanes.h for the cells that
// sums are made of.
//
// With a' = a ^ flip and b' = (b ^ flip) - 128, their zero points za and zb alike, the sum over p of (a' - za)(b' - zb)
// is sum a'b' - za sum b' - zb sum a' + k za zb: the second and the last term are one number per column, known before
// the product, and the third is the sum of a row times the column's zero point. A convolution is the product of the
// rows that its windows see (im2col), with za where a window leaves the image.
#include "../row.h"
#include "lanes.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

// The accumulators, the vectors of B, one of A and what dot() needs fill the register file.
constexpr size_t kTileVectors = 2;
constexpr size_t kPanel = kTileVectors * kLanes;
constexpr size_t kTileRows = kLanes == 16 ? kGroup == 4 ? 14 : 12 : kLanes == 8 ? 5 : 10;
constexpr size_t kRows = kTileRows * 8;
constexpr size_t kGroupBytes = kPanel * 4;

inline size_t round_up(size_t n, size_t unit) { return divide_up(n, unit) * unit; }
inline size_t groups_of(size_t k) { return divide_up(k, kGroup); }
inline size_t panels_of(size_t n) { return divide_up(n, kPanel); }
inline int32_t zero_of_a(const Int8Operand& a) { return (a.zeros ? a.zeros[0] : 0) ^ a.flip; }
inline int32_t zero_of_b(const Int8Operand& b, size_t j) {
  return ((b.zeros ? b.zeros[b.per_column ? j : 0] : 0) ^ b.flip) - 128;
}

// ---- products ----

// Where one tile reads and writes. Columns of `offsets`, `zeros` and `factors` are padded to whole panels.
struct Tile {
  const uint8_t* a;
  size_t a_row;  // bytes from row to row
  const uint8_t* b;
  size_t groups;
  const uint32_t* offsets;
  const uint32_t* row_sums;  // null: zero points of B are all 0
  const uint32_t* zeros;
  const float* factors;
  const Int8Output* output;
  uint8_t* c;
  size_t ldc;  // bytes
  size_t columns;
};

template <size_t Rows, size_t Vectors>
inline void store_tile(const Tile& t, U (&sum)[Rows][Vectors]) {
  const Int8Output& out = *t.output;
  if (!out.factors) {
#pragma GCC unroll 16
    for (size_t i = 0; i < Rows; i++) {
#pragma GCC unroll 2
      for (size_t v = 0; v < Vectors; v++) {
        float* c = reinterpret_cast<float*>(t.c + i * t.ldc) + v * kLanes;
        store_up_to(c, (F)sum[i][v], smaller(t.columns - v * kLanes, kLanes));
      }
    }
    return;
  }
  const uint8_t flip = out.least < 0 ? 0x80 : 0;
  const int32_t zero = out.zero + flip;
  const F lo = broadcast(static_cast<float>(out.least - out.zero)), hi = broadcast(static_cast<float>(out.most - out.zero));
  F factor[Vectors];
#pragma GCC unroll 2
  for (size_t v = 0; v < Vectors; v++) factor[v] = load(t.factors + v * kLanes);
  const Bytes turn = bytes_of(flip);
#pragma GCC unroll 8
  for (size_t i = 0; i < Rows; i += 2) {
    I y[4];
#pragma GCC unroll 2
    for (size_t r = 0; r < 2; r++) {
      const size_t row = i + r < Rows ? i + r : i;
#pragma GCC unroll 2
      for (size_t v = 0; v < 2; v++) {
        y[2 * r + v] = v < Vectors ? quantised(sum[row][v < Vectors ? v : 0], factor[v < Vectors ? v : 0], lo, hi) : (I){};
      }
    }
    const Bytes rows = in_order(join(y[0], y[1], y[2], y[3], zero)) ^ turn;
    uint8_t* c = t.c + i * t.ldc;
    store_first_bytes(c, rows, t.columns);  // at most half of the vector
    if (i + 1 < Rows) {
      store_second_half(c + t.ldc, rows, t.columns);
    }
  }
}
// A tile of few rows has too few sums to hide the latency of dot(): it sums every Chains-th group apart.
template <size_t Rows, size_t Vectors>
void multiply_tile(const Tile& t) {
  constexpr size_t kChains = Rows * Vectors >= 8 ? 1 : Rows * Vectors >= 4 ? 2 : 4;
  U sum[kChains][Rows][Vectors] = {};
#pragma GCC unroll 16
  for (size_t i = 0; i < Rows; i++) {
#pragma GCC unroll 2
    for (size_t v = 0; v < Vectors; v++) sum[0][i][v] = load_lanes(t.offsets + v * kLanes);
  }
  const uint8_t* a = t.a;
  const uint8_t* b = t.b;
  const size_t a_row = t.a_row;
  size_t g = 0;
  for (; g + kChains <= t.groups; g += kChains) {
#pragma GCC unroll 4
    for (size_t chain = 0; chain < kChains; chain++, a += 4, b += kGroupBytes) {
      U columns[Vectors];
#pragma GCC unroll 2
      for (size_t v = 0; v < Vectors; v++) columns[v] = load_lanes(b + v * kLanes * 4);
#pragma GCC unroll 16
      for (size_t i = 0; i < Rows; i++) {
        const U value = lanes_of(word_at(a + i * a_row));
#pragma GCC unroll 2
        for (size_t v = 0; v < Vectors; v++) dot(sum[chain][i][v], value, columns[v]);
      }
    }
  }
  for (; kChains > 1 && g < t.groups; g++, a += 4, b += kGroupBytes) {
#pragma GCC unroll 16
    for (size_t i = 0; i < Rows; i++) {
#pragma GCC unroll 2
      for (size_t v = 0; v < Vectors; v++) dot(sum[0][i][v], lanes_of(word_at(a + i * a_row)), load_lanes(b + v * kLanes * 4));
    }
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < Rows; i++) {
#pragma GCC unroll 2
    for (size_t v = 0; v < Vectors; v++) {
#pragma GCC unroll 4
      for (size_t chain = 1; chain < kChains; chain++) sum[0][i][v] += sum[chain][i][v];
    }
  }
  if (t.row_sums) {
#pragma GCC unroll 2
    for (size_t v = 0; v < Vectors; v++) {
      const U zero = load_lanes(t.zeros + v * kLanes);
#pragma GCC unroll 16
      for (size_t i = 0; i < Rows; i++) sum[0][i][v] -= lanes_of(t.row_sums[i]) * zero;
    }
  }
  store_tile<Rows, Vectors>(t, sum[0]);
}

using TileKernel = void (*)(const Tile&);
struct TileTable {
  TileKernel of[kTileRows + 1][kTileVectors + 1];
};
template <size_t Rows>
constexpr void fill_tiles(TileTable& table) {
  table.of[Rows][1] = multiply_tile<Rows, 1>;
  table.of[Rows][2] = multiply_tile<Rows, 2>;
  if constexpr (Rows > 1) fill_tiles<Rows - 1>(table);
}
constexpr TileTable make_tiles() {
  TileTable table{};
  fill_tiles<kTileRows>(table);
  return table;
}
constexpr TileTable kTiles = make_tiles();

// Packed: panel by panel, group by group, the cells of each column; then the sum of each column.
inline size_t cells_bytes(size_t k, size_t n) { return panels_of(n) * groups_of(k) * kGroupBytes; }
size_t packed_bytes(size_t k, size_t n) { return cells_bytes(k, n) + panels_of(n) * kPanel * sizeof(uint32_t); }

#if defined(__x86_64__)
// Sixteen columns of up to kGroup rows, each kLanes columns apart, as cells.
inline void pack_sixteen(const uint8_t* const* rows, uint8_t turn, void* out) {
  const __m128i flip = _mm_set1_epi8(static_cast<char>(turn));
  __m128i r[kGroup];
#pragma GCC unroll 4
  for (size_t i = 0; i < kGroup; i++) {
    r[i] = rows[i] ? _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i])), flip) : _mm_setzero_si128();
  }
  const __m128i low = _mm_unpacklo_epi8(r[0], r[1]), high = _mm_unpackhi_epi8(r[0], r[1]);
#if defined(__AVX512VNNI__)
  const __m128i low2 = _mm_unpacklo_epi8(r[2], r[3]), high2 = _mm_unpackhi_epi8(r[2], r[3]);
  __m128i* to = static_cast<__m128i*>(out);
  _mm_storeu_si128(to, _mm_unpacklo_epi16(low, low2));
  _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(low, low2));
  _mm_storeu_si128(to + 2, _mm_unpacklo_epi16(high, high2));
  _mm_storeu_si128(to + 3, _mm_unpackhi_epi16(high, high2));
#else
  __m256i* to = static_cast<__m256i*>(out);
  _mm256_storeu_si256(to, _mm256_cvtepi8_epi16(low));
  _mm256_storeu_si256(to + 1, _mm256_cvtepi8_epi16(high));
#endif
}
#endif

void pack(const Int8Matrix& s, const uint8_t* b, uint8_t flip, void* out) {
  const size_t k = s.taps * s.depth, groups = groups_of(k);
  const uint8_t turn = flip ^ 0x80;
  const auto row_at = [&](size_t p) { return b + p / s.depth * s.tap_step + p % s.depth * s.depth_step; };
  CellB* to = static_cast<CellB*>(out);
  uint32_t* sums = reinterpret_cast<uint32_t*>(static_cast<uint8_t*>(out) + cells_bytes(k, s.n));
  const U ones = lanes_of(kGroup == 4 ? 0x01010101u : 0x00010001u);
  for (size_t j0 = 0; j0 < s.n; j0 += kPanel) {
    const size_t columns = smaller(s.n - j0, kPanel);
    U total[kTileVectors] = {};
    for (size_t g = 0; g < groups; g++, to += kPanel * kGroup) {
      const uint8_t* rows[kGroup];
      for (size_t i = 0; i < kGroup; i++) rows[i] = g * kGroup + i < k ? row_at(g * kGroup + i) + j0 * s.column_step : nullptr;
#if defined(__x86_64__)
      if (s.column_step == 1 && columns == kPanel) {
        for (size_t j = 0; j < kPanel; j += 16) {
          const uint8_t* at[kGroup];
          for (size_t i = 0; i < kGroup; i++) at[i] = rows[i] ? rows[i] + j : nullptr;
          pack_sixteen(at, turn, to + j * kGroup);
        }
      } else
#endif
      {
        for (size_t j = 0; j < kPanel; j++) {
          for (size_t i = 0; i < kGroup; i++) {
            to[j * kGroup + i] = j < columns && rows[i] ? static_cast<int8_t>(rows[i][j * s.column_step] ^ turn) : 0;
          }
        }
      }
      for (size_t v = 0; v < kTileVectors; v++) dot(total[v], ones, load_lanes(to + v * kLanes * kGroup));
    }
    for (size_t v = 0; v < kTileVectors; v++) store_lanes(sums + j0 + v * kLanes, total[v]);
  }
}

// The bytes of `count` cells of A. Any row of cells may be read up to a multiple of four bytes.
inline size_t row_bytes(size_t k) {
  const size_t bytes = round_up(groups_of(k) * 4, 64);
  // Rows that start at the same place of their pages would push one another out of L1.
  return bytes % 2048 == 0 ? bytes + 64 : bytes;
}

inline void copy_cells(CellA* out, const uint8_t* x, size_t count, uint8_t flip) {
#if defined(__AVX512VNNI__)
  for (size_t i = 0; i < count; i += 64) {
    store_first_bytes(out + i, load_first_bytes(x + i, count - i) ^ bytes_of(flip), count - i);
  }
#else
  for (size_t i = 0; i < count; i++) out[i] = x[i] ^ flip;
#endif
}

inline void fill_cells(CellA* out, size_t count, int32_t value) {
#if defined(__AVX512VNNI__)
  const Bytes v = bytes_of(static_cast<uint8_t>(value));
  for (size_t i = 0; i < count; i += 64) store_first_bytes(out + i, v, count - i);
#else
  for (size_t i = 0; i < count; i++) out[i] = static_cast<CellA>(value);
#endif
}

// The sum of a row of cells.
inline uint32_t sum_of(const uint8_t* row, size_t k) {
#if defined(__AVX512VNNI__)
  __m512i total = _mm512_setzero_si512();
  for (size_t i = 0; i < k; i += 64) {
    total = _mm512_add_epi64(total, _mm512_sad_epu8((__m512i)load_first_bytes(row + i, k - i), _mm512_setzero_si512()));
  }
  const __m256i half = _mm256_add_epi64(_mm512_maskz_extracti64x4_epi64(0xf, total, 0), _mm512_maskz_extracti64x4_epi64(0xf, total, 1));
  const __m128i quarter = _mm_add_epi64(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  return static_cast<uint32_t>(_mm_cvtsi128_si64(quarter) + _mm_extract_epi64(quarter, 1));
#else
  uint32_t total = 0;
  const CellA* cells = reinterpret_cast<const CellA*>(row);
  for (size_t i = 0; i < k; i++) total += static_cast<uint32_t>(cells[i]);
  return total;
#endif
}

// Parameters of the columns of one product, and room for a block of rows.
struct Room {
  uint32_t* offsets;
  uint32_t* zeros;
  float* factors;
  uint32_t* row_sums;
  uint8_t* rows;
};
inline size_t column_bytes(size_t n) { return panels_of(n) * kPanel * 4; }
inline size_t room_bytes(size_t m, size_t n, size_t k) {
  return 3 * round_up(column_bytes(n), 64) + kRows * 4 + smaller(m, kRows) * row_bytes(k) + 64;
}
inline Room lay_out(void* workspace, size_t n) {
  uint8_t* at = static_cast<uint8_t*>(workspace);
  const size_t columns = round_up(column_bytes(n), 64);
  return {reinterpret_cast<uint32_t*>(at), reinterpret_cast<uint32_t*>(at + columns),
          reinterpret_cast<float*>(at + 2 * columns), reinterpret_cast<uint32_t*>(at + 3 * columns),
          at + 3 * columns + round_up(kRows * 4, 64)};
}

// Columns of a product whose rows somebody else brings.
struct Columns {
  size_t n, k, from, to;
  const uint8_t* packed;
  Room room;
  bool sums_rows;
  const Int8Output* output;
  uint8_t* c;
  size_t ldc;  // bytes
};

inline Columns columns_of(const Int8Operand& a, const Int8Operand& b, const uint8_t* packed, const int32_t* bias,
                          const Int8Output& output, const float* factors, size_t n, size_t k, size_t from, size_t to,
                          void* workspace) {
  const Room room = lay_out(workspace, n);
  const uint32_t* sums = reinterpret_cast<const uint32_t*>(packed + cells_bytes(k, n));
  const uint32_t za = static_cast<uint32_t>(zero_of_a(a));
  uint32_t any = 0;
  const size_t end = smaller(round_up(to, kPanel), panels_of(n) * kPanel);
  for (size_t j = from; j < end; j++) {
    const uint32_t zb = j < n ? static_cast<uint32_t>(zero_of_b(b, j)) : 0;
    any |= zb;
    room.zeros[j] = zb;
    room.offsets[j] = (bias && j < n ? static_cast<uint32_t>(bias[j]) : 0) - za * sums[j] + static_cast<uint32_t>(k) * za * zb;
    if (factors) room.factors[j] = j < n ? factors[output.per_column ? j : 0] : 0;
  }
  return {n, k, from, to, packed, room, any != 0, &output, nullptr, 0};
}

// `count` rows of cells, `a_row` bytes apart, times the columns, into rows of C from `row` on.
inline void multiply_rows(const Columns& s, const uint8_t* a, size_t a_row, size_t count, size_t row) {
  if (s.sums_rows) {
    for (size_t i = 0; i < count; i++) s.room.row_sums[i] = sum_of(a + i * a_row, s.k);
  }
  const size_t groups = groups_of(s.k), tiles = divide_up(count, kTileRows);
  const size_t element = s.output->factors ? 1 : 4;
  for (size_t j0 = s.from; j0 < s.to; j0 += kPanel) {
    const size_t columns = smaller(s.n - j0, kPanel), vectors = divide_up(columns, kLanes);
    for (size_t tile = 0; tile < tiles; tile++) {
      // Rows are dealt out evenly.
      const size_t first = tile * count / tiles, height = (tile + 1) * count / tiles - first;
      const Tile work{
          a + first * a_row, a_row, s.packed + j0 * groups * 4, groups,
          s.room.offsets + j0, s.sums_rows ? s.room.row_sums + first : nullptr, s.room.zeros + j0, s.room.factors + j0,
          s.output, s.c + (row + first) * s.ldc + j0 * element, s.ldc, columns,
      };
      kTiles.of[height][vectors](work);
    }
  }
}

size_t product_workspace(size_t m, size_t n, size_t k) { return room_bytes(m, n, k); }

void multiply(const Int8Product& p, size_t first, size_t last, size_t from, size_t to, void* workspace) {
  Columns s = columns_of(p.a, p.b, p.b.data, p.bias, p.output, p.output.factors, p.n, p.k, from, to, workspace);
  s.c = static_cast<uint8_t*>(p.c);
  s.ldc = p.ldc * (p.output.factors ? 1 : 4);
  const bool in_place = kGroup == 4 && p.a.flip == 0 && p.k % kGroup == 0 && p.lda % 2048 != 0;
  for (size_t row = first; row < last; row += kRows) {
    const size_t count = smaller(last - row, kRows);
    const uint8_t* a = p.a.data + row * p.lda;
    if (in_place) {
      multiply_rows(s, a, p.lda, count, row);
      continue;
    }
    const size_t step = row_bytes(p.k), padding = groups_of(p.k) * kGroup - p.k;
    for (size_t i = 0; i < count; i++) {
      CellA* out = reinterpret_cast<CellA*>(s.room.rows + i * step);
      copy_cells(out, a + i * p.lda, p.k, p.a.flip);
      fill_cells(out + p.k, padding, 0);
    }
    multiply_rows(s, s.room.rows, step, count, row);
  }
}

// ---- convolution ----

inline bool is_pointwise(const Window& w) {
  return w.kernel_h == 1 && w.kernel_w == 1 && w.stride_h == 1 && w.stride_w == 1 && w.pad_top == 0 && w.pad_left == 0 &&
      w.in_h == w.out_h && w.in_w == w.out_w;
}
inline size_t conv_depth(const Window& w) { return size_t{w.in_c / w.groups} * w.kernel_h * w.kernel_w; }

size_t conv_workspace(const Window& w) {
  return room_bytes(size_t{w.batch} * w.out_h * w.out_w, w.out_c / w.groups, conv_depth(w));
}

// What the window at output place (oh, ow) of an image sees of a group, tap by tap, as cells.
inline void gather_window(const Int8Conv& c, size_t image, size_t oh, size_t ow, size_t group, int32_t zero,
                          CellA* out) {
  const Window& w = c.window;
  const size_t depth = w.in_c / w.groups;
  const uint8_t* x = c.x.data + image * w.in_h * w.in_w * w.in_c + group * depth;
  // Both wrap before the image, and are then too large.
  const size_t left = ow * w.stride_w - w.pad_left;
  for (size_t kh = 0; kh < w.kernel_h; kh++) {
    const size_t ih = oh * w.stride_h + kh * w.dilation_h - w.pad_top;
    if (ih >= w.in_h) {
      fill_cells(out, w.kernel_w * depth, zero);
      out += w.kernel_w * depth;
      continue;
    }
    const uint8_t* line = x + ih * w.in_w * w.in_c;
    if (w.groups == 1 && w.dilation_w == 1 && left < w.in_w && w.kernel_w <= w.in_w - left) {
      copy_cells(out, line + left * w.in_c, w.kernel_w * depth, c.x.flip);
      out += w.kernel_w * depth;
      continue;
    }
    for (size_t kw = 0; kw < w.kernel_w; kw++, out += depth) {
      const size_t iw = left + kw * w.dilation_w;
      if (iw >= w.in_w) fill_cells(out, depth, zero);
      else copy_cells(out, line + iw * w.in_c, depth, c.x.flip);
    }
  }
}

void convolve(const Int8Conv& c, size_t first, size_t last, void* workspace) {
  const Window& w = c.window;
  const size_t n = w.out_c / w.groups, k = conv_depth(w), depth = w.in_c / w.groups, element = c.output.factors ? 1 : 4;
  const bool in_place = kGroup == 4 && is_pointwise(w) && c.x.flip == 0 && k % kGroup == 0 && w.in_c % 2048 != 0;
  const int32_t zero = zero_of_a(c.x);
  for (size_t group = 0; group < w.groups; group++) {
    const uint8_t* packed = c.w.data + group * packed_bytes(k, n);
    Int8Operand weights = c.w;
    if (weights.zeros && weights.per_column) weights.zeros += group * n;
    const float* factors = c.output.factors && c.output.per_column ? c.output.factors + group * n : c.output.factors;
    Columns s = columns_of(c.x, weights, packed, c.bias ? c.bias + group * n : nullptr, c.output, factors, n, k, 0, n, workspace);
    s.c = static_cast<uint8_t*>(c.y) + group * n * element;
    s.ldc = w.out_c * element;
    for (size_t row = first; row < last; row += kRows) {
      const size_t count = smaller(last - row, kRows);
      if (in_place) {
        multiply_rows(s, c.x.data + row * w.in_c + group * depth, w.in_c, count, row);
        continue;
      }
      const size_t step = row_bytes(k), padding = groups_of(k) * kGroup - k;
      size_t ow = row % w.out_w, oh = row / w.out_w % w.out_h, image = row / w.out_w / w.out_h;
      for (size_t i = 0; i < count; i++) {
        CellA* out = reinterpret_cast<CellA*>(s.room.rows + i * step);
        gather_window(c, image, oh, ow, group, zero, out);
        if (padding) fill_cells(out + k, padding, 0);
        if (++ow < w.out_w) continue;
        ow = 0;
        if (++oh < w.out_h) continue;
        oh = 0;
        image++;
      }
      multiply_rows(s, s.room.rows, step, count, row);
    }
  }
}

// ---- depthwise ----

// A block of channels, four to a 32-bit lane of four vectors.
constexpr size_t kBlock = 4 * kLanes;

// Centred weights are from -255 to 255. With VNNI they are sums of up to three signed bytes, of which the second is
// seldom anything and the third only for 255. Else there are two parts: the even and the odd bytes of a lane, as 16-bit
// integers.
constexpr size_t kParts = kGroup == 4 ? 3 : 2;
constexpr size_t kPartBytes = 4 * sizeof(Bytes);
constexpr size_t kQuadBytes = kParts * kPartBytes;

inline void dot_part(U (&sum)[4], const Quads& x, const uint8_t* w) {
#pragma GCC unroll 4
  for (size_t v = 0; v < 4; v++) dot(sum[v], x.part[v], load_lanes(w + v * sizeof(U)));
}

template <size_t Parts>
inline void dot_quads(U (&sum)[4], const Quads& x, const uint8_t* w) {
  if constexpr (kGroup == 4) {
#pragma GCC unroll 4
    for (size_t part = 0; part < Parts; part++) dot_part(sum, x, w + part * kPartBytes);
  } else {
    Quads even = x, odd = x;
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; v++) {
      even.part[v] = x.part[v] & 0x00ff00ff;
      odd.part[v] = x.part[v] >> 8 & 0x00ff00ff;
    }
    dot_part(sum, even, w);
    dot_part(sum, odd, w + kPartBytes);
  }
}

// Which channel of its block lane `lane` of part `v` holds.
inline size_t channel_of(size_t v, size_t lane) { return lane / 4 * 16 + v * 4 + lane % 4; }

// A column of the kernel is divide_up(kernel_h, 4) quads.
inline size_t column_quads(const Window& w) { return divide_up(w.kernel_h, 4); }
inline size_t block_quads(const Window& w) { return w.kernel_w * column_quads(w); }
inline size_t blocks_of(const Window& w) { return divide_up(w.out_c, kBlock); }

// Packed, block by block: one vector of which the first word is the number of parts that are not all 0; the sums of the
// weights of each channel, in the order of the lanes; the weights of each quad, part by part.
inline size_t block_bytes(const Window& w) { return sizeof(Bytes) + kBlock * 4 + block_quads(w) * kQuadBytes; }
size_t depthwise_bytes(const Window& w) { return round_up(blocks_of(w) * block_bytes(w), 64); }

void depthwise_pack(const Window& w, const Int8Operand& weights, void* out) {
  const size_t taps = size_t{w.kernel_h} * w.kernel_w, quads_high = column_quads(w);
  uint8_t* to = static_cast<uint8_t*>(out);
  for (size_t c0 = 0; c0 < w.out_c; c0 += kBlock) {
    uint32_t parts = 1;
    uint32_t* head = reinterpret_cast<uint32_t*>(to);
    uint32_t* sums = reinterpret_cast<uint32_t*>(to + sizeof(Bytes));
    uint8_t* cells = to + sizeof(Bytes) + kBlock * 4;
    for (size_t i = 0; i < sizeof(Bytes) / 4; i++) head[i] = 0;
    for (size_t i = 0; i < kBlock; i++) sums[i] = 0;
    for (size_t kw = 0; kw < w.kernel_w; kw++) {
      for (size_t q = 0; q < quads_high; q++, cells += kQuadBytes) {
        for (size_t v = 0; v < 4; v++) {
          for (size_t lane = 0; lane < kLanes; lane++) {
            const size_t channel = c0 + channel_of(v, lane);
            for (size_t i = 0; i < 4; i++) {
              const size_t kh = q * 4 + i;
              int32_t value = 0;
              if (channel < w.out_c && kh < w.kernel_h) {
                const uint8_t byte = weights.data[channel * taps + kh * w.kernel_w + kw] ^ weights.flip;
                const uint8_t zero = (weights.zeros ? weights.zeros[weights.per_column ? channel : 0] : 0) ^ weights.flip;
                value = byte - zero;
              }
              sums[v * kLanes + lane] += static_cast<uint32_t>(value);
              if constexpr (kGroup == 4) {
                for (size_t part = 0; part < kParts; part++) {
                  const int32_t near = value < -128 ? -128 : value > 127 ? 127 : value;
                  reinterpret_cast<int8_t*>(cells)[((part * 4 + v) * kLanes + lane) * 4 + i] = static_cast<int8_t>(near);
                  if (near && parts <= part) parts = static_cast<uint32_t>(part + 1);
                  value -= near;
                }
              } else {
                int16_t* part = reinterpret_cast<int16_t*>(cells);
                part[((i % 2 * 4 + v) * kLanes + lane) * 2 + i / 2] = static_cast<int16_t>(value);
              }
            }
          }
        }
      }
    }
    head[0] = parts;
    to += block_bytes(w);
  }
}

// The offsets and factors of a block in the order of the lanes, a line of zero points, then where each kernel row starts
// and its step.
size_t depthwise_workspace(const Window& w) {
  return 2 * kBlock * 4 + kBlock + size_t{w.kernel_h} * (sizeof(void*) + sizeof(size_t));
}

// One row of outputs of one block of channels.
struct Strip {
  const uint8_t* const* rows;  // the kernel's rows at column 0 of the image, or the line of zero points
  const size_t* steps;         // bytes from column to column of a row: 0 on the line of zero points
  const uint8_t* outside;      // the line of zero points
  const uint8_t* weights;
  const uint32_t* offsets;
  const float* factors;
  const Int8Output* output;
  uint8_t* y;
  size_t channels;  // of the block
  uint8_t flip;
  size_t parts;
};

// What becomes of the sums of a block, in registers.
struct Finish {
  bool bytes;
  F lo, hi;
  int32_t zero;
  Bytes turn;
};
inline Finish finish_of(const Int8Output& out) {
  const uint8_t flip = out.least < 0 ? 0x80 : 0;
  return {out.factors != nullptr, broadcast(static_cast<float>(out.least - out.zero)),
          broadcast(static_cast<float>(out.most - out.zero)), out.zero + flip, bytes_of(flip)};
}

template <bool Whole>
inline void store_quads(const Finish& f, const float* factors, U (&sum)[4], uint8_t* y, size_t channels) {
  if (!f.bytes) {
    for (size_t v = 0; v < 4; v++) {
      for (size_t lane = 0; lane < kLanes; lane++) {
        const size_t channel = channel_of(v, lane);
        if (channel < channels) reinterpret_cast<uint32_t*>(y)[channel] = sum[v][lane];
      }
    }
    return;
  }
  I v[4];
#pragma GCC unroll 4
  for (size_t i = 0; i < 4; i++) v[i] = quantised(sum[i], load(factors + i * kLanes), f.lo, f.hi);
  const Bytes bytes = join(v[0], v[1], v[2], v[3], f.zero) ^ f.turn;
  if (Whole) store_bytes(y, bytes);
  else store_first_bytes(y, bytes, channels);
}

template <bool Whole>
inline Bytes load_channels(const uint8_t* x, size_t channels) {
  return Whole ? load_bytes(x) : load_first_bytes(x, channels);
}

// Any kernel: each output gathers its columns anew.
template <bool Whole, size_t Parts>
void slide_any(const Strip& s, const Window& w, size_t element) {
  const size_t high = column_quads(w);
  const Finish finish = finish_of(*s.output);
  const Bytes turn = bytes_of(s.flip);
  for (size_t ow = 0; ow < w.out_w; ow++) {
    U sum[4];
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; v++) sum[v] = load_lanes(s.offsets + v * kLanes);
    const uint8_t* weights = s.weights;
    for (size_t kw = 0; kw < w.kernel_w; kw++) {
      // Wraps before the image, and is then too large.
      const size_t iw = ow * w.stride_w + kw * w.dilation_w - w.pad_left;
      for (size_t q = 0; q < high; q++, weights += kQuadBytes) {
        Bytes rows[4] = {};
        for (size_t i = 0; i < smaller(w.kernel_h - q * 4, 4); i++) {
          const uint8_t* x = iw < w.in_w ? s.rows[q * 4 + i] + iw * s.steps[q * 4 + i] : s.outside;
          rows[i] = load_channels<Whole>(x, s.channels) ^ turn;
        }
        dot_quads<Parts>(sum, quads(rows[0], rows[1], rows[2], rows[3]), weights);
      }
    }
    store_quads<Whole>(finish, s.factors, sum, s.y + ow * w.out_c * element, s.channels);
  }
}

// Three columns of three rows: outputs share the columns that they have in common.
template <bool Whole, size_t Parts, size_t Stride>
void slide_three(const Strip& s, const Window& w, size_t element) {
  // All that the loop needs, where no store can change it.
  const uint8_t *const row0 = s.rows[0], *const row1 = s.rows[1], *const row2 = s.rows[2], *const outside = s.outside;
  const size_t step0 = s.steps[0], step1 = s.steps[1], step2 = s.steps[2], channels = s.channels;
  const size_t in_w = w.in_w, out_w = w.out_w, pad = w.pad_left, y_step = w.out_c * element;
  const uint8_t* const weights = s.weights;
  const uint32_t* const offsets = s.offsets;
  const float* const factors = s.factors;
  const Finish finish = finish_of(*s.output);
  const Bytes turn = bytes_of(s.flip);
  const auto column = [&](size_t at) -> Quads {
    // Wraps before the image, and is then too large.
    const size_t iw = at - pad;
    const bool inside = iw < in_w;
    const Bytes a = load_channels<Whole>(inside ? row0 + iw * step0 : outside, channels) ^ turn;
    const Bytes b = load_channels<Whole>(inside ? row1 + iw * step1 : outside, channels) ^ turn;
    const Bytes c = load_channels<Whole>(inside ? row2 + iw * step2 : outside, channels) ^ turn;
    return quads(a, b, c, (Bytes){});
  };
  uint8_t* y = s.y;
  Quads first = column(0), second = column(1);
  for (size_t ow = 0; ow < out_w; ow++, y += y_step) {
    U sum[4];
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; v++) sum[v] = load_lanes(offsets + v * kLanes);
    dot_quads<Parts>(sum, first, weights);
    dot_quads<Parts>(sum, second, weights + kQuadBytes);
    const Quads third = column(ow * Stride + 2);
    dot_quads<Parts>(sum, third, weights + 2 * kQuadBytes);
    store_quads<Whole>(finish, factors, sum, y, channels);
    if (Stride == 1) {
      first = second;
      second = third;
    } else {
      first = third;
      second = column(ow * Stride + 3);
    }
  }
}

template <bool Whole, size_t Parts>
void slide(const Strip& s, const Window& w, size_t element) {
  const bool three = w.kernel_h == 3 && w.kernel_w == 3 && w.dilation_w == 1;
  if (three && w.stride_w == 1) slide_three<Whole, Parts, 1>(s, w, element);
  else if (three && w.stride_w == 2) slide_three<Whole, Parts, 2>(s, w, element);
  else slide_any<Whole, Parts>(s, w, element);
}

template <bool Whole>
void slide_parts(const Strip& s, const Window& w, size_t element) {
  if (kGroup == 4 && s.parts == 1) slide<Whole, 1>(s, w, element);
  else if (kGroup == 4 && s.parts == 2) slide<Whole, 2>(s, w, element);
  else slide<Whole, kParts>(s, w, element);
}

void depthwise(const Int8Conv& c, size_t first, size_t last, void* workspace) {
  const Window& w = c.window;
  const size_t element = c.output.factors ? 1 : 4;
  uint32_t* offsets = static_cast<uint32_t*>(workspace);
  float* factors = reinterpret_cast<float*>(offsets + kBlock);
  uint8_t* outside = reinterpret_cast<uint8_t*>(factors + kBlock);
  const uint8_t** rows = reinterpret_cast<const uint8_t**>(outside + kBlock);
  size_t* steps = reinterpret_cast<size_t*>(rows + w.kernel_h);
  for (size_t i = 0; i < kBlock; i++) outside[i] = c.x.zeros ? c.x.zeros[0] : 0;
  const uint32_t zero = static_cast<uint32_t>(zero_of_a(c.x));
  for (size_t block = 0; block < blocks_of(w); block++) {
    const size_t c0 = block * kBlock, channels = smaller(w.out_c - c0, kBlock);
    const uint8_t* packed = c.w.data + block * block_bytes(w);
    const uint32_t* sums = reinterpret_cast<const uint32_t*>(packed + sizeof(Bytes));
    for (size_t v = 0; v < 4; v++) {
      for (size_t lane = 0; lane < kLanes; lane++) {
        const size_t at = v * kLanes + lane, channel = channel_of(v, lane);
        const bool there = channel < channels;
        offsets[at] = (there && c.bias ? static_cast<uint32_t>(c.bias[c0 + channel]) : 0) - zero * sums[at];
        factors[at] = there && c.output.factors ? c.output.factors[c.output.per_column ? c0 + channel : 0] : 0;
      }
    }
    for (size_t row = first; row < last; row++) {
      const size_t oh = row % w.out_h;
      const uint8_t* image = c.x.data + row / w.out_h * w.in_h * w.in_w * w.in_c + c0;
      for (size_t kh = 0; kh < w.kernel_h; kh++) {
        // Wraps above the image, and is then too large.
        const size_t ih = oh * w.stride_h + kh * w.dilation_h - w.pad_top;
        rows[kh] = ih < w.in_h ? image + ih * w.in_w * w.in_c : outside;
        steps[kh] = ih < w.in_h ? w.in_c : 0;
      }
      const Strip strip{
          rows, steps, outside, packed + sizeof(Bytes) + kBlock * 4, offsets, factors, &c.output,
          static_cast<uint8_t*>(c.y) + (row * w.out_w * w.out_c + c0) * element, channels, c.x.flip,
          word_at(packed),
      };
      channels == kBlock ? slide_parts<true>(strip, w, element) : slide_parts<false>(strip, w, element);
    }
  }
}

// ---- elementwise ----

void quantize(const float* x, uint8_t* y, size_t count, float scale, int32_t zero, int32_t least, int32_t most) {
  const uint8_t flip = least < 0 ? 0x80 : 0;
  const F unit = broadcast(scale), nothing = broadcast(static_cast<float>(-zero));
  const F lo = broadcast(static_cast<float>(least - zero)), hi = broadcast(static_cast<float>(most - zero));
  const auto whole = [&](F v) {
    v = v / unit;
    return round_to_int(min_second(hi, max_second(select(is_nan(v), nothing, v), lo)));
  };
  const Bytes turn = bytes_of(flip);
  size_t i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    const Bytes b = join(whole(load(x + i)), whole(load(x + i + kLanes)), whole(load(x + i + 2 * kLanes)),
                         whole(load(x + i + 3 * kLanes)), zero + flip);
    store_bytes(y + i, in_order(b) ^ turn);
  }
  for (; i < count; i += kLanes) {
    const size_t width = smaller(count - i, kLanes);
    const I none = {};
    const Bytes b = join(whole(load_up_to(x + i, width)), none, none, none, zero + flip);
    store_first_bytes(y + i, in_order(b) ^ turn, width);
  }
}

void dequantize(const uint8_t* x, float* y, size_t count, uint8_t flip, int32_t zero, float scale) {
  const int32_t from = zero + (flip ? 128 : 0);
  for (size_t i = 0; i < count; i++) y[i] = static_cast<float>(static_cast<int32_t>(x[i] ^ flip) - from) * scale;
}

// 1.5 * 2^23: a float of this size has no fraction, so adding it rounds to an integer, ties to even.
constexpr float kWhole = 12582912.0f;

// One result as its definition says; see table.h.
inline uint8_t add_exactly(const Int8Pair& p, uint8_t a, uint8_t b) {
  const int32_t shift = p.flip ? 128 : 0;
  const double x = static_cast<double>((a ^ p.flip) - shift - p.a_zero) * static_cast<double>(p.a_scale) / static_cast<double>(p.scale);
  const double y = static_cast<double>((b ^ p.flip) - shift - p.b_zero) * static_cast<double>(p.b_scale) / static_cast<double>(p.scale);
  float sum = static_cast<float>(x + y);
  const float lo = static_cast<float>(p.least - p.zero), hi = static_cast<float>(p.most - p.zero);
  sum = sum < lo ? lo : sum > hi ? hi : sum;
  return static_cast<uint8_t>(static_cast<int32_t>(sum + kWhole - kWhole) + p.zero);
}

// Integers of kLanes bytes, less their zero point.
inline F steps_of(const uint8_t* x, size_t step, uint8_t flip, int32_t zero) {
  const int32_t from = zero + (flip ? 128 : 0);
  if (step == 0) return broadcast(static_cast<float>((x[0] ^ flip) - from));
  return to_float((widened(x) ^ each(flip)) - each(from));
}

// The terms are rounded to float where the definition has doubles, so their sum may be off by `doubt`. Where it is
// that close to halfway between two integers, the definition decides.
void add_bytes(const Int8Pair& p, const uint8_t* a, const uint8_t* b, size_t b_step, uint8_t* y, size_t count) {
  const uint8_t flip = p.flip;
  const float a_unit = p.a_scale / p.scale, b_unit = p.b_scale / p.scale;
  // Each unit is within 2^-23 of its quotient, a term of at most 255 units is rounded once more, so is their sum.
  const F doubt = broadcast(0.5f - 1024.0f * 0x1p-23f * (a_unit + b_unit));
  const F a_units = broadcast(a_unit), b_units = broadcast(b_unit);
  const F lo = broadcast(static_cast<float>(p.least - p.zero)), hi = broadcast(static_cast<float>(p.most - p.zero));
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const F sum = fma(steps_of(a + i, 1, flip, p.a_zero), a_units, steps_of(b + i * b_step, b_step, flip, p.b_zero) * b_units);
    const F bounded = min_second(hi, max_second(sum, lo));
    const F whole = round_even(bounded);
    if (any_lane(~(I)(absolute(bounded - whole) < doubt))) {
      for (size_t lane = 0; lane < kLanes; lane++) y[i + lane] = add_exactly(p, a[i + lane], b[(i + lane) * b_step]);
      continue;
    }
    const I none = {};
    const Bytes bytes = in_order(join(round_to_int(whole), none, none, none, p.zero + flip)) ^ bytes_of(flip);
    __builtin_memcpy(y + i, &bytes, kLanes);
  }
  for (; i < count; i++) y[i] = add_exactly(p, a[i], b[i * b_step]);
}

void binary(Int8Binary op, const Int8Pair& p, const uint8_t* a, const uint8_t* b, size_t b_step, uint8_t* y,
            size_t count) {
  if (op == kInt8Add) {
    add_bytes(p, a, b, b_step, y, count);
    return;
  }
  const float factor = p.a_scale * p.b_scale / p.scale;
  const int32_t shift = p.flip ? 128 : 0, a_from = p.a_zero + shift, b_from = p.b_zero + shift;
  const float lo = static_cast<float>(p.least - p.zero), hi = static_cast<float>(p.most - p.zero);
  for (size_t i = 0; i < count; i++) {
    // A product of bytes is a whole float.
    const float product = static_cast<float>(((a[i] ^ p.flip) - a_from) * ((b[i * b_step] ^ p.flip) - b_from)) * factor;
    const float bounded = product < lo ? lo : product > hi ? hi : product;
    y[i] = static_cast<uint8_t>(static_cast<int32_t>(bounded + kWhole - kWhole) + p.zero);
  }
}

void range(const float* x, size_t count, float* least, float* most) {
  F lo = broadcast(*least), hi = broadcast(*most);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    // A NaN is the first of two, of which the second is then taken.
    lo = min_second(load(x + i), lo);
    hi = max_second(load(x + i), hi);
  }
  float lows[kLanes], highs[kLanes];
  store(lows, lo);
  store(highs, hi);
  for (size_t lane = 0; lane < kLanes; lane++) {
    if (lows[lane] < *least) *least = lows[lane];
    if (highs[lane] > *most) *most = highs[lane];
  }
  for (; i < count; i++) {
    if (x[i] < *least) *least = x[i];
    if (x[i] > *most) *most = x[i];
  }
}

void lookup(const uint8_t* table, const uint8_t* x, uint8_t* y, size_t count) {
  for (size_t i = 0; i < count; i++) y[i] = table[x[i]];
}

void sum_places(const uint8_t* x, uint8_t flip, size_t places, size_t channels, uint32_t* sums) {
  for (size_t c = 0; c < channels; c++) sums[c] = 0;
  for (size_t place = 0; place < places; place++, x += channels) {
    for (size_t c = 0; c < channels; c++) sums[c] += x[c] ^ flip;
  }
}

}  // namespace

constinit const Int8Kernels int8 = {
    kPanel, packed_bytes, pack, product_workspace, multiply, conv_workspace, convolve, depthwise_bytes, depthwise_pack,
    depthwise_workspace, depthwise, range, quantize, dequantize, binary, lookup, sum_places,
};

}  // namespace cloister::CLOISTER_ROW
