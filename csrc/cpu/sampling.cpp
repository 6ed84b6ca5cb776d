#include "cpu/sampling.h"

#include <memory>

#include "cpu/resize.h"
#include "cpu/scatter.h"
#include "cpu/taps.h"

namespace lami {
namespace {

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

// Channels lie far apart: for each channel, along the pixels.
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

// ---- products with the corners: all that the gradients of flow and mask need ----------------------------------------

// Sums over the channels of grad * corner.
template <typename C>
struct alignas(64) Products {
  C sum[4][kBlockPixels];
};

template <typename T, typename C>
LAMI_INLINE void multiply_planes(View<const T, 4> features, View<const T, 5> grad, const Region& region,
                                 const Taps<C>& taps, Products<C>& products) {
  const int64_t columns = region.columns(), count = region.rows() * columns;
  Corners corners;
  find_corners(taps, count, {features.size[2], features.size[3]}, static_cast<int32_t>(features.stride[2]),
               static_cast<int32_t>(features.stride[3]), corners);
  const int32_t *o0 = corners.offset[0], *o1 = corners.offset[1], *o2 = corners.offset[2], *o3 = corners.offset[3];
  C *s0 = products.sum[0], *s1 = products.sum[1], *s2 = products.sum[2], *s3 = products.sum[3];
  for (C* sum : {s0, s1, s2, s3}) std::fill(sum, sum + count, C(0));
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
                                 const Taps<C>& taps, Products<C>& products, const T* outside) {
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

// Gradients of the coordinates (x, y) and of the mask at the pixels of a region.
template <typename C>
LAMI_INLINE void finish_products(const Region& region, const Taps<C>& taps, const Products<C>& products,
                                 View<C, 5> coordinates, View<C, 5> mask) {
  for (int64_t i = 0; i < region.rows() * region.columns(); ++i) {
    const C tx = taps.tx[i], ty = taps.ty[i];
    const C s0 = products.sum[0][i], s1 = products.sum[1][i], s2 = products.sum[2][i], s3 = products.sum[3][i];
    const int64_t y = region.y0 + i / region.columns(), x = region.x0 + i % region.columns();
    if (coordinates.data != nullptr) {
      C* target = coordinates.at(region.b, region.t, y, x);
      // A slope of 0 also means that non-finite features stay out.
      const C scale_x = taps.mask[i] * taps.slope_x[i], scale_y = taps.mask[i] * taps.slope_y[i];
      target[0] = taps.slope_x[i] == C(0) ? C(0) : scale_x * ((1 - ty) * (s1 - s0) + ty * (s3 - s2));
      target[1] = taps.slope_y[i] == C(0) ? C(0) : scale_y * ((1 - tx) * (s2 - s0) + tx * (s3 - s1));
    }
    if (mask.data != nullptr) {
      C w[4];
      corner_weights(tx, ty, w);
      mask(region.b, region.t, y, x, 0) = w[0] * s0 + w[1] * s1 + w[2] * s2 + w[3] * s3;
    }
  }
}

// ---- choice of the loops --------------------------------------------------------------------------------------------

enum class Order { planes, pixels, strided_pixels };

template <typename T, typename Other>
Order loop_order(const View<const T, 4>& features, const View<Other, 5>& other) {
  if (features.stride[1] == 1 && other.stride[2] == 1 && features.size[1] > 1) return Order::pixels;
  const int64_t last = (features.size[2] - 1) * features.stride[2] + (features.size[3] - 1) * features.stride[3];
  return last < INT32_MAX ? Order::planes : Order::strided_pixels;
}

// Zeros in place of corners outside the image.
template <typename T>
std::vector<T> outside_of(Order order, int64_t channels) {
  return std::vector<T>(order == Order::pixels ? channels : 1, T(0));
}

template <typename T, typename C>
Tensor sample_as(const SamplingProblem& problem) {
  const int64_t batch = problem.features.size(0), channels = problem.features.size(1), times = problem.flow.size(1);
  const Shape shape = {batch * times, channels, problem.height, problem.width};
  Tensor result = empty(shape, scalar_type_of<T>, problem.features, format_of(problem.features));
  if (result.numel() == 0) return result;
  if (problem.features.numel() == 0) return torch::stable::zero_(result);

  const auto features = view<const T, 4>(problem.features);
  const auto out = view<T, 5>(split_times(result, batch));
  const Sampler<C> sampler(problem.flow, pointer(problem.mask), {problem.height, problem.width},
                           {features.size[2], features.size[3]}, problem.padding, problem.align_corners);
  const Order order = loop_order(features, out);
  const std::vector<T> outside = outside_of<T>(order, channels);
  const Regions regions(batch, times, problem.height, problem.width);
  parallel_tasks(regions.count(), [&](int64_t task) {
    const Region region = regions.at(task);
    Taps<C> taps;
    sampler.taps(region, taps);
    simd([&] {
      if (order == Order::planes) {
        sample_planes(features, region, taps, out);
      } else if (order == Order::pixels) {
        sample_pixels<true>(features, region, taps, out, outside.data());
      } else {
        sample_pixels<false>(features, region, taps, out, outside.data());
      }
    });
  });
  return result;
}

template <typename T, typename C>
SamplingGradients sample_backward_as(const Tensor& grad, const SamplingProblem& problem, SamplingNeeds needs,
                                     const std::optional<Tensor>& flow_sum) {
  const int64_t batch = problem.features.size(0), channels = problem.features.size(1), times = problem.flow.size(1);
  const int64_t height = problem.height, width = problem.width;
  const Tensor& like = problem.features;
  const bool empty_problem = grad.numel() == 0 || problem.features.numel() == 0;
  const Sampler<C> sampler(problem.flow, pointer(problem.mask), {height, width}, {like.size(2), like.size(3)},
                           problem.padding, problem.align_corners);
  const auto features = view<const T, 4>(problem.features);
  const auto upstream = view<const T, 5>(grad);
  SamplingGradients result;

  if (needs.features) {
    result.features = empty(shape_of(like), scalar_type_of<T>, like, format_of(like));
    if (empty_problem) {
      torch::stable::zero_(result.features);
    } else {
      scatter(sampler, upstream, view<T, 4>(result.features));
    }
  }
  if (!needs.flow && !needs.mask) return result;

  if (needs.flow) result.flow = flow_sum ? *flow_sum : zeros(shape_of(problem.flow), scalar_type_of<C>, like);
  if (needs.mask) result.mask = zeros(shape_of(*problem.mask), scalar_type_of<C>, like);
  if (empty_problem) return result;

  // At the size of the output, then gathered into the size of the flow and of the mask.
  Tensor coordinates = empty({batch, times, height, width, 2}, scalar_type_of<C>, like);
  Tensor mask = empty({batch, times, height, width, 1}, scalar_type_of<C>, like);
  auto coordinates_view = view<C, 5>(coordinates), mask_view = view<C, 5>(mask);
  if (!needs.flow) coordinates_view.data = nullptr;
  if (!needs.mask) mask_view.data = nullptr;
  const Order order = loop_order(features, upstream);
  const std::vector<T> outside = outside_of<T>(order, channels);
  const Regions regions(batch, times, height, width);
  parallel_tasks(regions.count(), [&](int64_t task) {
    const Region region = regions.at(task);
    Taps<C> taps;
    Products<C> products;
    sampler.taps(region, taps);
    simd([&] {
      if (order == Order::planes) {
        multiply_planes(features, upstream, region, taps, products);
      } else if (order == Order::pixels) {
        multiply_pixels<true>(features, upstream, region, taps, products, outside.data());
      } else {
        multiply_pixels<false>(features, upstream, region, taps, products, outside.data());
      }
      finish_products(region, taps, products, coordinates_view, mask_view);
    });
  });
  if (needs.flow) {
    add_resize_adjoint(coordinates_view.data, batch * times, height, width, 2,
                       static_cast<C*>(result.flow.mutable_data_ptr()), problem.flow.size(2), problem.flow.size(3));
  }
  if (needs.mask) {
    add_resize_adjoint(mask_view.data, batch * times, height, width, 1,
                       static_cast<C*>(result.mask.mutable_data_ptr()), problem.mask->size(3), problem.mask->size(4));
  }
  return result;
}

// In the dtypes that the loops are made for: features in their own or double, flow and mask in the compute type.
SamplingProblem in_compute_type(const SamplingProblem& problem) {
  const ScalarType type = compute_type({&problem.features, &problem.flow, pointer(problem.mask)});
  SamplingProblem result = problem;
  if (type == ScalarType::Double) result.features = cast(problem.features, type);
  result.flow = cast(problem.flow, type);
  if (problem.mask) result.mask = cast(*problem.mask, type);
  return result;
}

}  // namespace

Tensor split_times(const Tensor& tensor, int64_t batch) {
  Shape shape = shape_of(tensor);
  const int64_t times = batch > 0 ? shape[0] / batch : 1;
  shape[0] = batch;
  shape.insert(shape.begin() + 1, times);
  return torch::stable::view(tensor, shape);
}

Tensor merge_times(const Tensor& tensor) {
  Shape shape = shape_of(tensor);
  shape[1] *= shape[0];
  shape.erase(shape.begin());
  return torch::stable::view(tensor, shape);
}

Padding padding_of(const char* op, const std::string& name) {
  if (name == "zeros") return Padding::zeros;
  if (name == "border") return Padding::border;
  STD_TORCH_CHECK(name == "reflection", op, ": padding_mode must be zeros, border or reflection, got ", name);
  return Padding::reflection;
}

void check_sampling(const char* op, const SamplingProblem& problem) {
  check_tensor(op, "features", problem.features, {-1, -1, -1, -1});
  const int64_t batch = problem.features.size(0);
  check_tensor(op, "flow", problem.flow, {batch, -1, -1, -1, 2});
  const bool some = problem.height > 0 && problem.width > 0;
  STD_TORCH_CHECK(!some || (problem.flow.size(2) > 0 && problem.flow.size(3) > 0), op, ": flow has no pixels");
  STD_TORCH_CHECK(std::max(problem.features.size(2), problem.features.size(3)) < INT32_MAX - 2, op,
                  ": a side of features has too many pixels");
  if (problem.mask) {
    check_tensor(op, "mask", *problem.mask, {batch, problem.flow.size(1), 1, -1, -1});
    STD_TORCH_CHECK(!some || (problem.mask->size(3) > 0 && problem.mask->size(4) > 0), op, ": mask has no pixels");
  }
}

Tensor sample(const SamplingProblem& given) {
  const SamplingProblem problem = in_compute_type(given);
  Tensor result = dispatch_floating(problem.features.scalar_type(), "sample", [&](auto type) {
    using T = typename decltype(type)::type;
    return sample_as<T, compute_t<T>>(problem);
  });
  return cast(result, given.features.scalar_type());
}

SamplingGradients sample_backward(const Tensor& grad, const SamplingProblem& given, SamplingNeeds needs,
                                  const std::optional<Tensor>& flow_sum) {
  const SamplingProblem problem = in_compute_type(given);
  needs.mask = needs.mask && problem.mask;
  SamplingGradients result = dispatch_floating(problem.features.scalar_type(), "sample_backward", [&](auto type) {
    using T = typename decltype(type)::type;
    return sample_backward_as<T, compute_t<T>>(cast(grad, scalar_type_of<T>), problem, needs, flow_sum);
  });
  const Tensor none = nothing(grad.scalar_type(), grad);
  result.features = needs.features ? cast(result.features, given.features.scalar_type()) : none;
  if (!needs.flow) result.flow = none;
  result.mask = needs.mask ? cast(result.mask, given.mask->scalar_type()) : none;
  return result;
}

}  // namespace lami
