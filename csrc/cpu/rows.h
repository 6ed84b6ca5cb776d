// Rows of pixels: the inner loops of the spline ops, vectorised along x. To be called inside `simd` (simd.h).
#pragma once

#include <cstdint>
#include <type_traits>

#include "../math/spline.h"

namespace lami {
// The parameters of one spline; arrays as in math/spline.h.
template <typename T>
struct Spline {
  const T* theta;
  const T* weights;
  const T* points;
  int64_t n;
};

// Sums of gradients over pixels, in the order theta (2, 3), weights (n, 2), points (n, 2).
constexpr int64_t spline_parameters(int64_t n) { return 6 + 4 * n; }

// Blocks of rows are the tasks of the ops, and the first stage of sums over pixels, whatever the number of threads.
constexpr int64_t kBlockRows = 8;
constexpr int64_t row_blocks(int64_t height) { return (height + kBlockRows - 1) / kBlockRows; }

// A row in the compute type: where it lies if it has that type and is dense, else a copy in `scratch`.
template <typename T, typename S>
LAMI_HD const T* read_row(const S* from, int64_t stride, int64_t width, T* scratch) {
  if constexpr (std::is_same_v<T, S>) {
    if (stride == 1) return from;
  }
  for (int64_t i = 0; i < width; ++i) scratch[i] = static_cast<T>(from[i * stride]);
  return scratch;
}

// The same row of several channels, as (channels, width).
template <typename T, typename S>
LAMI_HD void copy_rows(const S* from, int64_t stride_channel, int64_t stride_x, int64_t channels, int64_t width,
                       T* __restrict to) {
  for (int64_t k = 0; k < channels; ++k) {
    for (int64_t i = 0; i < width; ++i) to[k * width + i] = static_cast<T>(from[k * stride_channel + i * stride_x]);
  }
}

// Where to compute a row that `write_row` then puts in its place.
template <typename T, typename S>
LAMI_HD T* row_to_write(S* to, int64_t stride, T* scratch) {
  if constexpr (std::is_same_v<T, S>) {
    if (stride == 1) return to;
  }
  return scratch;
}

template <typename T, typename S>
LAMI_HD void write_row(const T* row, S* to, int64_t stride, int64_t width) {
  if constexpr (std::is_same_v<T, S>) {
    if (row == to) return;
  }
  for (int64_t i = 0; i < width; ++i) to[i * stride] = static_cast<S>(row[i]);
}

// Positions (width, 2) and their coordinates.
template <typename T>
LAMI_HD void interleave_row(const T* __restrict xs, const T* __restrict ys, int64_t width, T* __restrict to) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    to[2 * i] = xs[i];
    to[2 * i + 1] = ys[i];
  }
}

template <typename T, typename S>
LAMI_HD void deinterleave_row(const S* __restrict from, int64_t stride_x, int64_t stride_axis, int64_t width,
                              T* __restrict xs, T* __restrict ys) {
  for (int64_t i = 0; i < width; ++i) {
    xs[i] = static_cast<T>(from[i * stride_x]);
    ys[i] = static_cast<T>(from[i * stride_x + stride_axis]);
  }
}

template <typename T>
LAMI_HD void coordinate_row(int64_t width, T* xs) {
  for (int64_t i = 0; i < width; ++i) xs[i] = pixel_coordinate<T>(i, width);
}

template <typename T>
LAMI_HD void spline_row(const Spline<T>& spline, const T* __restrict xs, T y, int64_t width, T* __restrict to_x,
                        T* __restrict to_y) {
  const T* theta = spline.theta;
  const T constant_x = theta[1] * y + theta[2], constant_y = theta[4] * y + theta[5];
  const T slope_x = theta[0], slope_y = theta[3];
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    to_x[i] = slope_x * xs[i] + constant_x;
    to_y[i] = slope_y * xs[i] + constant_y;
  }
  for (int64_t k = 0; k < spline.n; ++k) {
    const T cx = spline.points[2 * k], dy = y - spline.points[2 * k + 1];
    const T wx = spline.weights[2 * k], wy = spline.weights[2 * k + 1];
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      const T dx = xs[i] - cx;
      const T u = radial_value(dx * dx + dy * dy);
      to_x[i] += wx * u;
      to_y[i] += wy * u;
    }
  }
}

// Adds the gradients of the spline's parameters, for gradients (grad_x, grad_y) of a row of its values, to `sums`.
template <typename T>
LAMI_HD void spline_row_adjoint(const Spline<T>& spline, const T* __restrict xs, T y, int64_t width,
                                const T* __restrict grad_x, const T* __restrict grad_y, T* sums) {
  T total_x = 0, total_y = 0, along_x = 0, along_y = 0;
#pragma omp simd reduction(+ : total_x, total_y, along_x, along_y)
  for (int64_t i = 0; i < width; ++i) {
    total_x += grad_x[i];
    total_y += grad_y[i];
    along_x += grad_x[i] * xs[i];
    along_y += grad_y[i] * xs[i];
  }
  const T of_theta[6] = {along_x, total_x * y, total_x, along_y, total_y * y, total_y};
  for (int64_t k = 0; k < 6; ++k) sums[k] += of_theta[k];
  T* of_weights = sums + 6;
  T* of_points = of_weights + 2 * spline.n;
  for (int64_t k = 0; k < spline.n; ++k) {
    const T cx = spline.points[2 * k], dy = y - spline.points[2 * k + 1];
    const Point<T> weight = {spline.weights[2 * k], spline.weights[2 * k + 1]};
    T weight_x = 0, weight_y = 0, point_x = 0, point_y = 0;
#pragma omp simd reduction(+ : weight_x, weight_y, point_x, point_y)
    for (int64_t i = 0; i < width; ++i) {
      const RadialTerm<T> term = radial_term(xs[i] - cx, dy, weight, {grad_x[i], grad_y[i]});
      weight_x += term.grad_weight.x;
      weight_y += term.grad_weight.y;
      point_x += term.grad_point.x;
      point_y += term.grad_point.y;
    }
    of_weights[2 * k] += weight_x;
    of_weights[2 * k + 1] += weight_y;
    of_points[2 * k] += point_x;
    of_points[2 * k + 1] += point_y;
  }
}

// The background's motion; no map is the identity.
template <typename T>
LAMI_HD void background_row(const T* map, const T* __restrict xs, T y, int64_t width, T* __restrict to_x,
                            T* __restrict to_y) {
  if (!map) {
    for (int64_t i = 0; i < width; ++i) {
      to_x[i] = xs[i];
      to_y[i] = y;
    }
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    const Point<T> to = background_at(map, xs[i], y);
    to_x[i] = to.x;
    to_y[i] = to.y;
  }
}

// Adds the gradient of the map (3, 3) to `sums`.
template <typename T>
LAMI_HD void background_row_adjoint(const T* map, const T* __restrict xs, T y, int64_t width,
                                    const T* __restrict grad_x, const T* __restrict grad_y, T* sums) {
  T total[3] = {0, 0, 0}, along[3] = {0, 0, 0};
#pragma omp simd reduction(+ : total[:3], along[:3])
  for (int64_t i = 0; i < width; ++i) {
    T g[3];
    background_adjoint(map, xs[i], y, {grad_x[i], grad_y[i]}, g);
    for (int k = 0; k < 3; ++k) {
      total[k] += g[k];
      along[k] += g[k] * xs[i];
    }
  }
  for (int k = 0; k < 3; ++k) {
    sums[3 * k] += along[k];
    sums[3 * k + 1] += total[k] * y;
    sums[3 * k + 2] += total[k];
  }
}

}  // namespace lami
