// Attention of short texts, in training and where one call does all layers: a head's queries, keys and scores lie in the
// processor's own cache, and nothing else is written or read than what comes in and goes out.
//
// Shapes: query [B, H, Tq, d_key], key [B, Hkv, Tk, d_key], value [B, Hkv, Tk, d_value] of float32 or bfloat16, each
// row in one piece; allowed bool [B or 1, 1, Tq or 1, Tk or 1]; levels float32 [B, H, 2, Tq], the highest score and
// 1 / Σ e^(score - highest), by which the backward pass makes the weights again. Inside all is float32, and scores stand
// turned, [Tk, Tq]: a vector has one key's scores under 16 queries, and none of its numbers are ever added to each other.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cmath>
#include <limits>
#include <vector>

#include "attend.h"
#include "normed.h"
#include "numbers.h"
#include "tiles.h"

namespace regard {

constexpr int64_t BLOCK = 32;  // queries that are worked on together

// What is alike in both directions.
struct Short {
  Seen seen;
  Dropped dropped;
  float scale;
  int64_t batch, heads, kv_heads, queries, keys;

  // Of 16 keys from `key` on those that a query may see; `may` is its row of the table.
  __mmask16 visible(const bool* may, int64_t key) const {
    if (seen.table.by[3] == 0) return *may ? lanes(keys - key) : 0;
    const __m128i bytes = _mm_maskz_loadu_epi8(lanes(keys - key), may + key);
    return _mm_test_epi8_mask(bytes, bytes);
  }

  // Lists for each key which of 16 queries from `query` on may see it; gives how many keys some may reach.
  int64_t list(int64_t b, int64_t query, __mmask16* visible_to) const {
    const __mmask16 there = lanes(queries - query);
    int64_t reach = 0;
    for (int64_t key = 0; key < keys; key += LANES) {
      alignas(64) int rows[LANES] = {};
      for (int64_t i = 0; i < LANES && query + i < queries; ++i) rows[i] = visible(seen.table.of(b, 0, query + i), key);
      const __m512i all = _mm512_load_si512(rows);
      for (int64_t j = 0; j < LANES && key + j < keys; ++j) {
        visible_to[key + j] = _mm512_mask_test_epi32_mask(there, all, _mm512_set1_epi32(1 << j));
        if (visible_to[key + j]) reach = key + j + 1;
      }
    }
    return reach;
  }

  // Of 16 queries from `query` on those under which dropout leaves a key's weight.
  __mmask16 kept(int64_t b, int64_t head, int64_t key, int64_t query) const {
    const int64_t row = (b * heads + head) * keys + key, parts = (queries + Dropped::PART - 1) / Dropped::PART;
    return static_cast<__mmask16>(dropped.kept(row, parts, query / Dropped::PART) >> query % Dropped::PART);
  }

  // While some queries of a head are worked on, ask for the share of the next head that is to it as they are to all.
  template <int WRITTEN, class T>
  void fetch(int64_t b, int64_t head, int64_t begin, int64_t count, std::initializer_list<const HeadRows<T>*> inputs) const {
    const int64_t next = head + 1 < heads ? head + 1 : 0, batch_of_it = b + (next == 0);
    if (batch_of_it == batch) return;
    for (const HeadRows<T>* one : inputs) {
      const int64_t group = heads / one->heads;
      if (next % group == 0) one->template fetch<WRITTEN>(batch_of_it, next / group, begin, count, queries);
    }
  }

  // Calls `task` with each sentence and each of its heads of keys, by some threads.
  template <class F>
  void each(int64_t work, const F& task) const {
    at::parallel_for(0, batch * kv_heads, std::max<int64_t>(1, SMALL / std::max<int64_t>(1, work)),
                     [&](int64_t one, int64_t behind) {
                       for (; one < behind; ++one) task(one / kv_heads, one % kv_heads);
                     });
  }
};

// Some queries of a head, their scores, and who sees what.
struct Block {
  const Short& all;
  int64_t b, head, begin, count, columns, reach;
  __mmask16* visible_to;  // [columns / 16, keys], nothing where all is seen

  Block(const Short& all_, int64_t b_, int64_t head_, int64_t begin_, __mmask16* room)
      : all(all_), b(b_), head(head_), begin(begin_), count(std::min(BLOCK, all_.queries - begin_)),
        columns(rounded(count, LANES)), reach(all_.keys), visible_to(all_.seen.table.first ? room : nullptr) {
    if (!visible_to) return;
    reach = 0;
    for (int64_t i = 0; i < count; i += LANES)
      reach = std::max(reach, all.list(b, begin + i, visible_to + i / LANES * all.keys));
  }

