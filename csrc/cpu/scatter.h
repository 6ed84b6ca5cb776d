// Gradients of features: each output pixel's gradient is added to the four pixels that it read.
//
// A task owns a few channels of one image (and, where there are too few of those for the threads, a band of its rows),
// so that nothing is added to twice at the same time and the order of additions never depends on the threads.
#pragma once

#include <memory>

#include "cpu/simd.h"
#include "cpu/taps.h"

namespace lami {

// Rows [begin, end) of an image with its lanes side by side, in the compute type.
template <typename C, int lanes>
struct Band {
  C* sums;
  int64_t begin, end, width;

  LAMI_INLINE void add(int64_t y, int64_t x, C weight, const C* values) const {
    if (y < begin || y >= end || x < 0 || x >= width) return;
    C* target = sums + ((y - begin) * width + x) * lanes;
    for (int l = 0; l < lanes; ++l) target[l] += weight * values[l];
  }
};

// Adds the pixels of one region; `channels` are those at hand, at most `lanes`.
template <int lanes, typename T, typename C>
LAMI_INLINE void scatter_region(View<const T, 5> grad, const Region& region, int64_t first, int64_t channels,
                                const Taps<C>& taps, const Band<C, lanes>& band) {
  constexpr int64_t kTile = 16;
  alignas(64) C tile[kTile][lanes] = {};
  for (int64_t row = 0; row < region.rows(); ++row) {
    for (int64_t x0 = 0; x0 < region.columns(); x0 += kTile) {
      const int64_t count = std::min(kTile, region.columns() - x0), at = row * region.columns() + x0;
      const T* source = grad.at(region.b, region.t, first, region.y0 + row, region.x0 + x0);
      // Into pixel by pixel order, whatever the strides are.
      for (int64_t c = 0; c < channels; ++c) {
        for (int64_t x = 0; x < count; ++x) {
          tile[x][c] = static_cast<C>(source[c * grad.stride[2] + x * grad.stride[4]]) * taps.mask[at + x];
        }
      }
      for (int64_t x = 0; x < count; ++x) {
        const int64_t i = at + x, px = taps.x[i], py = taps.y[i];
        C w[4];
        corner_weights(taps.tx[i], taps.ty[i], w);
        for (int k = 0; k < 4; ++k) band.add(py + (k >> 1), px + (k & 1), w[k], tile[x]);
      }
    }
  }
}

template <int lanes, typename T, typename C>
void scatter_lanes(const Sampler<C>& sampler, View<const T, 5> grad, View<T, 4> result) {
  const int64_t batch = result.size[0], channels = result.size[1], height = result.size[2], width = result.size[3];
  const int64_t times = grad.size[1], groups = (channels + lanes - 1) / lanes;
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t bands = std::clamp<int64_t>(threads / std::max<int64_t>(batch * groups, 1), 1, height);
  const int64_t band_rows = (height + bands - 1) / bands;
  const Regions regions(1, 1, grad.size[3], grad.size[4]);

  parallel_tasks(batch * groups * bands, [&](int64_t task) {
    const int64_t b = task / bands / groups, first = task / bands % groups * lanes, begin = task % bands * band_rows;
    const int64_t count = std::min<int64_t>(lanes, channels - first), end = std::min(begin + band_rows, height);
    if (begin >= end) return;
    const std::unique_ptr<C[]> sums(new C[(end - begin) * width * lanes]());
    const Band<C, lanes> band = {sums.get(), begin, end, width};
    Taps<C> taps;
    for (int64_t t = 0; t < times; ++t) {
      for (int64_t i = 0; i < regions.count_of_image(); ++i) {
        const Region region = regions.of_image(b, t, i);
        sampler.taps(region, taps);
        simd([&] { scatter_region<lanes>(grad, region, first, count, taps, band); });
      }
    }
    simd([&] {
      for (int64_t y = begin; y < end; ++y) {
        const C* row = sums.get() + (y - begin) * width * lanes;
        for (int64_t c = 0; c < count; ++c) {
          T* target = result.at(b, first + c, y);
          for (int64_t x = 0; x < width; ++x) target[x * result.stride[3]] = static_cast<T>(row[x * lanes + c]);
        }
      }
    });
  });
}

// grad (B, T, C, height, width) -> result (B, C, H, W), which is overwritten.
template <typename T, typename C>
void scatter(const Sampler<C>& sampler, View<const T, 5> grad, View<T, 4> result) {
  if (result.size[1] <= 4) {
    scatter_lanes<4>(sampler, grad, result);
  } else {
    scatter_lanes<16>(sampler, grad, result);
  }
}

}  // namespace lami
