// quantize:         x, y, scales, [zeros] · outer n inner least most
// dequantize:       x, y, scales, [zeros] · outer n inner type (0 unsigned bytes, 1 signed bytes, 2 i32)
// dynamicQuantize:  x, y, scale, zero
// int8Binary:       a, b, y · op signed a_zero b_zero a_scale b_scale scale zero least most
// int8Lookup:       x, table, y
// int8Mean:         x, y · batch places channels signed x_zero factor (f64: low word, high word) zero least most
//
// Element (o, i, j) of outer x n x inner has scale and zero point i. b is as long as y or one byte. y of int8Binary
// and int8Lookup may lie exactly over an operand that is read byte for byte. int8Mean averages places of NHWC.
#include <cmath>
#include <cstring>

#include "int8.h"

namespace cloister {
namespace {

class Quantize final : public Step {
 public:
  size_t outer, n, inner;
  int32_t least, most;
  bool has_zeros;
  Ref x, y, scales, zeros;

  void run(const Frame& frame, uint32_t task) const override {
    const float* from = frame.at<float>(x);
    uint8_t* to = frame.at<uint8_t>(y);
    const uint8_t* offsets = has_zeros ? frame.at<uint8_t>(zeros) : nullptr;
    const auto zero = [&](size_t i) -> int32_t {
      if (!offsets) return 0;
      return least < 0 ? static_cast<int8_t>(offsets[i]) : offsets[i];
    };
    const float* units = frame.at<float>(scales);
    if (n == 1) {
      const Share share = share_of(outer * inner, task, tasks);
      frame.row.int8.quantize(from + share.first, to + share.first, share.last - share.first, units[0], zero(0), least,
                              most);
      return;
    }
    const Share share = share_of(outer * n, task, tasks);
    for (size_t i = share.first; i < share.last; i++) {
      frame.row.int8.quantize(from + i * inner, to + i * inner, inner, units[i % n], zero(i % n), least, most);
    }
  }
};

enum QuantisedType : uint32_t { kUnsignedBytes, kSignedBytes, kIntegers, kQuantisedTypes };

class Dequantize final : public Step {
 public:
  size_t outer, n, inner;
  QuantisedType type;
  bool has_zeros;
  Ref x, y, scales, zeros;

  void run(const Frame& frame, uint32_t task) const override {
    const bool whole = n == 1;
    const Share share = share_of(whole ? outer * inner : outer * n, task, tasks);
    if (whole) {
      part(frame, 0, share.first, share.last - share.first);
      return;
    }
    for (size_t i = share.first; i < share.last; i++) part(frame, i % n, i * inner, inner);
  }

 private:
  void part(const Frame& frame, size_t i, size_t from, size_t count) const {
    float* to = frame.at<float>(y) + from;
    const float scale = frame.at<float>(scales)[i];
    if (type == kIntegers) {
      const int32_t* integers = frame.at<int32_t>(x) + from;
      const double zero = has_zeros ? frame.at<int32_t>(zeros)[i] : 0;
      for (size_t j = 0; j < count; j++) {
        to[j] = static_cast<float>((static_cast<double>(integers[j]) - zero) * static_cast<double>(scale));
      }
      return;
    }
    const uint8_t flip = type == kSignedBytes ? 0x80 : 0;
    int32_t zero = 0;
    if (has_zeros) zero = flip ? frame.at<int8_t>(zeros)[i] : frame.at<uint8_t>(zeros)[i];
    frame.row.int8.dequantize(frame.at<uint8_t>(x) + from, to, count, flip, zero, scale);
  }
};

class DynamicQuantize final : public Step {
 public:
  size_t count;
  Ref x, y, scale, zero;

  void run(const Frame& frame, uint32_t) const override {
    const float* from = frame.at<float>(x);
    float least = 0, most = 0;
    frame.row.int8.range(from, count, &least, &most);
    // No range, or one so small that its scale would be 0, holds nothing but zeros at the scale 1.
    float unit = (most - least) / 255.0f;
    if (unit == 0) unit = 1;
    const float offset = -least / unit;
    const int32_t whole = offset > 0 ? static_cast<int32_t>(std::nearbyint(offset < 255 ? offset : 255)) : 0;
    frame.row.int8.quantize(from, frame.at<uint8_t>(y), count, unit, whole, 0, 255);
    *frame.at<float>(scale) = unit;
    *frame.at<uint8_t>(zero) = static_cast<uint8_t>(whole);
  }
};

class Pair final : public Step {
 public:
  Int8Binary op;
  Int8Pair pair;
  size_t count, b_step;
  Ref a, b, y;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(count, task, tasks);
    frame.row.int8.binary(op, pair, frame.at<uint8_t>(a) + share.first, frame.at<uint8_t>(b) + share.first * b_step,
                          b_step, frame.at<uint8_t>(y) + share.first, share.last - share.first);
  }
};

class Lookup final : public Step {
 public:
  size_t count;
  Ref x, table, y;

