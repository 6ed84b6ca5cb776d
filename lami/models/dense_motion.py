"""From sparse keypoints to flow, contribution maps and occlusion maps (TPSMM, section 3.3)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from lami import ops
from lami.configs.schema import ModelConfig
from lami.models.layers import AntiAliasDownsample, Hourglass, UpBlock


@dataclass
class Motion:
    """Motion from a source to a driving pose.

    flow: (B, h, w, 2) backward sampling grid, (x, y) in [-1, 1].
    contributions: (B, K + 1, h, w), weight of each candidate motion, background first.
    occlusions: coarse to fine, (B, 1, h_l, w_l); 1 keeps the warped content, 0 asks for inpainting.
    """

    flow: Tensor
    contributions: Tensor
    occlusions: list[Tensor]


def identity_flow(flow: Tensor) -> Tensor:
    """Flow (1, h, w, 2) that moves nothing, of the size of a flow (B, h, w, 2)."""
    rows, columns = (torch.linspace(-1, 1, side, dtype=flow.dtype, device=flow.device) for side in flow.shape[1:3])
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)[None]


@dataclass
class ContributionDropout:
    """Dropout of whole motions while training: background is always kept. `mode` as in `lami.ops.blend_flow`."""

    probability: float
    mode: str = "corrected"

    def draw(self, batch: int, num_splines: int, device: torch.device) -> Tensor:
        """Which motions stay: bool (batch, num_splines + 1), background first."""
        keep = torch.rand(batch, num_splines + 1, device=device) >= self.probability
        keep[:, 0] = True
        return keep


class DenseMotionNetwork(nn.Module):
    """Low-resolution source and two sets of keypoints -> `Motion`.

    `down` makes the low-resolution source, so that it can be made once for each image and reused.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dense = config.dense_motion
        k, n = config.num_splines, config.points_per_spline
        self.down = AntiAliasDownsample(3, dense.scale_factor, config.antialias)
        self.hourglass = Hourglass(3 * (k + 1) + k * n + 1, dense.block_channels, dense.max_channels, dense.num_blocks)
        channels = self.hourglass.out_channels
        self.maps = nn.Conv2d(channels[-1], k + 1, 7, padding=3)

        # One occlusion map for each generator level: levels coarser than the flow read earlier outputs of the
        # hourglass, finer ones are upsampled from its last.
        flow_level = round(math.log2(1 / dense.scale_factor))
        coarsest = config.generator.num_down_blocks if dense.multi_mask else flow_level
        self.num_coarse = max(coarsest - flow_level, 0)
        self.first_upsampled = max(flow_level - coarsest, 0)
        num_up = flow_level if dense.multi_mask else 0
        up_channels = [channels[-1] // 2**i for i in range(num_up + 1)]
        self.up = nn.ModuleList(UpBlock(a, b) for a, b in pairwise(up_channels))
        heads = [*channels[-1 - self.num_coarse : -1], *up_channels[self.first_upsampled :]]
        self.occlusion = nn.ModuleList(nn.Conv2d(c, 1, 7, padding=3) for c in heads)

    def forward(
        self,
        low_res_source: Tensor,
        kp_driving: Tensor,
        kp_source: Tensor,
        background: Tensor | None = None,
        dropout: ContributionDropout | None = None,
    ) -> Motion:
        """
        Args:
            low_res_source: (B, 3, h, w), the source through `down`.
            kp_driving, kp_source: (B, K, N, 2).
            background: (B, 3, 3) from driving to source coordinates; None is the identity.
            dropout: contribution dropout for this call; None for evaluation.
        """
        return self.decode(
            ops.motion_features(low_res_source, kp_driving, kp_source, background),
            kp_driving,
            kp_source,
            background,
            dropout,
        )

    def decode(
        self,
        features: Tensor,
        kp_driving: Tensor,
        kp_source: Tensor,
        background: Tensor | None = None,
        dropout: ContributionDropout | None = None,
    ) -> Motion:
        """As `forward`, from `ops.motion_features` already computed, (B, K*N + 1 + 3 (K + 1), h, w)."""
        keep, mode = None, "reference"
        if dropout is not None:
            keep = dropout.draw(len(features), kp_driving.shape[1], features.device)
            mode = dropout.mode
        return self._predict(features, kp_driving, kp_source, background, keep, mode)

    def _predict(
        self,
        features: Tensor,
        kp_driving: Tensor,
        kp_source: Tensor,
        background: Tensor | None,
        keep: Tensor | None,
        mode: str,
    ) -> Motion:
        outputs = self.hourglass(features)
        flow, contributions = ops.blend_flow(
            self.maps(outputs[-1]), kp_driving, kp_source, background, keep, dropout=mode
        )
        levels = outputs[-1 - self.num_coarse : -1]
        upsampled = [outputs[-1]]
        for up in self.up:
            upsampled.append(up(upsampled[-1]))
        levels = [*levels, *upsampled[self.first_upsampled :]]
        occlusions = [torch.sigmoid(head(level).float()) for head, level in zip(self.occlusion, levels, strict=True)]
        return Motion(flow, contributions, occlusions)
