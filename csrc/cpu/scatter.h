// Gradients of features: each output pixel's gradient is added to the four pixels that it read.
//
// A task owns a few channels of one image (and, where there are too few of those for the threads, a band of its rows),
// so that nothing is added to twice at the same time and the order of additions never depends on the threads.
#pragma once

#include <memory>

#include "cpu/gather.h"

namespace lami {

// Rows [begin, end) of an image, channels side by side, in the compute type.
template <int lanes, typename C>
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
                                const Taps<C>& taps, const Band<lanes, C>& band) {
  alignas(64) C tile[kTile * lanes];
  const int64_t columns = region.columns();
  for (int64_t row = 0; row < region.rows(); ++row) {
    for (int64_t x0 = 0; x0 < columns; x0 += kTile) {
      const int64_t count = std::min(kTile, columns - x0), at = row * columns + x0;
      const T* source = grad.at(region.b, region.t, first, region.y0 + row, region.x0 + x0);
      pack<lanes>(source, grad.stride[2], grad.stride[4], channels, count, tile);
      for (int64_t x = 0; x < count; ++x) {
        const int64_t i = at + x, px = taps.x[i], py = taps.y[i];
        C w[4];
        corner_weights(taps.tx[i], taps.ty[i], w);
        for (int k = 0; k < 4; ++k) {
          band.add(py + (k >> 1), px + (k & 1), w[k] * taps.mask[i], tile + x * lanes);
        }
      }
    }
  }
}

// grad (B, T, C, height, width) -> result (B, C, H, W), which is overwritten.
template <int lanes, typename T, typename C>
void scatter(const TapField<C>& field, View<const T, 5> grad, View<T, 4> result) {
  const int64_t batch = result.size[0], channels = result.size[1], height = result.size[2], width = result.size[3];
  const int64_t groups = (channels + lanes - 1) / lanes, threads = torch::stable::get_num_threads();
  const int64_t bands = std::clamp<int64_t>(threads / std::max<int64_t>(batch * groups, 1), 1, height);
  const int64_t band_rows = (height + bands - 1) / bands;
  const Regions& regions = field.regions();

  parallel_tasks(batch * groups * bands, [&](int64_t task) {
    const int64_t b = task / bands / groups, first = task / bands % groups * lanes, begin = task % bands * band_rows;
    const int64_t count = std::min<int64_t>(lanes, channels - first), end = std::min(begin + band_rows, height);
    if (begin >= end) return;
    const std::unique_ptr<C[]> sums(new C[(end - begin) * width * lanes]());
    const Band<lanes, C> band = {sums.get(), begin, end, width};
    simd([&] {
      for (int64_t t = 0; t < regions.times; ++t) {
        for (int64_t i = 0; i < regions.count_of_image(); ++i) {
          const Region region = regions.of_image(b, t, i);
          scatter_region(grad, region, first, count, field.at(region), band);
        }
      }
      for (int64_t y = begin; y < end; ++y) {
        unpack<lanes>(sums.get() + (y - begin) * width * lanes, count, width, result.at(b, first, y), result.stride[1],
               result.stride[3]);
      }
    });
  });
}

}  // namespace lami
