// The executor's border to JavaScript: unpacks, checks each buffer against its port, runs. What is wrong comes back as
// the string "CODE: message", having touched nothing; program-host.ts throws it.
#include <napi.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "executor.h"

namespace {

using namespace cloister;

// Bytes of an element of a typed array; 0 for one that this Node-API does not name.
size_t element_bytes(napi_typedarray_type type) {
  switch (type) {
    case napi_int8_array:
    case napi_uint8_array:
    case napi_uint8_clamped_array: return 1;
    case napi_int16_array:
    case napi_uint16_array: return 2;
    case napi_int32_array:
    case napi_uint32_array:
    case napi_float32_array: return 4;
    case napi_float64_array:
    case napi_bigint64_array:
    case napi_biguint64_array: return 8;
    default: return 0;
  }
}

// The bytes behind a typed array; false when they cannot be relied on. `why` says so: a shared buffer may change under
// a reader, a detached one has none.
bool bytes_of(napi_env env, napi_value value, uint8_t** data, size_t* length, const char** why) {
  napi_typedarray_type type = static_cast<napi_typedarray_type>(-1);  // some Nodes leave it alone where they know no name
  napi_value buffer;
  void* start = nullptr;
  bool is = false;
  if (napi_get_typedarray_info(env, value, &type, length, &start, &buffer, nullptr) != napi_ok ||
      element_bytes(type) == 0) {
    return *why = "is not a typed array", false;
  }
  if (napi_is_arraybuffer(env, buffer, &is) != napi_ok || !is) return *why = "lies in a SharedArrayBuffer", false;
  // A detached buffer has no bytes: only an empty array may be one.
  if (*length == 0 && (napi_is_detached_arraybuffer(env, buffer, &is) != napi_ok || is)) {
    return *why = "is detached", false;
  }
  *length *= element_bytes(type);
  *data = static_cast<uint8_t*>(start);
  return true;
}

constexpr const char* kFault = "INPUT_MISMATCH: an index or a length in the data lies outside its axis";

std::string mismatch(const char* side, size_t i, const std::string& what) {
  return std::string("INPUT_MISMATCH: ") + side + " " + std::to_string(i) + " " + what;
}

// The elements of `list`, as many as `ports`. Reading an element may run code of the caller (an array can have getters),
// which may detach any buffer or close the program: no pointer may be taken before all lists are read. Empty when all
// is well, else what is not.
std::string read_list(napi_env env, napi_value list, const char* side, size_t ports, napi_value* items) {
  uint32_t count = 0;
  if (napi_get_array_length(env, list, &count) != napi_ok || count != ports) {
    return std::string("INPUT_MISMATCH: expected an array of ") + std::to_string(ports) + " " + side + "s";
  }
  for (uint32_t i = 0; i < count; i++) {
    if (napi_get_element(env, list, i, &items[i]) != napi_ok) return mismatch(side, i, "cannot be read");
  }
  return {};
}

// Takes the bytes of every item, which must fit `ports` one to one. Runs no JavaScript, so the pointers hold until some
// is run. Empty when all is well, else what is not.
std::string take(napi_env env, const napi_value* items, const char* side, const std::vector<Port>& ports,
                 uint8_t** data) {
  for (size_t i = 0; i < ports.size(); i++) {
    size_t length = 0;
    const char* why = "";
    if (!bytes_of(env, items[i], &data[i], &length, &why)) return mismatch(side, i, why);
    if (length != ports[i].length) {
      return mismatch(side, i, "has " + std::to_string(length) + " bytes, expected " + std::to_string(ports[i].length));
    }
  }
  return {};
}

// One entry for each buffer of a run: on the stack for programs with few ports.
template <typename T>
class List {
 public:
  explicit List(size_t count) : many_(count > kFew ? count : 0) {}
  T* data() { return many_.empty() ? few_ : many_.data(); }

 private:
  static constexpr size_t kFew = 16;
  T few_[kFew];
  std::vector<T> many_;
};

// What a run is called with.
struct Buffers {
  explicit Buffers(const Program& program)
      : inputs(program.inputs.size()), outputs(program.outputs.size()), targets(program.outputs.size()) {}

  // Empty when all is well, else what is not.
  std::string take_all(napi_env env, const Program& program, napi_value from, napi_value to) {
    List<napi_value> sources(program.inputs.size());
    std::string wrong = read_list(env, from, "input", program.inputs.size(), sources.data());
    if (wrong.empty()) wrong = read_list(env, to, "output", program.outputs.size(), targets.data());
    if (wrong.empty()) wrong = take(env, sources.data(), "input", program.inputs, inputs.data());
    if (wrong.empty()) wrong = take(env, targets.data(), "output", program.outputs, outputs.data());
    return wrong;
  }

