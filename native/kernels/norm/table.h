// Normalisation of f32 over rows and over groups of channels.
#pragma once
#include "../types.h"

namespace cloister {

// What is normalised: rows of n elements, of x or of x + residual (+ residual_bias, of n elements).
struct NormRows {
  size_t rows, n;
  const float* x;
  const float* residual;       // null: none
  const float* residual_bias;  // null: none; needs a residual
  const float* scale;          // n elements
  const float* bias;           // n elements; null: none
  float epsilon;
  bool centred;  // layer normalisation; else by the root of the mean square alone (RMS)
  float* y;      // may be x or residual
  float* sum;    // rows x n, what was normalised; null: not wanted. May be x or residual where y is not
  bool stream;   // y is written past the caches where that is possible
};

struct NormKernels {
  void (*rows)(const NormRows& norm);
  // One group: channels x inner elements of one mean and variance, then a scale and a bias (null: none) per channel. y
  // may be x.
  void (*group)(size_t channels, size_t inner, const float* x, const float* scale, const float* bias, float epsilon,
                float* y);
};

}  // namespace cloister