  __mmask16 visible(int64_t i, int64_t key) const {
    return visible_to ? visible_to[i / LANES * all.keys + key] : lanes(count - i);
  }

  __mmask16 kept(int64_t i, int64_t key) const {
    return all.dropped.zeros ? all.kept(b, head, key, begin + i) : 0xffff;
  }

  // Where the levels of 16 queries from `i` on stand: the highest scores, and `queries` behind them the parts.
  float* level(float* levels, int64_t i) const { return levels + (b * all.heads + head) * 2 * all.queries + begin + i; }

  // Scores [reach, columns] become e^(score - highest), zeros where nothing may be seen or dropout falls. What the
  // mixtures have to be multiplied by goes to `parts`.
  void weigh(float* scores, float* levels, float* parts) const {
    constexpr float INFINITE = std::numeric_limits<float>::infinity();
    for (int64_t i = 0; i < columns; i += LANES) {
      __m512 tops = _mm512_set1_ps(-INFINITE), sums = _mm512_setzero_ps();
      __mmask16 any = 0;
      for (int64_t j = 0; j < reach; ++j) {
        const __mmask16 some = visible(i, j);
        tops = _mm512_mask_max_ps(tops, some, _mm512_loadu_ps(scores + j * columns + i), tops);
        any |= some;
      }
      // a highest score that is not finite becomes 0, and shows in the sum
      const __mmask16 odd = ~_mm512_cmp_ps_mask(_mm512_abs_ps(tops), _mm512_set1_ps(INFINITE), _CMP_LT_OQ);
      tops = _mm512_mask_mov_ps(tops, odd, _mm512_setzero_ps());
      for (int64_t j = 0; j < reach; ++j) {
        float* at = scores + j * columns + i;
        const __mmask16 some = visible(i, j);
        const __m512 made = exponential(_mm512_maskz_sub_ps(some, _mm512_loadu_ps(at), tops));
        sums = _mm512_mask_add_ps(sums, some, sums, made);
        _mm512_storeu_ps(at, _mm512_maskz_mov_ps(some & kept(i, j), made));
      }
      const __m512 part = _mm512_maskz_div_ps(any, _mm512_set1_ps(1.0f), sums);
      _mm512_mask_storeu_ps(level(levels, i), lanes(count - i), tops);
      _mm512_mask_storeu_ps(level(levels, i) + all.queries, lanes(count - i), part);
      _mm512_storeu_ps(parts + i, _mm512_mul_ps(part, _mm512_set1_ps(all.dropped.scale)));
    }
  }

  // Scores become gradients by them, and gradients by the dropped weights, `slopes`, become those weights.
  void unweigh(float* scores, float* slopes, float* levels) const {
    const __m512 scale = _mm512_set1_ps(all.dropped.scale);
    for (int64_t i = 0; i < columns; i += LANES) {
      const __m512 top = _mm512_maskz_loadu_ps(lanes(count - i), level(levels, i));
      const __m512 part = _mm512_maskz_loadu_ps(lanes(count - i), level(levels, i) + all.queries);
      __m512 means = _mm512_setzero_ps();
      for (int64_t j = 0; j < reach; ++j) {
        float *score = scores + j * columns + i, *slope = slopes + j * columns + i;
        const __mmask16 some = visible(i, j);
        const __m512 apart = _mm512_maskz_sub_ps(some, _mm512_loadu_ps(score), top);
        const __m512 weight = _mm512_maskz_mul_ps(some, exponential(apart), part);
        const __m512 by_weight = _mm512_maskz_mul_ps(some & kept(i, j), _mm512_loadu_ps(slope), scale);
        means = _mm512_fmadd_ps(weight, by_weight, means);
        _mm512_storeu_ps(score, _mm512_mul_ps(weight, by_weight));
        _mm512_storeu_ps(slope, weight);
      }
      for (int64_t j = 0; j < reach; ++j) {
        float *score = scores + j * columns + i, *slope = slopes + j * columns + i;
        const __m512 weight = _mm512_loadu_ps(slope);
        _mm512_storeu_ps(score, _mm512_fnmadd_ps(weight, means, _mm512_loadu_ps(score)));
        if (all.dropped.zeros) _mm512_storeu_ps(slope, _mm512_maskz_mul_ps(kept(i, j), weight, scale));
      }
    }
  }
};

// Rooms one after another in a thread's own memory, each at the start of a line of the cache.
class Scratch {
 public:
  explicit Scratch(int64_t numbers) {
    thread_local std::vector<float> kept;
    if (static_cast<int64_t>(kept.size()) < numbers + LANES) kept.resize(numbers + LANES);
    next_ = kept.data() + (64 - reinterpret_cast<uintptr_t>(kept.data()) % 64) % 64 / sizeof(float);
  }

