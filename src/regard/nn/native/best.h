// The likeliest tokens of each row of logits, with their log-probabilities, in two passes over a row.
//
// Shapes: logits float32 [R, V]; barred int64 [n]; values and tokens [R, k].

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

#include "attend.h"

namespace regard {

// The k best so far, best first; of equal ones that with the lowest token.
struct Best {
  float* values;
  int64_t* tokens;
  int64_t k;

  float least() const { return values[k - 1]; }

  void take(float value, int64_t token) {
    int64_t place = k - 1;
    for (; place > 0 && values[place - 1] < value; --place) {
      values[place] = values[place - 1];
      tokens[place] = tokens[place - 1];
    }
    values[place] = value;
    tokens[place] = token;
  }
};

// The largest of a row, and its k best but for those barred (ascending).
inline float scan(const float* row, int64_t count, const std::vector<int64_t>& barred, Best best) {
  float top = -std::numeric_limits<float>::infinity();
  const auto one = [&](int64_t i) {
    if (row[i] > best.least() && !std::binary_search(barred.begin(), barred.end(), i)) best.take(row[i], i);
  };
  int64_t i = 0;
  __m512 tops = _mm512_set1_ps(top);
  for (; i + LANES <= count; i += LANES) {
    const __m512 some = _mm512_loadu_ps(row + i);
    tops = _mm512_max_ps(tops, some);
    if (_mm512_cmp_ps_mask(some, _mm512_set1_ps(best.least()), _CMP_GT_OQ))
      for (int64_t j = i; j < i + LANES; ++j) one(j);
  }
  top = _mm512_reduce_max_ps(tops);
  for (; i < count; ++i) {
    top = std::max(top, row[i]);
    one(i);
  }
  return top;
}

// Log-probabilities of the k likeliest that are not barred; the logits are spent.
inline std::tuple<at::Tensor, at::Tensor> best_logprobs(at::Tensor logits, int64_t k, const at::Tensor& barred) {
  TORCH_CHECK(logits.dim() == 2 && logits.is_cpu() && logits.scalar_type() == at::kFloat && logits.is_contiguous() &&
                  k >= 1 && k <= logits.size(1), "no such logits");
  const int64_t rows = logits.size(0), vocabulary = logits.size(1);
  at::Tensor values = at::empty({rows, k}, logits.options());
  at::Tensor tokens = at::empty({rows, k}, logits.options().dtype(at::kLong));
  std::vector<int64_t> never(barred.data_ptr<int64_t>(), barred.data_ptr<int64_t>() + barred.size(0));
  std::sort(never.begin(), never.end());
  float* all = logits.data_ptr<float>();
  at::parallel_for(0, rows, std::max<int64_t>(1, SMALL / vocabulary), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* row = all + r * vocabulary;
      const Best best{values.data_ptr<float>() + r * k, tokens.data_ptr<int64_t>() + r * k, k};
      std::fill(best.values, best.values + k, -std::numeric_limits<float>::infinity());
      std::fill(best.tokens, best.tokens + k, 0);
      const float top = scan(row, vocabulary, never, best);
      const float normalizer = top + std::log(exponentials(row, vocabulary, top));  // NaN where one is
      for (int64_t i = 0; i < k; ++i) best.values[i] -= normalizer;
    }
  });
  return {values, tokens};
}

}  // namespace regard
