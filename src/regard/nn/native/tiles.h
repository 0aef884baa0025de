// Products of small matrices that lie in the processor's own cache, and how they come there.

#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "maps.h"
#include "numbers.h"

namespace regard {

constexpr int64_t BROAD = 4;  // vectors of columns whose sums stay in registers together

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
  UNROLLED for (int i = 0; i < LANES; ++i) a[i] = load(from + i * by_row, i < rows ? some : 0);
  UNROLLED for (int i = 0; i < LANES; i += 2) {  // pairs of rows
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
  UNROLLED for (int i = 0; i < LANES; i += 4)  // fours: a[i + c] has their columns c, 4 + c, 8 + c and 12 + c
    UNROLLED for (int c = 0; c < 4; c += 2) {
      a[i + c] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(b[i + c / 2]), _mm512_castps_pd(b[i + 2 + c / 2])));
      a[i + c + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(b[i + c / 2]), _mm512_castps_pd(b[i + 2 + c / 2])));
    }
  UNROLLED for (int c = 0; c < 4; ++c) {
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
struct HeadRows {
  T* first;
  int64_t by_batch, by_head, by_row, heads, rows, width, padded;

  explicit HeadRows(const at::Tensor& all)
      : first(all.data_ptr<T>()), by_batch(all.stride(0)), by_head(all.stride(1)), by_row(all.stride(2)),
        heads(all.size(1)), rows(all.size(2)), width(all.size(3)), padded(rounded(width, LANES)) {}

  // Of one text, in rows of which each head has some columns.
  HeadRows(T* first_, int64_t by_row_, int64_t heads_, int64_t rows_, int64_t width_)
      : first(first_), by_batch(0), by_head(width_), by_row(by_row_), heads(heads_), rows(rows_), width(width_),
        padded(rounded(width_, LANES)) {}

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

  // The same rows turned: [padded, columns], zeros in columns that are more than the rows.
  void turn(int64_t batch, int64_t head, int64_t begin, int64_t count, int64_t columns, float* to) const {
    const T* from = of(batch, head) + begin * by_row;
    for (int64_t t = 0; t < columns; t += LANES)
      for (int64_t i = 0; i < width; i += LANES)
        turn_block(from + t * by_row + i, by_row, count - t, lanes(width - i), to + i * columns + t, columns);
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

}  // namespace regard
