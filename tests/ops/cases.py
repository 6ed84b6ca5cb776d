"""Random calls of each op: sizes, dtypes, layouts and options; and where their outputs are smooth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from hypothesis import strategies as st
from ops.samples import random_like
from torch import Tensor

from lami import ops
from lami.ops import reference

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LAYOUTS = ("contiguous", "channels_last", "sliced", "expanded", "offset")
SIDES = (3, 1, 2, 5, 8, 13, 0, 37)
BAND = {torch.float64: 1e-6, torch.float32: 1e-2}
"""Half-width in pixels, by compute dtype, of the neighbourhood of a kink in which rounding may choose its side."""


@dataclass(frozen=True)
class Case:
    """A call `ops.<op>(**tensors, **options)`; a list of tensors is spelt name.0, name.1, ..."""

    op: str
    tensors: dict[str, Tensor]
    options: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        tensors = (f"{n}={tuple(x.shape)} {x.dtype} strides {x.stride()}" for n, x in self.tensors.items())
        return f"{self.op}({', '.join((*tensors, *(f'{n}={x}' for n, x in self.options.items())))})"

    @property
    def compute_dtype(self) -> torch.dtype:
        return reference.compute_dtype(*self.tensors.values())

    def to(self, device: torch.device) -> Case:
        """With the same strides, but for tensors that hold gaps: those are copied without."""
        tensors = {name: tensor.to(device) for name, tensor in self.tensors.items()}
        options = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in self.options.items()}
        return Case(self.op, tensors, options)

    def run(self, tensors: Mapping[str, Tensor]) -> list[Tensor]:
        """Outputs of the public op for these tensors in place of the case's own."""
        arguments: dict[str, Any] = {}
        for name, tensor in tensors.items():
            group, _, index = name.partition(".")
            if index:
                arguments.setdefault(group, []).append(tensor)
            else:
                arguments[name] = tensor
        result = getattr(ops, self.op)(**arguments, **self.options)
        return [result] if isinstance(result, Tensor) else list(result)


