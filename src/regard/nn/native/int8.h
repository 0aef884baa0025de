// Products of 8-bit integers of few rows, where a call of oneDNN costs more than they do.
//
// Shapes: states float32 [R, K]; codes int8 [N, K]; packed int8 [N / 64, K / 4, 4, 16, 4], with N and K rounded up to
// multiples of 64 and zeros in what is added; scales float32 [N].
//
// A row x of the states becomes u = round(x · (1 / s)) + 128 with s = max|x| / 127, an unsigned byte: the
// processor multiplies unsigned by signed ones. What the 128 adds, 128 · Σ codes, is taken off again.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <tuple>
#include <vector>

#include <immintrin.h>
#ifdef __AMX_INT8__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "numbers.h"

namespace regard {

constexpr int64_t DEPTH = 4, BLOCKS = 4, GROUP = LANES * BLOCKS;
constexpr int64_t CHUNK = 64;              // K is rounded up to so many: a row of a tile
constexpr int64_t ROWS = 4;                // rows that vectors take at once: 16 sums in registers
constexpr int64_t TILE = 16;               // rows of a tile of AMX
constexpr int64_t AHEAD_BYTES = 4096;      // of codes that are asked for before their use
constexpr int64_t ALONE = 1 << 19;         // products below which a second thread does not pay
constexpr int64_t STATES_BYTES = 1 << 19;  // of states that are taken together
constexpr float LARGEST = 127.0f;

// One row of the states as unsigned bytes; gives its scale, NaN where a number is none.
inline float quantize(const float* x, int64_t count, int64_t padded, uint8_t* out) {
  __m512 tops = _mm512_setzero_ps();
  __mmask16 odd = 0;
  int64_t k = 0;
  for (; k + LANES <= count; k += LANES) {
    const __m512 some = _mm512_loadu_ps(x + k);
    tops = _mm512_max_ps(tops, _mm512_abs_ps(some));
    odd |= _mm512_cmp_ps_mask(some, some, _CMP_UNORD_Q);
  }
  float top = _mm512_reduce_max_ps(tops);
  for (; k < count; ++k) {
    top = std::max(top, std::fabs(x[k]));
    odd |= x[k] != x[k];
  }
  const float scale = std::max(top * (1.0f / LARGEST), std::numeric_limits<float>::min());
  const float inverse = 1.0f / scale;
  const __m512 inverses = _mm512_set1_ps(inverse);
  const __m512i shift = _mm512_set1_epi32(128);
  for (k = 0; k + LANES <= count; k += LANES) {
    const __m512i code = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + k), inverses));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + k), _mm512_cvtepi32_epi8(_mm512_add_epi32(code, shift)));
  }
  for (; k < count; ++k) out[k] = static_cast<uint8_t>(static_cast<int>(std::nearbyint(x[k] * inverse)) + 128);
  std::memset(out + count, 128, padded - count);
  return odd ? std::numeric_limits<float>::quiet_NaN() : scale;
}

// The sums of R rows with 64 outputs' codes, int32 [R, 64]. Meanwhile L lines from `ahead` on are asked for, whenever
// so many more of the codes have been read, a power of two.
template <int L, int R>
void multiply(const uint8_t* states, int64_t stride, const int8_t* codes, int64_t depth, int32_t* sums,
              const int8_t* ahead, int64_t every) {
  __m512i total[R][BLOCKS];
  UNROLLED for (int r = 0; r < R; ++r)
    UNROLLED for (int b = 0; b < BLOCKS; ++b) total[r][b] = _mm512_setzero_si512();
  for (int64_t k = 0; k < depth; ++k, codes += GROUP * DEPTH) {
    if (L > 1 || (k & (every - 1)) == 0)
      UNROLLED for (int line = 0; line < L; ++line, ahead += 64)
        _mm_prefetch(reinterpret_cast<const char*>(ahead), L == BLOCKS ? _MM_HINT_T0 : _MM_HINT_T1);
    __m512i part[BLOCKS];
    UNROLLED for (int b = 0; b < BLOCKS; ++b) part[b] = _mm512_loadu_si512(codes + b * LANES * DEPTH);
    UNROLLED for (int r = 0; r < R; ++r) {
      int32_t four;
      std::memcpy(&four, states + r * stride + k * DEPTH, sizeof four);
      const __m512i spread = _mm512_set1_epi32(four);
      UNROLLED for (int b = 0; b < BLOCKS; ++b) total[r][b] = _mm512_dpbusd_epi32(total[r][b], spread, part[b]);
    }
  }
  UNROLLED for (int r = 0; r < R; ++r)
    UNROLLED for (int b = 0; b < BLOCKS; ++b) _mm512_storeu_si512(sums + r * GROUP + b * LANES, total[r][b]);
}

