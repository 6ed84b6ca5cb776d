// fit_tps: a group of lanes solves a system, one row each, without local memory and without the host.
#include "fit_tps.cuh"

#include "../math/spline.h"
#include "solve.cuh"
#include "tensors.cuh"

namespace lami::cuda {
namespace {

// Row `i` of L + regularization I, and its right-hand side zero; rows past n + 3 are those of the identity.
template <int kRows, class T>
LAMI_DEVICE void assemble(Row<T, kRows>& row, int i, const T* points, int n, T regularization) {
  const bool is_point = i < n;
  const T x = is_point ? points[2 * i] : T(0), y = is_point ? points[2 * i + 1] : T(0);
  LAMI_UNROLL
  for (int j = 0; j < kRows; ++j) {
    T entry = T(0);
    if (i == j) {
      entry = i < n + 3 ? regularization : T(1);
    } else if (is_point && j < n) {
      const T dx = x - points[2 * j], dy = y - points[2 * j + 1];
      entry = radial_value(dx * dx + dy * dy);
    } else if (is_point && j < n + 3) {
      entry = j == n ? x : j == n + 1 ? y : T(1);
    } else if (j < n && i < n + 3) {
      entry = i == n + 2 ? T(1) : points[2 * j + (i - n)];
    }
    row.matrix[j] = entry;
  }
  row.right[0] = row.right[1] = T(0);
}

template <class Shape, class T>
struct FitKernel {
  static constexpr int kThreads = 128;
  using Shared = Nothing;

  Fits<T> fits;
  T* theta;
  T* weights;

  LAMI_DEVICE void operator()(const Block& block, Shared&) const {
    const int n = fits.n, lane = block.thread % Shape::kLanes;
    const int64_t group = int64_t{block.index} * (kThreads / Shape::kLanes) + block.thread / Shape::kLanes;
    const int64_t system = group < fits.systems ? group : fits.systems - 1;  // every lane takes part
    Row<T, Shape::kRows> row;
    assemble(row, lane, fits.points + 2 * n * system, n, fits.regularization);
    if (lane < n) {
      const T* values = fits.values_of(system);
      row.right[0] = values[2 * lane];
      row.right[1] = values[2 * lane + 1];
    }
    T unknown[2];
    solve<Shape>(block, row, unknown);
    if (group >= fits.systems) return;
    for (int side = 0; side < 2; ++side) {
      if (lane < n) {
        weights[2 * (n * system + lane) + side] = unknown[side];
      } else if (lane < n + 3) {
        theta[6 * system + 3 * side + (lane - n)] = unknown[side];
      }
    }
  }
};

// With A z = b and the symmetric A, u = A^-1 grad_z is the gradient of b and -u z^T that of A; see spline.h.
template <class Shape, class T>
struct FitBackwardKernel {
  static constexpr int kThreads = 128;
  using Shared = Nothing;

  Fits<T> fits;
  const T* theta;
  const T* weights;
  const T* grad_theta;
  const T* grad_weights;
  T* grad_points;
  T* grad_values;

