"""Images warped by one spline each: `tps_grid` and `grid_sample` in a row, as kornia's `warp_image_tps`."""

from dataclasses import replace

from torch import Tensor

from benchmarks.ops import eager, others
from benchmarks.ops.cases import Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops


def fused(image: Tensor, *spline: Tensor) -> Tensor:
    grid = ops.tps_grid(*spline, (image.shape[2], image.shape[3]))
    return ops.grid_sample(image, grid.squeeze(1), align_corners=True)


def unfused(image: Tensor, *spline: Tensor) -> Tensor:
    grid = eager.tps_grid(*spline, (image.shape[2], image.shape[3]))
    return eager.grid_sample(image, grid.squeeze(1))


def setup(size: Size, inputs: Inputs) -> Case:
    image = inputs.maps(size.batch, size.channels, size.side)
    driving, source = inputs.keypoints(replace(size, splines=1))
    spline = tuple(tensor.detach().requires_grad_() for tensor in (*eager.fit_tps(driving, source), driving))
    arguments = (image, *spline)
    return Case(arguments, fused, unfused, lambda: {"kornia": others.kornia_tps_image(*arguments)})


BENCHMARK = Benchmark(
    "tps_image",
    setup,
    limits="One logarithm for each pixel and control point, forwards and again backwards; the grid is in memory.",
    uses=("batch", "side", "channels"),
    op="tps_grid",
)
