// Strided views of memory: plain data, for host and device code, free of torch.
#pragma once

#include <cstdint>

#include "math/host_device.h"

namespace lami {

// `data` points to element (0, ..., 0); sizes and strides in elements. Any strides, 0 included.
template <typename T, int Rank>
struct View {
  T* data;
  int64_t size[Rank];
  int64_t stride[Rank];

  template <typename... Index>
  LAMI_HD T* at(Index... index) const {
    static_assert(sizeof...(Index) <= Rank);
    int64_t offset = 0;
    int axis = 0;
    ((offset += static_cast<int64_t>(index) * stride[axis++]), ...);
    return data + offset;
  }

  template <typename... Index>
  LAMI_HD T& operator()(Index... index) const {
    static_assert(sizeof...(Index) == Rank);
    return *at(index...);
  }
};

}  // namespace lami
