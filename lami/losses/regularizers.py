"""TPSMM's regularisers: equivariance of keypoints, consistency of warped features, consistency of the background."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lami import ops

_AFFINE_STD = 0.05
_WEIGHT_STD = 0.005
_CONTROL_POINTS_PER_SIDE = 5


class RandomTPS:
    """A random spline transform R of the plane for each sample, under which keypoints should be equivariant.

    The affine part deviates from the identity by N(0, 0.05), each of 5 x 5 control points weighs N(0, 0.005), the same
    in x and y. For a transformed image `image(R(p))`, R maps its keypoints back to those of the image.
    """

    def __init__(self, batch: int, device: torch.device) -> None:
        self.theta = torch.eye(2, 3, device=device) + _AFFINE_STD * torch.randn(batch, 2, 3, device=device)
        side = torch.linspace(-1, 1, _CONTROL_POINTS_PER_SIDE, device=device)
        self.control_points = torch.cartesian_prod(side, side).flip(-1).expand(batch, -1, 2)
        self.weights = _WEIGHT_STD * torch.randn(batch, len(side) ** 2, 1, device=device).expand(-1, -1, 2)

    def image(self, image: Tensor) -> Tensor:
        """Transformed images (B, 3, H, W), reflected at the border."""
        size = (image.shape[-2], image.shape[-1])
        grid = ops.tps_grid(self.theta, self.weights, self.control_points, size)
        return ops.grid_sample(image, grid, padding_mode="reflection", align_corners=True)

    def keypoints(self, keypoints: Tensor) -> Tensor:
        """R of keypoints (B, K, N, 2)."""
        flat = keypoints.flatten(1, 2)
        return ops.tps_points(self.theta, self.weights, self.control_points, flat).view_as(keypoints)


def warp_consistency(
    features: Sequence[Tensor], flow: Tensor, target_features: Sequence[Tensor], occlusions: Sequence[Tensor]
) -> Tensor:
    """Warped source features against those of the driving image (TPSMM, Eq. 15); gradient reaches the flow alone.

    Args:
        features, target_features: generator features (B, C_l, H_l, W_l), coarse to fine.
        flow: (B, h, w, 2).
        occlusions: (B, 1, H_l, W_l) each.

    Returns:
        Mean absolute difference at each level, summed over levels.
    """
    total = flow.new_zeros(())
    for level, target, occlusion in zip(features, target_features, occlusions, strict=True):
        warped = ops.warp(level.detach(), flow, occlusion.detach())
        total = total + (warped.float() - target.detach().float() * occlusion.detach()).abs().mean()
    return total


def background_consistency(forward: Tensor, backward: Tensor) -> Tensor:
    """How far A(S, D) A(D, S), (B, 3, 3) each, is from the identity (TPSMM, Eq. 14)."""
    identity = torch.eye(3, device=forward.device, dtype=forward.dtype)
    with torch.autocast(forward.device.type, enabled=False):
        return (identity - forward @ backward).abs().mean()
