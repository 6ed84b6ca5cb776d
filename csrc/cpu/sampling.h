// Sampling along flows, forward and backward: what warp, grid_sample, anytime_warp and tps_warp have in common.
#pragma once

#include "math/bilinear.h"
#include "tensors.h"

namespace lami {

// T flows for each of B images. Flow and mask may be of any size; they are resized to the output.
struct SamplingProblem {
  Tensor features;            // (B, C, H, W)
  Tensor flow;                // (B, T, h, w, 2)
  std::optional<Tensor> mask;  // (B, T, 1, h', w')
  int64_t height, width;      // of the output
  Padding padding;
  bool align_corners;
};

struct SamplingNeeds {
  bool features, flow, mask;
};

struct SamplingGradients {
  // In the shapes and dtypes of the problem, but flow in the compute type; empty (0,) where not needed.
  Tensor features, flow, mask;
};

// Raises for shapes and dtypes that the kernels cannot read.
void check_sampling(const char* op, const SamplingProblem& problem);

// (B * T, C, height, width) in the dtype and memory format of the features.
Tensor sample(const SamplingProblem& problem);

// `grad` is (B, T, C, height, width), of any strides. The gradient of the flow is added to `flow_sum` if there is one.
SamplingGradients sample_backward(const Tensor& grad, const SamplingProblem& problem, SamplingNeeds needs,
                                  const std::optional<Tensor>& flow_sum = std::nullopt);

Padding padding_of(const char* op, const std::string& name);

// (B * T, ...) -> (B, T, ...).
Tensor split_times(const Tensor& tensor, int64_t batch);

// (B, T, ...) -> (B * T, ...) of a contiguous tensor.
Tensor merge_times(const Tensor& tensor);

}  // namespace lami
