// The taps of all output pixels, computed once and used for all channels.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "cpu/simd.h"
#include "math/bilinear.h"
#include "tensors.h"

namespace lami {

// Enough pixels to amortise the switch from channel to channel, few enough to stay in the cache.
inline constexpr int64_t kBlockPixels = 1024;

// A block of output pixels of sample (b, t): whole rows, or a part of one where it is longer than a block, so that its
// pixels follow each other.
struct Region {
  int64_t b, t, y0, y1, x0, x1;
  int64_t rows() const { return y1 - y0; }
  int64_t columns() const { return x1 - x0; }
};

// Cuts (B, T, height, width) into regions; the times of a block follow each other, since they read the same source.
struct Regions {
  int64_t batch, times, height, width, row_step, column_step;

  Regions(int64_t b, int64_t t, int64_t h, int64_t w) : batch(b), times(t), height(h), width(w) {
    column_step = std::clamp<int64_t>(w, 1, kBlockPixels);
    const int64_t fitting = kBlockPixels / column_step;
    const int64_t wanted = 8 * torch::stable::get_num_threads();  // evens out what threads take
    const int64_t sharing = (b * t * h + wanted - 1) / wanted;
    row_step = std::clamp<int64_t>(std::min(fitting, sharing), 1, std::max<int64_t>(h, 1));
  }

  int64_t row_blocks() const { return (height + row_step - 1) / row_step; }
  int64_t column_blocks() const { return (width + column_step - 1) / column_step; }
  int64_t count_of_image() const { return row_blocks() * column_blocks(); }
  int64_t count() const { return batch * times * count_of_image(); }

  Region of_image(int64_t b, int64_t t, int64_t i) const {
    const int64_t y = i / column_blocks() * row_step, x = i % column_blocks() * column_step;
    return {b, t, y, std::min(y + row_step, height), x, std::min(x + column_step, width)};
  }
  Region at(int64_t i) const {
    const int64_t t = i % times, rest = i / times;
    return of_image(rest / count_of_image(), t, rest % count_of_image());
  }
};

// Where pixels read: corner (y, x), fractions, factor; and the slopes of the coordinates, if the taps are kept for them.
template <typename C>
struct Taps {
  int32_t *x, *y;
  C *tx, *ty, *mask;
  C *slope_x, *slope_y;
};

// Weights of the corners (y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1).
template <typename C>
LAMI_INLINE void corner_weights(C tx, C ty, C weights[4]) {
  weights[0] = (1 - ty) * (1 - tx);
  weights[1] = (1 - ty) * tx;
  weights[2] = ty * (1 - tx);
  weights[3] = ty * tx;
}

// A map (B, T, h, w, Channels) in the compute type, read at the pixels of an output grid of any size.
template <typename C, int Channels>
class Resized {
 public:
  Resized(View<const C, 5> map, int64_t height, int64_t width)
      : map_(map), height_(height), same_(map.size[2] == height && map.size[3] == width) {
    if (same_) return;
    columns_.reserve(width);
    for (int64_t x = 0; x < width; ++x) columns_.push_back(resize_tap<C>(x, map.size[3], width));
  }

  // Columns [x0, x1) of row y, channel by channel into `out`; `line` is scratch.
  LAMI_INLINE void row(int64_t b, int64_t t, int64_t y, int64_t x0, int64_t x1, C* const out[Channels],
                       std::vector<C>& line) const {
    if (same_) {
      const C* source = map_.at(b, t, y, x0);
      const bool dense = map_.stride[3] == Channels && (Channels == 1 || map_.stride[4] == 1);
      for (int c = 0; c < Channels; ++c) {
        if (dense) {  // known to the compiler, a stride becomes a shuffle
#pragma omp simd
          for (int64_t x = 0; x < x1 - x0; ++x) out[c][x] = source[x * Channels + c];
        } else {
          for (int64_t x = 0; x < x1 - x0; ++x) out[c][x] = source[x * map_.stride[3] + c * map_.stride[4]];
        }
      }
      return;
    }
    // First between two rows of the map, then along the result.
    const ResizeTap<C> tap = resize_tap<C>(y, map_.size[2], height_);
    const C *above = map_.at(b, t, tap.first), *below = map_.at(b, t, tap.second);
    const int64_t begin = columns_[x0].first, end = columns_[x1 - 1].second + 1;
    line.resize(end - begin);
    const ResizeTap<C>* columns = columns_.data();
    for (int c = 0; c < Channels; ++c) {
      C* between = line.data();
      for (int64_t x = begin; x < end; ++x) {
        const int64_t offset = x * map_.stride[3] + c * map_.stride[4];
        between[x - begin] = (1 - tap.fraction) * above[offset] + tap.fraction * below[offset];
      }
      for (int64_t x = x0; x < x1; ++x) {
        const ResizeTap<C>& column = columns[x];
        out[c][x - x0] =
            (1 - column.fraction) * between[column.first - begin] + column.fraction * between[column.second - begin];
      }
    }
  }

