// Blocks of rows of keypoint heatmaps; the Gaussians are products of one in x and one in y.
//
// Channel 0 is the zero background, channel p + 1 is G(driving_p) - G(source_p); keypoints are (P, 2).
#pragma once

#include <vector>

#include "../view.h"
#include "rows.h"
#include "simd.h"

namespace lami {

template <typename T>
LAMI_HD void gaussian_row(const T* __restrict xs, T centre, T variance, int64_t width, T* __restrict to) {
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) to[i] = gaussian((xs[i] - centre) * (xs[i] - centre), variance);
}

// The Gaussians of a pair of keypoints along x, and along y in a block of rows.
template <typename T>
struct Profiles {
  explicit Profiles(int64_t width)
      : memory(4 * width + 3 * kBlockRows),
        xs(memory.data()),
        driving_x(xs + width),
        source_x(driving_x + width),
        line(source_x + width),
        ys(line + width),
        driving_y(ys + kBlockRows),
        source_y(driving_y + kBlockRows) {}
  Profiles(const Profiles&) = delete;

  LAMI_HD void start(int64_t begin, int64_t end, int64_t height, int64_t width) {
    coordinate_row(width, xs);
    for (int64_t row = begin; row < end; ++row) ys[row - begin] = pixel_coordinate<T>(row, height);
  }

  LAMI_HD void set(const T* driving, const T* source, T variance, int64_t rows, int64_t width) {
    gaussian_row(xs, driving[0], variance, width, driving_x);
    gaussian_row(xs, source[0], variance, width, source_x);
    gaussian_row(ys, driving[1], variance, rows, driving_y);
    gaussian_row(ys, source[1], variance, rows, source_y);
  }

  std::vector<T> memory;
  T *xs, *driving_x, *source_x;
  T* line;  // for a row of values
  T *ys, *driving_y, *source_y;
};

// Writes channels 0 to P of the rows of a block of one sample.
template <typename T, typename S>
void heatmap_block(const T* driving, const T* source, int64_t count, T variance, int64_t sample, int64_t block,
                   const View<S, 4>& to) {
  const int64_t height = to.size[2], width = to.size[3];
  const int64_t begin = block * kBlockRows, end = begin + kBlockRows < height ? begin + kBlockRows : height;
  Profiles<T> profiles(width);
  simd([=, &to, &profiles] {
    profiles.start(begin, end, height, width);
    for (int64_t y = begin; y < end; ++y) {
      for (int64_t i = 0; i < width; ++i) *to.at(sample, 0, y, i) = S(0);
    }
    for (int64_t p = 0; p < count; ++p) {
      profiles.set(driving + 2 * p, source + 2 * p, variance, end - begin, width);
      for (int64_t row = begin; row < end; ++row) {
        const T scale_driving = profiles.driving_y[row - begin], scale_source = profiles.source_y[row - begin];
        S* place = to.at(sample, p + 1, row);
        T* __restrict values = row_to_write(place, to.stride[3], profiles.line);
        const T *of_driving = profiles.driving_x, *of_source = profiles.source_x;
#pragma omp simd
        for (int64_t i = 0; i < width; ++i) values[i] = scale_driving * of_driving[i] - scale_source * of_source[i];
        write_row(values, place, to.stride[3], width);
      }
    }
  });
}

// Sums over a row of grad G and grad G (x - centre), G the Gaussian in x.
template <typename T>
LAMI_HD Point<T> gaussian_row_adjoint(const T* __restrict grad, const T* __restrict gaussians, const T* __restrict xs,
                                      T centre, int64_t width) {
  T total = 0, along = 0;
#pragma omp simd reduction(+ : total, along)
  for (int64_t i = 0; i < width; ++i) {
    const T product = grad[i] * gaussians[i];
    total += product;
    along += product * (xs[i] - centre);
  }
  return {total, along};
}

// Adds the gradients of the keypoints over the rows of a block to `sums` (P, 4): driving x, y, source x, y.
template <typename T, typename S>
void heatmap_block_adjoint(const T* driving, const T* source, int64_t count, T variance, int64_t sample, int64_t block,
                           const View<const S, 4>& grad, T* sums) {
  const int64_t height = grad.size[2], width = grad.size[3];
  const int64_t begin = block * kBlockRows, end = begin + kBlockRows < height ? begin + kBlockRows : height;
  const T inverse = T(1) / variance;
  Profiles<T> profiles(width);
  simd([=, &grad, &profiles] {
    profiles.start(begin, end, height, width);
    for (int64_t p = 0; p < count; ++p) {
      profiles.set(driving + 2 * p, source + 2 * p, variance, end - begin, width);
      for (int64_t row = begin; row < end; ++row) {
        const T* g = read_row(grad.at(sample, p + 1, row), grad.stride[3], width, profiles.line);
        const T y = profiles.ys[row - begin], dy_driving = y - driving[2 * p + 1], dy_source = y - source[2 * p + 1];
        const T scale_driving = profiles.driving_y[row - begin] * inverse;
        const T scale_source = profiles.source_y[row - begin] * inverse;
        const Point<T> d = gaussian_row_adjoint(g, profiles.driving_x, profiles.xs, driving[2 * p], width);
        const Point<T> s = gaussian_row_adjoint(g, profiles.source_x, profiles.xs, source[2 * p], width);
        sums[4 * p] += scale_driving * d.y;
        sums[4 * p + 1] += scale_driving * dy_driving * d.x;
        sums[4 * p + 2] -= scale_source * s.y;
        sums[4 * p + 3] -= scale_source * dy_source * s.x;
      }
    }
  });
}

// Adds up the sums (samples, blocks, count, 4) of all blocks to gradients (samples, count, 2).
template <typename T>
void add_heatmap_gradients(const std::vector<T>& sums, int64_t samples, int64_t blocks, int64_t count, T* grad_driving,
                           T* grad_source) {
  for (int64_t sample = 0; sample < samples; ++sample) {
    for (int64_t block = 0; block < blocks; ++block) {
      const T* from = sums.data() + (sample * blocks + block) * count * 4;
      for (int64_t p = 0; p < count; ++p) {
        const int64_t to = (sample * count + p) * 2;
        grad_driving[to] += from[4 * p];
        grad_driving[to + 1] += from[4 * p + 1];
        grad_source[to] += from[4 * p + 2];
        grad_source[to + 1] += from[4 * p + 3];
      }
    }
  }
}

}  // namespace lami
