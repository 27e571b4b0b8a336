// The border between JavaScript and the kernels: Node-API only. Every hook unpacks its arguments, checks that each
// array is as long as the sizes next to it say, calls one kernel, and returns undefined; or it returns what is wrong,
// as a string, having computed nothing. The wrapper in kernels.ts throws it, so that stacks show the caller.
#include <napi.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "kernels/kernels.h"

void InitBlas(Napi::Env env, Napi::Object exports);
void InitDump(Napi::Env env, Napi::Object exports);
void InitExecutor(Napi::Env env, Napi::Object exports);
void InitFiles(Napi::Env env, Napi::Object exports);
void InitPool(Napi::Env env, Napi::Object exports);
void InitSharedMemory(Napi::Env env, Napi::Object exports);

namespace {

using namespace cloister;

// What one environment holds: the workspace of its hooks, grown when a call needs more.
class Environment {
 public:
  Environment() = default;
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() { std::free(block_); }

  // At least `count` floats at a multiple of 64 bytes, or null.
  float* workspace(size_t count) {
    constexpr size_t kAlign = 64;
    const size_t bytes = count * sizeof(float) + kAlign;
    if (bytes > bytes_) {
      std::free(block_);
      block_ = std::malloc(bytes);
      bytes_ = block_ ? bytes : 0;
    }
    if (!block_) return nullptr;
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(block_) + kAlign - 1) / kAlign * kAlign);
  }

 private:
  void* block_ = nullptr;
  size_t bytes_ = 0;
};

struct Block {
  uint8_t* data = nullptr;
  size_t bytes = 0;
};

bool overlap(const Block& a, const Block& b) {
  return a.bytes && b.bytes && a.data < b.data + b.bytes && b.data < a.data + a.bytes;
}

// Takes the arguments of one call in order, and remembers the first thing that is wrong.
class Arguments {
 public:
  explicit Arguments(const Napi::CallbackInfo& info) : info_(info) {}

  // An integer from `least` to 2^31 - 1: the product of any two of them fits in 62 bits.
  uint32_t size(const char* name, uint32_t least = 1) {
    const Napi::Value value = info_[next_++];
    const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
    if (number >= least && number <= 2147483647.0 && number == std::floor(number)) return static_cast<uint32_t>(number);
    refuse("%s must be an integer from %u to 2^31-1", name, least);
    return 1;
  }

  uint32_t choice(const char* name, uint32_t count) {
    const uint32_t value = size(name, 0);
    if (value >= count) refuse("%s must be below %u", name, count);
    return value < count ? value : 0;
  }

  bool flag(const char* name) {
    const Napi::Value value = info_[next_++];
    if (!value.IsBoolean()) refuse("%s must be a boolean", name);
    return value.IsBoolean() && value.As<Napi::Boolean>().Value();
  }

  float number(const char* name) {
    const Napi::Value value = info_[next_++];
    if (!value.IsNumber()) refuse("%s must be a number", name);
    return value.IsNumber() ? value.As<Napi::Number>().FloatValue() : 0;
  }

  // A Float32Array of at least `count` elements. With `exact`, of exactly so many.
  float* floats(const char* name, size_t count, bool exact = true) {
    return reinterpret_cast<float*>(array(name, napi_float32_array, "Float32Array", count, exact).data);
  }

  // A Float32Array that is written: it overlaps nothing that was taken before, but for one that it may equal.
  float* output(const char* name, size_t count, const float* may_equal_1 = nullptr,
                const float* may_equal_2 = nullptr) {
    const size_t earlier = taken_;
    const Block block = array(name, napi_float32_array, "Float32Array", count, true);
    check_apart(name, block, earlier, may_equal_1, may_equal_2);
    return reinterpret_cast<float*>(block.data);
  }

  // Null, or a Float32Array of exactly `count` elements.
  const float* optional_floats(const char* name, size_t count) {
    if (info_[next_].IsNull() || info_[next_].IsUndefined()) {
      next_++;
      return nullptr;
    }
    return floats(name, count);
  }

