// Tensors as kernels take them.
#pragma once

#include "../tensors.h"
#include "device.cuh"

namespace lami::cuda {

// The elements of a contiguous tensor.
template <class T>
T* data(const Tensor& tensor) {
  if constexpr (std::is_const_v<T>) {
    return static_cast<T*>(tensor.const_data_ptr());
  } else {
    return static_cast<T*>(tensor.mutable_data_ptr());
  }
}

// Contiguous and of a dtype, copied only where it is not. For small tensors.
inline Tensor packed(const Tensor& tensor, ScalarType type) { return torch::stable::contiguous(cast(tensor, type)); }

}  // namespace lami::cuda
