// anytime_motion_features: heatmaps and warped sources of all times in one launch after the fits.
#include "anytime_motion_features.cuh"

namespace lami::cuda {
namespace {

// A block is a tile of one motion of one sample, for all times: what it reads of the source stays in the cache from
// time to time. The block of a spline also writes the heatmaps of its keypoints, that of the background the channel of
// zeros.
template <class S, class T>
struct FeaturesKernel {
  static constexpr int kThreads = 128;
  using Shared = Nothing;
  using Tiles = Tiling<32, 4>;

  Motions<S, T> motions;
  Tiles tiles;
  S* features;  // contiguous

  LAMI_DEVICE void operator()(const Block& block, Shared&) const {
    const int tile = block.index % tiles.count(), rest = block.index / tiles.count();
    const int motion = rest % (motions.splines + 1), sample = rest / (motions.splines + 1);
    const int column = tiles.left(tile) + block.thread % Tiles::kWidth;
    const int row = tiles.top(tile) + block.thread / Tiles::kWidth;
    const int height = motions.height(), width = motions.width();
    if (column >= width || row >= height) return;
    const T x = pixel_coordinate<T>(column, width), y = pixel_coordinate<T>(row, height);
    const int64_t plane = int64_t{height} * width, first = int64_t{sample} * motions.times;
    S* pixel = features + first * motions.outputs() * plane + int64_t{row} * width + column;
    const int64_t each_time = motions.outputs() * plane;

    if (motion == 0) {
      for (int t = 0; t < motions.times; ++t) pixel[t * each_time] = static_cast<S>(T(0));
    } else {
      write_heatmaps(pixel, plane, sample, motion - 1, x, y);
    }
    S* warped = pixel + motions.warped(motion) * plane;
    const S* source = motions.source.at(sample);
    for (int t = 0; t < motions.times; ++t, warped += each_time) {
      const Corners<T> corners = motions.corners(motions.position(first + t, motion, x, y));
      const Offsets offsets = corners.offsets(motions.source.stride[2], motions.source.stride[3]);
      for (int64_t c = 0; c < motions.channels(); ++c) {
        T values[4];
        load_corners(source + c * motions.source.stride[1], offsets, values);
        warped[c * plane] = static_cast<S>(corners.blend(values));
      }
    }
  }

  LAMI_DEVICE void write_heatmaps(S* pixel, int64_t plane, int sample, int spline, T x, T y) const {
    const int n = motions.n;
    const T* still = motions.kp_source + 2 * n * (int64_t{sample} * motions.splines + spline);
    for (int i = 0; i < n; ++i) {
      S* heatmap = pixel + (motions.heatmap(spline) + i) * plane;
      const T before = motions.heat(x - still[2 * i], y - still[2 * i + 1]);
      for (int t = 0; t < motions.times; ++t, heatmap += motions.outputs() * plane) {
        const int64_t moment = int64_t{sample} * motions.times + t;
        const T* now = motions.moved + 2 * (n * (moment * motions.splines + spline) + i);
        *heatmap = static_cast<S>(motions.heat(x - now[0], y - now[1]) - before);
      }
    }
  }
};

Tensor anytime_motion_features(const Tensor& source, const Tensor& kp_source, const Tensor& kp_driving,
                               const Tensor& times, std::optional<Tensor> background, double variance) {
  constexpr const char* kOp = "anytime_motion_features";
  const Shape shape = check_inputs(kOp, source, kp_source, kp_driving, times, background);
  const ScalarType type = compute_type({&source, &kp_source, &kp_driving, &times, pointer(background)});
  const Tensor image = widened(source, type);
  Tensor features = empty(shape, image.scalar_type(), source);
  if (features.numel() > 0) {
    const Stream stream(source);
    dispatch_floating(image.scalar_type(), kOp, [&]<class S>(std::type_identity<S>) {
      using T = compute_t<S>;
      using Kernel = FeaturesKernel<S, T>;
      const Fitted<T> fitted(stream, kp_source, kp_driving, times, background);
      const typename Kernel::Tiles tiles(shape[3], shape[4]);
      stream.launch(Kernel{fitted.template motions<S>(image, variance), tiles, data<S>(features)},
                    shape[0] * (kp_source.size(1) + 1) * tiles.count());
    });
  }
  return cast(features, source.scalar_type());
}

}  // namespace
}  // namespace lami::cuda

LAMI_CUDA_OPS(m) { m.impl("anytime_motion_features", TORCH_BOX(&lami::cuda::anytime_motion_features)); }
