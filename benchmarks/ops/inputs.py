"""Random inputs of the benchmarks: images, keypoints and flows as a model has them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.ops.cases import Size


class Inputs:
    """Random tensors, the same in each run; without memory on the meta device.

    Args:
        dtype: of keypoints, splines, flows and times.
        features: dtype of images, features, masks and logits; the same by default.
        channels_last: whether these have their channels last in memory.
    """

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        features: torch.dtype | None = None,
        channels_last: bool = False,
        seed: int = 0,
    ) -> None:
        self._made: dict[str, Any] = {"device": device, "dtype": dtype}
        self._features = features or dtype
        self._channels_last = channels_last
        if device.type != "meta":
            self._made["generator"] = torch.Generator(device).manual_seed(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(shape, **self._made)).requires_grad_()

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return (low + (high - low) * torch.rand(shape, **self._made)).requires_grad_()

    def maps(self, batch: int, channels: int, side: int) -> Tensor:
        """(B, C, side, side), as smooth as images: in noise a rounding error would change gradients at every kink."""
        coarse = self.normal(batch, channels, max(side // 8, 2), max(side // 8, 2)).detach()
        return self._as_features(F.interpolate(coarse, (side, side), mode="bicubic", align_corners=True))

    def logits(self, size: Size, side: int) -> Tensor:
        """(B, K + 1, side, side)"""
        return self._as_features(self.normal(size.batch, size.splines + 1, side, side))

    def mask(self, *shape: int) -> Tensor:
        """In [0, 1]."""
        return self._as_features(self.uniform(*shape))

    def _as_features(self, tensor: Tensor) -> Tensor:
        images = self._channels_last and tensor.ndim == 4
        layout = torch.channels_last if images else torch.contiguous_format
        return tensor.detach().to(self._features, memory_format=layout).requires_grad_()

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
