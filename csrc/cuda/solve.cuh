// Small dense systems, one row a lane, in registers.
#pragma once

#include "device.cuh"

namespace lami::cuda {

// Rows of the systems a kernel is compiled for, and the lanes that hold them: smaller systems are filled up with rows
// of the identity.
template <int kRows_, int kLanes_>
struct SystemShape {
  static constexpr int kRows = kRows_, kLanes = kLanes_;
};

template <class T, int kRows>
struct Row {
  T matrix[kRows];
  T right[2];
};

// Gauss-Jordan elimination with partial pivoting. Lane i of a group passes row i and returns unknown i of both
// right-hand sides; lanes past the rows take part with rows of zeros. A singular system gives values that are not
// finite.
template <class Shape, class T>
LAMI_DEVICE void solve(const Block& block, Row<T, Shape::kRows>& row, T (&unknown)[2]) {
  constexpr int kRows = Shape::kRows, kLanes = Shape::kLanes;
  const int lane = block.thread % kLanes;
  bool waiting = lane < kRows;  // not yet a pivot
  int pivot_of_mine = lane;     // lane whose row was the pivot of column `lane`
  LAMI_UNROLL
  for (int column = 0; column < kRows; ++column) {
    // A NaN counts as zero here, so that some waiting row always wins.
    const T size = row.matrix[column] < 0 ? -row.matrix[column] : row.matrix[column];
    T best = waiting ? (size > 0 ? size : T(0)) : T(-1);
    int pivot = lane;
  LAMI_UNROLL
    for (int step = kLanes / 2; step > 0; step /= 2) {
      const T other = block.from_lane(best, lane ^ step, kLanes);
      const int other_pivot = block.from_lane(pivot, lane ^ step, kLanes);
      if (other > best || (other == best && other_pivot < pivot)) {
        best = other;
        pivot = other_pivot;
      }
    }
    const bool is_pivot = lane == pivot;
    const T inverse = T(1) / row.matrix[column];
    const T factor = row.matrix[column];
  LAMI_UNROLL
    for (int j = column; j < kRows + 2; ++j) {
      T& mine = j < kRows ? row.matrix[j < kRows ? j : 0] : row.right[j < kRows ? 0 : j - kRows];
      const T scaled = block.from_lane(is_pivot ? mine * inverse : T(0), pivot, kLanes);
      mine = is_pivot ? scaled : mine - factor * scaled;
    }
    if (is_pivot) waiting = false;
    if (lane == column) pivot_of_mine = pivot;
  }
  for (int side = 0; side < 2; ++side) unknown[side] = block.from_lane(row.right[side], pivot_of_mine, kLanes);
}

}  // namespace lami::cuda