#ifdef __AMX_INT8__
struct alignas(64) Tiles {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

inline bool may_use_tiles() {  // the system hands their state out on request
  constexpr int REQUEST = 0x1023, TILE_DATA = 18;
  static const bool allowed = syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
  return allowed;
}

// The sums of 16 rows with 64 outputs' codes, int32 [16, 64], in one pass over the codes.
inline void multiply_tile(const uint8_t* states, int64_t stride, const int8_t* codes, int64_t depth, int32_t* sums) {
  constexpr int64_t LINE = GROUP * DEPTH, NEXT = LANES * DEPTH, ROW = GROUP * sizeof(int32_t);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < depth; k += CHUNK / DEPTH, codes += CHUNK / DEPTH * LINE) {
    for (int64_t i = 0; i < CHUNK / DEPTH * LINE; i += 64)
      _mm_prefetch(reinterpret_cast<const char*>(codes) + AHEAD_BYTES + i, _MM_HINT_T0);
    _tile_loadd(4, states + k * DEPTH, stride);
    _tile_loadd(5, codes, LINE);
    _tile_dpbusd(0, 4, 5);
    _tile_loadd(6, codes + NEXT, LINE);
    _tile_dpbusd(1, 4, 6);
    _tile_loadd(7, codes + 2 * NEXT, LINE);
    _tile_dpbusd(2, 4, 7);
    _tile_loadd(5, codes + 3 * NEXT, LINE);
    _tile_dpbusd(3, 4, 5);
  }
  _tile_stored(0, sums, ROW);
  _tile_stored(1, sums + LANES, ROW);
  _tile_stored(2, sums + 2 * LANES, ROW);
  _tile_stored(3, sums + 3 * LANES, ROW);
}

// The sums of 32 rows with 64 outputs' codes, int32 [32, 64].
inline void multiply_tiles(const uint8_t* states, int64_t stride, const int8_t* codes, int64_t depth, int32_t* sums) {
  constexpr int64_t LINE = GROUP * DEPTH, PAIR = 2 * LANES;
  for (int64_t pair = 0; pair < BLOCKS / 2; ++pair) {
    const int8_t* mine = codes + pair * PAIR * DEPTH;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < depth; k += CHUNK / DEPTH) {
      _tile_loadd(4, states + k * DEPTH, stride);
      _tile_loadd(5, states + TILE * stride + k * DEPTH, stride);
      _tile_loadd(6, mine + k * LINE, LINE);
      _tile_loadd(7, mine + k * LINE + LANES * DEPTH, LINE);
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    }
    int32_t* to = sums + pair * PAIR;
    constexpr int64_t ROW = GROUP * sizeof(int32_t);
    _tile_stored(0, to, ROW);
    _tile_stored(1, to + LANES, ROW);
    _tile_stored(2, to + TILE * GROUP, ROW);
    _tile_stored(3, to + TILE * GROUP + LANES, ROW);
  }
}
#endif

using Multiply = void (*)(const uint8_t*, int64_t, const int8_t*, int64_t, int32_t*, const int8_t*, int64_t);
template <int L>
constexpr Multiply MULTIPLY[ROWS] = {multiply<L, 1>, multiply<L, 2>, multiply<L, 3>, multiply<L, 4>};

// Which codes are asked for while others are multiplied. The next group's come from memory in equal parts, as all passes
// over this one's are made; where there is one pass, there is no time for that, and its own come a little before their use.
struct Ahead {
  const int8_t *first, *end;
  int64_t depth, lines = BLOCKS, every = 1;
  const Multiply* multiply = MULTIPLY<BLOCKS>;

  Ahead(const int8_t* codes, int64_t depth_, int64_t passes) : depth(depth_) {
    const int64_t bytes = depth * DEPTH * GROUP;
    first = codes + (passes == 1 ? AHEAD_BYTES : bytes), end = first + bytes;
    if (passes == 1) return;
    lines = passes < BLOCKS ? 2 : 1;
    multiply = passes < BLOCKS ? MULTIPLY<2> : MULTIPLY<1>;
    while (every * 2 * BLOCKS <= passes && every * 2 <= depth) every *= 2;
  }

  // From where the next pass shall ask.
  const int8_t* next() {
    const int8_t* found = first;
    first = std::min(first + (depth + every - 1) / every * lines * 64, end);
    return found;
  }
};

inline bool by_tiles(int64_t rows) {
#ifdef __AMX_INT8__
  return rows > ROWS && may_use_tiles();
#else
  return false;
#endif
}

