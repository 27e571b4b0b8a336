// The border of OpenBLAS to JavaScript: takes the arguments, openblas.cc checks them. openblas.ts throws what is wrong.
#include <napi.h>

#include <string>

#include "openblas.h"

namespace {

using namespace cloister;

// The elements of a Float32Array; none where it is no such thing or its buffer is detached.
BlasBlock block_of(const Napi::Value& value) {
  napi_typedarray_type type = napi_uint8_array;
  size_t length = 0;
  void* data = nullptr;
  if (!value.IsTypedArray() ||
      napi_get_typedarray_info(value.Env(), value, &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_float32_array || data == nullptr) {
    return {nullptr, 0};
  }
  return {static_cast<float*>(data), length};
}

double number_of(const Napi::Value& value) {
  return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;  // refused as a size
}

bool flag_of(const Napi::Value& value) { return value.As<Napi::Boolean>().Value(); }

// m, n, k, transposeA, transposeB, alpha, a, aOffset, lda, b, bOffset, ldb, beta, c, cOffset, ldc -> what is wrong
Napi::Value Sgemm(const Napi::CallbackInfo& info) {
  const auto* blas = static_cast<const OpenBlas*>(info.Data());
  if (!info[3].IsBoolean() || !info[4].IsBoolean() || !info[5].IsNumber() || !info[12].IsNumber()) {
    return Napi::String::New(info.Env(), "transposes must be booleans, alpha and beta numbers");
  }
  BlasProduct p{};
  p.m = number_of(info[0]);
  p.n = number_of(info[1]);
  p.k = number_of(info[2]);
  p.transpose_a = flag_of(info[3]);
  p.transpose_b = flag_of(info[4]);
  p.alpha = static_cast<float>(number_of(info[5]));
  p.offset_a = number_of(info[7]);
  p.lda = number_of(info[8]);
  p.offset_b = number_of(info[10]);
  p.ldb = number_of(info[11]);
  p.beta = static_cast<float>(number_of(info[12]));
  p.offset_c = number_of(info[14]);
  p.ldc = number_of(info[15]);
  const char* wrong = multiply(*blas, p, block_of(info[6]), block_of(info[9]), block_of(info[13]));
  return wrong ? Napi::String::New(info.Env(), wrong).As<Napi::Value>() : info.Env().Undefined();
}

// name, threads -> {path, config, core, sgemm}; or {found, why}
Napi::Value OpenOpenBlas(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  const std::string name = info[0].IsString() ? info[0].As<Napi::String>().Utf8Value() : std::string();
  const int threads = info[1].IsNumber() ? info[1].As<Napi::Number>().Int32Value() : 1;
  OpenedBlas opened;
  // The loader would stop at the NUL and open another file than the one that was named; without a name it gives this
  // very process.
  if (name.empty() || name.find('\0') != std::string::npos) {
    opened.why = "its name is empty or has a NUL in it";
  } else {
    opened = open_blas(name.c_str(), threads);
  }
  if (opened.blas == nullptr) {
    result.Set("found", opened.found);
    result.Set("why", opened.why);
    return result;
  }
  result.Set("path", opened.blas->path);
  result.Set("config", opened.blas->config);
  result.Set("core", opened.blas->core);
  // The library outlives every environment.
  result.Set("sgemm", Napi::Function::New(env, Sgemm, "sgemm", const_cast<OpenBlas*>(opened.blas)));
  return result;
}

}  // namespace

// Adds `openOpenBlas` to the addon's exports.
void InitBlas(Napi::Env env, Napi::Object exports) {
  exports.Set("openOpenBlas", Napi::Function::New<OpenOpenBlas>(env));
}
