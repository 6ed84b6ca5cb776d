// tps_grid: one task a block of rows of one spline.
#include "motions.h"
#include "simd.h"

namespace lami {
namespace {

// How many splines there are in theta (..., 2, 3), weights (..., N, 2) and points (..., N, 2).
int64_t check_parameters(const char* op, const Tensor& theta, const Tensor& weights, const Tensor& points) {
  const int64_t rank = theta.dim();
  bool fits = is_floating(theta.scalar_type()) && is_floating(weights.scalar_type()) &&
              is_floating(points.scalar_type()) && rank >= 2 && shape_of(weights) == shape_of(points) &&
              weights.dim() == rank && theta.size(rank - 2) == 2 && theta.size(rank - 1) == 3 &&
              weights.size(rank - 1) == 2;
  int64_t count = 1;
  for (int64_t axis = 0; fits && axis < rank - 2; ++axis) {
    fits = theta.size(axis) == weights.size(axis);
    count *= theta.size(axis);
  }
  STD_TORCH_CHECK(fits, op, ": theta, weights or control_points have the wrong shape");
  return count;
}

Tensor tps_grid(const Tensor& theta, const Tensor& weights, const Tensor& control_points, int64_t height,
                int64_t width) {
  const int64_t count = check_parameters("tps_grid", theta, weights, control_points);
  STD_TORCH_CHECK(height >= 0 && width >= 0, "tps_grid: height and width must not be negative");
  const ScalarType type = compute_type({&theta, &weights, &control_points});
  const int64_t n = weights.size(weights.dim() - 2), blocks = row_blocks(height);
  Shape shape = shape_of(theta);
  shape[shape.size() - 2] = height;
  shape[shape.size() - 1] = width;
  shape.push_back(2);
  Tensor grid = empty(shape, type, theta);
  const Tensor t = dense(theta, type), w = dense(weights, type), c = dense(control_points, type);
  dispatch_compute(type, "tps_grid", [&]<typename T>(std::type_identity<T>) {
    const T *thetas = read<T>(t), *all_weights = read<T>(w), *points = read<T>(c);
    T* out = written<T>(grid);
    parallel_tasks(count * blocks, [&](int64_t task) {
      const int64_t index = task / blocks, begin = task % blocks * kBlockRows;
      const int64_t end = std::min(begin + kBlockRows, height), offset = index * n * 2;
      const Spline<T> spline = {thetas + index * 6, all_weights + offset, points + offset, n};
      std::vector<T> memory(3 * width);
      T *xs = memory.data(), *to_x = xs + width, *to_y = to_x + width;
      simd([=, &spline] {
        coordinate_row(width, xs);
        for (int64_t y = begin; y < end; ++y) {
          spline_row(spline, xs, pixel_coordinate<T>(y, height), width, to_x, to_y);
          interleave_row(to_x, to_y, width, out + (index * height + y) * width * 2);
        }
      });
    });
  });
  return grid;
}

std::tuple<Tensor, Tensor, Tensor> tps_grid_backward(const Tensor& grad, const Tensor& theta, const Tensor& weights,
                                                     const Tensor& control_points) {
  const char* op = "tps_grid_backward";
  const int64_t count = check_parameters(op, theta, weights, control_points);
  const int64_t rank = theta.dim();
  bool fits = is_floating(grad.scalar_type()) && grad.dim() == rank + 1 && grad.size(rank) == 2;
  for (int64_t axis = 0; fits && axis < rank - 2; ++axis) fits = grad.size(axis) == theta.size(axis);
  STD_TORCH_CHECK(fits, op, ": grad has the wrong shape");
  const ScalarType type = compute_type({&theta, &weights, &control_points});
  const int64_t n = weights.size(rank - 2), size = spline_parameters(n);
  const int64_t height = grad.size(rank - 2), width = grad.size(rank - 1), blocks = row_blocks(height);
  const Tensor t = dense(theta, type), w = dense(weights, type), c = dense(control_points, type),
               g = dense(grad, type);
  Tensor grad_theta = zeros(shape_of(theta), type, theta), grad_weights = zeros(shape_of(weights), type, theta),
         grad_points = zeros(shape_of(control_points), type, theta);
  dispatch_compute(type, op, [&]<typename T>(std::type_identity<T>) {
    const T *thetas = read<T>(t), *all_weights = read<T>(w), *points = read<T>(c), *in = read<T>(g);
    std::vector<T> sums(count * blocks * size);
    T* all_sums = sums.data();
    parallel_tasks(count * blocks, [&](int64_t task) {
      const int64_t index = task / blocks, begin = task % blocks * kBlockRows;
      const int64_t end = std::min(begin + kBlockRows, height), offset = index * n * 2;
      const Spline<T> spline = {thetas + index * 6, all_weights + offset, points + offset, n};
      std::vector<T> memory(3 * width);
      T *xs = memory.data(), *grad_x = xs + width, *grad_y = grad_x + width;
      simd([=, &spline] {
        coordinate_row(width, xs);
        for (int64_t y = begin; y < end; ++y) {
          deinterleave_row(in + (index * height + y) * width * 2, 2, 1, width, grad_x, grad_y);
          spline_row_adjoint(spline, xs, pixel_coordinate<T>(y, height), width, grad_x, grad_y,
                             all_sums + task * size);
        }
      });
    });
    T *to_theta = written<T>(grad_theta), *to_weights = written<T>(grad_weights), *to_points = written<T>(grad_points);
    for (int64_t task = 0; task < count * blocks; ++task) {
      const int64_t index = task / blocks;
      const T* from = all_sums + task * size;
      for (int64_t i = 0; i < 6; ++i) to_theta[index * 6 + i] += from[i];
      for (int64_t i = 0; i < 2 * n; ++i) {
        to_weights[index * 2 * n + i] += from[6 + i];
        to_points[index * 2 * n + i] += from[6 + 2 * n + i];
      }
    }
  });
  return {gradient_like(theta, grad_theta), gradient_like(weights, grad_weights),
          gradient_like(control_points, grad_points)};
}

}  // namespace
}  // namespace lami

STABLE_TORCH_LIBRARY_IMPL(lami, CPU, m) {
  m.impl("tps_grid", TORCH_BOX(&lami::tps_grid));
  m.impl("tps_grid_backward", TORCH_BOX(&lami::tps_grid_backward));
}