  Block bytes(const char* name, size_t count, bool written) {
    const size_t earlier = taken_;
    const Block block = array(name, napi_uint8_array, "Uint8Array", count, written);
    if (written) check_apart(name, block, earlier, nullptr, nullptr);
    return block;
  }

  // A plain array of up to kMaxRank integers from `least` to 2^31 - 1; returns how many there are.
  size_t list(const char* name, uint32_t least, int64_t* out) {
    const Napi::Value value = info_[next_++];
    if (!value.IsArray() || value.As<Napi::Array>().Length() > kMaxRank) {
      refuse("%s must be an array of at most %u integers", name, static_cast<uint32_t>(kMaxRank));
      return 0;
    }
    const Napi::Array array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length(); i++) {
      const Napi::Value item = array.Get(i);
      const double number = item.IsNumber() ? item.As<Napi::Number>().DoubleValue() : -1;
      if (!(number >= least && number <= 2147483647.0 && number == std::floor(number))) {
        refuse("every element of %s must be an integer from %u to 2^31-1", name, least);
        return 0;
      }
      out[i] = static_cast<int64_t>(number);
    }
    return array.Length();
  }

  void require(bool holds, const char* what) {
    if (!holds) refuse("%s", what);
  }

  bool good() const { return !wrong_[0]; }

  Napi::Value verdict() const {
    return good() ? info_.Env().Undefined() : Napi::String::New(info_.Env(), wrong_).As<Napi::Value>();
  }

  float* workspace(size_t count) {
    float* block = info_.Env().GetInstanceData<Environment>()->workspace(count);
    if (!block) refuse("no memory for a workspace of %zu elements", count);
    return block;
  }

 private:
  template <typename... Values>
  void refuse(const char* format, Values... values) {
    if (good()) std::snprintf(wrong_, sizeof wrong_, format, values...);
  }

  Block array(const char* name, napi_typedarray_type type, const char* type_name, size_t count, bool exact) {
    const Napi::Value value = info_[next_++];
    if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
      refuse("%s must be a %s", name, type_name);
      return {};
    }
    // napi_get_typedarray_info also serves arrays over SharedArrayBuffers; Napi::TypedArrayOf would ask for their
    // buffer.
    size_t length = 0;
    void* data = nullptr;
    napi_get_typedarray_info(info_.Env(), value, nullptr, &length, &data, nullptr, nullptr);
    if (exact ? length != count : length < count) {
      refuse("%s must hold %s%zu elements, it holds %zu", name, exact ? "" : "at least ", count, length);
      return {};
    }
    const Block block{static_cast<uint8_t*>(data), length * (type == napi_float32_array ? sizeof(float) : 1)};
    if (taken_ < kMaxBlocks) blocks_[taken_++] = block;
    return block;
  }

  void check_apart(const char* name, const Block& block, size_t earlier, const float* may_equal_1,
                   const float* may_equal_2) {
    for (size_t i = 0; i < earlier; i++) {
      const void* data = blocks_[i].data;
      const bool may_equal = data == may_equal_1 || data == may_equal_2;
      if (may_equal && data == block.data && blocks_[i].bytes == block.bytes) continue;
      if (overlap(block, blocks_[i])) refuse("%s must not overlap an input", name);
    }
  }

  static constexpr size_t kMaxBlocks = 8;
  const Napi::CallbackInfo& info_;
  size_t next_ = 0;
  size_t taken_ = 0;
  Block blocks_[kMaxBlocks];
  char wrong_[200] = "";
};

// activation, lo, hi
Epilogue take_epilogue(Arguments& arguments) {
  const auto activation = static_cast<Activation>(arguments.choice("activation", kActCount));
  const float lo = arguments.number("lo");
  const float hi = arguments.number("hi");
  return {nullptr, activation, lo, hi};
}

// The elements that `rows` rows of `columns` need at leading dimension `ld`.
size_t span(size_t rows, size_t columns, size_t ld) { return (rows - 1) * ld + columns; }