// A float32 weight [N, K] as codes in the order in which they are read, the scale of each row and its Σ codes.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> int8_weight(const at::Tensor& given) {
  const at::Tensor weight = given.contiguous();
  const int64_t outputs = weight.size(0), width = weight.size(1);
  const int64_t groups = rounded(outputs, GROUP) / GROUP, depth = rounded(width, CHUNK) / DEPTH;
  at::Tensor packed = at::empty({groups, depth, BLOCKS, LANES, DEPTH}, weight.options().dtype(at::kChar)).zero_();
  at::Tensor scales = at::empty({outputs}, weight.options()), sums = at::empty({outputs}, weight.options().dtype(at::kInt));
  at::parallel_for(0, outputs, GROUP, [&](int64_t begin, int64_t end) {
    std::vector<uint8_t> bytes(depth * DEPTH);
    for (int64_t n = begin; n < end; ++n) {
      scales.data_ptr<float>()[n] = quantize(weight.data_ptr<float>() + n * width, width, depth * DEPTH, bytes.data());
      int8_t* to = packed.data_ptr<int8_t>() + n / GROUP * depth * GROUP * DEPTH + n % GROUP * DEPTH;
      int32_t sum = 0;
      for (int64_t k = 0; k < depth * DEPTH; ++k) {
        const int8_t code = static_cast<int8_t>(bytes[k] - 128);
        to[k / DEPTH * GROUP * DEPTH + k % DEPTH] = code;
        sum += code;
      }
      sums.data_ptr<int32_t>()[n] = sum;
    }
  });
  return {packed, scales, sums};
}

// Sums of a row as float32, with the scales and the bias.
struct Ending {
  const float* scale;
  const int32_t* sums;
  const float* shift;

  void operator()(const int32_t* total, float step, int64_t from, int64_t count, float* row) const {
    const __m512 steps = _mm512_set1_ps(step);
    for (int64_t n = 0; n < count; n += LANES) {
      const __mmask16 some = lanes(count - n);
      const __m512i extra = _mm512_slli_epi32(_mm512_maskz_loadu_epi32(some, sums + from + n), 7);
      const __m512 value = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(total + n), extra));
      const __m512 scaled = _mm512_mul_ps(value, _mm512_maskz_loadu_ps(some, scale + from + n));
      const __m512 shifts = shift ? _mm512_maskz_loadu_ps(some, shift + from + n) : _mm512_setzero_ps();
      _mm512_mask_storeu_ps(row + from + n, some, _mm512_fmadd_ps(scaled, steps, shifts));
    }
  }
};

// An int8 weight: its codes as packed, the scale of each output, its Σ codes, and the bias, if there is one.
struct Int8 {
  const at::Tensor &packed, &scales, &sums;
  const std::optional<at::Tensor>& bias;

  // states [R, K] · weightᵀ + bias → made [R, N]
  void operator()(const float* x, int64_t rows, int64_t width, float* made) const {
    const int64_t depth = packed.size(1), stride = depth * DEPTH;
    const bool tiles = by_tiles(rows);
    const std::unique_ptr<uint8_t[]> bytes(new uint8_t[rounded(rows, tiles ? 2 * TILE : ROWS) * stride]);
    std::vector<float> steps(rows);
    at::parallel_for(0, rows, std::max<int64_t>(1, (1 << 15) / stride), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) steps[r] = quantize(x + r * width, width, stride, &bytes[r * stride]);
    });
    const int64_t work = (tiles ? 1 : 8) * rows * stride * GROUP;
    at::parallel_for(0, packed.size(0), std::max<int64_t>(1, 8 * ALONE / work), [&](int64_t begin, int64_t end) {
      groups(bytes.get(), steps.data(), rows, tiles, begin, end, made);
    });
  }

 private:
  void groups(const uint8_t* bytes, const float* steps, int64_t rows, bool tiles, int64_t begin, int64_t end,
              float* made) const {
    const int64_t depth = packed.size(1), stride = depth * DEPTH, all = scales.size(0), most = tiles ? 2 * TILE : ROWS;
    const int8_t* codes = packed.data_ptr<int8_t>();
    const Ending ending{scales.data_ptr<float>(), sums.data_ptr<int32_t>(),
                        bias.has_value() ? bias->data_ptr<float>() : nullptr};
    alignas(64) int32_t total[2 * TILE * GROUP];
#ifdef __AMX_INT8__
    static const Tiles wanted;
    if (tiles) _tile_loadconfig(&wanted);
#endif
    const int64_t block = std::max(most, STATES_BYTES / stride / most * most);
    for (int64_t at = 0; at < rows; at += block)  // of the states, as many as a cache holds while all codes pass
      for (int64_t g = begin; g < end; ++g) {
        const int8_t* mine = codes + g * stride * GROUP;
        Ahead ahead(mine, depth, (std::min(rows - at, block) + most - 1) / most);
        for (int64_t r = at; r < std::min(rows, at + block); r += most) {
          const int64_t taken = std::min(most, rows - r);
#ifdef __AMX_INT8__
          if (tiles) (taken > TILE ? multiply_tiles : multiply_tile)(bytes + r * stride, stride, mine, depth, total);
#endif
          if (!tiles) ahead.multiply[taken - 1](bytes + r * stride, stride, mine, depth, total, ahead.next(), ahead.every);
          for (int64_t i = 0; i < taken; ++i)
            ending(total + i * GROUP, steps[r + i], g * GROUP, std::min(GROUP, all - g * GROUP), made + (r + i) * all);
        }
      }
#ifdef __AMX_INT8__
    if (tiles) _tile_release();
#endif
  }
};

}  // namespace regard
