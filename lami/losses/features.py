"""Consistency of the two interpolated images in the generator's encoder (Eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def feature_consistency(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Mean absolute difference at each level (B, C_l, H_l, W_l), summed over levels; gradient reaches both sides."""
    return sum(
        ((a.float() - b.float()).abs().mean() for a, b in zip(first, second, strict=True)),
        start=first[0].new_zeros((), dtype=first[0].float().dtype),
    )
