// The border of mapped files to JavaScript: a path in, an ArrayBuffer out. map-file.ts throws what is wrong.
#include <napi.h>

#include <memory>
#include <string>

#include "mapping.h"

namespace {

using namespace cloister;

Napi::Value text(Napi::Env env, const std::string& message) { return Napi::String::New(env, message); }

// What an ArrayBuffer holds of its mapping.
using Hold = std::shared_ptr<Mapping>;

// Node calls it when nothing refers to the memory any more: the buffer was detached or collected and nobody had taken
// its memory over, or the environment ends. On the thread of the environment, once.
void let_go(napi_env, void*, void* hold) { delete static_cast<Hold*>(hold); }

// path, limitBytes -> an ArrayBuffer over the file; "CODE: message"; or the number of the system's error
Napi::Value MapFile(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsString()) return text(env, "INVALID_ARGUMENT: the path must be a string");
  const double limit = info[1].IsNumber() ? info[1].As<Napi::Number>().DoubleValue() : -1;
  if (!(limit >= 0 && limit <= 9007199254740991.0))
    return text(env, "INVALID_ARGUMENT: limitBytes is an integer from 0 to 2^53-1");
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  // The system would stop at the NUL and open another file than the one that was named.
  if (path.find('\0') != std::string::npos) return text(env, "INVALID_ARGUMENT: the path has a NUL in it");

  MapProblem problem;
  const Hold mapping = Mapping::open(path.c_str(), static_cast<uint64_t>(limit), &problem);
  if (!mapping && problem.code == nullptr) return Napi::Number::New(env, problem.error);
  if (!mapping) return text(env, std::string(problem.code) + ": " + problem.message);
  if (mapping->bytes() == 0) return Napi::ArrayBuffer::New(env, 0);

  auto* hold = new Hold(mapping);
  napi_value buffer = nullptr;
  const napi_status status =
      napi_create_external_arraybuffer(env, mapping->data(), mapping->bytes(), let_go, hold, &buffer);
  if (status == napi_ok) return Napi::Value(env, buffer);
  // Whether `let_go` has run, or will, differs from failure to failure. `release` works once either way; a hold that
  // nobody lets go of is sixteen bytes.
  mapping->release();
  if (status == napi_no_external_buffers_allowed)
    return text(env, "MISSING_DEPENDENCY: this runtime allows no buffers over memory that is not its own");
  if (env.IsExceptionPending()) env.GetAndClearPendingException();
  return text(env, "OUT_OF_MEMORY: the runtime refused a buffer over the file");
}

}  // namespace

// Adds `mapFile` to the addon's exports.
void InitFiles(Napi::Env env, Napi::Object exports) { exports.Set("mapFile", Napi::Function::New<MapFile>(env)); }