 private:
  View<const C, 5> map_;
  int64_t height_;
  bool same_;
  std::vector<ResizeTap<C>> columns_;
};

struct ImageSize {
  int64_t height, width;
};

// With options known to the compiler: only then does it make vector instructions of the loop.
template <Padding padding, bool align_corners, bool slopes, typename C>
LAMI_INLINE void to_taps(const C* x, const C* y, int64_t count, ImageSize size, int64_t at, const Taps<C>& taps) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    const Tap<C> tap_x = sampling_tap<padding>(x[i], size.width, align_corners);
    const Tap<C> tap_y = sampling_tap<padding>(y[i], size.height, align_corners);
    taps.x[at + i] = static_cast<int32_t>(tap_x.index);
    taps.y[at + i] = static_cast<int32_t>(tap_y.index);
    taps.tx[at + i] = tap_x.fraction;
    taps.ty[at + i] = tap_y.fraction;
    if constexpr (slopes) {
      taps.slope_x[at + i] = tap_x.slope;
      taps.slope_y[at + i] = tap_y.slope;
    }
  }
}

template <Padding padding, typename C>
LAMI_INLINE void to_taps(const C* x, const C* y, int64_t count, ImageSize size, bool align_corners, int64_t at,
                         const Taps<C>& taps) {
  if (taps.slope_x == nullptr) {
    align_corners ? to_taps<padding, true, false>(x, y, count, size, at, taps)
                  : to_taps<padding, false, false>(x, y, count, size, at, taps);
  } else {
    align_corners ? to_taps<padding, true, true>(x, y, count, size, at, taps)
                  : to_taps<padding, false, true>(x, y, count, size, at, taps);
  }
}

// Reads flow and mask, both (B, T, ., ., .), and turns them into taps on images of `size`.
template <typename C>
class Sampler {
 public:
  Sampler(const Tensor& flow, const Tensor* mask, ImageSize output, ImageSize size, Padding padding, bool align_corners)
      : flow_(view<const C, 5>(flow), output.height, output.width),
        size_(size),
        padding_(padding),
        align_corners_(align_corners) {
    if (mask != nullptr) {
      // As a map with one channel in the last place.
      View<const C, 5> map = view<const C, 5>(*mask);
      const int64_t h = map.size[3], w = map.size[4], sy = map.stride[3], sx = map.stride[4];
      map.size[2] = h, map.size[3] = w, map.size[4] = 1;
      map.stride[2] = sy, map.stride[3] = sx, map.stride[4] = 0;
      mask_.emplace(map, output.height, output.width);
    }
  }

  void taps(const Region& region, const Taps<C>& result) const {
    std::vector<C> line;
    alignas(64) C x[kBlockPixels], y[kBlockPixels];
    simd([&] {
      for (int64_t row = 0; row < region.rows(); ++row) {
        C* const coordinates[2] = {x, y};
        const int64_t at = row * region.columns();
        flow_.row(region.b, region.t, region.y0 + row, region.x0, region.x1, coordinates, line);
        if (padding_ == Padding::zeros) {
          to_taps<Padding::zeros>(x, y, region.columns(), size_, align_corners_, at, result);
        } else if (padding_ == Padding::border) {
          to_taps<Padding::border>(x, y, region.columns(), size_, align_corners_, at, result);
        } else {
          to_taps<Padding::reflection>(x, y, region.columns(), size_, align_corners_, at, result);
        }
        C* const mask[1] = {result.mask + at};
        if (mask_) {
          mask_->row(region.b, region.t, region.y0 + row, region.x0, region.x1, mask, line);
        } else {
          std::fill(mask[0], mask[0] + region.columns(), C(1));
        }
      }
    });
  }

 private:
  Resized<C, 2> flow_;
  std::optional<Resized<C, 1>> mask_;
  ImageSize size_;
  Padding padding_;
  bool align_corners_;
};

// The taps of all pixels of (B, T, height, width): 20 bytes a pixel in float, 28 with slopes.
template <typename C>
class TapField {
 public:
  TapField(const Sampler<C>& sampler, const Regions& regions, bool slopes) : regions_(regions) {
    const int64_t pixels = regions.batch * regions.times * regions.height * regions.width;
    indices_.reset(new int32_t[2 * pixels]);
    values_.reset(new C[(slopes ? 5 : 3) * pixels]);
    C* values = values_.get();
    all_ = {indices_.get(),        indices_.get() + pixels,         values, values + pixels, values + 2 * pixels,
            slopes ? values + 3 * pixels : nullptr, slopes ? values + 4 * pixels : nullptr};
    parallel_tasks(regions.count(), [&](int64_t i) { sampler.taps(regions.at(i), at(regions.at(i))); });
  }

  const Regions& regions() const { return regions_; }

  Taps<C> at(const Region& region) const {
    const int64_t image = region.b * regions_.times + region.t;
    const int64_t first = (image * regions_.height + region.y0) * regions_.width + region.x0;
    C *const slope_x = all_.slope_x == nullptr ? nullptr : all_.slope_x + first,
             *const slope_y = all_.slope_y == nullptr ? nullptr : all_.slope_y + first;
    return {all_.x + first, all_.y + first, all_.tx + first, all_.ty + first, all_.mask + first, slope_x, slope_y};
  }

 private:
  Regions regions_;
  std::unique_ptr<int32_t[]> indices_;
  std::unique_ptr<C[]> values_;
  Taps<C> all_;
};

}  // namespace lami
