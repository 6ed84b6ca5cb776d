// Gradients of anytime_warp: of the features by atomics, summed over times; of flow and masks gathered.
#include <optional>

#include "accumulator.cuh"
#include "anytime_warp.cuh"

namespace lami::cuda {
namespace {

// First stage: a block takes its pixels at one time through all channels. Gradients of the positions (B, T, H, W, 2)
// and of the resized mask (B, T, H, W) are per pixel of the output.
template <class S, class T>
struct BackwardKernel {
  static constexpr int kThreads = PixelBlock::kThreads, kPixels = PixelBlock::kPixels, kLanes = PixelBlock::kLanes;

  struct Sums {
    T along_x, along_y, value;
  };

  struct Shared {
    Corners<T> corners[kPixels];
    T mask[kPixels];
    Sums sums[kPixels][kLanes];
  };

  struct Level {
    View<const S, 4> features;
    Sampling<T> sampling;
    View<const S, 5> grad;
    Accumulator<T> sum;
    int64_t sum_stride[4];
    T* of_positions;
    T* of_mask;
    Order order;
    int tiles, first_block;
  };

  Level levels[kMaxLevels];
  int count;
  bool needs_features, needs_values;

  LAMI_DEVICE void operator()(const Block& block, Shared& shared) const {
    int which = 0;
    while (which + 1 < count && block.index >= levels[which + 1].first_block) ++which;
    const Level& level = levels[which];
    const int place = block.index - level.first_block, tile = place % level.tiles;
    const int64_t moment = place / level.tiles, times = level.grad.size[1];
    const int64_t sample = moment / times, time = moment % times;
    const int height = static_cast<int>(level.features.size[2]), width = static_cast<int>(level.features.size[3]);
    const int plane = height * width, start = tile * kPixels, located = start + block.thread;
    if (block.thread < kPixels && located < plane) {
      const int y = located / width, x = located % width;
      shared.corners[block.thread] = level.sampling.corners(sample, time, y, x);
      shared.mask[block.thread] = level.sampling.mask_at(sample, time, y, x);
    }
    block.sync();
    const PixelBlock mine(block.thread, level.order);
    const int pixel = start + mine.pixel;
    Sums sums = {T(0), T(0), T(0)};
    if (pixel < plane) {
      const S* incoming = level.grad.at(sample, time, 0, pixel / width, pixel % width);
      const Corners<T>& corners = shared.corners[mine.pixel];
      if (level.order == Order::packed) {
        through_channels<Pack<S>>(level, sample, corners, shared.mask[mine.pixel], mine.lane, incoming, sums);
      } else {
        through_channels<S>(level, sample, corners, shared.mask[mine.pixel], mine.lane, incoming, sums);
      }
    }
    if (!needs_values) return;
    shared.sums[mine.pixel][mine.lane] = sums;
    block.sync();
    if (block.thread >= kPixels || located >= plane) return;
    sums = shared.sums[block.thread][0];
    for (int lane = 1; lane < kLanes; ++lane) {
      const Sums& other = shared.sums[block.thread][lane];
      sums = {sums.along_x + other.along_x, sums.along_y + other.along_y, sums.value + other.value};
    }
    const Corners<T>& corners = shared.corners[block.thread];
    const int64_t output = moment * plane + located;
    if (level.of_positions != nullptr) {
      const T mask = shared.mask[block.thread];
      level.of_positions[2 * output] = corners.x_slope == T(0) ? T(0) : sums.along_x * mask * corners.x_slope;
      level.of_positions[2 * output + 1] = corners.y_slope == T(0) ? T(0) : sums.along_y * mask * corners.y_slope;
    }
    if (level.of_mask != nullptr) level.of_mask[output] = sums.value;
  }

