// The blend of motions into a flow, for ops that go on from the flow.
#pragma once

#include "tensors.h"

namespace lami {

// As the op blend_flow; contributions are empty (0,) if not needed.
std::tuple<Tensor, Tensor> blend(const Tensor& logits, const Tensor& kp_driving, const Tensor& kp_source,
                                 const std::optional<Tensor>& background, const std::optional<Tensor>& keep,
                                 bool corrected, bool needs_contributions);

// Gradients of logits, driving and source keypoints, background.
std::tuple<Tensor, Tensor, Tensor, Tensor> blend_flow_backward(
    const Tensor& grad_flow, const Tensor& grad_contributions, const Tensor& logits, const Tensor& contributions,
    const Tensor& kp_driving, const Tensor& kp_source, const std::optional<Tensor>& background,
    const std::optional<Tensor>& keep, bool corrected, bool needs_logits, bool needs_keypoints, bool needs_background);

}  // namespace lami
