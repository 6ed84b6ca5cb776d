// motion_features: heatmaps and the source warped by each motion, written straight into one tensor.
//
// One task a block of rows of a sample. The gradient of the source is a scatter: there one task owns whole channels.
#include "motion_features.h"

#include "heatmaps.h"
#include "motions.h"
#include "sample_rows.h"
#include "simd.h"

namespace lami {
namespace {

// Checks the arguments and returns T, the samples that read each source.
int64_t check_features(const char* op, const Tensor& source, const Tensor& kp_driving, const Tensor& kp_source,
                       const std::optional<Tensor>& background) {
  check_tensor(op, "source", source, {-1, -1, -1, -1});
  check_motions(op, kp_driving, kp_source, background);
  const int64_t samples = kp_driving.size(0), sources = source.size(0);
  STD_TORCH_CHECK(sources > 0 ? samples % sources == 0 : samples == 0, op,
                  ": there must be a multiple of the sources' number of keypoint samples");
  return sources > 0 ? samples / sources : 1;
}

int64_t features_channels(const Tensor& source, const Tensor& kp) {
  return kp.size(1) * kp.size(2) + 1 + (kp.size(1) + 1) * source.size(1);
}

Plane plane_of(const Tensor& source) {
  return {source.size(2), source.size(3), source.stride(2), source.stride(3)};
}

// The source itself, unless its planes are too spread out for 32-bit offsets.
Tensor sampled_source(const char* op, const Tensor& source) {
  if (plane_of(source).small()) return source;
  const Tensor dense = torch::stable::contiguous(source);
  STD_TORCH_CHECK(plane_of(dense).small(), op, ": a source of more than 2^31 pixels");
  return dense;
}

template <typename T>
struct RowMemory {
  explicit RowMemory(int64_t width)
      : values((8 + TapRow<T>::kValues) * width),
        offsets(TapRow<T>::kOffsets * width),
        xs(values.data()),
        to_x(xs + width),
        to_y(to_x + width),
        line(to_y + width),
        grad_x(line + width),
        grad_y(grad_x + width),
        taps(grad_y + width, offsets.data(), width) {}
  RowMemory(const RowMemory&) = delete;

  std::vector<T> values;
  std::vector<int32_t> offsets;
  T *xs, *to_x, *to_y, *line, *grad_x, *grad_y;
  TapRow<T> taps;
};

template <typename T, typename S>
struct FeatureBlock {
  const Motions<T>& motions;
  View<const S, 4> source;
  Plane plane;
  int64_t times, sample, begin, end;

  FeatureBlock(const Motions<T>& motions, const Tensor& source, int64_t times, int64_t task)
      : motions(motions), source(view<const S, 4>(source)), plane(plane_of(source)), times(times) {
    const int64_t blocks = row_blocks(plane.height), block = task % blocks;
    sample = task / blocks;
    begin = block * kBlockRows;
    end = std::min(begin + kBlockRows, plane.height);
  }

  // Channel of the features where the sources start.
  int64_t first_channel() const { return motions.splines * motions.points + 1; }

  LAMI_HD void warp(const View<S, 4>& features, RowMemory<T>& memory) const {
    const int64_t width = plane.width, channels = source.size[1];
    coordinate_row(width, memory.xs);
    for (int64_t row = begin; row < end; ++row) {
      const T y = pixel_coordinate<T>(row, plane.height);
      for (int64_t k = 0; k <= motions.splines; ++k) {
        motions.row(sample, k, memory.xs, y, width, memory.to_x, memory.to_y);
        tap_row(memory.to_x, memory.to_y, plane, width, memory.taps);
        for (int64_t c = 0; c < channels; ++c) {
          S* place = features.at(sample, first_channel() + k * channels + c, row);
          T* values = row_to_write(place, features.stride[3], memory.line);
          sample_row(source.at(sample / times, c), memory.taps, width, values);
          write_row(values, place, features.stride[3], width);
        }
      }
    }
  }