  void run(const Frame& frame, uint32_t task) const override {
    const Share share = share_of(count, task, tasks);
    frame.row.int8.lookup(frame.at<uint8_t>(table), frame.at<uint8_t>(x) + share.first,
                          frame.at<uint8_t>(y) + share.first, share.last - share.first);
  }
};

class Mean final : public Step {
 public:
  size_t batch, places, channels;
  uint8_t flip;
  int32_t x_zero, zero, least, most;
  double factor;
  Ref x, y;

  void run(const Frame& frame, uint32_t) const override {
    uint32_t* sums = frame.scratch<uint32_t>();
    const double lo = least - zero, hi = most - zero, base = static_cast<double>(x_zero + (flip ? 128 : 0)) * places;
    for (size_t image = 0; image < batch; image++) {
      frame.row.int8.sum_places(frame.at<uint8_t>(x) + image * places * channels, flip, places, channels, sums);
      uint8_t* to = frame.at<uint8_t>(y) + image * channels;
      for (size_t c = 0; c < channels; c++) {
        const double mean = static_cast<float>((sums[c] - base) * factor);
        to[c] = static_cast<uint8_t>(static_cast<int32_t>(std::nearbyint(mean > lo ? mean < hi ? mean : hi : lo)) + zero);
      }
    }
  }
};

int32_t whole_word(const StepReader& r, size_t i) { return static_cast<int32_t>(r.word(i)); }

bool is_unit(float v) { return v > 0 && std::isfinite(v); }

// The three sizes of an axis and what surrounds it; the volume.
bool read_axis(StepReader& r, uint64_t* volume) {
  if (!r.dim(r.word(0), "outer") || !r.dim(r.word(1), "n") || !r.dim(r.word(2), "inner")) return false;
  *volume = product({r.word(0), r.word(1), r.word(2)});
  return true;
}

// How many bytes operand i has, of which there must be some.
bool some_bytes(StepReader& r, size_t i, uint64_t* bytes) {
  *bytes = r.length(i);
  return *bytes > 0 || r.fail("operand-size", "operand %zu is empty", i);
}

}  // namespace

std::unique_ptr<Step> read_quantize(StepReader& r) {
  auto step = std::make_unique<Quantize>();
  uint64_t volume = 0;
  if (!r.form(3, 4, 5) || !read_axis(r, &volume)) return nullptr;
  step->outer = r.word(0);
  step->n = r.word(1);
  step->inner = r.word(2);
  step->least = whole_word(r, 3);
  step->most = whole_word(r, 4);
  step->has_zeros = r.operands() > 3;
  if (!read_byte_range(r, 0, step->least, step->most) || !r.reads(0, product({volume, 4}), 4, &step->x) ||
      !r.reads(2, product({step->n, 4}), 4, &step->scales) ||
      (step->has_zeros && !r.reads(3, step->n, 1, &step->zeros)) || !r.writes(1, volume, 1, &step->y)) {
    return nullptr;
  }
  step->work = product({volume, 5});
  step->tasks = tasks_for(step->work, step->n == 1 ? volume : volume / step->inner);
  return step;
}

std::unique_ptr<Step> read_dequantize(StepReader& r) {
  auto step = std::make_unique<Dequantize>();
  uint64_t volume = 0;
  if (!r.form(3, 4, 4) || !read_axis(r, &volume) || !r.choice(r.word(3), kQuantisedTypes, "type")) return nullptr;
  step->outer = r.word(0);
  step->n = r.word(1);
  step->inner = r.word(2);
  step->type = static_cast<QuantisedType>(r.word(3));
  step->has_zeros = r.operands() > 3;
  const uint32_t element = step->type == kIntegers ? 4 : 1;
  if (!r.reads(0, product({volume, element}), element, &step->x) ||
      !r.reads(2, product({step->n, 4}), 4, &step->scales) ||
      (step->has_zeros && !r.reads(3, product({step->n, element}), element, &step->zeros)) ||
      !r.writes(1, product({volume, 4}), 4, &step->y)) {
    return nullptr;
  }
  step->work = product({volume, 5});
  step->tasks = tasks_for(step->work, step->n == 1 ? volume : volume / step->inner);
  return step;
}