// What packing takes: k, n, ldb, transposed, b.
struct GemmOperand {
  size_t k, n, ldb;
  bool transposed;
  const float* b;
};
GemmOperand take_gemm_operand(Arguments& arguments) {
  GemmOperand operand{};
  operand.k = arguments.size("k");
  operand.n = arguments.size("n");
  operand.ldb = arguments.size("ldb");
  operand.transposed = arguments.flag("transposeB");
  const size_t rows = operand.transposed ? operand.n : operand.k, columns = operand.transposed ? operand.k : operand.n;
  arguments.require(operand.ldb >= columns, operand.transposed ? "ldb must be at least k" : "ldb must be at least n");
  operand.b = arguments.floats("b", span(rows, columns, operand.ldb), false);
  return operand;
}

// k, n, ldb, transposed, b -> how long `packed` must be
Napi::Value GemmPackedElements(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const GemmOperand operand = take_gemm_operand(arguments);
  if (!arguments.good()) return arguments.verdict();
  return Napi::Number::New(info.Env(), static_cast<double>(kernels().gemm.packed_elements(operand.k, operand.n)));
}

// k, n, ldb, transposed, b, packed
Napi::Value GemmPack(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const GemmOperand operand = take_gemm_operand(arguments);
  const Kernels& row = kernels();
  float* packed = arguments.output("packed", row.gemm.packed_elements(operand.k, operand.n));
  if (arguments.good()) row.gemm.pack_b(operand.k, operand.n, operand.b, operand.ldb, operand.transposed, packed);
  return arguments.verdict();
}

// m, n, k, lda, ldc, transposeA, activation, lo, hi, a, packed, bias, c
Napi::Value Gemm(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const size_t m = arguments.size("m"), n = arguments.size("n"), k = arguments.size("k");
  const size_t lda = arguments.size("lda"), ldc = arguments.size("ldc");
  const bool transposed = arguments.flag("transposeA");
  Epilogue epilogue = take_epilogue(arguments);
  arguments.require(lda >= (transposed ? m : k), transposed ? "lda must be at least m" : "lda must be at least k");
  arguments.require(ldc >= n, "ldc must be at least n");
  const Kernels& row = kernels();
  const float* a = arguments.floats("a", transposed ? span(k, m, lda) : span(m, k, lda), false);
  const float* packed = arguments.floats("packed", row.gemm.packed_elements(k, n));
  epilogue.bias = arguments.optional_floats("bias", n);
  float* c = arguments.output("c", span(m, n, ldc));
  if (!arguments.good()) return arguments.verdict();
  float* workspace = arguments.workspace(row.gemm.workspace_elements(m, n, k, kGemmPacked));
  const GemmProduct product = {m, n, k, a, lda, transposed, kGemmPacked, packed, 0, c, ldc, nullptr, 0, 1, epilogue};
  if (workspace) row.gemm.multiply(product, {0, m, 0, n}, workspace);
  return arguments.verdict();
}

