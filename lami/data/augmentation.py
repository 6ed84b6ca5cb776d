"""Augmentation of training pairs: both frames always get the same change."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from lami.configs.schema import AugmentationConfig, JitterConfig

_LUMA = (0.299, 0.587, 0.114)


def augment(pair: torch.Tensor, config: AugmentationConfig, rng: np.random.Generator) -> torch.Tensor:
    """Flip, rotate, resize, crop and change the colours of a pair at random.

    pair: float32 (2, 3, H, W) in [0, 1], source first. Returns the same with the size that resize and crop give.
    All random decisions come from `rng`. TPSMM never flips in time and in space together; here they are independent.
    """
    if rng.random() < config.time_flip:
        pair = pair.flip(0)
    if rng.random() < config.horizontal_flip:
        pair = pair.flip(3)
    if config.rotation:
        pair = rotate(pair, rng.uniform(-config.rotation, config.rotation))
    if config.resize is not None:
        scale = rng.uniform(*config.resize)
        pair = resize(pair, (max(1, round(pair.shape[2] * scale)), max(1, round(pair.shape[3] * scale))))
    if config.crop is not None:
        pair = _random_crop(pair, config.crop, rng)
    return jitter(pair, config.jitter, rng)


def resize(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Float (B, C, H, W) -> (B, C, *size), bilinear and anti-aliased; as it is where the size already fits."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)


def rotate(images: torch.Tensor, degrees: float) -> torch.Tensor:
    """Turn float (B, C, H, W) counterclockwise about the centre; the corners left free repeat the border."""
    height, width = images.shape[-2:]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Grid coordinates are stretched by the aspect ratio, a rotation in pixels is not one in them.
    theta = images.new_tensor([[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]])
    grid = F.affine_grid(theta.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def jitter(images: torch.Tensor, config: JitterConfig, rng: np.random.Generator) -> torch.Tensor:
    """Change brightness, contrast, saturation and hue in random order, by the same amount in all images.

    images: float32 (B, 3, H, W) in [0, 1]. Contrast is relative to the mean of all images, so that a colour that is
    equal in two frames stays equal.
    """
    changes: list[Callable[[torch.Tensor], torch.Tensor]] = []
    if config.brightness:
        brightness = _factor(config.brightness, rng)
        changes.append(lambda x: x * brightness)
    if config.contrast:
        contrast = _factor(config.contrast, rng)
        changes.append(lambda x: torch.lerp(_grey(x).mean(), x, contrast))
    if config.saturation:
        saturation = _factor(config.saturation, rng)
        changes.append(lambda x: torch.lerp(_grey(x).expand_as(x), x, saturation))
    if config.hue:
        turn = rng.uniform(-config.hue, config.hue)
        changes.append(lambda x: shift_hue(x, turn))
    for i in rng.permutation(len(changes)):
        images = changes[i](images).clamp_(0, 1)  # each change makes new images
    return images


def shift_hue(images: torch.Tensor, turn: float) -> torch.Tensor:
    """Move the hue of float32 (B, 3, H, W) in [0, 1] along the colour circle; `turn` 0.5 is the complement."""
    batch, _, height, width = images.shape
    rows = images.movedim(1, -1).reshape(batch * height, width, 3).numpy()
    hsv = cv2.cvtColor(np.ascontiguousarray(rows), cv2.COLOR_RGB2HSV)
    # OpenCV takes hues of more than 360 degrees, but not negative ones.
    hsv[..., 0] = hsv[..., 0] + 360 * (turn % 1)
    rgb = torch.from_numpy(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
    return rgb.reshape(batch, height, width, 3).movedim(-1, 1).contiguous()


def _factor(strength: float, rng: np.random.Generator) -> float:
    return rng.uniform(max(0.0, 1 - strength), 1 + strength)


def _grey(images: torch.Tensor) -> torch.Tensor:
    red, green, blue = images.split(1, dim=1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def _random_crop(images: torch.Tensor, size: tuple[int, int], rng: np.random.Generator) -> torch.Tensor:
    """Crop to `size`; images that are too small are first extended by repeating their border."""
    missing = [max(0, wanted - given) for wanted, given in zip(size, images.shape[-2:], strict=True)]
    top, left = missing[0] // 2, missing[1] // 2
    images = F.pad(images, (left, missing[1] - left, top, missing[0] - top), mode="replicate")
    y = rng.integers(images.shape[-2] - size[0] + 1)
    x = rng.integers(images.shape[-1] - size[1] + 1)
    return images[..., y : y + size[0], x : x + size[1]]
