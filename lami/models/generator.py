"""Image generator: encoder, warping of its features, inpainting decoder (TPSMM, section 3.4; LAMI, Eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lami import ops
from lami.configs.schema import ModelConfig
from lami.models.dense_motion import Motion
from lami.models.layers import ConvBlock, DownBlock, ResBlock, UpBlock

_FUSION_POWER = 4
"""p of `forward_fused`. Between views that are a little apart a linear weight is a double exposure."""


@dataclass
class Generated:
    """prediction (B, 3, H, W) in [0, 1], and deformed (B, 3, H, W), the source warped without inpainting."""

    prediction: Tensor
    deformed: Tensor


class Generator(nn.Module):
    """`encode` once for each source, `forward` once for each motion."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        g = config.generator
        self.num_levels = g.num_down_blocks + 1
        widths = [min(g.max_channels, g.block_channels * 2**i) for i in range(g.num_down_blocks + 1)]
        self.first = ConvBlock(3, widths[0], kernel_size=7)
        self.down_blocks = nn.ModuleList(DownBlock(a, b) for a, b in pairwise(widths))
        # Coarse to fine; beyond the coarsest level the decoder also carries that level's warped features.
        decoder = [widths[-1], *(2 * width for width in widths[-2:0:-1])]
        self.up_blocks = nn.ModuleList(UpBlock(a, b) for a, b in zip(decoder, widths[-2::-1], strict=True))
        self.resblock = nn.ModuleList(ResBlock(width) for width in decoder for _ in range(2))
        self.final = nn.Conv2d(widths[0], 3, 7, padding=3)
        self.checkpoint_decoder = False
        """Recompute the decoder in the backward pass instead of keeping its activations."""

    def encode(self, image: Tensor) -> list[Tensor]:
        """Image (B, 3, H, W) -> features of `num_levels` levels, coarse to fine."""
        features = [self.first(image)]
        for down in self.down_blocks:
            features.append(down(features[-1]))
        return features[::-1]

    @staticmethod
    def warp(features: Sequence[Tensor], motion: Motion, repeat: int = 1) -> list[Tensor]:
        """Warp each level along a flow, not yet masked.

        Each sample of the features may serve `repeat` consecutive samples of the motion (several times of one source).
        """
        flow = motion.flow.unflatten(0, (-1, repeat))
        return [level.flatten(0, 1) for level in ops.anytime_warp(features, flow)]

    def forward(
        self,
        image: Tensor,
        features: Sequence[Tensor],
        motion: Motion,
        repeat: int = 1,
    ) -> Generated:
        """
        Args:
            image: source (B, 3, H, W) in [0, 1].
            features: `encode(image)`.
            motion: from the source to the driving pose, B * repeat samples, those of one source consecutive.
            repeat: motions of each source.
        """
        *warped, deformed = self.warp([*features, image], motion, repeat)
        return self.decode(warped, deformed, self.level_occlusions(motion.occlusions, features))

    def decode(self, warped: Sequence[Tensor], deformed: Tensor, occlusions: Sequence[Tensor]) -> Generated:
        """Inpaint warped features (coarse to fine) and the warped image where the occlusions are low."""
        if self.checkpoint_decoder and torch.is_grad_enabled():
            prediction = checkpoint(
                self._inpaint, warped, deformed, occlusions, use_reentrant=False, preserve_rng_state=False
            )
        else:
            prediction = self._inpaint(warped, deformed, occlusions)
        return Generated(prediction, deformed)

    def _inpaint(self, warped: Sequence[Tensor], deformed: Tensor, occlusions: Sequence[Tensor]) -> Tensor:
        # Masks in fp32 would turn features in bf16 to fp32.
        masks = [mask.to(level.dtype) for level, mask in zip(warped, occlusions, strict=True)]
        x = warped[0] * masks[0]
        for i, up in enumerate(self.up_blocks):
            x = up(self.resblock[2 * i + 1](self.resblock[2 * i](x)))
            skip = warped[i + 1] * masks[i + 1]
            if i < len(self.up_blocks) - 1:
                x = torch.cat((x, skip), dim=1)
            else:
                x = x * (1 - masks[-1]) + skip
        painted = torch.sigmoid(self.final(x).float())
        return painted * (1 - occlusions[-1]) + deformed * occlusions[-1]

    def level_occlusions(self, occlusions: Sequence[Tensor], features: Sequence[Tensor]) -> list[Tensor]:
        """One occlusion map for each level; a single map is resized to all of them."""
        if len(occlusions) == self.num_levels:
            return list(occlusions)
        sizes = (level.shape[-2:] for level in features)
        return [nn.functional.interpolate(occlusions[0], size, mode="bilinear", align_corners=True) for size in sizes]

    def forward_fused(
        self,
        images: Sequence[Tensor],
        features: Sequence[Sequence[Tensor]],
        motions: Sequence[Motion],
        fusion: str,
    ) -> Generated:
        """Generate from several views of the object (LAMI, section 4.4, V2), without further parameters.

        `occlusion` weighs the warped features and the occlusion of view v by w_v = o_v^p / sum_v o_v^p, so a view that
        is fully occluded changes nothing, and views that are equal count as one; `mean` averages both.

        Args:
            images: a (B, 3, H, W) each; features: `encode` of each; motions: from each to the driving pose.
            fusion: `occlusion` or `mean`.
        """
        warped = [self.warp([*f, image], motion) for image, f, motion in zip(images, features, motions, strict=True)]
        occlusions = [self.level_occlusions(motion.occlusions, f) for f, motion in zip(features, motions, strict=True)]
        fused_levels, fused_occlusions = [], []
        for level in range(self.num_levels + 1):
            views = torch.stack([w[level] for w in warped])
            masks = torch.stack([o[min(level, self.num_levels - 1)] for o in occlusions])
            if fusion == "occlusion":
                weights = torch.softmax(_FUSION_POWER * masks.clamp_min(1e-30).log(), dim=0)
            else:
                weights = torch.full_like(masks, 1 / len(masks))
            fused_levels.append((weights * views).sum(0))
            fused_occlusions.append((weights * masks).sum(0))
        return self.decode(fused_levels[:-1], fused_levels[-1], fused_occlusions[:-1])