std::unique_ptr<Step> read_dynamic_quantize(StepReader& r) {
  auto step = std::make_unique<DynamicQuantize>();
  uint64_t count = 0;
  if (!r.form(4, 4, 0) || !some_bytes(r, 1, &count) || !r.reads(0, product({count, 4}), 4, &step->x) ||
      !r.writes(1, count, 1, &step->y) || !r.writes(2, 4, 4, &step->scale) || !r.writes(3, 1, 1, &step->zero)) {
    return nullptr;
  }
  step->count = count;
  step->work = product({count, 9});
  return step;
}

std::unique_ptr<Step> read_int8_binary(StepReader& r) {
  auto step = std::make_unique<Pair>();
  uint64_t count = 0;
  if (!r.form(3, 3, 10) || !r.choice(r.word(0), kInt8BinaryCount, "operation") || !r.flag(r.word(1), "signed") ||
      !some_bytes(r, 2, &count)) {
    return nullptr;
  }
  step->op = static_cast<Int8Binary>(r.word(0));
  step->pair = {flip_of(r.word(1)), whole_word(r, 2), whole_word(r, 3), r.real(4),       r.real(5),
                r.real(6),          whole_word(r, 7), whole_word(r, 8), whole_word(r, 9)};
  const Int8Pair& p = step->pair;
  if (!read_byte_range(r, p.a_zero, p.least, p.most) || !read_byte_range(r, p.b_zero, p.least, p.most) ||
      !read_byte_range(r, p.zero, p.least, p.most)) {
    return nullptr;
  }
  if (!is_unit(p.a_scale) || !is_unit(p.b_scale) || !is_unit(p.scale)) {
    return r.fail("enum", "scales must be positive and finite"), nullptr;
  }
  step->count = count;
  step->b_step = r.length(1) == count && count > 1 ? 1 : 0;
  r.in_place(0, 2);
  if (step->b_step) r.in_place(1, 2);
  if (!r.reads(0, count, 1, &step->a) || !r.reads(1, step->b_step ? count : 1, 1, &step->b) ||
      !r.writes(2, count, 1, &step->y)) {
    return nullptr;
  }
  step->work = product({count, 3});
  step->tasks = tasks_for(step->work, count);
  return step;
}

std::unique_ptr<Step> read_int8_lookup(StepReader& r) {
  auto step = std::make_unique<Lookup>();
  uint64_t count = 0;
  if (!r.form(3, 3, 0) || !some_bytes(r, 2, &count)) return nullptr;
  step->count = count;
  r.in_place(0, 2);
  if (!r.reads(0, count, 1, &step->x) || !r.reads(1, 256, 1, &step->table) || !r.writes(2, count, 1, &step->y)) {
    return nullptr;
  }
  step->work = product({count, 2});
  step->tasks = tasks_for(step->work, count);
  return step;
}

std::unique_ptr<Step> read_int8_mean(StepReader& r) {
  auto step = std::make_unique<Mean>();
  if (!r.form(2, 2, 10) || !r.dim(r.word(0), "batch") || !r.dim(r.word(1), "places") || !r.dim(r.word(2), "channels") ||
      !r.flag(r.word(3), "signed")) {
    return nullptr;
  }
  step->batch = r.word(0);
  step->places = r.word(1);
  step->channels = r.word(2);
  step->flip = flip_of(r.word(3));
  step->x_zero = whole_word(r, 4);
  const uint64_t bits = r.word(5) | static_cast<uint64_t>(r.word(6)) << 32;
  std::memcpy(&step->factor, &bits, sizeof bits);
  step->zero = whole_word(r, 7);
  step->least = whole_word(r, 8);
  step->most = whole_word(r, 9);
  if (!read_byte_range(r, step->x_zero, step->least, step->most) ||
      !read_byte_range(r, step->zero, step->least, step->most)) {
    return nullptr;
  }
  // A sum of bytes must fit 32 bits.
  if (step->places > UINT32_MAX / 255) {
    return r.fail("no-overflow", "a mean of %zu places", step->places), nullptr;
  }
  if (!r.reads(0, product({step->batch, step->places, step->channels}), 1, &step->x) ||
      !r.writes(1, product({step->batch, step->channels}), 1, &step->y)) {
    return nullptr;
  }
  step->scratch_bytes = product({step->channels, 4});
  step->work = product({step->batch, step->places, step->channels});
  return step;
}

}  // namespace cloister
