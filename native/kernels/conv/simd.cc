// Convolution of NCHW f32, each group by itself, as one register-tiled kernel: a tile is a few output channels x a few
// vectors of neighbouring output columns, and sums over the taps (input channel, kernel row, kernel column), whose
// input vectors must each lie in one piece of memory. What differs is how the input is staged to make that so:
//
//   kInPlace  no padding and a stride of 1 across: x itself. A 1x1 convolution takes its plane as one long row.
//   kPadded   a copy with zeros around it, each row split into stride_w phases, so that a strided tap is contiguous.
//   kColumns  im2col, for rows so narrow that most lanes would idle: the output's pixels side by side, a row per tap.
//
// Every vector starts inside its row: the last one of a row steps back and repeats some columns. Where rows are narrow
// and lie close together (kInPlace and kPadded with a stride of 1), vectors may instead run on across the ends of rows;
// the lanes that fall between rows are computed and dropped.
#include "../epilogue.h"
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

enum class Staging { kInPlace, kPadded, kColumns };

// A tile's accumulators fill the registers but for its input vectors and one weight.
constexpr size_t kTileChannels = kRegisters == 32 ? 8 : 4;
constexpr size_t kTilePixels = 3;
// A tile of a few channels takes more vectors, so that enough sums are in flight.
constexpr size_t kWidePixels = 6;
constexpr size_t wide_channels() { return kTileChannels / 2; }

// What one image and group look like once staged.
struct ConvPlan {
  Staging staging;
  bool runs_on;                  // vectors cross the ends of rows
  size_t in_c, out_c;            // per group
  size_t out_h, out_w;           // as the tiles see them
  size_t lanes;                  // columns that a vector stores: kLanes, or all of a narrower row
  size_t row_vectors;            // per output row; all, where vectors run on
  size_t plane, row_step;        // staged input, in elements: from channel to channel, from output row to output row
  size_t taps;                   // per input channel
  size_t pitch, rows;            // kPadded: length of a row of all phases, rows of a plane
  size_t phases, phase;          // kPadded: how many phases a row has, and the length of one
  size_t staged;                 // elements of the staged input, with slack for the last vector; 0 in place
};

inline ConvPlan plan_conv(const Window& w) {
  ConvPlan plan{};
  plan.in_c = w.in_c / w.groups;
  plan.out_c = w.out_c / w.groups;
  plan.out_h = w.out_h;
  plan.out_w = w.out_w;
  plan.taps = size_t{w.kernel_h} * w.kernel_w;
  const size_t reach_h = size_t{w.out_h - 1} * w.stride_h + size_t{w.kernel_h - 1} * w.dilation_h + 1;
  const size_t reach_w = size_t{w.out_w - 1} * w.stride_w + size_t{w.kernel_w - 1} * w.dilation_w + 1;
  const bool inside = w.pad_top == 0 && w.pad_left == 0 && reach_h <= w.in_h && reach_w <= w.in_w;
  const size_t pixels = plan.out_h * plan.out_w;
  const bool pointwise = plan.taps == 1 && inside && w.stride_h == 1 && w.stride_w == 1 && w.in_h == w.out_h &&
      w.in_w == w.out_w;

  if (pointwise && pixels >= kLanes) {
    plan.staging = Staging::kInPlace;
    plan.out_h = 1;
    plan.out_w = pixels;
    plan.plane = pixels;
  } else if (inside && w.stride_w == 1 && w.out_w >= kLanes) {
    plan.staging = Staging::kInPlace;
    plan.plane = size_t{w.in_h} * w.in_w;
    plan.pitch = w.in_w;
    plan.row_step = size_t{w.stride_h} * w.in_w;
  } else {
    plan.staging = Staging::kPadded;
    plan.rows = reach_h;
    plan.phases = smaller(w.stride_w, reach_w);  // a single output column may have any stride, and needs none
    plan.phase = divide_up(reach_w, plan.phases);
    plan.pitch = plan.phase * plan.phases;
    plan.plane = plan.rows * plan.pitch;
    plan.row_step = w.stride_h * plan.pitch;
    plan.staged = plan.in_c * plan.plane + kLanes;
  }
  // What each way costs, in cycles: half of one for a vector of one channel and one tap, and what storing and staging
  // take.
  const size_t depth = plan.in_c * plan.taps, span = (plan.out_h - 1) * plan.row_step + plan.out_w;
  const size_t by_row = plan.out_h * divide_up(plan.out_w, kLanes) * plan.out_c * (depth / 2 + 1);
  const size_t running_on = divide_up(span, kLanes) * plan.out_c * (depth / 2 + (kLanes == 16 ? 4 : 12));
  const size_t in_columns = divide_up(pixels, kLanes) * plan.out_c * (depth / 2 + 1) +
      depth * plan.out_h * (w.stride_w == 1 ? 10 : plan.out_w);
  if (plan.staging == Staging::kPadded && in_columns < by_row && in_columns < running_on) {
    plan.staging = Staging::kColumns;
    plan.out_h = 1;
    plan.out_w = pixels;
    plan.plane = pixels;
    plan.staged = depth * pixels + kLanes;
    plan.in_c = depth;
    plan.taps = 1;
  } else if (plan.out_h > 1 && span >= kLanes && running_on < by_row) {
    plan.runs_on = true;
  }
  plan.lanes = smaller(plan.out_w, kLanes);
  plan.row_vectors = divide_up(plan.runs_on ? span : plan.out_w, kLanes);
  return plan;
}

