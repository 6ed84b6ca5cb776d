"""Keypoints at times between source and driving pose."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lami.ops import reference
from lami.ops._backend import choose
from lami.ops._checks import check_shapes, check_times
from lami.ops._library import FusedOp, gradient_like, register


def anytime_keypoints(kp_source: Tensor, kp_driving: Tensor, times: Tensor) -> Tensor:
    """Keypoints that move linearly from source to driving pose (LAMI, Eq. 1): (1 - t) kp_source + t kp_driving.

    On the triton backend this is plain PyTorch: one expression that the compiler fuses.

    Args:
        kp_source, kp_driving: (B, K, N, 2).
        times: (T,), or (B, T) for times of each sample, strictly between 0 (source) and 1 (driving).

    Returns:
        (B, T, K, N, 2).

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, no times, or (on the CPU) a time outside (0, 1).
    """
    bound = check_shapes(
        "anytime_keypoints",
        kp_source=(kp_source, "B K N 2"),
        kp_driving=(kp_driving, "B K N 2"),
        times=(times, "... T"),
    )
    times = check_times("anytime_keypoints", times, bound["B"])
    if choose("anytime_keypoints", kp_source.device) != "native":
        return reference.anytime_keypoints(kp_source, kp_driving, times)
    moved: Tensor = _OP("native", kp_source, kp_driving, times)
    return moved


def _fake(kp_source: Tensor, kp_driving: Tensor, times: Tensor) -> Tensor:
    b, k, n, _ = kp_source.shape
    return kp_source.new_empty((b, times.shape[1], k, n, 2))


def _backward_fake(grad: Tensor, kp_source: Tensor, kp_driving: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return gradient_like(kp_source, True, grad), gradient_like(kp_driving, True, grad), gradient_like(times, True, grad)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient(ctx: Any, backward: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return tuple(backward(grad, *ctx.saved_tensors))


_OP = register(FusedOp("anytime_keypoints", _fake, _backward_fake, _save, _gradient, in_triton=False))
