"""A training configuration whose steps take milliseconds: 32x32 pixels, 2 splines, random VGG and ViT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lami.configs import load_config
from lami.configs.schema import Config
from lami.model import LAMI

_BACKBONE = {"args": {"layers": [1, 1, 1, 1], "channels": [4, 8, 8, 8], "output_stride": 16}}
_TINY: dict[str, Any] = {
    "model.image_size": 32,
    "model.num_splines": 2,
    "model.detector": _BACKBONE,
    "model.background": _BACKBONE,
    "model.dense_motion": {"block_channels": 4, "max_channels": 8, "num_blocks": 2},
    "model.generator": {"block_channels": 4, "max_channels": 8, "num_down_blocks": 2},
    "vit": {"name": "vit_tiny_patch16_224", "weights": "random", "input_size": 32},
    "vit.args": {"depth": 2, "embed_dim": 24, "num_heads": 3},
    "losses.vgg": {"name": "vgg11", "weights": "random"},
    "losses.scales": (1.0, 0.5),
    "training.batch_size": 2,
    "training.precision": "fp32",
    "training.workers": 0,
    "training.device": "cpu",
    "data.synthetic": {"num_clips": 2, "num_test_clips": 1, "num_frames": 8},
}

CHEAP: dict[str, Any] = {
    "losses": {"reconstruction": 0, "appearance": 0, "structure": 0, "warp": 0, "feature": 1, "pixel": 10},
    "interpolation.selector": "random",
    "training.dropout": {"start": 0.3, "maximum": 0.6, "increase_epochs": 8, "until_epoch": 50},
    "training.panel_every": 100,
    "training.log_every": 3,
    "training.checkpoint_every": 2,
}
"""A run with every source of randomness and without the frozen networks."""


def tiny_config(overrides: Mapping[str, Any] | None = None) -> Config:
    """Everything of the method is on; `overrides` have dotted keys."""
    return load_config(None, {**_TINY, **(overrides or {})})


def tiny_model(config: Config) -> LAMI:
    """In training mode, always with the same weights, and with a background predictor that sees motion."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LAMI(config.model, config.interpolation, config.vit).train()
        if model.background_predictor is not None:
            torch.nn.init.normal_(model.background_predictor.bg_encoder.get_classifier().weight, std=0.02)
    return model


def tiny_pair(batch: int = 2) -> tuple[Tensor, Tensor]:
    """Source and driving images, (batch, 3, 32, 32) each."""
    return torch.rand(batch, 3, 32, 32), torch.rand(batch, 3, 32, 32)


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
