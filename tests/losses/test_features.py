"""Feature consistency (Eq. 6). What the training step feeds into it is tested with the step."""

from __future__ import annotations

import pytest
import torch

from lami.losses import feature_consistency

SHAPES = [(2, 8, 4, 4), (2, 4, 8, 6)]


def test_mean_at_each_level_and_sum_over_levels() -> None:
    first, second = ([torch.rand(shape) for shape in SHAPES] for _ in range(2))
    wanted = sum((a - b).abs().sum().item() / a.numel() for a, b in zip(first, second, strict=True))
    assert feature_consistency(first, second).item() == pytest.approx(wanted, rel=1e-5)
    assert feature_consistency(first, first).item() == 0


def test_gradient_reaches_both_sides() -> None:
    first, second = ([torch.rand(shape, requires_grad=True) for shape in SHAPES] for _ in range(2))
    feature_consistency(first, second).backward()
    for a, b in zip(first, second, strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert torch.equal(a.grad, -b.grad)


def test_half_precision_features_are_compared_in_fp32() -> None:
    first, second = ([torch.rand(shape).bfloat16() for shape in SHAPES] for _ in range(2))
    value = feature_consistency(first, second)
    assert value.dtype == torch.float32
    assert value == feature_consistency([x.float() for x in first], [x.float() for x in second])


def test_levels_must_correspond() -> None:
    features = [torch.rand(shape) for shape in SHAPES]
    with pytest.raises(ValueError, match="shorter"):
        feature_consistency(features, features[:1])
