// The border of shared memory to JavaScript. shared-memory.ts throws what is wrong.
#include <napi.h>

#include <cerrno>
#include <memory>

#include "shared_memory.h"

namespace {

using namespace cloister;

// What an ArrayBuffer holds of its memory.
using Hold = std::shared_ptr<SharedMemory>;

// Node calls it when nothing refers to the memory any more, on the thread of the environment, once.
void let_go(napi_env, void*, void* hold) { delete static_cast<Hold*>(hold); }

// An integer from 0 to 2^31-1, or -1.
int count(const Napi::Value& value) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
  return number >= 0 && number <= 2147483647.0 ? static_cast<int>(number) : -1;
}

// An ArrayBuffer over the memory, or the number of the system's error.
Napi::Value buffer_over(Napi::Env env, const Hold& memory) {
  auto* hold = new Hold(memory);
  napi_value buffer = nullptr;
  const napi_status status =
      napi_create_external_arraybuffer(env, memory->data(), memory->bytes(), let_go, hold, &buffer);
  if (status == napi_ok) return Napi::Value(env, buffer);
  memory->release();  // whether `let_go` runs differs from failure to failure; this works once either way
  if (env.IsExceptionPending()) env.GetAndClearPendingException();
  return Napi::Number::New(env, ENOSYS);
}

// bytes -> { buffer, descriptor }, or the number of the system's error
Napi::Value CreateSharedMemory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int bytes = count(info[0]);
  if (bytes <= 0) return Napi::Number::New(env, EINVAL);
  int descriptor = -1;
  int error = 0;
  const Hold memory = SharedMemory::create(static_cast<size_t>(bytes), &descriptor, &error);
  if (!memory) return Napi::Number::New(env, error);
  Napi::Object made = Napi::Object::New(env);
  made.Set("buffer", buffer_over(env, memory));
  made.Set("descriptor", Napi::Number::New(env, descriptor));
  return made;
}

// descriptor, bytes -> an ArrayBuffer, or the number of the system's error
Napi::Value MapSharedMemory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int descriptor = count(info[0]);
  const int bytes = count(info[1]);
  if (descriptor < 0 || bytes <= 0) return Napi::Number::New(env, EINVAL);
  int error = 0;
  const Hold memory = SharedMemory::map(descriptor, static_cast<size_t>(bytes), &error);
  return memory ? buffer_over(env, memory) : Napi::Number::New(env, error);
}

}  // namespace

// Adds `createSharedMemory` and `mapSharedMemory` to the addon's exports.
void InitSharedMemory(Napi::Env env, Napi::Object exports) {
  exports.Set("createSharedMemory", Napi::Function::New<CreateSharedMemory>(env));
  exports.Set("mapSharedMemory", Napi::Function::New<MapSharedMemory>(env));
}
