// Batch normalisation with its activation, and Eq. (1), each way in as few passes over memory as
// there are dependencies. Plain loops over 16 numbers at a time; one thread, a fixed order, so that
// results repeat bitwise. Called through ctypes: see __init__.py.
//
// Layouts are contiguous: `rows x channels` (channels last) for normalisation, and
// `outer x channels x inner` for the activation alone. Sums are float32 in blocks of rows, double
// across blocks. Channels, or inner where it is not 1, are a multiple of LANES.

#include <cmath>
#include <vector>

#include "lanes.h"

namespace {

// What follows the normalisation.
enum Act { NONE = 0, RELU = 1, SNT = 2 };

struct Triple {  // of Eq. (1), for 16 channels
  V gamma, beta, zeta;
};

inline Triple triple(const float* gamma, const float* beta, const float* zeta, int64_t c) {
  return {load(gamma + c), load(beta + c), load(zeta + c)};
}

inline V eq1(V z, const Triple& p) {
  V s = z - p.gamma;
  return select(s > 0, s, p.beta * s) + p.zeta;
}

// Rows whose sums are float32 before they go to double.
constexpr int64_t BLOCK = 128;

void add(double* total, int64_t c, V part) {
  for (int i = 0; i < LANES; i++) total[c + i] += part[i];
}

// Calls run(first row, last row, first channel) for each block. N groups of LANES channels go
// together, a whole cache line of bf16 where there are two.
template <int N, class Run>
inline void blocks(int64_t rows, int64_t channels, Run run) {
  for (int64_t first = 0; first < rows; first += BLOCK)
    for (int64_t c = 0; c < channels; c += N * LANES)
      run(first, first + BLOCK < rows ? first + BLOCK : rows, c);
}

template <int N, class T>
void statistics(const T* x, int64_t rows, int64_t channels, double* sum, double* square) {
  blocks<N>(rows, channels, [=](int64_t first, int64_t last, int64_t c) {
    V a[N] = {}, b[N] = {};
    for (int64_t r = first; r < last; r++)
      for (int k = 0; k < N; k++) {
        V v = load(x + r * channels + c + k * LANES);
        a[k] += v;
        b[k] += v * v;
      }
    for (int k = 0; k < N; k++) {
      add(sum, c + k * LANES, a[k]);
      add(square, c + k * LANES, b[k]);
    }
  });
}

template <int N, Act ACT, class T>
void apply(const T* x, const T* plus, T* y, int64_t rows, int64_t channels, const float* scale,
           const float* shift, const float* gamma, const float* beta, const float* zeta) {
  blocks<N>(rows, channels, [=](int64_t first, int64_t last, int64_t c) {
    V a[N], b[N];
    Triple p[N];
    for (int k = 0; k < N; k++) {
      a[k] = load(scale + c + k * LANES), b[k] = load(shift + c + k * LANES);
      if (ACT == SNT) p[k] = triple(gamma, beta, zeta, c + k * LANES);
    }
    for (int64_t r = first; r < last; r++)
      for (int k = 0; k < N; k++) {
        int64_t at = r * channels + c + k * LANES;
        V z = load(x + at) * a[k] + b[k];
        if (plus) z += load(plus + at);
        if (ACT == RELU) z = select(z < 0, V{}, z);  // NaN passes
        if (ACT == SNT) z = eq1(z, p[k]);
        store(y + at, z);
      }
  });
}

// The gradient at the activation's input; of Eq. (1) also what its parameters get.
template <Act ACT>
inline V inward(V grad, V z, const Triple& p, V& d_gamma, V& d_beta, V& d_zeta) {
  if (ACT == NONE) return grad;
  if (ACT == RELU) return select(z > 0, grad, V{});
  V s = z - p.gamma;
  V g = select(s > 0, grad, p.beta * grad);
  d_gamma -= g;
  d_beta += select(s > 0, V{}, s * grad);
  d_zeta += grad;
  return g;
}

template <int N, Act ACT, class T>
void backward(const T* grad, const T* x, const T* y, T* d_x, T* d_plus, int64_t rows,
              int64_t channels, const float* scale, const float* shift, const float* mean,
              const float* inverse, const float* gamma, const float* beta, const float* zeta,
              float* d_scale, float* d_shift, float* d_gamma, float* d_beta, float* d_zeta) {
  // With a shortcut added before ReLU its input is not at hand; its output has the same sign.
  const T* seen = y ? y : x;
  // sums over rows: gradient, gradient times normalised input, and Eq. (1)'s three
  std::vector<double> sums(5 * channels);
  double* total = sums.data();
  blocks<N>(rows, channels, [=](int64_t first, int64_t last, int64_t c) {
    V a[N], b[N], m[N], s[5][N] = {};
    Triple p[N];
    for (int k = 0; k < N; k++) {
      int64_t at = c + k * LANES;
      a[k] = y ? V{} + 1 : load(scale + at), b[k] = y ? V{} : load(shift + at);
      m[k] = load(mean + at);
      if (ACT == SNT) p[k] = triple(gamma, beta, zeta, at);
    }
    for (int64_t r = first; r < last; r++)
      for (int k = 0; k < N; k++) {
        int64_t at = r * channels + c + k * LANES;
        V z = load(seen + at) * a[k] + b[k];
        V g = inward<ACT>(load(grad + at), z, p[k], s[2][k], s[3][k], s[4][k]);
        s[0][k] += g;
        s[1][k] += g * (load(x + at) - m[k]);
      }
    for (int i = 0; i < (ACT == SNT ? 5 : 2); i++)
      for (int k = 0; k < N; k++) add(total + i * channels, c + k * LANES, s[i][k]);
  });
  std::vector<float> centre(channels), slope(channels);
  for (int64_t c = 0; c < channels; c++) {
    d_shift[c] = total[c];
    d_scale[c] = total[channels + c] * inverse[c];
    if (ACT == SNT) {
      d_gamma[c] = total[2 * channels + c];
      d_beta[c] = total[3 * channels + c];
      d_zeta[c] = total[4 * channels + c];
    }
    centre[c] = total[c] / rows;
    slope[c] = total[channels + c] / rows * inverse[c] * inverse[c];
  }
  const float *centres = centre.data(), *slopes = slope.data();
  blocks<N>(rows, channels, [=](int64_t first, int64_t last, int64_t c) {
    V w[N], a[N], b[N], m[N], mid[N], up[N], unused[3] = {};
    Triple p[N];
    for (int k = 0; k < N; k++) {
      int64_t at = c + k * LANES;
      w[k] = load(scale + at);  // weight times inverse deviation
      a[k] = y ? V{} + 1 : w[k], b[k] = y ? V{} : load(shift + at);
      m[k] = load(mean + at), mid[k] = load(centres + at), up[k] = load(slopes + at);
      if (ACT == SNT) p[k] = triple(gamma, beta, zeta, at);
    }
    for (int64_t r = first; r < last; r++)
      for (int k = 0; k < N; k++) {
        int64_t at = r * channels + c + k * LANES;
        V z = load(seen + at) * a[k] + b[k];
        V g = inward<ACT>(load(grad + at), z, p[k], unused[0], unused[1], unused[2]);
        if (d_plus) store(d_plus + at, g);
        store(d_x + at, w[k] * (g - mid[k] - (load(x + at) - m[k]) * up[k]));
      }
  });
}

template <int N, class T>
void norm_forward(const T* x, const T* plus, T* y, int64_t rows, int64_t channels, int64_t act,
                  float eps, const float* weight, const float* bias, const float* gamma,
                  const float* beta, const float* zeta, float* mean, float* variance,
                  float* inverse, float* scale, float* shift) {
  std::vector<double> sum(channels), square(channels);
  statistics<N>(x, rows, channels, sum.data(), square.data());
  for (int64_t c = 0; c < channels; c++) {
    double m = sum[c] / rows, v = square[c] / rows - m * m;
    if (v < 0) v = 0;  // rounding
    double inv = 1 / std::sqrt(v + eps);
    mean[c] = m;
    variance[c] = v;
    inverse[c] = inv;
    scale[c] = weight[c] * inv;
    shift[c] = bias[c] - m * weight[c] * inv;
  }
  auto run = act == RELU ? apply<N, RELU, T> : act == SNT ? apply<N, SNT, T> : apply<N, NONE, T>;
  run(x, plus, y, rows, channels, scale, shift, gamma, beta, zeta);
}

template <int N, class T>
void rows_backward(const T* grad, const T* x, T* d_x, int64_t rows, int64_t channels,
                   const float* gamma, const float* beta, const float* zeta, double* total) {
  blocks<N>(rows, channels, [=](int64_t first, int64_t last, int64_t c) {
    V s[3][N] = {};
    Triple p[N];
    for (int k = 0; k < N; k++) p[k] = triple(gamma, beta, zeta, c + k * LANES);
    for (int64_t r = first; r < last; r++)
      for (int k = 0; k < N; k++) {
        int64_t at = r * channels + c + k * LANES;
        store(d_x + at, inward<SNT>(load(grad + at), load(x + at), p[k], s[0][k], s[1][k], s[2][k]));
      }
    for (int i = 0; i < 3; i++)
      for (int k = 0; k < N; k++) add(total + i * channels, c + k * LANES, s[i][k]);
  });
}

template <class T>
void act_forward(const T* x, T* y, int64_t outer, int64_t channels, int64_t inner,
                 const float* gamma, const float* beta, const float* zeta) {
  if (inner == 1) {
    std::vector<float> one(channels, 1), zero(channels);
    auto run = channels % (2 * LANES) ? apply<1, SNT, T> : apply<2, SNT, T>;
    run(x, nullptr, y, outer, channels, one.data(), zero.data(), gamma, beta, zeta);
    return;
  }
  for (int64_t o = 0; o < outer; o++)
    for (int64_t c = 0; c < channels; c++) {
      Triple p = {V{} + gamma[c], V{} + beta[c], V{} + zeta[c]};
      int64_t at = (o * channels + c) * inner;
      for (int64_t i = at; i < at + inner; i += LANES) store(y + i, eq1(load(x + i), p));
    }
}

template <class T>
void act_backward(const T* grad, const T* x, T* d_x, int64_t outer, int64_t channels, int64_t inner,
                  const float* gamma, const float* beta, const float* zeta, float* d_gamma,
                  float* d_beta, float* d_zeta) {
  std::vector<double> sums(3 * channels);
  double* total = sums.data();
  if (inner == 1) {
    auto run = channels % (2 * LANES) ? rows_backward<1, T> : rows_backward<2, T>;
    run(grad, x, d_x, outer, channels, gamma, beta, zeta, total);
  } else {
    for (int64_t o = 0; o < outer; o++)
      for (int64_t c = 0; c < channels; c++) {
        Triple p = {V{} + gamma[c], V{} + beta[c], V{} + zeta[c]};
        V s[3] = {};
        int64_t at = (o * channels + c) * inner;
        for (int64_t i = at; i < at + inner; i += LANES)
          store(d_x + i, inward<SNT>(load(grad + i), load(x + i), p, s[0], s[1], s[2]));
        for (int j = 0; j < 3; j++)
          for (int i = 0; i < LANES; i++) total[j * channels + c] += s[j][i];
      }
  }
  for (int64_t c = 0; c < channels; c++) {
    d_gamma[c] = total[c];
    d_beta[c] = total[channels + c];
    d_zeta[c] = total[2 * channels + c];
  }
}

template <int N, class T>
void norm_backward(const T* grad, const T* x, const T* y, T* d_x, T* d_plus, int64_t rows,
                   int64_t channels, int64_t act, const float* scale, const float* shift,
                   const float* mean, const float* inverse, const float* gamma, const float* beta,
                   const float* zeta, float* d_scale, float* d_shift, float* d_gamma, float* d_beta,
                   float* d_zeta) {
  auto run = act == RELU  ? backward<N, RELU, T>
             : act == SNT ? backward<N, SNT, T>
                          : backward<N, NONE, T>;
  run(grad, x, y, d_x, d_plus, rows, channels, scale, shift, mean, inverse, gamma, beta, zeta,
      d_scale, d_shift, d_gamma, d_beta, d_zeta);
}

}  // namespace

