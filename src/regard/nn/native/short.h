// Attention of short texts in training: a head's queries, keys and scores lie in the processor's own cache, and nothing
// else is written or read than what comes in and goes out.
//
// Shapes: query [B, H, Tq, d_key], key [B, Hkv, Tk, d_key], value [B, Hkv, Tk, d_value] of float32 or bfloat16, each
// row in one piece; allowed bool [B or 1, 1, Tq or 1, Tk or 1]; levels float32 [B, H, Tq, 2], the highest score and
// 1 / Σ e^(score - highest), by which the backward pass makes the weights again. Inside all is float32.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "attend.h"
#include "normed.h"
#include "numbers.h"

#define UNROLLED_16 _Pragma("GCC unroll 16")

namespace regard {

constexpr int64_t BROAD = 4;   // vectors of columns whose sums stay in registers together
constexpr int64_t BLOCK = 24;  // queries that are worked on together

// A matrix whose number (i, k) stands at i · by_row + k · by_column; read turned by exchanging them.
struct Matrix {
  const float* first;
  int64_t by_row, by_column;
};

template <int R, int B>
void tile(Matrix a, const float* b, int64_t b_row, int64_t depth, bool onto, float* c, int64_t c_row) {
  __m512 sums[R][B];
  UNROLLED for (int r = 0; r < R; ++r)
    UNROLLED for (int j = 0; j < B; ++j)
      sums[r][j] = onto ? _mm512_loadu_ps(c + r * c_row + j * LANES) : _mm512_setzero_ps();
  for (int64_t k = 0; k < depth; ++k, b += b_row, a.first += a.by_column) {
    __m512 line[B];
    UNROLLED for (int j = 0; j < B; ++j) line[j] = _mm512_loadu_ps(b + j * LANES);
    UNROLLED for (int r = 0; r < R; ++r) {
      const __m512 one = _mm512_set1_ps(a.first[r * a.by_row]);
      UNROLLED for (int j = 0; j < B; ++j) sums[r][j] = _mm512_fmadd_ps(one, line[j], sums[r][j]);
    }
  }
  UNROLLED for (int r = 0; r < R; ++r)
    UNROLLED for (int j = 0; j < B; ++j) _mm512_storeu_ps(c + r * c_row + j * LANES, sums[r][j]);
}

using Tile = void (*)(Matrix, const float*, int64_t, int64_t, bool, float*, int64_t);

// Columns of B vectors, in tiles of nearly one height, at most as many rows as there are registers for.
template <int B, size_t... R>
void stripe(Matrix a, const float* b, int64_t b_row, int64_t rows, int64_t depth, bool onto, float* c, int64_t c_row,
            std::index_sequence<R...>) {
  constexpr Tile TILES[] = {tile<R + 1, B>...};
  constexpr int64_t HIGHEST = sizeof...(R);
  for (int64_t i = 0, left = (rows + HIGHEST - 1) / HIGHEST; i < rows; --left) {
    const int64_t high = (rows - i + left - 1) / left;
    TILES[high - 1]({a.first + i * a.by_row, a.by_row, a.by_column}, b, b_row, depth, onto, c + i * c_row, c_row);
    i += high;
  }
}

// c [rows, columns] = or += a [rows, depth] · b [depth, columns]; columns are whole vectors.
inline void product(Matrix a, const float* b, int64_t b_row, int64_t rows, int64_t columns, int64_t depth, bool onto,
                    float* c, int64_t c_row) {
  for (int64_t j = 0; j < columns; j += BROAD * LANES) switch (std::min(BROAD, (columns - j) / LANES)) {
    case 1: stripe<1>(a, b + j, b_row, rows, depth, onto, c + j, c_row, std::make_index_sequence<12>()); break;
    case 2: stripe<2>(a, b + j, b_row, rows, depth, onto, c + j, c_row, std::make_index_sequence<10>()); break;
    case 3: stripe<3>(a, b + j, b_row, rows, depth, onto, c + j, c_row, std::make_index_sequence<8>()); break;
    default: stripe<4>(a, b + j, b_row, rows, depth, onto, c + j, c_row, std::make_index_sequence<6>());
  }
}

// Turns 16 rows, of which `rows` count, and as many columns: to [16, ...] with rows `columns` apart.
template <class T>
void turn_block(const T* from, int64_t by_row, int64_t rows, __mmask16 some, float* to, int64_t columns) {
  __m512 a[LANES], b[LANES];
  UNROLLED_16 for (int i = 0; i < LANES; ++i) a[i] = load(from + i * by_row, i < rows ? some : 0);
  UNROLLED_16 for (int i = 0; i < LANES; i += 2) {  // pairs of rows
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  UNROLLED_16 for (int i = 0; i < LANES; i += 4)  // fours: a[i + c] has their columns c, 4 + c, 8 + c and 12 + c
    UNROLLED_16 for (int c = 0; c < 4; c += 2) {
      a[i + c] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(b[i + c / 2]), _mm512_castps_pd(b[i + 2 + c / 2])));
      a[i + c + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(b[i + c / 2]), _mm512_castps_pd(b[i + 2 + c / 2])));
    }
  UNROLLED_16 for (int c = 0; c < 4; ++c) {
    const __m512 even[] = {_mm512_shuffle_f32x4(a[c], a[4 + c], 0x88), _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0x88)};
    const __m512 odd[] = {_mm512_shuffle_f32x4(a[c], a[4 + c], 0xdd), _mm512_shuffle_f32x4(a[8 + c], a[12 + c], 0xdd)};
    _mm512_storeu_ps(to + c * columns, _mm512_shuffle_f32x4(even[0], even[1], 0x88));
    _mm512_storeu_ps(to + (4 + c) * columns, _mm512_shuffle_f32x4(odd[0], odd[1], 0x88));
    _mm512_storeu_ps(to + (8 + c) * columns, _mm512_shuffle_f32x4(even[0], even[1], 0xdd));
    _mm512_storeu_ps(to + (12 + c) * columns, _mm512_shuffle_f32x4(odd[0], odd[1], 0xdd));
  }
}

