#include "executor.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace cloister {
namespace {

// More overlapping runs than this wait for one another, however much memory is left.
constexpr size_t kMaxWorkspaces = 16;

uint64_t aligned(uint64_t bytes) { return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment; }

float* floats(uint8_t* bytes) { return reinterpret_cast<float*>(bytes); }

// memset that a compiler may not drop because the bytes are freed next.
void wipe(uint8_t* data, uint64_t bytes) {
  std::memset(data, 0, bytes);
#if defined(__GNUC__)
  __asm__ __volatile__("" : : "r"(data) : "memory");
#else
  volatile uint8_t* last = data + bytes - 1;
  *last = 0;
#endif
}

}  // namespace

Arena::Arena(uint64_t bytes) : bytes_(bytes) {
  if (bytes == 0 || bytes > SIZE_MAX - kArenaAlignment) return;
  // Aligned by hand: before glibc 2.38 aligned allocations of changing sizes do not find their own freed blocks again
  // (its bug 14581), and a model that meets many batch sizes took gigabytes.
  block_ = std::malloc(bytes + kArenaAlignment);
  if (block_ == nullptr) return;
  const uintptr_t start = reinterpret_cast<uintptr_t>(block_);
  data_ = static_cast<uint8_t*>(block_) + (kArenaAlignment - start % kArenaAlignment) % kArenaAlignment;
#if defined(__SANITIZE_ADDRESS__)
  const uint8_t* const end = static_cast<uint8_t*>(block_) + bytes + kArenaAlignment;
  __asan_poison_memory_region(data_ + bytes, static_cast<size_t>(end - (data_ + bytes)));
#endif
}

Arena::Arena(Arena&& other) noexcept
    : block_(std::exchange(other.block_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Arena& Arena::operator=(Arena&& other) noexcept {
  std::swap(block_, other.block_);
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Arena::~Arena() {
  if (data_ == nullptr) return;
  wipe(data_, bytes_);
  std::free(block_);
}

std::shared_ptr<Executor> Executor::load(const uint8_t* program, size_t program_bytes, const uint8_t* model,
                                         uint64_t model_bytes, uint64_t limit_bytes, uint64_t limit_work,
                                         const Kernels& row, int fill, Verdict* verdict) {
  std::shared_ptr<Executor> executor(new Executor(row));
  Program& loaded = executor->program_;
  *verdict = verify_program(program, program_bytes, row, model_bytes, limit_bytes, limit_work, &loaded);
  if (!verdict->ok()) return nullptr;

  executor->fill_ = fill;
  executor->permanent_ = Arena(loaded.permanent_bytes);
  Arena staging(loaded.staging_bytes);
  auto first = std::make_unique<Workspace>(Workspace{Arena(loaded.temporary_bytes), Arena(loaded.scratch_bytes)});
  if (!executor->permanent_.ok() || !staging.ok() || !first->ok()) {
    verdict->code = "OUT_OF_MEMORY";
    verdict->message = "the system refused the program's arenas";
    return nullptr;
  }
  executor->note_use(aligned(loaded.permanent_bytes) + aligned(loaded.staging_bytes) + executor->workspace_bytes());

  uint8_t* const bases[] = {nullptr, first->temporary.data(), executor->permanent_.data(), staging.data()};
  for (const Step& step : loaded.setup) {
    if (step.kind == kStepLoad) {
      const uint8_t* source = step.from_model ? model : program + loaded.inline_offset;
      std::memcpy(bases[step.y.space] + step.y.offset, source + step.source, step.length);
    } else {
      executor->execute(step, bases, first->scratch.data());
    }
  }
  loaded.setup = std::vector<Step>();

  const uint64_t one = std::max<uint64_t>(executor->workspace_bytes(), 1);
  const uint64_t room = (limit_bytes - aligned(loaded.permanent_bytes)) / one;
  executor->most_workspaces_ = static_cast<size_t>(std::clamp<uint64_t>(room, 1, kMaxWorkspaces));
  executor->free_.reserve(kMaxWorkspaces);
  executor->free_.push_back(first.get());
  executor->workspaces_.push_back(std::move(first));
  return executor;
}

void Executor::run(const uint8_t* const* inputs, uint8_t* const* outputs, uint64_t* step_ns) {
  Workspace* workspace = acquire();
  uint8_t* const temporary = workspace->temporary.data();
  uint8_t* const scratch = workspace->scratch.data();
  if (fill_ != kNoFill) {
    if (temporary != nullptr) std::memset(temporary, fill_, workspace->temporary.bytes());
    if (scratch != nullptr) std::memset(scratch, fill_, workspace->scratch.bytes());
  }
  uint8_t* const bases[] = {nullptr, temporary, permanent_.data(), nullptr};
  for (size_t i = 0; i < program_.inputs.size(); i++) {
    const Port& port = program_.inputs[i];
    if (port.length > 0) std::memcpy(temporary + port.at.offset, inputs[i], port.length);
  }
  if (step_ns == nullptr) {
    for (const Step& step : program_.run) execute(step, bases, scratch);
  } else {
    using Clock = std::chrono::steady_clock;
    for (size_t i = 0; i < program_.run.size(); i++) {
      const Clock::time_point start = Clock::now();
      execute(program_.run[i], bases, scratch);
      step_ns[i] =
          static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
    }
  }
  for (size_t i = 0; i < program_.outputs.size(); i++) {
    const Port& port = program_.outputs[i];
    if (port.length > 0) std::memcpy(outputs[i], bases[port.at.space] + port.at.offset, port.length);
  }
  release(workspace);
}

MemoryUse Executor::memory() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {program_.permanent_bytes, program_.temporary_bytes, program_.scratch_bytes, peak_bytes_};
}

uint64_t Executor::workspace_bytes() const {
  return aligned(program_.temporary_bytes) + aligned(program_.scratch_bytes);
}

void Executor::note_use(uint64_t bytes) { peak_bytes_ = std::max(peak_bytes_, bytes); }

Executor::Workspace* Executor::acquire() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    if (!free_.empty()) {
      Workspace* workspace = free_.back();
      free_.pop_back();
      return workspace;
    }
    if (workspaces_.size() < most_workspaces_) {
      auto more =
          std::make_unique<Workspace>(Workspace{Arena(program_.temporary_bytes), Arena(program_.scratch_bytes)});
      if (more->ok()) {
        workspaces_.push_back(std::move(more));
        note_use(aligned(program_.permanent_bytes) + workspaces_.size() * workspace_bytes());
        return workspaces_.back().get();
      }
      most_workspaces_ = workspaces_.size();  // the system has no more: wait, as under a lower limit
    }
    freed_.wait(lock);
  }
}

