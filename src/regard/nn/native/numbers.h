// Numbers of float32 and bfloat16 as vectors of 16 float32, their exponentials, and random bits for dropout.

#pragma once

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include <immintrin.h>

// Calls a lambda whose scalar_t is the tensor's type.
#define FOR_TYPE(tensor, ...) \
  AT_DISPATCH_SWITCH((tensor).scalar_type(), "regard", AT_DISPATCH_CASE(at::kFloat, __VA_ARGS__) \
                                                       AT_DISPATCH_CASE(at::kBFloat16, __VA_ARGS__))

// Before a loop over registers: gcc leaves their array in memory unless it unrolls the loop early.
#define UNROLLED _Pragma("GCC unroll 16")

namespace regard {

constexpr int64_t LANES = 16;  // numbers of a vector

inline int64_t rounded(int64_t number, int64_t step) { return (number + step - 1) / step * step; }

// The first lanes of a vector, all where more are left.
inline __mmask16 lanes(int64_t left) { return static_cast<__mmask16>(left >= LANES ? 0xffff : (1 << left) - 1); }

constexpr int64_t FEW_NUMBERS = 1 << 14;  // below which a second thread does not pay

inline int64_t grain(int64_t width) { return std::max<int64_t>(1, FEW_NUMBERS / std::max<int64_t>(1, width)); }

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

inline __m512 load(const float* from, __mmask16 some) { return _mm512_maskz_loadu_ps(some, from); }

inline __m512 load(const at::BFloat16* from, __mmask16 some) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

inline void store(float* to, __mmask16 some, __m512 numbers) { _mm512_mask_storeu_ps(to, some, numbers); }

// To the nearest, of two as near to the even one; NaN stays one.
inline void store(at::BFloat16* to, __mmask16 some, __m512 numbers) {
  const __m512i bits = _mm512_castps_si512(numbers);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i near = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 none = _mm512_cmp_ps_mask(numbers, numbers, _CMP_UNORD_Q);
  _mm256_mask_storeu_epi16(to, some, _mm512_cvtepi32_epi16(_mm512_mask_set1_epi32(near, none, 0x7fc0)));
}

// Which elements dropout keeps: a function of the seed and of the element's place, so that the backward pass finds out
// again what the forward pass dropped, and so that threads change nothing. 64 bits of SplitMix64 (Steele et al., 2014)
// decide on four elements.
struct Dropped {
  static constexpr int64_t PART = 32;  // elements that are decided together, by 8 words

  uint64_t seed = 0;
  int zeros = 0;  // of 65,536 elements
  float scale = 1.0f;

  Dropped() = default;
  Dropped(double p, int64_t seed_)
      : seed(static_cast<uint64_t>(seed_)), zeros(static_cast<int>(std::min(std::lround(p * 65536.0), 65535L))),
        scale(65536.0f / static_cast<float>(65536 - zeros)) {
    TORCH_CHECK(p >= 0.0 && p < 1.0, "a dropout probability lies in [0, 1), not at ", p);
  }

  // Of a part of a row; rows have `parts` of them.
  uint32_t kept(int64_t row, int64_t parts, int64_t part) const {
    constexpr uint64_t GOLDEN = 0x9e3779b97f4a7c15;
    const __m512i steps = _mm512_set_epi64(7 * GOLDEN, 6 * GOLDEN, 5 * GOLDEN, 4 * GOLDEN, 3 * GOLDEN, 2 * GOLDEN, GOLDEN, 0);
    const uint64_t first = seed + static_cast<uint64_t>(row * parts + part) * 8 * GOLDEN;
    __m512i word = _mm512_add_epi64(_mm512_set1_epi64(static_cast<int64_t>(first)), steps);
    word = _mm512_xor_si512(word, _mm512_srli_epi64(word, 30));
    word = _mm512_mullo_epi64(word, _mm512_set1_epi64(static_cast<int64_t>(0xbf58476d1ce4e5b9)));
    word = _mm512_xor_si512(word, _mm512_srli_epi64(word, 27));
    word = _mm512_mullo_epi64(word, _mm512_set1_epi64(static_cast<int64_t>(0x94d049bb133111eb)));
    word = _mm512_xor_si512(word, _mm512_srli_epi64(word, 31));
    return _mm512_cmpge_epu16_mask(word, _mm512_set1_epi16(static_cast<int16_t>(zeros)));
  }
};

}  // namespace regard
