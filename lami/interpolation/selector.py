"""Which of the interpolated images to transfer motion from (Eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor

_EPSILON = 1e-8
_TIE = 1e-6


def eq4_cost(cls_source: Tensor, cls_candidates: Tensor, kp_candidates: Tensor, kp_driving: Tensor) -> Tensor:
    """Eq. 4: share of the appearance distance to the source plus share of the keypoint distance to the driving pose.

    Distances are unsquared L2 norms, each divided by its sum over the candidates. Where source and driving coincide all
    distances vanish and so does the cost: finite, and a tie.

    Args:
        cls_source: (B, D) ViT class token of the source; cls_candidates: (B, T, D) of the interpolated images.
        kp_candidates: (B, T, K, N, 2); kp_driving: (B, K, N, 2).

    Returns:
        (B, T), lower is better.
    """
    appearance = (cls_candidates.float() - cls_source.float()[:, None]).norm(dim=-1)
    distance = (kp_candidates - kp_driving[:, None]).flatten(2).float().norm(dim=-1)
    return appearance / (appearance.sum(1, keepdim=True) + _EPSILON) + distance / (
        distance.sum(1, keepdim=True) + _EPSILON
    )


def pick(cost: Tensor) -> Tensor:
    """Index (B,) of the lowest cost (B, T); among costs within 1e-6 the earliest, so that rounding does not decide."""
    return (cost <= cost.amin(dim=1, keepdim=True) + _TIE).to(torch.uint8).argmax(dim=1)


class Hysteresis:
    """Selection for consecutive frames of a video that stays with the last choice unless another is clearly better.

    Eq. 4 decides each frame alone, and near ties make the result flicker.

    Args:
        margin: how much lower the cost of another time must be.
    """

    def __init__(self, margin: float = 0.02) -> None:
        self.margin = margin
        self._last: Tensor | None = None

    def pick(self, cost: Tensor) -> Tensor:
        """Index (B,) for B consecutive frames, given their costs (B, T)."""
        choices = []
        for best, frame_cost in zip(pick(cost), cost, strict=True):
            last = best if self._last is None else self._last
            self._last = torch.where(frame_cost[best] + self.margin < frame_cost[last], best, last)
            choices.append(self._last)
        return torch.stack(choices)
