#include "kinds.h"

namespace cloister {

std::unique_ptr<Step> read_gemm(StepReader&);
std::unique_ptr<Step> read_conv(StepReader&);
std::unique_ptr<Step> read_pool(StepReader&);
std::unique_ptr<Step> read_unary(StepReader&);
std::unique_ptr<Step> read_binary(StepReader&);
std::unique_ptr<Step> read_softmax(StepReader&);
std::unique_ptr<Step> read_reduce(StepReader&);
std::unique_ptr<Step> read_copy(StepReader&);
std::unique_ptr<Step> read_concat(StepReader&);
std::unique_ptr<Step> read_attention(StepReader&);
std::unique_ptr<Step> read_attention_mask(StepReader&);
std::unique_ptr<Step> read_recurrent(StepReader&);
std::unique_ptr<Step> read_trees(StepReader&);
std::unique_ptr<Step> read_scores(StepReader&);
std::unique_ptr<Step> read_blocked_conv(StepReader&);
std::unique_ptr<Step> read_blocked_pool(StepReader&);
std::unique_ptr<Step> read_blocked_pool_all(StepReader&);
std::unique_ptr<Step> read_to_blocks(StepReader&);
std::unique_ptr<Step> read_from_blocks(StepReader&);
std::unique_ptr<Step> read_chain(StepReader&);
std::unique_ptr<Step> read_row_norm(StepReader&);
std::unique_ptr<Step> read_row_norm_sum(StepReader&);
std::unique_ptr<Step> read_group_norm(StepReader&);
std::unique_ptr<Step> read_gather(StepReader&);
std::unique_ptr<Step> read_gather_elements(StepReader&);
std::unique_ptr<Step> read_pad(StepReader&);
std::unique_ptr<Step> read_arg(StepReader&);
std::unique_ptr<Step> read_int8_gemm(StepReader&);
std::unique_ptr<Step> read_int8_conv(StepReader&);
std::unique_ptr<Step> read_int8_depthwise(StepReader&);
std::unique_ptr<Step> read_quantize(StepReader&);
std::unique_ptr<Step> read_dequantize(StepReader&);
std::unique_ptr<Step> read_dynamic_quantize(StepReader&);
std::unique_ptr<Step> read_int8_binary(StepReader&);
std::unique_ptr<Step> read_int8_lookup(StepReader&);
std::unique_ptr<Step> read_int8_mean(StepReader&);

extern const PackedLayout kGemmLayout;
extern const PackedLayout kConvLayout;
extern const PackedLayout kRecurrentLayout;
extern const PackedLayout kTreesLayout;
extern const PackedLayout kBlockedFullLayout;
extern const PackedLayout kBlockedFromPlainLayout;
extern const PackedLayout kBlockedDepthwiseLayout;
extern const PackedLayout kInt8Layout;
extern const PackedLayout kInt8DepthwiseLayout;

namespace {

// From kFirstKind on.
const StepKind kKinds[] = {
    {"gemm", read_gemm},       {"conv", read_conv},     {"pool", read_pool}, {"unary", read_unary}, {"binary", read_binary},
    {"softmax", read_softmax}, {"reduce", read_reduce}, {"copy", read_copy}, {"concat", read_concat},
    {"attention", read_attention}, {"attentionMask", read_attention_mask}, {"recurrent", read_recurrent},
    {"trees", read_trees}, {"scores", read_scores},
    {"blockedConv", read_blocked_conv},
    {"blockedPool", read_blocked_pool},
    {"blockedPoolAll", read_blocked_pool_all},
    {"toBlocks", read_to_blocks},
    {"fromBlocks", read_from_blocks},
    {"chain", read_chain}, {"rowNorm", read_row_norm}, {"rowNormSum", read_row_norm_sum}, {"groupNorm", read_group_norm},
    {"gather", read_gather}, {"gatherElements", read_gather_elements}, {"pad", read_pad}, {"arg", read_arg},
    {"int8Gemm", read_int8_gemm}, {"int8Conv", read_int8_conv}, {"int8Depthwise", read_int8_depthwise},
    {"quantize", read_quantize}, {"dequantize", read_dequantize}, {"dynamicQuantize", read_dynamic_quantize},
    {"int8Binary", read_int8_binary}, {"int8Lookup", read_int8_lookup}, {"int8Mean", read_int8_mean},
};

const PackedLayout* const kLayouts[] = {
    &kGemmLayout,        &kConvLayout,             &kRecurrentLayout,        &kTreesLayout,
    &kBlockedFullLayout, &kBlockedFromPlainLayout, &kBlockedDepthwiseLayout, &kInt8Layout,
    &kInt8DepthwiseLayout,
};

}  // namespace

const StepKind* step_kind(uint32_t number) {
  const uint32_t at = number - kFirstKind;
  return number >= kFirstKind && at < sizeof kKinds / sizeof kKinds[0] ? &kKinds[at] : nullptr;
}

const PackedLayout* packed_layout(uint32_t number) {
  return number < sizeof kLayouts / sizeof kLayouts[0] ? kLayouts[number] : nullptr;
}

const char* step_kind_name(uint32_t number) {
  if (number == kStepLoad) return "load";
  if (number == kStepPack) return "pack";
  const StepKind* const kind = step_kind(number);
  return kind == nullptr ? "?" : kind->name;
}

}  // namespace cloister
