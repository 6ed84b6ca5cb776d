// anytime_keypoints: a few hundred numbers, so one thread.
#include "interpolate.h"
#include "motions.h"

namespace lami {
namespace {

void check_interpolation(const char* op, const Tensor& kp_source, const Tensor& kp_driving, const Tensor& times) {
  check_tensor(op, "kp_source", kp_source, {-1, -1, -1, 2});
  check_tensor(op, "kp_driving", kp_driving, {kp_source.size(0), kp_source.size(1), kp_source.size(2), 2});
  check_tensor(op, "times", times, {kp_source.size(0), -1});
}

}  // namespace

Tensor interpolate(const char* op, const Tensor& kp_source, const Tensor& kp_driving, const Tensor& times,
                   ScalarType type) {
  check_interpolation(op, kp_source, kp_driving, times);
  const int64_t batch = times.size(0), count = times.size(1);
  Tensor moved = empty({batch, count, kp_source.size(1), kp_source.size(2), 2}, type, kp_source);
  const Tensor source = dense(kp_source, type), driving = dense(kp_driving, type), t = dense(times, type);
  dispatch_compute(type, op, [&]<typename T>(std::type_identity<T>) {
    const int64_t size = batch > 0 ? source.numel() / batch : 0;
    T* to = written<T>(moved);
    for (int64_t row = 0; row < batch * count; ++row) {
      const T time = read<T>(t)[row];
      const T *s = read<T>(source) + row / count * size, *d = read<T>(driving) + row / count * size;
      for (int64_t i = 0; i < size; ++i) to[row * size + i] = (T(1) - time) * s[i] + time * d[i];
    }
  });
  return moved;
}

std::tuple<Tensor, Tensor, Tensor> interpolate_adjoint(const Tensor& grad, const Tensor& kp_source,
                                                       const Tensor& kp_driving, const Tensor& times, ScalarType type) {
  const int64_t batch = times.size(0), count = times.size(1);
  Tensor grad_source = zeros(shape_of(kp_source), type, grad), grad_driving = zeros(shape_of(kp_source), type, grad),
         grad_times = zeros(shape_of(times), type, grad);
  const Tensor source = dense(kp_source, type), driving = dense(kp_driving, type), t = dense(times, type),
               g = dense(grad, type);
  dispatch_compute(type, "anytime_keypoints_backward", [&]<typename T>(std::type_identity<T>) {
    const int64_t size = batch > 0 ? source.numel() / batch : 0;
    for (int64_t row = 0; row < batch * count; ++row) {
      const T time = read<T>(t)[row];
      const int64_t offset = row / count * size;
      const T *s = read<T>(source) + offset, *d = read<T>(driving) + offset, *from = read<T>(g) + row * size;
      T *to_source = written<T>(grad_source) + offset, *to_driving = written<T>(grad_driving) + offset;
      T of_time = 0;
      for (int64_t i = 0; i < size; ++i) {
        to_source[i] += (T(1) - time) * from[i];
        to_driving[i] += time * from[i];
        of_time += (d[i] - s[i]) * from[i];
      }
      written<T>(grad_times)[row] = of_time;
    }
  });
  return {grad_source, grad_driving, grad_times};
}

void add_over_times(const Tensor& each, const Tensor& sum) {
  const int64_t batch = each.size(0), count = each.size(1);
  dispatch_compute(each.scalar_type(), "anytime_keypoints_backward", [&]<typename T>(std::type_identity<T>) {
    const int64_t size = batch > 0 ? sum.numel() / batch : 0;
    const T* from = read<T>(each);
    T* to = written<T>(sum);
    for (int64_t row = 0; row < batch * count; ++row) {
      for (int64_t i = 0; i < size; ++i) to[row / count * size + i] += from[row * size + i];
    }
  });
}

namespace {

Tensor anytime_keypoints(const Tensor& kp_source, const Tensor& kp_driving, const Tensor& times) {
  const ScalarType type = compute_type({&kp_source, &kp_driving, &times});
  return cast(interpolate("anytime_keypoints", kp_source, kp_driving, times, type), kp_source.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor> anytime_keypoints_backward(const Tensor& grad, const Tensor& kp_source,
                                                              const Tensor& kp_driving, const Tensor& times) {
  const char* op = "anytime_keypoints_backward";
  check_interpolation(op, kp_source, kp_driving, times);
  check_tensor(op, "grad", grad, {times.size(0), times.size(1), kp_source.size(1), kp_source.size(2), 2});
  const ScalarType type = compute_type({&kp_source, &kp_driving, &times});
  const auto [of_source, of_driving, of_times] = interpolate_adjoint(grad, kp_source, kp_driving, times, type);
  return {gradient_like(kp_source, of_source), gradient_like(kp_driving, of_driving), gradient_like(times, of_times)};
}

}  // namespace
}  // namespace lami

STABLE_TORCH_LIBRARY_IMPL(lami, CPU, m) {
  m.impl("anytime_keypoints", TORCH_BOX(&lami::anytime_keypoints));
  m.impl("anytime_keypoints_backward", TORCH_BOX(&lami::anytime_keypoints_backward));
}
