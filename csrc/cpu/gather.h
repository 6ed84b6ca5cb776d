// The loops that read features: along the pixels of a plane, along the channels of a pixel, or along lanes of channels.
#pragma once

#include "cpu/lanes.h"
#include "cpu/simd.h"
#include "cpu/taps.h"

namespace lami {

// Pixels that are turned from planes to lanes, or back, at a time.
inline constexpr int64_t kTile = 32;

// ---- reading the four corners of each tap ---------------------------------------------------------------------------

// Offsets of the corners of a block of pixels within one channel, -1 where outside the image; see corner_weights.
struct alignas(64) Corners {
  int32_t offset[4][kBlockPixels];
};

template <typename C>
struct alignas(64) Weights {
  C weight[4][kBlockPixels];
};

template <typename C>
LAMI_INLINE void find_corners(const Taps<C>& taps, int64_t count, ImageSize size, int32_t stride_y, int32_t stride_x,
                              Corners& corners) {
  const int32_t height = static_cast<int32_t>(size.height), width = static_cast<int32_t>(size.width);
  for (int64_t i = 0; i < count; ++i) {
    const int32_t x = taps.x[i], y = taps.y[i];
    const bool left = x >= 0 && x < width, right = x >= -1 && x < width - 1;
    const bool top = y >= 0 && y < height, bottom = y >= -1 && y < height - 1;
    // Unsigned: what overflows outside the image is not used.
    const uint32_t first = static_cast<uint32_t>(y) * static_cast<uint32_t>(stride_y) +
                           static_cast<uint32_t>(x) * static_cast<uint32_t>(stride_x);
    const uint32_t below = first + static_cast<uint32_t>(stride_y);
    corners.offset[0][i] = top && left ? static_cast<int32_t>(first) : -1;
    corners.offset[1][i] = top && right ? static_cast<int32_t>(first + static_cast<uint32_t>(stride_x)) : -1;
    corners.offset[2][i] = bottom && left ? static_cast<int32_t>(below) : -1;
    corners.offset[3][i] = bottom && right ? static_cast<int32_t>(below + static_cast<uint32_t>(stride_x)) : -1;
  }
}

// Without a branch: element 0 is read instead of one outside.
template <typename C, typename T>
LAMI_INLINE C read_corner(const T* channel, int32_t offset) {
  const C value = static_cast<C>(channel[offset < 0 ? 0 : offset]);
  return offset < 0 ? C(0) : value;
}

// Few channels that lie far apart: for each channel, along the pixels.
template <typename T, typename C>
LAMI_INLINE void sample_planes(View<const T, 4> features, const Region& region, const Taps<C>& taps, View<T, 5> out) {
  const int64_t columns = region.columns(), count = region.rows() * columns;
  Corners corners;
  Weights<C> weights;
  find_corners(taps, count, {features.size[2], features.size[3]}, static_cast<int32_t>(features.stride[2]),
               static_cast<int32_t>(features.stride[3]), corners);
  for (int64_t i = 0; i < count; ++i) {
    C w[4];
    corner_weights(taps.tx[i], taps.ty[i], w);
    for (int k = 0; k < 4; ++k) weights.weight[k][i] = w[k];
  }
  const int32_t *o0 = corners.offset[0], *o1 = corners.offset[1], *o2 = corners.offset[2], *o3 = corners.offset[3];
  const C *w0 = weights.weight[0], *w1 = weights.weight[1], *w2 = weights.weight[2], *w3 = weights.weight[3];
  for (int64_t c = 0; c < features.size[1]; ++c) {
    const T* channel = features.at(region.b, c);
    for (int64_t row = 0; row < region.rows(); ++row) {
      T* target = out.at(region.b, region.t, c, region.y0 + row, region.x0);
      const int64_t at = row * columns, stride = out.stride[4];
#pragma GCC ivdep
      for (int64_t x = 0; x < columns; ++x) {
        const int64_t i = at + x;
        const C value = w0[i] * read_corner<C>(channel, o0[i]) + w1[i] * read_corner<C>(channel, o1[i]) +
                        w2[i] * read_corner<C>(channel, o2[i]) + w3[i] * read_corner<C>(channel, o3[i]);
        target[x * stride] = static_cast<T>(value * taps.mask[i]);
      }
    }
  }
}

// The four corners of one pixel as addresses of their first channel; a corner outside the image is `outside`, with
// stride 0 between its channels unless the stride is 1.
template <typename T>
struct Addresses {
  const T* first[4];
  int64_t stride[4];
};

template <typename T, typename C>
LAMI_INLINE Addresses<T> find_addresses(View<const T, 4> features, int64_t b, const Taps<C>& taps, int64_t i,
                                        const T* outside) {
  const int64_t x = taps.x[i], y = taps.y[i];
  Addresses<T> result;
  for (int k = 0; k < 4; ++k) {
    const int64_t cx = x + (k & 1), cy = y + (k >> 1);
    const bool inside = cx >= 0 && cx < features.size[3] && cy >= 0 && cy < features.size[2];
    result.first[k] = inside ? features.at(b, 0, cy, cx) : outside;
    result.stride[k] = inside ? features.stride[1] : 0;
  }
  return result;
}

// Channels lie side by side (channels_last) or the strides are unusual: for each pixel, along the channels.
template <bool unit, typename T, typename C>
LAMI_INLINE void sample_pixels(View<const T, 4> features, const Region& region, const Taps<C>& taps, View<T, 5> out,
                               const T* outside) {
  const int64_t channels = features.size[1];
  for (int64_t i = 0; i < region.rows() * region.columns(); ++i) {
    const Addresses<T> corner = find_addresses(features, region.b, taps, i, outside);
    C w[4];
    corner_weights(taps.tx[i], taps.ty[i], w);
    const C mask = taps.mask[i];
    T* target = out.at(region.b, region.t, 0, region.y0 + i / region.columns(), region.x0 + i % region.columns());
    const T *p0 = corner.first[0], *p1 = corner.first[1], *p2 = corner.first[2], *p3 = corner.first[3];
    const int64_t stride = unit ? 1 : out.stride[2];
#pragma GCC ivdep
    for (int64_t c = 0; c < channels; ++c) {
      const C value = w[0] * static_cast<C>(p0[unit ? c : c * corner.stride[0]]) +
                      w[1] * static_cast<C>(p1[unit ? c : c * corner.stride[1]]) +
                      w[2] * static_cast<C>(p2[unit ? c : c * corner.stride[2]]) +
                      w[3] * static_cast<C>(p3[unit ? c : c * corner.stride[3]]);
      target[c * stride] = static_cast<T>(value * mask);
    }
  }
}

// The four corners of one pixel in an image of lanes; `outside` is what lies around it.
template <int lanes, typename C>
LAMI_INLINE void find_lanes(const LaneImage<lanes, C>& image, ImageSize size, const Taps<C>& taps, int64_t i, const C* outside,
                            const C* corner[4]) {
  const int64_t x = taps.x[i], y = taps.y[i];
  const bool left = x >= 0 && x < size.width, right = x >= -1 && x < size.width - 1;
  const bool top = y >= 0 && y < size.height, bottom = y >= -1 && y < size.height - 1;
  corner[0] = top && left ? image.row(y) + x * lanes : outside;
  corner[1] = top && right ? image.row(y) + (x + 1) * lanes : outside;
  corner[2] = bottom && left ? image.row(y + 1) + x * lanes : outside;
  corner[3] = bottom && right ? image.row(y + 1) + (x + 1) * lanes : outside;
}

// ---- products with the corners: all that the gradients of flow and mask need ----------------------------------------

// Sums over the channels of grad * corner, for the pixels of a region.
template <typename C>
struct Products {
  C* sum[4];
};

template <typename T, typename C>
LAMI_INLINE void multiply_planes(View<const T, 4> features, View<const T, 5> grad, const Region& region,
                                 const Taps<C>& taps, const Products<C>& products) {
  const int64_t columns = region.columns(), count = region.rows() * columns;
  Corners corners;
  find_corners(taps, count, {features.size[2], features.size[3]}, static_cast<int32_t>(features.stride[2]),
               static_cast<int32_t>(features.stride[3]), corners);
  const int32_t *o0 = corners.offset[0], *o1 = corners.offset[1], *o2 = corners.offset[2], *o3 = corners.offset[3];
  C *s0 = products.sum[0], *s1 = products.sum[1], *s2 = products.sum[2], *s3 = products.sum[3];
  for (int64_t c = 0; c < features.size[1]; ++c) {
    const T* channel = features.at(region.b, c);
    for (int64_t row = 0; row < region.rows(); ++row) {
      const T* source = grad.at(region.b, region.t, c, region.y0 + row, region.x0);
      const int64_t at = row * columns, stride = grad.stride[4];
#pragma GCC ivdep
      for (int64_t x = 0; x < columns; ++x) {
        const int64_t i = at + x;
        const C g = static_cast<C>(source[x * stride]);
        s0[i] += g * read_corner<C>(channel, o0[i]);
        s1[i] += g * read_corner<C>(channel, o1[i]);
        s2[i] += g * read_corner<C>(channel, o2[i]);
        s3[i] += g * read_corner<C>(channel, o3[i]);
      }
    }
  }
}

template <bool unit, typename T, typename C>
LAMI_INLINE void multiply_pixels(View<const T, 4> features, View<const T, 5> grad, const Region& region,
                                 const Taps<C>& taps, const Products<C>& products, const T* outside) {
  const int64_t channels = features.size[1], stride = unit ? 1 : grad.stride[2];
  for (int64_t i = 0; i < region.rows() * region.columns(); ++i) {
    const Addresses<T> corner = find_addresses(features, region.b, taps, i, outside);
    const T* source = grad.at(region.b, region.t, 0, region.y0 + i / region.columns(), region.x0 + i % region.columns());
    const T *p0 = corner.first[0], *p1 = corner.first[1], *p2 = corner.first[2], *p3 = corner.first[3];
    C s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
    for (int64_t c = 0; c < channels; ++c) {
      const C g = static_cast<C>(source[c * stride]);
      s0 += g * static_cast<C>(p0[unit ? c : c * corner.stride[0]]);
      s1 += g * static_cast<C>(p1[unit ? c : c * corner.stride[1]]);
      s2 += g * static_cast<C>(p2[unit ? c : c * corner.stride[2]]);
      s3 += g * static_cast<C>(p3[unit ? c : c * corner.stride[3]]);
    }
    products.sum[0][i] = s0, products.sum[1][i] = s1, products.sum[2][i] = s2, products.sum[3][i] = s3;
  }
}

// Channels [first, first + channels) at hand in `image`; see lanes.h.
template <int lanes, typename T, typename C>
LAMI_INLINE void sample_lanes(const LaneImage<lanes, C>& image, ImageSize size, int64_t first, int64_t channels,
                              const Region& region, const Taps<C>& taps, View<T, 5> out) {
  alignas(64) C tile[kTile * lanes];
  alignas(64) const C outside[lanes] = {};
  const int64_t columns = region.columns();
  for (int64_t row = 0; row < region.rows(); ++row) {
    for (int64_t x0 = 0; x0 < columns; x0 += kTile) {
      const int64_t count = std::min(kTile, columns - x0);
      for (int64_t x = 0; x < count; ++x) {
        const int64_t i = row * columns + x0 + x;
        const C* corner[4];
        find_lanes(image, size, taps, i, outside, corner);
        C w[4];
        corner_weights(taps.tx[i], taps.ty[i], w);
        const C mask = taps.mask[i];
        for (int l = 0; l < lanes; ++l) {
          tile[x * lanes + l] =
              (w[0] * corner[0][l] + w[1] * corner[1][l] + w[2] * corner[2][l] + w[3] * corner[3][l]) * mask;
        }
      }
      unpack<lanes>(tile, channels, count, out.at(region.b, region.t, first, region.y0 + row, region.x0 + x0), out.stride[2],
             out.stride[4]);
    }
  }
}

// Adds to the products.
template <int lanes, typename T, typename C>
LAMI_INLINE void multiply_lanes(const LaneImage<lanes, C>& image, ImageSize size, int64_t first, int64_t channels,
                                View<const T, 5> grad, const Region& region, const Taps<C>& taps,
                                const Products<C>& products) {
  alignas(64) C tile[kTile * lanes];
  alignas(64) const C outside[lanes] = {};
  const int64_t columns = region.columns();
  for (int64_t row = 0; row < region.rows(); ++row) {
    for (int64_t x0 = 0; x0 < columns; x0 += kTile) {
      const int64_t count = std::min(kTile, columns - x0);
      const T* source = grad.at(region.b, region.t, first, region.y0 + row, region.x0 + x0);
      pack<lanes>(source, grad.stride[2], grad.stride[4], channels, count, tile);
      for (int64_t x = 0; x < count; ++x) {
        const int64_t i = row * columns + x0 + x;
        const C *corner[4], *g = tile + x * lanes;
        find_lanes(image, size, taps, i, outside, corner);
        C s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma omp simd reduction(+ : s0, s1, s2, s3)
        for (int l = 0; l < lanes; ++l) {
          s0 += g[l] * corner[0][l];
          s1 += g[l] * corner[1][l];
          s2 += g[l] * corner[2][l];
          s3 += g[l] * corner[3][l];
        }
        products.sum[0][i] += s0;
        products.sum[1][i] += s1;
        products.sum[2][i] += s2;
        products.sum[3][i] += s3;
      }
    }
  }
}

// Gradients of the coordinates (x, y) and of the mask at pixel `i` of the region at (b, t, y, x).
template <typename C>
LAMI_INLINE void finish_products(const Taps<C>& taps, int64_t i, const C s[4], C* coordinates, C* mask) {
  const C tx = taps.tx[i], ty = taps.ty[i];
  if (coordinates != nullptr) {
    // A slope of 0 also keeps non-finite features out.
    const C slope_x = taps.slope_x[i], slope_y = taps.slope_y[i];
    const C along_x = (1 - ty) * (s[1] - s[0]) + ty * (s[3] - s[2]), along_y = (1 - tx) * (s[2] - s[0]) + tx * (s[3] - s[1]);
    coordinates[0] = slope_x == C(0) ? C(0) : taps.mask[i] * slope_x * along_x;
    coordinates[1] = slope_y == C(0) ? C(0) : taps.mask[i] * slope_y * along_y;
  }
  if (mask != nullptr) {
    C w[4];
    corner_weights(tx, ty, w);
    *mask = w[0] * s[0] + w[1] * s[1] + w[2] * s[2] + w[3] * s[3];
  }
}

}  // namespace lami
