// tps_warp: the blended flow, which is a result too, and at once the image sampled along it.
#include "cpu/blend_flow.h"
#include "cpu/sampling.h"

namespace lami {
namespace {

// Coordinates are as precise as the most precise input: logits of that precision make the flow so.
Tensor wide_logits(const Tensor& image, const Tensor& logits) {
  return image.scalar_type() == ScalarType::Double ? cast(logits, ScalarType::Double) : logits;
}

SamplingProblem image_problem(const Tensor& image, const Tensor& flow) {
  STD_TORCH_CHECK(image.dim() == 4 && flow.dim() == 4, "tps_warp: image and flow must have 4 dimensions");
  SamplingProblem problem = {image,         torch::stable::unsqueeze(flow, 1), std::nullopt, image.size(2),
                             image.size(3), Padding::zeros,                    true};
  check_sampling("tps_warp", problem);
  return problem;
}

std::tuple<Tensor, Tensor> tps_warp(const Tensor& image, const Tensor& logits, const Tensor& kp_driving,
                                    const Tensor& kp_source, const std::optional<Tensor>& background,
                                    const std::optional<Tensor>& keep, bool corrected) {
  const Tensor flow = std::get<0>(
      blend(wide_logits(image, logits), kp_driving, kp_source, background, keep, corrected, false));
  return {sample(image_problem(image, flow)), flow};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> tps_warp_backward(
    const Tensor& grad_warped, const Tensor& grad_flow, const Tensor& image, const Tensor& logits, const Tensor& flow,
    const Tensor& kp_driving, const Tensor& kp_source, const std::optional<Tensor>& background,
    const std::optional<Tensor>& keep, bool corrected, bool needs_image, bool needs_logits, bool needs_keypoints,
    bool needs_background, bool /*deterministic: always*/) {
  const SamplingProblem problem = image_problem(image, flow);
  check_tensor("tps_warp_backward", "grad_warped", grad_warped,
               {image.size(0), image.size(1), image.size(2), image.size(3)});
  check_tensor("tps_warp_backward", "grad_flow", grad_flow, {flow.size(0), flow.size(1), flow.size(2), 2});
  const bool needs_flow = needs_logits || needs_keypoints || needs_background;

  // The flow's own gradient, to which that through the image is added.
  std::optional<Tensor> total;
  if (needs_flow) {
    total = empty(shape_of(problem.flow), compute_type({&image, &flow}), flow);
    torch::stable::copy_(*total, torch::stable::unsqueeze(grad_flow, 1));
  }
  const SamplingGradients sampled =
      sample_backward(torch::stable::unsqueeze(grad_warped, 1), problem, {needs_image, needs_flow, false}, total);
  // A tensor of its own for each: results of an op may not alias.
  const auto none = [&] { return nothing(grad_flow.scalar_type(), grad_flow); };
  const Tensor of_image = needs_image ? sampled.features : none();
  if (!needs_flow) return {of_image, none(), none(), none(), none()};

  const Tensor wide = wide_logits(image, logits);
  const Tensor contributions =
      std::get<1>(blend(wide, kp_driving, kp_source, background, keep, corrected, true));
  const Tensor no_gradient = zeros(shape_of(contributions), contributions.scalar_type(), contributions);
  const auto [of_logits, of_driving, of_source, of_background] =
      blend_flow_backward(merge_times(*total), no_gradient, wide, contributions, kp_driving, kp_source, background,
                          keep, corrected, needs_logits, needs_keypoints, needs_background);
  return {of_image, needs_logits ? cast(of_logits, logits.scalar_type()) : none(), needs_keypoints ? of_driving : none(),
          needs_keypoints ? of_source : none(), needs_background && background ? of_background : none()};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lami, CPU, m) {
  m.impl("tps_warp", TORCH_BOX(&tps_warp));
  m.impl("tps_warp_backward", TORCH_BOX(&tps_warp_backward));
}

}  // namespace lami
