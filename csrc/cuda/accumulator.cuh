// Sums of gradients that many threads add to.
//
// Floating atomics add in any order, so that two runs differ in the last bits. The deterministic way sums 64-bit
// integers, whose order does not matter: terms are rounded to multiples of about 2^(bits - 61) times the largest term,
// where 2^bits bounds the number of terms of a sum. With 3 x 256 x 256 terms that leaves 43 bits below the largest,
// more than fp32 has and fewer than fp64. It costs a pass over the incoming gradient, twice the memory of a fp32 sum,
// and a pass that converts it. An incoming gradient that is not finite makes the whole result NaN.
#pragma once

#include <cmath>

#include "../view.h"
#include "tensors.cuh"

namespace lami::cuda {

template <class T>
struct Accumulator {
  T* floating;       // one of these two is null
  int64_t* fixed;
  const T* largest;  // no term is larger; two factors, of which the second may be null
  const T* largest_factor;
  int bits;

  // Of fixed terms: a power of two, 0 where all terms are 0, NaN where one is not finite.
  LAMI_DEVICE T scale() const {
    if (fixed == nullptr) return T(1);
    const T bound = largest_factor == nullptr ? *largest : *largest * *largest_factor;
    if (!(bound - bound == T(0))) return T(NAN);
    if (bound == T(0)) return T(0);
    const int exponent = 61 - bits - ilogb(bound), most = sizeof(T) == 4 ? 126 : 1022;
    return scalbn(T(1), exponent < most ? exponent : most);
  }

  LAMI_DEVICE void add(int64_t offset, T term, T scale) const {
    if (fixed == nullptr) {
      atomic_add(floating + offset, term);
    } else if (scale > T(0)) {
      atomic_add(fixed + offset, static_cast<int64_t>(llrint(term * scale)));
    }
  }

  LAMI_DEVICE T total(int64_t offset, T scale) const {
    if (fixed == nullptr) return floating[offset];
    return scale == T(0) ? T(0) : static_cast<T>(fixed[offset]) / scale;
  }
};

// The largest absolute value of a tensor, NaN if it has one; `largest` starts at 0.
template <class S, class T>
struct LargestKernel {
  static constexpr int kThreads = 256;
  static constexpr int kRowsOfBlock = 64;
  using Shared = Nothing;

  View<const S, 5> tensor;
  int64_t rows;
  T* largest;

  LAMI_DEVICE void operator()(const Block& block, Shared&) const {
    T most = T(0);
    for (int i = block.thread / kWarp; i < kRowsOfBlock; i += kThreads / kWarp) {
      const int64_t row = int64_t{block.index} * kRowsOfBlock + i;
      if (row >= rows) break;
      const int64_t y = row % tensor.size[3], plane = row / tensor.size[3];
      const int64_t c = plane % tensor.size[2], moment = plane / tensor.size[2];
      const S* values = tensor.at(moment / tensor.size[1], moment % tensor.size[1], c, y);
      for (int64_t x = block.thread % kWarp; x < tensor.size[4]; x += kWarp) {
        const T value = static_cast<T>(values[x * tensor.stride[4]]), size = value < T(0) ? -value : value;
        most = most != most || size <= most ? most : size;
      }
    }
    // NaN survives: it is not at most anything.
    LAMI_UNROLL
    for (int step = kWarp / 2; step > 0; step /= 2) {
      const T other = block.from_lane(most, block.thread % kWarp ^ step, kWarp);
      most = most != most || other <= most ? most : other;
    }
    if (block.thread % kWarp == 0) atomic_max(largest, most != most ? T(NAN) : most);
  }
};

template <class S, class T>
void find_largest(const Stream& stream, const View<const S, 5>& tensor, T* largest) {
  using Kernel = LargestKernel<S, T>;
  const int64_t rows = tensor.size[0] * tensor.size[1] * tensor.size[2] * tensor.size[3];
  stream.launch(Kernel{tensor, rows, largest}, ceil_div(rows, Kernel::kRowsOfBlock));
}

// Sums to the dtype of the gradient; both have one layout without gaps.
template <class S, class T>
struct TotalKernel {
  static constexpr int kThreads = 256;
  using Shared = Nothing;

  Accumulator<T> sums;
  S* gradient;
  int64_t elements;

  LAMI_DEVICE void operator()(const Block& block, Shared&) const {
    const int64_t i = int64_t{block.index} * kThreads + block.thread;
    if (i < elements) gradient[i] = static_cast<S>(sums.total(i, sums.scale()));
  }
};

// A gradient (B, C, H, W) in the making, in the layout of its input: sums, and the gradient itself once `finish` ran.
template <class S, class T>
class GradientSum {
 public:
  // `terms` bounds the number of terms of an element.
  GradientSum(const Tensor& input, bool deterministic, int64_t terms)
      : deterministic_(deterministic), in_place_(!deterministic && std::is_same_v<S, T>) {
    const MemoryFormat format = format_of(input);
    const ScalarType type = scalar_type_of<T>;
    sums_ = zeros(shape_of(input), deterministic ? ScalarType::Long : type, input, format);
    gradient_ = in_place_ ? sums_ : empty(shape_of(input), scalar_type_of<S>, input, format);
    if (deterministic) largest_ = zeros({2}, type, input);
    while (terms >> bits_ > 0) ++bits_;
  }

  // Where the largest term, or its two factors, must be found before the sums begin; null if it does not matter.
  T* largest() const { return deterministic_ ? data<T>(largest_) : nullptr; }

  Accumulator<T> accumulator(bool two_factors) const {
    if (!deterministic_) return {data<T>(sums_), nullptr, nullptr, nullptr, 0};
    const T* largest = data<const T>(largest_);
    return {nullptr, data<int64_t>(sums_), largest, two_factors ? largest + 1 : nullptr, bits_};
  }

  // Where the accumulator's offsets lead; not to be read.
  View<const T, 4> layout() const {
    View<const T, 4> layout{nullptr, {}, {}};
    for (int axis = 0; axis < 4; ++axis) layout.stride[axis] = sums_.stride(axis);
    return layout;
  }

  Tensor finish(const Stream& stream, bool two_factors) const {
    if (!in_place_) {
      using Kernel = TotalKernel<S, T>;
      stream.launch(Kernel{accumulator(two_factors), data<S>(gradient_), gradient_.numel()},
                    ceil_div(gradient_.numel(), Kernel::kThreads));
    }
    return gradient_;
  }

 private:
  bool deterministic_, in_place_;
  int bits_ = 0;
  Tensor sums_, gradient_, largest_;
};

}  // namespace lami::cuda
