#include "cpu/sampling.h"

namespace lami {
namespace {

SamplingProblem grid_sample_problem(const Tensor& input, const Tensor& grid, const std::string& padding_mode,
                                    bool align_corners) {
  STD_TORCH_CHECK(input.dim() == 4 && grid.dim() == 4 && input.size(0) == grid.size(0),
                  "grid_sample: input and grid must have 4 dimensions and one batch size");
  SamplingProblem problem = {input,        torch::stable::unsqueeze(grid, 1),       std::nullopt, grid.size(1),
                             grid.size(2), padding_of("grid_sample", padding_mode), align_corners};
  check_sampling("grid_sample", problem);
  return problem;
}

Tensor grid_sample(const Tensor& input, const Tensor& grid, const std::string& padding_mode, bool align_corners) {
  return sample(grid_sample_problem(input, grid, padding_mode, align_corners));
}

std::tuple<Tensor, Tensor> grid_sample_backward(const Tensor& grad, const Tensor& input, const Tensor& grid,
                                                const std::string& padding_mode, bool align_corners, bool needs_input,
                                                bool needs_grid, bool /*deterministic: always*/) {
  const SamplingProblem problem = grid_sample_problem(input, grid, padding_mode, align_corners);
  check_tensor("grid_sample_backward", "grad", grad, {input.size(0), input.size(1), grid.size(1), grid.size(2)});
  SamplingGradients result =
      sample_backward(torch::stable::unsqueeze(grad, 1), problem, {needs_input, needs_grid, false});
  return {result.features, needs_grid ? cast(merge_times(result.flow), grid.scalar_type()) : result.flow};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(lami, CPU, m) {
  m.impl("grid_sample", TORCH_BOX(&grid_sample));
  m.impl("grid_sample_backward", TORCH_BOX(&grid_sample_backward));
}

}  // namespace lami
