#include "executor.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace cloister {
namespace {

// More overlapping runs than this wait for one another, however much memory is left.
constexpr size_t kMaxWorkspaces = 16;

// What is asked of the model at a time, so that a large weight is not held twice.
constexpr uint64_t kReadBytes = uint64_t{256} << 10;

// The most bytes of blocks that a program keeps for later runs, whatever the limit leaves.
constexpr uint64_t kMostKeptBytes = uint64_t{64} << 20;

// All executors there are. Its mutex is locked before that of any of them, never after.
struct Everyone {
  std::mutex mutex;
  std::vector<Executor*> executors;
};

Everyone& everyone() {
  static Everyone* const all = new Everyone;  // outlives whatever the end of the process still closes
  return *all;
}

uint64_t bytes_of(const std::vector<Port>& ports) {
  uint64_t bytes = 0;
  for (const Port& port : ports) bytes += aligned(port.length);  // verified to be within the limit
  return bytes;
}

}  // namespace

Executor::Executor(const Kernels& row) : row_(row) {
  std::lock_guard<std::mutex> lock(everyone().mutex);
  everyone().executors.push_back(this);
}

Executor::~Executor() {
  std::lock_guard<std::mutex> lock(everyone().mutex);
  std::vector<Executor*>& all = everyone().executors;
  all.erase(std::find(all.begin(), all.end(), this));
}

std::shared_ptr<Executor> Executor::load(const uint8_t* program, size_t program_bytes, const ModelReader& model,
                                         uint64_t model_bytes, uint64_t limit_bytes, uint64_t limit_work,
                                         const Kernels& row, const ExecutorOptions& options, Verdict* verdict) {
  std::shared_ptr<Executor> executor(new Executor(row));
  Program& loaded = executor->program_;
  *verdict = verify_program(program, program_bytes, row, model_bytes, limit_bytes, limit_work, &loaded);
  if (!verdict->ok()) return nullptr;

  executor->fill_ = options.fill;
  executor->limit_bytes_ = limit_bytes;
  executor->port_bytes_ = bytes_of(loaded.inputs) + bytes_of(loaded.outputs);
  executor->choose_threads(limit_bytes, options);
  executor->permanent_ = allocate(loaded.permanent_bytes);
  if (!executor->set_up(program, model, verdict)) return nullptr;

  const uint64_t one = std::max<uint64_t>(executor->workspace_bytes() + executor->port_bytes_, 1);
  const uint64_t room = (limit_bytes - aligned(loaded.permanent_bytes)) / one;
  executor->most_workspaces_ = static_cast<size_t>(std::clamp<uint64_t>(room, 1, kMaxWorkspaces));
  executor->free_.reserve(kMaxWorkspaces);
  return executor;
}

// Runs the setup steps, and leaves one workspace behind.
bool Executor::set_up(const uint8_t* program, const ModelReader& model, Verdict* verdict) {
  Arena staging = allocate(program_.staging_bytes);
  std::unique_ptr<Workspace> first = make_workspace();
  if (first == nullptr) drop_all_blocks(), first = make_workspace();
  if (!permanent_.ok() || !staging.ok() || first == nullptr) {
    *verdict = {"OUT_OF_MEMORY", "the system refused the program's arenas: permanent " +
                                     std::to_string(program_.permanent_bytes) + " bytes, staging " +
                                     std::to_string(program_.staging_bytes) + ", workspace " +
                                     std::to_string(workspace_bytes())};
    return false;
  }
  note_use(held_bytes(1, 0) + aligned(program_.staging_bytes));
  uint8_t* const slots[] = {nullptr, nullptr, permanent_.data(), staging.data()};
  const Frame frame(row_, slots, first->scratch.data(), &first->fault);
  for (size_t i = 0; i < program_.setup.size(); i++) {
    const SetupStep& step = program_.setup[i];
    if (step.step != nullptr) {
      execute(*step.step, frame);
      if (first->fault.load(std::memory_order_relaxed)) {
        *verdict = {"INVALID_PROGRAM", "setup step " + std::to_string(i) + ": its weights are not what it asks for"};
        return false;
      }
      continue;
    }
    const Load& load = step.load;
    uint8_t* const to = slots[load.to.slot] + load.to.offset;
    if (!load.from_model) {
      std::memcpy(to, program + program_.inline_offset + load.offset, load.length);
      continue;
    }
    for (uint64_t at = 0; at < load.length; at += kReadBytes) {
      if (!model(load.offset + at, std::min(kReadBytes, load.length - at), to + at)) {
        *verdict = {"INVALID_ARGUMENT", "the model's bytes could not be read"};
        return false;
      }
    }
  }
  program_.setup = std::vector<SetupStep>();
  free_.push_back(first.get());
  workspaces_.push_back(std::move(first));
  return true;
}

