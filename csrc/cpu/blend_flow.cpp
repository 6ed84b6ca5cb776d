// blend_flow: one task a row forward, a block of rows backward.
#include "blend_flow.h"

#include "blend.h"

#include "motions.h"
#include "simd.h"

namespace lami {
namespace {

void check_blend(const char* op, const Tensor& logits, const Tensor& kp_driving, const Tensor& kp_source,
                 const std::optional<Tensor>& background, const std::optional<Tensor>& keep) {
  check_motions(op, kp_driving, kp_source, background);
  const int64_t samples = kp_driving.size(0), channels = kp_driving.size(1) + 1;
  check_tensor(op, "logits", logits, {samples, channels, -1, -1});
  STD_TORCH_CHECK(!keep || (keep->scalar_type() == ScalarType::Bool && keep->dim() == 2 && keep->size(0) == samples &&
                            keep->size(1) == channels),
                  op, ": keep must be bool of shape (B, K + 1)");
}

// keep (B, K + 1) as dense memory.
struct Keep {
  explicit Keep(const std::optional<Tensor>& keep) {
    if (keep) dense = torch::stable::contiguous(*keep);
  }
  const bool* of(int64_t sample) const { return dense ? read<bool>(*dense) + sample * dense->size(1) : nullptr; }

  std::optional<Tensor> dense;
};

}  // namespace

std::tuple<Tensor, Tensor> blend(const Tensor& logits, const Tensor& kp_driving, const Tensor& kp_source,
                                 const std::optional<Tensor>& background, const std::optional<Tensor>& keep,
                                 bool corrected, bool needs_contributions) {
  check_blend("blend_flow", logits, kp_driving, kp_source, background, keep);
  const ScalarType type = compute_type({&logits, &kp_driving, &kp_source, pointer(background)});
  const int64_t channels = logits.size(1), height = logits.size(2), width = logits.size(3);
  Tensor flow = empty({logits.size(0), height, width, 2}, type, logits);
  Tensor contributions = needs_contributions ? empty(shape_of(logits), type, logits) : nothing(type, logits);
  if (logits.numel() == 0) return {flow, contributions};
  const Keep kept(keep);
  dispatch_mixed(type, logits.scalar_type(), "blend_flow", [&]<typename T, typename S>() {
    const Motions<T> motions(kp_driving, kp_source, background);
    const auto in = view<const S, 4>(logits);
    T *to_flow = written<T>(flow), *to_contributions = written<T>(contributions);
    parallel_tasks(motions.samples * height, [&](int64_t task) {
      const int64_t sample = task / height, row = task % height;
      const Dropout dropout = {kept.of(sample), corrected};
      std::vector<T> memory((7 + 2 * channels) * width);
      T *xs = memory.data(), *to_x = xs + width, *to_y = to_x + width, *flow_x = to_y + width, *flow_y = flow_x + width;
      T *scratch = flow_y + width, *lines = scratch + 2 * width, *weights = lines + channels * width;
      simd([=, &motions, &dropout] {
        const T y = pixel_coordinate<T>(row, height);
        coordinate_row(width, xs);
        copy_rows(in.at(sample, 0, row), in.stride[1], in.stride[3], channels, width, lines);
        softmax_rows(lines, dropout, channels, width, weights, scratch);
        for (int64_t k = 0; k < channels; ++k) {
          motions.row(sample, k, xs, y, width, to_x, to_y);
          blend_row(weights + k * width, to_x, to_y, width, flow_x, flow_y);
          if (!needs_contributions) continue;
          T* place = to_contributions + ((sample * channels + k) * height + row) * width;
          for (int64_t i = 0; i < width; ++i) place[i] = weights[k * width + i];
        }
        interleave_row(flow_x, flow_y, width, to_flow + task * width * 2);
      });
    });
  });
  return {flow, contributions};
}

std::tuple<Tensor, Tensor> blend_flow(const Tensor& logits, const Tensor& kp_driving, const Tensor& kp_source,
                                      const std::optional<Tensor>& background, const std::optional<Tensor>& keep,
                                      bool corrected) {
  return blend(logits, kp_driving, kp_source, background, keep, corrected, true);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> blend_flow_backward(
    const Tensor& grad_flow, const Tensor& grad_contributions, const Tensor& logits, const Tensor& contributions,
    const Tensor& kp_driving, const Tensor& kp_source, const std::optional<Tensor>& background,
    const std::optional<Tensor>& keep, bool corrected, bool needs_logits, bool needs_keypoints, bool needs_background) {
  const char* op = "blend_flow_backward";
  check_blend(op, logits, kp_driving, kp_source, background, keep);
  const int64_t samples = logits.size(0), channels = logits.size(1), height = logits.size(2), width = logits.size(3);
  check_tensor(op, "grad_flow", grad_flow, {samples, height, width, 2});
  check_tensor(op, "grad_contributions", grad_contributions, {samples, channels, height, width});
  check_tensor(op, "contributions", contributions, {samples, channels, height, width});
  needs_background = needs_background && background;
  const ScalarType type = compute_type({&logits, &kp_driving, &kp_source, pointer(background)});
  const ScalarType unused = grad_flow.scalar_type();
  const Tensor none = nothing(unused, grad_flow);
  Tensor grad_logits = needs_logits ? empty(shape_of(logits), logits.scalar_type(), logits, format_of(logits)) : none;
  Tensor grad_driving = none, grad_source = none, grad_background = none;
  // Gradients nearly always come in the compute type; where not, they are small beside the logits' own.
  const Tensor of_flow = cast(grad_flow, type), of_contributions = cast(grad_contributions, type),
               weights_in = cast(contributions, type);
  const Keep kept(keep);
  dispatch_mixed(type, logits.scalar_type(), op, [&]<typename T, typename S>() {
    const Motions<T> motions(kp_driving, kp_source, background);
    const int64_t blocks = logits.numel() == 0 ? 0 : row_blocks(height), size = motions.sums_size();
    const bool needs_motions = needs_keypoints || needs_background;
    const auto in = view<const S, 4>(logits);
    const auto flow = view<const T, 4>(of_flow);
    const auto direct = view<const T, 4>(of_contributions), given = view<const T, 4>(weights_in);
    const auto out = needs_logits ? view<S, 4>(grad_logits) : View<S, 4>{};
    std::vector<T> sums(needs_motions ? samples * blocks * size : 0);
    T* all_sums = sums.data();
    parallel_tasks(samples * blocks, [&](int64_t task) {
      const int64_t sample = task / blocks, begin = task % blocks * kBlockRows;
      const int64_t end = std::min(begin + kBlockRows, height);
      const Dropout dropout = {kept.of(sample), corrected};
      std::vector<T> memory((10 + 3 * channels) * width);
      T *xs = memory.data(), *to_x = xs + width, *to_y = to_x + width, *flow_x = to_y + width, *flow_y = flow_x + width;
      T *grad_x = flow_y + width, *grad_y = grad_x + width, *scratch = grad_y + width;
      T *lines = scratch + 3 * width, *weights = lines + channels * width, *grads = weights + channels * width;
      simd([=, &motions, &dropout] {
        coordinate_row(width, xs);
        for (int64_t row = begin; row < end; ++row) {
          const T y = pixel_coordinate<T>(row, height);
          deinterleave_row(flow.at(sample, row), flow.stride[2], flow.stride[3], width, flow_x, flow_y);
          copy_rows(given.at(sample, 0, row), given.stride[1], given.stride[3], channels, width, weights);
          if (needs_logits) {
            copy_rows(in.at(sample, 0, row), in.stride[1], in.stride[3], channels, width, lines);
            copy_rows(direct.at(sample, 0, row), direct.stride[1], direct.stride[3], channels, width, grads);
          }
          for (int64_t k = 0; k < channels; ++k) {
            if (needs_logits) {
              motions.row(sample, k, xs, y, width, to_x, to_y);
              blend_row_adjoint(flow_x, flow_y, to_x, to_y, width, grads + k * width);
            }
            if (needs_motions) {
              scale_rows(weights + k * width, flow_x, flow_y, width, grad_x, grad_y);
              motions.row_adjoint(sample, k, xs, y, width, grad_x, grad_y, needs_keypoints, needs_background,
                                  all_sums + task * size);
            }
          }
          if (!needs_logits) continue;
          softmax_rows_adjoint(lines, weights, dropout, channels, width, grads, scratch);
          for (int64_t k = 0; k < channels; ++k) {
            write_row(grads + k * width, out.at(sample, k, row), out.stride[3], width);
          }
        }
      });
    });
    if (needs_motions) {
      std::tie(grad_driving, grad_source, grad_background) = motions.gradients(sums, blocks);
    }
  });
  return {grad_logits, needs_keypoints ? gradient_like(kp_driving, grad_driving) : none,
          needs_keypoints ? gradient_like(kp_source, grad_source) : none,
          needs_background ? gradient_like(*background, grad_background) : none};
}

}  // namespace lami

STABLE_TORCH_LIBRARY_IMPL(lami, CPU, m) {
  m.impl("blend_flow", TORCH_BOX(&lami::blend_flow));
  m.impl("blend_flow_backward", TORCH_BOX(&lami::blend_flow_backward));
}