  LAMI_DEVICE void operator()(const Block& block, Shared&) const {
    constexpr int kLanes = Shape::kLanes;
    const int n = fits.n, lane = block.thread % kLanes;
    const int64_t group = int64_t{block.index} * (kThreads / kLanes) + block.thread / kLanes;
    const int64_t system = group < fits.systems ? group : fits.systems - 1;
    const T* points = fits.points + 2 * n * system;
    const T* w = weights + 2 * n * system;
    const T* affine = theta + 6 * system;
    Row<T, Shape::kRows> row;
    assemble(row, lane, points, n, fits.regularization);
    for (int side = 0; side < 2; ++side) {
      if (lane < n) {
        row.right[side] = grad_weights[2 * (n * system + lane) + side];
      } else if (lane < n + 3) {
        row.right[side] = grad_theta[6 * system + 3 * side + (lane - n)];
      }
    }
    T u[2];
    solve<Shape>(block, row, u);

    const int mine = lane < n ? lane : 0;
    const T x = points[2 * mine], y = points[2 * mine + 1], wx = w[2 * mine], wy = w[2 * mine + 1];
    T sums[2];
    for (int axis = 0; axis < 2; ++axis) {
      const T ux = block.from_lane(u[0], n + axis, kLanes), uy = block.from_lane(u[1], n + axis, kLanes);
      sums[axis] = -(u[0] * affine[axis] + u[1] * affine[3 + axis]) - (ux * wx + uy * wy);
    }
    for (int j = 0; j < n; ++j) {
      const T ux = block.from_lane(u[0], j, kLanes), uy = block.from_lane(u[1], j, kLanes);
      const T dx = x - points[2 * j], dy = y - points[2 * j + 1];
      const T of_entries = u[0] * w[2 * j] + u[1] * w[2 * j + 1] + ux * wx + uy * wy;
      const T scale = T(-2) * of_entries * radial(dx * dx + dy * dy).slope;
      sums[0] += scale * dx;
      sums[1] += scale * dy;
    }
    if (group >= fits.systems || lane >= n) return;
    for (int axis = 0; axis < 2; ++axis) {
      grad_points[2 * (n * system + lane) + axis] += sums[axis];
      grad_values[2 * (n * system + lane) + axis] += u[axis];
    }
  }
};

template <template <class, class> class Kernel, class T, class... Outputs>
void launch_fit(const Stream& stream, const Fits<T>& fits, Outputs... outputs) {
  const auto launch = [&]<class Shape>(Shape) {
    const int64_t groups = Kernel<Shape, T>::kThreads / Shape::kLanes;
    stream.launch(Kernel<Shape, T>{fits, outputs...}, ceil_div(fits.systems, groups));
  };
  if (fits.n + 3 <= 8) {
    launch(SystemShape<8, 8>{});
  } else if (fits.n + 3 <= 16) {
    launch(SystemShape<16, 16>{});
  } else {
    launch(SystemShape<kMaxPoints + 3, 32>{});
  }
}

}  // namespace

template <class T>
void fit(const Stream& stream, const Fits<T>& fits, T* theta, T* weights) {
  launch_fit<FitKernel>(stream, fits, theta, weights);
}

template <class T>
void fit_backward(const Stream& stream, const Fits<T>& fits, const T* theta, const T* weights, const T* grad_theta,
                  const T* grad_weights, T* grad_points, T* grad_values) {
  launch_fit<FitBackwardKernel>(stream, fits, theta, weights, grad_theta, grad_weights, grad_points, grad_values);
}

template void fit(const Stream&, const Fits<float>&, float*, float*);
template void fit(const Stream&, const Fits<double>&, double*, double*);
template void fit_backward(const Stream&, const Fits<float>&, const float*, const float*, const float*, const float*,
                           float*, float*);
template void fit_backward(const Stream&, const Fits<double>&, const double*, const double*, const double*,
                           const double*, double*, double*);

namespace {

void check_points(const char* op, const Tensor& points, const Tensor& like) {
  STD_TORCH_CHECK(is_floating(points.scalar_type()) && points.dim() >= 2 && points.size(-1) == 2 &&
                      points.size(-2) >= kMinPoints && points.size(-2) <= kMaxPoints &&
                      shape_of(points) == shape_of(like),
                  op, ": points and values must be floating, of one shape (..., 3 to 16, 2)");
}

template <class T>
Fits<T> fits_of(const Tensor& points, double regularization) {
  const int n = static_cast<int>(points.size(-2));
  return {data<const T>(points), nullptr, points.numel() / (2 * n), n, static_cast<T>(regularization)};
}

std::tuple<Tensor, Tensor> fit_tps(const Tensor& control_points, const Tensor& values, double regularization) {
  check_points("fit_tps", values, control_points);
  check_points("fit_tps", control_points, values);
  check_same_device("fit_tps", control_points, {&values});
  const ScalarType type = compute_type({&control_points, &values});
  Shape affine = shape_of(control_points);
  affine[affine.size() - 2] = 2;
  affine[affine.size() - 1] = 3;
  Tensor theta = empty(affine, type, control_points);
  Tensor weights = empty(shape_of(control_points), type, control_points);
  if (weights.numel() == 0) return {theta, weights};
  const Stream stream(control_points);
  const Tensor points = packed(control_points, type), targets = packed(values, type);
  dispatch_compute(type, "fit_tps", [&]<class T>(std::type_identity<T>) {
    Fits<T> fits = fits_of<T>(points, regularization);
    fits.values = data<const T>(targets);
    fit(stream, fits, data<T>(theta), data<T>(weights));
  });
  return {theta, weights};
}

std::tuple<Tensor, Tensor> fit_tps_backward(const Tensor& grad_theta, const Tensor& grad_weights,
                                            const Tensor& control_points, const Tensor& theta, const Tensor& weights,
                                            double regularization) {
  constexpr const char* kOp = "fit_tps_backward";
  check_points(kOp, weights, control_points);
  check_points(kOp, grad_weights, control_points);
  STD_TORCH_CHECK(theta.numel() == weights.numel() / weights.size(-2) * 3 && shape_of(grad_theta) == shape_of(theta),
                  kOp, ": theta and its gradient must be (..., 2, 3)");
  check_same_device(kOp, control_points, {&grad_theta, &grad_weights, &theta, &weights});
  const ScalarType type = weights.scalar_type();
  Tensor grad_points = zeros(shape_of(control_points), type, control_points);
  Tensor grad_values = zeros(shape_of(control_points), type, control_points);
  if (weights.numel() > 0) {
    const Stream stream(control_points);
    const Tensor points = packed(control_points, type), affine = packed(theta, type), radial = packed(weights, type);
    const Tensor of_theta = packed(grad_theta, type), of_weights = packed(grad_weights, type);
    dispatch_compute(type, kOp, [&]<class T>(std::type_identity<T>) {
      fit_backward(stream, fits_of<T>(points, regularization), data<const T>(affine), data<const T>(radial),
                   data<const T>(of_theta), data<const T>(of_weights), data<T>(grad_points), data<T>(grad_values));
    });
  }
  return {cast(grad_points, control_points.scalar_type()), grad_values};
}

}  // namespace
}  // namespace lami::cuda

LAMI_CUDA_OPS(m) {
  m.impl("fit_tps", TORCH_BOX(&lami::cuda::fit_tps));
  m.impl("fit_tps_backward", TORCH_BOX(&lami::cuda::fit_tps_backward));
}
