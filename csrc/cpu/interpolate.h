// Keypoints at several times (Eq. 1), in a type of choice, and their adjoint.
#pragma once

#include <tuple>

#include "../tensors.h"

namespace lami {

// kp_source and kp_driving (B, K, N, 2), times (B, T) -> (1 - t) kp_source + t kp_driving, dense (B, T, K, N, 2).
Tensor interpolate(const char* op, const Tensor& kp_source, const Tensor& kp_driving, const Tensor& times,
                   ScalarType type);

// Dense gradients of kp_source, kp_driving and times in `type` for grad (B, T, K, N, 2).
std::tuple<Tensor, Tensor, Tensor> interpolate_adjoint(const Tensor& grad, const Tensor& kp_source,
                                                       const Tensor& kp_driving, const Tensor& times, ScalarType type);

// Adds each (B, T, ...) summed over T to a dense (B, ...); both of one compute type.
void add_over_times(const Tensor& each, const Tensor& sum);

}  // namespace lami