// Where tap (kernel row, kernel column) of a channel lies from the first one, in staged elements.
inline size_t tap_offset(const ConvPlan& plan, const Window& w, size_t kh, size_t kw) {
  const size_t row = kh * w.dilation_h * plan.pitch, column = kw * w.dilation_w;
  if (plan.staging != Staging::kPadded) return row + column;
  return row + column % plan.phases * plan.phase + column / plan.phases;
}

// Channels of a group are dealt out evenly into tiles; weights lie tile by tile, tap by tap, channel by channel.
inline size_t channel_tiles(size_t out_c) { return divide_up(out_c, kTileChannels); }
inline size_t tile_channel(size_t out_c, size_t tile) { return tile * out_c / channel_tiles(out_c); }

size_t conv_packed_elements(const Window& w) {
  return size_t{w.out_c} * (w.in_c / w.groups) * w.kernel_h * w.kernel_w;
}

void conv_pack(const Window& w, const float* weights, float* out) {
  const size_t out_c = w.out_c / w.groups, depth = size_t{w.in_c / w.groups} * w.kernel_h * w.kernel_w;
  for (size_t group = 0; group < w.groups; group++, weights += out_c * depth) {
    for (size_t tile = 0; tile < channel_tiles(out_c); tile++) {
      for (size_t p = 0; p < depth; p++) {
        for (size_t oc = tile_channel(out_c, tile); oc < tile_channel(out_c, tile + 1); oc++) {
          *out++ = weights[oc * depth + p];
        }
      }
    }
  }
}

// Tap offsets come first, as size_t, in whole cache lines; the staged input follows.
inline size_t offsets_elements(size_t taps) { return divide_up(taps * sizeof(size_t), 64) * 64 / sizeof(float); }

size_t conv_workspace_elements(const Window& w) {
  const ConvPlan plan = plan_conv(w);
  return offsets_elements(plan.taps) + plan.staged;
}

// One group of one image, with zeros around it and its columns sorted by phase.
inline void stage_padded(const ConvPlan& plan, const Window& w, const float* x, float* out) {
  const size_t stride = plan.phases;
  for (size_t ic = 0; ic < plan.in_c; ic++) {
    for (size_t row = 0; row < plan.rows; row++, out += plan.pitch) {
      const size_t ih = row - w.pad_top;  // wraps above the input, and is then too large
      if (ih >= w.in_h) {
        for (size_t i = 0; i < plan.pitch; i++) out[i] = 0;
        continue;
      }
      const float* from = x + (ic * w.in_h + ih) * w.in_w;
      for (size_t phase = 0; phase < stride; phase++) {
        float* to = out + phase * plan.phase;
        // Column i of a phase is column i * stride + phase of the padded input.
        const size_t left = w.pad_left > phase ? smaller(divide_up(w.pad_left - phase, stride), plan.phase) : 0;
        const size_t end = size_t{w.pad_left} + w.in_w;
        const size_t right = end > phase ? smaller(divide_up(end - phase, stride), plan.phase) : 0;
        size_t i = 0;
        for (; i < left; i++) to[i] = 0;
        if (stride == 1) {
          for (; i < right; i += kLanes) {
            const size_t width = smaller(right - i, kLanes);
            store_up_to(to + i, load_up_to(from + (i - w.pad_left), width), width);
          }
          i = left < right ? right : left;
        } else {
          for (; i < right; i++) to[i] = from[i * stride + phase - w.pad_left];
        }
        for (; i < plan.phase; i++) to[i] = 0;
      }
    }
  }
}

