"""Affine camera motion between two images (TPSMM, section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lami.backbones import create_backbone
from lami.configs.schema import BackboneConfig


class BackgroundPredictor(nn.Module):
    """Source and driving image (B, 3, H, W) -> (B, 3, 3), from driving to source coordinates; identity at the start."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.bg_encoder: Any = create_backbone(config, in_channels=6, outputs=6)
        head = self.bg_encoder.get_classifier()
        nn.init.zeros_(head.weight)
        with torch.no_grad():
            head.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))

    def forward(self, source: Tensor, driving: Tensor) -> Tensor:
        affine = self.bg_encoder(torch.cat((source, driving), dim=1)).float().unflatten(1, (2, 3))
        last_row = torch.eye(3, dtype=affine.dtype, device=affine.device)[2:].expand(affine.shape[0], 1, 3)
        return torch.cat((affine, last_row), dim=1)
