// Rows of bilinear samples of a source plane, zeros outside, align_corners. To be called inside `simd` (simd.h).
#pragma once

#include <cstdint>

#include "../math/bilinear.h"
#include "rows.h"

namespace lami {

// Where a row of positions reads a plane: for each pixel the four corners in the order (y0, x0), (y0, x1), (y1, x0),
// (y1, x1). The offset of a corner outside the plane is -1.
template <typename T>
struct TapRow {
  static constexpr int64_t kValues = 2;
  static constexpr int64_t kOffsets = 4;

  T* fraction_x;
  T* fraction_y;
  int32_t* offset[4];

  TapRow(T* values, int32_t* offsets, int64_t width) : fraction_x(values), fraction_y(values + width) {
    for (int corner = 0; corner < 4; ++corner) offset[corner] = offsets + corner * width;
  }
};

// Shape and strides of the plane that is sampled, which must be small enough for 32-bit offsets.
struct Plane {
  int64_t height, width, stride_y, stride_x;

  bool small() const {
    return height <= INT32_MAX && width <= INT32_MAX && (height - 1) * stride_y + (width - 1) * stride_x <= INT32_MAX;
  }
};

// `sampling_tap` of one axis, with zeros outside, as selects and 32-bit integers: these vectorise.
template <typename T>
struct AxisTap {
  T fraction;
  int32_t index;

  LAMI_HD AxisTap(T coordinate, T size) {
    const T far = T(kFar);
    coordinate = coordinate > -far ? coordinate : -far;  // NaN too
    coordinate = coordinate < far ? coordinate : far;
    T position = (coordinate + T(1)) * T(0.5) * (size - T(1));
    position = position > T(-2) ? position : T(-2);
    position = position < size ? position : size;
    const T whole = std::floor(position);
    fraction = position - whole;
    index = static_cast<int32_t>(whole);
  }
};

template <typename T>
LAMI_HD void tap_row(const T* __restrict to_x, const T* __restrict to_y, const Plane& plane, int64_t width,
                     const TapRow<T>& taps) {
  T* __restrict fraction_x = taps.fraction_x;
  T* __restrict fraction_y = taps.fraction_y;
  int32_t* __restrict o00 = taps.offset[0];
  int32_t* __restrict o01 = taps.offset[1];
  int32_t* __restrict o10 = taps.offset[2];
  int32_t* __restrict o11 = taps.offset[3];
  const T size_x = static_cast<T>(plane.width), size_y = static_cast<T>(plane.height);
  const int32_t last_x = static_cast<int32_t>(plane.width - 1), last_y = static_cast<int32_t>(plane.height - 1);
  // Unsigned: what overflows belongs to a corner outside, and is not used.
  const uint32_t stride_x = static_cast<uint32_t>(plane.stride_x), stride_y = static_cast<uint32_t>(plane.stride_y);
#pragma omp simd
  for (int64_t i = 0; i < width; ++i) {
    const AxisTap<T> x(to_x[i], size_x), y(to_y[i], size_y);
    const uint32_t first = static_cast<uint32_t>(y.index) * stride_y + static_cast<uint32_t>(x.index) * stride_x;
    const uint32_t second = first + stride_y;
    const int x0 = (x.index >= 0) & (x.index <= last_x), x1 = (x.index >= -1) & (x.index < last_x);
    const int y0 = (y.index >= 0) & (y.index <= last_y), y1 = (y.index >= -1) & (y.index < last_y);
    fraction_x[i] = x.fraction;
    fraction_y[i] = y.fraction;
    o00[i] = x0 & y0 ? static_cast<int32_t>(first) : -1;
    o01[i] = x1 & y0 ? static_cast<int32_t>(first + stride_x) : -1;
    o10[i] = x0 & y1 ? static_cast<int32_t>(second) : -1;
    o11[i] = x1 & y1 ? static_cast<int32_t>(second + stride_x) : -1;
  }
}

// Reads pixel 0 where there is no corner, then forgets it: a load without a branch vectorises, best in eights, since
// compilers gather by single loads.
template <typename T, typename S>
LAMI_HD T corner(const S* plane, int32_t offset) {
  const T value = static_cast<T>(plane[offset > 0 ? offset : 0]);
  return offset >= 0 ? value : T(0);
}

template <typename T, typename S>
LAMI_HD void sample_row(const S* __restrict plane, const TapRow<T>& taps, int64_t width, T* __restrict to) {
  const T* __restrict fraction_x = taps.fraction_x;
  const T* __restrict fraction_y = taps.fraction_y;
  const int32_t *o00 = taps.offset[0], *o01 = taps.offset[1], *o10 = taps.offset[2], *o11 = taps.offset[3];
#pragma omp simd simdlen(8)
  for (int64_t i = 0; i < width; ++i) {
    const T x1 = fraction_x[i], y1 = fraction_y[i], x0 = T(1) - x1, y0 = T(1) - y1;
    to[i] = corner<T>(plane, o00[i]) * (x0 * y0) + corner<T>(plane, o01[i]) * (x1 * y0) +
            corner<T>(plane, o10[i]) * (x0 * y1) + corner<T>(plane, o11[i]) * (x1 * y1);
  }
}

// Adds the gradients of the positions, in pixels, for the gradient of a row of samples.
template <typename T, typename S>
LAMI_HD void sample_row_adjoint(const S* __restrict plane, const TapRow<T>& taps, int64_t width,
                                const T* __restrict grad, T* __restrict grad_x, T* __restrict grad_y) {
  const T* __restrict fraction_x = taps.fraction_x;
  const T* __restrict fraction_y = taps.fraction_y;
  const int32_t *o00 = taps.offset[0], *o01 = taps.offset[1], *o10 = taps.offset[2], *o11 = taps.offset[3];
#pragma omp simd simdlen(8)
  for (int64_t i = 0; i < width; ++i) {
    const T x1 = fraction_x[i], y1 = fraction_y[i], x0 = T(1) - x1, y0 = T(1) - y1;
    const T v00 = corner<T>(plane, o00[i]), v01 = corner<T>(plane, o01[i]);
    const T v10 = corner<T>(plane, o10[i]), v11 = corner<T>(plane, o11[i]);
    grad_x[i] += grad[i] * ((v01 - v00) * y0 + (v11 - v10) * y1);
    grad_y[i] += grad[i] * ((v10 - v00) * x0 + (v11 - v01) * x1);
  }
}

// Adds the gradient of a dense image (1 + pixels, channels) whose offsets the taps hold; grad is (channels, width). The
// image's first pixel takes what belongs to corners outside, at offset -1.
template <typename T>
LAMI_HD void scatter_row(const TapRow<T>& taps, int64_t channels, int64_t width, const T* __restrict grad,
                         T* __restrict image) {
  for (int64_t i = 0; i < width; ++i) {
    const T x1 = taps.fraction_x[i], y1 = taps.fraction_y[i], x0 = T(1) - x1, y0 = T(1) - y1;
    const T weights[4] = {x0 * y0, x1 * y0, x0 * y1, x1 * y1};
    for (int k = 0; k < 4; ++k) {
      T* to = image + (taps.offset[k][i] + int64_t(1)) * channels;
      for (int64_t c = 0; c < channels; ++c) to[c] += grad[c * width + i] * weights[k];
    }
  }
}

}  // namespace lami