  // Makes blocks of its own for buffers that a program cannot run on where they lie: those that are not aligned to
  // their elements, and outputs that overlap an input or another output. Empty when all is well, else what is not.
  std::string separate(const Program& program) {
    for (size_t i = 0; i < program.inputs.size(); i++) {
      const Port& port = program.inputs[i];
      if (is_aligned(inputs.data()[i], port)) continue;
      copies_.emplace_back(port.length);
      if (!copies_.back().ok()) return kNoMemory;
      std::memcpy(copies_.back().data(), inputs.data()[i], port.length);
      inputs.data()[i] = copies_.back().data();
    }
    for (size_t i = 0; i < program.outputs.size(); i++) {
      const Port& port = program.outputs[i];
      if (is_aligned(outputs.data()[i], port) && !overlaps(program, i)) continue;
      copies_.emplace_back(port.length);
      if (!copies_.back().ok()) return kNoMemory;
      back_.push_back({outputs.data()[i], copies_.back().data(), port.length});
      outputs.data()[i] = copies_.back().data();
    }
    return {};
  }

  // Afterwards: what a block of its own stood for gets its bytes.
  void copy_back() const {
    for (const Back& back : back_) {
      if (back.bytes > 0) std::memcpy(back.to, back.from, back.bytes);
    }
  }

  List<uint8_t*> inputs, outputs;
  List<napi_value> targets;  // the arrays that `outputs` point into

 private:
  static constexpr const char* kNoMemory = "OUT_OF_MEMORY: the system refused a copy of an input or output";

  struct Back {
    uint8_t* to;
    const uint8_t* from;
    uint64_t bytes;
  };

  static bool is_aligned(const uint8_t* data, const Port& port) {
    return reinterpret_cast<uintptr_t>(data) % port.alignment == 0;
  }

  bool overlaps(const Program& program, size_t output) {
    const auto apart = [](const uint8_t* a, uint64_t a_bytes, const uint8_t* b, uint64_t b_bytes) {
      return a_bytes == 0 || b_bytes == 0 || a + a_bytes <= b || b + b_bytes <= a;
    };
    const uint8_t* const at = outputs.data()[output];
    const uint64_t bytes = program.outputs[output].length;
    for (size_t i = 0; i < program.inputs.size(); i++) {
      if (!apart(at, bytes, inputs.data()[i], program.inputs[i].length)) return true;
    }
    for (size_t i = 0; i < output; i++) {
      if (!apart(at, bytes, outputs.data()[i], program.outputs[i].length)) return true;
    }
    return false;
  }

  std::vector<Arena> copies_;
  std::vector<Back> back_;
};

// One run on a thread of the pool. It works on its own copy of the inputs and its own bytes for the outputs, so
// whatever JavaScript does to its buffers meanwhile (write, transfer, drop) cannot reach the kernels. They are one block
// of the executor's, which it gets back wiped.
class RunWorker final : public Napi::AsyncWorker {
 public:
  RunWorker(Napi::Env env, std::shared_ptr<Executor> executor, uint8_t* const* inputs, const napi_value* targets)
      : AsyncWorker(env, "cloister.run"), executor_(std::move(executor)) {
    napi_create_promise(env, &deferred_, &promise_);
    const Program& program = executor_->program();
    block_ = executor_->take_block();
    if (!block_.ok()) return;
    uint8_t* at = block_.data();
    for (size_t i = 0; i < program.inputs.size(); i++) {
      const uint64_t bytes = program.inputs[i].length;
      if (bytes > 0) std::memcpy(at, inputs[i], bytes);
      inputs_.push_back(at);
      at += aligned(bytes);
    }
    for (const Port& port : program.outputs) {
      outputs_.push_back(at);
      at += aligned(port.length);
    }
    for (size_t i = 0; i < program.outputs.size(); i++) {
      targets_.push_back(Napi::Persistent(Napi::Object(env, targets[i])));
    }
  }

  ~RunWorker() override {
    if (block_.ok()) executor_->give_block(std::move(block_));
  }

  bool complete() const { return block_.ok(); }

  napi_value promise() const { return promise_; }  // until the scope in which the worker was made closes

  void Execute() override {
    good_ = executor_->run(inputs_.data(), outputs_.data());
  }