  // The channels of a lane, as in the forward pass.
  template <class Step>
  LAMI_DEVICE void through_channels(const Level& level, int64_t sample, const Corners<T>& corners, T mask, int lane,
                                    const S* incoming, Sums& sums) const {
    constexpr int kStep = sizeof(Step) / sizeof(S);
    const Offsets read = corners.offsets(level.features.stride[2], level.features.stride[3]);
    const Offsets written = corners.offsets(level.sum_stride[2], level.sum_stride[3]);
    const S* image = level.features.at(sample);
    const int64_t sum_image = sample * level.sum_stride[0];
    const T scale = needs_features ? level.sum.scale() : T(0);
    for (int64_t c = int64_t{lane} * kStep; c < level.features.size[1]; c += kLanes * kStep) {
      const Step grads = *reinterpret_cast<const Step*>(incoming + c * level.grad.stride[2]);
      if (needs_features) {
        LAMI_UNROLL
        for (int i = 0; i < 4; ++i) {
          if (written.at[i] < 0) continue;
          const T weight = mask * corners.weight(i);
          const int64_t target = sum_image + c * level.sum_stride[1] + written.at[i];
          LAMI_UNROLL
          for (int j = 0; j < kStep; ++j) {
            level.sum.add(target + j * level.sum_stride[1], weight * static_cast<T>(value_of(grads, j)), scale);
          }
        }
      }
      if (needs_values) {
        Step corner[4] = {};
        LAMI_UNROLL
        for (int i = 0; i < 4; ++i) {
          if (read.at[i] < 0) continue;
          corner[i] = *reinterpret_cast<const Step*>(image + c * level.features.stride[1] + read.at[i]);
        }
        LAMI_UNROLL
        for (int j = 0; j < kStep; ++j) {
          const T g = static_cast<T>(value_of(grads, j));
          T values[4];
          LAMI_UNROLL
          for (int i = 0; i < 4; ++i) values[i] = static_cast<T>(value_of(corner[i], j));
          sums.along_x += g * corners.along_x(values);
          sums.along_y += g * corners.along_y(values);
          sums.value += g * corners.blend(values);
        }
      }
    }
  }
};

// Second stage, the adjoint of resizing: a thread adds up, for one pixel of a map (B, T, h, w, kNumbers), the pixels of
// all levels that read it.
template <class T, int kNumbers>
struct GatherKernel {
  static constexpr int kThreads = 128;
  using Shared = Nothing;

  struct Level {
    const T* grad;  // (B, T, H, W, kNumbers)
    ResizedMap<T> map;
  };

  Level levels[kMaxLevels];
  int count;
  T* result;
  int64_t moments;
  int height, width;

  int64_t blocks_each() const { return ceil_div(int64_t{height} * width, kThreads); }

  LAMI_DEVICE void operator()(const Block& block, Shared&) const {
    const int plane = height * width, blocks = (plane - 1) / kThreads + 1;
    const int pixel = block.index % blocks * kThreads + block.thread;
    if (pixel >= plane) return;
    const int64_t moment = block.index / blocks;
    T sums[kNumbers] = {};
    for (int l = 0; l < count; ++l) add_level(levels[l], moment, pixel / width, pixel % width, sums);
    LAMI_UNROLL
    for (int j = 0; j < kNumbers; ++j) result[kNumbers * (moment * plane + pixel) + j] += sums[j];
  }

