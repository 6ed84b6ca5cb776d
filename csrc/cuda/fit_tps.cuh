// Spline fits of many systems at once, for every op that needs them.
#pragma once

#include "device.cuh"

namespace lami::cuda {

// The fits of `systems` splines of n points, arrays contiguous: points (systems, n, 2), theta (systems, 2, 3), weights
// (systems, n, 2). Values (systems / times, n, 2) are shared by times: systems are ordered (sample, time, spline).
template <class T>
struct Fits {
  const T* points;
  const T* values;
  int64_t systems;
  int n;
  T regularization;
  int64_t times = 1, splines = 1;

  LAMI_HD const T* values_of(int64_t system) const {
    const int64_t sample = system / (times * splines);
    return values + 2 * n * (sample * splines + system % splines);
  }
};

template <class T>
void fit(const Stream& stream, const Fits<T>& fits, T* theta, T* weights);

// Adds to the gradients of points and values, both (systems, n, 2); the latter for each time. `fits.values` is not
// read.
template <class T>
void fit_backward(const Stream& stream, const Fits<T>& fits, const T* theta, const T* weights, const T* grad_theta,
                  const T* grad_weights, T* grad_points, T* grad_values);

}  // namespace lami::cuda
