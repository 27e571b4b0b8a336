// The blocked layout on vectors. Convolution: a tile of output pixels by blocks of output channels stays in registers while it
// sums over input channels and taps. An input element is broadcast to a vector of output channels, so the input may be
// read in any layout whose pixels lie at one step, blocked or plain. Where windows reach into the padding, the rows that
// a task reads are first copied with zeros around them.
#include "../math.h"
#include "../row.h"
#include "../simd.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

constexpr size_t kVectors = kBlock / kLanes;  // of one block

// The largest tile: how many pixels go with 1, 2, 3 or 4 blocks, so that sums, one pixel and the weights fit.
constexpr size_t kMostBlocks = kVectors == 1 ? 4 : 1;
constexpr size_t kMostPixels = kVectors == 1 ? 14 : 6;
constexpr size_t most_pixels(size_t blocks) {
  constexpr size_t kOf[] = {kMostPixels, kMostPixels, 9, 6};
  return kOf[blocks - 1];
}

// A strip of input that a task reads should stay in the second-level cache along with weights; elements.
constexpr size_t kStripElements = size_t{1} << 16;
// Work is split where there is enough of it: multiply-adds of a task, and how many tasks are enough.
constexpr size_t kTaskWork = size_t{1} << 19;
constexpr size_t kEnoughTasks = 8;

// How a convolution is cut up. All steps are in elements.
struct ConvPlan {
  bool staged;
  size_t groups, in_blocks, out_blocks;    // per group; kBlockedFromPlain: in_blocks is channels
  size_t in_unit;                          // elements of a pixel in the input: kBlock, or 1
  size_t depth, last_depth;                // summed at neighbouring addresses, and for the last of in_blocks
  size_t taps_h, taps_w;                   // loops over taps around it
  size_t tap_h, tap_w;                     // steps of the taps
  size_t in_block, row, pixel;             // steps from block to block, output row to output row, pixel to pixel
  size_t rows, row_w, last_row_w;          // of output pixels
  size_t y_row, y_block;                   // steps of the output
  size_t pitch, stage_rows;                // staged: columns of a row; rows of a strip
  size_t blocks, tiles;                    // of output channels: blocks in a tile at most; tiles of a group
  size_t strip_rows, strips, parts;        // a task is one strip of rows by one part of the tiles
};

// How `count` things are dealt out evenly into `parts`: so many get one more than the others.
struct Deal {
  size_t each, more;
};
inline Deal deal(size_t count, size_t parts) { return {count / parts, count % parts}; }

// Blocks per tile with the least work: cycles of the sums, which no tile does in less than it takes to load its operands
// or to wait for its own sums, and a few for a tile's beginning and end.
inline size_t choose_blocks(size_t out_blocks, size_t row_w, size_t products) {
  const auto tile_cost = [&](size_t blocks, size_t pixels) {
    const size_t sums = blocks * pixels * kVectors, loads = blocks * kVectors + pixels;
    const size_t cycles = sums < loads ? loads : sums;
    return static_cast<double>(cycles < 6 ? 6 : cycles) * static_cast<double>(products) + static_cast<double>(2 * sums + 20);
  };
  size_t best = 1;
  double least = 0;
  for (size_t blocks = 1; blocks <= smaller(kMostBlocks, out_blocks); blocks++) {
    const size_t across = divide_up(row_w, most_pixels(blocks)), tiles = divide_up(out_blocks, blocks);
    const Deal wide = deal(out_blocks, tiles), pixels = deal(row_w, across);
    double cost = 0;
    for (size_t i = 0; i < 2; i++) {
      for (size_t j = 0; j < 2; j++) {
        const size_t times = (i ? wide.more : tiles - wide.more) * (j ? pixels.more : across - pixels.more);
        if (times > 0) cost += static_cast<double>(times) * tile_cost(wide.each + i, pixels.each + j);
      }
    }
    if (blocks == 1 || cost < least) {
      least = cost;
      best = blocks;
    }
  }
  return best;
}

inline ConvPlan plan_conv(const Window& w, BlockedForm form) {
  ConvPlan p{};
  const bool plain = form == kBlockedFromPlain;
  const size_t in_c = w.in_c / w.groups;
  p.groups = w.groups;
  p.in_unit = plain ? 1 : kBlock;
  p.in_blocks = plain ? in_c : divide_up(in_c, kBlock);
  p.out_blocks = divide_up(w.out_c / w.groups, kBlock);
  p.taps_h = w.kernel_h;
  p.taps_w = w.kernel_w;
  p.depth = plain ? 1 : kBlock;
  p.last_depth = plain ? 1 : in_c - (p.in_blocks - 1) * kBlock;
  if (plain && w.dilation_w == 1) {  // the taps of a row are neighbours
    p.depth = p.last_depth = w.kernel_w;
    p.taps_w = 1;
  }
  const size_t reach_h = size_t{w.out_h - 1} * w.stride_h + size_t{w.kernel_h - 1} * w.dilation_h + 1;
  const size_t reach_w = size_t{w.out_w - 1} * w.stride_w + size_t{w.kernel_w - 1} * w.dilation_w + 1;
  p.staged = w.pad_top || w.pad_left || reach_h > w.in_h || reach_w > w.in_w;
  p.pitch = p.staged ? reach_w : w.in_w;
  p.rows = w.out_h;
  p.row_w = p.last_row_w = w.out_w;
  p.row = size_t{w.stride_h} * p.pitch * p.in_unit;
  const bool pointwise = w.kernel_h == 1 && w.kernel_w == 1 && w.stride_h == 1 && w.stride_w == 1 && !p.staged &&
      w.in_h == w.out_h && w.in_w == w.out_w;
  if (pointwise) {  // all pixels are neighbours; rows of any length will do
    const size_t pixels = size_t{w.out_h} * w.out_w;
    p.row_w = smaller(pixels, 8 * kMostPixels);
    p.rows = divide_up(pixels, p.row_w);
    p.last_row_w = pixels - (p.rows - 1) * p.row_w;
    p.row = p.row_w * p.in_unit;
  }
  p.pixel = w.stride_w * p.in_unit;
  p.tap_h = w.dilation_h * p.pitch * p.in_unit;
  p.tap_w = w.dilation_w * p.in_unit;
  p.y_row = p.row_w * kBlock;
  p.y_block = size_t{w.out_h} * w.out_w * kBlock;
  const size_t products = in_c * w.kernel_h * w.kernel_w;
  p.blocks = choose_blocks(p.out_blocks, p.row_w, products);
  p.tiles = divide_up(p.out_blocks, p.blocks);

  const size_t row_elements = p.in_blocks * p.row;
  p.strip_rows = smaller(p.rows, 1 + kStripElements / row_elements);
  p.strips = divide_up(p.rows, p.strip_rows);
  const size_t work = products * w.out_c * w.out_h * w.out_w, tasks = size_t{w.batch} * w.groups * p.strips;
  p.parts = 1;
  if (tasks < kEnoughTasks) p.parts = smaller(p.tiles, smaller(divide_up(kEnoughTasks, tasks), 1 + work / tasks / kTaskWork));
  if (tasks * p.parts < kEnoughTasks) {
    const size_t more = smaller(divide_up(kEnoughTasks, tasks * p.parts), 1 + work / tasks / p.parts / kTaskWork);
    p.strip_rows = divide_up(p.strip_rows, more);
    p.strips = divide_up(p.rows, p.strip_rows);
  }
  p.stage_rows = (p.strip_rows - 1) * w.stride_h + size_t{w.kernel_h - 1} * w.dilation_h + 1;
  p.in_block = (p.staged ? p.stage_rows * p.pitch : size_t{w.in_h} * w.in_w) * p.in_unit;
  return p;
}

