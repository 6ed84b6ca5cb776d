// Rows of the blend of K + 1 motions: contributions from logits, and the gradient of the logits.
//
// Row arrays are (channels, width): channel 0 is the background. To be called inside `simd` (simd.h).
#pragma once

#include "rows.h"

namespace lami {
// How motions that are not kept leave the softmax. `keep` (channels) may be null: a plain softmax.
struct Dropout {
  const bool* keep;
  bool corrected;

  LAMI_HD bool kept(int64_t channel) const { return !keep || keep[channel]; }
  // The softmax of `reference` dropout subtracts the maximum over all channels and adds an epsilon to the sum.
  LAMI_HD bool reference() const { return keep && !corrected; }
};

constexpr double kDropoutEpsilon = 1e-6;

template <typename T>
LAMI_HD void peak_row(const T* __restrict logits, const Dropout& dropout, int64_t channels, int64_t width,
                      T* __restrict peak) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) peak[i] = -INFINITY;
  for (int64_t k = 0; k < channels; ++k) {
    if (!dropout.reference() && !dropout.kept(k)) continue;
    const T* row = logits + k * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) peak[i] = row[i] > peak[i] ? row[i] : peak[i];
  }
}

// scratch (2, width).
template <typename T>
LAMI_HD void softmax_rows(const T* __restrict logits, const Dropout& dropout, int64_t channels, int64_t width,
                          T* __restrict contributions, T* __restrict scratch) {
  T* __restrict peak = scratch;
  T* __restrict sum = scratch + width;
  peak_row(logits, dropout, channels, width, peak);
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) sum[i] = dropout.reference() ? T(kDropoutEpsilon) : T(0);
  for (int64_t k = 0; k < channels; ++k) {
    const T* in = logits + k * width;
    T* out = contributions + k * width;
    const T kept = dropout.kept(k) ? T(1) : T(0);
    if (!dropout.reference() && kept == T(0)) {
#pragma omp simd
      for (int64_t i = 0; i < width; ++i) out[i] = 0;
      continue;
    }
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      out[i] = exponential(in[i] - peak[i]) * kept;
      sum[i] += out[i];
    }
  }
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) sum[i] = T(1) / sum[i];
  for (int64_t k = 0; k < channels; ++k) {
    T* out = contributions + k * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) out[i] *= sum[i];
  }
}

// Turns the gradient of the contributions (channels, width) into that of the logits, in place. scratch (3, width).
template <typename T>
LAMI_HD void softmax_rows_adjoint(const T* __restrict logits, const T* __restrict contributions,
                                  const Dropout& dropout, int64_t channels, int64_t width, T* __restrict grad,
                                  T* __restrict scratch) {
  T* __restrict dot = scratch;
  T* __restrict total = scratch + width;
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) dot[i] = total[i] = 0;
  for (int64_t k = 0; k < channels; ++k) {
    const T* c = contributions + k * width;
    const T* g = grad + k * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      dot[i] += c[i] * g[i];
      total[i] += c[i];
    }
  }
  for (int64_t k = 0; k < channels; ++k) {
    const T* c = contributions + k * width;
    T* g = grad + k * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) g[i] = c[i] * (g[i] - dot[i]);
  }
  if (!dropout.reference()) return;
  // The epsilon leaves a gradient to the maximum, shared evenly by the channels that attain it.
  T* __restrict peak = scratch + 2 * width;
  peak_row(logits, dropout, channels, width, peak);
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) dot[i] *= T(1) - total[i];
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) total[i] = 0;
  for (int64_t k = 0; k < channels; ++k) {
    const T* x = logits + k * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) total[i] += x[i] == peak[i] ? T(1) : T(0);
  }
  for (int64_t k = 0; k < channels; ++k) {
    const T* x = logits + k * width;
    T* g = grad + k * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) g[i] -= x[i] == peak[i] ? dot[i] / total[i] : T(0);
  }
}

// Adds contribution times motion to the flow of a row.
template <typename T>
LAMI_HD void blend_row(const T* __restrict contribution, const T* __restrict to_x, const T* __restrict to_y,
                       int64_t width, T* __restrict flow_x, T* __restrict flow_y) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    flow_x[i] += contribution[i] * to_x[i];
    flow_y[i] += contribution[i] * to_y[i];
  }
}

// The gradient of a motion: its contribution times that of the flow.
template <typename T>
LAMI_HD void scale_rows(const T* __restrict contribution, const T* __restrict flow_x, const T* __restrict flow_y,
                        int64_t width, T* __restrict grad_x, T* __restrict grad_y) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    grad_x[i] = contribution[i] * flow_x[i];
    grad_y[i] = contribution[i] * flow_y[i];
  }
}

// Adds the gradient of one contribution to `grad`.
template <typename T>
LAMI_HD void blend_row_adjoint(const T* __restrict flow_x, const T* __restrict flow_y, const T* __restrict to_x,
                               const T* __restrict to_y, int64_t width, T* __restrict grad) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) grad[i] += flow_x[i] * to_x[i] + flow_y[i] * to_y[i];
}

}  // namespace lami