  void OnOK() override {
    const Napi::Env env = Env();
    const Napi::HandleScope scope(env);
    if (!good_) return resolve(Napi::String::New(env, kFault));
    const std::vector<Port>& ports = executor_->program().outputs;
    std::vector<napi_value> targets;
    for (const Napi::ObjectReference& target : targets_) targets.push_back(target.Value());
    std::vector<uint8_t*> data(ports.size());
    const std::string wrong = take(env, targets.data(), "output", ports, data.data());  // they may have changed
    if (!wrong.empty()) return resolve(Napi::String::New(env, wrong));
    for (size_t i = 0; i < ports.size(); i++) {
      if (ports[i].length > 0) std::memcpy(data[i], outputs_[i], ports[i].length);
    }
    resolve(env.Undefined());
  }

 private:
  // Fails, and nobody is left to be told, when the environment ends: Napi::Promise would throw, which is fatal then.
  void resolve(napi_value value) { napi_resolve_deferred(Env(), deferred_, value); }

  const std::shared_ptr<Executor> executor_;  // keeps the arenas when the program is closed during the run
  napi_deferred deferred_ = nullptr;
  napi_value promise_ = nullptr;
  std::vector<Napi::ObjectReference> targets_;
  Arena block_;
  std::vector<const uint8_t*> inputs_;  // into the block
  std::vector<uint8_t*> outputs_;
  bool good_ = true;
};

constexpr double kMostInteger = 9007199254740991.0;

class ProgramObject final : public Napi::ObjectWrap<ProgramObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "Program",
        {InstanceMethod<&ProgramObject::run>("run"), InstanceMethod<&ProgramObject::run_async>("runAsync"),
         InstanceMethod<&ProgramObject::time>("time"), InstanceMethod<&ProgramObject::close>("close"),
         InstanceMethod<&ProgramObject::ports>("ports"), InstanceMethod<&ProgramObject::memory>("memory")});
  }

  // new Program(program, modelBytes, read(offset, length) => Uint8Array, limitBytes, limitWork, threads, fill, shuffle)
  explicit ProgramObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    const std::string wrong = load(info);
    if (env.IsExceptionPending()) return;  // thrown by `read`
    if (!wrong.empty()) {
      Napi::Error::New(env, wrong).ThrowAsJavaScriptException();
      return;
    }
    const MemoryUse use = executor_->memory();
    external_bytes_ = static_cast<int64_t>(use.permanent_bytes + use.temporary_bytes + use.scratch_bytes);
    Napi::MemoryManagement::AdjustExternalMemory(env, external_bytes_);
  }

  void Finalize(Napi::BasicEnv env) override { drop(env); }

 private:
  std::string load(const Napi::CallbackInfo& info) {
    uint8_t* program = nullptr;
    size_t program_bytes = 0;
    const char* why = "";
    const Napi::Env env = info.Env();
    if (!bytes_of(env, info[0], &program, &program_bytes, &why))
      return std::string("INVALID_ARGUMENT: the program ") + why;
    const double size = info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : -1;
    if (!(size >= 0 && size <= kMostInteger) || !info[2].IsFunction())
      return "INVALID_ARGUMENT: the model has a size and a function that reads it";
    const double limit = info[3].IsNumber() ? info[3].As<Napi::Number>().DoubleValue() : -1;
    if (!(limit >= 0 && limit <= kMostInteger)) return "INVALID_ARGUMENT: limitBytes is an integer from 0 to 2^53-1";
    const double work = info[4].IsNumber() ? info[4].As<Napi::Number>().DoubleValue() : -1;
    if (!(work >= 0)) return "INVALID_ARGUMENT: limitWork is a number of operations";
    const uint64_t limit_work = work < static_cast<double>(kMaxWork) ? static_cast<uint64_t>(work) : kMaxWork;
    const auto integer = [&info](size_t i) { return info[i].IsNumber() ? info[i].As<Napi::Number>().Int64Value() : 0; };
    const ExecutorOptions options = {static_cast<uint32_t>(integer(5)), static_cast<int>(integer(6)),
                                     static_cast<uint32_t>(integer(7))};
    // Reading runs code of the caller, which may write over or detach the program's bytes: they are copied first.
    const std::vector<uint8_t> copy(program, program + program_bytes);
    const Napi::Function read = info[2].As<Napi::Function>();
    const ModelReader reader = [env, read](uint64_t offset, uint64_t length, uint8_t* to) {
      const Napi::HandleScope scope(env);
      const Napi::Value bytes = read.Call({Napi::Number::New(env, static_cast<double>(offset)),
                                           Napi::Number::New(env, static_cast<double>(length))});
      uint8_t* from = nullptr;
      size_t came = 0;
      const char* reason = "";
      if (env.IsExceptionPending() || !bytes_of(env, bytes, &from, &came, &reason) || came != length) return false;
      std::memcpy(to, from, length);
      return true;
    };
    Verdict verdict;
    executor_ = Executor::load(copy.data(), copy.size(), reader, static_cast<uint64_t>(size),
                               static_cast<uint64_t>(limit), limit_work, kernels(), options, &verdict);
    return verdict.ok() ? std::string() : std::string(verdict.code) + ": " + verdict.message;
  }

  static Napi::Value text(Napi::Env env, const std::string& message) { return Napi::String::New(env, message); }

  Napi::Value run(const Napi::CallbackInfo& info) { return run_here(info, nullptr); }

  // run(inputs, outputs) and the nanoseconds of each run step, as a Float64Array.
  Napi::Value time(const Napi::CallbackInfo& info) {
    std::vector<uint64_t> step_ns;
    const Napi::Value wrong = run_here(info, &step_ns);
    if (!wrong.IsUndefined()) return wrong;
    Napi::Float64Array result = Napi::Float64Array::New(info.Env(), step_ns.size());
    for (size_t i = 0; i < step_ns.size(); i++) result[i] = static_cast<double>(step_ns[i]);
    return result;
  }

  Napi::Value run_here(const Napi::CallbackInfo& info, std::vector<uint64_t>* step_ns) {
    const Napi::Env env = info.Env();
    if (!executor_) return text(env, "CLOSED: the program is closed");
    const std::shared_ptr<Executor> executor = executor_;  // whatever a getter closes
    const Program& program = executor->program();
    Buffers buffers(program);
    std::string wrong = buffers.take_all(env, program, info[0], info[1]);
    if (wrong.empty()) wrong = buffers.separate(program);
    if (!wrong.empty()) return text(env, wrong);
    if (step_ns != nullptr) step_ns->resize(program.run.size());
    uint64_t* const durations = step_ns != nullptr ? step_ns->data() : nullptr;
    if (!executor->run(buffers.inputs.data(), buffers.outputs.data(), durations)) return text(env, kFault);
    buffers.copy_back();
    return env.Undefined();
  }

  Napi::Value run_async(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!executor_) return text(env, "CLOSED: the program is closed");
    const std::shared_ptr<Executor> executor = executor_;  // whatever a getter closes
    Buffers buffers(executor->program());
    const std::string wrong = buffers.take_all(env, executor->program(), info[0], info[1]);
    if (!wrong.empty()) return text(env, wrong);
    auto worker = std::make_unique<RunWorker>(env, executor, buffers.inputs.data(), buffers.targets.data());
    if (!worker->complete())
      return text(env, "OUT_OF_MEMORY: the system refused " + std::to_string(executor->memory().port_bytes) +
                           " bytes for copies of the run's inputs and outputs, after all kept blocks were freed");
    const Napi::Value promise(env, worker->promise());
    worker.release()->Queue();  // deletes itself when done
    return promise;
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    drop(info.Env());
    return info.Env().Undefined();
  }

  // {inputs, outputs: bytes of each; work: operations of setup and one run}.
  Napi::Value ports(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!executor_) return text(env, "CLOSED: the program is closed");
    const auto lengths = [env](const std::vector<Port>& list) {
      Napi::Array array = Napi::Array::New(env, list.size());
      for (uint32_t i = 0; i < list.size(); i++)
        array.Set(i, Napi::Number::New(env, static_cast<double>(list[i].length)));
      return array;
    };
    Napi::Object result = Napi::Object::New(env);
    result.Set("inputs", lengths(executor_->program().inputs));
    result.Set("outputs", lengths(executor_->program().outputs));
    result.Set("work", static_cast<double>(executor_->program().work));
    return result;
  }

  Napi::Value memory(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!executor_) return text(env, "CLOSED: the program is closed");
    const MemoryUse use = executor_->memory();
    Napi::Object result = Napi::Object::New(env);
    result.Set("permanentBytes", static_cast<double>(use.permanent_bytes));
    result.Set("temporaryBytes", static_cast<double>(use.temporary_bytes));
    result.Set("scratchBytes", static_cast<double>(use.scratch_bytes));
    result.Set("portBytes", static_cast<double>(use.port_bytes));
    result.Set("blockBytes", static_cast<double>(use.block_bytes));
    result.Set("peakBytes", static_cast<double>(use.peak_bytes));
    return result;
  }

  void drop(Napi::BasicEnv env) {
    if (!executor_) return;
    executor_.reset();
    Napi::MemoryManagement::AdjustExternalMemory(env, -external_bytes_);
  }

  std::shared_ptr<Executor> executor_;
  int64_t external_bytes_ = 0;
};

}  // namespace

// Adds the class `Program` and `programVersion` to the addon's exports.
void InitExecutor(Napi::Env env, Napi::Object exports) {
  exports.Set("Program", ProgramObject::define(env));
  exports.Set("programVersion", Napi::Number::New(env, kProgramVersion));
}
