"""Unsupervised keypoint detector (TPSMM, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lami.backbones import create_backbone
from lami.configs.schema import ModelConfig


class KeypointDetector(nn.Module):
    """Image (B, 3, H, W) in [0, 1] -> keypoints (B, K, N, 2), (x, y) in [-1, 1]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.shape = (config.num_splines, config.points_per_spline, 2)
        outputs = config.num_splines * config.points_per_spline * 2
        self.fg_encoder = create_backbone(config.detector, in_channels=3, outputs=outputs)

    def forward(self, image: Tensor) -> Tensor:
        return (2 * torch.sigmoid(self.fg_encoder(image).float()) - 1).unflatten(1, self.shape)
