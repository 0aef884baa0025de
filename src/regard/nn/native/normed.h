// Dropout, residual and norm of training, each row in one pass: single operators read and write it once each.
//
// Shapes: states, residual, gradients [N, d] of float32 or bfloat16; weight and bias float32 [d]; statistics
// float32 [N, 2], mean and 1 / deviation. All sums are float32.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "numbers.h"

namespace regard {

constexpr int64_t TOGETHER = 128;         // rows whose gradients by weights are one sum, whatever the threads

// out = dropout(states), onto the residual where there is one. `states` and `out` may be one.
template <class T>
void drop_row(const T* states, const T* residual, const Dropped& dropped, int64_t row, int64_t width, T* out) {
  const int64_t parts = (width + Dropped::PART - 1) / Dropped::PART;
  const __m512 scale = _mm512_set1_ps(dropped.scale);
  for (int64_t i = 0, part = 0; i < width; ++part) {
    uint32_t kept = dropped.zeros ? dropped.kept(row, parts, part) : ~0u;
    for (int half = 0; half < 2 && i < width; ++half, i += LANES, kept >>= LANES) {
      const __mmask16 some = lanes(width - i);
      const __m512 one = load(states + i, some);
      const __m512 factor = _mm512_maskz_mov_ps(static_cast<__mmask16>(kept), scale);  // 0 · NaN stays NaN
      store(out + i, some, residual ? _mm512_fmadd_ps(one, factor, load(residual + i, some)) : _mm512_mul_ps(one, factor));
    }
  }
}

inline void check_rows(const at::Tensor& one, const at::Tensor& states) {
  TORCH_CHECK(one.is_contiguous() && one.is_cpu() && one.scalar_type() == states.scalar_type() &&
                  one.sizes() == states.sizes(), "rows do not fit each other");
}

inline void check_width(const at::Tensor& one, int64_t width) {
  TORCH_CHECK(one.is_contiguous() && one.is_cpu() && one.scalar_type() == at::kFloat && one.dim() == 1 && one.size(0) == width,
              "a weight does not fit the rows");
}

template <class T>
T* maybe(const std::optional<at::Tensor>& one) { return one.has_value() ? one->data_ptr<T>() : nullptr; }

// dropout(states), onto the residual where there is one; its own backward pass, with the same seed.
inline at::Tensor drop(const at::Tensor& states, const std::optional<at::Tensor>& residual, double p, int64_t seed) {
  check_rows(states, states);
  if (residual.has_value()) check_rows(*residual, states);
  const Dropped dropped(p, seed);
  const int64_t width = states.dim() ? states.size(-1) : 1, rows = width ? states.numel() / width : 0;
  at::Tensor out = at::empty_like(states);
  FOR_TYPE(states, [&] {
    const scalar_t *from = states.data_ptr<scalar_t>(), *beside = maybe<scalar_t>(residual);
    scalar_t* to = out.data_ptr<scalar_t>();
    at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row)
        drop_row(from + row * width, beside ? beside + row * width : nullptr, dropped, row, width, to + row * width);
    });
  });
  return out;
}

// Mean (of RMSNorm: 0) and 1 / deviation of a row.
template <class T>
void measure(const T* row, int64_t width, bool centered, float eps, float* statistics) {
  __m512 sums = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
  for (int64_t i = 0; centered && i < width; i += LANES) sums = _mm512_add_ps(sums, load(row + i, lanes(width - i)));
  const float mean = centered ? _mm512_reduce_add_ps(sums) / static_cast<float>(width) : 0.0f;
  for (int64_t i = 0; i < width; i += LANES) {
    const __mmask16 some = lanes(width - i);
    const __m512 apart = _mm512_maskz_sub_ps(some, load(row + i, some), _mm512_set1_ps(mean));
    squares = _mm512_fmadd_ps(apart, apart, squares);
  }
  statistics[0] = mean;
  statistics[1] = 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / static_cast<float>(width) + eps);
}

template <class T>
void norm_row(const T* row, const float* statistics, const float* weight, const float* bias, int64_t width, T* out) {
  const __m512 mean = _mm512_set1_ps(statistics[0]), scale = _mm512_set1_ps(statistics[1]);
  for (int64_t i = 0; i < width; i += LANES) {
    const __mmask16 some = lanes(width - i);
    const __m512 normed = _mm512_mul_ps(_mm512_sub_ps(load(row + i, some), mean), scale);
    const __m512 shift = bias ? load(bias + i, some) : _mm512_setzero_ps();
    store(out + i, some, _mm512_fmadd_ps(normed, load(weight + i, some), shift));
  }
}

// norm(residual + dropout(states)), what was normed, and its statistics. Without a residual the states are normed as
// they are.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> norm(const at::Tensor& states,
                                                           const std::optional<at::Tensor>& residual,
                                                           const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                                                           bool centered, double eps, double p, int64_t seed) {
  TORCH_CHECK(states.dim() > 0 && (residual.has_value() || p == 0.0), "there is nothing to add dropped states to");
  const int64_t width = states.size(-1), rows = width ? states.numel() / width : 0;
  check_rows(states, states);
  check_width(weight, width);
  if (bias.has_value()) check_width(*bias, width);
  if (residual.has_value()) check_rows(*residual, states);
  const Dropped dropped(p, seed);
  at::Tensor sum = residual.has_value() ? at::empty_like(states) : states, out = at::empty_like(states);
  at::Tensor statistics = at::empty({rows, 2}, weight.options());
  FOR_TYPE(states, [&] {
    const scalar_t *from = states.data_ptr<scalar_t>(), *beside = maybe<scalar_t>(residual);
    scalar_t *added = sum.data_ptr<scalar_t>(), *to = out.data_ptr<scalar_t>();
    const float *scale = weight.data_ptr<float>(), *shift = maybe<float>(bias);
    float* found = statistics.data_ptr<float>();
    at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        const int64_t at = row * width;
        if (beside) drop_row(from + at, beside + at, dropped, row, width, added + at);
        measure(added + at, width, centered, static_cast<float>(eps), found + 2 * row);
        norm_row(added + at, found + 2 * row, scale, shift, width, to + at);
      }
    });
  });
  return {out, sum, statistics};
}

