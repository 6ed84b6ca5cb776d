// Thin-plate splines in two dimensions: radial basis, fit, evaluation, and the adjoints of all of them.
//
// Coordinates are (x, y) in [-1, 1] with align_corners. A spline is theta (2, 3), columns x, y, 1, and for each of its
// n control points a weight (2,); arrays are row-major: T(p) = theta [p; 1] + sum_i weights_i U(|p - c_i|^2).
// T is float or double. Gradients with respect to small parameters are returned per pixel; the caller sums them.
#pragma once

#include "elementary.h"

namespace lami {

constexpr int kMinPoints = 3;
constexpr int kMaxPoints = 16;

template <typename T>
struct Point {
  T x, y;
};

// Centre of pixel i of n; a side of one pixel is at -1. The numerator is exact, so the grid is symmetric.
template <typename T>
LAMI_HD T pixel_coordinate(int64_t i, int64_t n) {
  return n > 1 ? static_cast<T>(2 * i - (n - 1)) / static_cast<T>(n - 1) : T(-1);
}

template <typename T>
struct Radial {
  T value, slope;
};

constexpr double kRadialEpsilon = 1e-9;

// U(s) = s ln(s + 1e-9) of a squared distance s.
template <typename T>
LAMI_HD T radial_value(T s) {
  return s * natural_log(s + T(kRadialEpsilon));
}

// U(s) and dU/ds.
template <typename T>
LAMI_HD Radial<T> radial(T s) {
  const T shifted = s + T(kRadialEpsilon);
  const T logarithm = natural_log(shifted);
  return {s * logarithm, logarithm + s / shifted};
}

// ---- fit ------------------------------------------------------------------------------------------------------------

// The symmetric system of a fit with two right-hand sides in its last columns.
template <int N, typename T>
struct SplineSystem {
  static constexpr int kSize = N + 3;
  T rows[kSize][kSize + 2];

  // L + regularization I with L = [[U, P], [P^T, 0]], P = [x, y, 1].
  LAMI_HD void assemble(const T* points, T regularization) {
    LAMI_UNROLL
    for (int i = 0; i < N; ++i) {
      LAMI_UNROLL
      for (int j = 0; j < i; ++j) {
        const T dx = points[2 * i] - points[2 * j], dy = points[2 * i + 1] - points[2 * j + 1];
        rows[i][j] = rows[j][i] = radial_value(dx * dx + dy * dy);
      }
      rows[i][i] = regularization;
      rows[i][N] = rows[N][i] = points[2 * i];
      rows[i][N + 1] = rows[N + 1][i] = points[2 * i + 1];
      rows[i][N + 2] = rows[N + 2][i] = T(1);
    }
    LAMI_UNROLL
    for (int i = N; i < kSize; ++i) {
      LAMI_UNROLL
      for (int j = N; j < kSize; ++j) rows[i][j] = i == j ? regularization : T(0);
    }
  }

  // Replaces the right-hand sides by the solution: Gaussian elimination with row pivots (the system is indefinite).
  // Every index is a compile-time constant once unrolled. A singular system gives infinities or NaN.
  LAMI_HD void solve() {
    LAMI_UNROLL
    for (int column = 0; column < kSize; ++column) {
      int pivot = column;
      T largest = ::fabs(rows[column][column]);
      LAMI_UNROLL
      for (int row = column + 1; row < kSize; ++row) {
        const T candidate = ::fabs(rows[row][column]);
        pivot = candidate > largest ? row : pivot;
        largest = candidate > largest ? candidate : largest;
      }
      LAMI_UNROLL
      for (int row = column + 1; row < kSize; ++row) {
        if (row == pivot) swap_rows(column, row);
      }
      const T inverse = T(1) / rows[column][column];
      LAMI_UNROLL
      for (int row = column + 1; row < kSize; ++row) {
        const T factor = rows[row][column] * inverse;
        LAMI_UNROLL
        for (int k = column + 1; k < kSize + 2; ++k) rows[row][k] -= factor * rows[column][k];
      }
    }
    LAMI_UNROLL
    for (int row = kSize - 1; row >= 0; --row) {
      LAMI_UNROLL
      for (int side = kSize; side < kSize + 2; ++side) {
        T sum = rows[row][side];
        LAMI_UNROLL
        for (int k = row + 1; k < kSize; ++k) sum -= rows[row][k] * rows[k][side];
        rows[row][side] = sum / rows[row][row];
      }
    }
  }