@dataclass
class Inputs:
    """Draws tensors of one case."""

    draw: st.DrawFn
    features: torch.dtype
    coordinates: torch.dtype
    largest_side: int

    def sides(self, count: int) -> tuple[int, ...]:
        choices = [n for n in SIDES if n <= self.largest_side]
        return tuple(self.draw(st.sampled_from(choices)) for _ in range(count))

    def integer(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def one_of(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def feature(self, *shape: int) -> Tensor:
        return self._tensor(shape, self.features, -1.0, 1.0)

    def coordinate(self, *shape: int, bound: float = 0.8) -> Tensor:
        return self._tensor(shape, self.coordinates, -bound, bound)

    def background(self, *leading: int) -> Tensor:
        """(..., 3, 3) projective maps near the identity, whose third coordinate stays away from 0."""
        near = random_like((*leading, 3, 3), self._seed(), -0.2, 0.2) + torch.eye(3, dtype=torch.float64)
        return lay_out(near.to(self.coordinates), self._layout())

    def keep(self, b: int, motions: int) -> dict[str, Any]:
        if self.one_of(True, False):
            return {}
        kept = random_like((b, motions), self._seed()) > 0
        kept[:, self.integer(0, motions - 1)] = True
        return {"keep": kept, "dropout": self.one_of("reference", "corrected")}

    def _tensor(self, shape: tuple[int, ...], dtype: torch.dtype, low: float, high: float) -> Tensor:
        return lay_out(random_like(shape, self._seed(), low, high).to(dtype), self._layout())

    def _seed(self) -> int:
        return self.draw(st.integers(0, 2**31 - 1))

    def _layout(self) -> str:
        return self.one_of(*LAYOUTS)


def lay_out(tensor: Tensor, layout: str) -> Tensor:
    """The same shape and, but for `expanded`, the same values, in memory of another layout; NaN lies between them."""
    if layout == "channels_last" and tensor.ndim > 1:
        return tensor.movedim(1, -1).contiguous().movedim(-1, 1)
    if layout == "sliced":
        steps = tuple(slice(1, None, 2) for _ in tensor.shape)
        return tensor.new_full([2 * n + 1 for n in tensor.shape], torch.nan)[steps].copy_(tensor)
    if layout == "expanded" and tensor.ndim > 2 and tensor.numel() > 0:
        axis = 1 if tensor.ndim == 4 else 0
        return tensor.narrow(axis, 0, 1).expand_as(tensor)
    if layout == "offset":
        return tensor.new_full((tensor.numel() + 1,), torch.nan)[1:].view(tensor.shape).copy_(tensor)
    return tensor


# --- one builder for each op


def _fit_tps(x: Inputs) -> Case:
    *leading, n = *(x.integer(0, 4) for _ in range(x.integer(0, 2))), x.integer(3, 16)
    tensors = {"control_points": x.coordinate(*leading, n, 2), "values": x.coordinate(*leading, n, 2)}
    return Case("fit_tps", tensors, {"regularization": x.one_of(0.01, 0.1)})


def _tps_grid(x: Inputs) -> Case:
    *leading, n = *(x.integer(0, 3) for _ in range(x.integer(0, 2))), x.integer(1, 17)
    tensors = {
        "theta": x.coordinate(*leading, 2, 3),
        "weights": x.coordinate(*leading, n, 2),
        "control_points": x.coordinate(*leading, n, 2),
    }
    return Case("tps_grid", tensors, {"size": x.sides(2)})


def _keypoint_heatmaps(x: Inputs) -> Case:
    b, p = x.integer(0, 3), x.integer(0, 20)
    tensors = {"kp_driving": x.coordinate(b, p, 2), "kp_source": x.coordinate(b, p, 2)}
    return Case("keypoint_heatmaps", tensors, {"size": x.sides(2), "variance": x.one_of(0.01, 0.3)})


def _splines(x: Inputs) -> tuple[int, dict[str, Tensor]]:
    b, k, n = x.integer(0, 3), x.integer(1, 4), x.one_of(5, 3, 4, 8, 16)
    return b, {"kp_driving": x.coordinate(b, k, n, 2), "kp_source": x.coordinate(b, k, n, 2)}


def _with_background(x: Inputs, tensors: dict[str, Tensor], *leading: int) -> dict[str, Tensor]:
    return tensors | ({"background": x.background(*leading)} if x.one_of(True, False) else {})


def _motion_features(x: Inputs) -> Case:
    b, keypoints = _splines(x)
    tensors = {"source": x.feature(b, x.one_of(3, 1, 2, 0, 4), *x.sides(2))} | keypoints
    return Case("motion_features", _with_background(x, tensors, b), {"variance": x.one_of(0.01, 0.3)})


def _blend_flow(x: Inputs) -> Case:
    b, keypoints = _splines(x)
    motions = keypoints["kp_driving"].shape[1] + 1
    tensors = {"logits": x.feature(b, motions, *x.sides(2))} | keypoints
    return Case("blend_flow", _with_background(x, tensors, b), x.keep(b, motions))


def _tps_warp(x: Inputs) -> Case:
    b, keypoints = _splines(x)
    motions = keypoints["kp_driving"].shape[1] + 1
    flow_size = x.sides(2)
    size = x.one_of(flow_size, tuple(max(n, 1) for n in x.sides(2))) if min(flow_size) > 0 else flow_size
    tensors = {"image": x.feature(b, x.one_of(3, 1, 0, 4), *size), "logits": x.feature(b, motions, *flow_size)}
    return Case("tps_warp", _with_background(x, tensors | keypoints, b), x.keep(b, motions))


def _resized(x: Inputs, size: tuple[int, ...]) -> tuple[int, ...]:
    """A size that can be resized to this one: nothing cannot become something."""
    return x.one_of(size, tuple(max(n, 1) for n in x.sides(2)))


def _warp(x: Inputs) -> Case:
    b, c, size = x.integer(0, 3), x.one_of(3, 1, 0, 4, 8, 17, 40), x.sides(2)
    tensors = {"features": x.feature(b, c, *size), "flow": x.coordinate(b, *_resized(x, size), 2, bound=1.4)}
    if x.one_of(True, False):
        tensors["mask"] = x.coordinate(b, 1, *_resized(x, size))
    return Case("warp", tensors, _sampling(x))


def _sampling(x: Inputs) -> dict[str, Any]:
    return {"padding_mode": x.one_of("zeros", "border", "reflection"), "align_corners": x.one_of(True, False)}


def _grid_sample(x: Inputs) -> Case:
    b, c, size = x.integer(0, 3), x.one_of(3, 1, 4, 8, 17, 40), tuple(max(n, 1) for n in x.sides(2))
    x = replace(x, coordinates=x.features)
    tensors = {"input": x.feature(b, c, *size), "grid": x.coordinate(b, *x.sides(2), 2, bound=1.4)}
    return Case("grid_sample", tensors, _sampling(x))


def _times(x: Inputs, b: int) -> Tensor:
    """Binary fractions: the same number in any dtype."""
    return (x._tensor((b, x.integer(1, 3)), x.coordinates, 0, 15).round() + 0.5) / 16


def _anytime_keypoints(x: Inputs) -> Case:
    b, keypoints = _splines(x)
    return Case("anytime_keypoints", keypoints | {"times": _times(x, b)})


def _anytime_motion_features(x: Inputs) -> Case:
    b, keypoints = _splines(x)
    times = _times(x, b)
    tensors = {"source": x.feature(b, x.one_of(3, 1, 0, 4), *x.sides(2))} | keypoints | {"times": times}
    leading = x.one_of((b,), tuple(times.shape))
    return Case("anytime_motion_features", _with_background(x, tensors, *leading), {"variance": x.one_of(0.01, 0.3)})


def _anytime_warp(x: Inputs) -> Case:
    b, t, levels = x.integer(0, 3), x.integer(1, 3), x.integer(1, 3)
    sizes = [tuple(max(n, 1) for n in x.sides(2)) for _ in range(levels)]
    tensors = {f"features.{i}": x.feature(b, x.one_of(3, 1, 0, 8, 17), *size) for i, size in enumerate(sizes)}
    tensors["flow"] = x.coordinate(b, t, *(max(n, 1) for n in x.sides(2)), 2, bound=1.4)
    if x.one_of(True, False):
        tensors |= {f"masks.{i}": x.coordinate(b, t, 1, *_resized(x, size)) for i, size in enumerate(sizes)}
    return Case("anytime_warp", tensors)


BUILDERS: dict[str, Callable[[Inputs], Case]] = {
    "fit_tps": _fit_tps,
    "tps_grid": _tps_grid,
    "keypoint_heatmaps": _keypoint_heatmaps,
    "motion_features": _motion_features,
    "blend_flow": _blend_flow,
    "warp": _warp,
    "tps_warp": _tps_warp,
    "grid_sample": _grid_sample,
    "anytime_keypoints": _anytime_keypoints,
    "anytime_motion_features": _anytime_motion_features,
    "anytime_warp": _anytime_warp,
}


@st.composite
def cases(draw: st.DrawFn, op: str, largest_side: int = max(SIDES)) -> Case:
    features = draw(st.sampled_from(DTYPES))
    coordinates = draw(st.sampled_from((features, torch.float32, torch.float64)))
    return BUILDERS[op](Inputs(draw, features, coordinates, largest_side))


# --- kinks of bilinear sampling


def smooth(case: Case) -> list[Tensor | None]:
    """For each output, where its gradient does not depend on rounding, broadcastable to it; None is everywhere."""
    x = {name: tensor.detach().double() for name, tensor in case.tensors.items()}
    band = BAND[case.compute_dtype]
    if case.op == "grid_sample":
        return [away_from_kinks(x["grid"], x["input"].shape, band, **case.options)[:, None]]
    if case.op == "warp":
        grid = _resize_flow(x["flow"], x["features"].shape)
        return [away_from_kinks(grid, x["features"].shape, band, **case.options)[:, None]]
    if case.op == "anytime_warp":
        masks: list[Tensor | None] = []
        for name in (name for name in x if name.startswith("features")):
            grid = _resize_flow(x["flow"].flatten(0, 1), x[name].shape)
            masks.append(away_from_kinks(grid, x[name].shape, band).unflatten(0, x["flow"].shape[:2])[:, :, None])
        return masks
    if case.op == "tps_warp":
        flow, _ = reference.blend_flow(**{n: t for n, t in x.items() if n != "image"}, **case.options)
        return [away_from_kinks(_resize_flow(flow, x["image"].shape), x["image"].shape, band)[:, None], None]
    if case.op == "motion_features":
        return [_smooth_features(x["source"], x["kp_driving"], x["kp_source"], x.get("background"), band)]
    if case.op == "anytime_motion_features":
        moved = reference.anytime_keypoints(x["kp_source"], x["kp_driving"], x["times"])
        background = x.get("background")
        if background is not None:
            background = (background if background.ndim == 4 else background[:, None]).expand(*moved.shape[:2], 3, 3)
            background = background.flatten(0, 1)
        still = x["kp_source"][:, None].expand_as(moved).flatten(0, 1)
        mask = _smooth_features(x["source"], moved.flatten(0, 1), still, background, band)
        return [mask.unflatten(0, moved.shape[:2])]
    return [None, None]


def away_from_kinks(
    grid: Tensor, shape: tuple[int, ...], band: float, padding_mode: str = "zeros", align_corners: bool = True
) -> Tensor:
    """Where no coordinate of a (..., 2) grid is within the band of a pixel index, or of a border of reflection."""
    result = torch.ones(grid.shape[:-1], dtype=torch.bool, device=grid.device)
    for axis, n in ((0, shape[3]), (1, shape[2])):
        index = pixel_index(grid[..., axis], n, align_corners)
        if n == 1 and align_corners:
            continue  # every coordinate is the one pixel
        period = 0.5 if padding_mode == "reflection" and not align_corners else 1.0
        result &= (index / period - (index / period).round()).abs() * period > band
    return result


def pixel_index(coordinate: Tensor, n: int, align_corners: bool) -> Tensor:
    return (coordinate + 1) / 2 * (n - 1) if align_corners else ((coordinate + 1) * n - 1) / 2


def _resize_flow(flow: Tensor, shape: tuple[int, ...]) -> Tensor:
    return reference._resize(flow.movedim(-1, 1), (shape[2], shape[3])).movedim(1, -1)


def _smooth_features(
    source: Tensor, kp_driving: Tensor, kp_source: Tensor, background: Tensor | None, band: float
) -> Tensor:
    size = (source.shape[2], source.shape[3])
    grids = reference._candidate_grids(kp_driving, kp_source, background, size, torch.float64)
    motions = away_from_kinks(grids, source.shape, band)
    if background is None:
        motions[:, 0] = True  # the identity, which needs no gradient
    heatmaps = motions.new_ones((len(motions), kp_driving.shape[1] * kp_driving.shape[2] + 1, *size))
    return torch.cat((heatmaps, motions.repeat_interleave(source.shape[1], dim=1)), dim=1)
