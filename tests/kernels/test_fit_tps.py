"""The Triton solver against the reference: values and gradients, conditioning, and systems that must not interfere."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lami.kernels.fit_tps import fit_tps, fit_tps_backward
from lami.ops import reference


def points(*shape: int, seed: int = 0) -> Tensor:
    """(..., 2) in fp64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * 1.6 - 0.8


def expected(control: Tensor, values: Tensor, seed: int = 0) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Gradients put into theta and weights; and theta, weights, gradients of control points and of values."""
    control, values = control.clone().requires_grad_(), values.clone().requires_grad_()
    outputs = reference.fit_tps(control, values)
    generator = torch.Generator().manual_seed(seed)
    grads = tuple(torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in outputs)
    back = torch.autograd.grad(outputs, (control, values), grads)
    return grads, (*(o.detach() for o in outputs), *back)


def computed(grads: tuple[Tensor, ...], control: Tensor, values: Tensor) -> tuple[Tensor, ...]:
    theta, weights = fit_tps(control, values, 0.01)
    return theta, weights, *fit_tps_backward(*grads, control, theta, weights, 0.01)


def test_reproduces_the_published_method() -> None:
    control = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [0.1, 0.05]])
    values = control + torch.tensor([[0.1, 0.0], [0.0, 0.1], [-0.1, 0.0], [0.0, -0.1], [0.05, 0.05]])
    theta, weights = fit_tps(control, values, 0.01)
    assert_close(theta, torch.tensor([[0.8831, -0.1010, 0.0437], [0.0954, 0.8861, 0.0303]]), atol=6e-5, rtol=0)
    wanted = [[-0.0079, -0.0033], [-0.0222, -0.0080], [-0.0253, -0.0197], [-0.0092, -0.0137], [0.0642, 0.0444]]
    assert_close(weights, torch.tensor(wanted), atol=6e-5, rtol=0)


@settings(max_examples=8)
@given(
    leading=st.sampled_from([(), (3,), (2, 2)]),
    n=st.integers(3, 16),
    cluster=st.sampled_from([1.0, 0.1, 0.0]),
    seed=st.integers(0, 999),
)
def test_equals_the_reference(leading: tuple[int, ...], n: int, cluster: float, seed: int) -> None:
    control, values = points(*leading, n, seed=seed) * cluster, points(*leading, n, seed=seed + 1)
    grads, wanted = expected(control, values)
    for got, want in zip(computed(grads, control, values), wanted, strict=True):
        assert_close(got, want, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("n", [3, 5, 6, 13, 14, 16])
def test_single_precision_is_as_accurate_as_pytorch(n: int) -> None:
    control, values = points(8, n, seed=n), points(8, n, seed=n + 1)
    grads, exact = expected(control, values)
    _, pytorch = expected(control.float(), values.float())
    ours = computed(tuple(g.float() for g in grads), control.float(), values.float())
    for got, same, want in zip(ours, pytorch, exact, strict=True):
        assert got.dtype == torch.float32
        assert (got - want).abs().max() <= 4 * (same - want).abs().max() + 1e-6 * want.abs().max()


def test_gradients(differentiable: Callable) -> None:
    def backward(grad_theta: Tensor, grad_weights: Tensor, outputs: tuple, control: Tensor, values: Tensor) -> tuple:
        return fit_tps_backward(grad_theta, grad_weights, control, *outputs, 0.01)

    op = differentiable(lambda control, values: fit_tps(control, values, 0.01), backward)
    inputs = (points(2, 4).requires_grad_(), points(2, 4, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(op, inputs, fast_mode=True)


def test_half_precision_input_is_solved_in_single_precision() -> None:
    control, values = points(2, 5).bfloat16(), points(2, 5, seed=1)
    theta, weights = fit_tps(control, values.float(), 0.01)
    assert theta.dtype == weights.dtype == torch.float32
    assert_close(theta.double(), reference.fit_tps(control.double(), values)[0], atol=1e-4, rtol=1e-4)
    grad_control, grad_values = fit_tps_backward(theta, weights, control, theta, weights, 0.01)
    assert grad_control.dtype == torch.bfloat16
    assert grad_values.dtype == torch.float32


def test_any_strides() -> None:
    control, values = points(5, 3).transpose(0, 1), points(1, 5).expand(3, 5, 2)
    assert not control.is_contiguous()
    grads, wanted = expected(control, values)
    for got, want in zip(computed(grads, control, values), wanted, strict=True):
        assert_close(got, want, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_points_stay_in_their_spline(bad: float) -> None:
    control, values = points(3, 5), points(3, 5, seed=1)
    wanted = fit_tps(control, values, 0.01)
    control[1, 2, 0] = bad
    for got, want in zip(fit_tps(control, values, 0.01), wanted, strict=True):
        assert got[1].isnan().all()
        assert_close(got[::2], want[::2], atol=0, rtol=0)


def test_the_regularizer_is_not_rounded() -> None:
    control, values = points(2, 5), points(2, 5, seed=1)
    for regularization in (0.1, 1e-3):
        wanted = reference.fit_tps(control, values, regularization)
        for got, want in zip(fit_tps(control, values, regularization), wanted, strict=True):
            assert_close(got, want, atol=1e-10, rtol=1e-10)


def test_no_splines() -> None:
    control = torch.empty(0, 4, 5, 2)
    theta, weights = fit_tps(control, control, 0.01)
    assert theta.shape == (0, 4, 2, 3)
    assert weights.shape == control.shape
    assert all(g.shape == control.shape for g in fit_tps_backward(theta, weights, control, theta, weights, 0.01))