  float* room(int64_t numbers) {
    float* made = next_;
    next_ += rounded(numbers, LANES);
    return made;
  }

 private:
  float* next_;
};

template <class T>
void attend_short(const Short& all, const HeadRows<T>& query, const HeadRows<T>& key, const HeadRows<T>& value,
                  const HeadRows<T>& mixed, float* levels) {
  const int64_t group = all.heads / all.kv_heads, keys = all.keys;
  all.each(group * all.queries * keys * (key.width + value.width), [&](int64_t b, int64_t kv) {
    Scratch scratch(keys * (key.padded + value.padded + 2 * BLOCK) + BLOCK * (query.padded + value.padded + 1));
    float *k = scratch.room(keys * key.padded), *v = scratch.room(keys * value.padded);
    float *turned = scratch.room(query.padded * BLOCK), *scores = scratch.room(keys * BLOCK);
    float *out = scratch.room(BLOCK * value.padded), *parts = scratch.room(BLOCK);
    auto visible_to = reinterpret_cast<__mmask16*>(scratch.room(keys * BLOCK / LANES));
    key.take(b, kv, 0, keys, all.scale, k);
    value.take(b, kv, 0, keys, 1.0f, v);
    for (int64_t head = kv * group; head < (kv + 1) * group; ++head)
      for (int64_t begin = 0; begin < all.queries; begin += BLOCK) {
        const Block block(all, b, head, begin, visible_to);
        const int64_t count = block.count, columns = block.columns, reach = block.reach;
        all.template fetch<0, T>(b, head, begin, count, {&query, &key, &value});
        all.template fetch<1, T>(b, head, begin, count, {&mixed});
        query.turn(b, head, begin, count, columns, turned);
        product({k, key.padded, 1}, turned, columns, reach, columns, key.width, false, scores, columns);
        block.weigh(scores, levels, parts);
        product({scores, 1, columns}, v, value.padded, count, value.padded, reach, false, out, value.padded);
        mixed.put(b, head, begin, count, out, parts);
      }
  });
}

template <class T>
void attend_short_backward(const Short& all, const HeadRows<T>& gradient, const HeadRows<T>& query, const HeadRows<T>& key,
                           const HeadRows<T>& value, float* levels, const HeadRows<T>& by_query, const HeadRows<T>& by_key,
                           const HeadRows<T>& by_value) {
  const int64_t group = all.heads / all.kv_heads, keys = all.keys;
  const std::vector<float> scales(keys, all.scale), ones(std::max(keys, BLOCK), 1.0f);
  all.each(group * all.queries * keys * (3 * key.width + 2 * value.width), [&](int64_t b, int64_t kv) {
    Scratch scratch(2 * keys * (key.padded + value.padded) + 3 * keys * BLOCK + BLOCK * (3 * query.padded + 2 * value.padded));
    float *k = scratch.room(keys * key.padded), *v = scratch.room(keys * value.padded);
    float *by_k = scratch.room(keys * key.padded), *by_v = scratch.room(keys * value.padded);
    float *q = scratch.room(BLOCK * query.padded), *q_turned = scratch.room(query.padded * BLOCK);
    float *up = scratch.room(BLOCK * value.padded), *up_turned = scratch.room(value.padded * BLOCK);
    float *scores = scratch.room(keys * BLOCK), *slopes = scratch.room(keys * BLOCK), *by_q = scratch.room(BLOCK * query.padded);
    auto visible_to = reinterpret_cast<__mmask16*>(scratch.room(keys * BLOCK / LANES));
    key.take(b, kv, 0, keys, all.scale, k);
    value.take(b, kv, 0, keys, 1.0f, v);
    std::fill(by_k, by_k + keys * key.padded, 0.0f);
    std::fill(by_v, by_v + keys * value.padded, 0.0f);
    for (int64_t head = kv * group; head < (kv + 1) * group; ++head)
      for (int64_t begin = 0; begin < all.queries; begin += BLOCK) {
        const Block block(all, b, head, begin, visible_to);
        const int64_t count = block.count, columns = block.columns, reach = block.reach;
        all.template fetch<0, T>(b, head, begin, count, {&query, &key, &value, &gradient});
        all.template fetch<1, T>(b, head, begin, count, {&by_query, &by_key, &by_value});
        query.take(b, head, begin, count, 1.0f, q);
        query.turn(b, head, begin, count, columns, q_turned);
        gradient.take(b, head, begin, count, 1.0f, up);
        gradient.turn(b, head, begin, count, columns, up_turned);
        product({k, key.padded, 1}, q_turned, columns, reach, columns, key.width, false, scores, columns);
        product({v, value.padded, 1}, up_turned, columns, reach, columns, value.width, false, slopes, columns);
        block.unweigh(scores, slopes, levels);
        product({slopes, columns, 1}, up, value.padded, reach, value.padded, count, true, by_v, value.padded);
        product({scores, columns, 1}, q, query.padded, reach, key.padded, count, true, by_k, key.padded);
        product({scores, 1, columns}, k, key.padded, count, key.padded, reach, false, by_q, key.padded);
        by_query.put(b, head, begin, count, by_q, ones.data());
      }
    by_key.put(b, kv, 0, keys, by_k, scales.data());
    by_value.put(b, kv, 0, keys, by_v, ones.data());
  });
}

// Whether each row of [B, heads, T, d] is in one piece.
inline bool rows_in_one_piece(const at::Tensor& one) { return one.stride(3) == 1 || one.size(3) == 1 || one.numel() == 0; }

inline Short prepared(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                      const std::optional<at::Tensor>& allowed, double scale, double p, int64_t seed) {
  for (const at::Tensor& one : {query, key, value})
    TORCH_CHECK(one.dim() == 4 && one.is_cpu() && one.scalar_type() == query.scalar_type() && rows_in_one_piece(one) &&
                    one.size(0) == query.size(0), "queries, keys and values do not fit each other");
  TORCH_CHECK(key.size(1) > 0 && query.size(1) % key.size(1) == 0 && value.size(1) == key.size(1) &&
                  value.size(2) == key.size(2) && query.size(3) == key.size(3),
              "queries, keys and values do not fit each other");
  const Seen seen(allowed, query.size(0), query.size(2), key.size(2));
  TORCH_CHECK(seen.table.by[3] <= 1, "the mask's rows are not in one piece");
  return {seen, Dropped(p, seed), static_cast<float>(scale), query.size(0), query.size(1), key.size(1), query.size(2), key.size(2)};
}

// The mixture, [B, H, Tq, d_value] of a tensor [B, Tq, H, d_value], and the levels.
inline std::tuple<at::Tensor, at::Tensor> short_attention(const at::Tensor& query, const at::Tensor& key,
                                                          const at::Tensor& value, const std::optional<at::Tensor>& allowed,
                                                          double scale, double p, int64_t seed) {
  const Short all = prepared(query, key, value, allowed, scale, p, seed);
  const at::Tensor mixed = at::empty({all.batch, all.queries, all.heads, value.size(3)}, query.options()).transpose(1, 2);
  at::Tensor levels = at::empty({all.batch, all.heads, 2, all.queries}, query.options().dtype(at::kFloat));
  FOR_TYPE(query, [&] {
    using In = HeadRows<scalar_t>;
    attend_short(all, In(query), In(key), In(value), In(mixed), levels.data_ptr<float>());
  });
  return {mixed, levels};
}

// Fills the rooms of the gradients.
inline void short_attention_backward(const at::Tensor& gradient, const at::Tensor& query, const at::Tensor& key,
                                     const at::Tensor& value, const std::optional<at::Tensor>& allowed,
                                     const at::Tensor& levels, double scale, double p, int64_t seed, at::Tensor& by_query,
                                     at::Tensor& by_key, at::Tensor& by_value) {
  const Short all = prepared(query, key, value, allowed, scale, p, seed);
  TORCH_CHECK(gradient.size(2) == all.queries && gradient.size(3) == value.size(3) && rows_in_one_piece(gradient) &&
                  gradient.scalar_type() == query.scalar_type() && levels.is_contiguous() &&
                  levels.numel() == 2 * all.batch * all.heads * all.queries, "the gradient does not fit");
  for (const auto& [room, one] : {std::pair(by_query, query), std::pair(by_key, key), std::pair(by_value, value)})
    TORCH_CHECK(room.sizes() == one.sizes() && rows_in_one_piece(room) && room.scalar_type() == one.scalar_type(),
                "a gradient's room does not fit");
  FOR_TYPE(query, [&] {
    using In = HeadRows<scalar_t>;
    attend_short_backward(all, In(gradient), In(query), In(key), In(value), levels.data_ptr<float>(), In(by_query),
                          In(by_key), In(by_value));
  });
}

}  // namespace regard
