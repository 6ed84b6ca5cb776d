"""What a benchmark consists of: sizes, random inputs, and the two functions to compare."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Size:
    """Sizes of the inputs; an op uses those that it has.

    Attributes:
        side: height and width of images or features.
        flow: height and width of a flow that is resized to them.
    """

    batch: int = 4
    side: int = 64
    flow: int = 64
    channels: int = 3
    times: int = 3
    splines: int = 10
    points: int = 5


@dataclass(frozen=True)
class Targets:
    """What is wanted: times faster than eager, and peak memory as a part of eager's."""

    forward: float = 1.0
    both: float = 1.0
    memory: float | None = None


@dataclass(frozen=True)
class Case:
    """Arguments, those with `requires_grad` being differentiated, and the functions to call with them.

    A list among the arguments is a list of tensors.
    """

    arguments: tuple[Any, ...]
    fused: Callable[..., Any]
    eager: Callable[..., Any]

    def tensors(self) -> list[Tensor]:
        return flat(self.arguments)


class Inputs:
    """Random tensors of one dtype and device, the same in each run; without memory on the meta device."""

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self._made: dict[str, Any] = {"device": device, "dtype": dtype}
        if device.type != "meta":
            self._made["generator"] = torch.Generator(device).manual_seed(0)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(shape, **self._made)).requires_grad_()

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return (low + (high - low) * torch.rand(shape, **self._made)).requires_grad_()

    def maps(self, batch: int, channels: int, side: int) -> Tensor:
        """(B, C, side, side), as smooth as images: in noise a rounding error would change gradients at every kink."""
        coarse = self.normal(batch, channels, max(side // 8, 2), max(side // 8, 2)).detach()
        return F.interpolate(coarse, (side, side), mode="bicubic", align_corners=True).requires_grad_()

    def keypoints(self, size: Size) -> tuple[Tensor, Tensor]:
        """Of driving and source, (B, K, N, 2) each: the same figure in two poses.

        The points of a spline lie around a centre: were two of them nearly one, eager PyTorch's inverse of L would be
        all rounding, and there would be nothing to agree with.
        """
        centres = self.uniform(size.batch, size.splines, 1, 2, low=-0.6, high=0.6).detach()
        turns = torch.arange(size.points, device=centres.device, dtype=centres.dtype) * (2 * torch.pi / size.points)
        around = 0.25 * torch.stack((turns.cos(), turns.sin()), dim=-1)
        source, driving = (
            centres + around + self.normal(size.batch, size.splines, size.points, 2, scale=0.04).detach()
            for _ in range(2)
        )
        return driving.requires_grad_(), source.requires_grad_()

    def background(self, *batch: int) -> Tensor:
        """(*batch, 3, 3), near the identity."""
        moved = self.normal(*batch, 3, 3, scale=0.01).detach()
        moved[..., 2, :] = 0
        return (moved + torch.eye(3, device=moved.device, dtype=moved.dtype)).requires_grad_()

    def flow(self, *batch: int, side: int) -> Tensor:
        """(*batch, side, side, 2): the identity, scaled, moved and a little uneven."""
        line = torch.linspace(-1, 1, side, device=self._made["device"], dtype=self._made["dtype"])
        identity = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1)
        scale = self.uniform(*batch, 1, 1, 1, low=0.9, high=1.1).detach()
        shift = self.normal(*batch, 1, 1, 2, scale=0.1).detach()
        uneven = self.normal(*batch, side, side, 2, scale=0.5 / side).detach()
        return (identity * scale + shift + uneven).requires_grad_()


@dataclass(frozen=True)
class Benchmark:
    """The cases of an op.

    Attributes:
        setup: makes the one case that checks of agreement, speed and memory share.
        named: sizes with targets of their own.
        sweep: the size for a side and a batch; nowhere slower than eager is wanted.
        sided: whether the side changes anything.
        limits: what keeps the op from being faster, to be told where a target is missed.
        op: whose backend runs, where the name is no op's.
    """

    name: str
    setup: Callable[[Size, Inputs], Case]
    named: dict[str, tuple[Size, Targets]]
    limits: str
    sweep: Callable[[int, int], Size] = field(default=lambda side, batch: Size(batch=batch, side=side, flow=side))
    sided: bool = True
    op: str | None = None

    def sizes(self, sides_and_batches: list[tuple[int, int]]) -> dict[str, tuple[Size, Targets]]:
        """All sizes by name."""
        sizes = dict(self.named)
        known = {tuple(asdict(size).items()) for size, _ in sizes.values()}
        for side, batch in sides_and_batches:
            size = self.sweep(side if self.sided else Size.side, batch)
            key = tuple(asdict(size).items())
            if key not in known:
                known.add(key)
                sizes[f"{side}x{side}, batch {batch}" if self.sided else f"batch {batch}"] = (size, Targets())
        return sizes


def flat(values: Any) -> list[Tensor]:
    """The tensors in an argument list or a result, in order."""
    if isinstance(values, Tensor):
        return [values]
    return [tensor for value in values for tensor in flat(value)] if isinstance(values, list | tuple) else []
