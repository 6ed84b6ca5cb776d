"""Background transforms of the two stages."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lami.interpolation import interpolate_background

FORMS = ["consistent", "identity", "full", "repredict"]
EYE = torch.eye(3, dtype=torch.float64)


def affine(*rows: float) -> Tensor:
    return torch.tensor([*rows, 0.0, 0.0, 1.0], dtype=torch.float64).view(1, 3, 3)


A = torch.cat((affine(1.1, 0.1, 0.2, -0.2, 0.9, -0.3), affine(0.7, -0.4, 0.0, 0.5, 1.2, 0.1)))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("times", [torch.tensor([0.3, 0.5, 0.7]), torch.tensor([[0.1, 0.9], [0.5, 0.6]])])
def test_the_two_stages_compose_to_the_whole(form: str, times: Tensor) -> None:
    first, second = interpolate_background(A, times, form)
    assert first.shape == second.shape == (2, times.shape[-1], 3, 3)
    assert_close(first @ second, A[:, None].expand_as(first), atol=1e-12, rtol=0)


def test_forms() -> None:
    times = torch.tensor([0.3])
    eye, full = EYE.expand(2, 1, 3, 3), A[:, None]
    for form, wanted in (("identity", (eye, full)), ("full", (full, eye)), ("repredict", (eye, full))):
        for ours, expected in zip(interpolate_background(A, times, form), wanted, strict=True):
            assert_close(ours, expected, atol=0, rtol=0)


def test_consistent_form_moves_background_points_as_equation_1() -> None:
    times = torch.tensor([0.25])
    to_source, to_interpolated = interpolate_background(A, times, "consistent")
    driving_point = torch.tensor([0.4, -0.2, 1.0], dtype=torch.float64)
    source_point = A @ driving_point
    between = (to_interpolated @ driving_point)[:, 0]
    assert_close(between, 0.75 * source_point + 0.25 * driving_point)
    assert_close((to_source[:, 0] @ between[..., None])[..., 0], source_point)


@given(st.lists(st.floats(-2, 2), min_size=6, max_size=6), st.floats(0.05, 0.95))
@settings(max_examples=50, deadline=None)
def test_any_transform_gives_finite_stages(rows: list[float], time: float) -> None:
    matrix = affine(*rows)
    first, second = interpolate_background(matrix, torch.tensor([time]), "consistent")
    assert first.isfinite().all()
    assert_close(first[..., 2, :], EYE[2].expand(1, 1, 3), atol=0, rtol=0)
    if torch.linalg.det(second).abs() > 1e-3:
        assert_close(first @ second, matrix[:, None], atol=1e-8, rtol=0)


@pytest.mark.parametrize("nearly", [0.0, 1e-6, -1e-6])
def test_determinant_is_kept_from_zero(nearly: float) -> None:
    # A point reflection passes through zero half way.
    matrix = affine(-1.0 + nearly, 0, 0.3, 0, -1.0, 0.1).requires_grad_()
    first, _ = interpolate_background(matrix, torch.tensor([0.5]), "consistent")
    assert first.isfinite().all()
    assert first.abs().max() < 1e3
    assert torch.autograd.grad(first.sum(), matrix)[0].isfinite().all()


def test_autocast_does_not_round_coordinates() -> None:
    exact = interpolate_background(A.float(), torch.tensor([0.3, 0.7]))
    with torch.autocast("cpu", torch.bfloat16):
        ours = interpolate_background(A.float(), torch.tensor([0.3, 0.7]))
    for matrix, wanted in zip(ours, exact, strict=True):
        assert torch.equal(matrix, wanted)
