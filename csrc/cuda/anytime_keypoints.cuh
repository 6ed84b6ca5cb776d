// Eq. 1 and its adjoint, for every op that moves keypoints in time.
#pragma once

#include "device.cuh"

namespace lami::cuda {

// Keypoints of `samples` samples at `times` times; `numbers` coordinates a sample (K * N * 2), arrays contiguous:
// source, driving (samples, numbers), time (samples, times).
template <class T>
struct Motion {
  const T* source;
  const T* driving;
  const T* time;
  int64_t samples, times, numbers;
};

// moved (samples, times, numbers) = (1 - t) source + t driving.
template <class T>
void move_keypoints(const Stream& stream, const Motion<T>& motion, T* moved);

// Gradients of source and driving from that of `moved`, and, unless grad_time is null, of the times. `grad_source_each`
// (samples, times, numbers), or null, is what the source gets besides at each time.
template <class T>
void move_keypoints_backward(const Stream& stream, const Motion<T>& motion, const T* grad, const T* grad_source_each,
                             T* grad_source, T* grad_driving, T* grad_time);

}  // namespace lami::cuda
