// Gradients of anytime_motion_features: of the source by atomics, of everything small by sums in two stages.
#include "accumulator.cuh"
#include "anytime_motion_features.cuh"

namespace lami::cuda {
namespace {

// First stage of the gradients: a block is a tile of one motion at one time. Its threads find the gradient of the
// position of each pixel, and add to that of the source; then each warp sums over the tile what a parameter gets, six
// numbers a turn: turn 0 of a spline is theta, turn i + 1 its point i (weight, moved keypoint, source keypoint); the
// turns of the background are the rows of its matrix.
template <class S, class T>
struct BackwardKernel {
  static constexpr int kThreads = 256, kNumbers = 6;
  using Tiles = Tiling<32, 16>;

  struct Shared {
    T x[Tiles::kWidth], y[Tiles::kHeight];  // coordinates of the tile's pixels
    Point<T> grad[Tiles::kHeight][Tiles::kWidth];
  };

  Motions<S, T> motions;
  Tiles tiles;
  View<const S, 5> grad;
  Accumulator<T> source;
  View<const T, 4> source_layout;
  T* partial;  // (moments, motions, tiles, n + 1, kNumbers)
  int first_motion, motion_count;
  bool needs_source, needs_splines, needs_background;

  LAMI_DEVICE void operator()(const Block& block, Shared& shared) const {
    const int tile = block.index % tiles.count(), rest = block.index / tiles.count();
    const int motion = first_motion + rest % motion_count;
    const int64_t moment = rest / motion_count;
    const bool needs_position = motion == 0 ? needs_background : needs_splines;
    const int left = tiles.left(tile), top = tiles.top(tile), lane = block.thread % kWarp, warp = block.thread / kWarp;
    if (warp == 0) shared.x[lane] = pixel_coordinate<T>(left + lane, motions.width());
    if (warp == 1 && lane < Tiles::kHeight) shared.y[lane] = pixel_coordinate<T>(top + lane, motions.height());
    block.sync();
    for (int row = warp; row < Tiles::kHeight; row += kThreads / kWarp) {
      Point<T> of_position = {T(0), T(0)};
      if (left + lane < motions.width() && top + row < motions.height()) {
        const Point<T> pixel = {shared.x[lane], shared.y[row]};
        of_position = through_samples(moment, motion, left + lane, top + row, pixel, needs_position);
      }
      shared.grad[row][lane] = of_position;
    }
    if (!needs_position) return;
    block.sync();
    const int turns = motion == 0 ? 3 : motions.n + 1;
    // Every warp makes as many turns, for they sum together; the last of some is idle.
    for (int begin = 0; begin < turns; begin += kThreads / kWarp) {
      const int turn = begin + warp;
      T sums[kNumbers] = {};
      if (turn < turns && left + lane < motions.width()) {
        const T x = shared.x[lane];
        const auto for_each_row = [&](auto&& add) {
          for (int row = 0; row < Tiles::kHeight && top + row < motions.height(); ++row) {
            add(top + row, shared.y[row], shared.grad[row][lane]);
          }
        };
        if (motion == 0) {
          sum_background(moment, turn, x, for_each_row, sums);
        } else if (turn == 0) {
          sum_affine(x, for_each_row, sums);
        } else {
          sum_point(moment, motion, turn - 1, left + lane, x, for_each_row, sums);
        }
      }
      const int64_t slot = ((moment * (motions.splines + 1) + motion) * tiles.count() + tile) * (motions.n + 1) + turn;
      LAMI_UNROLL
      for (int i = 0; i < kNumbers; ++i) {
        const T sum = sum_of_warp(block, sums[i]);
        if (lane == 0 && turn < turns) partial[slot * kNumbers + i] = sum;
      }
    }
  }