inline size_t tile_block(const ConvPlan& p, size_t tile) { return tile * p.out_blocks / p.tiles; }

inline size_t depthwise_blocks(const Window& w) { return divide_up(w.in_c, kBlock); }

// What a tile starts from and where it ends.
struct TileEnds {
  const float* bias;      // one per channel of the tile
  const float* residual;  // null, or at the tile's first pixel
  float* y;
  F lo, hi;
};

template <size_t Blocks, size_t Pixels, size_t Step>
void convolve_tile(const ConvPlan& p, const float* x, const float* weights, const TileEnds& ends) {
  constexpr size_t kWide = Blocks * kVectors;
  const size_t step = Step ? Step : p.pixel;
  F sum[Pixels][kWide];
#pragma GCC unroll 8
  for (size_t v = 0; v < kWide; v++) {
    const F bias = load(ends.bias + v * kLanes);
#pragma GCC unroll 16
    for (size_t i = 0; i < Pixels; i++) sum[i][v] = bias;
  }
  for (size_t block = 0; block < p.in_blocks; block++, x += p.in_block) {
    const size_t depth = block + 1 < p.in_blocks ? p.depth : p.last_depth;
    const float* from_row = x;
    for (size_t kh = 0; kh < p.taps_h; kh++, from_row += p.tap_h) {
      const float* from = from_row;
      for (size_t kw = 0; kw < p.taps_w; kw++, from += p.tap_w) {
#pragma GCC unroll 4
        for (size_t d = 0; d < depth; d++, weights += kWide * kLanes) {
          F weight[kWide];
#pragma GCC unroll 8
          for (size_t v = 0; v < kWide; v++) weight[v] = load(weights + v * kLanes);
#pragma GCC unroll 16
          for (size_t i = 0; i < Pixels; i++) {
            const F in = broadcast(from[i * step + d]);
#pragma GCC unroll 8
            for (size_t v = 0; v < kWide; v++) sum[i][v] = fma(in, weight[v], sum[i][v]);
          }
        }
      }
    }
  }
#pragma GCC unroll 8
  for (size_t v = 0; v < kWide; v++) {
    const size_t at = v / kVectors * p.y_block + v % kVectors * kLanes;
    float* y = ends.y + at;
    if (ends.residual) {
#pragma GCC unroll 16
      for (size_t i = 0; i < Pixels; i++) sum[i][v] += load(ends.residual + at + i * kBlock);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < Pixels; i++) store(y + i * kBlock, min_second(ends.hi, max_second(ends.lo, sum[i][v])));
  }
}

using TileKernel = void (*)(const ConvPlan&, const float*, const float*, const TileEnds&);
constexpr size_t kSteps = 4;  // from pixel to pixel: any, 1, kBlock, 2 * kBlock
struct TileTable {
  TileKernel of[kSteps][kMostBlocks][kMostPixels];
};
template <size_t Blocks, size_t Pixels>
constexpr void fill_tiles(TileTable& table) {
  table.of[0][Blocks - 1][Pixels - 1] = convolve_tile<Blocks, Pixels, 0>;
  table.of[1][Blocks - 1][Pixels - 1] = convolve_tile<Blocks, Pixels, 1>;
  table.of[2][Blocks - 1][Pixels - 1] = convolve_tile<Blocks, Pixels, kBlock>;
  table.of[3][Blocks - 1][Pixels - 1] = convolve_tile<Blocks, Pixels, 2 * kBlock>;
  if constexpr (Pixels > 1) {
    fill_tiles<Blocks, Pixels - 1>(table);
  } else if constexpr (Blocks > 1) {
    fill_tiles<Blocks - 1, most_pixels(Blocks - 1)>(table);
  }
}
constexpr TileTable make_tiles() {
  TileTable table{};
  fill_tiles<kMostBlocks, most_pixels(kMostBlocks)>(table);
  return table;
}
constexpr TileTable kTiles = make_tiles();
inline size_t step_of(size_t pixel) { return pixel == 1 ? 1 : pixel == kBlock ? 2 : pixel == 2 * kBlock ? 3 : 0; }

// The activations that no clip is.
template <typename Function>
inline void map_span(float* y, size_t count, Function&& of) {
  for (size_t i = 0; i < count; i += kLanes) store(y + i, of(load(y + i)));
}
__attribute__((noinline)) void activate_span(float* y, size_t count, const BlockedTail& t) {
  const F a = broadcast(t.a), b = broadcast(t.b), zero = broadcast(0), one = broadcast(1);
  switch (t.activation) {
    case kBlockedLeaky:
      return map_span(y, count, [&](F v) { return select((I)(v < zero), v * a, v); });
    case kBlockedSigmoid:
      return map_span(y, count, [](F v) { return sigmoid_of(v); });
    case kBlockedTanh:
      return map_span(y, count, [](F v) { return tanh_of(v); });
    case kBlockedHardSigmoid:
      return map_span(y, count, [&](F v) { return clip(v * a + b, zero, one); });
    case kBlockedHardSwish:
      return map_span(y, count, [&](F v) { return v * clip(v * a + b, zero, one); });
    case kBlockedSwish:
      return map_span(y, count, [&](F v) { return swish_of(v, a); });
    default:
      return;
  }
}

