"""VGG features of the perceptual loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lami.backbones.timm_models import create_pretrained
from lami.configs.schema import VGGConfig

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """ImageNet normalisation of images in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std


class VGGFeatures(nn.Module):
    """Activations after the first ReLU of each of the five stages: relu1_1, relu2_1, ..., relu5_1.

    Images (B, 3, H, W) in [0, 1] -> five tensors (B, C_l, H / 2^l, W / 2^l). Frozen; gradients reach the images.

    Raises:
        WeightsUnavailableError: see `create_pretrained`.
    """

    def __init__(self, config: VGGConfig) -> None:
        super().__init__()
        self.normalize = Normalize()
        layers = create_pretrained(config.name, config.weights, needed="features.").features
        self.slices = nn.ModuleList()
        current: list[nn.Module] = []
        first_of_stage = True
        for layer in layers:
            # The features are also read after each ReLU, so it must not overwrite them.
            current.append(nn.ReLU() if isinstance(layer, nn.ReLU) else layer)
            if isinstance(layer, nn.MaxPool2d):
                first_of_stage = True
            elif isinstance(layer, nn.ReLU) and first_of_stage:
                self.slices.append(nn.Sequential(*current))
                current, first_of_stage = [], False

    def forward(self, image: Tensor) -> list[Tensor]:
        features = [self.slices[0](self.normalize(image))]
        for part in self.slices[1:]:
            features.append(part(features[-1]))
        return features
