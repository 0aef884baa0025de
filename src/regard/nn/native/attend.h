// Attention of few queries, as in a step of decoding: the work is small, and most of the time of a general
// operator goes into its preparation.
//
// Shapes: query float32 [B, H, Tq, d_key], key [B, Hkv, Tk, d_key], value [B, Hkv, Tk, d_value] of float32 or bfloat16,
// each head's rows in one piece; allowed bool [B or 1, 1, Tq or 1, Tk]; bias float32 [B or 1, H or 1, Tq or 1, Tk].

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <immintrin.h>

#include "maps.h"
#include "numbers.h"

namespace regard {

using Places = std::vector<int64_t>;
constexpr int64_t SMALL = 1 << 15;  // products of attention below which a second thread does not pay

// Scores become e^(score - top); gives their sum.
inline float exponentials(float* scores, int64_t count, float top) {
  __m512 sums = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += LANES) {
    const __mmask16 some = lanes(count - i);
    const __m512 made = exponential(_mm512_sub_ps(_mm512_maskz_loadu_ps(some, scores + i), _mm512_set1_ps(top)));
    _mm512_mask_storeu_ps(scores + i, some, made);
    sums = _mm512_mask_add_ps(sums, some, sums, made);
  }
  return _mm512_reduce_add_ps(sums);
}

// A table [B, H, Tq, Tk] over pairs of a query and a key, if there is one; one entry of an axis may stand for all.
template <class T>
struct Pairs {
  const T* first = nullptr;
  int64_t by[4] = {0, 0, 0, 0};

  Pairs() = default;
  Pairs(const std::optional<at::Tensor>& table, std::array<int64_t, 4> sizes, const char* name) {
    if (!table.has_value()) return;
    bool fits = table->dim() == 4 && table->is_cpu() && table->scalar_type() == c10::CppTypeToScalarType<T>::value;
    for (int64_t i = 0; fits && i < 4; ++i) {
      fits = table->size(i) == 1 || table->size(i) == sizes[i];
      by[i] = table->size(i) > 1 ? table->stride(i) : 0;
    }
    TORCH_CHECK(fits, "the ", name, " does not fit");
    first = table->data_ptr<T>();
  }

  // Of a query's keys, `by[3]` apart.
  const T* of(int64_t batch, int64_t head, int64_t query) const {
    return first ? first + batch * by[0] + head * by[1] + query * by[2] : nullptr;
  }
};

// Which keys each query may see.
struct Seen {
  Pairs<bool> table;

  Seen(const std::optional<at::Tensor>& allowed, int64_t batch, int64_t queries, int64_t keys)
      : table(allowed, {batch, 1, queries, keys}, "mask") {}

  // Their places among the first `keys`.
  void list(int64_t batch, int64_t query, int64_t keys, Places& places) const {
    places.clear();
    const bool* may = table.of(batch, 0, query);
    for (int64_t j = 0; j < keys; ++j)
      if (!may || may[j * table.by[3]]) places.push_back(j);
  }
};

using Bias = Pairs<float>;

// Keys or values [B, H, T, d]; T may be cut to the rows that count.
template <class T>
struct Heads {
  T* first;
  int64_t by_batch, by_head, by_row, width, rows;

  explicit Heads(const at::Tensor& all, int64_t rows = -1)
      : first(all.data_ptr<T>()), by_batch(all.stride(0)), by_head(all.stride(1)), by_row(all.stride(2)),
        width(all.size(3)), rows(rows < 0 ? all.size(2) : rows) {}

  T* of(int64_t batch, int64_t head) const { return first + batch * by_batch + head * by_head; }

  // Ask for a head's rows before their use.
  void fetch(int64_t batch, int64_t head) const {
    const T* row = of(batch, head);
    for (int64_t j = 0; j < rows; ++j, row += by_row)
      for (int64_t i = 0; i < width; i += 64 / sizeof(T)) _mm_prefetch(reinterpret_cast<const char*>(row + i), _MM_HINT_T1);
  }
};

constexpr int64_t WIDE = 4;  // vectors of a row that are held at once