void Executor::release(Workspace* workspace) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(workspace);
  }
  freed_.notify_one();
}

void Executor::execute(const Step& step, uint8_t* const* bases, uint8_t* scratch) const {
  const auto at = [bases](const Ref& ref) { return bases[ref.space] + ref.offset; };
  switch (step.kind) {
    case kStepPack:
      if (step.op == 1) {
        row_.conv_pack(step.window, floats(at(step.x)), floats(at(step.y)));
      } else {
        row_.gemm_pack_b(step.k, step.n, floats(at(step.x)), step.b_transposed ? step.k : step.n, step.b_transposed,
                         floats(at(step.y)));
      }
      return;
    case kStepGemm: {
      const Epilogue epilogue = {step.has_bias ? floats(at(step.bias)) : nullptr, step.activation, step.p0, step.p1};
      const size_t packed_bytes = step.w_packed ? 0 : aligned(row_.gemm_packed_elements(step.k, step.n) * 4);
      float* const workspace = floats(scratch + packed_bytes);
      const float* b = floats(at(step.w));
      for (size_t i = 0; i < step.batches; i++) {
        const float* packed = b;
        if (!step.w_packed) {
          if (i == 0 || step.b_step != 0) {
            row_.gemm_pack_b(step.k, step.n, b + i * step.b_step, step.b_transposed ? step.k : step.n,
                             step.b_transposed, floats(scratch));
          }
          packed = floats(scratch);
        }
        row_.gemm(step.m, step.n, step.k, floats(at(step.x)) + i * step.a_step, step.a_transposed ? step.m : step.k,
                  step.a_transposed, packed, floats(at(step.y)) + i * step.m * step.n, step.n, epilogue, workspace);
      }
      return;
    }
    case kStepConv: {
      const Epilogue epilogue = {step.has_bias ? floats(at(step.bias)) : nullptr, step.activation, step.p0, step.p1};
      const float* weights = floats(at(step.w));
      float* workspace = floats(scratch);
      if (!step.w_packed) {
        row_.conv_pack(step.window, weights, floats(scratch));
        weights = floats(scratch);
        workspace = floats(scratch + aligned(row_.conv_packed_elements(step.window) * 4));
      }
      row_.conv(step.window, floats(at(step.x)), weights, floats(at(step.y)), epilogue, workspace);
      return;
    }
    case kStepPool:
      row_.pool(step.window, static_cast<PoolOp>(step.op), floats(at(step.x)), floats(at(step.y)));
      return;
    case kStepUnary:
      row_.unary(static_cast<UnaryOp>(step.op), step.count, floats(at(step.x)), floats(at(step.y)), step.p0, step.p1);
      return;
    case kStepBinary:
      row_.binary(static_cast<BinaryOp>(step.op), step.rank, step.dims, floats(at(step.x)), step.a_strides,
                  floats(at(step.w)), step.b_strides, floats(at(step.y)));
      return;
    case kStepSoftmax:
      row_.softmax(step.outer, step.n, step.inner, step.log, floats(at(step.x)), floats(at(step.y)));
      return;
    case kStepReduce:
      row_.reduce(static_cast<ReduceOp>(step.op), step.outer, step.n, step.inner, floats(at(step.x)),
                  floats(at(step.y)));
      return;
    case kStepCopy:
      row_.copy_strided(step.rank, step.dims, step.strides, step.element_bytes, at(step.x) + step.start, at(step.y));
      return;
    case kStepConcat: {
      uint8_t* y = at(step.y);
      for (size_t row = 0; row < step.outer; row++) {
        for (size_t i = 0; i < step.parts.size(); i++) {
          std::memcpy(y, at(step.parts[i]) + row * step.row_bytes[i], step.row_bytes[i]);
          y += step.row_bytes[i];
        }
      }
      return;
    }
    case kStepLoad:
    case kStepKindEnd: return;  // setup copies loads itself; the verifier lets no other kind through
  }
}

}  // namespace cloister