inline F low_of(const BlockedTail& t) { return broadcast(t.activation == kBlockedClip ? t.a : -__builtin_inff()); }
inline F high_of(const BlockedTail& t) { return broadcast(t.activation == kBlockedClip ? t.b : __builtin_inff()); }

inline void zero_span(float* to, size_t count) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, broadcast(0));
  if (i < count) store_first(to + i, broadcast(0), count - i);
}

inline void copy_span(const float* from, float* to, size_t count) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  if (i < count) store_first(to + i, load_first(from + i, count - i), count - i);
}

// The input rows that output rows [row, row + count) read, with zeros around them, block by block.
inline void stage_rows(const ConvPlan& p, const Window& w, const float* x, size_t row, size_t count, float* out) {
  const size_t unit = p.in_unit, line = p.pitch * unit;
  const size_t left = smaller(w.pad_left, p.pitch), inside = smaller(p.pitch - left, w.in_w);
  const size_t rows = (count - 1) * w.stride_h + size_t{w.kernel_h - 1} * w.dilation_h + 1;
  for (size_t block = 0; block < p.in_blocks; block++, x += size_t{w.in_h} * w.in_w * unit, out += p.in_block) {
    float* to = out;
    for (size_t r = 0; r < rows; r++, to += line) {
      const size_t ih = row * w.stride_h + r - w.pad_top;  // wraps above the input, and is then too large
      if (ih >= w.in_h) {
        zero_span(to, line);
        continue;
      }
      zero_span(to, left * unit);
      copy_span(x + ih * w.in_w * unit, to + left * unit, inside * unit);
      zero_span(to + (left + inside) * unit, line - (left + inside) * unit);
    }
  }
}

inline void convolve_full(const Window& w, BlockedForm form, size_t task, const float* x, const float* weights, float* y,
                          const BlockedTail& tail, float* workspace) {
  const ConvPlan p = plan_conv(w, form);
  const size_t part = task % p.parts, strip = task / p.parts % p.strips, image_group = task / p.parts / p.strips;
  const size_t group = image_group % w.groups;
  const size_t in_image = p.in_blocks * w.in_h * w.in_w * p.in_unit, out_image = p.out_blocks * p.y_block;
  const size_t out_c = w.out_c / w.groups, depth = size_t{w.in_c / w.groups} * w.kernel_h * w.kernel_w;
  x += image_group * in_image;
  y += image_group * out_image;
  weights += group * p.out_blocks * kBlock * depth;
  const float* residual = tail.residual ? tail.residual + image_group * out_image : nullptr;
  const size_t first = strip * p.strip_rows, last = smaller(first + p.strip_rows, p.rows);
  const float* source = x + first * p.row;
  if (p.staged) {
    stage_rows(p, w, x, first, last - first, workspace);
    source = workspace;
  }
  const TileKernel(&kernels)[kMostBlocks][kMostPixels] = kTiles.of[step_of(p.pixel)];
  for (size_t tile = part * p.tiles / p.parts; tile < (part + 1) * p.tiles / p.parts; tile++) {
    const size_t block = tile_block(p, tile), blocks = tile_block(p, tile + 1) - block;
    float bias[kMostBlocks * kBlock];
    for (size_t i = 0; i < blocks * kBlock; i++) {
      const size_t oc = block * kBlock + i;
      bias[i] = tail.bias && oc < out_c ? tail.bias[group * out_c + oc] : 0;
    }
    const float* tile_weights = weights + block * kBlock * depth;
    for (size_t row = first; row < last; row++) {
      const size_t width = row + 1 == p.rows ? p.last_row_w : p.row_w, across = divide_up(width, most_pixels(p.blocks));
      const size_t at = block * p.y_block + row * p.y_row;
      for (size_t i = 0; i < across; i++) {
        const size_t from = i * width / across, pixels = (i + 1) * width / across - from;
        const size_t to = at + from * kBlock;
        const TileEnds ends = {bias, residual ? residual + to : nullptr, y + to, low_of(tail), high_of(tail)};
        kernels[blocks - 1][pixels - 1](p, source + (row - first) * p.row + from * p.pixel, tile_weights, ends);
      }
      if (tail.activation == kBlockedClip) continue;
      for (size_t b = 0; b < blocks; b++) activate_span(y + at + b * p.y_block, width * kBlock, tail);
    }
  }
}

// What is read in place of rows and columns outside the input: enough for one tile of any kind.
alignas(64) constexpr float kZeros[32 * kBlock] = {};

// ---- 3x3 kernels in the transformed domain ----
//
// Winograd's minimal filtering F(m x m, 3 x 3) (Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308): overlapping tiles of
// a x a inputs, a = m + 2, and the filters are transformed; a*a products of (tiles x channels) by (channels x outputs) then
// do the work of 9*m*m; a last transform gives m x m outputs. Points: 0, 1, -1 and infinity for m = 2; 0, +-3/4, +-3/2 and
// infinity for m = 4, which are exact in binary and whose error is several times less than that of the usual 0, +-1, +-2
// (Barabasz, Anderson, Soodhalter and Gregg 2020, arXiv:1803.10986, on choosing points).

constexpr float kP = 0.75f, kQ = 1.5f;
constexpr float kPP = kP * kP, kQQ = kQ * kQ;

template <size_t M>
inline void transform_input(const F* d, F* t) {
  if constexpr (M == 2) {
    t[0] = d[2] - d[0];
    t[1] = d[2] + d[1];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
  } else {
    const F even_p = fma(broadcast(-kQQ), d[2], d[4]), odd_p = fma(broadcast(-kQQ), d[1], d[3]);
    const F even_q = fma(broadcast(-kPP), d[2], d[4]), odd_q = fma(broadcast(-kPP), d[1], d[3]);
    t[0] = fma(broadcast(kPP * kQQ), d[0], fma(broadcast(-kPP - kQQ), d[2], d[4]));
    t[1] = fma(broadcast(kP), odd_p, even_p);
    t[2] = fma(broadcast(-kP), odd_p, even_p);
    t[3] = fma(broadcast(kQ), odd_q, even_q);
    t[4] = fma(broadcast(-kQ), odd_q, even_q);
    t[5] = fma(broadcast(kPP * kQQ), d[1], fma(broadcast(-kPP - kQQ), d[3], d[5]));
  }
}

