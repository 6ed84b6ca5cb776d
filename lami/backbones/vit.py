"""ViT class token (appearance) and keys (structure), as in Splice (Tumanyan et al., CVPR 2022)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lami.backbones.timm_models import create_pretrained
from lami.backbones.vgg import Normalize
from lami.configs.schema import ViTConfig
from lami.errors import ConfigError


@dataclass
class ViTOutput:
    """cls (B, D), class token after the last block and before the final norm; keys (B, tokens, D) of the last block."""

    cls: Tensor
    keys: Tensor

    def rows(self, rows: slice) -> ViTOutput:
        """Some samples of the batch."""
        return ViTOutput(self.cls[rows], self.keys[rows])

    def roll(self, shift: int) -> ViTOutput:
        """The batch, shifted cyclically."""
        return ViTOutput(self.cls.roll(shift, dims=0), self.keys.roll(shift, dims=0))


class ViTFeatures(nn.Module):
    """Images (B, 3, H, W) in [0, 1] -> `ViTOutput`, both from one pass. Frozen; gradients reach the images.

    Raises:
        ConfigError: the timm model is not a plain vision transformer with a class token.
        WeightsUnavailableError: see `create_pretrained`.
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        arguments = dict(config.args)
        if config.input_size != 224:
            arguments["img_size"] = config.input_size
        self.input_size = config.input_size
        self.normalize = Normalize()
        self.vit: Any = create_pretrained(config.name, config.weights, num_classes=0, **arguments)
        if getattr(self.vit, "cls_token", None) is None or not hasattr(self.vit, "blocks"):
            raise ConfigError(f"vit.name must be a vision transformer with a class token, {config.name!r} is not")

    @property
    def tokens(self) -> int:
        """Of an image, all together."""
        return int(self.vit.patch_embed.num_patches) + int(self.vit.num_prefix_tokens)

    def forward(self, image: Tensor) -> ViTOutput:
        size = (self.input_size, self.input_size)
        x = F.interpolate(image, size, mode="bilinear", antialias=max(image.shape[-2:]) > self.input_size)
        vit = self.vit
        x = vit.norm_pre(vit._pos_embed(vit.patch_embed(self.normalize(x))))
        for block in vit.blocks[:-1]:
            x = block(x)
        last = vit.blocks[-1]
        captured: list[Tensor] = []
        handle = last.attn.qkv.register_forward_hook(lambda module, inputs, output: captured.append(output))
        try:
            tokens = last(x)
        finally:
            handle.remove()
        return ViTOutput(cls=tokens[:, 0], keys=captured[0].chunk(3, dim=-1)[1])
