// The four pixels around a sampling position.
#pragma once

#include "../math/bilinear.h"
#include "device.cuh"

namespace lami::cuda {

// Offsets of the four pixels from the start of a plane, -1 outside the image.
struct Offsets {
  int64_t at[4];
};

// The pixels around a position in the order (0, 0), (0, 1), (1, 0), (1, 1) of (y, x), and where it is between them.
template <class T>
struct Corners {
  int64_t x, y;  // of the first pixel, which may lie outside
  bool inside[4];
  T x_share, y_share;  // weights of the right and of the lower pixels
  T x_slope, y_slope;  // pixels per unit of the coordinates

  LAMI_HD T weight(int corner) const {
    return (corner % 2 == 1 ? x_share : T(1) - x_share) * (corner / 2 == 1 ? y_share : T(1) - y_share);
  }

  LAMI_HD Offsets offsets(int64_t stride_y, int64_t stride_x) const {
    Offsets offsets;
    LAMI_UNROLL
    for (int i = 0; i < 4; ++i) offsets.at[i] = inside[i] ? (y + i / 2) * stride_y + (x + i % 2) * stride_x : -1;
    return offsets;
  }

  LAMI_HD T blend(const T (&values)[4]) const {
    T sum = T(0);
    LAMI_UNROLL
    for (int i = 0; i < 4; ++i) sum += weight(i) * values[i];
    return sum;
  }

  // Derivatives of the blend with respect to the position in pixels.
  LAMI_HD T along_x(const T (&v)[4]) const { return (T(1) - y_share) * (v[1] - v[0]) + y_share * (v[3] - v[2]); }
  LAMI_HD T along_y(const T (&v)[4]) const { return (T(1) - x_share) * (v[2] - v[0]) + x_share * (v[3] - v[1]); }
};

// Pixels outside count as zero.
template <class S, class T>
LAMI_HD void load_corners(const S* plane, const Offsets& offsets, T (&values)[4]) {
  LAMI_UNROLL
  for (int i = 0; i < 4; ++i) values[i] = offsets.at[i] < 0 ? T(0) : static_cast<T>(plane[offsets.at[i]]);
}

// Zeros padding, align_corners=True.
template <class T>
LAMI_HD Corners<T> corners_at(T x, T y, int64_t height, int64_t width) {
  const Tap<T> column = sampling_tap<Padding::zeros>(x, width, true);
  const Tap<T> row = sampling_tap<Padding::zeros>(y, height, true);
  Corners<T> corners;
  corners.x = column.index;
  corners.y = row.index;
  corners.x_share = column.fraction;
  corners.y_share = row.fraction;
  corners.x_slope = column.slope;
  corners.y_slope = row.slope;
  LAMI_UNROLL
  for (int i = 0; i < 4; ++i) {
    corners.inside[i] = (i % 2 == 1 ? column.has_second(width) : column.has_first(width)) &&
                        (i / 2 == 1 ? row.has_second(height) : row.has_first(height));
  }
  return corners;
}

}  // namespace lami::cuda
