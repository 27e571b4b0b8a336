// The executor's part of the addon: what it adds to the exports.
#include <napi.h>

void InitExecutor(Napi::Env env, Napi::Object exports) { exports.Set("programVersion", Napi::Number::New(env, 1)); }