// The sixteen fields of Window in order. What is taken is consistent: groups divide, windows begin inside the padded
// input.
Window take_window(Arguments& arguments, bool pooling) {
  Window w{};
  w.batch = arguments.size("batch");
  w.in_c = arguments.size("inC");
  w.in_h = arguments.size("inH");
  w.in_w = arguments.size("inW");
  w.out_c = arguments.size("outC");
  w.out_h = arguments.size("outH");
  w.out_w = arguments.size("outW");
  w.kernel_h = arguments.size("kernelH");
  w.kernel_w = arguments.size("kernelW");
  w.stride_h = arguments.size("strideH");
  w.stride_w = arguments.size("strideW");
  w.dilation_h = arguments.size("dilationH");
  w.dilation_w = arguments.size("dilationW");
  w.pad_top = arguments.size("padTop", 0);
  w.pad_left = arguments.size("padLeft", 0);
  w.groups = arguments.size("groups");
  // Each product below is of sizes that are far under 2^31 in anything real; the bound keeps all of them inside 62
  // bits.
  constexpr uint32_t kMost = 1u << 20;
  for (const uint32_t size : {w.batch, w.in_c, w.in_h, w.in_w, w.out_c, w.out_h, w.out_w, w.kernel_h, w.kernel_w,
                              w.stride_h, w.stride_w, w.dilation_h, w.dilation_w, w.pad_top, w.pad_left}) {
    arguments.require(size <= kMost, "window sizes must be at most 2^20");
  }
  arguments.require(w.in_c % w.groups == 0 && w.out_c % w.groups == 0, "groups must divide inC and outC");
  if (pooling) arguments.require(w.in_c == w.out_c && w.groups == 1, "pooling keeps channels and has one group");
  // Only sizes whose tensors fit in memory at all get further: four factors of 2^20 could wrap.
  const double most = 1e12;
  arguments.require(1.0 * w.batch * w.in_c * w.in_h * w.in_w <= most, "the input is too large");
  arguments.require(1.0 * w.batch * w.out_c * w.out_h * w.out_w <= most, "the output is too large");
  arguments.require(1.0 * w.out_c * w.in_c * w.kernel_h * w.kernel_w <= most, "the kernel is too large");
  arguments.require(1.0 * w.in_c * w.kernel_h * w.kernel_w * w.out_h * w.out_w <= most, "the convolution is too large");
  const double reach_h = 1.0 * w.out_h * w.stride_h + 1.0 * w.kernel_h * w.dilation_h;
  const double reach_w = 1.0 * w.out_w * w.stride_w + 1.0 * w.kernel_w * w.dilation_w;
  arguments.require(reach_h <= 1e6 && reach_w <= 1e6 && reach_h * reach_w * w.in_c <= most,
      "the window reaches too far");
  return w;
}

size_t input_elements(const Window& w) { return size_t{w.batch} * w.in_c * w.in_h * w.in_w; }
size_t output_elements(const Window& w) { return size_t{w.batch} * w.out_c * w.out_h * w.out_w; }

const float* take_weights(Arguments& arguments, const Window& w) {
  return arguments.floats("weights", size_t{w.out_c} * (w.in_c / w.groups) * w.kernel_h * w.kernel_w);
}

// window, weights -> how long `packed` must be
Napi::Value ConvPackedElements(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const Window w = take_window(arguments, false);
  take_weights(arguments, w);
  if (!arguments.good()) return arguments.verdict();
  return Napi::Number::New(info.Env(), static_cast<double>(kernels().conv.packed_elements(w)));
}

// window, weights, packed
Napi::Value ConvPack(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const Window w = take_window(arguments, false);
  const float* weights = take_weights(arguments, w);
  if (!arguments.good()) return arguments.verdict();
  float* packed = arguments.output("packed", kernels().conv.packed_elements(w));
  if (arguments.good()) kernels().conv.pack(w, weights, packed);
  return arguments.verdict();
}

// window, activation, lo, hi, x, packed, bias, y
Napi::Value Conv(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const Window w = take_window(arguments, false);
  Epilogue epilogue = take_epilogue(arguments);
  if (!arguments.good()) return arguments.verdict();
  const Kernels& row = kernels();
  const float* x = arguments.floats("x", input_elements(w));
  const float* packed = arguments.floats("packed", row.conv.packed_elements(w));
  epilogue.bias = arguments.optional_floats("bias", w.out_c);
  float* y = arguments.output("y", output_elements(w));
  if (!arguments.good()) return arguments.verdict();
  float* workspace = arguments.workspace(row.conv.workspace_elements(w));
  if (workspace) row.conv.convolve(w, x, packed, y, epilogue, workspace);
  return arguments.verdict();
}

// window, op, x, y
Napi::Value Pool(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const Window w = take_window(arguments, true);
  const auto op = static_cast<PoolOp>(arguments.choice("op", kPoolOpCount));
  if (!arguments.good()) return arguments.verdict();
  const float* x = arguments.floats("x", input_elements(w));
  float* y = arguments.output("y", output_elements(w));
  if (arguments.good()) kernels().pool.pool(w, op, x, y);
  return arguments.verdict();
}

