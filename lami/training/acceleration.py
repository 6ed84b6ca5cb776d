"""What makes a training step fast and light without changing what it computes; a key of `training` for each."""

from __future__ import annotations

import torch
from torch import nn

from lami.configs.schema import TrainingConfig
from lami.errors import ConfigError
from lami.training.step import TrainingStep

_SHORT_SEQUENCE = 256
"""Tokens up to which PyTorch's fused attention is slower on a CPU than its formula, backwards by far."""


def accelerate(step: TrainingStep, settings: TrainingConfig) -> None:
    """Prepare the networks of a step, which are on their device already, before its optimisers are made.

    Raises:
        ConfigError: CUDA graphs without a GPU.
    """
    model, device = step.model, step.model.device
    if settings.cuda_graphs and device.type != "cuda":
        raise ConfigError(f"training.cuda_graphs needs a GPU, and training runs on {device.type}; leave it out")
    frozen: list[nn.Module] = [step.perceptual] if step.vit is None else [step.perceptual, step.vit]
    if settings.channels_last:
        for network in (model, *frozen):
            network.to(memory_format=torch.channels_last)
    if settings.precision == "bf16":
        for network in frozen:
            _store_in_bf16(network)
    if step.vit is not None and device.type == "cpu" and step.vit.tokens <= _SHORT_SEQUENCE:
        for block in step.vit.vit.blocks:
            block.attn.fused_attn = False
    model.generator.checkpoint_decoder = settings.checkpoint_decoder
    if settings.compile:
        _compile(step, "reduce-overhead" if settings.cuda_graphs else None)


def _store_in_bf16(frozen: nn.Module) -> None:
    """Autocast would convert these weights in every pass: it remembers only those that are trained."""
    for layer in frozen.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.to(torch.bfloat16)


def _compile(step: TrainingStep, mode: str | None) -> None:
    """Whole networks, so that everything between two convolutions becomes one loop; transformer blocks one by one,
    since they share their code."""
    model = step.model
    methods: list[tuple[nn.Module, str]] = [
        (model.generator, "encode"),
        (model.generator, "_inpaint"),
        (model.dense_motion, "_predict"),
        (model.keypoint_detector, "forward"),
        (step.perceptual.vgg, "forward"),
    ]
    if model.background_predictor is not None:
        methods.append((model.background_predictor, "forward"))
    if step.vit is not None:
        methods += [(block, "forward") for block in step.vit.vit.blocks[:-1]]  # the last one's keys are read by a hook
    for network, method in methods:
        # On the instance, under the name of the method: parameters keep their names.
        setattr(network, method, torch.compile(getattr(network, method), mode=mode, dynamic=False))
