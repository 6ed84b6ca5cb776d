// anytime_motion_features: Eq. 1, then the features of all times, which share the source.
#include "interpolate.h"
#include "motion_features.h"
#include "motions.h"

namespace lami {
namespace {

Tensor merged(const Tensor& tensor) {
  Shape shape = shape_of(tensor);
  shape[1] *= shape[0];
  shape.erase(shape.begin());
  return torch::stable::reshape(tensor, shape);
}

Tensor split(const Tensor& tensor, int64_t first, int64_t second) {
  Shape shape = shape_of(tensor);
  shape[0] = second;
  shape.insert(shape.begin(), first);
  return torch::stable::view(tensor, shape);
}

// The source's keypoints, once for each time.
Tensor repeated(const Tensor& keypoints, int64_t times, ScalarType type) {
  const Tensor once = dense(keypoints, type);
  const int64_t samples = once.size(0), values = once.size(1) * once.size(2) * 2;
  Tensor result = empty({samples * times, once.size(1), once.size(2), 2}, type, once);
  dispatch_compute(type, "anytime_motion_features", [&]<typename T>(std::type_identity<T>) {
    for (int64_t i = 0; i < samples * times; ++i)
      std::copy_n(read<T>(once) + i / times * values, values, written<T>(result) + i * values);
  });
  return result;
}

// The keypoints of all times and, repeated, those of the source, (B * T, K, N, 2); and the backgrounds likewise.
struct Samples {
  Tensor driving, source;
  std::optional<Tensor> background;

  Samples(const char* op, const Tensor& kp_source, const Tensor& kp_driving, const Tensor& times,
          const std::optional<Tensor>& maps, ScalarType type)
      : driving(merged(interpolate(op, kp_source, kp_driving, times, type))),
        source(repeated(kp_source, times.size(1), type)) {
    if (!maps) return;
    check_tensor(op, "background", *maps, {times.size(0), times.size(1), 3, 3});
    background = merged(dense(*maps, type));
  }
};

Tensor anytime_motion_features(const Tensor& source, const Tensor& kp_source, const Tensor& kp_driving,
                               const Tensor& times, const std::optional<Tensor>& background, double variance) {
  const ScalarType type = compute_type({&source, &kp_source, &kp_driving, &times, pointer(background)});
  const Samples samples("anytime_motion_features", kp_source, kp_driving, times, background, type);
  check_tensor("anytime_motion_features", "source", source, {times.size(0), -1, -1, -1});
  return split(motion_features_of(source, samples.driving, samples.source, samples.background, variance,
                                  MemoryFormat::Contiguous),
               times.size(0), times.size(1));
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> anytime_motion_features_backward(
    const Tensor& grad, const Tensor& source, const Tensor& kp_source, const Tensor& kp_driving, const Tensor& times,
    const std::optional<Tensor>& background, double variance, bool needs_source, bool needs_keypoints, bool needs_times,
    bool needs_background, bool /*deterministic: always*/) {
  const char* op = "anytime_motion_features_backward";
  const ScalarType type = compute_type({&source, &kp_source, &kp_driving, &times, pointer(background)});
  const Samples samples(op, kp_source, kp_driving, times, background, type);
  check_tensor(op, "source", source, {times.size(0), -1, -1, -1});
  check_tensor(op, "grad", grad, {times.size(0), times.size(1), -1, -1, -1});
  const bool needs_motion = needs_keypoints || needs_times;
  needs_background = needs_background && background;
  const auto [of_image, of_driving, of_source, of_background] =
      motion_features_gradients(merged(grad), source, samples.driving, samples.source, samples.background, variance,
                                {needs_source, needs_motion, needs_background});
  const Tensor none = nothing(grad.scalar_type(), grad);
  Tensor to_source = none, to_driving = none, to_times = none;
  if (needs_motion) {
    // The source's keypoints are read at every time directly, and through Eq. 1.
    auto [through_source, through_driving, through_times] =
        interpolate_adjoint(split(of_driving, times.size(0), times.size(1)), kp_source, kp_driving, times, type);
    if (needs_keypoints) {
      add_over_times(split(of_source, times.size(0), times.size(1)), through_source);
      to_source = gradient_like(kp_source, through_source);
      to_driving = gradient_like(kp_driving, through_driving);
    }
    if (needs_times) to_times = gradient_like(times, through_times);
  }
  const Tensor to_background =
      needs_background ? gradient_like(*background, split(of_background, times.size(0), times.size(1))) : none;
  return {of_image, to_source, to_driving, to_times, to_background};
}

}  // namespace
}  // namespace lami

STABLE_TORCH_LIBRARY_IMPL(lami, CPU, m) {
  m.impl("anytime_motion_features", TORCH_BOX(&lami::anytime_motion_features));
  m.impl("anytime_motion_features_backward", TORCH_BOX(&lami::anytime_motion_features_backward));
}
