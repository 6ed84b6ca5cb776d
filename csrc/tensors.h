// What every op needs of torch on the host: views, allocation, choice of the scalar type, threads, sanity checks.
//
// Checks here only keep wrong calls of torch.ops.lami.* from reading wild memory; the sentences that users see are
// written in lami/ops.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "view.h"

namespace lami {

using torch::headeronly::BFloat16;
using torch::headeronly::Half;
using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Shape = std::vector<int64_t>;

// Coordinates and accumulation: double for double, else float.
template <typename T>
using compute_t = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <typename T>
inline constexpr ScalarType scalar_type_of = std::is_same_v<T, double>  ? ScalarType::Double
                                             : std::is_same_v<T, float> ? ScalarType::Float
                                             : std::is_same_v<T, Half>  ? ScalarType::Half
                                                                        : ScalarType::BFloat16;

inline bool is_floating(ScalarType type) {
  return type == ScalarType::Double || type == ScalarType::Float || type == ScalarType::Half ||
         type == ScalarType::BFloat16;
}

// Double if any tensor is, else float.
inline ScalarType compute_type(std::initializer_list<const Tensor*> tensors) {
  const bool wide = std::any_of(tensors.begin(), tensors.end(), [](const Tensor* tensor) {
    return tensor != nullptr && tensor->scalar_type() == ScalarType::Double;
  });
  return wide ? ScalarType::Double : ScalarType::Float;
}

inline const Tensor* pointer(const std::optional<Tensor>& tensor) { return tensor ? &*tensor : nullptr; }

inline Shape shape_of(const Tensor& tensor) { return {tensor.sizes().begin(), tensor.sizes().end()}; }

// f(std::type_identity<T>{}) with T the scalar type of a floating tensor.
template <typename Function>
decltype(auto) dispatch_floating(ScalarType type, const char* op, Function&& f) {
  switch (type) {
    case ScalarType::Double:
      return f(std::type_identity<double>{});
    case ScalarType::Float:
      return f(std::type_identity<float>{});
    case ScalarType::Half:
      return f(std::type_identity<Half>{});
    default:
      STD_TORCH_CHECK(type == ScalarType::BFloat16, op, ": floating tensors wanted");
      return f(std::type_identity<BFloat16>{});
  }
}

// f(std::type_identity<C>{}) with C the compute type, float or double.
template <typename Function>
decltype(auto) dispatch_compute(ScalarType type, const char* op, Function&& f) {
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double, op, ": float or double wanted");
  return type == ScalarType::Double ? f(std::type_identity<double>{}) : f(std::type_identity<float>{});
}

// ---- views ----------------------------------------------------------------------------------------------------------

template <typename T, int Rank>
View<T, Rank> view(const Tensor& tensor) {
  using Value = std::remove_const_t<T>;
  STD_TORCH_CHECK(tensor.dim() == Rank && tensor.scalar_type() == scalar_type_of<Value>, "lami: a view of rank ", Rank,
                  " does not fit a tensor of rank ", tensor.dim(), " or its dtype");
  View<T, Rank> result;
  if constexpr (std::is_const_v<T>) {
    result.data = static_cast<const Value*>(tensor.const_data_ptr());
  } else {
    result.data = static_cast<Value*>(tensor.mutable_data_ptr());
  }
  for (int axis = 0; axis < Rank; ++axis) {
    result.size[axis] = tensor.size(axis);
    result.stride[axis] = tensor.stride(axis);
  }
  return result;
}

// ---- allocation -----------------------------------------------------------------------------------------------------

inline Tensor empty(const Shape& shape, ScalarType type, const Tensor& like,
                    MemoryFormat format = MemoryFormat::Contiguous) {
  return torch::stable::empty(shape, type, std::nullopt, like.device(), std::nullopt, format);
}

inline Tensor zeros(const Shape& shape, ScalarType type, const Tensor& like,
                    MemoryFormat format = MemoryFormat::Contiguous) {
  Tensor result = empty(shape, type, like, format);
  return torch::stable::zero_(result);
}

// What stands for a gradient that nobody asked for.
inline Tensor nothing(ScalarType type, const Tensor& like) { return empty({0}, type, like); }

// The format of results made from `tensor`: channels_last if it is that and not also contiguous.
inline MemoryFormat format_of(const Tensor& tensor) {
  if (tensor.dim() != 4 || tensor.size(1) <= 1 || tensor.is_contiguous()) return MemoryFormat::Contiguous;
  int64_t expected = 1;
  for (const int axis : {1, 3, 2, 0}) {
    if (tensor.size(axis) != 1 && tensor.stride(axis) != expected) return MemoryFormat::Contiguous;
    expected *= tensor.size(axis);
  }
  return MemoryFormat::ChannelsLast;
}

// In another dtype; the same tensor where it has that one already. For small tensors.
inline Tensor cast(const Tensor& tensor, ScalarType type) {
  return tensor.scalar_type() == type ? tensor : torch::stable::to(tensor, type);
}

// ---- sanity ---------------------------------------------------------------------------------------------------------

// -1 in `shape` fits any size.
inline void check_tensor(const char* op, const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape) {
  STD_TORCH_CHECK(is_floating(tensor.scalar_type()), op, ": ", name, " must be floating");
  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  int64_t axis = 0;
  for (const int64_t size : shape) {
    fits = fits && (size < 0 || tensor.size(axis) == size);
    ++axis;
  }
  STD_TORCH_CHECK(fits, op, ": ", name, " has the wrong shape");
}

inline void check_same_device(const char* op, const Tensor& first, std::initializer_list<const Tensor*> others) {
  for (const Tensor* other : others) {
    STD_TORCH_CHECK(other == nullptr || (other->is_cuda() == first.is_cuda() &&
                                         other->get_device_index() == first.get_device_index()),
                    op, ": all tensors must be on one device");
  }
}

// ---- threads --------------------------------------------------------------------------------------------------------

// task(i) for i in [0, count), shared out among torch's threads; what a task does must not depend on who runs it.
template <typename Task>
void parallel_tasks(int64_t count, const Task& task) {
  if (count <= 0) return;
  torch::stable::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) task(i);
  });
}

}  // namespace lami