// [B, heads, T, d], wherever its rows stand.
template <class T>
struct Spread {
  T* first;
  int64_t by_batch, by_head, by_row, heads, rows, width, padded;

  explicit Spread(const at::Tensor& all)
      : first(all.data_ptr<T>()), by_batch(all.stride(0)), by_head(all.stride(1)), by_row(all.stride(2)),
        heads(all.size(1)), rows(all.size(2)), width(all.size(3)), padded(rounded(width, LANES)) {}

  T* of(int64_t batch, int64_t head) const { return first + batch * by_batch + head * by_head; }

  // Ask for some of a head's rows before their use: those that are to the whole as `count` after `begin` to `all`.
  template <int WRITTEN>
  void fetch(int64_t batch, int64_t head, int64_t begin, int64_t count, int64_t all) const {
    const int64_t end = (begin + count) * rows / all;
    const T* row = of(batch, head) + begin * rows / all * by_row;
    for (int64_t t = begin * rows / all; t < end; ++t, row += by_row)
      for (int64_t i = 0; i < width; i += 64 / sizeof(T)) __builtin_prefetch(row + i, WRITTEN, 2);
  }

  // `count` rows from `begin` on, times a number, in rows of whole vectors.
  void take(int64_t batch, int64_t head, int64_t begin, int64_t count, float scale, float* to) const {
    const T* from = of(batch, head) + begin * by_row;
    for (int64_t t = 0; t < count; ++t, from += by_row, to += padded)
      for (int64_t i = 0; i < width; i += LANES)
        store(to + i, 0xffff, _mm512_mul_ps(load(from + i, lanes(width - i)), _mm512_set1_ps(scale)));
  }

  // All rows turned: [padded, columns], zeros in columns up to a whole vector.
  void turn(int64_t batch, int64_t head, int64_t columns, float* to) const {
    for (int64_t t = 0; t < rows; t += LANES)
      for (int64_t i = 0; i < width; i += LANES)
        turn_block(of(batch, head) + t * by_row + i, by_row, rows - t, lanes(width - i), to + i * columns + t, columns);
  }

