// anytime_keypoints: small enough that launches are all it costs.
#include "anytime_keypoints.cuh"

#include "tensors.cuh"

namespace lami::cuda {
namespace {

template <class T>
struct MoveKernel {
  static constexpr int kThreads = 128;
  using Shared = Nothing;

  Motion<T> motion;
  T* moved;

  LAMI_DEVICE void operator()(const Block& block, Shared&) const {
    const int64_t i = int64_t{block.index} * kThreads + block.thread;
    if (i >= motion.samples * motion.times * motion.numbers) return;
    const int64_t moment = i / motion.numbers, sample = moment / motion.times;
    const int64_t number = sample * motion.numbers + i % motion.numbers;
    const T t = motion.time[moment];
    moved[i] = (T(1) - t) * motion.source[number] + t * motion.driving[number];
  }
};

// A thread sums a coordinate over the times.
template <class T>
struct MoveBackwardKernel {
  static constexpr int kThreads = 128;
  using Shared = Nothing;

  Motion<T> motion;
  const T* grad;
  const T* grad_source_each;
  T* grad_source;
  T* grad_driving;

  LAMI_DEVICE void operator()(const Block& block, Shared&) const {
    const int64_t number = int64_t{block.index} * kThreads + block.thread;
    if (number >= motion.samples * motion.numbers) return;
    const int64_t sample = number / motion.numbers, within = number % motion.numbers;
    T of_source = T(0), of_driving = T(0);
    for (int64_t moment = sample * motion.times; moment < (sample + 1) * motion.times; ++moment) {
      const int64_t i = moment * motion.numbers + within;
      const T t = motion.time[moment];
      of_source += (T(1) - t) * grad[i];
      of_driving += t * grad[i];
      if (grad_source_each != nullptr) of_source += grad_source_each[i];
    }
    grad_source[number] = of_source;
    grad_driving[number] = of_driving;
  }
};

// A warp sums over the coordinates of a time.
template <class T>
struct TimeBackwardKernel {
  static constexpr int kThreads = kWarp;
  using Shared = Nothing;

  Motion<T> motion;
  const T* grad;
  T* grad_time;

  LAMI_DEVICE void operator()(const Block& block, Shared&) const {
    const int64_t moment = block.index, sample = moment / motion.times;
    T sum = T(0);
    for (int64_t i = block.thread; i < motion.numbers; i += kThreads) {
      const int64_t number = sample * motion.numbers + i;
      sum += grad[moment * motion.numbers + i] * (motion.driving[number] - motion.source[number]);
    }
    sum = sum_of_warp(block, sum);
    if (block.thread == 0) grad_time[moment] = sum;
  }
};

}  // namespace

template <class T>
void move_keypoints(const Stream& stream, const Motion<T>& motion, T* moved) {
  const int64_t elements = motion.samples * motion.times * motion.numbers;
  stream.launch(MoveKernel<T>{motion, moved}, ceil_div(elements, MoveKernel<T>::kThreads));
}

template <class T>
void move_keypoints_backward(const Stream& stream, const Motion<T>& motion, const T* grad, const T* grad_source_each,
                             T* grad_source, T* grad_driving, T* grad_time) {
  stream.launch(MoveBackwardKernel<T>{motion, grad, grad_source_each, grad_source, grad_driving},
                ceil_div(motion.samples * motion.numbers, MoveBackwardKernel<T>::kThreads));
  if (grad_time != nullptr) {
    stream.launch(TimeBackwardKernel<T>{motion, grad, grad_time}, motion.samples * motion.times);
  }
}

template void move_keypoints(const Stream&, const Motion<float>&, float*);
template void move_keypoints(const Stream&, const Motion<double>&, double*);
template void move_keypoints_backward(const Stream&, const Motion<float>&, const float*, const float*, float*, float*,
                                      float*);
template void move_keypoints_backward(const Stream&, const Motion<double>&, const double*, const double*, double*,
                                      double*, double*);

namespace {

void check_motion(const char* op, const Tensor& kp_source, const Tensor& kp_driving, const Tensor& times) {
  check_tensor(op, "kp_source", kp_source, {-1, -1, -1, 2});
  check_tensor(op, "kp_driving", kp_driving, {kp_source.size(0), kp_source.size(1), kp_source.size(2), 2});
  check_tensor(op, "times", times, {kp_source.size(0), -1});
  check_same_device(op, kp_source, {&kp_driving, &times});
}

template <class T>
Motion<T> motion_of(const Tensor& source, const Tensor& driving, const Tensor& times) {
  return {data<const T>(source), data<const T>(driving), data<const T>(times),
          source.size(0),        times.size(1),          source.size(1) * source.size(2) * 2};
}

Tensor anytime_keypoints(const Tensor& kp_source, const Tensor& kp_driving, const Tensor& times) {
  constexpr const char* kOp = "anytime_keypoints";
  check_motion(kOp, kp_source, kp_driving, times);
  const ScalarType type = compute_type({&kp_source, &kp_driving, &times});
  Tensor moved = empty({kp_source.size(0), times.size(1), kp_source.size(1), kp_source.size(2), 2}, type, kp_source);
  if (moved.numel() > 0) {
    const Stream stream(kp_source);
    const Tensor source = packed(kp_source, type), driving = packed(kp_driving, type), when = packed(times, type);
    dispatch_compute(type, kOp, [&]<class T>(std::type_identity<T>) {
      move_keypoints(stream, motion_of<T>(source, driving, when), data<T>(moved));
    });
  }
  return cast(moved, kp_source.scalar_type());
}

std::tuple<Tensor, Tensor, Tensor> anytime_keypoints_backward(const Tensor& grad, const Tensor& kp_source,
                                                              const Tensor& kp_driving, const Tensor& times) {
  constexpr const char* kOp = "anytime_keypoints_backward";
  check_motion(kOp, kp_source, kp_driving, times);
  check_tensor(kOp, "grad", grad, {kp_source.size(0), times.size(1), kp_source.size(1), kp_source.size(2), 2});
  check_same_device(kOp, kp_source, {&grad});
  const ScalarType type = compute_type({&grad, &kp_source, &kp_driving, &times});
  Tensor grad_source = zeros(shape_of(kp_source), type, kp_source);
  Tensor grad_driving = zeros(shape_of(kp_source), type, kp_source);
  Tensor grad_times = zeros(shape_of(times), type, kp_source);
  if (grad.numel() > 0) {
    const Stream stream(kp_source);
    const Tensor source = packed(kp_source, type), driving = packed(kp_driving, type), when = packed(times, type);
    const Tensor incoming = packed(grad, type);
    dispatch_compute(type, kOp, [&]<class T>(std::type_identity<T>) {
      move_keypoints_backward<T>(stream, motion_of<T>(source, driving, when), data<const T>(incoming), nullptr,
                                 data<T>(grad_source), data<T>(grad_driving), data<T>(grad_times));
    });
  }
  return {cast(grad_source, kp_source.scalar_type()), cast(grad_driving, kp_driving.scalar_type()),
          cast(grad_times, times.scalar_type())};
}

}  // namespace
}  // namespace lami::cuda

LAMI_CUDA_OPS(m) {
  m.impl("anytime_keypoints", TORCH_BOX(&lami::cuda::anytime_keypoints));
  m.impl("anytime_keypoints_backward", TORCH_BOX(&lami::cuda::anytime_keypoints_backward));
}
