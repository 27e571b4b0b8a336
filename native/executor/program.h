// The program: what a guest's planner hands to native code. Bytes in, a verified list of kernel calls out.
//
// All integers little-endian; every section starts 8-byte aligned; sections follow one another with no gap.
//
//   offset  size  header (80 bytes)
//        0     4  magic 0x52504C43, the bytes "CLPR"
//        4     4  version, 2
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
//   packed   (72): u32 layout · u32 zero · u32[16], what the layout says
//   port     (16): u32 dtype · u32 zero · u64 length; the inputs, then the outputs
//   step         : u32 kind · u32 operands (at most 1,024) · u32 parameter words (at most 1,024) · u32 zero
//                  operands (24 each): u32 space · u32 index (of the packed weight, input or output; else zero) ·
//                  u64 offset · u64 length
//                  parameters: u32 words; one zero word when their number is odd; the setup steps, then the run steps
//   inline       : raw bytes, then zeros up to a multiple of 8; the program ends here
//
// Spaces: 1 temporary, 2 permanent, 3 staging, 4 packed, 5 input, 6 output. An input and an output are arenas of their
// own, each as long as its port: a run reads the caller's bytes where they lie, and writes the caller's.
//
// The kinds of steps and of packed weights, with their operands and parameters, are in kinds.h; kinds 1 and 2:
//
//   kind          operands                    parameters
//   1 load        out                         constant                                              setup only
//   2 pack        in                          packed index                                          setup only
//
// A float parameter is its IEEE 754 bits. Sizes that depend on the row of the dispatch table (packed weights,
// workspace) are not in the program: the verifier computes them, so one program runs on every row.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "step.h"

namespace cloister {

constexpr uint32_t kProgramMagic = 0x52504C43;
constexpr uint32_t kProgramVersion = 2;
constexpr uint64_t kHeaderBytes = 80;
constexpr uint64_t kMaxProgramBytes = 64u << 20;
constexpr uint32_t kMaxConstants = 1u << 16;
constexpr uint32_t kMaxPacked = 1u << 16;
constexpr uint32_t kMaxPorts = 1u << 10;
constexpr uint32_t kMaxSteps = 1u << 16;
constexpr uint32_t kMaxOperands = 1u << 10;
constexpr uint32_t kMaxParameters = 1u << 10;
constexpr uint32_t kMaxInlineBytes = 16u << 20;
constexpr uint64_t kMaxArenaBytes = uint64_t{1} << 40;
constexpr uint32_t kMaxDim = 1u << 30;
constexpr uint64_t kMaxWork = uint64_t{1} << 44;  // minutes; a sooner end is for the caller's watchdog

enum Space : uint32_t { kTemporary = 1, kPermanent, kStaging, kPacked, kInput, kOutput, kSpaceEnd };

// An input or an output of the program.
struct Port {
  uint32_t dtype;
  uint32_t alignment;  // of its first byte: the largest element that a step takes it for
  uint64_t length;
};

// A constant that setup copies to `to`.
struct Load {
  Ref to;
  bool from_model;  // else from the inline section
  uint64_t offset, length;
};

// What setup does, in order: loads, and steps between them.
struct SetupStep {
  Load load;
  std::unique_ptr<const Step> step;  // null: the load
};

struct Program {
  std::vector<Port> inputs, outputs;
  std::vector<SetupStep> setup;
  std::vector<std::unique_ptr<const Step>> run;
  uint64_t permanent_bytes = 0;  // constants and packed weights
  uint64_t temporary_bytes = 0;
  uint64_t staging_bytes = 0;
  uint64_t scratch_bytes = 0;  // the most that one task of a step, of setup or run, asks for
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
