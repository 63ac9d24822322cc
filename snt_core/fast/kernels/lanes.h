// Sixteen numbers at a time, as float32 whatever they are in memory.

#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

constexpr int LANES = 16;

typedef float V __attribute__((vector_size(4 * LANES)));
typedef int32_t M __attribute__((vector_size(4 * LANES)));
typedef uint32_t U __attribute__((vector_size(4 * LANES)));
typedef uint16_t H __attribute__((vector_size(2 * LANES)));

struct bf16 {
  uint16_t bits;
};

inline V load(const float* p) {
  V v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline V load(const bf16* p) {
  H h;
  std::memcpy(&h, p, sizeof h);
  return (V)(__builtin_convertvector(h, U) << 16);
}

inline void store(float* p, V v) { std::memcpy(p, &v, sizeof v); }

inline void store(bf16* p, V v) {
#ifdef __AVX512BF16__
  __m256bh h16 = _mm512_cvtneps_pbh((__m512)v);
  std::memcpy(p, &h16, sizeof h16);
#else
  U u = (U)v;
  U rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;  // to nearest, ties to even
  U kept = (U)(v == v);                              // NaN stays NaN
  H h = __builtin_convertvector((rounded & kept) | (0x7fc0 & ~kept), H);
  std::memcpy(p, &h, sizeof h);
#endif
}

inline V select(M mask, V yes, V no) { return mask ? yes : no; }

}  // namespace
