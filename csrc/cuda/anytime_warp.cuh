// What the forward and the backward kernels of anytime_warp share: levels, and where their pixels read.
#pragma once

#include <vector>

#include "../math/spline.h"
#include "corners.cuh"
#include "tensors.cuh"

namespace lami::cuda {

constexpr int kMaxLevels = 8;  // of a launch; all have one dtype

// How the threads of a block share pixels and channels out among themselves.
enum class Order { planar, packed_scalars, packed };

// As many channels as one wide load brings.
template <class S>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(S);
  S values[kSize];
};

template <class S>
LAMI_HD const S& value_of(const S& scalar, int) {
  return scalar;
}
template <class S>
LAMI_HD S& value_of(S& scalar, int) {
  return scalar;
}
template <class S>
LAMI_HD const S& value_of(const Pack<S>& pack, int i) {
  return pack.values[i];
}
template <class S>
LAMI_HD S& value_of(Pack<S>& pack, int i) {
  return pack.values[i];
}

// A block works on 64 pixels, four threads a pixel. Neighbouring threads have neighbouring pixels where channels are
// planes, and neighbouring channels where those lie side by side.
struct PixelBlock {
  static constexpr int kThreads = 256, kPixels = 64, kLanes = kThreads / kPixels;
  int pixel, lane;

  LAMI_HD PixelBlock(int thread, Order order)
      : pixel(order == Order::planar ? thread % kPixels : thread / kLanes),
        lane(order == Order::planar ? thread / kPixels : thread % kLanes) {}
};

// An axis of `in` pixels resized to `out`, as resize_tap of bilinear.h. The divisions are done on the host: on the
// device each is a call that takes registers.
template <class T>
struct ResizedAxis {
  int in, out;
  T scale, inverse;

  ResizedAxis() = default;
  ResizedAxis(int64_t in_, int64_t out_)
      : in(static_cast<int>(in_)),
        out(static_cast<int>(out_)),
        scale(out > 1 ? T(in - 1) / T(out - 1) : T(0)),
        inverse(in > 1 ? T(out - 1) / T(in - 1) : T(0)) {}

  LAMI_HD ResizeTap<T> tap(int i) const {
    const T position = scale * T(i);
    int first = static_cast<int>(position);
    if (first > in - 1) first = in - 1;
    const T fraction = position - T(first);
    return {first, first < in - 1 ? first + 1 : first, fraction < T(0) ? T(0) : fraction > T(1) ? T(1) : fraction};
  }

  // The resized pixels that may read pixel `j`, a few more than needed.
  LAMI_HD Range readers(int j) const {
    if (in <= 1 || out <= 1) return {0, out};
    const int begin = static_cast<int>(T(j - 1) * inverse) - 1, end = static_cast<int>(T(j + 1) * inverse) + 3;
    return {begin > 0 ? begin : 0, end < out ? end : out};
  }
};

// A map resized, bilinear with align_corners=True.
template <class T>
struct ResizedMap {
  ResizedAxis<T> rows, columns;

  LAMI_HD T at(const T* map, int64_t stride_y, int64_t stride_x, int y, int x) const {
    if (rows.in == rows.out && columns.in == columns.out) return map[y * stride_y + x * stride_x];
    const ResizeTap<T> row = rows.tap(y), column = columns.tap(x);
    const T* above = map + row.first * stride_y;
    const T* below = map + row.second * stride_y;
    const int64_t left = column.first * stride_x, right = column.second * stride_x;
    const T first = (T(1) - column.fraction) * above[left] + column.fraction * above[right];
    const T second = (T(1) - column.fraction) * below[left] + column.fraction * below[right];
    return (T(1) - row.fraction) * first + row.fraction * second;
  }
};

// flow (B, T, h, w, 2), mask (B, T, 1, h', w') or without data, both resized to the pixels of a level.
template <class T>
struct Sampling {
  View<const T, 5> flow, mask;
  ResizedMap<T> flow_map, mask_map;

  LAMI_HD Corners<T> corners(int64_t sample, int64_t time, int y, int x) const {
    const T* map = flow.at(sample, time);
    const T to_x = flow_map.at(map, flow.stride[2], flow.stride[3], y, x);
    const T to_y = flow_map.at(map + flow.stride[4], flow.stride[2], flow.stride[3], y, x);
    return corners_at(to_x, to_y, flow_map.rows.out, flow_map.columns.out);
  }

