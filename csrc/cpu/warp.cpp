#include "cpu/sampling.h"

namespace lami {
namespace {

SamplingProblem warp_problem(const Tensor& features, const Tensor& flow, const std::optional<Tensor>& mask,
                             const std::string& padding_mode, bool align_corners) {
  STD_TORCH_CHECK(features.dim() == 4 && flow.dim() == 4, "warp: features and flow must have 4 dimensions");
  const int64_t batch = features.size(0);
  STD_TORCH_CHECK(batch > 0 ? flow.size(0) % batch == 0 : flow.size(0) == 0,
                  "warp: the batch of flow must be a multiple of that of features");
  std::optional<Tensor> masks;
  if (mask) {
    STD_TORCH_CHECK(mask->dim() == 4 && mask->size(0) == flow.size(0), "warp: mask has the wrong shape");
    masks = split_times(*mask, batch);
  }
  SamplingProblem problem = {features,         split_times(flow, batch), masks, features.size(2), features.size(3),
                             padding_of("warp", padding_mode), align_corners};
  check_sampling("warp", problem);
  return problem;
}

Tensor warp(const Tensor& features, const Tensor& flow, const std::optional<Tensor>& mask,
            const std::string& padding_mode, bool align_corners) {
  return sample(warp_problem(features, flow, mask, padding_mode, align_corners));
}

std::tuple<Tensor, Tensor, Tensor> warp_backward(const Tensor& grad, const Tensor& features, const Tensor& flow,
                                                 const std::optional<Tensor>& mask, const std::string& padding_mode,
                                                 bool align_corners, bool needs_features, bool needs_flow,
                                                 bool needs_mask, bool /*deterministic: always*/) {
  const SamplingProblem problem = warp_problem(features, flow, mask, padding_mode, align_corners);
  check_tensor("warp_backward", "grad", grad, {flow.size(0), features.size(1), features.size(2), features.size(3)});
  SamplingGradients result =
      sample_backward(split_times(grad, features.size(0)), problem, {needs_features, needs_flow, needs_mask});
  return {result.features, needs_flow ? cast(merge_times(result.flow), flow.scalar_type()) : result.flow,
          needs_mask && mask ? merge_times(result.mask) : result.mask};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lami, CPU, m) {
  m.impl("warp", TORCH_BOX(&warp));
  m.impl("warp_backward", TORCH_BOX(&warp_backward));
}

}  // namespace lami