  // Gradient of the position where a pixel reads; what the pixels there get is added to theirs.
  LAMI_DEVICE Point<T> through_samples(int64_t moment, int motion, int column, int row, Point<T> pixel,
                                       bool needs_position) const {
    const Corners<T> corners = motions.corners(motions.position(moment, motion, pixel.x, pixel.y));
    const Offsets read = corners.offsets(motions.source.stride[2], motions.source.stride[3]);
    const Offsets written = corners.offsets(source_layout.stride[2], source_layout.stride[3]);
    const int64_t sample = moment / motions.times;
    const S* image = motions.source.at(sample);
    const S* incoming = grad.at(sample, moment % motions.times, motions.warped(motion), row, column);
    const T scale = needs_source ? source.scale() : T(0);
    T along_x = T(0), along_y = T(0);
    for (int64_t c = 0; c < motions.channels(); ++c) {
      const T g = static_cast<T>(incoming[c * grad.stride[2]]);
      if (needs_position) {
        T values[4];
        load_corners(image + c * motions.source.stride[1], read, values);
        along_x += g * corners.along_x(values);
        along_y += g * corners.along_y(values);
      }
      if (needs_source) {
        const int64_t plane = sample * source_layout.stride[0] + c * source_layout.stride[1];
        LAMI_UNROLL
        for (int i = 0; i < 4; ++i) {
          if (written.at[i] >= 0) source.add(plane + written.at[i], g * corners.weight(i), scale);
        }
      }
    }
    return {corners.x_slope == T(0) ? T(0) : along_x * corners.x_slope,
            corners.y_slope == T(0) ? T(0) : along_y * corners.y_slope};
  }

  template <class ForEachRow>
  LAMI_DEVICE void sum_background(int64_t moment, int turn, T x, const ForEachRow& for_each_row,
                                  T (&sums)[kNumbers]) const {
    const T* map = motions.background + 9 * moment;
    for_each_row([&](int, T y, Point<T> of_position) {
      T g[3];
      background_adjoint(map, x, y, of_position, g);
      const T mine = turn == 0 ? g[0] : turn == 1 ? g[1] : g[2];
      sums[0] += mine * x;
      sums[1] += mine * y;
      sums[2] += mine;
    });
  }

  template <class ForEachRow>
  LAMI_DEVICE void sum_affine(T x, const ForEachRow& for_each_row, T (&sums)[kNumbers]) const {
    for_each_row([&](int, T y, Point<T> of_position) {
      sums[0] += of_position.x * x;
      sums[1] += of_position.x * y;
      sums[2] += of_position.x;
      sums[3] += of_position.y * x;
      sums[4] += of_position.y * y;
      sums[5] += of_position.y;
    });
  }

  template <class ForEachRow>
  LAMI_DEVICE void sum_point(int64_t moment, int motion, int point, int column, T x, const ForEachRow& for_each_row,
                             T (&sums)[kNumbers]) const {
    const int n = motions.n, spline = motion - 1;
    const int64_t sample = moment / motions.times, i = motions.spline_index(moment, motion) * n + point;
    const T* of_source = motions.kp_source + 2 * ((sample * motions.splines + spline) * n + point);
    const Point<T> now = {motions.moved[2 * i], motions.moved[2 * i + 1]}, still = {of_source[0], of_source[1]};
    const Point<T> weight = {motions.weights[2 * i], motions.weights[2 * i + 1]};
    const S* heatmap = grad.at(sample, moment % motions.times, motions.heatmap(spline) + point, 0, column);
    for_each_row([&](int row, T y, Point<T> of_position) {
      const Point<T> from_now = {x - now.x, y - now.y}, from_still = {x - still.x, y - still.y};
      const RadialTerm<T> term = radial_term(from_now.x, from_now.y, weight, of_position);
      // d heat / d centre = heat (p - c) / variance
      const T g = T(-2) * motions.falloff * static_cast<T>(heatmap[row * grad.stride[3]]);
      const T of_now = g * motions.heat(from_now.x, from_now.y);
      const T of_still = g * motions.heat(from_still.x, from_still.y);
      sums[0] += term.grad_weight.x;
      sums[1] += term.grad_weight.y;
      sums[2] += term.grad_point.x + of_now * from_now.x;
      sums[3] += term.grad_point.y + of_now * from_now.y;
      sums[4] -= of_still * from_still.x;
      sums[5] -= of_still * from_still.y;
    });
  }
};

// Sums over the pixels, arrays as in Motions. What is null is not wanted; weights, moved and kp_source go with theta.
template <class T>
struct MotionGradients {
  T* theta;
  T* weights;
  T* moved;
  T* kp_source;  // for each time: (B, T, K, n, 2)
  T* background;
};

// Second stage: a thread sums one number over the tiles.
template <class T>
struct TilesKernel {
  static constexpr int kThreads = 128;
  using Shared = Nothing;

