// Normalisation as its definition reads.
#include <math.h>

#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

// The mean of n elements and 1 / sqrt(variance + epsilon); about zero where they are not centred.
void statistics(size_t n, const float* x, bool centred, float epsilon, double* mean, double* inverse) {
  double sum = 0, squares = 0;
  for (size_t i = 0; i < n; i++) sum += x[i];
  *mean = centred ? sum / static_cast<double>(n) : 0;
  for (size_t i = 0; i < n; i++) squares += (x[i] - *mean) * (x[i] - *mean);
  *inverse = 1 / sqrt(squares / static_cast<double>(n) + epsilon);
}

void rows(const NormRows& norm) {
  const size_t n = norm.n;
  for (size_t r = 0; r < norm.rows; r++) {
    const float* x = norm.x + r * n;
    float* const y = norm.y + r * n;
    if (norm.residual) {
      float* const sum = norm.sum ? norm.sum + r * n : y;
      for (size_t i = 0; i < n; i++) {
        sum[i] = x[i] + norm.residual[r * n + i];
        if (norm.residual_bias) sum[i] += norm.residual_bias[i];
      }
      x = sum;
    }
    double mean, inverse;
    statistics(n, x, norm.centred, norm.epsilon, &mean, &inverse);
    for (size_t i = 0; i < n; i++) {
      y[i] = static_cast<float>((x[i] - mean) * inverse * norm.scale[i] + (norm.bias ? norm.bias[i] : 0));
    }
  }
}

void group(size_t channels, size_t inner, const float* x, const float* scale, const float* bias, float epsilon,
           float* y) {
  double mean, inverse;
  statistics(channels * inner, x, true, epsilon, &mean, &inverse);
  for (size_t i = 0; i < channels * inner; i++) {
    const size_t c = i / inner;
    y[i] = static_cast<float>((x[i] - mean) * inverse * scale[c] + (bias ? bias[c] : 0));
  }
}

}  // namespace

constinit const NormKernels norm = {rows, group};

}  // namespace cloister::CLOISTER_ROW
