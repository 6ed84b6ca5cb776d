// The little of a GPU that kernels may know: a block of threads, atomics and a stream to launch on.
//
// A kernel is a functor of plain values and pointers with `kThreads`, a type `Shared` (memory of a block, or `Nothing`)
// and `operator()(const Block&, Shared&) const`. It never touches CUDA itself, so the tests compile the same sources
// for the CPU, where tests/csrc/cuda_on_host.h supplies what follows below.
#pragma once

#include <cstdint>
#include <climits>

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "../math/host_device.h"

namespace lami::cuda {

struct Nothing {};

constexpr int kWarp = 32;

LAMI_HD int64_t ceil_div(int64_t count, int64_t size) { return (count + size - 1) / size; }

}  // namespace lami::cuda

#ifdef __CUDACC__

#include <cuda_runtime.h>

#define LAMI_DEVICE __device__ __forceinline__
#define LAMI_CUDA_OPS(m) STABLE_TORCH_LIBRARY_IMPL(lami, CUDA, m)

namespace lami::cuda {

struct Block {
  int thread;
  int index;  // of the block

  LAMI_DEVICE void sync() const { __syncthreads(); }

  // Value of lane `lane` among the `width` neighbouring threads; all threads of the block take part.
  template <class T>
  LAMI_DEVICE T from_lane(T value, int lane, int width) const {
    return __shfl_sync(0xffffffffu, value, lane, width);
  }
};

LAMI_DEVICE void atomic_add(float* sum, float value) { atomicAdd(sum, value); }
LAMI_DEVICE void atomic_add(double* sum, double value) { atomicAdd(sum, value); }
LAMI_DEVICE void atomic_add(int64_t* sum, int64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(value));
}

// Bits of non-negative numbers order as the numbers do, NaN above all.
LAMI_DEVICE void atomic_max(float* most, float value) {
  atomicMax(reinterpret_cast<unsigned*>(most), __float_as_uint(value));
}
LAMI_DEVICE void atomic_max(double* most, double value) {
  atomicMax(reinterpret_cast<unsigned long long*>(most), static_cast<unsigned long long>(__double_as_longlong(value)));
}

// At least one block a multiprocessor: told nothing, the compiler spills some registers to fit more blocks.
template <class Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, 1) run(const __grid_constant__ Kernel kernel) {
  __shared__ typename Kernel::Shared shared;
  kernel(Block{static_cast<int>(threadIdx.x), static_cast<int>(blockIdx.x)}, shared);
}

// The current stream of a tensor's device, which stays the current device while this lives.
class Stream {
 public:
  explicit Stream(const torch::stable::Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }

  template <class Kernel>
  void launch(const Kernel& kernel, int64_t blocks) const {
    if (blocks == 0) return;
    STD_TORCH_CHECK(blocks <= INT_MAX, "lami: a tensor is too large for one launch of ", blocks, " blocks");
    run<<<static_cast<unsigned>(blocks), Kernel::kThreads, 0, stream_>>>(kernel);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

}  // namespace lami::cuda

#else

#include "cuda_on_host.h"

#endif

namespace lami::cuda {

// Sum over the lanes of a warp, always in the same order; every thread of the block takes part.
template <class T>
LAMI_DEVICE T sum_of_warp(const Block& block, T value) {
  LAMI_UNROLL
  for (int step = kWarp / 2; step > 0; step /= 2) {
    value += block.from_lane(value, block.thread % kWarp ^ step, kWarp);
  }
  return value;
}

}  // namespace lami::cuda
