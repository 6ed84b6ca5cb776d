"""Appearance and structure losses (Eq. 7 and 8) against loops over their elements."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lami.losses import appearance_loss, structure_loss
from lami.losses.vit import self_similarity

B, TOKENS, D = 2, 4, 3


def similarity(keys: Tensor) -> list[list[float]]:
    """Cosine of every pair of one sample's tokens, (TOKENS, D)."""
    rows = keys.tolist()
    length = [math.sqrt(sum(x * x for x in row)) for row in rows]
    return [
        [sum(a * b for a, b in zip(p, q, strict=True)) / (length[i] * length[j]) for j, q in enumerate(rows)]
        for i, p in enumerate(rows)
    ]


def reduced(differences: list[list[float]], reduction: str) -> float:
    """Differences of each sample: mean of all squares, or mean of each sample's L2 norm."""
    squares = [sum(x * x for x in sample) for sample in differences]
    if reduction == "mse":
        return sum(squares) / sum(map(len, differences))
    return sum(map(math.sqrt, squares)) / len(squares)


@pytest.mark.parametrize("reduction", ["mse", "norm"])
def test_appearance(reduction: str) -> None:
    first, second = torch.randn(B, D), torch.randn(B, D)
    wanted = reduced((first - second).tolist(), reduction)
    assert appearance_loss(first, second, reduction).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("reduction", ["mse", "norm"])
def test_structure(reduction: str) -> None:
    first, second = torch.randn(B, TOKENS, D), torch.randn(B, TOKENS, D)
    differences = [
        [x - y for p, q in zip(similarity(a), similarity(b), strict=True) for x, y in zip(p, q, strict=True)]
        for a, b in zip(first, second, strict=True)
    ]
    wanted = reduced(differences, reduction)
    assert structure_loss(first, second, reduction).item() == pytest.approx(wanted, rel=1e-4)


def test_self_similarity_covers_all_tokens() -> None:
    keys = torch.randn(B, TOKENS, D)
    assert self_similarity(keys).shape == (B, TOKENS, TOKENS)
    assert_close(self_similarity(keys), torch.stack([torch.tensor(similarity(sample)) for sample in keys]))
    # The class token, the first, counts as any other.
    changed = keys.clone()
    changed[:, 0] = torch.randn(B, D)
    assert structure_loss(keys, changed).item() > 1e-3


def test_structure_ignores_the_length_of_keys() -> None:
    keys = torch.randn(B, TOKENS, D)
    assert structure_loss(keys, 3 * keys).item() == pytest.approx(0, abs=1e-10)
    assert structure_loss(keys, torch.zeros_like(keys)).isfinite()


@pytest.mark.parametrize("loss", [appearance_loss, structure_loss])
@pytest.mark.parametrize("reduction", ["mse", "norm"])
def test_gradient_reaches_both_sides(loss: object, reduction: str) -> None:
    assert callable(loss)
    shape = (B, D) if loss is appearance_loss else (B, TOKENS, D)
    first, second = torch.randn(shape, requires_grad=True), torch.randn(shape, requires_grad=True)
    loss(first, second, reduction).backward()
    for side in (first, second):
        assert side.grad is not None
        assert side.grad.isfinite().all()
        assert side.grad.abs().max() > 0


def test_autocast_does_not_round_similarities() -> None:
    first, second = torch.randn(B, TOKENS, D), torch.randn(B, TOKENS, D)
    with torch.autocast("cpu", torch.bfloat16):
        loss = structure_loss(first, second)
    assert torch.equal(loss, structure_loss(first, second))
