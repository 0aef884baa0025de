// Attention of few queries, as in a step of decoding: the work is small, and most of the time of a general
// operator goes into its preparation.
//
// Shapes: query float32 [B, H, Tq, d_key], key [B, Hkv, Tk, d_key], value [B, Hkv, Tk, d_value], each head's
// rows in one piece; allowed bool [B or 1, 1, Tq or 1, Tk].

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <immintrin.h>

#include "maps.h"

namespace regard {

constexpr int64_t SMALL = 1 << 15;  // products of attention below which a second thread does not pay

inline float dot(const float* a, const float* b, int64_t count) {
  int64_t i = 0;
  __m512 sums = _mm512_setzero_ps();
  for (; i + LANES <= count; i += LANES) sums = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), sums);
  float sum = _mm512_reduce_add_ps(sums);
  for (; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

// e^x for x <= 0, to the last bit but one: 2^n · e^r with |r| <= ln 2 / 2 (Cephes' expf).
inline __m512 exponential(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x);  // in this order NaN stays NaN
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  constexpr float TERMS[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                             4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
  __m512 sum = _mm512_set1_ps(TERMS[0]);
  for (int i = 1; i < 6; ++i) sum = _mm512_fmadd_ps(sum, r, _mm512_set1_ps(TERMS[i]));
  sum = _mm512_add_ps(_mm512_fmadd_ps(sum, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0f));
  return _mm512_scalef_ps(sum, n);
}

// Scores become e^(score - top); gives their sum.
inline float exponentials(float* scores, int64_t count, float top) {
  int64_t i = 0;
  __m512 sums = _mm512_setzero_ps();
  for (; i + LANES <= count; i += LANES) {
    const __m512 made = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + i), _mm512_set1_ps(top)));
    _mm512_storeu_ps(scores + i, made);
    sums = _mm512_add_ps(sums, made);
  }
  float sum = _mm512_reduce_add_ps(sums);
  for (; i < count; ++i) sum += scores[i] = std::exp(scores[i] - top);
  return sum;
}

// Which keys each query may see.
struct Seen {
  const bool* table = nullptr;
  int64_t by_batch = 0, by_query = 0, by_key = 0;

  Seen(const std::optional<at::Tensor>& allowed, int64_t batch, int64_t queries, int64_t keys) {
    if (!allowed.has_value()) return;
    const auto fits = [](int64_t size, int64_t wanted) { return size == 1 || size == wanted; };
    TORCH_CHECK(allowed->dim() == 4 && allowed->size(1) == 1 && allowed->scalar_type() == at::kBool &&
                    fits(allowed->size(0), batch) && fits(allowed->size(2), queries) && fits(allowed->size(3), keys),
                "the mask does not fit");
    table = allowed->data_ptr<bool>();
    by_batch = allowed->size(0) > 1 ? allowed->stride(0) : 0;
    by_query = allowed->size(2) > 1 ? allowed->stride(2) : 0;
    by_key = allowed->size(3) > 1 ? allowed->stride(3) : 0;
  }

  // Their places among the first `keys`.
  void list(int64_t batch, int64_t query, int64_t keys, std::vector<int64_t>& places) const {
    places.clear();
    const bool* may = table ? table + batch * by_batch + query * by_query : nullptr;
    for (int64_t j = 0; j < keys; ++j)
      if (!may || may[j * by_key]) places.push_back(j);
  }
};

// Rows of one head of queries, keys or values [B, H, T, d].
struct Head {
  const float* first;
  int64_t stride, width;

  Head(const at::Tensor& all, int64_t batch, int64_t head)
      : first(all.data_ptr<float>() + batch * all.stride(0) + head * all.stride(1)), stride(all.stride(2)),
        width(all.size(3)) {}
};

// softmax(scale · q keyᵀ) value of one query, over the keys at `places`; zeros where there are none.
inline void attend(const float* query, const Head& key, const Head& value, const std::vector<int64_t>& places,
                   float scale, std::vector<float>& scores, float* mixed) {
  const int64_t count = static_cast<int64_t>(places.size());
  std::fill(mixed, mixed + value.width, 0.0f);
  if (count == 0) return;
  scores.resize(count);
  float top = -std::numeric_limits<float>::infinity();
  for (int64_t j = 0; j < count; ++j) {
    scores[j] = scale * dot(query, key.first + places[j] * key.stride, key.width);
    top = std::max(top, scores[j]);
  }
  const float part = 1.0f / exponentials(scores.data(), count, top);
  for (int64_t j = 0; j < count; ++j) {
    const float weight = scores[j] * part;
    const float* row = value.first + places[j] * value.stride;
    for (int64_t i = 0; i < value.width; ++i) mixed[i] += weight * row[i];
  }
}

}  // namespace regard
