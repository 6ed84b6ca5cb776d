"""What every Triton kernel is compiled for: the launchers, called as the models call them, by dtype and layout.

The tensors are on the meta device, so that a launcher chooses its kernel, block sizes and specialisations as it does on
a GPU, but nothing has memory. Sizes are those of a model for images of 256 pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor

from lami.kernels.blend_flow import blend_flow, blend_flow_backward
from lami.kernels.fit_tps import fit_tps, fit_tps_backward
from lami.kernels.grid_sample import grid_sample, grid_sample_backward
from lami.kernels.keypoint_heatmaps import keypoint_heatmaps, keypoint_heatmaps_backward
from lami.kernels.motion_features import motion_features, motion_features_backward
from lami.kernels.tps_grid import tps_grid, tps_grid_backward
from lami.kernels.tps_warp import tps_warp, tps_warp_backward
from lami.kernels.warp import warp, warp_backward

B, T, K, N = 4, 3, 10, 5
SIDE = 64
"""Of flows, contributions and the source of the motion features."""
IMAGE = 256
CHANNELS = 64
"""Of an image's first feature map, at its full size."""

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp64": torch.float64}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Variant:
    """One call of a launcher; `op` is the file in kernels/, `name` tells the calls of an op apart."""

    op: str
    name: str
    launch: Callable[[], object]


def variants() -> Iterator[Variant]:
    """Every launcher, dtype and layout; flags that choose another kernel are varied for one of them."""
    for name, dtype in DTYPES.items():
        if dtype in (torch.float32, torch.float64):  # keypoints and splines in half precision are converted before
            yield from _splines(name, dtype)
    for (dtype_name, dtype), (layout_name, layout) in product(DTYPES.items(), LAYOUTS.items()):
        name = f"{dtype_name} {layout_name}"
        flags = name == "fp32 contiguous"
        yield from _blend_flow(name, dtype, layout, flags)
        yield from _warp(name, dtype, layout, flags)
        yield from _grid_sample(name, dtype, layout, flags)
        yield from _tps_warp(name, dtype, layout, flags)
        yield from _motion_features(name, dtype, layout, flags)


def _meta(*shape: int, dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="meta").contiguous(memory_format=layout)


