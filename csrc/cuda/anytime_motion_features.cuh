// What the forward and the backward kernels of anytime_motion_features share.
#pragma once

#include "../math/spline.h"
#include "anytime_keypoints.cuh"
#include "corners.cuh"
#include "fit_tps.cuh"
#include "tensors.cuh"

namespace lami::cuda {

constexpr double kRegularization = 0.01;

// Small arrays are contiguous: moved (B, T, K, n, 2) keypoints at each time, kp_source (B, K, n, 2), theta (B, T, K, 2,
// 3) and weights (B, T, K, n, 2) of the splines from the former to the latter, background (B, T, 3, 3) or null. Motion
// 0 is the background's, motion k + 1 that of spline k.
template <class S, class T>
struct Motions {
  View<const S, 4> source;
  const T* moved;
  const T* kp_source;
  const T* theta;
  const T* weights;
  const T* background;
  int times, splines, n;
  T falloff;  // of the heatmaps: -1 / (2 variance)

  LAMI_HD int height() const { return static_cast<int>(source.size[2]); }
  LAMI_HD int width() const { return static_cast<int>(source.size[3]); }
  LAMI_HD int64_t channels() const { return source.size[1]; }
  LAMI_HD int64_t outputs() const { return int64_t{splines} * n + 1 + (splines + 1) * channels(); }
  LAMI_HD int64_t heatmap(int spline) const { return 1 + int64_t{spline} * n; }
  LAMI_HD int64_t warped(int motion) const { return int64_t{splines} * n + 1 + motion * channels(); }

  LAMI_HD T heat(T x, T y) const { return exponential((x * x + y * y) * falloff); }

  LAMI_HD int64_t spline_index(int64_t moment, int motion) const { return moment * splines + (motion - 1); }

  // Where a motion at a time (`moment` = sample * times + time) reads the source for a pixel at (x, y).
  LAMI_HD Point<T> position(int64_t moment, int motion, T x, T y) const {
    if (motion > 0) {
      const int64_t i = spline_index(moment, motion);
      return spline_at(theta + 6 * i, weights + 2 * n * i, moved + 2 * n * i, n, x, y);
    }
    return background == nullptr ? Point<T>{x, y} : background_at(background + 9 * moment, x, y);
  }

  LAMI_HD Corners<T> corners(Point<T> position) const {
    return corners_at(position.x, position.y, source.size[2], source.size[3]);
  }
};

// A rectangle of pixels for each block, so that no thread divides.
template <int kWidth_, int kHeight_>
struct Tiling {
  static constexpr int kWidth = kWidth_, kHeight = kHeight_;
  int across, down;

  Tiling(int64_t height, int64_t width)
      : across(static_cast<int>(ceil_div(width, kWidth))), down(static_cast<int>(ceil_div(height, kHeight))) {}

  LAMI_HD int count() const { return across * down; }
  LAMI_HD int left(int tile) const { return tile % across * kWidth; }
  LAMI_HD int top(int tile) const { return tile / across * kHeight; }
};

// Small inputs in the compute type, and the splines of all times.
template <class T>
struct Fitted {
  Tensor kp_source, kp_driving, times, background, moved, theta, weights;
  Motion<T> motion;
  Fits<T> fits;

  Fitted(const Stream& stream, const Tensor& source_points, const Tensor& driving_points, const Tensor& when,
         const std::optional<Tensor>& maps) {
    const ScalarType type = scalar_type_of<T>;
    kp_source = packed(source_points, type);
    kp_driving = packed(driving_points, type);
    times = packed(when, type);
    const int64_t b = kp_source.size(0), t = times.size(1), k = kp_source.size(1), n = kp_source.size(2);
    background = maps ? packed(*maps, type) : empty({0}, type, kp_source);
    moved = empty({b, t, k, n, 2}, type, kp_source);
    theta = empty({b, t, k, 2, 3}, type, kp_source);
    weights = empty({b, t, k, n, 2}, type, kp_source);
    motion = {data<const T>(kp_source), data<const T>(kp_driving), data<const T>(times), b, t, k * n * 2};
    fits = {data<const T>(moved), data<const T>(kp_source), b * t * k, static_cast<int>(n), T(kRegularization), t, k};
    move_keypoints(stream, motion, data<T>(moved));
    fit(stream, fits, data<T>(theta), data<T>(weights));
  }

  template <class S>
  Motions<S, T> motions(const Tensor& source, double variance) const {
    return {view<const S, 4>(source),
            data<const T>(moved),
            data<const T>(kp_source),
            data<const T>(theta),
            data<const T>(weights),
            background.numel() > 0 ? data<const T>(background) : nullptr,
            static_cast<int>(times.size(1)),
            static_cast<int>(kp_source.size(1)),
            static_cast<int>(kp_source.size(2)),
            static_cast<T>(-0.5 / variance)};
  }
};

// Features of less than the compute type's width are read as they are, but beside doubles everything is double.
inline Tensor widened(const Tensor& tensor, ScalarType compute) {
  return compute == ScalarType::Double ? cast(tensor, compute) : tensor;
}

inline Shape check_inputs(const char* op, const Tensor& source, const Tensor& kp_source, const Tensor& kp_driving,
                   const Tensor& times, const std::optional<Tensor>& background) {
  check_tensor(op, "source", source, {-1, -1, -1, -1});
  const int64_t b = source.size(0);
  check_tensor(op, "kp_source", kp_source, {b, -1, -1, 2});
  const int64_t k = kp_source.size(1), n = kp_source.size(2);
  STD_TORCH_CHECK(n >= kMinPoints && n <= kMaxPoints, op, ": splines have 3 to 16 points");
  check_tensor(op, "kp_driving", kp_driving, {b, k, n, 2});
  check_tensor(op, "times", times, {b, -1});
  if (background) check_tensor(op, "background", *background, {b, times.size(1), 3, 3});
  check_same_device(op, source, {&kp_source, &kp_driving, &times, pointer(background)});
  return {b, times.size(1), k * n + 1 + (k + 1) * source.size(1), source.size(2), source.size(3)};
}

}  // namespace lami::cuda
