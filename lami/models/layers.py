"""Blocks of the networks; parameter names follow TPSMM's checkpoints, so that published weights load unchanged."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_MANY_PIXELS = 1024
"""From which on PyTorch's group norm goes through channels_last images row by row; below it is slow."""


class InstanceNorm(nn.InstanceNorm2d):
    """Affine instance norm that keeps channels_last images as they are where it is compiled or needs no gradient.

    PyTorch's own copies them to NCHW and returns that, and the next convolution copies them back.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            if _is_channels_last(x) and x.device.type == "cpu" and not torch.is_grad_enabled():
                if x.shape[2] * x.shape[3] >= _MANY_PIXELS:
                    return F.group_norm(x, self.num_features, self.weight, self.bias, self.eps)
                return super().forward(x).contiguous(memory_format=torch.channels_last)
            return super().forward(x)
        variance, mean = torch.var_mean(x.float(), dim=(2, 3), keepdim=True, correction=0)
        scale = torch.rsqrt(variance + self.eps) * self.weight[:, None, None]
        return (x * scale + (self.bias[:, None, None] - mean * scale)).to(x.dtype)


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


class ConvBlock(nn.Module):
    """Convolution, instance norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = InstanceNorm(out_channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class DownBlock(ConvBlock):
    """`ConvBlock`, then 2x2 average pooling."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(super().forward(x), 2)


class UpBlock(ConvBlock):
    """Nearest upsampling by 2, then `ConvBlock`."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # on CPUs it would turn to fp32, only to copy pixels
            x = F.interpolate(x, scale_factor=2)
        return super().forward(x)


class ResBlock(nn.Module):
    """Pre-activation residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = InstanceNorm(channels, affine=True)
        self.norm2 = InstanceNorm(channels, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return x + self.conv2(F.relu(self.norm2(y)))


class Hourglass(nn.Module):
    """Encoder-decoder with skip connections; returns every decoder output, coarse to fine, the full-size one last."""

    def __init__(self, in_channels: int, block_channels: int, max_channels: int, num_blocks: int) -> None:
        super().__init__()

        def width(level: int) -> int:
            return min(max_channels, block_channels * 2**level)

        encoder_in = [in_channels, *(width(level) for level in range(1, num_blocks))]
        down_blocks = (DownBlock(encoder_in[level], width(level + 1)) for level in range(num_blocks))
        up_blocks = (
            UpBlock(width(level + 1) * (1 if level == num_blocks - 1 else 2), width(level))
            for level in reversed(range(num_blocks))
        )
        self.encoder = nn.ModuleDict({"down_blocks": nn.ModuleList(down_blocks)})
        self.decoder = nn.ModuleDict({"up_blocks": nn.ModuleList(up_blocks)})
        self.out_channels = [width(num_blocks)]
        self.out_channels += [width(level) + encoder_in[level] for level in reversed(range(num_blocks))]

    def forward(self, x: Tensor) -> list[Tensor]:
        skips = [x]
        for down in self.encoder["down_blocks"].children():
            skips.append(down(skips[-1]))
        outputs = [skips.pop()]
        for up in self.decoder["up_blocks"].children():
            outputs.append(torch.cat((up(outputs[-1]), skips.pop()), dim=1))
        return outputs


class AntiAliasDownsample(nn.Module):
    """Gaussian blur, then decimation by 1 / scale (TPSMM).

    Args:
        channels: of the images.
        scale: 1, 0.5, 0.25, ...; 1 returns the input.
        mode: `reference` pads with zeros and keeps pixels 0, 1/scale, 2/scale, ..., which darkens borders and shifts
            the image by up to 1/scale - 1 pixels; `corrected` pads by replication and samples where the flow grid says.

    Input (B, channels, H, W) with sides divisible by 1 / scale; output (B, channels, H * scale, W * scale).
    """

    weight: Tensor

    def __init__(self, channels: int, scale: float, mode: str = "reference") -> None:
        super().__init__()
        self.step = round(1 / scale)
        self.mode = mode
        if self.step == 1:
            return
        sigma = (1 / scale - 1) / 2
        radius = round(4 * sigma)
        taps = torch.exp(-torch.arange(-radius, radius + 1).float().square() / (2 * sigma**2))
        kernel = torch.outer(taps, taps)
        self.register_buffer("weight", (kernel / kernel.sum()).expand(channels, 1, -1, -1).clone())

    def forward(self, image: Tensor) -> Tensor:
        if self.step == 1:
            return image
        radius = self.weight.shape[-1] // 2
        # The blur of a small image in half precision loses more than it saves.
        with torch.autocast(image.device.type, enabled=False):
            image, weight = image.float(), self.weight.float()
            if self.mode == "reference":
                return F.conv2d(image, weight, stride=self.step, padding=radius, groups=image.shape[1])
            blurred = F.conv2d(F.pad(image, (radius,) * 4, mode="replicate"), weight, groups=image.shape[1])
            size = [side // self.step for side in image.shape[-2:]]
            return F.interpolate(blurred, size=size, mode="bilinear", align_corners=True)
