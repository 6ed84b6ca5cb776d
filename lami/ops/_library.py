"""Registration of the fused ops with PyTorch's dispatcher.

An op `lami::name` runs the native kernels (C++ on the CPU; on CUDA what csrc has there, else Triton) and an op
`lami::name_triton` the Triton kernels. Both share one schema, fake kernel and autograd rule, written beside the public
function in Python; each backward pass is an op of its own. Autocast passes the ops by: they choose their precision
themselves.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.library import Library, custom_op, infer_schema, register_autograd, register_fake, triton_op

from lami.ops._backend import MULTI_TIME, triton_interpreted

_LIBRARY = Library("lami", "FRAGMENT")

Function = Callable[..., Any]


@dataclass(frozen=True)
class FusedOp:
    """What an op is, whichever kernels run it.

    Attributes:
        name: of the op, of its public function and of its kernels' files.
        fake: annotated prototype of the forward pass: empty results of the right shape, dtype and strides.
        backward_fake: the same for the backward pass, with an empty tensor for each gradient that is not needed.
        save: `(ctx, inputs, output)`, keeps what the backward pass needs.
        gradient: `(ctx, backward_op, *grads)` -> a gradient or None for each input.
        in_triton: whether there are Triton kernels, in `lami.kernels.<name>`.
    """

    name: str
    fake: Function
    backward_fake: Function
    save: Function
    gradient: Function
    in_triton: bool = True

    def __call__(self, backend: str, *arguments: Any) -> Any:
        if backend == "native":
            return getattr(torch.ops.lami, self.name).default(*arguments)
        return _on_device_of(arguments, getattr(torch.ops.lami, f"{self.name}_triton").default)


def _on_device_of(arguments: tuple[Any, ...], op: Function) -> Any:
    """Triton launches on the current device, whichever its arguments are on; compiled code switches by itself."""
    device = arguments[0].device
    if device.type != "cuda" or torch.compiler.is_compiling() or device.index == torch.cuda.current_device():
        return op(*arguments)
    with torch.cuda.device(device):
        return op(*arguments)


_registered: list[FusedOp] = []


def register(op: FusedOp) -> FusedOp:
    """Define the native op; its kernels come with the libraries `lami._C` and `lami._C_cuda`."""
    for name, fake in ((op.name, op.fake), (f"{op.name}_backward", op.backward_fake)):
        _LIBRARY.define(name + infer_schema(fake, mutates_args=()))
        register_fake(f"lami::{name}", fake)
    _differentiate(op, op.name)
    _registered.append(op)
    return op


def registered() -> list[str]:
    """Names of all ops."""
    return [op.name for op in _registered]


def register_triton() -> None:
    """Define the Triton ops of all registered ops, and let `lami::name` run them on CUDA where csrc has no kernel.

    Done at import where Triton kernels can run; imports triton.
    """
    # Triton's interpreter reads the data of tensors, which the tracing of a triton_op does not have.
    define = custom_op if triton_interpreted() else triton_op
    for op in _registered:
        if not op.in_triton or hasattr(torch.ops.lami, f"{op.name}_triton"):
            continue
        module = importlib.import_module(f"lami.kernels.{op.name}")
        for name, fake in (
            (f"{op.name}", op.fake),
            (f"{op.name}_backward", op.backward_fake),
        ):
            launcher = getattr(module, name)
            triton_name = f"lami::{op.name}_triton" + name.removeprefix(op.name)
            define(triton_name, mutates_args=())(launcher).register_fake(fake)
            if op.name not in MULTI_TIME:
                _LIBRARY.impl(name, _forward_to(triton_name), "CUDA")
        _differentiate(op, f"{op.name}_triton")


def _forward_to(name: str) -> Function:
    """An implementation that runs another op: its wrapper, unlike the bare launcher, makes launches cheap."""
    op = getattr(torch.ops.lami, name.removeprefix("lami::")).default

    def run(*arguments: Any) -> Any:
        return _on_device_of(arguments, op)

    return run


def _differentiate(op: FusedOp, name: str) -> None:
    def backward(ctx: Any, *grads: Any) -> Any:
        return op.gradient(ctx, getattr(torch.ops.lami, f"{name}_backward").default, *grads)

    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.deterministic = torch.are_deterministic_algorithms_enabled()
        op.save(ctx, inputs, output)

    def once(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(
            f"{op.name} can be differentiated once; use lami.ops.use_backend('reference') for second derivatives"
        )

    register_autograd(f"lami::{name}", backward, setup_context=save)
    register_autograd(f"lami::{name}_backward", once, setup_context=lambda ctx, inputs, output: None)


def empty_like_features(features: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """(B, C, H, W), channels_last if the features are and contiguous otherwise."""
    return torch.empty(shape, dtype=dtype or features.dtype, device=features.device, memory_format=layout(features))


def layout(features: Tensor) -> torch.memory_format:
    """Memory format of results: channels_last only where the features have it unambiguously."""
    if (
        features.ndim == 4
        and features.shape[1] > 1
        and not features.is_contiguous()
        and features.is_contiguous(memory_format=torch.channels_last)
    ):
        return torch.channels_last
    return torch.contiguous_format


def gradient_like(tensor: Tensor | None, needed: bool, like: Tensor) -> Tensor:
    """Empty contiguous gradient of an input in its dtype; without elements if it is not needed."""
    if tensor is None or not needed:
        return like.new_empty((0,))
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)


def features_gradient_like(features: Tensor, needed: bool, like: Tensor) -> Tensor:
    """As `gradient_like`, in the layout of the features."""
    return empty_like_features(features, tuple(features.shape)) if needed else like.new_empty((0,))


def given(gradient: Tensor, needed: bool) -> Tensor | None:
    return gradient if needed else None
