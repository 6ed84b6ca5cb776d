"""What makes a training step fast and light without changing what it computes; a key of `training` for each."""

from __future__ import annotations

import torch
from torch import nn

from lami.acceleration import (
    blocks_to_compile,
    compile_methods,
    methods_to_compile,
    store_in_bf16,
    use_short_attention,
)
from lami.configs.schema import TrainingConfig
from lami.errors import ConfigError
from lami.training.step import TrainingStep


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
            store_in_bf16(network)
    if step.vit is not None:
        use_short_attention(step.vit)
    model.generator.checkpoint_decoder = settings.checkpoint_decoder
    if settings.compile:
        methods = [*methods_to_compile(model), (step.perceptual.vgg, "forward")]
        if step.vit is not None:
            methods += blocks_to_compile(step.vit)
        compile_methods(methods, "reduce-overhead" if settings.cuda_graphs else None)
