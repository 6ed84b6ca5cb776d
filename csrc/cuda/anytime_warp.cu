// anytime_warp: all levels and all times in one launch.
#include "anytime_warp.cuh"

namespace lami::cuda {
namespace {

// A block warps its pixels and some channels for all times, so that what it reads of the features stays in the cache.
template <class S, class T>
struct WarpKernel {
  static constexpr int kThreads = PixelBlock::kThreads, kPixels = PixelBlock::kPixels, kChannels = 64;

  struct Shared {
    Corners<T> corners[kPixels];
    T mask[kPixels];
  };

  struct Level {
    View<const S, 4> features;
    Sampling<T> sampling;
    View<S, 5> warped;
    Order order;
    int tiles, chunks, first_block;
  };

  Level levels[kMaxLevels];
  int count;

  LAMI_DEVICE void operator()(const Block& block, Shared& shared) const {
    int which = 0;
    while (which + 1 < count && block.index >= levels[which + 1].first_block) ++which;
    const Level& level = levels[which];
    const int place = block.index - level.first_block, rest = place / level.tiles;
    const int tile = place % level.tiles, chunk = rest % level.chunks;
    const int64_t sample = rest / level.chunks;
    const int height = static_cast<int>(level.features.size[2]), width = static_cast<int>(level.features.size[3]);
    const int start = tile * kPixels;

    const PixelBlock mine(block.thread, level.order);
    const int pixel = start + mine.pixel, y = pixel / width, x = pixel % width;
    const int located = start + block.thread, located_y = located / width, located_x = located % width;
    for (int64_t time = 0; time < level.warped.size[1]; ++time) {
      if (block.thread < kPixels && located < height * width) {
        shared.corners[block.thread] = level.sampling.corners(sample, time, located_y, located_x);
        shared.mask[block.thread] = level.sampling.mask_at(sample, time, located_y, located_x);
      }
      block.sync();
      if (pixel < height * width) {
        const Corners<T>& corners = shared.corners[mine.pixel];
        const S* read = level.features.at(sample);
        S* write = level.warped.at(sample, time, 0, y, x);
        if (level.order == Order::packed) {
          warp_channels<Pack<S>>(level, corners, shared.mask[mine.pixel], chunk, mine.lane, read, write);
        } else {
          warp_channels<S>(level, corners, shared.mask[mine.pixel], chunk, mine.lane, read, write);
        }
      }
      block.sync();
    }
  }

  // The channels of a lane; a step is one scalar, or as many as a wide load brings.
  template <class Step>
  LAMI_DEVICE void warp_channels(const Level& level, const Corners<T>& corners, T mask, int chunk, int lane,
                                 const S* read, S* write) const {
    constexpr int kStep = sizeof(Step) / sizeof(S);
    const Offsets offsets = corners.offsets(level.features.stride[2], level.features.stride[3]);
    T weights[4];
    LAMI_UNROLL
    for (int i = 0; i < 4; ++i) weights[i] = corners.weight(i);
    const int64_t first = int64_t{chunk} * kChannels, end = first + kChannels, channels = level.features.size[1];
    for (int64_t c = first + lane * kStep; c < (end < channels ? end : channels); c += PixelBlock::kLanes * kStep) {
      T sums[kStep] = {};
      LAMI_UNROLL
      for (int i = 0; i < 4; ++i) {
        if (offsets.at[i] < 0) continue;
        const Step step = *reinterpret_cast<const Step*>(read + c * level.features.stride[1] + offsets.at[i]);
        LAMI_UNROLL
        for (int j = 0; j < kStep; ++j) sums[j] += weights[i] * static_cast<T>(value_of(step, j));
      }
      Step result;
      LAMI_UNROLL
      for (int j = 0; j < kStep; ++j) value_of(result, j) = static_cast<S>(mask * sums[j]);
      *reinterpret_cast<Step*>(write + c * level.warped.stride[2]) = result;
    }
  }
};

// (B, T, C, H, W), the channels side by side where the features have them so.
Tensor empty_levels(const Tensor& features, int64_t times) {
  const int64_t b = features.size(0), c = features.size(1), height = features.size(2), width = features.size(3);
  const Tensor merged = empty({b * times, c, height, width}, features.scalar_type(), features, format_of(features));
  return torch::stable::view(merged, {b, times, c, height, width});
}

std::vector<Tensor> anytime_warp(const std::vector<Tensor>& features, const Tensor& flow,
                                 const std::vector<Tensor>& masks) {
  constexpr const char* kOp = "anytime_warp";
  const WarpInputs inputs(kOp, features, flow, masks);
  std::vector<Tensor> warped;
  for (const Tensor& level : inputs.features) warped.push_back(empty_levels(level, flow.size(1)));
  const Stream stream(flow);
  for (size_t begin = 0; begin < features.size(); begin = inputs.end_of_launch(begin)) {
    dispatch_floating(inputs.features[begin].scalar_type(), kOp, [&]<class S>(std::type_identity<S>) {
      using T = compute_t<S>;
      using Kernel = WarpKernel<S, T>;
      Kernel kernel{};
      int64_t blocks = 0;
      for (size_t i = begin; i < inputs.end_of_launch(begin); ++i) {
        const Tensor& level = inputs.features[i];
        if (warped[i].numel() == 0) continue;
        const int64_t tiles = tiles_of(kOp, level);
        const int64_t chunks = ceil_div(level.size(1), Kernel::kChannels);
        kernel.levels[kernel.count++] = {view<const S, 4>(level),       inputs.sampling<T>(i),
                                         view<S, 5>(warped[i]),         order_of<S>(level, warped[i]),
                                         static_cast<int>(tiles),       static_cast<int>(chunks),
                                         static_cast<int>(blocks)};
        blocks += tiles * chunks * level.size(0);
      }
      stream.launch(kernel, blocks);
    });
  }
  for (size_t i = 0; i < features.size(); ++i) warped[i] = cast(warped[i], features[i].scalar_type());
  return warped;
}

}  // namespace
}  // namespace lami::cuda

LAMI_CUDA_OPS(m) { m.impl("anytime_warp", TORCH_BOX(&lami::cuda::anytime_warp)); }
