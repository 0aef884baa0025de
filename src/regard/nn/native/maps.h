// Linear maps of few rows, of float32 or of 8-bit integers.
//
// Shapes: states float32 [R, K]; weight float32 [N, K]; the same packed [N / 64, K, 64], N rounded up.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include <immintrin.h>

#include "int8.h"
#include "numbers.h"

namespace regard {

// Adds R rows times 64 outputs' float32 weights [K, 64] to their sums, float32 [R, 64]; meanwhile as many `lines` as
// are said are asked for from `ahead` on, for each of the K.
template <int R>
void multiply_plain(const float* states, int64_t stride, const float* weight, int64_t depth, float* sums,
                    const float* ahead, int64_t lines) {
  __m512 total[R][BLOCKS];
  UNROLLED for (int r = 0; r < R; ++r)
    UNROLLED for (int b = 0; b < BLOCKS; ++b) total[r][b] = _mm512_loadu_ps(sums + r * GROUP + b * LANES);
  for (int64_t k = 0; k < depth; ++k, weight += GROUP) {
    __m512 part[BLOCKS];
    for (int64_t line = 0; line < lines; ++line, ahead += LANES)
      _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T1);
    UNROLLED for (int b = 0; b < BLOCKS; ++b) part[b] = _mm512_loadu_ps(weight + b * LANES);
    UNROLLED for (int r = 0; r < R; ++r) {
      const __m512 spread = _mm512_set1_ps(states[r * stride + k]);
      UNROLLED for (int b = 0; b < BLOCKS; ++b) total[r][b] = _mm512_fmadd_ps(spread, part[b], total[r][b]);
    }
  }
  UNROLLED for (int r = 0; r < R; ++r)
    UNROLLED for (int b = 0; b < BLOCKS; ++b) _mm512_storeu_ps(sums + r * GROUP + b * LANES, total[r][b]);
}

using MultiplyPlain = void (*)(const float*, int64_t, const float*, int64_t, float*, const float*, int64_t);
constexpr int64_t PLAIN_ROWS = 6;  // 24 sums in registers
constexpr int64_t FEW_ROWS = 128;   // rows up to which MKL is no faster (`regard.nn.backend.FEW_ROWS`)
constexpr int64_t NEAREST = 128;    // rows of 64 weights, 32 KiB: taken by all rows while they are in the nearest cache
constexpr MultiplyPlain MULTIPLY_PLAIN[PLAIN_ROWS] = {multiply_plain<1>, multiply_plain<2>, multiply_plain<3>,
                                                      multiply_plain<4>, multiply_plain<5>, multiply_plain<6>};

// A float32 weight [N, K] in the order in which it is read, [N / 64, K, 64].
inline at::Tensor pack(const at::Tensor& given) {
  const at::Tensor weight = given.contiguous();
  const int64_t outputs = weight.size(0), width = weight.size(1), groups = rounded(outputs, GROUP) / GROUP;
  at::Tensor packed = at::empty({groups, width, GROUP}, weight.options());
  const float* from = weight.data_ptr<float>();
  float* to = packed.data_ptr<float>();
  at::parallel_for(0, groups, 1, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; ++g)
      for (int64_t k = 0; k < width; ++k)
        for (int64_t n = 0; n < GROUP; ++n)
          to[(g * width + k) * GROUP + n] = g * GROUP + n < outputs ? from[(g * GROUP + n) * width + k] : 0.0f;
  });
  return packed;
}

// A linear map. With an int8 weight: its packed codes, their scales and the Σ codes of each output. With a float32
// one: the weight, and the same packed, where it is.
struct Map {
  at::Tensor first;
  std::optional<at::Tensor> second, sums, bias;

  bool quantized() const { return first.scalar_type() == at::kChar; }
  int64_t outputs() const { return quantized() ? second->size(0) : first.size(0); }

  // states [R, K] · weightᵀ + bias → made [R, N]
  void operator()(const float* x, int64_t rows, int64_t width, float* made) const {
    if (rows == 0) return;
    if (quantized()) {
      Int8{first, *second, *sums, bias}(x, rows, width, made);
    } else if (second.has_value() && rows <= FEW_ROWS) {
      packed(x, rows, width, made);
    } else {
      plain(x, rows, width, made);
    }
  }

 private:
  void plain(const float* x, int64_t rows, int64_t width, float* made) const {
    const at::Tensor in = at::from_blob(const_cast<float*>(x), {rows, width}, at::kFloat);
    at::Tensor out = at::from_blob(made, {rows, outputs()}, at::kFloat);
    if (bias.has_value()) {
      at::addmm_out(out, *bias, in, first.t());
    } else {
      at::mm_out(out, in, first.t());
    }
  }

  void packed(const float* x, int64_t rows, int64_t width, float* made) const {
    const float* weight = second->data_ptr<float>();
    const float* shift = bias.has_value() ? bias->data_ptr<float>() : nullptr;
    const int64_t all = outputs(), work = rows * width * GROUP;
    const int64_t passes = (rows + PLAIN_ROWS - 1) / PLAIN_ROWS, lines = (BLOCKS + passes - 1) / passes;
    at::parallel_for(0, second->size(0), std::max<int64_t>(1, ALONE / 8 / work), [&](int64_t begin, int64_t end) {
      std::vector<float> total(rows * GROUP);
      for (int64_t g = begin; g < end; ++g) {
        const int64_t from = g * GROUP, count = std::min(GROUP, all - from);
        std::fill(total.begin(), total.end(), 0.0f);
        for (int64_t k = 0; k < width; k += NEAREST) {
          const int64_t depth = std::min(NEAREST, width - k);
          const float *here = weight + from * width + k * GROUP, *ahead = here + depth * GROUP;
          for (int64_t r = 0, left = rows; left > 0; ahead += lines * depth * LANES) {
            const int64_t tiles = (left + PLAIN_ROWS - 1) / PLAIN_ROWS, taken = (left + tiles - 1) / tiles;
            MULTIPLY_PLAIN[taken - 1](x + r * width + k, width, here, depth, &total[r * GROUP], ahead, lines);
            r += taken, left -= taken;
          }
        }
        for (int64_t r = 0; r < rows; ++r)
          for (int64_t n = 0; n < count; ++n)
            made[r * all + from + n] = total[r * GROUP + n] + (shift ? shift[from + n] : 0.0f);
      }
    });
  }
};

}  // namespace regard
