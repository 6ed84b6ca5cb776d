"""Perceptual reconstruction loss over an image pyramid (Eq. 5; TPSMM, Eq. 13)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lami.backbones import VGGFeatures
from lami.configs.schema import VGGConfig
from lami.errors import ConfigError
from lami.models.layers import AntiAliasDownsample

_SMALLEST_SIDE = 16
"""Pixels: the last VGG stage sees a sixteenth."""


class PerceptualLoss(nn.Module):
    """Mean absolute difference of VGG features, summed over five layers and all scales.

    Args:
        vgg: the feature network.
        scales: of the anti-aliased pyramid, 1 being the full image.
        image_size: (H, W) of the full image.

    Raises:
        ConfigError: the smallest scale leaves nothing for the last layer.
    """

    def __init__(self, vgg: VGGConfig, scales: Sequence[float], image_size: tuple[int, int]) -> None:
        super().__init__()
        smallest = min(scales) * min(image_size)
        if smallest < _SMALLEST_SIDE:
            raise ConfigError(
                f"losses.scales: {min(scales)} of a {image_size[0]} x {image_size[1]} image is {smallest:g} pixels, "
                f"and the perceptual loss needs {_SMALLEST_SIDE}; leave out the smallest scales"
            )
        self.vgg = VGGFeatures(vgg)
        self.pyramid = nn.ModuleList(AntiAliasDownsample(3, scale) for scale in scales)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> scalar. No gradient reaches the target."""
        total = prediction.new_zeros(())
        for down in self.pyramid:
            with torch.no_grad():
                wanted = self.vgg(down(target))
            for got, want in zip(self.vgg(down(prediction)), wanted, strict=True):
                total = total + (got.float() - want.float()).abs().mean()
        return total
