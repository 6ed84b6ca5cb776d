"""Candidate motions blended into one flow: spline fit, evaluation, softmax with dropout and sum, no grids."""

from __future__ import annotations

import torch
from torch import Tensor

from lami.kernels._blend_kernels import forward_kernel, logits_kernel, motion_kernel
from lami.kernels._launch import blocks, compute_dtype, launchable
from lami.kernels._layout import empty_like_layout
from lami.kernels.fit_tps import fit_tps, fit_tps_backward

REGULARIZATION = 0.01
"""Of the spline fits inside an op, as in TPSMM."""

_BLOCK = 128
_REDUCTION_BLOCK = 256
"""Taken by one warp, whose sums need no barriers."""


def dropout_name(keep: Tensor | None, corrected: bool) -> str:
    """The kernels' DROPOUT."""
    if keep is None:
        return "none"
    return "corrected" if corrected else "reference"


def blend_flow(
    logits: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None,
    keep: Tensor | None,
    corrected: bool,
) -> tuple[Tensor, Tensor]:
    """Flow (B, h, w, 2) and contributions (B, K + 1, h, w), contiguous and in the compute dtype.

    Args:
        logits: (B, K + 1, h, w), any strides.
        kp_driving, kp_source: (B, K, N, 2).
        background: (B, 3, 3) or None.
        keep: (B, K + 1) bool or None.
        corrected: which dropout, where there is `keep`.
    """
    dtype = compute_dtype(logits, kp_driving, kp_source, background)
    samples, motions, height, width = logits.shape
    flow = logits.new_empty((samples, height, width, 2), dtype=dtype)
    contributions = logits.new_empty(logits.shape, dtype=dtype)
    if flow.numel() == 0:
        return flow, contributions
    control_points = kp_driving.to(dtype).contiguous()
    theta, weights = fit_tps(control_points, kp_source.to(dtype), REGULARIZATION)
    per_sample = blocks(height * width, _BLOCK)
    launchable(forward_kernel)[(samples * per_sample,)](
        logits,
        None if keep is None else keep.contiguous(),
        None if background is None else background.to(dtype).contiguous(),
        theta,
        weights,
        control_points,
        flow,
        contributions,
        *logits.stride(),
        motions - 1,
        height,
        width,
        per_sample,
        N=int(kp_driving.shape[2]),
        DROPOUT=dropout_name(keep, corrected),
        BLOCK=_BLOCK,
        num_warps=4,
    )
    return flow, contributions


def blend_flow_backward(
    grad_flow: Tensor,
    grad_contributions: Tensor,
    logits: Tensor,
    contributions: Tensor,
    kp_driving: Tensor,
    kp_source: Tensor,
    background: Tensor | None,
    keep: Tensor | None,
    corrected: bool,
    needs_logits: bool,
    needs_keypoints: bool,
    needs_background: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of logits, kp_driving, kp_source and background, each in its dtype; of shape (0,) if not needed.

    Args:
        grad_flow, grad_contributions: shaped as what `blend_flow` gives, any strides.
        contributions: given by `blend_flow`; logits and all after it: given to it.
    """
    dtype = compute_dtype(logits, kp_driving, kp_source, background)
    samples, motions, height, width = logits.shape
    splines = motions - 1
    n = int(kp_driving.shape[2])
    contributions = contributions.contiguous()
    control_points = kp_driving.to(dtype).contiguous()
    theta, weights = fit_tps(control_points, kp_source.to(dtype), REGULARIZATION)
    matrix = None if background is None else background.to(dtype).contiguous()
    grad_logits, grad_driving, grad_source, grad_background = (logits.new_empty(0) for _ in range(4))

    if needs_logits:
        grad_logits = empty_like_layout(logits, logits.shape, logits.dtype)
        per_sample = blocks(height * width, _BLOCK)
        if grad_logits.numel() > 0:
            launchable(logits_kernel)[(samples * per_sample,)](
                grad_flow,
                grad_contributions,
                logits,
                contributions,
                matrix,
                theta,
                weights,
                control_points,
                grad_logits,
                *grad_flow.stride(),
                *grad_contributions.stride(),
                *logits.stride(),
                *grad_logits.stride(),
                splines,
                height,
                width,
                per_sample,
                N=n,
                DROPOUT=dropout_name(keep, corrected),
                BLOCK=_BLOCK,
                num_warps=2 if grad_flow.dtype == torch.float64 else 4,  # fp64 takes twice the registers
            )

    def parameter_gradients(first_motion: int, selected: int, size: int) -> Tensor:
        """Partial sums (B, selected, blocks, size)."""
        per_motion = blocks(height * width, _REDUCTION_BLOCK)
        partial = control_points.new_empty((samples, selected, per_motion, size))
        if partial.numel() > 0:
            launchable(motion_kernel)[(samples * selected * per_motion,)](
                grad_flow,
                contributions,
                matrix if first_motion == 0 else None,
                weights,
                control_points,
                partial,
                *grad_flow.stride(),
                splines,
                first_motion,
                selected,
                height,
                width,
                per_motion,
                N=n,
                BLOCK=_REDUCTION_BLOCK,
                num_warps=1,
            )
        return partial

    if needs_keypoints:
        partial = parameter_gradients(1, splines, 6 + 4 * n)
        grad_theta, grad_weights, direct = (part.sum(2) for part in partial.split((6, 2 * n, 2 * n), dim=-1))
        through_fit, grad_values = fit_tps_backward(
            grad_theta.reshape(theta.shape),
            grad_weights.reshape(weights.shape),
            control_points,
            theta,
            weights,
            REGULARIZATION,
        )
        grad_driving = (through_fit + direct.reshape(control_points.shape)).to(kp_driving.dtype)
        grad_source = grad_values.to(kp_source.dtype)
    if background is not None and needs_background:
        grad_background = parameter_gradients(0, 1, 9).sum(2).reshape(background.shape).to(background.dtype)
    return grad_logits, grad_driving, grad_source, grad_background