template <size_t M>
inline void transform_output(const F* m, F* y) {
  if constexpr (M == 2) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = (m[1] - m[2]) + m[3];
  } else {
    const F even_p = m[1] + m[2], odd_p = m[1] - m[2], even_q = m[3] + m[4], odd_q = m[3] - m[4];
    y[0] = m[0] + (even_p + even_q);
    y[1] = fma(broadcast(kP), odd_p, broadcast(kQ) * odd_q);
    y[2] = fma(broadcast(kPP), even_p, broadcast(kQQ) * even_q);
    y[3] = fma(broadcast(kPP * kP), odd_p, fma(broadcast(kQQ * kQ), odd_q, m[5]));
  }
}

// g has 3 taps at `step`; in double, so that a transformed weight is rounded once.
inline void transform_weights(size_t m, const double* g, size_t step, double* t, size_t to) {
  const double a = g[0], b = g[step], c = g[2 * step];
  if (m == 2) {
    t[0] = -a;
    t[to] = (a + b + c) / 2;
    t[2 * to] = (a - b + c) / 2;
    t[3 * to] = c;
    return;
  }
  const double p = kP, q = kQ, pp = p * p, qq = q * q, over_p = 1 / (2 * pp * (pp - qq)), over_q = 1 / (2 * qq * (qq - pp));
  t[0] = a / (pp * qq);
  t[to] = (a + p * b + pp * c) * over_p;
  t[2 * to] = (a - p * b + pp * c) * over_p;
  t[3 * to] = (a + q * b + qq * c) * over_q;
  t[4 * to] = (a - q * b + qq * c) * over_q;
  t[5 * to] = c;
}

struct WinogradPlan {
  size_t m;                     // 0: the convolution is done directly
  size_t points;                // a * a
  size_t tiles_w, tiles;        // of one image
  size_t batch, batches;        // tiles that are transformed together
  size_t in_blocks, out_blocks;
  size_t blocks, groups;        // output blocks that are multiplied together; how many such
  size_t in_point, out_point;   // steps from point to point in the workspace
};

// Transformed filters take 16/9 (m = 2) or 4 (m = 4) of the room, so they are for layers where that adds little to what
// their activations take; and the transforms cost something for each input and output block.
inline WinogradPlan plan_winograd(const Window& w, BlockedForm form) {
  WinogradPlan best{};
  const bool fits = form == kBlockedFull && w.groups == 1 && w.kernel_h == 3 && w.kernel_w == 3 && w.stride_h == 1 &&
      w.stride_w == 1 && w.dilation_h == 1 && w.dilation_w == 1 && w.in_c >= kBlock && w.out_c >= kBlock;
  if (!fits) return best;
  const size_t in_blocks = divide_up(w.in_c, kBlock), out_blocks = divide_up(w.out_c, kBlock);
  const size_t weights = size_t{w.in_c} * w.out_c;
  const size_t values = size_t{w.in_h} * w.in_w * w.in_c + size_t{w.out_h} * w.out_w * w.out_c;
  double least = 0.8 * 9 * static_cast<double>(size_t{w.out_h} * w.out_w) * static_cast<double>(w.in_c * out_blocks);
  for (size_t m = 2; m <= 4; m += 2) {
    if (m == 2 ? 2 * 7 * weights > 5 * values : 2 * 27 * weights > values) continue;
    WinogradPlan p{};
    p.m = m;
    p.points = (m + 2) * (m + 2);
    p.tiles_w = divide_up(w.out_w, m);
    p.tiles = p.tiles_w * divide_up(w.out_h, m);
    p.in_blocks = in_blocks;
    p.out_blocks = out_blocks;
    const double products = static_cast<double>(p.points * w.in_c * out_blocks);
    const double transforms = static_cast<double>(6 * p.points * (in_blocks + out_blocks));
    const double cost = static_cast<double>(p.tiles) * (products + transforms);
    if (p.tiles < kMostPixels || cost > least) continue;
    least = cost;
    p.blocks = smaller(kVectors == 1 ? 2 : 1, out_blocks);
    p.groups = divide_up(out_blocks, p.blocks);
    const size_t room = 2 * kStripElements, each = p.points * (in_blocks + p.blocks) * kBlock;
    const size_t most = each * kMostPixels > room ? kMostPixels : room / each;
    const size_t split = divide_up(p.tiles, most), shared = smaller(p.tiles / kMostPixels, kEnoughTasks / 2);
    p.batch = divide_up(p.tiles, split > shared ? split : shared);
    p.batches = divide_up(p.tiles, p.batch);
    // A vector more than needed, so that points do not fall on the same lines of the cache.
    p.in_point = (in_blocks * p.batch + 1) * kBlock;
    p.out_point = (p.blocks * p.batch + 1) * kBlock;
    best = p;
  }
  return best;
}

inline size_t group_block(const WinogradPlan& p, size_t group) { return group * p.out_blocks / p.groups; }

// By groups of output blocks, then point by point.
inline void pack_winograd(const WinogradPlan& p, const Window& w, const float* weights, float* out) {
  const size_t a = p.m + 2;
  for (size_t group = 0; group < p.groups; group++) {
    const size_t from = group_block(p, group) * kBlock, wide = group_block(p, group + 1) * kBlock - from;
    for (size_t ic = 0; ic < w.in_c; ic++) {
      for (size_t i = 0; i < wide; i++) {
        const size_t oc = from + i;
        double g[9] = {}, half[18], full[36];
        for (size_t tap = 0; tap < 9 && oc < w.out_c; tap++) g[tap] = static_cast<double>(weights[(oc * w.in_c + ic) * 9 + tap]);
        for (size_t column = 0; column < 3; column++) transform_weights(p.m, g + column, 3, half + column, 3);
        for (size_t row = 0; row < a; row++) transform_weights(p.m, half + row * 3, 1, full + row * a, 1);
        for (size_t point = 0; point < p.points; point++) {
          out[(point * w.in_c + ic) * wide + i] = static_cast<float>(full[point]);
        }
      }
    }
    out += p.points * w.in_c * wide;
  }
}