// im2col: one row of all output pixels per tap.
inline void stage_columns(const Window& w, size_t in_c, const float* x, float* out) {
  for (size_t ic = 0; ic < in_c; ic++) {
    const float* plane = x + ic * w.in_h * w.in_w;
    for (size_t kh = 0; kh < w.kernel_h; kh++) {
      for (size_t kw = 0; kw < w.kernel_w; kw++) {
        // Outputs [left, right) see this column of the kernel inside the input.
        const size_t column = kw * w.dilation_w, end = size_t{w.pad_left} + w.in_w;
        const size_t left = w.pad_left > column ? smaller(divide_up(w.pad_left - column, w.stride_w), w.out_w) : 0;
        const size_t right = end > column ? smaller(divide_up(end - column, w.stride_w), w.out_w) : 0;
        for (size_t oh = 0; oh < w.out_h; oh++, out += w.out_w) {
          // Wraps above the input, and is then too large.
          const size_t ih = oh * w.stride_h + kh * w.dilation_h - w.pad_top;
          if (ih >= w.in_h || left >= right) {
            for (size_t ow = 0; ow < w.out_w; ow++) out[ow] = 0;
            continue;
          }
          const float* from = plane + ih * w.in_w + (left * w.stride_w + column - w.pad_left);
          for (size_t ow = 0; ow < left; ow++) out[ow] = 0;
          if (w.stride_w == 1) {
            for (size_t ow = left; ow < right; ow += kLanes) {
              const size_t width = smaller(right - ow, kLanes);
              store_up_to(out + ow, load_up_to(from + (ow - left), width), width);
            }
          } else {
            for (size_t ow = left; ow < right; ow++) out[ow] = from[(ow - left) * w.stride_w];
          }
          for (size_t ow = right; ow < w.out_w; ow++) out[ow] = 0;
        }
      }
    }
  }
}

// The next vectors of an output plane: where each starts in the staged input and in the output; and, where vectors run
// on, which lanes are outputs.
struct Pixels {
  const float* x[kWidePixels];
  size_t y[kWidePixels];
  uint32_t chosen[kWidePixels];
};

template <size_t Channels, size_t Vectors>
void convolve_tile(const ConvPlan& plan, const size_t* offsets, const Pixels& pixels, const float* weights, float* y,
                   size_t y_plane, const float* bias, const Epilogue& e) {
  F sum[Channels][Vectors] = {};
  const float* x[Vectors];
#pragma GCC unroll 8
  for (size_t v = 0; v < Vectors; v++) x[v] = pixels.x[v];
  const size_t taps = plan.taps, plane = plan.plane;
  for (size_t ic = 0, base = 0; ic < plan.in_c; ic++, base += plane) {
    for (size_t tap = 0; tap < taps; tap++) {
      const size_t at = base + offsets[tap];
      F in[Vectors];
#pragma GCC unroll 8
      for (size_t v = 0; v < Vectors; v++) in[v] = load(x[v] + at);
#pragma GCC unroll 8
      for (size_t oc = 0; oc < Channels; oc++) {
        const F weight = broadcast(weights[oc]);
#pragma GCC unroll 8
        for (size_t v = 0; v < Vectors; v++) sum[oc][v] = fma(weight, in[v], sum[oc][v]);
      }
      weights += Channels;
    }
  }
#pragma GCC unroll 8
  for (size_t oc = 0; oc < Channels; oc++) {
    const F shift = broadcast(bias ? bias[oc] : 0);
#pragma GCC unroll 8
    for (size_t v = 0; v < Vectors; v++) {
      const F value = activate(bias ? sum[oc][v] + shift : sum[oc][v], e);
      float* to = y + oc * y_plane + pixels.y[v];
      plan.runs_on ? store_chosen(to, value, pixels.chosen[v]) : store_up_to(to, value, plan.lanes);
    }
  }
}

using ConvKernel = void (*)(const ConvPlan&, const size_t*, const Pixels&, const float*, float*, size_t, const float*,
                            const Epilogue&);
struct ConvTable {
  ConvKernel of[kTileChannels + 1][kWidePixels + 1];
};
template <size_t Channels>
constexpr void fill_conv(ConvTable& table) {
  table.of[Channels][1] = convolve_tile<Channels, 1>;
  table.of[Channels][2] = convolve_tile<Channels, 2>;
  table.of[Channels][3] = convolve_tile<Channels, 3>;
  if constexpr (Channels <= wide_channels()) {
    table.of[Channels][4] = convolve_tile<Channels, 4>;
    table.of[Channels][5] = convolve_tile<Channels, 5>;
    table.of[Channels][6] = convolve_tile<Channels, 6>;
  }
  if constexpr (Channels > 1) fill_conv<Channels - 1>(table);
}
constexpr ConvTable make_conv() {
  ConvTable table{};
  fill_conv<kTileChannels>(table);
  return table;
}
constexpr ConvTable kConv = make_conv();

// Walks the vectors of an output plane.
class PixelWalk {
 public:
  PixelWalk(const ConvPlan& plan, const float* staged) : plan_(plan), x_(staged) {}