  // Into rows from `begin` on, each times its number.
  void put(int64_t batch, int64_t head, int64_t begin, int64_t count, const float* from, const float* scales) const {
    T* to = of(batch, head) + begin * by_row;
    for (int64_t t = 0; t < count; ++t, from += padded, to += by_row) {
      const __m512 scale = _mm512_set1_ps(scales[t]);
      for (int64_t i = 0; i < width; i += LANES)
        store(to + i, lanes(width - i), _mm512_mul_ps(_mm512_loadu_ps(from + i), scale));
    }
  }
};

// A row's numbers, an odd number of vectors: as a power of two they would all fall into the same sets of the cache.
inline int64_t spaced(int64_t count) { return (rounded(count, LANES) / LANES | 1) * LANES; }

// What is alike in both directions.
struct Short {
  Seen seen;
  Dropped dropped;
  float scale;
  int64_t batch, heads, kv_heads, queries, keys;

  // Which of 16 keys from `key` on a query may see; `may` is its row of the table.
  __mmask16 visible(const bool* may, int64_t key) const {
    const __mmask16 some = lanes(keys - key);
    if (!may) return some;
    if (seen.table.by[3] == 0) return *may ? some : 0;
    const __m128i bytes = _mm_maskz_loadu_epi8(some, may + key);
    return _mm_test_epi8_mask(bytes, bytes);
  }

  // How many keys, of whole vectors, the queries may reach.
  int64_t reach(int64_t b, int64_t begin, int64_t count) const {
    if (!seen.table.first) return keys;
    int64_t found = 0;
    for (int64_t i = begin; i < begin + (seen.table.by[2] ? count : 1); ++i) {
      const bool* may = seen.table.of(b, 0, i);
      int64_t key = (keys - 1) / LANES * LANES;
      while (key >= found && !visible(may, key)) key -= LANES;
      if (key >= found) found = std::min(keys, key + LANES);
    }
    return found;
  }

  // Which of 16 weights from `key` on dropout leaves.
  __mmask16 kept(int64_t b, int64_t head, int64_t query, int64_t key) const {
    if (!dropped.zeros) return 0xffff;
    const int64_t row = (b * heads + head) * queries + query, parts = (keys + Dropped::PART - 1) / Dropped::PART;
    return static_cast<__mmask16>(dropped.kept(row, parts, key / Dropped::PART) >> key % Dropped::PART);
  }

