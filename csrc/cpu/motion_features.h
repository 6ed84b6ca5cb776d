// The dense-motion network's input for T times of each source, forward and backward; `motion_features` and
// `anytime_motion_features` are this with different arguments.
#pragma once

#include <optional>
#include <tuple>

#include "../tensors.h"

namespace lami {

struct MotionNeeds {
  bool source, keypoints, background;
};

// source (B, C, h, w), keypoints (B * T, K, N, 2), background (B * T, 3, 3) -> (B * T, K * N + 1 + (K + 1) * C, h, w)
// in `format`.
Tensor motion_features_of(const Tensor& source, const Tensor& kp_driving, const Tensor& kp_source,
                          const std::optional<Tensor>& background, double variance, MemoryFormat format);

// Gradients of source (in its dtype and layout), and in the compute type those of kp_driving, kp_source and background.
// Those not needed are empty. grad (B * T, channels, h, w) has the dtype of the source.
std::tuple<Tensor, Tensor, Tensor, Tensor> motion_features_gradients(const Tensor& grad, const Tensor& source,
                                                                     const Tensor& kp_driving, const Tensor& kp_source,
                                                                     const std::optional<Tensor>& background,
                                                                     double variance, MotionNeeds needs);

}  // namespace lami
