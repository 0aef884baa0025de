// The gradient of cross-entropy by the logits, made in their place.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <cmath>
#include <limits>
#include <vector>

#include "numbers.h"

namespace regard {

// A row of logits becomes softmax - share · one-hot(label); gives log Σ e^logit and the label's logit. `room` holds
// the row's exponentials in float32.
template <class T>
std::pair<float, float> slope_row(T* logits, int64_t count, int64_t label, float share, float* room) {
  constexpr float INFINITE = std::numeric_limits<float>::infinity();
  const float own = static_cast<float>(logits[label]);
  __m512 tops = _mm512_set1_ps(-INFINITE), sums = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += LANES) {
    const __mmask16 some = lanes(count - i);
    tops = _mm512_mask_max_ps(tops, some, load(logits + i, some), tops);
  }
  float top = _mm512_reduce_max_ps(tops);
  if (!(std::fabs(top) < INFINITE)) top = 0.0f;  // what is not finite then shows in the sum
  for (int64_t i = 0; i < count; i += LANES) {
    const __mmask16 some = lanes(count - i);
    const __m512 made = exponential(_mm512_sub_ps(load(logits + i, some), _mm512_set1_ps(top)));
    sums = _mm512_mask_add_ps(sums, some, sums, made);
    _mm512_storeu_ps(room + i, made);
  }
  const float sum = _mm512_reduce_add_ps(sums);
  const __m512 part = _mm512_set1_ps(1.0f / sum);
  room[label] -= share * sum;
  for (int64_t i = 0; i < count; i += LANES)
    store(logits + i, lanes(count - i), _mm512_mul_ps(_mm512_loadu_ps(room + i), part));
  return {top + std::log(sum), own};
}

// Logits [n, V] and labels int64 [n]; float32 [n] each of `slope_row`'s two numbers.
inline std::tuple<at::Tensor, at::Tensor> slopes(at::Tensor& logits, const at::Tensor& labels, double share) {
  TORCH_CHECK(logits.dim() == 2 && logits.is_contiguous() && logits.is_cpu() && labels.is_contiguous() &&
                  labels.scalar_type() == at::kLong && labels.numel() == logits.size(0),
              "labels do not fit the logits");
  const int64_t rows = logits.size(0), width = logits.size(1);
  at::Tensor log_z = at::empty({rows}, logits.options().dtype(at::kFloat)), own = at::empty_like(log_z);
  const int64_t* label = labels.data_ptr<int64_t>();
  for (int64_t row = 0; row < rows; ++row)
    TORCH_CHECK_INDEX(label[row] >= 0 && label[row] < width, "label ", label[row], " is out of range");
  FOR_TYPE(logits, [&] {
    scalar_t* first = logits.data_ptr<scalar_t>();
    at::parallel_for(0, rows, grain(width), [&](int64_t begin, int64_t end) {
      std::vector<float> room(rounded(width, LANES));
      for (int64_t row = begin; row < end; ++row)
        std::tie(log_z.data_ptr<float>()[row], own.data_ptr<float>()[row]) =
            slope_row(first + row * width, width, label[row], static_cast<float>(share), room.data());
    });
  });
  return {log_z, own};
}

}  // namespace regard
