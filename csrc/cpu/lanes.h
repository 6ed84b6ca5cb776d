// Channels side by side: a few channels of an image with far planes, copied pixel by pixel, so that vectors run along
// the channels. For the processor this beats gathering each channel's pixels from its plane.
#pragma once

#include <algorithm>
#include <memory>

#include "cpu/simd.h"
#include "tensors.h"

namespace lami {

// For images (few channels) and for features.
inline constexpr int kFewLanes = 4;
inline constexpr int kManyLanes = 16;

// tile[x][lane] = source[lane * channel_stride + x * pixel_stride]; lanes beyond `channels` are zero.
template <int lanes, typename T, typename C>
LAMI_INLINE void pack(const T* source, int64_t channel_stride, int64_t pixel_stride, int64_t channels, int64_t count,
                      C* tile) {
  if (channels < lanes) std::fill(tile, tile + count * lanes, C(0));
  if (channels == lanes && pixel_stride == 1) {
    for (int64_t x = 0; x < count; ++x) {
      for (int l = 0; l < lanes; ++l) tile[x * lanes + l] = static_cast<C>(source[l * channel_stride + x]);
    }
  } else if (channels == lanes && channel_stride == 1) {
    for (int64_t x = 0; x < count; ++x) {
      for (int l = 0; l < lanes; ++l) tile[x * lanes + l] = static_cast<C>(source[l + x * pixel_stride]);
    }
  } else {
    for (int64_t l = 0; l < channels; ++l) {
      for (int64_t x = 0; x < count; ++x) {
        tile[x * lanes + l] = static_cast<C>(source[l * channel_stride + x * pixel_stride]);
      }
    }
  }
}

// The inverse of pack.
template <int lanes, typename T, typename C>
LAMI_INLINE void unpack(const C* tile, int64_t channels, int64_t count, T* target, int64_t channel_stride,
                        int64_t pixel_stride) {
  if (channels == lanes && channel_stride == 1) {
    for (int64_t x = 0; x < count; ++x) {
      for (int l = 0; l < lanes; ++l) target[l + x * pixel_stride] = static_cast<T>(tile[x * lanes + l]);
    }
  } else if (pixel_stride == 1) {
    for (int64_t l = 0; l < channels; ++l) {
      T* plane = target + l * channel_stride;
      for (int64_t x = 0; x < count; ++x) plane[x] = static_cast<T>(tile[x * lanes + l]);
    }
  } else {
    for (int64_t l = 0; l < channels; ++l) {
      for (int64_t x = 0; x < count; ++x) {
        target[l * channel_stride + x * pixel_stride] = static_cast<T>(tile[x * lanes + l]);
      }
    }
  }
}

// Channels [first, first + channels) of one image as (H, W, lanes), in the compute type.
template <int lanes, typename C>
class LaneImage {
 public:
  LaneImage(int64_t height, int64_t width)
      : height_(height), width_(width), values_(new C[height * width * lanes]) {}

  template <typename T>
  void load(View<const T, 4> features, int64_t b, int64_t first, int64_t channels) {
    simd([&] {
      for (int64_t y = 0; y < height_; ++y) {
        pack<lanes>(features.at(b, first, y), features.stride[1], features.stride[3], channels, width_, row(y));
      }
    });
  }

  LAMI_INLINE C* row(int64_t y) const { return values_.get() + y * width_ * lanes; }

 private:
  int64_t height_, width_;
  std::unique_ptr<C[]> values_;
};

}  // namespace lami
