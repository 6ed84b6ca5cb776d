#include "cpu/sampling.h"

namespace lami {
namespace {

// One problem a level, all in one compute type.
std::vector<SamplingProblem> level_problems(const std::vector<Tensor>& features, const Tensor& flow,
                                            const std::vector<Tensor>& masks) {
  STD_TORCH_CHECK(masks.empty() || masks.size() == features.size(),
                  "anytime_warp: as many masks as features are wanted, or none");
  std::vector<const Tensor*> all = {&flow};
  for (const Tensor& tensor : features) all.push_back(&tensor);
  for (const Tensor& tensor : masks) all.push_back(&tensor);
  const bool wide = std::any_of(all.begin(), all.end(),
                                [](const Tensor* tensor) { return tensor->scalar_type() == ScalarType::Double; });
  const Tensor shared = cast(flow, wide ? ScalarType::Double : ScalarType::Float);

  std::vector<SamplingProblem> levels;
  for (size_t l = 0; l < features.size(); ++l) {
    STD_TORCH_CHECK(features[l].dim() == 4, "anytime_warp: features must have 4 dimensions");
    const std::optional<Tensor> mask = masks.empty() ? std::nullopt : std::optional<Tensor>(masks[l]);
    levels.push_back({features[l], shared, mask, features[l].size(2), features[l].size(3), Padding::zeros, true});
    check_sampling("anytime_warp", levels.back());
  }
  return levels;
}

std::vector<Tensor> anytime_warp(const std::vector<Tensor>& features, const Tensor& flow,
                                 const std::vector<Tensor>& masks) {
  std::vector<Tensor> results;
  for (const SamplingProblem& level : level_problems(features, flow, masks)) {
    const Tensor warped = sample(level);
    Shape shape = shape_of(warped);
    shape[0] = flow.size(0);
    shape.insert(shape.begin() + 1, flow.size(1));
    results.push_back(torch::stable::view(warped, shape));
  }
  return results;
}

std::tuple<std::vector<Tensor>, Tensor, std::vector<Tensor>> anytime_warp_backward(
    const std::vector<Tensor>& grads, const std::vector<Tensor>& features, const Tensor& flow,
    const std::vector<Tensor>& masks, bool needs_features, bool needs_flow, bool needs_masks,
    bool /*deterministic: always*/) {
  const std::vector<SamplingProblem> levels = level_problems(features, flow, masks);
  STD_TORCH_CHECK(grads.size() == levels.size(), "anytime_warp_backward: one gradient a level is wanted");
  std::optional<Tensor> grad_flow;
  if (needs_flow) grad_flow = zeros(shape_of(flow), compute_type({levels.empty() ? &flow : &levels[0].flow}), flow);
  std::vector<Tensor> grad_features, grad_masks;
  for (size_t l = 0; l < levels.size(); ++l) {
    const SamplingProblem& level = levels[l];
    check_tensor("anytime_warp_backward", "grads", grads[l],
                 {flow.size(0), flow.size(1), level.features.size(1), level.height, level.width});
    const SamplingGradients result =
        sample_backward(grads[l], level, {needs_features, needs_flow, needs_masks}, grad_flow);
    // The type of what nobody asked for is that of the flow, whatever the level's.
    const auto none = [&] { return nothing(flow.scalar_type(), flow); };
    grad_features.push_back(needs_features ? result.features : none());
    if (!masks.empty()) grad_masks.push_back(needs_masks ? result.mask : none());
  }
  return {grad_features, grad_flow ? cast(*grad_flow, flow.scalar_type()) : nothing(flow.scalar_type(), flow),
          grad_masks};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lami, CPU, m) {
  m.impl("anytime_warp", TORCH_BOX(&anytime_warp));
  m.impl("anytime_warp_backward", TORCH_BOX(&anytime_warp_backward));
}

}  // namespace lami