  LAMI_HD void warp_adjoint(const View<const S, 4>& grad, MotionNeeds needs, RowMemory<T>& memory, T* sums) const {
    const int64_t width = plane.width, channels = source.size[1];
    const T pixels_x = T(plane.width - 1) * T(0.5), pixels_y = T(plane.height - 1) * T(0.5);
    coordinate_row(width, memory.xs);
    for (int64_t row = begin; row < end; ++row) {
      const T y = pixel_coordinate<T>(row, plane.height);
      for (int64_t k = needs.background ? 0 : 1; k <= motions.splines; ++k) {
        if (k > 0 && !needs.keypoints) break;
        motions.row(sample, k, memory.xs, y, width, memory.to_x, memory.to_y);
        tap_row(memory.to_x, memory.to_y, plane, width, memory.taps);
        std::fill_n(memory.grad_x, width, T(0));
        std::fill_n(memory.grad_y, width, T(0));
        for (int64_t c = 0; c < channels; ++c) {
          const S* place = grad.at(sample, first_channel() + k * channels + c, row);
          const T* values = read_row(place, grad.stride[3], width, memory.line);
          sample_row_adjoint(source.at(sample / times, c), memory.taps, width, values, memory.grad_x, memory.grad_y);
        }
        for (int64_t i = 0; i < width; ++i) {
          memory.grad_x[i] *= pixels_x;
          memory.grad_y[i] *= pixels_y;
        }
        motions.row_adjoint(sample, k, memory.xs, y, width, memory.grad_x, memory.grad_y, needs.keypoints,
                            needs.background, sums);
      }
    }
  }
};

// Adds the gradient of channels [first, last) of source b, the sum over its samples and motions, to an image
// (1 + pixels, channels); lines (channels, width).
template <typename T, typename S>
LAMI_HD void scatter_features(const Motions<T>& motions, const View<const S, 4>& grad, int64_t times, int64_t b,
                              int64_t first, int64_t last, int64_t channels, RowMemory<T>& memory, T* lines, T* image) {
  const int64_t height = grad.size[2], width = grad.size[3];
  const Plane dense = {height, width, width, 1};
  coordinate_row(width, memory.xs);
  for (int64_t sample = b * times; sample < (b + 1) * times; ++sample) {
    for (int64_t k = 0; k <= motions.splines; ++k) {
      const int64_t channel = motions.splines * motions.points + 1 + k * channels + first;
      for (int64_t row = 0; row < height; ++row) {
        const T y = pixel_coordinate<T>(row, height);
        motions.row(sample, k, memory.xs, y, width, memory.to_x, memory.to_y);
        tap_row(memory.to_x, memory.to_y, dense, width, memory.taps);
        copy_rows(grad.at(sample, channel, row), grad.stride[1], grad.stride[3], last - first, width, lines);
        scatter_row(memory.taps, last - first, width, lines, image);
      }
    }
  }
}

// Channels are shared out only as far as there are threads without a source of their own, since each share evaluates
// the motions again. How they are shared out changes no bit of the result.
template <typename T, typename S>
void source_gradient(const Motions<T>& motions, const View<const S, 4>& grad, int64_t times, const View<S, 4>& to) {
  const int64_t sources = to.size[0], channels = to.size[1], height = to.size[2], width = to.size[3];
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t shares = std::max<int64_t>(1, std::min(channels, (threads + sources - 1) / sources));
  parallel_tasks(sources * shares, [&](int64_t task) {
    const int64_t b = task / shares, share = task % shares;
    const int64_t first = channels * share / shares, last = channels * (share + 1) / shares;
    RowMemory<T> memory(width);
    std::vector<T> lines((last - first) * width), image((last - first) * (height * width + 1));
    simd([&] {
      scatter_features(motions, grad, times, b, first, last, channels, memory, lines.data(), image.data());
    });
    for (int64_t c = first; c < last; ++c) {
      const T* from = image.data() + (last - first) + (c - first);
      for (int64_t pixel = 0; pixel < height * width; ++pixel) {
        to(b, c, pixel / width, pixel % width) = static_cast<S>(from[pixel * (last - first)]);
      }
    }
  });
}

}  // namespace

Tensor motion_features_of(const Tensor& source, const Tensor& kp_driving, const Tensor& kp_source,
                          const std::optional<Tensor>& background, double variance, MemoryFormat format) {
  const char* op = "motion_features";
  const int64_t times = check_features(op, source, kp_driving, kp_source, background);
  const int64_t samples = kp_driving.size(0), height = source.size(2), width = source.size(3);
  const ScalarType type = compute_type({&source, &kp_driving, &kp_source, pointer(background)});
  Tensor features = empty({samples, features_channels(source, kp_driving), height, width}, source.scalar_type(), source,
                          format);
  if (features.numel() == 0) return features;
  const Tensor from = sampled_source(op, source);
  dispatch_mixed(type, source.scalar_type(), op, [&]<typename T, typename S>() {
    const Motions<T> motions(kp_driving, kp_source, background);
    const auto to = view<S, 4>(features);
    const int64_t blocks = row_blocks(height);
    parallel_tasks(samples * blocks, [&](int64_t task) {
      const FeatureBlock<T, S> block(motions, from, times, task);
      heatmap_block(motions.driving(block.sample), motions.source(block.sample), motions.splines * motions.points,
                    static_cast<T>(variance), block.sample, task % blocks, to);
      RowMemory<T> memory(width);
      simd([&] { block.warp(to, memory); });
    });
  });
  return features;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> motion_features_gradients(const Tensor& grad, const Tensor& source,
                                                                     const Tensor& kp_driving, const Tensor& kp_source,
                                                                     const std::optional<Tensor>& background,
                                                                     double variance, MotionNeeds needs) {
  const char* op = "motion_features_backward";
  const int64_t times = check_features(op, source, kp_driving, kp_source, background);
  const int64_t samples = kp_driving.size(0), height = source.size(2), width = source.size(3);
  check_tensor(op, "grad", grad, {samples, features_channels(source, kp_driving), height, width});
  STD_TORCH_CHECK(grad.scalar_type() == source.scalar_type(), op, ": grad and source differ in dtype");
  needs.background = needs.background && background;
  const ScalarType type = compute_type({&source, &kp_driving, &kp_source, pointer(background)});
  const Tensor none = nothing(grad.scalar_type(), grad);
  Tensor grad_source_image = none, grad_driving = none, grad_source = none, grad_background = none;
  if (needs.source) grad_source_image = empty(shape_of(source), source.scalar_type(), source, format_of(source));
  const Tensor from = sampled_source(op, source);
  dispatch_mixed(type, source.scalar_type(), op, [&]<typename T, typename S>() {
    const Motions<T> motions(kp_driving, kp_source, background);
    const auto of = view<const S, 4>(grad);
    if (needs.source && source.numel() > 0) source_gradient(motions, of, times, view<S, 4>(grad_source_image));
    if (!needs.keypoints && !needs.background) return;
    const int64_t blocks = width > 0 ? row_blocks(height) : 0, size = motions.sums_size();
    const int64_t count = motions.splines * motions.points;
    std::vector<T> sums(samples * blocks * size), heatmap_sums(needs.keypoints ? samples * blocks * count * 4 : 0);
    parallel_tasks(samples * blocks, [&](int64_t task) {
      const FeatureBlock<T, S> block(motions, from, times, task);
      if (needs.keypoints) {
        heatmap_block_adjoint(motions.driving(block.sample), motions.source(block.sample), count,
                              static_cast<T>(variance), block.sample, task % blocks, of,
                              heatmap_sums.data() + task * count * 4);
      }
      RowMemory<T> memory(width);
      simd([&] { block.warp_adjoint(of, needs, memory, sums.data() + task * size); });
    });
    auto [of_driving, of_source, of_background] = motions.gradients(sums, blocks);
    if (needs.keypoints) {
      add_heatmap_gradients(heatmap_sums, samples, blocks, count, written<T>(of_driving), written<T>(of_source));
      grad_driving = of_driving;
      grad_source = of_source;
    }
    if (needs.background) grad_background = of_background;
  });
  return {grad_source_image, grad_driving, grad_source, grad_background};
}

namespace {

Tensor motion_features(const Tensor& source, const Tensor& kp_driving, const Tensor& kp_source,
                       const std::optional<Tensor>& background, double variance) {
  return motion_features_of(source, kp_driving, kp_source, background, variance, format_of(source));
}

std::tuple<Tensor, Tensor, Tensor, Tensor> motion_features_backward(
    const Tensor& grad, const Tensor& source, const Tensor& kp_driving, const Tensor& kp_source,
    const std::optional<Tensor>& background, double variance, bool needs_source, bool needs_keypoints,
    bool needs_background, bool /*deterministic: always*/) {
  const auto [of_image, of_driving, of_source, of_background] = motion_features_gradients(
      grad, source, kp_driving, kp_source, background, variance, {needs_source, needs_keypoints, needs_background});
  return {of_image, needs_keypoints ? gradient_like(kp_driving, of_driving) : of_driving,
          needs_keypoints ? gradient_like(kp_source, of_source) : of_source,
          needs_background && background ? gradient_like(*background, of_background) : of_background};
}

}  // namespace
}  // namespace lami

STABLE_TORCH_LIBRARY_IMPL(lami, CPU, m) {
  m.impl("motion_features", TORCH_BOX(&lami::motion_features));
  m.impl("motion_features_backward", TORCH_BOX(&lami::motion_features_backward));
}
