// Bilinear sampling and resizing along one axis, and their derivatives, for host and device.
//
// A position on an axis of `size` pixels becomes a Tap: the pixels `index` and `index + 1` with weights 1 - fraction and
// fraction. Two-dimensional sampling is the product of a tap in x and one in y. Every function is safe for any input:
// a tap's index is always in [-2, size], so that it can be compared and then used without overflow.
#pragma once

#include <cmath>
#include <cstdint>

#include "host_device.h"

namespace lami {

enum class Padding { zeros, border, reflection };

// Further out than any image; what NaN and infinities become.
inline constexpr float kFar = 1e4f;

template <typename C>
struct Tap {
  int64_t index;
  C fraction;
  C slope;  // pixels per unit of the coordinate; 0 where the position does not follow the coordinate

  LAMI_HD bool has_first(int64_t size) const { return index >= 0 && index < size; }
  LAMI_HD bool has_second(int64_t size) const { return index >= -1 && index < size - 1; }
};

// Position in pixels, and its derivative.
template <typename C>
struct Position {
  C value;
  C slope;
};

template <typename C>
LAMI_HD Position<C> clip_position(Position<C> p, C last) {
  // As torch: no gradient on the border itself either.
  if (p.value <= C(0)) return {C(0), C(0)};
  if (p.value >= last) return {last, C(0)};
  return p;
}

// Mirrored at `low` and `low + span` until it is between them.
template <typename C>
LAMI_HD Position<C> reflect_position(Position<C> p, C low, C span) {
  if (!(span > C(0))) return {C(0), C(0)};
  const C sign = p.value < low ? C(-1) : C(1);
  const C distance = (p.value - low) * sign;
  const C flips = std::floor(distance / span);
  const C rest = distance - flips * span;
  const bool odd = flips - C(2) * std::floor(flips * C(0.5)) > C(0.5);
  return {low + (odd ? span - rest : rest), odd ? -p.slope * sign : p.slope * sign};
}

// Where a normalised coordinate lies on an axis of `size` pixels, as torch.nn.functional.grid_sample, but NaN and
// coordinates beyond 1e4 are far outside, without gradient.
template <Padding padding, typename C>
LAMI_HD Tap<C> sampling_tap(C coordinate, int64_t size, bool align_corners) {
  const C far = C(kFar);
  C slope = align_corners ? C(size - 1) * C(0.5) : C(size) * C(0.5);
  if (!(coordinate >= -far && coordinate <= far)) {
    coordinate = coordinate > far ? far : -far;
    slope = C(0);
  }
  Position<C> p;
  p.value = align_corners ? (coordinate + C(1)) * C(0.5) * C(size - 1) : ((coordinate + C(1)) * C(size) - C(1)) * C(0.5);
  p.slope = slope;
  const C last = C(size - 1);
  if constexpr (padding == Padding::border) {
    p = clip_position(p, last);
  } else if constexpr (padding == Padding::reflection) {
    p = align_corners ? reflect_position(p, C(0), last) : reflect_position(p, C(-0.5), C(size));
    p = clip_position(p, last);
  }
  // Only positions outside the image are changed; the index then fits any integer.
  const C inside = p.value < C(-2) ? C(-2) : (p.value > C(size) ? C(size) : p.value);
  const C whole = std::floor(inside);
  return {static_cast<int64_t>(whole), inside - whole, p.slope};
}

// Where pixel `i` of the `out` of a resized axis lies among the `in` of the original; bilinear, align_corners=True.
// Both pixels exist for in >= 1; at the end they are the same.
template <typename C>
struct ResizeTap {
  int64_t first;
  int64_t second;
  C fraction;

  // Weight of pixel `j` of the original.
  LAMI_HD C weight(int64_t j) const {
    return (first == j ? C(1) - fraction : C(0)) + (second == j ? fraction : C(0));
  }
};

template <typename C>
LAMI_HD ResizeTap<C> resize_tap(int64_t i, int64_t in, int64_t out) {
  const C scale = out > 1 ? C(in - 1) / C(out - 1) : C(0);
  const C position = scale * C(i);
  int64_t first = static_cast<int64_t>(position);
  if (first > in - 1) first = in - 1;
  C fraction = position - C(first);
  fraction = fraction < C(0) ? C(0) : (fraction > C(1) ? C(1) : fraction);
  return {first, first < in - 1 ? first + 1 : first, fraction};
}

// The resized pixels [begin, end) that may read pixel `j` of the original; a few more than needed, with weight 0.
struct Range {
  int64_t begin;
  int64_t end;
};

LAMI_HD Range resize_readers(int64_t j, int64_t in, int64_t out) {
  if (in <= 1 || out <= 1) return {0, out};
  const double scale = static_cast<double>(out - 1) / static_cast<double>(in - 1);
  const int64_t begin = static_cast<int64_t>(static_cast<double>(j - 1) * scale) - 1;
  const int64_t end = static_cast<int64_t>(static_cast<double>(j + 1) * scale) + 3;
  return {begin > 0 ? begin : 0, end < out ? end : out};
}

}  // namespace lami
