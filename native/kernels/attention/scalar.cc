// Attention as its definition reads: one query at a time, in double.
#include <cmath>

#include "../row.h"
#include "../scalar.h"
#include "table.h"

namespace cloister::scalar {
namespace {

// A double for each key's score.
size_t attention_workspace(const AttentionShape& s) { return 2 * size_t{s.keys}; }

void attend_query(const AttentionShape& s, const float* q, const float* k, const float* v, const float* mask,
                  int64_t query, float* out, double* scores) {
  double largest = -INFINITY, sum = 0;
  bool seen = false;
  for (size_t j = 0; j < s.keys; j++) {
    double score = 0;
    for (size_t d = 0; d < s.size; d++) score += static_cast<double>(q[d]) * k[j * s.k.row + d];
    score *= s.scale;
    if (s.softcap > 0) score = s.softcap * std::tanh(score / s.softcap);
    double bias = mask == nullptr ? 0 : mask[j * s.mask_key];
    if (s.causal && static_cast<int64_t>(j) > query + s.past) bias = -INFINITY;
    seen |= bias != -INFINITY;
    scores[j] = score + bias;
    if (scores[j] > largest || scores[j] != scores[j]) largest = scores[j];
  }
  for (size_t j = 0; j < s.keys; j++) sum += scores[j] = std::exp(scores[j] - largest);
  for (size_t d = 0; d < s.value_size; d++) {
    double value = 0;
    for (size_t j = 0; j < s.keys; j++) value += scores[j] / sum * v[j * s.v.row + d];
    out[d] = seen ? static_cast<float>(value) : 0;
  }
}

void attend(const AttentionShape& s, const float* q, const float* k, const float* v, const float* mask, float* out,
            size_t first, size_t last, float* workspace) {
  for (size_t unit = first; unit < last; unit++) {
    const size_t query = unit % s.queries, head = unit / s.queries % s.heads, batch = unit / s.queries / s.heads;
    const size_t kv_head = head / (s.heads / s.kv_heads);
    attend_query(s, q + batch * s.q.batch + head * s.q.head + query * s.q.row,
                 k + batch * s.k.batch + kv_head * s.k.head, v + batch * s.v.batch + kv_head * s.v.head,
                 mask == nullptr ? nullptr : mask + batch * s.mask.batch + head * s.mask.head + query * s.mask.row,
                 static_cast<int64_t>(query), out + batch * s.out.batch + head * s.out.head + query * s.out.row,
                 reinterpret_cast<double*>(workspace));
  }
}

}  // namespace

constinit const AttentionKernels attention = {1, attention_workspace, attend};

}  // namespace cloister::scalar