// The gradient of a row, by what was normed; those by weight and bias are added to theirs.
template <class T>
void unnorm_row(const T* gradient, const T* row, const float* statistics, const float* weight, int64_t width,
                bool centered, float* by_weight, float* by_bias, T* out) {
  const __m512 mean = _mm512_set1_ps(statistics[0]), scale = _mm512_set1_ps(statistics[1]);
  __m512 sums = _mm512_setzero_ps(), along = _mm512_setzero_ps();
  for (int64_t i = 0; i < width; i += LANES) {
    const __mmask16 some = lanes(width - i);
    const __m512 up = load(gradient + i, some);
    const __m512 normed = _mm512_mul_ps(_mm512_maskz_sub_ps(some, load(row + i, some), mean), scale);
    store(by_weight + i, some, _mm512_fmadd_ps(up, normed, load(by_weight + i, some)));
    store(by_bias + i, some, _mm512_add_ps(up, load(by_bias + i, some)));
    const __m512 by_normed = _mm512_mul_ps(up, load(weight + i, some));
    sums = _mm512_add_ps(sums, by_normed);
    along = _mm512_fmadd_ps(by_normed, normed, along);
  }
  const float part = 1.0f / static_cast<float>(width);
  const __m512 shared = _mm512_set1_ps(centered ? _mm512_reduce_add_ps(sums) * part : 0.0f);
  const __m512 slope = _mm512_set1_ps(_mm512_reduce_add_ps(along) * part);
  for (int64_t i = 0; i < width; i += LANES) {
    const __mmask16 some = lanes(width - i);
    const __m512 normed = _mm512_mul_ps(_mm512_sub_ps(load(row + i, some), mean), scale);
    const __m512 apart = _mm512_fmsub_ps(load(gradient + i, some), load(weight + i, some), shared);
    store(out + i, some, _mm512_mul_ps(scale, _mm512_fnmadd_ps(normed, slope, apart)));
  }
}

// The sum of rows.
inline void add_up(const float* rows, int64_t count, int64_t width, float* sum) {
  std::fill(sum, sum + width, 0.0f);
  for (int64_t row = 0; row < count; ++row)
    for (int64_t i = 0; i < width; ++i) sum[i] += rows[row * width + i];
}

// Gradients by what was normed, by the dropped states (the same where nothing is dropped), by weight and by bias.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> unnorm(const at::Tensor& gradient, const at::Tensor& sum,
                                                                         const at::Tensor& statistics,
                                                                         const at::Tensor& weight, bool centered,
                                                                         double p, int64_t seed) {
  const int64_t width = sum.size(-1), rows = width ? sum.numel() / width : 0;
  check_rows(gradient, sum);
  check_width(weight, width);
  TORCH_CHECK(statistics.is_contiguous() && statistics.numel() == 2 * rows, "the statistics do not fit the rows");
  const Dropped dropped(p, seed);
  const int64_t groups = (rows + TOGETHER - 1) / TOGETHER;
  at::Tensor by_sum = at::empty_like(sum), by_states = dropped.zeros ? at::empty_like(sum) : by_sum;
  at::Tensor parts = at::zeros({2, std::max<int64_t>(1, groups), width}, weight.options());  // of weight and bias
  FOR_TYPE(sum, [&] {
    const scalar_t *up = gradient.data_ptr<scalar_t>(), *added = sum.data_ptr<scalar_t>();
    scalar_t *to = by_sum.data_ptr<scalar_t>(), *beside = by_states.data_ptr<scalar_t>();
    const float *found = statistics.data_ptr<float>(), *scale = weight.data_ptr<float>();
    float *for_weight = parts.data_ptr<float>(), *for_bias = for_weight + parts.stride(0);
    at::parallel_for(0, groups, std::max<int64_t>(1, grain(width) / TOGETHER), [&](int64_t begin, int64_t end) {
      for (int64_t row = begin * TOGETHER; row < std::min(rows, end * TOGETHER); ++row) {
        const int64_t at = row * width, part = row / TOGETHER * width;
        unnorm_row(up + at, added + at, found + 2 * row, scale, width, centered, for_weight + part, for_bias + part, to + at);
        if (dropped.zeros) drop_row<scalar_t>(to + at, nullptr, dropped, row, width, beside + at);
      }
    });
  });
  at::Tensor by_weight = at::empty_like(weight), by_bias = at::empty_like(weight);
  add_up(parts.data_ptr<float>(), groups, width, by_weight.data_ptr<float>());
  add_up(parts.data_ptr<float>() + parts.stride(0), groups, width, by_bias.data_ptr<float>());
  return {by_sum, by_states, by_weight, by_bias};
}

}  // namespace regard
