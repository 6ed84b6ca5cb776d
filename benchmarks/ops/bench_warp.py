"""One level of the generator's encoder: flow and mask resized, features sampled and masked."""

from benchmarks.ops import eager, others
from benchmarks.ops.cases import Aim, Benchmark, Case, Size
from benchmarks.ops.inputs import Inputs
from lami import ops

LEVELS = ((64, 256), (128, 128), (256, 64), (512, 32))
"""Channels and side of TPSMM's four generator levels for images of 256 pixels."""


def setup(size: Size, inputs: Inputs) -> Case:
    features = inputs.maps(size.batch, size.channels, size.side)
    mask = inputs.mask(size.batch, 1, size.flow, size.flow)
    flow = inputs.flow(size.batch, side=size.flow)
    return Case(
        (features, flow, mask),
        ops.warp,
        eager.warp,
        lambda: {"F.grid_sample": others.grid_sample_alone(features, flow)},
    )


BENCHMARK = Benchmark(
    "warp",
    setup,
    cpu={
        f"{channels}@{side}x{side}": Aim(Size(side=side, channels=channels), both={"eager": 2})
        for channels, side in LEVELS
    },
    cuda={
        f"{channels}@{side}x{side}, B=16, {layout}": Aim(
            Size(batch=16, side=side, channels=channels),
            forward={"copy": 0.85},
            both={"eager": 3, "torch.compile": 1.5},
            dtype=dtype,
            channels_last=channels_last,
        )
        for channels, side in LEVELS
        for layout, dtype, channels_last in (("NCHW fp32", "float32", False), ("NHWC bf16", "bfloat16", True))
    },
    uses=("batch", "side", "channels", "dtype", "layout"),
    base=Size(flow=16, channels=64),
    limits="Features are read and written once forwards, and read, added to and written backwards: memory bandwidth; "
    "with one channel, finding where pixels read.",
)