// One block of the tile whose first output is (oh, ow), to one vector a point.
template <size_t M>
void winograd_input(const Window& w, const float* x, int64_t top, int64_t left, float* out, size_t step) {
  constexpr size_t kSide = M + 2;
  const int64_t line = static_cast<int64_t>(w.in_w) * static_cast<int64_t>(kBlock);
  const bool inside = top >= 0 && left >= 0 && top + static_cast<int64_t>(kSide) <= w.in_h &&
      left + static_cast<int64_t>(kSide) <= w.in_w;
  for (size_t lane = 0; lane < kBlock; lane += kLanes) {
    F rows[kSide][kSide];
#pragma GCC unroll 8
    for (size_t r = 0; r < kSide; r++) {
      F d[kSide];
      const int64_t ih = top + static_cast<int64_t>(r);
      const float* from = x + ih * line + left * static_cast<int64_t>(kBlock) + static_cast<int64_t>(lane);
#pragma GCC unroll 8
      for (size_t c = 0; c < kSide; c++) {
        const float* at = from + c * kBlock;
        if (!inside) {
          const int64_t iw = left + static_cast<int64_t>(c);
          if (ih < 0 || ih >= w.in_h || iw < 0 || iw >= w.in_w) at = kZeros;
        }
        d[c] = load(at);
      }
      transform_input<M>(d, rows[r]);
    }
#pragma GCC unroll 8
    for (size_t c = 0; c < kSide; c++) {
      F d[kSide], t[kSide];
#pragma GCC unroll 8
      for (size_t r = 0; r < kSide; r++) d[r] = rows[r][c];
      transform_input<M>(d, t);
#pragma GCC unroll 8
      for (size_t r = 0; r < kSide; r++) store(out + (r * kSide + c) * step + lane, t[r]);
    }
  }
}

// What follows the sums of one block of a tile, for the first `rows` x `columns` of its outputs.
template <size_t M>
void winograd_output(const float* in, size_t step, const float* bias, const float* residual, float* y, size_t line,
                     size_t rows, size_t columns, F lo, F hi) {
  constexpr size_t kSide = M + 2;
  for (size_t lane = 0; lane < kBlock; lane += kLanes) {
    F half[M][kSide];
#pragma GCC unroll 8
    for (size_t c = 0; c < kSide; c++) {
      F d[kSide], t[M];
#pragma GCC unroll 8
      for (size_t r = 0; r < kSide; r++) d[r] = load(in + (r * kSide + c) * step + lane);
      transform_output<M>(d, t);
#pragma GCC unroll 8
      for (size_t r = 0; r < M; r++) half[r][c] = t[r];
    }
    const F shift = load(bias + lane);
#pragma GCC unroll 8
    for (size_t r = 0; r < M; r++) {
      F out[M];
      transform_output<M>(half[r], out);
#pragma GCC unroll 8
      for (size_t c = 0; c < M; c++) {
        if (r >= rows || c >= columns) continue;
        const size_t at = r * line + c * kBlock + lane;
        F value = out[c] + shift;
        if (residual) value += load(residual + at);
        store(y + at, min_second(hi, max_second(lo, value)));
      }
    }
  }
}

template <size_t M>
void convolve_winograd(const WinogradPlan& p, const Window& w, size_t task, const float* x, const float* weights, float* y,
                       const BlockedTail& tail, float* workspace) {
  const size_t image = task / p.batches, first = task % p.batches * p.batch;
  const size_t count = smaller(p.batch, p.tiles > first ? p.tiles - first : 0);
  const size_t in_plane = size_t{w.in_h} * w.in_w * kBlock, line = size_t{w.out_w} * kBlock, out_plane = w.out_h * line;
  x += image * p.in_blocks * in_plane;
  float* const inputs = workspace;
  float* const outputs = workspace + p.points * p.in_point;
  for (size_t block = 0; block < p.in_blocks; block++) {
    for (size_t tile = 0; tile < count; tile++) {
      const size_t oh = (first + tile) / p.tiles_w * M, ow = (first + tile) % p.tiles_w * M;
      winograd_input<M>(w, x + block * in_plane, static_cast<int64_t>(oh) - w.pad_top,
                        static_cast<int64_t>(ow) - w.pad_left, inputs + (block * p.batch + tile) * kBlock, p.in_point);
    }
  }
  ConvPlan product{};
  product.in_blocks = p.in_blocks;
  product.depth = kBlock;
  product.last_depth = w.in_c - (p.in_blocks - 1) * kBlock;
  product.taps_h = product.taps_w = 1;
  product.in_block = product.y_block = p.batch * kBlock;
  const F lo = low_of(tail), hi = high_of(tail), infinite = broadcast(__builtin_inff());
  for (size_t group = 0; group < p.groups; group++) {
    const size_t block = group_block(p, group), blocks = group_block(p, group + 1) - block;
    const size_t across = divide_up(count, most_pixels(blocks));
    for (size_t point = 0; point < p.points; point++, weights += w.in_c * blocks * kBlock) {
      for (size_t i = 0; i < across; i++) {
        const size_t from = i * count / across, pixels = (i + 1) * count / across - from;
        const TileEnds ends = {kZeros, nullptr, outputs + point * p.out_point + from * kBlock, -infinite, infinite};
        kTiles.of[2][blocks - 1][pixels - 1](product, inputs + point * p.in_point + from * kBlock, weights, ends);
      }
    }
    for (size_t b = 0; b < blocks; b++) {
      float bias[kBlock];
      for (size_t i = 0; i < kBlock; i++) {
        const size_t oc = (block + b) * kBlock + i;
        bias[i] = tail.bias && oc < w.out_c ? tail.bias[oc] : 0;
      }
      for (size_t tile = 0; tile < count; tile++) {
        const size_t oh = (first + tile) / p.tiles_w * M, ow = (first + tile) % p.tiles_w * M;
        const size_t rows = smaller(M, w.out_h - oh), columns = smaller(M, w.out_w - ow);
        const size_t at = (image * p.out_blocks + block + b) * out_plane + oh * line + ow * kBlock;
        winograd_output<M>(outputs + (b * p.batch + tile) * kBlock, p.out_point, bias,
                           tail.residual ? tail.residual + at : nullptr, y + at, line, rows, columns, lo, hi);
        if (tail.activation == kBlockedClip) continue;
        for (size_t r = 0; r < rows; r++) activate_span(y + at + r * line, columns * kBlock, tail);
      }
    }
  }
}

// ---- depthwise ----

