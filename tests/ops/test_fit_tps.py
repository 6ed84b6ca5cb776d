"""Spline fits reproduce the numbers of the TPSMM reference and solve the system they state."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.samples import CONTROL, VALUES, keypoints, spline
from torch.testing import assert_close

from lami import ops

pytestmark = pytest.mark.usefixtures("backend")


def test_the_fit_gives_the_reference_numbers(device: torch.device) -> None:
    theta, weights = ops.fit_tps(CONTROL.to(device), VALUES.to(device))
    wanted = torch.tensor(
        [[-0.0079, -0.0033], [-0.0222, -0.0080], [-0.0253, -0.0197], [-0.0092, -0.0137], [0.0642, 0.0444]]
    )
    assert_close(theta.cpu(), torch.tensor([[0.8831, -0.1010, 0.0437], [0.0954, 0.8861, 0.0303]]), atol=6e-5, rtol=0)
    assert_close(weights.cpu(), wanted, atol=6e-5, rtol=0)
    centre = ops.tps_points(theta, weights, CONTROL.to(device), torch.zeros(1, 2, device=device))[0]
    assert_close(centre.cpu(), torch.tensor([0.0626, 0.0433]), atol=6e-5, rtol=0)
    for c, v in zip(CONTROL, VALUES, strict=True):
        assert_close(spline(theta.cpu(), weights.cpu(), CONTROL, c), v, atol=6.5e-4, rtol=0)


def test_the_identity_shrinks_the_affine_part_but_not_the_points(device: torch.device) -> None:
    theta, weights = (x.cpu() for x in ops.fit_tps(CONTROL.to(device), CONTROL.to(device)))
    assert_close(theta.diagonal(), torch.tensor([0.9864, 0.9864]), atol=6e-5, rtol=0)
    for c in CONTROL:
        assert_close(spline(theta, weights, CONTROL, c), c, atol=6e-5, rtol=0)


def test_the_fit_solves_the_regularised_system(device: torch.device) -> None:
    n, control, values = 5, CONTROL.double(), VALUES.double()
    theta, weights = (x.cpu() for x in ops.fit_tps(control.to(device), values.to(device), regularization=0.3))
    system = torch.zeros(n + 3, n + 3, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            s = (control[i] - control[j]).square().sum()
            system[i, j] = s * torch.log(s + 1e-9)
        system[i, n:] = system[n:, i] = torch.tensor([*control[i], 1.0])
    system += 0.3 * torch.eye(n + 3, dtype=torch.float64)
    assert_close(system @ torch.cat((weights, theta.mT)), torch.cat((values, torch.zeros(3, 2, dtype=torch.float64))))


@given(k=st.integers(1, 4), n=st.integers(3, 16), b=st.integers(0, 2))
@settings(max_examples=10)
def test_control_points_go_to_their_values(device: torch.device, k: int, n: int, b: int) -> None:
    driving, source = keypoints(b, k, n, 1, torch.float64), keypoints(b, k, n, 2, torch.float64)
    theta, weights = (x.cpu() for x in ops.fit_tps(driving.to(device), source.to(device), regularization=0.0))
    assert theta.shape == (b, k, 2, 3)
    assert weights.shape == (b, k, n, 2)
    for i in range(b):
        mapped = torch.stack([spline(theta[i, 0], weights[i, 0], driving[i, 0], p) for p in driving[i, 0]])
        assert_close(mapped, source[i, 0], atol=1e-6, rtol=0)


def test_coincident_points_have_a_finite_fit_and_gradient(device: torch.device) -> None:
    control = torch.full((5, 2), 0.3, device=device, requires_grad=True)
    theta, weights = ops.fit_tps(control, VALUES.to(device))
    (gradient,) = torch.autograd.grad(theta.sum() + weights.sum(), control)
    assert theta.isfinite().all()
    assert weights.isfinite().all()
    assert gradient.isfinite().all()


def test_leading_dimensions_broadcast(device: torch.device) -> None:
    control, values = CONTROL.to(device), torch.stack((VALUES, CONTROL))[:, None].to(device)
    theta, weights = ops.fit_tps(control, values)
    assert theta.shape == (2, 1, 2, 3)
    assert weights.shape == (2, 1, 5, 2)
    assert_close(theta[1, 0], ops.fit_tps(control, control)[0])


@pytest.mark.parametrize(
    ("given_dtype", "result"),
    [(torch.float64, torch.float64), (torch.float16, torch.float32), (torch.bfloat16, torch.float32)],
)
def test_the_fit_is_computed_in_at_least_fp32(
    device: torch.device, given_dtype: torch.dtype, result: torch.dtype
) -> None:
    control, values = CONTROL.to(device, given_dtype), VALUES.to(device, given_dtype)
    theta, weights = ops.fit_tps(control, values)
    assert theta.dtype == weights.dtype == result
    assert_close(theta, ops.fit_tps(control.to(result), values.to(result))[0], atol=0, rtol=0)
