"""Argument checks shared by all ops: one sentence naming the op, the argument, what it got and what it wants."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_shapes(op: str, **arguments: tuple[Tensor | None, str]) -> dict[str, int]:
    """Bind the letters of each argument's shape, for instance `"B K N 2"`, across all arguments.

    Numbers must match exactly, a letter must have one value everywhere, a leading `...` accepts any batch dimensions
    and `_` any size; `"B 3 3 or None"` is for arguments that may be missing. Also requires floating-point tensors on
    one device.

    Raises:
        TypeError: an argument is not a floating-point tensor.
        ValueError: a shape or a device differs.
    """
    bound: dict[str, int] = {}
    device: tuple[str, torch.device] | None = None
    for name, (tensor, spec) in arguments.items():
        if tensor is None and spec.endswith(" or None"):
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{op}: {name} must be a tensor, got {type(tensor).__name__}")
        if not tensor.is_floating_point():
            raise TypeError(f"{op}: {name} must be floating point, got {tensor.dtype}; convert it with .float()")
        letters = spec.removesuffix(" or None").split()
        wanted_shape = ", ".join(letters)
        shape: Sequence[int] = tensor.shape
        if letters[0] == "...":
            letters = letters[1:]
            shape = shape[max(len(shape) - len(letters), 0) :]
        matches = len(shape) == len(letters)
        known = {letter: size for letter, size in bound.items() if letter in letters}
        for letter, size in zip(letters, shape, strict=False):
            if letter == "_":
                continue
            wanted = int(letter) if letter.isdigit() else bound.setdefault(letter, size)
            matches = matches and wanted == size
        if not matches:
            wanted_sizes = ", ".join(f"{letter}={size}" for letter, size in known.items())
            raise ValueError(
                f"{op}: {name} must have shape ({wanted_shape})"
                f"{f' with {wanted_sizes}' if known else ''}, got {tuple(tensor.shape)}"
            )
        if device is not None and device[1] != tensor.device:
            raise ValueError(
                f"{op}: {name} is on {tensor.device} but {device[0]} is on {device[1]}; move them to one device"
            )
        device = (name, tensor.device)
    return bound


def check_broadcast(op: str, **arguments: Tensor) -> None:
    """Raises ValueError unless all dimensions before the last two broadcast against each other."""
    leading = {name: tuple(tensor.shape[:-2]) for name, tensor in arguments.items()}
    first = next(iter(leading.values()))
    if all(shape == first for shape in leading.values()):
        return  # broadcast_shapes takes longer than a small spline
    try:
        torch.broadcast_shapes(*leading.values())
    except RuntimeError as error:
        shapes = ", ".join(f"{name} {shape}" for name, shape in leading.items())
        raise ValueError(f"{op}: batch dimensions must broadcast against each other, got {shapes}") from error


def check_variance(op: str, variance: float) -> None:
    if not variance > 0:
        raise ValueError(f"{op}: variance must be positive, got {variance}")


def check_size(op: str, size: tuple[int, int]) -> None:
    if len(size) != 2 or min(size) < 0:
        raise ValueError(f"{op}: size must be (height, width), got {tuple(size)}")


def check_resizable(op: str, size: tuple[int, int], **sizes: tuple[int, int]) -> None:
    """Raises ValueError for a map without pixels that has to be resized to a size that has some."""
    for name, given in sizes.items():
        if 0 in given and 0 not in size:
            raise ValueError(f"{op}: {name} of size {given} cannot be resized to {size}; it needs at least one pixel")


def check_splines(op: str, bound: dict[str, int]) -> None:
    if bound.get("K") == 0:
        raise ValueError(f"{op}: keypoints must form at least one spline, got K = 0")
    if not 3 <= bound["N"] <= 16:
        raise ValueError(f"{op}: a spline takes 3 to 16 control points, got {bound['N']}")


def check_blend(op: str, bound: dict[str, int], logits: Tensor, keep: Tensor | None, dropout: str) -> None:
    """Splines, the number of contribution maps M, and the dropout of motions."""
    check_splines(op, bound)
    if bound["M"] != bound["K"] + 1:
        raise ValueError(
            f"{op}: logits must have K + 1 = {bound['K'] + 1} channels for K = {bound['K']} splines, got {bound['M']}"
        )
    if dropout not in ("reference", "corrected"):
        raise ValueError(f"{op}: dropout must be 'reference' or 'corrected', got {dropout!r}")
    if keep is None:
        return
    if not isinstance(keep, Tensor):
        raise TypeError(f"{op}: keep must be a tensor, got {type(keep).__name__}")
    if keep.dtype != torch.bool or keep.shape != logits.shape[:2]:
        raise ValueError(
            f"{op}: keep must be bool of shape {tuple(logits.shape[:2])}, got {keep.dtype} {tuple(keep.shape)}"
        )
    if keep.device != logits.device:
        raise ValueError(f"{op}: keep is on {keep.device} but logits is on {logits.device}; move them to one device")


def check_padding(op: str, padding_mode: str) -> None:
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f"{op}: padding_mode must be zeros, border or reflection, got {padding_mode!r}")


def check_times(op: str, times: Tensor, batch: int) -> Tensor:
    """Times as (B, T).

    Raises:
        ValueError: none, of the wrong shape, or (on the CPU, where looking is free) outside (0, 1).
    """
    if times.ndim not in (1, 2) or times.shape[-1] == 0 or (times.ndim == 2 and times.shape[0] not in (1, batch)):
        raise ValueError(f"{op}: times must have shape (T,) or ({batch}, T) with T >= 1, got {tuple(times.shape)}")
    if times.device.type == "cpu" and times.numel() > 0:
        earliest, latest = times.detach().aminmax()
        if torch.compiler.is_compiling():
            inside = (earliest > 0) & (latest < 1)
            torch._assert_async(inside, f"{op}: times must lie strictly between 0 and 1")
        elif not 0 < earliest.item() <= latest.item() < 1:
            raise ValueError(f"{op}: times must lie strictly between 0 and 1, got {times.tolist()}")
    return times.expand(batch, times.shape[-1])