// One filter per channel: a block of channels is a vector, and neighbouring outputs of a row share its loads.
constexpr size_t kDepthwisePixels = 8;
constexpr size_t kDepthwiseRows = 8;  // the tallest kernel, and the widest, that a tile takes

struct DepthwiseTile {
  const float* rows[kDepthwiseRows];  // of the input, at the tile's first column
  const float* weights;
  const float* bias;
  const float* residual;
  float* y;
  size_t taps_h;
  int64_t column, in_w;  // the tile's first column
  F lo, hi;
};

template <size_t K, size_t Stride, size_t Pixels, bool Edge>
void depthwise_tile(const DepthwiseTile& t) {
  constexpr size_t kColumns = (Pixels - 1) * Stride + K;
  for (size_t lane = 0; lane < kBlock; lane += kLanes) {
    F sum[Pixels];
    const F bias = load(t.bias + lane);
#pragma GCC unroll 8
    for (size_t i = 0; i < Pixels; i++) sum[i] = bias;
    const float* weights = t.weights + lane;
    for (size_t kh = 0; kh < t.taps_h; kh++, weights += K * kBlock) {
      const float* row = t.rows[kh] + lane;
      F weight[K];
#pragma GCC unroll 8
      for (size_t kw = 0; kw < K; kw++) weight[kw] = load(weights + kw * kBlock);
#pragma GCC unroll 32
      for (size_t c = 0; c < kColumns; c++) {
        const float* from = row + c * kBlock;
        if (Edge && static_cast<uint64_t>(t.column + static_cast<int64_t>(c)) >= static_cast<uint64_t>(t.in_w)) {
          from = kZeros;
        }
        const F in = load(from);
#pragma GCC unroll 8
        for (size_t kw = 0; kw < K; kw++) {
          if (c >= kw && (c - kw) % Stride == 0 && (c - kw) / Stride < Pixels) {
            sum[(c - kw) / Stride] = fma(in, weight[kw], sum[(c - kw) / Stride]);
          }
        }
      }
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < Pixels; i++) {
      F value = sum[i];
      if (t.residual) value += load(t.residual + i * kBlock + lane);
      store(t.y + i * kBlock + lane, min_second(t.hi, max_second(t.lo, value)));
    }
  }
}

using DepthwiseKernel = void (*)(const DepthwiseTile&);
struct DepthwiseTable {
  DepthwiseKernel of[2][2][2][kDepthwisePixels];  // kernel of 3 or 5; stride of 1 or 2; inside or at an edge
};
template <size_t Pixels>
constexpr void fill_depthwise(DepthwiseTable& table) {
  table.of[0][0][0][Pixels - 1] = depthwise_tile<3, 1, Pixels, false>;
  table.of[0][0][1][Pixels - 1] = depthwise_tile<3, 1, Pixels, true>;
  table.of[0][1][0][Pixels - 1] = depthwise_tile<3, 2, Pixels, false>;
  table.of[0][1][1][Pixels - 1] = depthwise_tile<3, 2, Pixels, true>;
  table.of[1][0][0][Pixels - 1] = depthwise_tile<5, 1, Pixels, false>;
  table.of[1][0][1][Pixels - 1] = depthwise_tile<5, 1, Pixels, true>;
  table.of[1][1][0][Pixels - 1] = depthwise_tile<5, 2, Pixels, false>;
  table.of[1][1][1][Pixels - 1] = depthwise_tile<5, 2, Pixels, true>;
  if constexpr (Pixels > 1) fill_depthwise<Pixels - 1>(table);
}
constexpr DepthwiseTable make_depthwise() {
  DepthwiseTable table{};
  fill_depthwise<kDepthwisePixels>(table);
  return table;
}
constexpr DepthwiseTable kDepthwise = make_depthwise();

// Any window, output by output.
inline void depthwise_row_any(const Window& w, const float* x, const float* weights, const float* bias, size_t oh,
                              const float* residual, float* y, F lo, F hi) {
  for (size_t ow = 0; ow < w.out_w; ow++) {
    for (size_t lane = 0; lane < kBlock; lane += kLanes) {
      F sum = load(bias + lane);
      for (size_t kh = 0; kh < w.kernel_h; kh++) {
        const size_t ih = oh * w.stride_h + kh * w.dilation_h - w.pad_top;  // wraps where it is outside
        for (size_t kw = 0; kw < w.kernel_w; kw++) {
          const size_t iw = ow * w.stride_w + kw * w.dilation_w - w.pad_left;
          const bool inside = ih < w.in_h && iw < w.in_w;
          const float* from = inside ? x + (ih * w.in_w + iw) * kBlock + lane : kZeros;
          sum = fma(load(from), load(weights + (kh * w.kernel_w + kw) * kBlock + lane), sum);
        }
      }
      if (residual) sum += load(residual + ow * kBlock + lane);
      store(y + ow * kBlock + lane, min_second(hi, max_second(lo, sum)));
    }
  }
}

// One block of channels of one image.
inline void convolve_depthwise(const Window& w, size_t task, const float* x, const float* weights, float* y,
                               const BlockedTail& tail) {
  const size_t blocks = depthwise_blocks(w), block = task % blocks, taps = size_t{w.kernel_h} * w.kernel_w;
  const size_t out_plane = size_t{w.out_h} * w.out_w * kBlock, line = size_t{w.in_w} * kBlock;
  x += task * w.in_h * line;
  y += task * out_plane;
  weights += block * taps * kBlock;
  const float* residual = tail.residual ? tail.residual + task * out_plane : nullptr;
  float bias[kBlock];
  for (size_t i = 0; i < kBlock; i++) bias[i] = tail.bias && block * kBlock + i < w.in_c ? tail.bias[block * kBlock + i] : 0;
  const F lo = low_of(tail), hi = high_of(tail);
  const bool square = w.kernel_h == w.kernel_w && w.stride_h == w.stride_w && w.dilation_h == 1 && w.dilation_w == 1;
  const bool tiled = square && (w.kernel_w == 3 || w.kernel_w == 5) && w.stride_w <= 2;
  const size_t across = divide_up(w.out_w, kDepthwisePixels), pixels = divide_up(w.out_w, across);
  for (size_t oh = 0; oh < w.out_h; oh++) {
    const size_t row = oh * w.out_w * kBlock;
    if (!tiled) {
      depthwise_row_any(w, x, weights, bias, oh, residual ? residual + row : nullptr, y + row, lo, hi);
    } else {
      for (size_t i = 0; i < across; i++) {
        const size_t ow = smaller(i * pixels, w.out_w - pixels);  // the last tile steps back
        const size_t columns = (pixels - 1) * w.stride_w + w.kernel_w, at = row + ow * kBlock;
        DepthwiseTile t;
        t.column = static_cast<int64_t>(ow * w.stride_w) - w.pad_left;
        t.in_w = w.in_w;
        for (size_t kh = 0; kh < w.kernel_h; kh++) {
          const size_t ih = oh * w.stride_h + kh - w.pad_top;  // wraps above the input, and is then too large
          t.rows[kh] = ih < w.in_h ? x + ih * line + t.column * static_cast<int64_t>(kBlock) : kZeros;
        }
        t.weights = weights;
        t.bias = bias;
        t.residual = residual ? residual + at : nullptr;
        t.y = y + at;
        t.taps_h = w.kernel_h;
        t.lo = lo;
        t.hi = hi;
        const bool edge = t.column < 0 || t.column + static_cast<int64_t>(columns) > t.in_w;
        kDepthwise.of[w.kernel_w == 5][w.stride_w - 1][edge][pixels - 1](t);
      }
    }
    if (tail.activation != kBlockedClip) activate_span(y + row, w.out_w * kBlock, tail);
  }
}

