// The tables of what a program may hold: kinds of steps and layouts of packed weights. To add one: its file in steps/,
// and one row here.
//
// Numbers are part of the format: rows are added at the end and never change their place. What a row's operands and
// parameters are stands above its reader in steps/.
#pragma once
#include <memory>

#include "step_reader.h"

namespace cloister {

struct StepKind {
  const char* name;
  // Verifies the step that `reader` is at. Null when it is refused; `reader` then has the reason.
  std::unique_ptr<Step> (*read)(StepReader& reader);
};

// How weights lie once they are packed. `words` are the 16 of a packed weight's record.
struct PackedLayout {
  const char* name;
  uint32_t element;  // bytes of the weights' elements as the model has them
  // Checks the words; says how many bytes the weights have before and after. False when refused.
  bool (*measure)(StepReader& reader, const uint32_t* words, uint64_t* source_bytes, uint64_t* packed_bytes);
  // False when the weights themselves break what the layout promises.
  bool (*pack)(const Kernels& row, const uint32_t* words, const uint8_t* source, uint8_t* packed);
};

// The first two numbers are load and pack, which the verifier reads itself.
constexpr uint32_t kStepLoad = 1, kStepPack = 2, kFirstKind = 3;

// Null for a number that is no kind (no layout).
const StepKind* step_kind(uint32_t number);
const PackedLayout* packed_layout(uint32_t number);
const char* step_kind_name(uint32_t number);

// A blocked convolution's layout is kLayoutBlocked and its form.
enum Layout : uint32_t {
  kLayoutGemm = 0,
  kLayoutConv = 1,
  kLayoutRecurrent = 2,
  kLayoutTrees = 3,
  kLayoutBlocked = 4,
  kLayoutInt8 = 7,
  kLayoutInt8Depthwise = 8,
};

}  // namespace cloister
