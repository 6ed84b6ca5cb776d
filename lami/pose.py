"""How far poses are apart by their keypoints alone, whatever the object; and how far apart they were in training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

_SMALLEST = 1e-6
_BINS, _WIDTH = 200, 0.01
"""Distances up to 2, beyond which hardly any pose is."""
_MEMORY = 20_000
"""Pairs after which one counts half: keypoints mean little at the start of a training."""


def normalized_pose(keypoints: Tensor) -> Tensor:
    """Keypoints (..., K, N, 2) of images, (..., K * N, 2) fp32 with place and size taken out: centred, and in units of
    their root mean square distance from the centre."""
    points = keypoints.flatten(-3, -2).float()
    points = points - points.mean(dim=-2, keepdim=True)
    radius = points.square().sum(dim=-1).mean(dim=-1).sqrt()
    return points / radius.clamp(min=_SMALLEST)[..., None, None]


def pose_distances(first: Tensor, second: Tensor) -> Tensor:
    """Mean distances (B,) of corresponding normalised keypoints, (B, K, N, 2) each or a single one for all; 0 is the
    same pose, 1 as far as keypoints are from their centre."""
    return (normalized_pose(first) - normalized_pose(second)).norm(dim=-1).mean(dim=-1)


class SeenPoses:
    """Histogram of the pose distances between source and driving frame of training pairs, later pairs counting more.

    counts: (bins,) fp32 on the device of the training, where `add` leaves it.
    """

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts
        self._bins = torch.arange(_BINS, device=counts.device)

    @classmethod
    def none(cls, device: torch.device) -> SeenPoses:
        """No pairs yet."""
        return cls(torch.zeros(_BINS, device=device))

    @classmethod
    def from_list(cls, counts: Sequence[float]) -> SeenPoses:
        """What `to_list` gave. Raises `ValueError` for what is no histogram."""
        if len(counts) > _BINS or not all(0 <= count < math.inf for count in counts):
            raise ValueError("the counts of poses are no histogram")
        return cls(torch.tensor([*counts, *itertools.repeat(0.0, _BINS - len(counts))]))

    def to(self, device: torch.device) -> SeenPoses:
        return SeenPoses(self.counts.to(device))

    @torch.no_grad()
    def add(self, distances: Tensor) -> None:
        """Count pairs by their distances (B,), on their device and without waiting for it."""
        places = (distances.detach()[:, None] / _WIDTH).floor().clamp(max=_BINS - 1)
        self.counts = self.counts * 0.5 ** (len(distances) / _MEMORY) + (places == self._bins).sum(dim=0)

    def percentile(self, share: float) -> float:
        """Distance that the given share of the pairs stays below; 0 where there are none."""
        below = self.counts.cpu().double().cumsum(dim=0)
        return _WIDTH * (int(torch.searchsorted(below, share * below[-1])) + 1) if below[-1] > 0 else 0.0

    def to_list(self) -> list[float]:
        """The counts without the zeros at the end."""
        counts = self.counts.tolist()
        while counts and counts[-1] == 0:
            counts.pop()
        return counts
