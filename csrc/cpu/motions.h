// The K + 1 candidate motions of each sample: the background's, then one spline for each group of keypoints.
//
// Motions holds what is small (fits and maps) and evaluates rows; grids never exist as a whole. A gradient is summed in
// two stages: every block of rows adds to sums of its own, then `gradients` adds up the blocks in their order.
#pragma once

#include <optional>
#include <vector>

#include "../tensors.h"
#include "fit.h"
#include "rows.h"

namespace lami {

inline Tensor dense(const Tensor& tensor, ScalarType type) { return torch::stable::contiguous(cast(tensor, type)); }

template <typename T>
const T* read(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
T* written(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// A dense gradient in the dtype of its input.
inline Tensor gradient_like(const Tensor& input, const Tensor& gradient) {
  return cast(gradient, input.scalar_type());
}

// f<T, S>() with T the compute type and S the type of a feature tensor, which is never wider.
template <typename Function>
void dispatch_mixed(ScalarType compute, ScalarType features, const char* op, const Function& f) {
  dispatch_compute(compute, op, [&]<typename T>(std::type_identity<T>) {
    dispatch_floating(features, op, [&]<typename S>(std::type_identity<S>) {
      if constexpr (sizeof(S) <= sizeof(T)) f.template operator()<T, S>();
    });
  });
}

// kp_driving and kp_source (samples, K, N, 2), background (samples, 3, 3).
inline void check_motions(const char* op, const Tensor& kp_driving, const Tensor& kp_source,
                          const std::optional<Tensor>& background) {
  check_tensor(op, "kp_driving", kp_driving, {-1, -1, -1, 2});
  check_tensor(op, "kp_source", kp_source, {kp_driving.size(0), kp_driving.size(1), kp_driving.size(2), 2});
  if (background) check_tensor(op, "background", *background, {kp_driving.size(0), 3, 3});
  const int64_t n = kp_driving.size(2);
  STD_TORCH_CHECK(kMinPoints <= n && n <= kMaxPoints, op, ": a spline takes 3 to 16 control points");
}

template <typename T>
class Motions {
 public:
  static constexpr ScalarType kType = scalar_type_of<T>;

  Motions(const Tensor& kp_driving, const Tensor& kp_source, const std::optional<Tensor>& background)
      : samples(kp_driving.size(0)),
        splines(kp_driving.size(1)),
        points(kp_driving.size(2)),
        tensors_{dense(kp_driving, kType), dense(kp_source, kType)},
        driving_(read<T>(tensors_[0])),
        source_(read<T>(tensors_[1])),
        theta_(samples * splines * 6),
        weights_(samples * splines * points * 2) {
    if (background) {
      tensors_.push_back(dense(*background, kType));
      background_ = read<T>(tensors_[2]);
    }
    fit_splines(driving(0), source(0), samples * splines, points, kMotionRegularization, theta_.data(),
                weights_.data());
  }

  const int64_t samples, splines, points;

  // Keypoints (K * N, 2) of a sample.
  const T* driving(int64_t sample) const { return driving_ + sample * splines * points * 2; }
  const T* source(int64_t sample) const { return source_ + sample * splines * points * 2; }

  // Where motion k (0 is the background) takes the row of pixels at height y.
  LAMI_HD void row(int64_t sample, int64_t k, const T* xs, T y, int64_t width, T* to_x, T* to_y) const {
    if (k == 0) {
      background_row(background(sample), xs, y, width, to_x, to_y);
    } else {
      spline_row(spline(sample, k - 1), xs, y, width, to_x, to_y);
    }
  }

  // Sums of a block of rows: parameters of the splines, then the background's map.
  int64_t sums_size() const { return splines * spline_parameters(points) + 9; }

  LAMI_HD void row_adjoint(int64_t sample, int64_t k, const T* xs, T y, int64_t width, const T* grad_x, const T* grad_y,
                           bool needs_keypoints, bool needs_background, T* sums) const {
    if (k > 0 && needs_keypoints) {
      spline_row_adjoint(spline(sample, k - 1), xs, y, width, grad_x, grad_y,
                         sums + (k - 1) * spline_parameters(points));
    } else if (k == 0 && needs_background && background_) {
      background_row_adjoint(background(sample), xs, y, width, grad_x, grad_y,
                             sums + splines * spline_parameters(points));
    }
  }

  // Gradients of kp_driving, kp_source and the background, dense in T, from the sums (samples, blocks, sums_size) of
  // all blocks of rows, which are added up in place.
  std::tuple<Tensor, Tensor, Tensor> gradients(std::vector<T>& sums, int64_t blocks) const {
    const int64_t size = sums_size(), each = spline_parameters(points);
    const Shape shape = shape_of(tensors_[0]);
    Tensor grad_driving = zeros(shape, kType, tensors_[0]), grad_source = zeros(shape, kType, tensors_[0]);
    Tensor grad_background = zeros({samples, 3, 3}, kType, tensors_[0]);
    if (blocks == 0) return {grad_driving, grad_source, grad_background};
    std::vector<T> grad_theta(theta_.size()), grad_weights(weights_.size()), grad_points(weights_.size());
    for (int64_t sample = 0; sample < samples; ++sample) {
      T* total = sums.data() + sample * blocks * size;
      for (int64_t block = 1; block < blocks; ++block) {
        for (int64_t i = 0; i < size; ++i) total[i] += total[block * size + i];
      }
      for (int64_t k = 0; k < splines; ++k) {
        const T* of = total + k * each;
        const int64_t index = sample * splines + k;
        std::copy_n(of, 6, grad_theta.data() + index * 6);
        std::copy_n(of + 6, 2 * points, grad_weights.data() + index * 2 * points);
        std::copy_n(of + 6 + 2 * points, 2 * points, grad_points.data() + index * 2 * points);
      }
      std::copy_n(total + splines * each, 9, written<T>(grad_background) + sample * 9);
    }
    fit_splines_adjoint(grad_theta.data(), grad_weights.data(), driving(0), theta_.data(), weights_.data(),
                        samples * splines, points, kMotionRegularization, written<T>(grad_driving),
                        written<T>(grad_source));
    for (size_t i = 0; i < grad_points.size(); ++i) written<T>(grad_driving)[i] += grad_points[i];
    return {grad_driving, grad_source, grad_background};
  }

 private:
  LAMI_HD Spline<T> spline(int64_t sample, int64_t k) const {
    const int64_t index = sample * splines + k, offset = index * points * 2;
    return {theta_.data() + index * 6, weights_.data() + offset, driving(0) + offset, points};
  }

  LAMI_HD const T* background(int64_t sample) const { return background_ ? background_ + sample * 9 : nullptr; }

  std::vector<Tensor> tensors_;  // keep the memory alive that the pointers below read
  const T* driving_;
  const T* source_;
  const T* background_ = nullptr;
  std::vector<T> theta_, weights_;
};

}  // namespace lami
