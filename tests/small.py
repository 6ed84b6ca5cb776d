"""A model that is quick to make and run, with random weights."""

from __future__ import annotations

from typing import Any

from lami.configs.schema import (
    AVDConfig,
    BackboneConfig,
    DenseMotionConfig,
    GeneratorConfig,
    InterpolationConfig,
    ModelConfig,
    ViTConfig,
)
from lami.model import LAMI


def small_model(avd: AVDConfig | None = None, background: bool = True, **interpolation: Any) -> LAMI:
    """64x64 pixels, 4 splines; keyword arguments are those of `InterpolationConfig`."""
    backbone = BackboneConfig(args={"channels": [8, 16, 32, 64]})
    config = ModelConfig(
        image_size=64,
        num_splines=4,
        detector=backbone,
        background=backbone if background else None,
        dense_motion=DenseMotionConfig(block_channels=8, max_channels=32, num_blocks=3),
        generator=GeneratorConfig(block_channels=8, max_channels=32),
        avd=avd,
    )
    vit = ViTConfig(name="vit_tiny_patch16_224", weights="random", input_size=64, args={"depth": 2})
    return LAMI(config, InterpolationConfig(**interpolation), vit).eval()