bool Executor::run(const uint8_t* const* inputs, uint8_t* const* outputs, uint64_t* step_ns) {
  Workspace* workspace = acquire();
  if (fill_ != kNoFill) {
    for (const Arena* arena : {&workspace->temporary, &workspace->scratch}) {
      if (arena->data() != nullptr) std::memset(arena->data(), fill_, arena->bytes());
    }
  }
  uint8_t** const slots = workspace->slots.data();
  // Verified: no step writes an input.
  for (size_t i = 0; i < program_.inputs.size(); i++) slots[kSlotPorts + i] = const_cast<uint8_t*>(inputs[i]);
  for (size_t i = 0; i < program_.outputs.size(); i++) slots[kSlotPorts + program_.inputs.size() + i] = outputs[i];
  workspace->fault.store(false, std::memory_order_relaxed);
  bool good = true;
  const bool shuffled = shuffle_.load(std::memory_order_relaxed) != 0;
  if (step_ns != nullptr || (workspace->job == nullptr && !shuffled)) {
    good = run_alone(workspace, step_ns);
  } else {
    Shared shared = {this, workspace};
    if (workspace->job != nullptr) {
      workspace->job->run(run_task, &shared);
    } else {
      run_shuffled(workspace);
    }
    good = !workspace->fault.load(std::memory_order_relaxed);
  }
  release(workspace);
  return good;
}

Frame Executor::frame_of(Workspace* workspace, uint32_t seat) const {
  uint8_t* const scratch = workspace->scratch.data();
  uint8_t* const own = scratch != nullptr ? scratch + seat * aligned(program_.scratch_bytes) : nullptr;
  return Frame(row_, workspace->slots.data(), own, &workspace->fault);
}

bool Executor::run_alone(Workspace* workspace, uint64_t* step_ns) const {
  const Frame frame = frame_of(workspace, 0);
  bool good = true;
  for (size_t i = 0; good && i < program_.run.size(); i++) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = step_ns == nullptr ? Clock::time_point() : Clock::now();
    execute(*program_.run[i], frame);
    good = !workspace->fault.load(std::memory_order_relaxed);
    if (step_ns == nullptr) continue;
    step_ns[i] =
        static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - start).count());
  }
  return good;
}

// One task of a node: of its one step, or all its steps. Once data was at fault nothing more is computed.
void Executor::run_task(void* shared, uint32_t node, uint32_t task, uint32_t seat) {
  const auto& [executor, workspace] = *static_cast<const Shared*>(shared);
  const Frame frame = executor->frame_of(workspace, seat);
  const std::vector<uint32_t>& first = executor->schedule_.first;
  for (uint32_t i = first[node]; i < first[node + 1]; i++) {
    if (workspace->fault.load(std::memory_order_relaxed)) return;
    executor->program_.run[i]->run(frame, task);
  }
}

// Takes one ready task after another, by chance.
void Executor::run_shuffled(Workspace* workspace) {
  struct Ready {
    uint32_t node;
    std::vector<uint32_t> tasks;
  };
  const TaskGraph& graph = *schedule_.graph;
  std::vector<uint32_t> pending;
  std::vector<Ready> ready;
  const auto open = [&](uint32_t node) {
    Ready& entry = ready.emplace_back();
    entry.node = node;
    for (uint32_t task = 0; task < graph.nodes[node].tasks; task++) entry.tasks.push_back(task);
  };
  for (uint32_t node = 0; node < graph.nodes.size(); node++) {
    pending.push_back(graph.nodes[node].predecessors);
    if (pending[node] == 0) open(node);
  }
  uint32_t state = shuffle_.fetch_add(0x9e3779b9u, std::memory_order_relaxed) | 1;
  const auto below = [&state](size_t bound) {  // xorshift32
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return state % bound;
  };
  Shared shared = {this, workspace};
  while (!ready.empty()) {
    Ready& from = ready[below(ready.size())];
    const size_t which = below(from.tasks.size());
    run_task(&shared, from.node, from.tasks[which], 0);
    from.tasks[which] = from.tasks.back();
    from.tasks.pop_back();
    if (!from.tasks.empty()) continue;
    const TaskGraph::Node done = graph.nodes[from.node];
    std::swap(from, ready.back());
    ready.pop_back();
    for (uint32_t i = 0; i < done.successor_count; i++) {
      const uint32_t next = graph.successors[done.first_successor + i];
      if (--pending[next] == 0) open(next);
    }
  }
}

void Executor::execute(const Step& step, const Frame& frame) const {
  for (uint32_t task = 0; task < step.tasks; task++) step.run(frame, task);
}

MemoryUse Executor::memory() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {program_.permanent_bytes, program_.temporary_bytes,
          scratch_bytes(),          port_bytes_,
          (blocks_in_use_ + kept_.size()) * port_bytes_, peak_bytes_};
}

