// The border of PR_SET_DUMPABLE to JavaScript.
#include <napi.h>

#if defined(__linux__)
#include <sys/prctl.h>
#endif

namespace {

// () -> whether the kernel did it. `execve` takes it back, so no launcher can do it for the program that it becomes.
Napi::Value ForbidDump(const Napi::CallbackInfo& info) {
#if defined(__linux__)
  return Napi::Boolean::New(info.Env(), prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
#else
  return Napi::Boolean::New(info.Env(), false);
#endif
}

}  // namespace

// Adds `forbidDump` to the addon's exports.
void InitDump(Napi::Env env, Napi::Object exports) { exports.Set("forbidDump", Napi::Function::New<ForbidDump>(env)); }