  // While some queries of a head are worked on, ask for the share of the next head that is to it as they are to all.
  template <int WRITTEN, class T>
  void fetch(int64_t b, int64_t head, int64_t begin, int64_t count, std::initializer_list<const Spread<T>*> inputs) const {
    const int64_t next = head + 1 < heads ? head + 1 : 0, batch_of_it = b + (next == 0);
    if (batch_of_it == batch) return;
    for (const Spread<T>* one : inputs) {
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

// Rooms one after another in a thread's own memory, each at the start of a line of the cache.
class Desk {
 public:
  explicit Desk(int64_t numbers) {
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

// A row of scores becomes e^(score - highest), zeros where nothing may be seen or dropout falls.
inline void weigh(const Short& all, int64_t b, int64_t head, int64_t query, int64_t reach, float* scores, float* level) {
  constexpr float INFINITE = std::numeric_limits<float>::infinity();
  const bool* may = all.seen.table.of(b, 0, query);
  __m512 tops = _mm512_set1_ps(-INFINITE), sums = _mm512_setzero_ps();
  __mmask16 any = 0;
  for (int64_t j = 0; j < reach; j += LANES) {
    const __mmask16 some = all.visible(may, j);
    tops = _mm512_mask_max_ps(tops, some, _mm512_loadu_ps(scores + j), tops);
    any |= some;
  }
  float top = _mm512_reduce_max_ps(tops);
  if (!(std::fabs(top) < INFINITE)) top = 0.0f;  // what is not finite then shows in the sum
  for (int64_t j = 0; j < reach; j += LANES) {
    const __mmask16 some = all.visible(may, j);
    const __m512 made = exponential(_mm512_maskz_sub_ps(some, _mm512_loadu_ps(scores + j), _mm512_set1_ps(top)));
    sums = _mm512_mask_add_ps(sums, some, sums, made);
    _mm512_storeu_ps(scores + j, _mm512_maskz_mov_ps(some & all.kept(b, head, query, j), made));
  }
  level[0] = top;
  level[1] = any ? 1.0f / _mm512_reduce_add_ps(sums) : 0.0f;
}

template <class T>
void attend_short(const Short& all, const Spread<T>& query, const Spread<T>& key, const Spread<T>& value,
                  const Spread<T>& mixed, float* levels) {
  const int64_t group = all.heads / all.kv_heads, columns = spaced(all.keys), high = std::min(BLOCK, all.queries);
  all.each(group * all.queries * all.keys * (key.width + value.width), [&](int64_t b, int64_t kv) {
    Desk desk(all.keys * value.padded + key.padded * columns + high * (query.padded + columns + value.padded));
    float* turned = desk.room(key.padded * columns);
    float *v = desk.room(all.keys * value.padded), *q = desk.room(high * query.padded);
    float *scores = desk.room(high * columns), *out = desk.room(high * value.padded);
    float parts[BLOCK];
    key.turn(b, kv, columns, turned);
    value.take(b, kv, 0, all.keys, 1.0f, v);
    for (int64_t head = kv * group; head < (kv + 1) * group; ++head)
      for (int64_t begin = 0; begin < all.queries; begin += BLOCK) {
        const int64_t count = std::min(BLOCK, all.queries - begin), reach = all.reach(b, begin, count);
        all.template fetch<0, T>(b, head, begin, count, {&query, &key, &value});
        all.template fetch<1, T>(b, head, begin, count, {&mixed});
        query.take(b, head, begin, count, all.scale, q);
        product({q, query.padded, 1}, turned, columns, count, rounded(reach, LANES), key.width, false, scores, columns);
        float* level = levels + 2 * ((b * all.heads + head) * all.queries + begin);
        for (int64_t i = 0; i < count; ++i) {
          weigh(all, b, head, begin + i, reach, scores + i * columns, level + 2 * i);
          parts[i] = all.dropped.scale * level[2 * i + 1];
        }
        product({scores, columns, 1}, v, value.padded, count, value.padded, reach, false, out, value.padded);
        mixed.put(b, head, begin, count, out, parts);
      }
  });
}

// Of a row: scores become gradients by them, gradients by the dropped weights become those weights.
inline void unweigh(const Short& all, int64_t b, int64_t head, int64_t query, int64_t reach, const float* level,
                    float* scores, float* slopes) {
  const bool* may = all.seen.table.of(b, 0, query);
  const __m512 scale = _mm512_set1_ps(all.dropped.scale), top = _mm512_set1_ps(level[0]), part = _mm512_set1_ps(level[1]);
  __m512 sums = _mm512_setzero_ps();
  for (int64_t j = 0; j < reach; j += LANES) {
    const __mmask16 some = all.visible(may, j), staying = some & all.kept(b, head, query, j);
    const __m512 apart = _mm512_maskz_sub_ps(some, _mm512_loadu_ps(scores + j), top);
    const __m512 weight = _mm512_maskz_mul_ps(some, exponential(apart), part);
    const __m512 slope = _mm512_maskz_mul_ps(staying, _mm512_loadu_ps(slopes + j), scale);
    sums = _mm512_fmadd_ps(weight, slope, sums);
    _mm512_storeu_ps(scores + j, _mm512_mul_ps(weight, slope));
    _mm512_storeu_ps(slopes + j, weight);
  }
  const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sums));
  for (int64_t j = 0; j < reach; j += LANES) {
    const __m512 weight = _mm512_loadu_ps(slopes + j);
    _mm512_storeu_ps(scores + j, _mm512_fnmadd_ps(weight, mean, _mm512_loadu_ps(scores + j)));
    if (all.dropped.zeros)
      _mm512_storeu_ps(slopes + j, _mm512_maskz_mul_ps(all.kept(b, head, query, j), weight, scale));
  }
}

template <class T>
void attend_short_backward(const Short& all, const Spread<T>& gradient, const Spread<T>& query, const Spread<T>& key,
                           const Spread<T>& value, const float* levels, const Spread<T>& by_query,
                           const Spread<T>& by_key, const Spread<T>& by_value) {
  const int64_t group = all.heads / all.kv_heads, columns = spaced(all.keys), high = std::min(BLOCK, all.queries);
  const std::vector<float> scales(high, all.scale), ones(all.keys, 1.0f);
  all.each(group * all.queries * all.keys * (3 * key.width + 2 * value.width), [&](int64_t b, int64_t kv) {
    Desk desk(all.keys * (2 * key.padded + value.padded) + (key.padded + value.padded) * columns +
              high * (2 * query.padded + 2 * columns + value.padded));
    float *k = desk.room(all.keys * key.padded), *k_turned = desk.room(key.padded * columns);
    float *v_turned = desk.room(value.padded * columns), *by_k = desk.room(all.keys * key.padded);
    float *by_v = desk.room(all.keys * value.padded), *q = desk.room(high * query.padded);
    float *up = desk.room(high * value.padded), *by_q = desk.room(high * query.padded);
    float *scores = desk.room(high * columns), *slopes = desk.room(high * columns);
    key.take(b, kv, 0, all.keys, 1.0f, k);
    key.turn(b, kv, columns, k_turned);
    value.turn(b, kv, columns, v_turned);
    std::fill(by_v, by_v + all.keys * value.padded, 0.0f);
    std::fill(by_k, by_k + all.keys * key.padded, 0.0f);
    for (int64_t head = kv * group; head < (kv + 1) * group; ++head)
      for (int64_t begin = 0; begin < all.queries; begin += BLOCK) {
        const int64_t count = std::min(BLOCK, all.queries - begin), reach = all.reach(b, begin, count);
        const int64_t some = rounded(reach, LANES);
        all.template fetch<0, T>(b, head, begin, count, {&query, &key, &value, &gradient});
        all.template fetch<1, T>(b, head, begin, count, {&by_query, &by_key, &by_value});
        query.take(b, head, begin, count, all.scale, q);
        gradient.take(b, head, begin, count, 1.0f, up);
        product({q, query.padded, 1}, k_turned, columns, count, some, key.width, false, scores, columns);
        product({up, value.padded, 1}, v_turned, columns, count, some, value.width, false, slopes, columns);
        const float* level = levels + 2 * ((b * all.heads + head) * all.queries + begin);
        for (int64_t i = 0; i < count; ++i)
          unweigh(all, b, head, begin + i, reach, level + 2 * i, scores + i * columns, slopes + i * columns);
        product({slopes, 1, columns}, up, value.padded, reach, value.padded, count, true, by_v, value.padded);
        product({scores, 1, columns}, q, query.padded, reach, key.padded, count, true, by_k, key.padded);
        product({scores, columns, 1}, k, key.padded, count, key.padded, reach, false, by_q, key.padded);
        by_query.put(b, head, begin, count, by_q, scales.data());
      }
    by_key.put(b, kv, 0, all.keys, by_k, ones.data());
    by_value.put(b, kv, 0, all.keys, by_v, ones.data());
  });
}

inline Short prepared(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                      const std::optional<at::Tensor>& allowed, double scale, double p, int64_t seed) {
  for (const at::Tensor& one : {query, key, value})
    TORCH_CHECK(one.dim() == 4 && one.is_cpu() && one.scalar_type() == query.scalar_type() && one.stride(3) == 1 &&
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
  at::Tensor levels = at::empty({all.batch, all.heads, all.queries, 2}, query.options().dtype(at::kFloat));
  FOR_TYPE(query, [&] {
    using In = Spread<scalar_t>;
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
  TORCH_CHECK(gradient.size(2) == all.queries && gradient.size(3) == value.size(3) && gradient.stride(3) == 1 &&
                  gradient.scalar_type() == query.scalar_type() && levels.is_contiguous() &&
                  levels.numel() == 2 * all.batch * all.heads * all.queries, "the gradient does not fit");
  for (const auto& [room, one] : {std::pair(by_query, query), std::pair(by_key, key), std::pair(by_value, value)})
    TORCH_CHECK(room.sizes() == one.sizes() && room.stride(3) == 1 && room.scalar_type() == one.scalar_type(),
                "a gradient's room does not fit");
  FOR_TYPE(query, [&] {
    using In = Spread<scalar_t>;
    attend_short_backward(all, In(gradient), In(query), In(key), In(value), levels.data_ptr<float>(), In(by_query),
                          In(by_key), In(by_value));
  });
}

}  // namespace regard