  // Fills `pixels` with the next `most` vectors or those that are left, and returns their number.
  size_t next(size_t most, Pixels& pixels) {
    size_t count = 0;
    if (plan_.runs_on) {
      for (; count < most && vector_ < plan_.row_vectors; count++, vector_++) run_on(pixels, count);
      return count;
    }
    for (; count < most && row_ < plan_.out_h; count++) {
      const size_t column = smaller(vector_ * kLanes, plan_.out_w - plan_.lanes);
      pixels.x[count] = x_ + column;
      pixels.y[count] = row_ * plan_.out_w + column;
      if (++vector_ == plan_.row_vectors) {
        vector_ = 0;
        row_++;
        x_ += plan_.row_step;
      }
    }
    return count;
  }

 private:
  void run_on(Pixels& pixels, size_t at) {
    const size_t span = (plan_.out_h - 1) * plan_.row_step + plan_.out_w;
    const size_t start = smaller(vector_ * kLanes, span - kLanes);
    size_t row = start / plan_.row_step, column = start % plan_.row_step;
    pixels.x[at] = x_ + start;
    pixels.y[at] = row * plan_.out_w + smaller(column, plan_.out_w);
    uint32_t chosen = 0;
    for (size_t lane = 0; lane < kLanes; row++, column = 0) {
      const size_t outputs = column < plan_.out_w ? smaller(plan_.out_w - column, kLanes - lane) : 0;
      chosen |= ((uint32_t{1} << outputs) - 1) << lane;
      lane += smaller(plan_.row_step - column, kLanes - lane);
    }
    pixels.chosen[at] = chosen;
  }

  const ConvPlan& plan_;
  const float* x_;
  size_t row_ = 0, vector_ = 0;
};

inline void convolve_group(const ConvPlan& plan, const size_t* offsets, const float* staged, const float* weights,
                           float* y, const float* bias, const Epilogue& e) {
  const size_t y_plane = plan.out_h * plan.out_w, depth = plan.in_c * plan.taps, tiles = channel_tiles(plan.out_c);
  // The last is never narrower.
  const size_t widest = tile_channel(plan.out_c, tiles) - tile_channel(plan.out_c, tiles - 1);
  const size_t most = widest <= wide_channels() ? kWidePixels : kTilePixels;
  // Whichever of weights and input is larger is streamed once; the other stays in cache and is read again and again.
  const bool weights_outside = plan.out_c * depth > plan.in_c * plan.plane;
  const auto run = [&](size_t tile, const Pixels& pixels, size_t count) {
    const size_t oc = tile_channel(plan.out_c, tile), channels = tile_channel(plan.out_c, tile + 1) - oc;
    kConv.of[channels][count](plan, offsets, pixels, weights + oc * depth, y + oc * y_plane, y_plane,
                              bias ? bias + oc : nullptr, e);
  };
  Pixels pixels;
  for (size_t outer = 0; outer < (weights_outside ? tiles : 1); outer++) {
    PixelWalk walk(plan, staged);
    while (const size_t count = walk.next(most, pixels)) {
      if (weights_outside) {
        run(outer, pixels, count);
      } else {
        for (size_t tile = 0; tile < tiles; tile++) run(tile, pixels, count);
      }
    }
  }
}

void convolve(const Window& w, const float* x, const float* weights, float* y, const Epilogue& e, float* workspace) {
  const ConvPlan plan = plan_conv(w);
  size_t* offsets = reinterpret_cast<size_t*>(workspace);
  float* staged = workspace + offsets_elements(plan.taps);
  if (plan.staging == Staging::kColumns) {
    offsets[0] = 0;
  } else {
    for (size_t kh = 0; kh < w.kernel_h; kh++) {
      for (size_t kw = 0; kw < w.kernel_w; kw++) offsets[kh * w.kernel_w + kw] = tap_offset(plan, w, kh, kw);
    }
  }
  const size_t in_c = w.in_c / w.groups, in_group = in_c * w.in_h * w.in_w;
  const size_t out_group = plan.out_c * w.out_h * w.out_w, weight_group = plan.out_c * plan.in_c * plan.taps;
  for (size_t image = 0; image < w.batch; image++) {
    for (size_t group = 0; group < w.groups; group++, x += in_group, y += out_group) {
      if (plan.staging == Staging::kPadded) stage_padded(plan, w, x, staged);
      if (plan.staging == Staging::kColumns) stage_columns(w, in_c, x, staged);
      convolve_group(plan, offsets, plan.staging == Staging::kInPlace ? x : staged, weights + group * weight_group, y,
                     e.bias ? e.bias + group * plan.out_c : nullptr, e);
    }
  }
}

}  // namespace

constinit const ConvKernels conv = {conv_packed_elements, conv_pack, conv_workspace_elements, convolve};

}  // namespace cloister::CLOISTER_ROW