  LAMI_HD T mask_at(int64_t sample, int64_t time, int y, int x) const {
    return mask.data == nullptr ? T(1) : mask_map.at(mask.at(sample, time), mask.stride[3], mask.stride[4], y, x);
  }
};

// ---- host -----------------------------------------------------------------------------------------------------------

// Whether wide loads along the channels (axis `channel`) are aligned for every pixel.
inline bool packs(const Tensor& tensor, int channel, int64_t pack) {
  bool fits = tensor.stride(channel) == 1 && tensor.size(channel) % pack == 0 &&
              reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
  for (int axis = 0; axis < tensor.dim(); ++axis) fits = fits && (axis == channel || tensor.stride(axis) % pack == 0);
  return fits;
}

inline int64_t tiles_of(const char* op, const Tensor& features) {
  const int64_t plane = features.size(2) * features.size(3);
  STD_TORCH_CHECK(plane <= INT_MAX - PixelBlock::kPixels, op, ": features have more than 2^31 pixels");
  return ceil_div(plane, PixelBlock::kPixels);
}

template <class S>
Order order_of(const Tensor& features, const Tensor& outputs) {
  if (features.stride(1) != 1 || features.size(1) == 1) return Order::planar;
  constexpr int kPack = Pack<S>::kSize;
  return packs(features, 1, kPack) && packs(outputs, 2, kPack) ? Order::packed : Order::packed_scalars;
}

// The inputs as kernels read them: features as they are (beside doubles as doubles), the rest in the compute type.
struct WarpInputs {
  ScalarType type;
  std::vector<Tensor> features, masks;
  Tensor flow;

  WarpInputs(const char* op, const std::vector<Tensor>& of_features, const Tensor& of_flow,
             const std::vector<Tensor>& of_masks)
      : type(ScalarType::Float) {
    check_tensor(op, "flow", of_flow, {-1, -1, -1, -1, 2});
    STD_TORCH_CHECK(of_masks.empty() || of_masks.size() == of_features.size(), op, ": one mask a level, or none");
    const int64_t b = of_flow.size(0), t = of_flow.size(1);
    const bool has_pixels = of_flow.size(2) > 0 && of_flow.size(3) > 0;
    const auto see = [&](const Tensor& tensor) {
      check_same_device(op, of_flow, {&tensor});
      if (tensor.scalar_type() == ScalarType::Double) type = ScalarType::Double;
    };
    see(of_flow);
    for (const Tensor& level : of_features) {
      check_tensor(op, "features", level, {b, -1, -1, -1});
      STD_TORCH_CHECK(has_pixels || level.numel() == 0, op, ": flow has no pixels");
      see(level);
    }
    for (size_t i = 0; i < of_masks.size(); ++i) {
      check_tensor(op, "masks", of_masks[i], {b, t, 1, -1, -1});
      STD_TORCH_CHECK(of_masks[i].numel() > 0 || t == 0 || of_features[i].numel() == 0, op, ": a mask has no pixels");
      see(of_masks[i]);
    }
    flow = cast(of_flow, type);
    for (const Tensor& mask : of_masks) masks.push_back(cast(mask, type));
    for (const Tensor& level : of_features) {
      features.push_back(type == ScalarType::Double ? cast(level, type) : level);
    }
  }

  template <class T>
  Sampling<T> sampling(size_t level) const {
    const int64_t height = features[level].size(2), width = features[level].size(3);
    Sampling<T> sampling{view<const T, 5>(flow), {}, {{flow.size(2), height}, {flow.size(3), width}}, {}};
    if (!masks.empty()) {
      const Tensor& mask = masks[level];
      sampling.mask = view<const T, 5>(mask);
      sampling.mask_map = {{mask.size(3), height}, {mask.size(4), width}};
    }
    return sampling;
  }

  // First level after `begin` that cannot share a launch with it.
  size_t end_of_launch(size_t begin) const {
    size_t end = begin + 1;
    while (end < features.size() && end - begin < kMaxLevels &&
           features[end].scalar_type() == features[begin].scalar_type()) {
      ++end;
    }
    return end;
  }
};

}  // namespace lami::cuda