  LAMI_DEVICE void add_level(const Level& level, int64_t moment, int y, int x, T (&sums)[kNumbers]) const {
    const ResizedAxis<T>&down = level.map.rows, &across = level.map.columns;
    const Range rows = down.readers(y), columns = across.readers(x);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const T of_row = down.tap(static_cast<int>(row)).weight(y);
      if (of_row == T(0)) continue;
      const T* grad = level.grad + kNumbers * (moment * down.out + row) * across.out;
      for (int64_t column = columns.begin; column < columns.end; ++column) {
        const T weight = of_row * across.tap(static_cast<int>(column)).weight(x);
        if (weight == T(0)) continue;
        LAMI_UNROLL
        for (int j = 0; j < kNumbers; ++j) sums[j] += weight * grad[kNumbers * column + j];
      }
    }
  }
};

template <class Kernel>
void gather(const Stream& stream, const Kernel& kernel) {
  STD_TORCH_CHECK(int64_t{kernel.height} * kernel.width <= INT_MAX - Kernel::kThreads,
                  "anytime_warp_backward: flow or a mask has more than 2^31 pixels");
  stream.launch(kernel, kernel.moments * kernel.blocks_each());
}

struct WarpGradients {
  std::vector<Tensor> features, masks;
  Tensor flow;
};

// Adds to the gradients what levels [begin, end) give, which share a dtype.
template <class S, class T>
void backward_levels(const Stream& stream, const WarpInputs& inputs, const std::vector<Tensor>& grads, size_t begin,
                     size_t end, bool needs_features, bool deterministic, WarpGradients& results) {
  using Kernel = BackwardKernel<S, T>;
  const Tensor& flow = inputs.flow;
  const int64_t b = flow.size(0), t = flow.size(1);
  const bool needs_flow = results.flow.numel() > 0, needs_masks = !results.masks.empty();
  std::vector<Tensor> scratch;  // lives until the launches are queued
  std::vector<std::optional<GradientSum<S, T>>> sums(end - begin);
  const bool has_masks = !inputs.masks.empty();
  Kernel kernel{};
  kernel.needs_features = needs_features;
  kernel.needs_values = needs_flow || needs_masks;
  GatherKernel<T, 2> to_flow{{}, 0, needs_flow ? data<T>(results.flow) : nullptr, b * t, static_cast<int>(flow.size(2)),
                             static_cast<int>(flow.size(3))};
  std::vector<GatherKernel<T, 1>> to_masks;
  int64_t blocks = 0;
  for (size_t i = begin; i < end; ++i) {
    const Tensor& features = inputs.features[i];
    const int64_t height = features.size(2), width = features.size(3), plane = height * width;
    const int64_t tiles = tiles_of("anytime_warp_backward", features);
    typename Kernel::Level level{view<const S, 4>(features), inputs.sampling<T>(i), view<const S, 5>(grads[i]), {}, {},
                                 nullptr, nullptr, order_of<S>(features, grads[i]), static_cast<int>(tiles),
                                 static_cast<int>(blocks)};
    if (needs_features) {
      auto& sum = sums[i - begin].emplace(features, deterministic, t * plane);
      if (deterministic && grads[i].numel() > 0) {
        find_largest(stream, level.grad, sum.largest());
        if (has_masks) find_largest(stream, level.sampling.mask, sum.largest() + 1);
      }
      level.sum = sum.accumulator(has_masks);
      for (int axis = 0; axis < 4; ++axis) level.sum_stride[axis] = sum.layout().stride[axis];
    }
    if (grads[i].numel() == 0) continue;
    if (needs_flow) {
      scratch.push_back(empty({b, t, height, width, 2}, inputs.type, flow));
      level.of_positions = data<T>(scratch.back());
      to_flow.levels[to_flow.count++] = {level.of_positions, level.sampling.flow_map};
    }
    if (needs_masks) {
      const Tensor& mask = results.masks[i];
      scratch.push_back(empty({b, t, height, width}, inputs.type, flow));
      level.of_mask = data<T>(scratch.back());
      to_masks.push_back({{{level.of_mask, level.sampling.mask_map}}, 1, data<T>(mask), b * t,
                          static_cast<int>(mask.size(3)), static_cast<int>(mask.size(4))});
    }
    kernel.levels[kernel.count++] = level;
    blocks += tiles * b * t;
  }
  stream.launch(kernel, blocks);
  if (needs_flow) gather(stream, to_flow);
  for (const auto& to_mask : to_masks) gather(stream, to_mask);
  for (size_t i = begin; i < end && needs_features; ++i) {
    results.features.push_back(sums[i - begin]->finish(stream, has_masks));
  }
}

std::tuple<std::vector<Tensor>, Tensor, std::vector<Tensor>> anytime_warp_backward(
    const std::vector<Tensor>& grads, const std::vector<Tensor>& features, const Tensor& flow,
    const std::vector<Tensor>& masks, bool needs_features, bool needs_flow, bool needs_masks, bool deterministic) {
  constexpr const char* kOp = "anytime_warp_backward";
  const WarpInputs inputs(kOp, features, flow, masks);
  STD_TORCH_CHECK(grads.size() == features.size(), kOp, ": one gradient a level is wanted");
  std::vector<Tensor> incoming;
  for (size_t i = 0; i < features.size(); ++i) {
    const Tensor& level = inputs.features[i];
    check_tensor(kOp, "grads", grads[i], {flow.size(0), flow.size(1), level.size(1), level.size(2), level.size(3)});
    check_same_device(kOp, flow, {&grads[i]});
    incoming.push_back(cast(grads[i], level.scalar_type()));
  }
  WarpGradients results;
  results.flow = needs_flow ? zeros(shape_of(flow), inputs.type, flow) : nothing(flow.scalar_type(), flow);
  for (const Tensor& mask : masks) {
    if (needs_masks) results.masks.push_back(zeros(shape_of(mask), inputs.type, flow));
  }
  const Stream stream(flow);
  for (size_t begin = 0; begin < features.size() && (needs_features || needs_flow || needs_masks);) {
    const size_t end = inputs.end_of_launch(begin);
    dispatch_floating(inputs.features[begin].scalar_type(), kOp, [&]<class S>(std::type_identity<S>) {
      backward_levels<S, compute_t<S>>(stream, inputs, incoming, begin, end, needs_features, deterministic, results);
    });
    begin = end;
  }
  for (size_t i = 0; i < features.size(); ++i) {
    if (!needs_features) results.features.push_back(nothing(flow.scalar_type(), flow));
    if (needs_features) results.features[i] = cast(results.features[i], features[i].scalar_type());
  }
  for (size_t i = 0; i < masks.size(); ++i) {
    if (!needs_masks) results.masks.push_back(nothing(flow.scalar_type(), flow));
    if (needs_masks) results.masks[i] = cast(results.masks[i], masks[i].scalar_type());
  }
  return {results.features, cast(results.flow, flow.scalar_type()), results.masks};
}

}  // namespace
}  // namespace lami::cuda

LAMI_CUDA_OPS(m) { m.impl("anytime_warp_backward", TORCH_BOX(&lami::cuda::anytime_warp_backward)); }
