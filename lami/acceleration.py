"""What makes networks fast without changing what they compute, for training and for inference.

`accelerated` is the inference side: a copy of a model that answers like the model, only sooner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from lami.backbones import ViTFeatures
from lami.errors import ConfigError
from lami.model import LAMI
from lami.models import Motion

Precision = Literal["auto", "fp32", "bf16"]
"""`auto` is bf16 where the hardware multiplies matrices of bf16 faster than of fp32, else fp32.

On GPUs `fp32` means what PyTorch makes of it: convolutions may run in TF32, see `torch.backends.cudnn.allow_tf32`.
"""

Method = tuple[nn.Module, str]
"""A module and the name of one of its methods."""

_SHORT_SEQUENCE = 256
"""Tokens up to which PyTorch's fused attention is slower on a CPU than its formula, backwards by far."""


def pick_precision(precision: Precision, device: torch.device) -> Literal["fp32", "bf16"]:
    """The precision asked for, `auto` decided for the device.

    Raises:
        ConfigError: an unknown precision.
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"unknown precision {precision!r}; use one of {', '.join(get_args(Precision))}")
    if precision == "auto":
        return "bf16" if multiplies_bf16(device) else "fp32"
    return precision


def multiplies_bf16(device: torch.device) -> bool:
    """AMX on a CPU, tensor cores of Ampere and later on a GPU; others are slower in bf16, those with AVX512-BF16 too
    (benchmarks/README.md)."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()


def accelerated(model: LAMI, precision: Precision = "auto", compile: bool = False, cuda_graphs: bool = False) -> LAMI:
    """A copy of a model for inference; the model itself where nothing is to be done, or where it is such a copy.

    With bf16, dense motion network, generator and vision transformer store and multiply their weights in bf16, and
    images have channels innermost. Keypoint detector and background predictor stay in fp32, as do splines, flows and
    the selector's costs: these are coordinates, and little work. The copy takes and gives what the model does and
    cannot be trained or saved.

    Args:
        model: on its device; put into eval mode.
        precision: of convolutions and matrix products.
        compile: compile the networks with `torch.compile`, anew for each batch size: minutes at the start.
        cuda_graphs: replay the compiled networks as CUDA graphs.

    Raises:
        ConfigError: an unknown precision, other options for a model that is such a copy, or CUDA graphs without
            `compile` or a GPU.
    """
    device = model.eval().device
    chosen = pick_precision(precision, device)
    if cuda_graphs and not (compile and device.type == "cuda"):
        raise ConfigError("cuda_graphs replays compiled networks on a GPU; set compile and use a GPU, or leave it out")
    if model.accelerated is not None:
        if precision not in ("auto", model.accelerated) or compile:
            raise ConfigError(f"this model is a copy in {model.accelerated}; give the original for other settings")
        return model
    if chosen == "fp32" and not compile:
        return model
    fast = deepcopy(model).requires_grad_(False).to(memory_format=torch.channels_last)
    fast.accelerated = chosen
    mode = "reduce-overhead" if cuda_graphs else None

    def prepare(vit: ViTFeatures) -> ViTFeatures:
        vit.to(device)
        use_short_attention(vit)
        if compile:
            compile_methods(blocks_to_compile(vit), mode)
        if cuda_graphs:
            _keep_results(blocks_to_compile(vit))
        if chosen == "bf16":
            _run_in_bf16([(vit, "forward")], (vit,))
        return vit

    create_vit = fast.create_vit
    fast.create_vit = lambda: prepare(create_vit())  # type: ignore[method-assign]
    for vit in fast.loaded_vit:
        prepare(vit)
    if compile:
        compile_methods(methods_to_compile(fast), mode)
    if cuda_graphs:
        _keep_results(methods_to_compile(fast))
    if chosen == "bf16":
        generator, dense_motion = fast.generator, fast.dense_motion
        methods: list[Method] = [(generator, "encode"), (generator, "_inpaint"), (dense_motion, "_predict")]
        _run_in_bf16(methods, (generator, dense_motion))
    return fast


def _run_in_bf16(methods: Iterable[Method], networks: Iterable[nn.Module]) -> None:
    """Methods of networks, under autocast."""
    for network in networks:
        store_in_bf16(network)
    for network, name in methods:
        setattr(network, name, _in_bf16(getattr(network, name), next(network.parameters()).device))


def _in_bf16(call: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    def run(*arguments: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            return call(*arguments)

    return run


def _keep_results(methods: Iterable[Method]) -> None:
    for network, name in methods:
        setattr(network, name, _with_copied_results(getattr(network, name)))


def _with_copied_results(replay: Callable[..., Any]) -> Callable[..., Any]:
    """CUDA graphs write each result over the one before."""

    def run(*arguments: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return _copied(replay(*arguments))

    return run


def _copied(result: Tensor | list[Tensor] | Motion) -> Tensor | list[Tensor] | Motion:
    if isinstance(result, Tensor):
        return result.clone()
    if isinstance(result, Motion):
        return Motion(result.flow.clone(), result.contributions.clone(), [mask.clone() for mask in result.occlusions])
    return [tensor.clone() for tensor in result]


def store_in_bf16(frozen: nn.Module) -> None:
    """Autocast would convert these weights in every pass: it remembers only those that are trained."""
    for layer in frozen.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.to(torch.bfloat16)


def use_short_attention(vit: ViTFeatures) -> None:
    """On a CPU, take the formula of attention for sequences that are too short for PyTorch's fused one."""
    if next(vit.parameters()).device.type == "cpu" and vit.tokens <= _SHORT_SEQUENCE:
        for block in vit.vit.blocks:
            block.attn.fused_attn = False


def methods_to_compile(model: LAMI) -> list[Method]:
    """Whole networks, so that everything between two convolutions becomes one loop."""
    methods: list[Method] = [
        (model.generator, "encode"),
        (model.generator, "_inpaint"),
        (model.dense_motion, "_predict"),
        (model.keypoint_detector, "forward"),
    ]
    if model.background_predictor is not None:
        methods.append((model.background_predictor, "forward"))
    return methods


def blocks_to_compile(vit: ViTFeatures) -> list[Method]:
    """Transformer blocks one by one, since they share their code."""
    return [(block, "forward") for block in vit.vit.blocks[:-1]]  # the last one's keys are read by a hook


def compile_methods(methods: Iterable[Method], mode: str | None) -> None:
    """Replace methods by compiled ones."""
    for network, method in methods:
        # On the instance, under the name of the method: parameters keep their names.
        setattr(network, method, torch.compile(getattr(network, method), mode=mode, dynamic=False))
