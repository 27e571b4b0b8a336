// Scaled dot-product attention of f32.
#pragma once
#include "../types.h"

namespace cloister {

// Where the rows of one operand lie, in elements; the elements of a row are neighbours.
struct HeadStrides {
  uint64_t batch, head, row;
};

// out = softmax(softcap(q k^T * scale) + mask) v, for each batch and head.
struct AttentionShape {
  uint32_t batch, heads, kv_heads;  // heads / kv_heads neighbouring heads share keys and values
  uint32_t queries, keys;
  uint32_t size, value_size;        // elements of a query or key, and of a value or result
  HeadStrides q, k, v, out;
  HeadStrides mask;                 // a stride of 0 repeats
  uint64_t mask_key;                // from key to key: 1 or 0
  float scale;
  float softcap;                    // s becomes softcap * tanh(s / softcap); 0: it stays
  bool causal;                      // query i sees keys up to i + past
  int64_t past;
};

struct AttentionKernels {
  // Queries are done `block` at a time. Unit ((b * heads + h) * ceil(queries / block) + i) is block i of head h.
  uint32_t block;
  size_t (*workspace_elements)(const AttentionShape& shape);
  // Units [first, last). `mask` may be null. A query none of whose keys has a mask above -infinity gives zeros. Keys
  // are taken in the same order whatever the units, so results do not depend on how those are dealt out.
  //
  // With e = (size + 4) u max_j |scale| sum_d |q_d k_jd| + 2 u max_j |mask_j| where scores are finite, a result is within
  // (2 e + (keys + 8) u) max_j |v_j| of the exact one, to first order. workspace: 64-byte aligned.
  void (*attend)(const AttentionShape& shape, const float* q, const float* k, const float* v, const float* mask,
                 float* out, size_t first, size_t last, float* workspace);
};

}  // namespace cloister
