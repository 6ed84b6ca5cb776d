// fit_tps: batches of small pivoted solves, one system on the stack at a time.
#include "fit.h"

#include "../math/spline.h"
#include "../tensors.h"

namespace lami {
namespace {

constexpr int64_t kFitsPerTask = 32;

// f(std::integral_constant<int, N>{}) for 3 <= n <= 16.
template <int N = kMinPoints, typename Function>
void dispatch_points(int64_t n, const Function& f) {
  if constexpr (N <= kMaxPoints) {
    if (n == N) return f(std::integral_constant<int, N>{});
    dispatch_points<N + 1>(n, f);
  }
}

// fit(i, points<N>) for each of `count` systems.
template <typename Function>
void for_each_fit(int64_t count, int64_t n, const Function& fit) {
  STD_TORCH_CHECK(kMinPoints <= n && n <= kMaxPoints, "fit_tps: a spline takes 3 to 16 control points");
  dispatch_points(n, [&](auto points) {
    parallel_tasks((count + kFitsPerTask - 1) / kFitsPerTask, [&](int64_t task) {
      const int64_t end = std::min(count, (task + 1) * kFitsPerTask);
      for (int64_t i = task * kFitsPerTask; i < end; ++i) fit(i, points);
    });
  });
}

Shape with_tail(const Tensor& tensor, int64_t rows, int64_t columns) {
  Shape shape = shape_of(tensor);
  shape[shape.size() - 2] = rows;
  shape[shape.size() - 1] = columns;
  return shape;
}

void check_points(const char* op, const char* name, const Tensor& tensor) {
  STD_TORCH_CHECK(is_floating(tensor.scalar_type()) && tensor.dim() >= 2 && tensor.size(tensor.dim() - 1) == 2, op,
                  ": ", name, " must be floating of shape (..., N, 2)");
}

Tensor dense(const Tensor& tensor, ScalarType type) { return torch::stable::contiguous(cast(tensor, type)); }

std::tuple<Tensor, Tensor> fit_tps(const Tensor& control_points, const Tensor& values, double regularization) {
  check_points("fit_tps", "control_points", control_points);
  check_points("fit_tps", "values", values);
  STD_TORCH_CHECK(shape_of(control_points) == shape_of(values), "fit_tps: control_points and values differ in shape");
  const ScalarType type = compute_type({&control_points, &values});
  const int64_t n = control_points.size(control_points.dim() - 2);
  const Tensor points = dense(control_points, type), to = dense(values, type);
  Tensor theta = empty(with_tail(points, 2, 3), type, points), weights = empty(with_tail(points, n, 2), type, points);
  dispatch_compute(type, "fit_tps", [&]<typename T>(std::type_identity<T>) {
    fit_splines(static_cast<const T*>(points.const_data_ptr()), static_cast<const T*>(to.const_data_ptr()),
                theta.numel() / 6, n, regularization, static_cast<T*>(theta.mutable_data_ptr()),
                static_cast<T*>(weights.mutable_data_ptr()));
  });
  return {theta, weights};
}

std::tuple<Tensor, Tensor> fit_tps_backward(const Tensor& grad_theta, const Tensor& grad_weights,
                                            const Tensor& control_points, const Tensor& theta, const Tensor& weights,
                                            double regularization) {
  check_points("fit_tps_backward", "control_points", control_points);
  const int64_t n = control_points.size(control_points.dim() - 2);
  const Shape of_theta = with_tail(control_points, 2, 3), of_weights = shape_of(control_points);
  STD_TORCH_CHECK(shape_of(theta) == of_theta && shape_of(grad_theta) == of_theta && shape_of(weights) == of_weights &&
                      shape_of(grad_weights) == of_weights,
                  "fit_tps_backward: theta, weights or their gradients have the wrong shape");
  const ScalarType type = compute_type({&theta});
  const Tensor points = dense(control_points, type), t = dense(theta, type), w = dense(weights, type),
               grad_t = dense(grad_theta, type), grad_w = dense(grad_weights, type);
  Tensor grad_points = empty(of_weights, type, points), grad_values = empty(of_weights, type, points);
  dispatch_compute(type, "fit_tps_backward", [&]<typename T>(std::type_identity<T>) {
    const auto data = [](const Tensor& tensor) { return static_cast<const T*>(tensor.const_data_ptr()); };
    fit_splines_adjoint(data(grad_t), data(grad_w), data(points), data(t), data(w), t.numel() / 6, n, regularization,
                        static_cast<T*>(grad_points.mutable_data_ptr()),
                        static_cast<T*>(grad_values.mutable_data_ptr()));
  });
  return {cast(grad_points, control_points.scalar_type()), grad_values};
}

}  // namespace

template <typename T>
void fit_splines(const T* points, const T* values, int64_t count, int64_t n, double regularization, T* theta,
                 T* weights) {
  for_each_fit(count, n, [&]<int N>(int64_t i, std::integral_constant<int, N>) {
    const int64_t offset = i * 2 * N;
    fit_spline<N>(points + offset, values + offset, static_cast<T>(regularization), theta + i * 6, weights + offset);
  });
}

template <typename T>
void fit_splines_adjoint(const T* grad_theta, const T* grad_weights, const T* points, const T* theta, const T* weights,
                         int64_t count, int64_t n, double regularization, T* grad_points, T* grad_values) {
  for_each_fit(count, n, [&]<int N>(int64_t i, std::integral_constant<int, N>) {
    const int64_t offset = i * 2 * N;
    fit_spline_adjoint<N>(grad_theta + i * 6, grad_weights + offset, points + offset, theta + i * 6, weights + offset,
                          static_cast<T>(regularization), grad_points + offset, grad_values + offset);
  });
}

template void fit_splines(const float*, const float*, int64_t, int64_t, double, float*, float*);
template void fit_splines(const double*, const double*, int64_t, int64_t, double, double*, double*);
template void fit_splines_adjoint(const float*, const float*, const float*, const float*, const float*, int64_t,
                                  int64_t, double, float*, float*);
template void fit_splines_adjoint(const double*, const double*, const double*, const double*, const double*, int64_t,
                                  int64_t, double, double*, double*);

}  // namespace lami

STABLE_TORCH_LIBRARY_IMPL(lami, CPU, m) {
  m.impl("fit_tps", TORCH_BOX(&lami::fit_tps));
  m.impl("fit_tps_backward", TORCH_BOX(&lami::fit_tps_backward));
}