// ---- convolution, whichever way ----

size_t packed_elements(const Window& w, BlockedForm form) {
  const size_t taps = size_t{w.kernel_h} * w.kernel_w;
  if (form == kBlockedDepthwise) return depthwise_blocks(w) * taps * kBlock;
  if (const WinogradPlan p = plan_winograd(w, form); p.m > 0) return p.points * w.in_c * p.out_blocks * kBlock;
  const size_t in_c = w.in_c / w.groups, out_c = w.out_c / w.groups;
  return w.groups * divide_up(out_c, kBlock) * kBlock * in_c * taps;
}

// Tile by tile, in the order in which its sums go; full blocks of output channels, zeros where there are none.
void pack(const Window& w, BlockedForm form, const float* weights, float* out) {
  const size_t taps = size_t{w.kernel_h} * w.kernel_w;
  if (form == kBlockedDepthwise) {
    for (size_t block = 0; block < depthwise_blocks(w); block++) {
      for (size_t tap = 0; tap < taps; tap++) {
        for (size_t lane = 0; lane < kBlock; lane++) {
          const size_t c = block * kBlock + lane;
          *out++ = c < w.in_c ? weights[c * taps + tap] : 0;
        }
      }
    }
    return;
  }
  if (const WinogradPlan p = plan_winograd(w, form); p.m > 0) return pack_winograd(p, w, weights, out);
  const ConvPlan p = plan_conv(w, form);
  const size_t in_c = w.in_c / w.groups, out_c = w.out_c / w.groups;
  const size_t unit = form == kBlockedFromPlain ? 1 : kBlock;
  for (size_t group = 0; group < w.groups; group++, weights += out_c * in_c * taps) {
    for (size_t tile = 0; tile < p.tiles; tile++) {
      const size_t from = tile_block(p, tile) * kBlock, to = tile_block(p, tile + 1) * kBlock;
      for (size_t block = 0; block < in_c; block += unit) {
        for (size_t tap = 0; tap < taps; tap++) {
          for (size_t ic = block; ic < smaller(block + unit, in_c); ic++) {
            for (size_t oc = from; oc < to; oc++) *out++ = oc < out_c ? weights[(oc * in_c + ic) * taps + tap] : 0;
          }
        }
      }
    }
  }
}

size_t tasks(const Window& w, BlockedForm form) {
  if (form == kBlockedDepthwise) return w.batch * depthwise_blocks(w);
  if (const WinogradPlan p = plan_winograd(w, form); p.m > 0) return w.batch * p.batches;
  const ConvPlan p = plan_conv(w, form);
  return w.batch * p.groups * p.strips * p.parts;
}

size_t workspace_elements(const Window& w, BlockedForm form) {
  if (form == kBlockedDepthwise) return 0;
  if (const WinogradPlan p = plan_winograd(w, form); p.m > 0) return p.points * (p.in_point + p.out_point);
  const ConvPlan p = plan_conv(w, form);
  return p.staged ? p.in_blocks * p.in_block : 0;
}

void convolve(const Window& w, BlockedForm form, size_t task, const float* x, const float* weights, float* y,
              const BlockedTail& tail, float* workspace) {
  if (form == kBlockedDepthwise) return convolve_depthwise(w, task, x, weights, y, tail);
  const WinogradPlan p = plan_winograd(w, form);
  if (p.m == 2) return convolve_winograd<2>(p, w, task, x, weights, y, tail, workspace);
  if (p.m == 4) return convolve_winograd<4>(p, w, task, x, weights, y, tail, workspace);
  convolve_full(w, form, task, x, weights, y, tail, workspace);
}

// ---- pooling ----

struct PoolMax {
  static F start() { return broadcast(-__builtin_inff()); }
  static F fold(F a, F b) { return max_nan(a, b); }
};
struct PoolSum {
  static F start() { return broadcast(0); }
  static F fold(F a, F b) { return a + b; }
};

// The taps [first, last) of an axis that fall inside the input.
struct Taps {
  size_t first, last;
};
inline Taps taps_inside(size_t out, size_t stride, size_t pad, size_t taps, size_t dilation, size_t in) {
  const size_t start = out * stride, first = start < pad ? smaller(divide_up(pad - start, dilation), taps) : 0;
  const size_t reach = in + pad;
  const size_t last = reach > start ? smaller(divide_up(reach - start, dilation), taps) : 0;
  return {first, last < first ? first : last};
}

