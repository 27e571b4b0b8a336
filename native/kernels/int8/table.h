// Products and convolutions of bytes with exact sums, and what else quantised models compute.
//
// A byte is unsigned, or signed and then told by a flip of 0x80: flipped, the order of signed bytes is that of unsigned
// ones, so kernels work on a ^ flip, with the zero point flipped alike. Images are NHWC. Sums are integers modulo 2^32,
// as 32-bit integers wrap, so they come out the same in any order and every row gives the same bits.
#pragma once
#include "../types.h"

namespace cloister {

// What becomes of a sum: y = round(sum * factor) + zero, ties to even, clamped to [least, most] and stored as a byte;
// without factors the sum itself, as i32. What NaN gives is left open.
struct Int8Output {
  const float* factors;  // null: i32
  bool per_column;       // a factor for each column (output channel), or one for all
  int32_t zero, least, most;
};

// One operand of a sum of products, and its zero points.
struct Int8Operand {
  const uint8_t* data;
  uint8_t flip;          // 0x80 if signed
  const uint8_t* zeros;  // null: none
  bool per_column;       // of B: a zero point for each column, or one for all
};

// B of a product as it is stored: k = taps * depth; element (tap * depth + d, j) is at tap * tap_step + d * depth_step +
// j * column_step.
struct Int8Matrix {
  size_t taps, depth, n;
  size_t tap_step, depth_step, column_step;
};

// The rows of A are `lda` apart, those of C `ldc` elements.
struct Int8Product {
  size_t m, n, k;
  Int8Operand a, b;  // b.data: packed
  size_t lda;
  const int32_t* bias;  // one per column, or null
  Int8Output output;
  void* c;
  size_t ldc;
};

// A convolution, one group at a time or, depthwise, of one input and output channel per group.
struct Int8Conv {
  Window window;
  Int8Operand x, w;  // w.data: packed
  const int32_t* bias;
  Int8Output output;
  void* y;
};

enum Int8Binary : uint32_t { kInt8Add, kInt8Mul, kInt8BinaryCount };

// y of two bytes: add ((a - a_zero) * a_scale) / scale + ((b - b_zero) * b_scale) / scale, each term in double, the sum
// rounded to float; mul (a - a_zero) * (b - b_zero) * float(float(a_scale * b_scale) / scale), rounded to float. Then as
// Int8Output says. Scales are finite and positive.
struct Int8Pair {
  uint8_t flip;  // of all three
  int32_t a_zero, b_zero;
  float a_scale, b_scale, scale;
  int32_t zero, least, most;
};

struct Int8Kernels {
  uint32_t panel;  // columns of one packed panel

  // B in panels, and the sums of its columns. 64-byte aligned.
  size_t (*packed_bytes)(size_t k, size_t n);
  void (*pack)(const Int8Matrix& shape, const uint8_t* b, uint8_t flip, void* out);
  // Columns [from, to) of rows [first, last) of the product; `from` is a multiple of the panel. workspace:
  // product_workspace(rows, n, k) bytes, 64-byte aligned.
  size_t (*product_workspace)(size_t m, size_t n, size_t k);
  void (*multiply)(const Int8Product& product, size_t first, size_t last, size_t from, size_t to, void* workspace);

  // Output places [first, last) of batch * out_h * out_w, all groups. Weights of each group are packed as the matrix of
  // kernel_h * kernel_w taps, in_c / groups deep, one behind another.
  size_t (*conv_workspace)(const Window& window);
  void (*convolve)(const Int8Conv& conv, size_t first, size_t last, void* workspace);

  // Depthwise: weights are centred, that is less their zero points (1 or out_c of them), when they are packed; then
  // w.zeros is not read. Output rows [first, last) of batch * out_h.
  size_t (*depthwise_bytes)(const Window& window);
  void (*depthwise_pack)(const Window& window, const Int8Operand& w, void* out);
  size_t (*depthwise_workspace)(const Window& window);
  void (*depthwise)(const Int8Conv& conv, size_t first, size_t last, void* workspace);

  // Widens [least, most] to all of x. NaN widens nothing.
  void (*range)(const float* x, size_t count, float* least, float* most);
  // y[i] = round(x[i] / scale) + zero, clamped to [least, most]; NaN becomes 0.
  void (*quantize)(const float* x, uint8_t* y, size_t count, float scale, int32_t zero, int32_t least, int32_t most);
  // y[i] = (x[i] ^ flip - zero) * scale.
  void (*dequantize)(const uint8_t* x, float* y, size_t count, uint8_t flip, int32_t zero, float scale);
  // y[i] = a[i] op b[i]; b repeats where b_step is 0. y may be a or b.
  void (*binary)(Int8Binary op, const Int8Pair& pair, const uint8_t* a, const uint8_t* b, size_t b_step, uint8_t* y,
                 size_t count);
  // y[i] = table[x[i]]. y may be x.
  void (*lookup)(const uint8_t* table, const uint8_t* x, uint8_t* y, size_t count);
  // sums[c] = the sum of x[place][c] ^ flip over all places, modulo 2^32.
  void (*sum_places)(const uint8_t* x, uint8_t flip, size_t places, size_t channels, uint32_t* sums);
};

}  // namespace cloister
