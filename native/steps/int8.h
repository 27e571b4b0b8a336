// What the steps on bytes share: zero points, and what becomes of a sum.
#pragma once
#include "../executor/kinds.h"

namespace cloister {

// The optional operands of a sum of products, in this order, and their words.
//
//   word  0 a_zero   0 none, 1 a byte
//         1 b_zeros  0 none, 1 a byte, 2 a byte per column
//         2 bias     0 none, 1 an i32 per column
//         3 factors  0 none: the sums are the result, as i32; 1 an f32, 2 an f32 per column
//         4 zero, 5 least, 6 most, as i32; all 0 without factors
constexpr size_t kSumWords = 7;

class Int8Sum {
 public:
  // Reads the words from `first` on, and the operands from `operand` on, which are all that are left.
  bool read(StepReader& r, size_t first, size_t operand, uint64_t columns);
  uint64_t element() const { return factors_ == 0 ? 4 : 1; }

  Int8Operand a(const Frame& frame, const uint8_t* data, uint8_t flip) const {
    return {data, flip, has_a_zero_ ? frame.at<uint8_t>(a_zero_) : nullptr, false};
  }
  Int8Operand b(const Frame& frame, const uint8_t* data, uint8_t flip) const {
    return {data, flip, b_zeros_ ? frame.at<uint8_t>(b_zero_) : nullptr, b_zeros_ == 2};
  }
  const int32_t* bias(const Frame& frame) const { return has_bias_ ? frame.at<int32_t>(bias_) : nullptr; }
  Int8Output output(const Frame& frame) const {
    return {factors_ ? frame.at<float>(factor_) : nullptr, factors_ == 2, zero_, least_, most_};
  }

 private:
  bool has_a_zero_ = false, has_bias_ = false;
  uint32_t b_zeros_ = 0, factors_ = 0;
  int32_t zero_ = 0, least_ = 0, most_ = 0;
  Ref a_zero_, b_zero_, bias_, factor_;
};

// Bounds of a byte and its zero point: all of them signed bytes, or all unsigned.
bool read_byte_range(StepReader& r, int32_t zero, int32_t least, int32_t most);

// A flag that says that a byte is signed, as what makes it unsigned.
inline uint8_t flip_of(uint32_t is_signed) { return is_signed ? 0x80 : 0; }

}  // namespace cloister