// op, count, p0, p1, x, y
Napi::Value Unary(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const auto op = static_cast<UnaryOp>(arguments.choice("op", kUnaryOpCount));
  const size_t count = arguments.size("count");
  const float p0 = arguments.number("p0"), p1 = arguments.number("p1");
  const float* x = arguments.floats("x", count);
  float* y = arguments.output("y", count, x);
  if (arguments.good()) kernels().elementwise.unary(op, count, x, y, p0, p1);
  return arguments.verdict();
}

// The elements of `dims`, or 0 when there are more than 2^40.
size_t product(size_t rank, const int64_t* dims) {
  double exact = 1;
  size_t count = 1;
  for (size_t d = 0; d < rank; d++) exact *= static_cast<double>(dims[d]), count *= static_cast<size_t>(dims[d]);
  return exact <= 1099511627776.0 ? count : 0;
}

// One more than the furthest element that `strides` reach, or 0 when that is over 2^40.
size_t reach(size_t rank, const int64_t* dims, const int64_t* strides) {
  double furthest = 1;
  for (size_t d = 0; d < rank; d++) furthest += static_cast<double>(dims[d] - 1) * static_cast<double>(strides[d]);
  return furthest <= 1099511627776.0 ? static_cast<size_t>(furthest) : 0;
}

bool dense(size_t rank, const int64_t* dims, const int64_t* strides) {
  int64_t expected = 1;
  for (size_t d = rank; d-- > 0; expected *= dims[d]) {
    if (dims[d] != 1 && strides[d] != expected) return false;
  }
  return true;
}

// op, dims, aStrides, bStrides, a, b, y
Napi::Value Binary(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const auto op = static_cast<BinaryOp>(arguments.choice("op", kBinaryOpCount));
  int64_t dims[kMaxRank], a_strides[kMaxRank], b_strides[kMaxRank];
  const size_t rank = arguments.list("dims", 1, dims);
  arguments.require(arguments.list("aStrides", 0, a_strides) == rank, "aStrides must be as long as dims");
  arguments.require(arguments.list("bStrides", 0, b_strides) == rank, "bStrides must be as long as dims");
  if (!arguments.good()) return arguments.verdict();
  const size_t count = product(rank, dims);
  const size_t a_reach = reach(rank, dims, a_strides), b_reach = reach(rank, dims, b_strides);
  arguments.require(count && a_reach && b_reach, "dims and strides reach over 2^40 elements");
  if (!arguments.good()) return arguments.verdict();
  const float* a = arguments.floats("a", a_reach, false);
  const float* b = arguments.floats("b", b_reach, false);
  float* y = arguments.output("y", count, dense(rank, dims, a_strides) ? a : nullptr,
                              dense(rank, dims, b_strides) ? b : nullptr);
  if (!arguments.good()) return arguments.verdict();
  uint32_t narrow[3][kMaxRank];
  for (size_t d = 0; d < rank; d++) {
    narrow[0][d] = static_cast<uint32_t>(dims[d]);
    narrow[1][d] = static_cast<uint32_t>(a_strides[d]);
    narrow[2][d] = static_cast<uint32_t>(b_strides[d]);
  }
  kernels().elementwise.binary(op, rank, narrow[0], a, narrow[1], b, narrow[2], y);
  return arguments.verdict();
}

// outer, n, inner, log, x, y
Napi::Value Softmax(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  int64_t sizes[3] = {arguments.size("outer"), arguments.size("n"), arguments.size("inner")};
  const bool log = arguments.flag("log");
  const size_t count = product(3, sizes);
  arguments.require(count, "outer x n x inner is over 2^40 elements");
  if (!arguments.good()) return arguments.verdict();
  const float* x = arguments.floats("x", count);
  float* y = arguments.output("y", count, x);
  if (arguments.good()) kernels().reduce.softmax(sizes[0], sizes[1], sizes[2], log, x, y, false);
  return arguments.verdict();
}