def _compute(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _splines(name: str, dtype: torch.dtype) -> Iterator[Variant]:
    points, theta = _meta(B, K, N, 2, dtype=dtype), _meta(B, K, 2, 3, dtype=dtype)
    grid = _meta(B, K, SIDE, SIDE, 2, dtype=dtype)
    yield Variant("fit_tps", name, partial(fit_tps, points, points, 0.01))
    yield Variant("fit_tps", name, partial(fit_tps_backward, theta, points, points, theta, points, 0.01))
    yield Variant("tps_grid", name, partial(tps_grid, theta, points, points, SIDE, SIDE))
    yield Variant("tps_grid", name, partial(tps_grid_backward, grid, theta, points, points))
    keypoints, heatmaps = _meta(B, K * N, 2, dtype=dtype), _meta(B, K * N + 1, SIDE, SIDE, dtype=dtype)
    yield Variant("keypoint_heatmaps", name, partial(keypoint_heatmaps, keypoints, keypoints, SIDE, SIDE, 0.01))
    backward = partial(keypoint_heatmaps_backward, heatmaps, keypoints, keypoints, 0.01)
    yield Variant("keypoint_heatmaps", name, backward)


def _motion(dtype: torch.dtype, samples: int) -> tuple[Tensor, Tensor, Tensor]:
    """Keypoints of driving image and source, and the background's map."""
    points = _meta(samples, K, N, 2, dtype=_compute(dtype))
    return points, points, _meta(samples, 3, 3, dtype=_compute(dtype))


def _blend_flow(name: str, dtype: torch.dtype, layout: torch.memory_format, flags: bool) -> Iterator[Variant]:
    logits = _meta(B, K + 1, SIDE, SIDE, dtype=dtype, layout=layout)
    contributions = _meta(B, K + 1, SIDE, SIDE, dtype=_compute(dtype))
    flow = _meta(B, SIDE, SIDE, 2, dtype=_compute(dtype))
    keep = _meta(B, K + 1, dtype=torch.bool)
    modes: dict[str, tuple[Tensor | None, bool]] = {"": (keep, False)}
    if flags:
        modes |= {" without dropout": (None, False), " corrected dropout": (keep, True)}
    for mode, (kept, corrected) in modes.items():
        inputs = (*_motion(dtype, B), kept, corrected)
        yield Variant("blend_flow", name + mode, partial(blend_flow, logits, *inputs))
        backward = partial(blend_flow_backward, flow, contributions, logits, contributions, *inputs, True, True, True)
        yield Variant("blend_flow", name + mode, backward)


def _warp(name: str, dtype: torch.dtype, layout: torch.memory_format, flags: bool) -> Iterator[Variant]:
    features = _meta(B, CHANNELS, IMAGE, IMAGE, dtype=dtype, layout=layout)
    flow = _meta(B, SIDE, SIDE, 2, dtype=_compute(dtype))
    mask = _meta(B, 1, IMAGE, IMAGE, dtype=dtype)
    modes: dict[str, tuple[Tensor | None, str, bool, bool]] = {"": (mask, "zeros", True, False)}
    if flags:
        modes |= {
            " border": (mask, "border", False, False),
            " reflection": (None, "reflection", False, False),
            " deterministic": (mask, "zeros", True, True),
        }
    for mode, (masked, padding, align_corners, deterministic) in modes.items():
        inputs = (features, flow, masked, padding, align_corners)
        yield Variant("warp", name + mode, partial(warp, *inputs))
        needs = (True, True, masked is not None)
        yield Variant("warp", name + mode, partial(warp_backward, features, *inputs, *needs, deterministic))


def _grid_sample(name: str, dtype: torch.dtype, layout: torch.memory_format, flags: bool) -> Iterator[Variant]:
    features = _meta(B, CHANNELS, IMAGE, IMAGE, dtype=dtype, layout=layout)
    grid = _meta(B, IMAGE, IMAGE, 2, dtype=_compute(dtype))
    modes = {"": ("zeros", True)}
    if flags:
        modes |= {" border": ("border", False), " reflection": ("reflection", False)}
    for mode, (padding, align_corners) in modes.items():
        inputs = (features, grid, padding, align_corners)
        yield Variant("grid_sample", name + mode, partial(grid_sample, *inputs))
        yield Variant("grid_sample", name + mode, partial(grid_sample_backward, features, *inputs, True, True, False))


def _tps_warp(name: str, dtype: torch.dtype, layout: torch.memory_format, flags: bool) -> Iterator[Variant]:
    image = _meta(B, 3, IMAGE, IMAGE, dtype=dtype, layout=layout)
    logits = _meta(B, K + 1, IMAGE, IMAGE, dtype=dtype, layout=layout)
    flow = _meta(B, IMAGE, IMAGE, 2, dtype=_compute(dtype))
    keep = _meta(B, K + 1, dtype=torch.bool)
    modes = {"": None, " dropout": keep} if flags else {"": None}
    for mode, kept in modes.items():
        motion = _motion(dtype, B)
        yield Variant("tps_warp", name + mode, partial(tps_warp, image, logits, *motion, kept, False))
        if not flags:
            continue  # launches the kernels of blend_flow and warp
        needs = (True, True, True, True, False)
        backward = partial(tps_warp_backward, image, flow, image, logits, flow, *motion, kept, False, *needs)
        yield Variant("tps_warp", name + mode, backward)


def _motion_features(name: str, dtype: torch.dtype, layout: torch.memory_format, flags: bool) -> Iterator[Variant]:
    source = _meta(B, 3, SIDE, SIDE, dtype=dtype, layout=layout)
    grad = _meta(B * T, K * N + 1 + (K + 1) * 3, SIDE, SIDE, dtype=dtype, layout=layout)
    inputs = (source, *_motion(dtype, B * T), 0.01)
    yield Variant("motion_features", name, partial(motion_features, *inputs))
    needs = {"": (True, True, True, False)}
    if flags:
        needs |= {" deterministic": (True, True, True, True), " keypoints only": (False, True, False, False)}
    for mode, needed in needs.items():
        yield Variant("motion_features", name + mode, partial(motion_features_backward, grad, *inputs, *needed))
