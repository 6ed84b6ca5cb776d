"""Which image sizes a configuration accepts."""

from __future__ import annotations

import math

from lami.configs.schema import ModelConfig
from lami.errors import ConfigError


def size_multiple(config: ModelConfig) -> int:
    """Both image sides must be multiples of this (128 with TPSMM's settings).

    The hourglass halves the flow `num_blocks` times and the generator the image `num_down_blocks` times; each needs
    whole pixels.
    """
    dense = config.dense_motion
    level = math.log2(1 / dense.scale_factor) if dense.scale_factor > 0 else -1
    if level < 0 or level != round(level):
        raise ConfigError(
            f"model.dense_motion.scale_factor must be 1, 0.5, 0.25 or another power of 1/2, got {dense.scale_factor}"
        )
    if dense.multi_mask and config.generator.num_down_blocks - level > dense.num_blocks:
        raise ConfigError(
            f"model.generator.num_down_blocks = {config.generator.num_down_blocks} needs occlusion maps coarser than "
            f"the hourglass's coarsest level; use at most {dense.num_blocks + round(level)}, or more "
            "model.dense_motion.num_blocks"
        )
    return max(2**config.generator.num_down_blocks, 2 ** (dense.num_blocks + round(level)))


def check_image_size(config: ModelConfig, height: int, width: int) -> None:
    """Raises ConfigError, naming the nearest sizes that work, unless both sides are multiples of `size_multiple`."""
    multiple = size_multiple(config)
    if min(height, width) < multiple or height % multiple or width % multiple:
        nearest = " x ".join(str(max(round(side / multiple), 1) * multiple) for side in (height, width))
        raise ConfigError(
            f"this model takes images whose height and width are multiples of {multiple}, got {height} x {width}; "
            f"resize or letterbox to {nearest}"
        )
    if height == width == 2**config.generator.num_down_blocks:
        raise ConfigError(
            f"the generator would reduce {height} x {width} images to a single pixel, which instance norm cannot "
            "normalise; use larger images or fewer model.generator.num_down_blocks"
        )