  const T* partial;  // (moments, motions, tiles, n + 1, 6)
  int64_t moments;
  int splines, tiles, n, numbers;
  MotionGradients<T> gradients;

  LAMI_DEVICE void operator()(const Block& block, Shared&) const {
    const int64_t i = int64_t{block.index} * kThreads + block.thread, each = int64_t{n + 1} * numbers;
    if (i >= moments * (splines + 1) * each) return;
    const int within = static_cast<int>(i % each), turn = within / numbers, number = within % numbers;
    const int64_t map = i / each, moment = map / (splines + 1), spline = map % (splines + 1) - 1;
    const bool is_background = spline < 0;
    if (is_background && (gradients.background == nullptr || turn >= 3 || number >= 3)) return;
    if (!is_background && gradients.theta == nullptr) return;
    T sum = T(0);
    for (int tile = 0; tile < tiles; ++tile) sum += partial[(map * tiles + tile) * each + within];
    const int64_t index = moment * splines + spline, point = index * n + turn - 1;
    if (is_background) {
      gradients.background[9 * moment + 3 * turn + number] = sum;
    } else if (turn == 0) {
      gradients.theta[6 * index + number] = sum;
    } else {
      T* const parts[3] = {gradients.weights, gradients.moved, gradients.kp_source};
      T* const part = number < 2 ? parts[0] : number < 4 ? parts[1] : parts[2];
      part[2 * point + number % 2] = sum;
    }
  }
};

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> anytime_motion_features_backward(
    const Tensor& grad, const Tensor& source, const Tensor& kp_source, const Tensor& kp_driving, const Tensor& times,
    std::optional<Tensor> background, double variance, bool needs_source, bool needs_keypoints, bool needs_times,
    bool needs_background, bool deterministic) {
  constexpr const char* kOp = "anytime_motion_features_backward";
  const Shape shape = check_inputs(kOp, source, kp_source, kp_driving, times, background);
  check_tensor(kOp, "grad", grad, {shape[0], shape[1], shape[2], shape[3], shape[4]});
  check_same_device(kOp, source, {&grad});
  needs_background = needs_background && background.has_value();
  const ScalarType type = compute_type({&source, &kp_source, &kp_driving, &times, pointer(background)});
  const Tensor image = widened(source, type), incoming = cast(grad, image.scalar_type());
  const bool needs_splines = needs_keypoints || needs_times;
  const int64_t moments = shape[0] * shape[1], k = kp_source.size(1), n = kp_source.size(2);
  const Shape each_time = {shape[0], shape[1], k, n, 2};

  const auto gradient = [&](bool needed, const Shape& of) {
    return needed ? zeros(of, type, source) : nothing(grad.scalar_type(), source);
  };
  Tensor grad_source = nothing(grad.scalar_type(), source);
  Tensor grad_kp_source = gradient(needs_splines, shape_of(kp_source));
  Tensor grad_kp_driving = gradient(needs_splines, shape_of(kp_source));
  Tensor grad_times = gradient(needs_times, shape_of(times));
  Tensor grad_background = gradient(needs_background, {shape[0], shape[1], 3, 3});
  if (grad.numel() == 0) {
    if (needs_source) grad_source = zeros(shape_of(source), image.scalar_type(), source, format_of(source));
  } else if (needs_source || needs_splines || needs_background) {
    const Stream stream(source);
    dispatch_floating(image.scalar_type(), kOp, [&]<class S>(std::type_identity<S>) {
      using T = compute_t<S>;
      using Kernel = BackwardKernel<S, T>;
      const Fitted<T> fitted(stream, kp_source, kp_driving, times, background);
      const Motions<S, T> motions = fitted.template motions<S>(image, variance);
      const typename Kernel::Tiles tiles(shape[3], shape[4]);
      Kernel kernel{motions, tiles, view<const S, 5>(incoming), {}, {}, nullptr, 0, 0, needs_source, needs_splines,
                    needs_background};
      kernel.first_motion = needs_source || needs_background ? 0 : 1;
      kernel.motion_count = static_cast<int>(needs_source || needs_splines ? k + 1 : 1) - kernel.first_motion;

      std::optional<GradientSum<S, T>> sum;
      if (needs_source) {
        sum.emplace(image, deterministic, shape[1] * (k + 1) * shape[3] * shape[4]);
        if (deterministic) {
          View<const S, 5> warped = kernel.grad;
          warped.data += motions.warped(0) * warped.stride[2];
          warped.size[2] = (k + 1) * motions.channels();
          find_largest(stream, warped, sum->largest());
        }
        kernel.source = sum->accumulator(false);
        kernel.source_layout = sum->layout();
      }
      const Tensor partial = empty({moments, k + 1, tiles.count(), n + 1, Kernel::kNumbers}, type, source);
      kernel.partial = data<T>(partial);
      stream.launch(kernel, moments * kernel.motion_count * tiles.count());
      if (needs_source) grad_source = sum->finish(stream, false);
      if (!needs_splines && !needs_background) return;

      const Tensor of_theta = empty({moments, k, 2, 3}, type, source), of_weights = empty(each_time, type, source);
      const Tensor of_moved = empty(each_time, type, source), of_source_each = empty(each_time, type, source);
      const MotionGradients<T> gradients{needs_splines ? data<T>(of_theta) : nullptr, data<T>(of_weights),
                                         data<T>(of_moved), data<T>(of_source_each),
                                         needs_background ? data<T>(grad_background) : nullptr};
      using Second = TilesKernel<T>;
      stream.launch(Second{data<const T>(partial), moments, motions.splines, tiles.count(), motions.n, Kernel::kNumbers,
                           gradients},
                    ceil_div(moments * (k + 1) * (n + 1) * Kernel::kNumbers, Second::kThreads));
      if (!needs_splines) return;
      fit_backward<T>(stream, fitted.fits, motions.theta, motions.weights, gradients.theta, gradients.weights,
                      gradients.moved, gradients.kp_source);
      move_keypoints_backward<T>(stream, fitted.motion, gradients.moved, gradients.kp_source, data<T>(grad_kp_source),
                                 data<T>(grad_kp_driving), needs_times ? data<T>(grad_times) : nullptr);
    });
  }
  const auto given = [&](const Tensor& gradient, bool needed, const Tensor& of) {
    return needed ? cast(gradient, of.scalar_type()) : nothing(grad.scalar_type(), source);
  };
  return {given(grad_source, needs_source, source), given(grad_kp_source, needs_keypoints, kp_source),
          given(grad_kp_driving, needs_keypoints, kp_driving), given(grad_times, needs_times, times),
          given(grad_background, needs_background, background ? *background : source)};
}

}  // namespace
}  // namespace lami::cuda

LAMI_CUDA_OPS(m) {
  m.impl("anytime_motion_features_backward", TORCH_BOX(&lami::cuda::anytime_motion_features_backward));
}
