// Scalar softmax and reductions, as its definition reads.
#include <math.h>

#include "../scalar.h"
#include "../row.h"
#include "table.h"

namespace cloister::CLOISTER_ROW {
namespace {

void softmax(size_t outer, size_t n, size_t inner, bool log_of, const float* x, float* y, bool) {
  for (size_t o = 0; o < outer; o++) {
    for (size_t i = 0; i < inner; i++) {
      const size_t start = o * n * inner + i;
      float top = -INFINITY;
      for (size_t j = 0; j < n; j++) top = max_of(top, x[start + j * inner]);
      double sum = 0;
      for (size_t j = 0; j < n; j++) sum += exp(static_cast<double>(x[start + j * inner]) - top);
      for (size_t j = 0; j < n; j++) {
        const double shifted = static_cast<double>(x[start + j * inner]) - top;
        y[start + j * inner] = static_cast<float>(log_of ? shifted - log(sum) : exp(shifted) / sum);
      }
    }
  }
}

void reduce_axis(ReduceOp op, size_t outer, size_t n, size_t inner, const float* x, float* y) {
  for (size_t o = 0; o < outer; o++) {
    for (size_t i = 0; i < inner; i++) {
      const float* column = x + o * n * inner + i;
      double sum = 0, absolutes = 0, squares = 0, product = 1;
      float most = column[0], least = column[0];
      for (size_t j = 0; j < n; j++) {
        const float value = column[j * inner];
        const double wide = value;
        sum += wide;
        absolutes += fabs(wide);
        squares += wide * wide;
        product *= wide;
        most = max_of(most, value);
        least = min_of(least, value);
      }
      switch (op) {
        case kReduceSum: *y++ = static_cast<float>(sum); break;
        case kReduceMean: *y++ = static_cast<float>(sum / static_cast<double>(n)); break;
        case kReduceMax: *y++ = most; break;
        case kReduceMin: *y++ = least; break;
        case kReduceProduct: *y++ = static_cast<float>(product); break;
        case kReduceL1: *y++ = static_cast<float>(absolutes); break;
        case kReduceSumSquare: *y++ = static_cast<float>(squares); break;
        case kReduceL2: *y++ = static_cast<float>(sqrt(squares)); break;
        case kReduceOpCount: break;
      }
    }
  }
}

void arg(bool smallest, bool last, size_t outer, size_t n, size_t inner, const float* x, int64_t* y) {
  for (size_t o = 0; o < outer; o++) {
    for (size_t i = 0; i < inner; i++) {
      const float* column = x + o * n * inner + i;
      size_t best = 0;
      for (size_t j = 1; j < n; j++) {
        const float a = column[j * inner], b = column[best * inner];
        const bool equal = a == b || (a != a && b != b);
        const bool before = b == b && (a != a || (smallest ? a < b : a > b));
        if (before || (last && equal)) best = j;
      }
      *y++ = static_cast<int64_t>(best);
    }
  }
}

}  // namespace

constinit const ReduceKernels reduce = {softmax, reduce_axis, arg};

}  // namespace cloister::CLOISTER_ROW