// The sum of each of four vectors.
inline __m128 sums_of(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512d two = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b)));
  const __m512d more = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d)));
  const __m512 four = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(two, more)), _mm512_castpd_ps(_mm512_unpackhi_pd(two, more)));
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(four), _mm512_extractf32x8_ps(four, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

// Adds the products of a query and the keys at `places`, over B vectors of columns, the last under `some`.
template <int B, class T>
void score(const float* query, const T* keys, int64_t by_row, __mmask16 some, const Places& places, float* scores) {
  __m512 held[B];
  UNROLLED for (int b = 0; b < B; ++b) held[b] = load(query + b * LANES, b + 1 < B ? 0xffff : some);
  const auto product = [&](int64_t place) {
    const T* key = keys + place * by_row;
    __m512 sum = _mm512_setzero_ps();
    UNROLLED for (int b = 0; b < B; ++b)
      sum = _mm512_fmadd_ps(held[b], load(key + b * LANES, b + 1 < B ? 0xffff : some), sum);
    return sum;
  };
  const size_t count = places.size();
  size_t j = 0;
  for (; j + 4 <= count; j += 4) {
    const int64_t* at = places.data() + j;
    const __m128 four = sums_of(product(at[0]), product(at[1]), product(at[2]), product(at[3]));
    _mm_storeu_ps(scores + j, _mm_add_ps(_mm_loadu_ps(scores + j), four));
  }
  for (; j < count; ++j) scores[j] += _mm512_reduce_add_ps(product(places[j]));
}

// Mixes the values at `places` by their weights, over B vectors of columns, the last under `some`.
template <int B, class T>
void mix(const float* weights, const T* values, int64_t by_row, __mmask16 some, const Places& places, float* mixed) {
  __m512 sums[B];
  UNROLLED for (int b = 0; b < B; ++b) sums[b] = _mm512_setzero_ps();
  for (size_t j = 0; j < places.size(); ++j) {
    const __m512 weight = _mm512_set1_ps(weights[j]);
    const T* value = values + places[j] * by_row;
    UNROLLED for (int b = 0; b < B; ++b)
      sums[b] = _mm512_fmadd_ps(weight, load(value + b * LANES, b + 1 < B ? 0xffff : some), sums[b]);
  }
  UNROLLED for (int b = 0; b < B; ++b) store(mixed + b * LANES, b + 1 < B ? 0xffff : some, sums[b]);
}

template <class T>
using Pass = void (*)(const float*, const T*, int64_t, __mmask16, const Places&, float*);
template <class T>
constexpr Pass<T> SCORE[WIDE] = {score<1, T>, score<2, T>, score<3, T>, score<4, T>};
template <class T>
constexpr Pass<T> MIX[WIDE] = {mix<1, T>, mix<2, T>, mix<3, T>, mix<4, T>};

// softmax(scale · q keyᵀ + bias) value of one query, over the keys at `places`; zeros where there are none. The bias of
// the next key, if there is a bias, stands `by_key` behind.
template <class T>
void attend(const float* query, const T* keys, const Heads<T>& key, const T* values, const Heads<T>& value,
            const Places& places, float scale, const float* bias, int64_t by_key, std::vector<float>& scores, float* mixed) {
  const int64_t count = static_cast<int64_t>(places.size());
  scores.assign(count, 0.0f);
  for (int64_t i = 0; i < key.width; i += WIDE * LANES) {
    const int64_t blocks = std::min(WIDE, (key.width - i + LANES - 1) / LANES);
    SCORE<T>[blocks - 1](query + i, keys + i, key.by_row, lanes(key.width - i - (blocks - 1) * LANES), places, scores.data());
  }
  for (float& one : scores) one *= scale;
  for (int64_t j = 0; bias && j < count; ++j) scores[j] += bias[places[j] * by_key];
  float top = -std::numeric_limits<float>::infinity();
  for (const float one : scores) top = std::max(top, one);
  const float part = count ? 1.0f / exponentials(scores.data(), count, top) : 0.0f;
  for (float& one : scores) one *= part;
  for (int64_t i = 0; i < value.width; i += WIDE * LANES) {
    const int64_t blocks = std::min(WIDE, (value.width - i + LANES - 1) / LANES);
    MIX<T>[blocks - 1](scores.data(), values + i, value.by_row, lanes(value.width - i - (blocks - 1) * LANES), places, mixed + i);
  }
}

// Attention of all queries of some sentences: query head h of row (b, t) stands at joint + (b · T + t) · width + h · d_key,
// its mixture goes to mixed, rows of H · d_value.
struct Queries {
  const float* joint;
  int64_t width, heads, length;
};

template <class T>
void attend_all(const Queries& queries, const Heads<T>& key, const Heads<T>& value, int64_t kv_heads, const Seen& seen,
                const Bias& bias, float scale, int64_t begin, int64_t end, float* mixed) {
  const int64_t heads = queries.heads, length = queries.length, group = heads / kv_heads;
  const int64_t work = std::max<int64_t>(1, key.rows * (key.width + value.width));
  at::parallel_for(0, (end - begin) * length * heads, std::max<int64_t>(1, SMALL / work), [&](int64_t one, int64_t behind) {
    Places places;
    std::vector<float> scores;
    int64_t listed = -1;
    for (int64_t pair = one; pair < behind; ++pair) {
      const int64_t row = pair / heads, h = pair % heads, b = begin + row / length, t = row % length;
      if (row != listed) seen.list(b, t, key.rows, places);
      listed = row;
      const int64_t next = pair + group;  // the queries of a group and of a sentence share their keys
      if (t == 0 && h % group == 0 && next < behind) {
        const int64_t other = next / heads;
        key.fetch(begin + other / length, next % heads / group);
        value.fetch(begin + other / length, next % heads / group);
      }
      attend(queries.joint + row * queries.width + h * key.width, key.of(b, h / group), key, value.of(b, h / group), value,
             places, scale, bias.of(b, h, t), bias.by[3], scores, mixed + pair * value.width);
    }
  });
}

}  // namespace regard