template <typename Fold>
void pool_blocks(const Window& w, PoolOp op, size_t first, size_t last, const float* x, float* y) {
  const size_t in_plane = size_t{w.in_h} * w.in_w * kBlock, out_plane = size_t{w.out_h} * w.out_w * kBlock;
  const size_t down = size_t{w.dilation_h} * w.in_w * kBlock, across = size_t{w.dilation_w} * kBlock;
  for (size_t oh = 0; oh < w.out_h; oh++) {
    const Taps rows = taps_inside(oh, w.stride_h, w.pad_top, w.kernel_h, w.dilation_h, w.in_h);
    for (size_t ow = 0; ow < w.out_w; ow++) {
      const Taps columns = taps_inside(ow, w.stride_w, w.pad_left, w.kernel_w, w.dilation_w, w.in_w);
      const size_t counted = op == kPoolAverage ? (rows.last - rows.first) * (columns.last - columns.first)
                                                : size_t{w.kernel_h} * w.kernel_w;
      const F divisor = broadcast(static_cast<float>(counted));
      const size_t ih = oh * w.stride_h + rows.first * w.dilation_h - w.pad_top;
      const size_t iw = ow * w.stride_w + columns.first * w.dilation_w - w.pad_left;
      const size_t from = (ih * w.in_w + iw) * kBlock, to = (oh * w.out_w + ow) * kBlock;
      for (size_t block = first; block < last; block++) {
        for (size_t lane = 0; lane < kBlock; lane += kLanes) {
          const float* row = x + block * in_plane + from + lane;
          F folded = Fold::start();
          for (size_t kh = rows.first; kh < rows.last; kh++, row += down) {
            const float* at = row;
            for (size_t kw = columns.first; kw < columns.last; kw++, at += across) folded = Fold::fold(folded, load(at));
          }
          store(y + block * out_plane + to + lane, op == kPoolMax ? folded : folded / divisor);
        }
      }
    }
  }
}

void pool_windows(const Window& w, PoolOp op, size_t first, size_t last, const float* x, float* y) {
  // One block at a time, so that what windows share stays in the nearest cache.
  for (size_t block = first; block < last; block++) {
    op == kPoolMax ? pool_blocks<PoolMax>(w, op, block, block + 1, x, y)
                   : pool_blocks<PoolSum>(w, op, block, block + 1, x, y);
  }
}

template <typename Fold>
void pool_whole(PoolOp op, size_t pixels, size_t blocks, const float* x, float* y) {
  constexpr size_t kChains = 8;  // that do not wait for each other
  for (size_t block = 0; block < blocks; block++, x += pixels * kBlock, y += kBlock) {
    for (size_t lane = 0; lane < kBlock; lane += kLanes) {
      F folded[kChains];
      for (size_t i = 0; i < kChains; i++) folded[i] = Fold::start();
      size_t pixel = 0;
      for (; pixel + kChains <= pixels; pixel += kChains) {
        for (size_t i = 0; i < kChains; i++) folded[i] = Fold::fold(folded[i], load(x + (pixel + i) * kBlock + lane));
      }
      for (; pixel < pixels; pixel++) folded[0] = Fold::fold(folded[0], load(x + pixel * kBlock + lane));
      for (size_t width = kChains / 2; width > 0; width /= 2) {
        for (size_t i = 0; i < width; i++) folded[i] = Fold::fold(folded[i], folded[i + width]);
      }
      store(y + lane, op == kPoolMax ? folded[0] : folded[0] / broadcast(static_cast<float>(pixels)));
    }
  }
}

void pool_all(PoolOp op, size_t pixels, size_t blocks, const float* x, float* y) {
  op == kPoolMax ? pool_whole<PoolMax>(op, pixels, blocks, x, y) : pool_whole<PoolSum>(op, pixels, blocks, x, y);
}

// ---- reordering ----

#if defined(__AVX512F__)
inline F zip_low(F a, F b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
inline F zip_high(F a, F b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
#elif defined(__AVX2__)
inline F zip_low(F a, F b) { return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
inline F zip_high(F a, F b) { return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
#else
inline F zip_low(F a, F b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
inline F zip_high(F a, F b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
#endif

// Zipping the halves together rotates the bits of an element's index; after as many times as it has bits of column, rows
// and columns have changed places.
inline void transpose_square(F (&v)[kLanes]) {
  for (size_t bit = 1; bit < kLanes; bit *= 2) {
    F next[kLanes];
#pragma GCC unroll 8
    for (size_t i = 0; i < kLanes / 2; i++) {
      next[2 * i] = zip_low(v[i], v[i + kLanes / 2]);
      next[2 * i + 1] = zip_high(v[i], v[i + kLanes / 2]);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < kLanes; i++) v[i] = next[i];
  }
}

// Where block `block` of all images begins among plain channels, and how many of its lanes exist.
struct Channels {
  size_t first, count;
};
inline Channels channels_of(size_t channels, size_t block) {
  const size_t blocks = divide_up(channels, kBlock), c = block % blocks * kBlock;
  return {block / blocks * channels + c, smaller(channels - c, kBlock)};
}

void from_plain(size_t channels, size_t pixels, size_t first, size_t last, const float* x, float* y) {
  for (size_t block = first; block < last; block++) {
    const Channels in = channels_of(channels, block);
    float* to = y + block * pixels * kBlock;
    for (size_t pixel = 0; pixel < pixels; pixel += kLanes) {
      const size_t width = smaller(pixels - pixel, kLanes);
      for (size_t lane = 0; lane < kBlock; lane += kLanes) {
        F v[kLanes];
        for (size_t i = 0; i < kLanes; i++) {
          const float* from = x + (in.first + lane + i) * pixels + pixel;
          v[i] = lane + i < in.count ? load_up_to(from, width) : broadcast(0);
        }
        transpose_square(v);
        for (size_t i = 0; i < width; i++) store(to + (pixel + i) * kBlock + lane, v[i]);
      }
    }
  }
}

void to_plain(size_t channels, size_t pixels, size_t first, size_t last, const float* x, float* y) {
  for (size_t block = first; block < last; block++) {
    const Channels out = channels_of(channels, block);
    const float* from = x + block * pixels * kBlock;
    for (size_t pixel = 0; pixel < pixels; pixel += kLanes) {
      const size_t width = smaller(pixels - pixel, kLanes);
      for (size_t lane = 0; lane < out.count; lane += kLanes) {
        F v[kLanes];
        for (size_t i = 0; i < kLanes; i++) {
          v[i] = i < width ? load(from + (pixel + i) * kBlock + lane) : broadcast(0);
        }
        transpose_square(v);
        const size_t count = smaller(out.count - lane, kLanes);
        for (size_t i = 0; i < count; i++) store_up_to(y + (out.first + lane + i) * pixels + pixel, v[i], width);
      }
    }
  }
}

}  // namespace

constinit const BlockedKernels blocked = {packed_elements, pack,     tasks,      workspace_elements, convolve,
                                          pool_windows,    pool_all, from_plain, to_plain};

}  // namespace cloister::CLOISTER_ROW