#define FOR(T, NAME)                                                                              \
  extern "C" void norm_forward_##NAME(                                                            \
      const T* x, const T* plus, T* y, int64_t rows, int64_t channels, int64_t act, float eps,        \
      const float* weight, const float* bias, const float* gamma, const float* beta,              \
      const float* zeta, float* mean, float* variance, float* inverse, float* scale,              \
      float* shift) {                                                                             \
    auto run = channels % (2 * LANES) ? norm_forward<1, T> : norm_forward<2, T>;                  \
    run(x, plus, y, rows, channels, act, eps, weight, bias, gamma, beta, zeta, mean,     \
                 variance, inverse, scale, shift);                                                \
  }                                                                                               \
  extern "C" void norm_backward_##NAME(                                                           \
      const T* grad, const T* x, const T* y, T* d_x, T* d_plus, int64_t rows, int64_t channels,   \
      int64_t act, const float* scale, const float* shift, const float* mean, const float* inverse,   \
      const float* gamma, const float* beta, const float* zeta, float* d_scale, float* d_shift,   \
      float* d_gamma, float* d_beta, float* d_zeta) {                                             \
    auto run = channels % (2 * LANES) ? norm_backward<1, T> : norm_backward<2, T>;                \
    run(grad, x, y, d_x, d_plus, rows, channels, act, scale, shift, mean, inverse,      \
                  gamma, beta, zeta, d_scale, d_shift, d_gamma, d_beta, d_zeta);                  \
  }                                                                                               \
  extern "C" void act_forward_##NAME(const T* x, T* y, int64_t outer, int64_t channels,           \
                                     int64_t inner, const float* gamma, const float* beta,        \
                                     const float* zeta) {                                         \
    act_forward(x, y, outer, channels, inner, gamma, beta, zeta);                                 \
  }                                                                                               \
  extern "C" void act_backward_##NAME(const T* grad, const T* x, T* d_x, int64_t outer,           \
                                      int64_t channels, int64_t inner, const float* gamma,        \
                                      const float* beta, const float* zeta, float* d_gamma,       \
                                      float* d_beta, float* d_zeta) {                             \
    act_backward(grad, x, d_x, outer, channels, inner, gamma, beta, zeta, d_gamma, d_beta,        \
                 d_zeta);                                                                         \
  }

FOR(float, float32)
FOR(bf16, bfloat16)