// op, outer, n, inner, x, y
Napi::Value Reduce(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const auto op = static_cast<ReduceOp>(arguments.choice("op", kReduceOpCount));
  int64_t sizes[3] = {arguments.size("outer"), arguments.size("n"), arguments.size("inner")};
  const size_t count = product(3, sizes);
  arguments.require(count, "outer x n x inner is over 2^40 elements");
  if (!arguments.good()) return arguments.verdict();
  const float* x = arguments.floats("x", count);
  float* y = arguments.output("y", static_cast<size_t>(sizes[0]) * static_cast<size_t>(sizes[2]));
  if (arguments.good()) kernels().reduce.reduce(op, sizes[0], sizes[1], sizes[2], x, y);
  return arguments.verdict();
}

// elementBytes, dims, strides, x, y
Napi::Value CopyStrided(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const size_t element = arguments.size("elementBytes");
  arguments.require(element == 1 || element == 2 || element == 4 || element == 8, "elementBytes must be 1, 2, 4 or 8");
  int64_t dims[kMaxRank], strides[kMaxRank];
  const size_t rank = arguments.list("dims", 1, dims);
  arguments.require(arguments.list("strides", 0, strides) == rank, "strides must be as long as dims");
  if (!arguments.good()) return arguments.verdict();
  const size_t count = product(rank, dims), furthest = reach(rank, dims, strides);
  arguments.require(count && furthest, "dims and strides reach over 2^40 elements");
  if (!arguments.good()) return arguments.verdict();
  const Block x = arguments.bytes("x", furthest * element, false);
  const Block y = arguments.bytes("y", count * element, true);
  if (!arguments.good()) return arguments.verdict();
  uint32_t narrow[kMaxRank];
  for (size_t d = 0; d < rank; d++) narrow[d] = static_cast<uint32_t>(dims[d]);
  kernels().copy.copy_strided(rank, narrow, strides, element, x.data, y.data, false);
  return arguments.verdict();
}

// () -> {isa, supported, gemmPanel, features}
Napi::Value Info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const Kernels* const* rows = nullptr;
  const size_t count = supported_kernels(&rows);
  Napi::Array supported = Napi::Array::New(env, count);
  for (size_t i = 0; i < count; i++) supported.Set(static_cast<uint32_t>(i), rows[i]->isa);
  Napi::Object result = Napi::Object::New(env);
  result.Set("isa", kernels().isa);
  result.Set("supported", supported);
  result.Set("gemmPanel", kernels().gemm.panel);
  result.Set("features", cpu_features());
  return result;
}

// name -> whether that row runs now
Napi::Value ForceIsa(const Napi::CallbackInfo& info) {
  const bool named = info[0].IsString();
  const std::string name = named ? info[0].As<Napi::String>().Utf8Value() : std::string();
  return Napi::Boolean::New(info.Env(), (named || info[0].IsNull()) && force_isa(name.c_str()));
}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  env.SetInstanceData(new Environment());
  exports.Set("info", Napi::Function::New<Info>(env));
  exports.Set("forceIsa", Napi::Function::New<ForceIsa>(env));
  exports.Set("gemmPackedElements", Napi::Function::New<GemmPackedElements>(env));
  exports.Set("gemmPack", Napi::Function::New<GemmPack>(env));
  exports.Set("gemm", Napi::Function::New<Gemm>(env));
  exports.Set("convPackedElements", Napi::Function::New<ConvPackedElements>(env));
  exports.Set("convPack", Napi::Function::New<ConvPack>(env));
  exports.Set("conv", Napi::Function::New<Conv>(env));
  exports.Set("pool", Napi::Function::New<Pool>(env));
  exports.Set("unary", Napi::Function::New<Unary>(env));
  exports.Set("binary", Napi::Function::New<Binary>(env));
  exports.Set("softmax", Napi::Function::New<Softmax>(env));
  exports.Set("reduce", Napi::Function::New<Reduce>(env));
  exports.Set("copyStrided", Napi::Function::New<CopyStrided>(env));
  InitBlas(env, exports);
  InitDump(env, exports);
  InitExecutor(env, exports);
  InitFiles(env, exports);
  InitPool(env, exports);
  InitSharedMemory(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(cloister, Init)