 private:
  LAMI_HD void swap_rows(int a, int b) {
    LAMI_UNROLL
    for (int k = 0; k < kSize + 2; ++k) {
      const T kept = rows[a][k];
      rows[a][k] = rows[b][k];
      rows[b][k] = kept;
    }
  }
};

// points, values (N, 2) -> theta (2, 3), weights (N, 2).
template <int N, typename T>
LAMI_HD void fit_spline(const T* points, const T* values, T regularization, T* theta, T* weights) {
  SplineSystem<N, T> system;
  system.assemble(points, regularization);
  LAMI_UNROLL
  for (int side = 0; side < 2; ++side) {
    LAMI_UNROLL
    for (int i = 0; i < N; ++i) system.rows[i][N + 3 + side] = values[2 * i + side];
    LAMI_UNROLL
    for (int i = N; i < N + 3; ++i) system.rows[i][N + 3 + side] = T(0);
  }
  system.solve();
  LAMI_UNROLL
  for (int side = 0; side < 2; ++side) {
    LAMI_UNROLL
    for (int i = 0; i < N; ++i) weights[2 * i + side] = system.rows[i][N + 3 + side];
    LAMI_UNROLL
    for (int i = 0; i < 3; ++i) theta[3 * side + i] = system.rows[N + i][N + 3 + side];
  }
}

// Gradients of points and values, both (N, 2), from those of theta and weights; theta and weights are the fit's result.
// With A z = b and the symmetric A, u = A^-1 grad_z is the gradient of b and -u z^T that of A.
template <int N, typename T>
LAMI_HD void fit_spline_adjoint(const T* grad_theta, const T* grad_weights, const T* points, const T* theta,
                                const T* weights, T regularization, T* grad_points, T* grad_values) {
  SplineSystem<N, T> system;
  system.assemble(points, regularization);
  LAMI_UNROLL
  for (int side = 0; side < 2; ++side) {
    LAMI_UNROLL
    for (int i = 0; i < N; ++i) system.rows[i][N + 3 + side] = grad_weights[2 * i + side];
    LAMI_UNROLL
    for (int i = 0; i < 3; ++i) system.rows[N + i][N + 3 + side] = grad_theta[3 * side + i];
  }
  system.solve();
  LAMI_UNROLL
  for (int i = 0; i < N; ++i) {
    const T ux = system.rows[i][N + 3], uy = system.rows[i][N + 4];
    grad_values[2 * i] = ux;
    grad_values[2 * i + 1] = uy;
    LAMI_UNROLL
    for (int axis = 0; axis < 2; ++axis) {
      const T* affine = system.rows[N + axis];
      grad_points[2 * i + axis] = -(ux * theta[axis] + uy * theta[3 + axis]) -
                                  (affine[N + 3] * weights[2 * i] + affine[N + 4] * weights[2 * i + 1]);
    }
    LAMI_UNROLL
    for (int j = 0; j < i; ++j) {
      const T dx = points[2 * i] - points[2 * j], dy = points[2 * i + 1] - points[2 * j + 1];
      const T of_entries = ux * weights[2 * j] + uy * weights[2 * j + 1] +
                           system.rows[j][N + 3] * weights[2 * i] + system.rows[j][N + 4] * weights[2 * i + 1];
      const T scale = T(-2) * of_entries * radial(dx * dx + dy * dy).slope;
      grad_points[2 * i] += scale * dx;
      grad_points[2 * i + 1] += scale * dy;
      grad_points[2 * j] -= scale * dx;
      grad_points[2 * j + 1] -= scale * dy;
    }
  }
}

// ---- evaluation -----------------------------------------------------------------------------------------------------

template <typename T>
LAMI_HD Point<T> spline_at(const T* theta, const T* weights, const T* points, int n, T x, T y) {
  Point<T> sum = {theta[0] * x + theta[1] * y + theta[2], theta[3] * x + theta[4] * y + theta[5]};
  for (int i = 0; i < n; ++i) {
    const T dx = x - points[2 * i], dy = y - points[2 * i + 1];
    const T u = radial_value(dx * dx + dy * dy);
    sum.x += weights[2 * i] * u;
    sum.y += weights[2 * i + 1] * u;
  }
  return sum;
}

// What one control point adds at an offset p - c: its value, and the gradients for a gradient of the spline's value.
// The gradient of theta is grad [p; 1]^T.
template <typename T>
struct RadialTerm {
  Point<T> value, grad_weight, grad_point;
};

template <typename T>
LAMI_HD RadialTerm<T> radial_term(T dx, T dy, Point<T> weight, Point<T> grad) {
  const Radial<T> u = radial(dx * dx + dy * dy);
  const T scale = T(-2) * u.slope * (weight.x * grad.x + weight.y * grad.y);
  return {{weight.x * u.value, weight.y * u.value}, {grad.x * u.value, grad.y * u.value}, {scale * dx, scale * dy}};
}

// ---- background and heatmaps ----------------------------------------------------------------------------------------

// A homogeneous map (3, 3).
template <typename T>
LAMI_HD Point<T> background_at(const T* map, T x, T y) {
  const T z = map[6] * x + map[7] * y + map[8];
  return {(map[0] * x + map[1] * y + map[2]) / z, (map[3] * x + map[4] * y + map[5]) / z};
}

// Gradient g (3,) of the homogeneous coordinates; that of the map is g [x, y, 1].
template <typename T>
LAMI_HD void background_adjoint(const T* map, T x, T y, Point<T> grad, T* g) {
  const T inverse = T(1) / (map[6] * x + map[7] * y + map[8]);
  g[0] = grad.x * inverse;
  g[1] = grad.y * inverse;
  g[2] = -(g[0] * (map[0] * x + map[1] * y + map[2]) + g[1] * (map[3] * x + map[4] * y + map[5])) * inverse;
}

// exp(-s / (2 variance)) of a squared distance s. It separates: the Gaussian of dx^2 + dy^2 is that of dx^2 times that
// of dy^2. Its gradient with respect to the centre is the Gaussian times (p - c) / variance.
template <typename T>
LAMI_HD T gaussian(T s, T variance) {
  return exponential(s / (T(-2) * variance));
}

}  // namespace lami
