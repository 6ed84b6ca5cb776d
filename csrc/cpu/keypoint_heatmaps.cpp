// keypoint_heatmaps: one task a block of rows.
#include "heatmaps.h"

#include "motions.h"

namespace lami {
namespace {

void check_keypoints(const char* op, const Tensor& kp_driving, const Tensor& kp_source) {
  check_tensor(op, "kp_driving", kp_driving, {-1, -1, 2});
  check_tensor(op, "kp_source", kp_source, {kp_driving.size(0), kp_driving.size(1), 2});
}

Tensor keypoint_heatmaps(const Tensor& kp_driving, const Tensor& kp_source, int64_t height, int64_t width,
                         double variance) {
  check_keypoints("keypoint_heatmaps", kp_driving, kp_source);
  STD_TORCH_CHECK(height >= 0 && width >= 0, "keypoint_heatmaps: height and width must not be negative");
  const int64_t samples = kp_driving.size(0), count = kp_driving.size(1), blocks = row_blocks(height);
  const ScalarType type = compute_type({&kp_driving, &kp_source});
  Tensor heatmaps = empty({samples, count + 1, height, width}, type, kp_driving);
  dispatch_compute(type, "keypoint_heatmaps", [&]<typename T>(std::type_identity<T>) {
    const Tensor driving = dense(kp_driving, type), source = dense(kp_source, type);
    const T *from = read<T>(driving), *to = read<T>(source);
    const auto out = view<T, 4>(heatmaps);
    parallel_tasks(samples * blocks, [&](int64_t task) {
      const int64_t sample = task / blocks, offset = sample * count * 2;
      heatmap_block(from + offset, to + offset, count, static_cast<T>(variance), sample, task % blocks, out);
    });
  });
  return heatmaps;
}

std::tuple<Tensor, Tensor> keypoint_heatmaps_backward(const Tensor& grad, const Tensor& kp_driving,
                                                      const Tensor& kp_source, double variance) {
  const char* op = "keypoint_heatmaps_backward";
  check_keypoints(op, kp_driving, kp_source);
  const int64_t samples = kp_driving.size(0), count = kp_driving.size(1);
  check_tensor(op, "grad", grad, {samples, count + 1, -1, -1});
  const int64_t blocks = row_blocks(grad.size(2));
  const ScalarType type = compute_type({&kp_driving, &kp_source});
  Tensor grad_driving = zeros(shape_of(kp_driving), type, grad), grad_source = zeros(shape_of(kp_source), type, grad);
  dispatch_compute(type, op, [&]<typename T>(std::type_identity<T>) {
    const Tensor driving = dense(kp_driving, type), source = dense(kp_source, type), in_type = cast(grad, type);
    const T *from = read<T>(driving), *to = read<T>(source);
    const auto gradients = view<const T, 4>(in_type);
    std::vector<T> sums(samples * blocks * count * 4);
    parallel_tasks(samples * blocks, [&](int64_t task) {
      const int64_t sample = task / blocks, offset = sample * count * 2;
      heatmap_block_adjoint(from + offset, to + offset, count, static_cast<T>(variance), sample, task % blocks,
                            gradients, sums.data() + task * count * 4);
    });
    add_heatmap_gradients(sums, samples, blocks, count, written<T>(grad_driving), written<T>(grad_source));
  });
  return {gradient_like(kp_driving, grad_driving), gradient_like(kp_source, grad_source)};
}

}  // namespace
}  // namespace lami

STABLE_TORCH_LIBRARY_IMPL(lami, CPU, m) {
  m.impl("keypoint_heatmaps", TORCH_BOX(&lami::keypoint_heatmaps));
  m.impl("keypoint_heatmaps_backward", TORCH_BOX(&lami::keypoint_heatmaps_backward));
}
