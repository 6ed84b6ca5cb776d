// The adjoint of bilinear resizing: gradients of the resized pixels gathered into those of the original.
#pragma once

#include <vector>

#include "cpu/simd.h"
#include "math/bilinear.h"
#include "tensors.h"

namespace lami {

// grad (images, height, width, channels) is added to result (images, h, w, channels), both contiguous.
template <typename C>
void add_resize_adjoint(const C* grad, int64_t images, int64_t height, int64_t width, int64_t channels, C* result,
                        int64_t h, int64_t w) {
  if (h == height && w == width) {
    parallel_tasks(images * h, [&](int64_t row) {
      simd([&] {
        for (int64_t i = row * w * channels; i < (row + 1) * w * channels; ++i) result[i] += grad[i];
      });
    });
    return;
  }
  std::vector<ResizeTap<C>> columns;
  for (int64_t x = 0; x < width; ++x) columns.push_back(resize_tap<C>(x, w, width));

  parallel_tasks(images * h, [&](int64_t row) {
    const int64_t image = row / h, j = row % h, length = width * channels;
    std::vector<C> line(length, C(0));
    C* sums = line.data();
    const Range readers = resize_readers(j, h, height);
    simd([&] {
      for (int64_t y = readers.begin; y < readers.end; ++y) {
        const C weight = resize_tap<C>(y, h, height).weight(j);
        const C* source = grad + (image * height + y) * length;
        if (weight == C(0)) continue;
        for (int64_t i = 0; i < length; ++i) sums[i] += weight * source[i];
      }
    });
    C* target = result + row * w * channels;
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < channels; ++c) {
        target[columns[x].first * channels + c] += (1 - columns[x].fraction) * sums[x * channels + c];
        target[columns[x].second * channels + c] += columns[x].fraction * sums[x * channels + c];
      }
    }
  });
}

}  // namespace lami
