// The border of the kernel pool to JavaScript; threads.ts checks what goes in.
#include <napi.h>

#include <string>

#include "cpus.h"
#include "pool.h"

namespace {

using namespace cloister;

// [root] -> {affinity, quota, threads, limit, running, joined}
Napi::Value Threads(const Napi::CallbackInfo& info) {
  const std::string root = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : std::string();
  const Cpus cpus = find_cpus(root.c_str());
  const PoolState state = pool_state();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("affinity", cpus.affinity);
  result.Set("quota", cpus.quota);
  result.Set("threads", cpus.threads);
  result.Set("limit", pool_threads());
  result.Set("running", state.threads);
  result.Set("joined", static_cast<double>(state.joined));
  return result;
}

// threads, 1 to 64; 0: as many as the system leaves this process
Napi::Value SetThreads(const Napi::CallbackInfo& info) {
  set_pool_threads(info[0].IsNumber() ? info[0].As<Napi::Number>().Uint32Value() : 0);
  return info.Env().Undefined();
}

}  // namespace

// Adds `threads` and `setThreads` to the addon's exports, and the environment to those that the pool serves.
void InitPool(Napi::Env env, Napi::Object exports) {
  exports.Set("threads", Napi::Function::New<Threads>(env));
  exports.Set("setThreads", Napi::Function::New<SetThreads>(env));
  retain_pool();
  env.AddCleanupHook([] { release_pool(); });
}
