// Fake quantization in one pass each way, over `n` numbers in whatever order they lie in memory.

#include "lanes.h"

namespace {

inline V clamp(V v, float low, float high) {
  v = select(v < low, V{} + low, v);
  return select(v > high, V{} + high, v);  // NaN passes both
}

inline V quantized(V v, float inverse, float scale, float low, float high) {
  const V shift = V{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to whole numbers, ties to even
  V codes = clamp(v * inverse, low, high);
  return ((codes + shift) - shift) * scale;
}

// The gradient passes where the number lies between the ends; below and above it is summed.
inline V passed(V grad, V v, float low, float high, V& below, V& above) {
  below += select(v < low, grad, V{});
  above += select(v > high, grad, V{});
  return select(v < low, V{}, select(v > high, V{}, grad));
}

template <class T>
void fake_quantize(const T* x, T* y, int64_t n, const float* scale, int64_t zero_point,
                   int64_t top) {
  float s = *scale, inverse = 1 / s, low = -zero_point, high = top - zero_point;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) store(y + i, quantized(load(x + i), inverse, s, low, high));
  T rest[LANES] = {};
  if (i == n) return;
  std::memcpy(rest, x + i, (n - i) * sizeof(T));
  store(rest, quantized(load(rest), inverse, s, low, high));
  std::memcpy(y + i, rest, (n - i) * sizeof(T));
}

template <class T>
void fake_quantize_backward(const T* grad, const T* x, T* d_x, int64_t n, const float* scale,
                            int64_t zero_point, int64_t top, float* d_scale) {
  constexpr int64_t BLOCK = 256 * LANES;  // whose sums are float32 before they go to double
  float low = -zero_point * *scale, high = (top - zero_point) * *scale;
  double ends[2] = {};
  for (int64_t first = 0; first < n; first += BLOCK) {
    int64_t last = first + BLOCK < n ? first + BLOCK : n, i = first;
    V below = {}, above = {};
    for (; i + LANES <= last; i += LANES)
      store(d_x + i, passed(load(grad + i), load(x + i), low, high, below, above));
    if (i < last) {
      T g[LANES] = {}, v[LANES] = {};
      std::memcpy(g, grad + i, (last - i) * sizeof(T));
      std::memcpy(v, x + i, (last - i) * sizeof(T));
      store(g, passed(load(g), load(v), low, high, below, above));
      std::memcpy(d_x + i, g, (last - i) * sizeof(T));
    }
    for (int k = 0; k < LANES; k++) ends[0] += below[k], ends[1] += above[k];
  }
  *d_scale = ends[0] * -zero_point + ends[1] * (top - zero_point);
}

}  // namespace

#define FOR(T, NAME)                                                                               \
  extern "C" void fake_quantize_##NAME(const T* x, T* y, int64_t n, const float* scale,            \
                                       int64_t zero_point, int64_t top) {                          \
    fake_quantize(x, y, n, scale, zero_point, top);                                                \
  }                                                                                                \
  extern "C" void fake_quantize_backward_##NAME(const T* grad, const T* x, T* d_x, int64_t n,      \
                                                const float* scale, int64_t zero_point,            \
                                                int64_t top, float* d_scale) {                     \
    fake_quantize_backward(grad, x, d_x, n, scale, zero_point, top, d_scale);                      \
  }

FOR(float, float32)
FOR(bf16, bfloat16)
