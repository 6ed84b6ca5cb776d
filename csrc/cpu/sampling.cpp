#include "cpu/sampling.h"

#include <memory>

#include "cpu/gather.h"
#include "cpu/resize.h"
#include "cpu/scatter.h"
#include "cpu/taps.h"

namespace lami {
namespace {

// How the loops run: planes, for each channel along the pixels; pixels, for each pixel along the channels; lanes, as
// pixels, with a few channels at a time brought side by side first.
enum class Order { planes, lanes, pixels, strided_pixels };

template <typename T, typename Other>
Order loop_order(const View<const T, 4>& features, const View<Other, 5>& other) {
  const int64_t channels = features.size[1], pixels = features.size[2] * features.size[3];
  if (features.stride[1] == 1 && other.stride[2] == 1 && channels > 1) return Order::pixels;
  // Worth it where most of the image is read, and as long as the copy is not huge.
  const bool most = 2 * other.size[1] * other.size[3] * other.size[4] >= pixels;
  if (channels > 1 && most && pixels <= (int64_t(1) << 22)) return Order::lanes;
  const int64_t last = (features.size[2] - 1) * features.stride[2] + (features.size[3] - 1) * features.stride[3];
  return last < INT32_MAX ? Order::planes : Order::strided_pixels;
}

int64_t groups_of(int64_t channels, int lanes) { return (channels + lanes - 1) / lanes; }

// f(std::integral_constant<int, lanes>{}) with the number of lanes that suits the channels.
template <typename Function>
void dispatch_lanes(int64_t channels, Function&& f) {
  if (channels <= kFewLanes) {
    f(std::integral_constant<int, kFewLanes>{});
  } else {
    f(std::integral_constant<int, kManyLanes>{});
  }
}

// Zeros in place of corners outside the image.
template <typename T>
std::vector<T> outside_of(Order order, int64_t channels) {
  return std::vector<T>(order == Order::pixels ? channels : 1, T(0));
}

// task(image, first channel, channels, share, region) for each region: `shares` of the channel groups of an image are worked on at the
// same time, and strips of its rows where that is not enough for the threads.
template <int lanes, typename T, typename C, typename Task>
void lane_tasks(const View<const T, 4>& features, const Regions& regions, int64_t shares, const Task& task) {
  const int64_t channels = features.size[1], groups = groups_of(channels, lanes);
  const int64_t threads = torch::stable::get_num_threads(), count = regions.count_of_image();
  const int64_t strips = std::clamp<int64_t>(threads / std::max<int64_t>(regions.batch * shares, 1), 1, count);
  parallel_tasks(regions.batch * shares * strips, [&](int64_t i) {
    const int64_t b = i / strips / shares, share = i / strips % shares, strip = i % strips;
    LaneImage<lanes, C> image(features.size[2], features.size[3]);
    for (int64_t group = groups * share / shares; group < groups * (share + 1) / shares; ++group) {
      const int64_t first = group * lanes, at_hand = std::min<int64_t>(lanes, channels - first);
      image.load(features, b, first, at_hand);
      simd([&] {
        for (int64_t r = count * strip / strips; r < count * (strip + 1) / strips; ++r) {
          for (int64_t t = 0; t < regions.times; ++t) task(image, first, at_hand, share, regions.of_image(b, t, r));
        }
      });
    }
  });
}

template <typename C>
Sampler<C> sampler_of(const SamplingProblem& problem) {
  return Sampler<C>(problem.flow, pointer(problem.mask), {problem.height, problem.width},
                    {problem.features.size(2), problem.features.size(3)}, problem.padding, problem.align_corners);
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
  const Regions regions(batch, times, problem.height, problem.width);
  const TapField<C> field(sampler_of<C>(problem), regions, false);
  const Order order = loop_order(features, out);
  if (order == Order::lanes) {
    const ImageSize size = {features.size[2], features.size[3]};
    dispatch_lanes(channels, [&](auto lanes) {
      lane_tasks<lanes, T, C>(
          features, regions, groups_of(channels, lanes),
          [&](const auto& image, int64_t first, int64_t at_hand, int64_t, const Region& region) {
            sample_lanes(image, size, first, at_hand, region, field.at(region), out);
          });
    });
    return result;
  }
  const std::vector<T> outside = outside_of<T>(order, channels);
  parallel_tasks(regions.count(), [&](int64_t task) {
    const Region region = regions.at(task);
    const Taps<C> taps = field.at(region);
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

// Gradients of the coordinates (B, T, height, width, 2) and of the mask (B, T, height, width, 1) at the output's pixels;
// null where not needed.
template <typename T, typename C>
void differentiate_positions(const TapField<C>& field, View<const T, 4> features, View<const T, 5> grad, C* coordinates,
                             C* mask) {
  const Regions& regions = field.regions();
  const int64_t channels = features.size[1];
  const Order order = loop_order(features, grad);
  // Each share has sums of its own. Their number depends on the problem alone: it decides how results are rounded.
  const int64_t shares =
      order == Order::lanes ? std::clamp<int64_t>(8 / regions.batch, 1, groups_of(channels, kManyLanes)) : 1;
  const int64_t pixels = regions.batch * regions.times * regions.height * regions.width;
  const std::unique_ptr<C[]> sums(new C[shares * 4 * pixels]());
  const auto pixel = [&](const Region& region) {
    return ((region.b * regions.times + region.t) * regions.height + region.y0) * regions.width + region.x0;
  };
  const auto products_of = [&](int64_t share, const Region& region) {
    C* first = sums.get() + share * 4 * pixels + pixel(region);
    return Products<C>{{first, first + pixels, first + 2 * pixels, first + 3 * pixels}};
  };

  if (order == Order::lanes) {
    const ImageSize size = {features.size[2], features.size[3]};
    dispatch_lanes(channels, [&](auto lanes) {
      lane_tasks<lanes, T, C>(
          features, regions, shares,
          [&](const auto& image, int64_t first, int64_t at_hand, int64_t share, const Region& region) {
            multiply_lanes(image, size, first, at_hand, grad, region, field.at(region), products_of(share, region));
          });
    });
  } else {
    const std::vector<T> outside = outside_of<T>(order, channels);
    parallel_tasks(regions.count(), [&](int64_t task) {
      const Region region = regions.at(task);
      const Taps<C> taps = field.at(region);
      const Products<C> products = products_of(0, region);
      simd([&] {
        if (order == Order::planes) {
          multiply_planes(features, grad, region, taps, products);
        } else if (order == Order::pixels) {
          multiply_pixels<true>(features, grad, region, taps, products, outside.data());
        } else {
          multiply_pixels<false>(features, grad, region, taps, products, outside.data());
        }
      });
    });
  }
  parallel_tasks(regions.count(), [&](int64_t task) {
    const Region region = regions.at(task);
    const Taps<C> taps = field.at(region);
    const int64_t at = pixel(region);
    for (int64_t i = 0; i < region.rows() * region.columns(); ++i) {
      C s[4] = {};
      for (int64_t share = 0; share < shares; ++share) {
        for (int k = 0; k < 4; ++k) s[k] += sums[(share * 4 + k) * pixels + at + i];
      }
      finish_products(taps, i, s, coordinates == nullptr ? nullptr : coordinates + 2 * (at + i),
                      mask == nullptr ? nullptr : mask + at + i);
    }
  });
}

template <typename T, typename C>
SamplingGradients sample_backward_as(const Tensor& grad, const SamplingProblem& problem, SamplingNeeds needs,
                                     const std::optional<Tensor>& flow_sum) {
  const int64_t batch = problem.features.size(0), times = problem.flow.size(1);
  const int64_t height = problem.height, width = problem.width, pixels = batch * times * height * width;
  const Tensor& like = problem.features;
  SamplingGradients result;
  if (needs.features) result.features = empty(shape_of(like), scalar_type_of<T>, like, format_of(like));
  if (needs.flow) result.flow = flow_sum ? *flow_sum : zeros(shape_of(problem.flow), scalar_type_of<C>, like);
  if (needs.mask) result.mask = zeros(shape_of(*problem.mask), scalar_type_of<C>, like);
  if (grad.numel() == 0 || like.numel() == 0) {
    if (needs.features) torch::stable::zero_(result.features);
    return result;
  }

  const auto features = view<const T, 4>(problem.features);
  const auto upstream = view<const T, 5>(grad);
  const TapField<C> field(sampler_of<C>(problem), Regions(batch, times, height, width), needs.flow);
  // First what needs memory for a while: at the size of the output, then gathered into the sizes of flow and mask.
  if (needs.flow || needs.mask) {
    const std::unique_ptr<C[]> coordinates(needs.flow ? new C[2 * pixels] : nullptr);
    const std::unique_ptr<C[]> mask(needs.mask ? new C[pixels] : nullptr);
    differentiate_positions(field, features, upstream, coordinates.get(), mask.get());
    if (needs.flow) {
      add_resize_adjoint(coordinates.get(), batch * times, height, width, 2,
                         static_cast<C*>(result.flow.mutable_data_ptr()), problem.flow.size(2), problem.flow.size(3));
    }
    if (needs.mask) {
      add_resize_adjoint(mask.get(), batch * times, height, width, 1, static_cast<C*>(result.mask.mutable_data_ptr()),
                         problem.mask->size(3), problem.mask->size(4));
    }
  }
  if (needs.features) {
    dispatch_lanes(like.size(1), [&](auto lanes) { scatter<lanes>(field, upstream, view<T, 4>(result.features)); });
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
  // A tensor of its own for each: results of an op may not alias.
  const auto none = [&] { return nothing(grad.scalar_type(), grad); };
  result.features = needs.features ? cast(result.features, given.features.scalar_type()) : none();
  if (!needs.flow) result.flow = none();
  result.mask = needs.mask ? cast(result.mask, given.mask->scalar_type()) : none();
  return result;
}

}  // namespace lami
