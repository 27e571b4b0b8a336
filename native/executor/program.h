// The program: what a guest's planner hands to native code. Bytes in, a verified list of kernel calls out.
//
// All integers little-endian; every section starts 8-byte aligned; sections follow one another with no gap.
//
//   offset  size  header (80 bytes)
//        0     4  magic 0x52504C43, the bytes "CLPR"
//        4     4  version, 1
//        8     8  length of the whole program in bytes, at most 64 MiB
//       16     8  length of the model file that the constants are read from
//       24     8  bytes of the permanent arena (constants kept as they are; packed weights are placed behind them)
//       32     8  bytes of the temporary arena (activations)
//       40     8  bytes of the staging arena (exists during setup only)
//       48     4  constants, at most 65,536
//       52     4  packed weights, at most 65,536
//       56     4  inputs, at most 1,024
//       60     4  outputs, at most 1,024
//       64     4  setup steps, at most 65,536
//       68     4  run steps, at most 65,536
//       72     4  bytes of the inline section, at most 16 MiB
//       76     4  zero
//
//   constant (24): u32 source (0 model file, 1 inline section) · u32 zero · u64 offset · u64 length
//   packed   (72): u32 layout (0 GEMM B, 1 convolution) · u32 zero · u32[16]
//                  GEMM B: k, n, transposed (0|1), then 13 zeros · convolution: its window
//   port     (24): u32 dtype · u32 space · u64 offset · u64 length; the inputs, then the outputs
//   step         : u32 kind · u32 operands (at most 1,024) · u32 parameter words (at most 64) · u32 zero
//                  operands (24 each): u32 space · u32 packed index (else zero) · u64 offset · u64 length
//                  parameters: u32 words; one zero word when their number is odd; the setup steps, then the run steps
//   inline       : raw bytes, then zeros up to a multiple of 8; the program ends here
//
// window, 16 words: batch in_c in_h in_w out_c out_h out_w kernel_h kernel_w stride_h stride_w dilation_h dilation_w
//                   pad_top pad_left groups
//
//   kind          operands                    parameters
//   1 load        out                         constant                                              setup only
//   2 pack        in                          packed index                                          setup only
//   3 gemm        a, b, c, [bias]             m n k a_transposed b_transposed batches a_shared b_shared act lo hi
//   4 conv        x, w, y, [bias]             window[16] act lo hi
//   5 pool        x, y                        window[16] op
//   6 unary       x, y                        op p0 p1
//   7 binary      a, b, y                     op rank dims[rank] a_strides[rank] b_strides[rank]
//   8 softmax     x, y                        outer n inner log
//   9 reduce      x, y                        op outer n inner
//  10 copy        x, y                        element_bytes rank dims[rank] strides[rank] (i64: low word, high word)
//  11 concat      y, x...                     outer
//
// A float parameter is its IEEE 754 bits. Sizes that depend on the row of the dispatch table (packed weights,
// workspace) are not in the program: the verifier computes them, so one program runs on every row.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "../kernels/kernels.h"

namespace cloister {

constexpr uint32_t kProgramMagic = 0x52504C43;
constexpr uint32_t kProgramVersion = 1;
constexpr uint64_t kHeaderBytes = 80;
constexpr uint64_t kMaxProgramBytes = 64u << 20;
constexpr uint32_t kMaxConstants = 1u << 16;
constexpr uint32_t kMaxPacked = 1u << 16;
constexpr uint32_t kMaxPorts = 1u << 10;
constexpr uint32_t kMaxSteps = 1u << 16;
constexpr uint32_t kMaxOperands = 1u << 10;
constexpr uint32_t kMaxParameters = 64;
constexpr uint32_t kMaxInlineBytes = 16u << 20;
constexpr uint64_t kMaxArenaBytes = uint64_t{1} << 40;
constexpr uint32_t kMaxDim = 1u << 30;
constexpr uint64_t kArenaAlignment = 64;
constexpr uint64_t kMaxWork = uint64_t{1} << 44;  // minutes; a sooner end is for the caller's watchdog

enum Space : uint32_t { kTemporary = 1, kPermanent = 2, kStaging = 3, kPacked = 4 };

enum StepKind : uint32_t {
  kStepLoad = 1,
  kStepPack,
  kStepGemm,
  kStepConv,
  kStepPool,
  kStepUnary,
  kStepBinary,
  kStepSoftmax,
  kStepReduce,
  kStepCopy,
  kStepConcat,
  kStepKindEnd
};

// A place in an arena. A packed weight is resolved to its place in the permanent arena.
struct Ref {
  Space space = kTemporary;
  uint64_t offset = 0;
};

// An input or an output of the program.
struct Port {
  uint32_t dtype;
  Ref at;
  uint64_t length;
};

// One verified kernel call. Only the fields that `kind` needs are set.
struct Step {
  StepKind kind;
  uint32_t op = 0;  // UnaryOp, BinaryOp, ReduceOp, PoolOp
  Ref x, w, y, bias;
  bool has_bias = false;
  bool w_packed = false;  // gemm, conv: w lies packed in the permanent arena; else each run packs it into scratch
  Activation activation = kActNone;
  float p0 = 0, p1 = 0;  // unary parameters; lo and hi of an epilogue
  Window window = {};
  size_t m = 0, n = 0, k = 0, batches = 1;
  bool a_transposed = false, b_transposed = false;
  size_t a_step = 0, b_step = 0;  // elements from one batch to the next; 0 when shared
  size_t outer = 0, inner = 0;
  bool log = false;
  size_t count = 0;  // elements (unary)
  uint32_t rank = 0;
  uint32_t dims[kMaxRank] = {}, a_strides[kMaxRank] = {}, b_strides[kMaxRank] = {};
  int64_t strides[kMaxRank] = {};
  uint64_t start = 0;  // copy: bytes from the lowest byte of x to its first element
  uint32_t element_bytes = 4;
  bool from_model = false;          // load
  uint64_t source = 0, length = 0;  // load: where in the model file or the inline section, and how many bytes
  std::vector<Ref> parts;           // concat
  std::vector<uint64_t> row_bytes;
};

struct Program {
  std::vector<Port> inputs, outputs;
  std::vector<Step> setup, run;
  uint64_t permanent_bytes = 0;  // constants and packed weights
  uint64_t temporary_bytes = 0;
  uint64_t staging_bytes = 0;
  uint64_t scratch_bytes = 0;  // the most that one step, of setup or run, asks for
  uint64_t work = 0;           // multiply-adds and element visits, of setup and one run
  uint64_t inline_offset = 0;  // where the inline section begins in the program's bytes
};

// `code` is null when all is well; else `INVALID_PROGRAM` or `OUT_OF_MEMORY`, and `message` names the invariant
// (INVARIANTS.md), the step, the operand, what was expected and what came.
struct Verdict {
  const char* code = nullptr;
  std::string message;
  bool ok() const { return code == nullptr; }
};

// Decodes and verifies `bytes` as if a hostile guest had written them. Reads nothing outside them, allocates at most
// about thirty times their length, runs nothing. On success every call in `out` keeps each invariant of INVARIANTS.md
// on `row`. `limit_work` is at most kMaxWork.
Verdict verify_program(const uint8_t* bytes, size_t length, const Kernels& row, uint64_t model_bytes,
                       uint64_t limit_bytes, uint64_t limit_work, Program* out);

}  // namespace cloister
