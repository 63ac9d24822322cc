// Depthwise 3x3 convolution, padding 1, and its gradients. Called through ctypes: see __init__.py.
//
// Activations are `images x rows x columns x channels`, contiguous; weights are `9 x channels`, a
// row for each tap. Channels are a multiple of LANES. A map of a few channels at a time is laid out
// as float32 in a frame of zeros, so that no loop tests for borders. No processor foresees that way
// through memory, hence the prefetches: the same place in the next image. One thread, a fixed
// order: results repeat bitwise.

#include <vector>

#include "lanes.h"

namespace {

// Of the input; the output's map is `(height - 1) / stride + 1` high, and as wide.
struct Size {
  int64_t images, height, width, channels;
};

inline Size strided(Size n, int64_t stride) {
  return {n.images, (n.height - 1) / stride + 1, (n.width - 1) / stride + 1, n.channels};
}

inline int64_t image_size(Size n) { return n.height * n.width * n.channels; }

// N * LANES channels of one image; rows and columns count from the frame.
template <int N>
class Map {
 public:
  explicit Map(Size n) : n(n), values((n.height + 2) * (n.width + 2) * N) {}

  const V* at(int64_t row, int64_t column) const {
    return &values[(row * (n.width + 2) + column) * N];
  }

  template <class T>
  void fill(const T* x, int64_t image, int64_t channel) {
    x += image * image_size(n) + channel;
    for (int64_t r = 0; r < n.height; r++) {
      V* to = &values[((r + 1) * (n.width + 2) + 1) * N];
      for (int64_t c = 0; c < n.width; c++, x += n.channels) {
        __builtin_prefetch(x + image_size(n), 0, 2);
        for (int k = 0; k < N; k++) *to++ = load(x + k * LANES);
      }
    }
  }

 private:
  Size n;
  std::vector<V> values;
};

template <int N>
struct Taps {
  V at[9][N];
  Taps(const float* weight, Size n, int64_t channel) {
    for (int t = 0; t < 9; t++)
      for (int k = 0; k < N; k++) at[t][k] = load(weight + t * n.channels + channel + k * LANES);
  }
};

template <int N, int S, class T>
void forward(const T* x, const float* weight, T* y, Size in) {
  Size out = strided(in, S);
  Map<N> map(in);
  for (int64_t image = 0; image < in.images; image++)
    for (int64_t channel = 0; channel < in.channels; channel += N * LANES) {
      map.fill(x, image, channel);
      const Taps<N> w(weight, in, channel);
      T* to = y + image * image_size(out) + channel;
      for (int64_t r = 0; r < out.height; r++)
        for (int64_t c = 0; c < out.width; c++, to += out.channels) {
          V sum[N] = {};
#pragma GCC unroll 3
          for (int i = 0; i < 3; i++)
#pragma GCC unroll 3
            for (int j = 0; j < 3; j++)
              for (int k = 0; k < N; k++)
                sum[k] += w.at[3 * i + j][k] * map.at(S * r + i, S * c + j)[k];
          __builtin_prefetch(to + image_size(out), 1, 2);
          for (int k = 0; k < N; k++) store(to + k * LANES, sum[k]);
        }
    }
}

// Gradient at the inputs of rows R, R + S, ... and columns C, C + S, ...: they share their taps.
template <int N, int S, int R, int C, class T>
inline void inward(const Map<N>& grad, const Taps<N>& w, T* d_x, Size in) {
  for (int64_t r = R; r < in.height; r += S) {
    T* to = d_x + (r * in.width + C) * in.channels;
    for (int64_t c = C; c < in.width; c += S, to += S * in.channels) {
      V sum[N] = {};
#pragma GCC unroll 3
      for (int i = (R + 1) % S; i < 3; i += S)
#pragma GCC unroll 3
        for (int j = (C + 1) % S; j < 3; j += S)
          for (int k = 0; k < N; k++)
            sum[k] += w.at[3 * i + j][k] * grad.at((r + 1 - i) / S + 1, (c + 1 - j) / S + 1)[k];
      __builtin_prefetch(to + image_size(in), 1, 2);
      for (int k = 0; k < N; k++) store(to + k * LANES, sum[k]);
    }
  }
}

template <int N, int S>
inline void weigh(const Map<N>& grad, const Map<N>& x, V (&sums)[9][N], Size out) {
  V s[9][N];
  std::memcpy(s, sums, sizeof s);
  for (int64_t r = 0; r < out.height; r++)
    for (int64_t c = 0; c < out.width; c++) {
      const V* g = grad.at(r + 1, c + 1);
#pragma GCC unroll 3
      for (int i = 0; i < 3; i++)
#pragma GCC unroll 3
        for (int j = 0; j < 3; j++)
          for (int k = 0; k < N; k++) s[3 * i + j][k] += g[k] * x.at(S * r + i, S * c + j)[k];
    }
  std::memcpy(sums, s, sizeof s);
}

// Outputs whose products are summed in float32 before they go to double; at least one image.
constexpr int64_t BLOCK = 128;

template <int N, int S, class T>
void backward(const T* grad, const T* x, const float* weight, T* d_x, float* d_weight, Size in) {
  Size out = strided(in, S);
  Map<N> above(out), below(in);
  std::vector<double> total(9 * in.channels);
  int64_t block = 1 + (BLOCK - 1) / (out.height * out.width);
  for (int64_t first = 0; first < in.images; first += block)
    for (int64_t channel = 0; channel < in.channels; channel += N * LANES) {
      const Taps<N> w(weight, in, channel);
      V sums[9][N] = {};
      for (int64_t image = first; image < first + block && image < in.images; image++) {
        above.fill(grad, image, channel);
        below.fill(x, image, channel);
        weigh<N, S>(above, below, sums, out);
        T* to = d_x + image * image_size(in) + channel;
        inward<N, S, 0, 0>(above, w, to, in);
        if (S == 2) {
          inward<N, S, 0, 1>(above, w, to, in);
          inward<N, S, 1, 0>(above, w, to, in);
          inward<N, S, 1, 1>(above, w, to, in);
        }
      }
      for (int t = 0; t < 9; t++)
        for (int k = 0; k < N; k++)
          for (int i = 0; i < LANES; i++)
            total[t * in.channels + channel + k * LANES + i] += sums[t][k][i];
    }
  for (int64_t i = 0; i < 9 * in.channels; i++) d_weight[i] = total[i];
}

}  // namespace

#define FOR(T, NAME)                                                                              \
  extern "C" void depthwise_forward_##NAME(const T* x, const float* weight, T* y, int64_t images, \
                                           int64_t height, int64_t width, int64_t channels,       \
                                           int64_t stride) {                                      \
    bool two = channels % (2 * LANES) == 0;                                                       \
    auto run = stride == 1 ? (two ? forward<2, 1, T> : forward<1, 1, T>)                          \
                           : (two ? forward<2, 2, T> : forward<1, 2, T>);                         \
    run(x, weight, y, {images, height, width, channels});                                         \
  }                                                                                               \
  extern "C" void depthwise_backward_##NAME(                                                      \
      const T* grad, const T* x, const float* weight, T* d_x, float* d_weight, int64_t images,    \
      int64_t height, int64_t width, int64_t channels, int64_t stride) {                          \
    bool two = channels % (2 * LANES) == 0;                                                       \
    auto run = stride == 1 ? (two ? backward<2, 1, T> : backward<1, 1, T>)                        \
                           : (two ? backward<2, 2, T> : backward<1, 2, T>);                       \
    run(grad, x, weight, d_x, d_weight, {images, height, width, channels});                       \
  }

FOR(float, float32)
FOR(bf16, bfloat16)