uint64_t Executor::workspace_bytes() const {
  return aligned(program_.temporary_bytes) + aligned(scratch_bytes());
}

// One task's for each thread that may be at one.
uint64_t Executor::scratch_bytes() const {
  return seats_ == 1 ? program_.scratch_bytes : seats_ * aligned(program_.scratch_bytes);
}

// As many threads as are asked for, are worth it, and have workspace within the limit.
void Executor::choose_threads(uint64_t limit_bytes, const ExecutorOptions& options) {
  shuffle_.store(options.shuffle, std::memory_order_relaxed);
  const uint32_t threads = options.threads > 0 ? options.threads : pool_threads();
  if (threads < 2 && options.shuffle == 0) return;
  schedule_ = make_schedule(program_.run, options.shuffle == 0);
  if (options.shuffle != 0) return;
  seats_ = Job::seats_for(*schedule_.graph, threads);
  const uint64_t each = aligned(program_.scratch_bytes);
  const uint64_t used = aligned(program_.permanent_bytes) + aligned(program_.staging_bytes) +
                        aligned(program_.temporary_bytes) + port_bytes_;
  const uint64_t room = limit_bytes > used ? limit_bytes - used : 0;
  if (each > 0) seats_ = static_cast<uint32_t>(std::clamp<uint64_t>(room / each, 1, seats_));
  if (seats_ == 1) schedule_ = Schedule();
}

void Executor::note_use(uint64_t bytes) { peak_bytes_ = std::max(peak_bytes_, bytes); }

// One more workspace, or null when the system refuses it.
std::unique_ptr<Executor::Workspace> Executor::make_workspace() const {
  auto workspace = std::make_unique<Workspace>();
  workspace->temporary = Arena(program_.temporary_bytes);
  workspace->scratch = Arena(scratch_bytes());
  if (!workspace->temporary.ok() || !workspace->scratch.ok()) return nullptr;
  workspace->slots.resize(kSlotPorts + program_.inputs.size() + program_.outputs.size());
  workspace->slots[kSlotTemporary] = workspace->temporary.data();
  workspace->slots[kSlotPermanent] = permanent_.data();
  workspace->job = Job::create(schedule_.graph, seats_);
  return workspace;
}

Executor::Workspace* Executor::acquire() {
  std::unique_lock<std::mutex> lock(mutex_);
  bool dropped = false;
  for (;;) {
    if (!free_.empty()) {
      Workspace* workspace = free_.back();
      free_.pop_back();
      return workspace;
    }
    if (workspaces_.size() < most_workspaces_) {
      while (!kept_.empty() && held_bytes(workspaces_.size() + 1, kept_.size()) > limit_bytes_) kept_.pop_back();
      std::unique_ptr<Workspace> more = make_workspace();
      if (more != nullptr) {
        workspaces_.push_back(std::move(more));
        note_use(held_bytes(workspaces_.size(), kept_.size()));
        return workspaces_.back().get();
      }
      if (!dropped) {
        dropped = true;
        lock.unlock();
        drop_all_blocks();
        lock.lock();
        continue;
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

Arena Executor::take_block() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!kept_.empty()) {
      Arena block = std::move(kept_.back());
      kept_.pop_back();
      blocks_in_use_++;
      return block;
    }
  }
  Arena block = allocate(port_bytes_);
  if (block.ok()) {
    std::lock_guard<std::mutex> lock(mutex_);
    blocks_in_use_++;
  }
  return block;
}

void Executor::give_block(Arena block) {
  block.wipe();
  std::lock_guard<std::mutex> lock(mutex_);
  blocks_in_use_--;
  const size_t kept = kept_.size() + 1;
  const uint64_t bytes = held_bytes(workspaces_.size(), kept);
  if (kept * port_bytes_ > kMostKeptBytes || bytes > limit_bytes_) return;
  kept_.push_back(std::move(block));
  note_use(bytes);
}

Arena Executor::allocate(uint64_t bytes) {
  Arena arena(bytes);
  if (arena.ok()) return arena;
  drop_all_blocks();
  return Arena(bytes);
}

void Executor::drop_all_blocks() {
  std::lock_guard<std::mutex> lock(everyone().mutex);
  for (Executor* executor : everyone().executors) executor->drop_blocks();
}

void Executor::drop_blocks() {
  std::lock_guard<std::mutex> lock(mutex_);
  kept_.clear();
}

// What the limit counts, where so many runs overlap and so many blocks are kept.
uint64_t Executor::held_bytes(size_t workspaces, size_t kept) const {
  return aligned(program_.permanent_bytes) + workspaces * (workspace_bytes() + port_bytes_) + kept * port_bytes_;
}

}  // namespace cloister
