"""Bilinear sampling; the other side is PyTorch's own kernel."""

from benchmarks.ops import eager
from benchmarks.ops.cases import Benchmark, Case, Inputs, Size
from lami import ops


def setup(size: Size, inputs: Inputs) -> Case:
    features = inputs.maps(size.batch, size.channels, size.side)
    return Case(
        (features, inputs.flow(size.batch, side=size.side)),
        lambda *tensors: ops.grid_sample(*tensors, align_corners=True),
        lambda *tensors: eager.grid_sample(*tensors, align_corners=True),
    )


BENCHMARK = Benchmark(
    "grid_sample",
    setup,
    named={},
    sweep=lambda side, batch: Size(batch=batch, side=side, flow=side, channels=64),
    limits="PyTorch's kernel does the same work: memory bandwidth bounds large calls, and calling an op small ones.",
)
