"""The Triton grid against the reference: values and gradients over sizes that do and do not fill blocks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lami.kernels.tps_grid import tps_grid, tps_grid_backward
from lami.ops import reference


def parameters(*leading: int, n: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> tuple[Tensor, ...]:
    """theta, weights and control points."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 3), (n, 2), (n, 2))
    return tuple(torch.randn(*leading, *shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes)


def expected(inputs: tuple[Tensor, ...], size: tuple[int, int], grad: Tensor) -> tuple[Tensor, ...]:
    """Grid and the three gradients, in fp64."""
    leaves = tuple(t.double().requires_grad_() for t in inputs)
    grid = reference.tps_grid(*leaves, size)
    return grid.detach(), *torch.autograd.grad(grid, leaves, grad)


def gradient(*shape: int) -> Tensor:
    """Strided as after `F.interpolate` of flows: (..., h, w, 2) with both axes in front."""
    return torch.randn(*shape[:-3], 2, *shape[-3:-1], dtype=torch.float64).movedim(-3, -1)


@settings(max_examples=10)
@given(
    leading=st.sampled_from([(), (3,), (2, 2)]),
    n=st.sampled_from([1, 3, 5, 16, 18]),
    h=st.sampled_from([1, 2, 7, 16, 23]),
    w=st.sampled_from([1, 3, 8, 16, 31]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_equals_the_reference(leading: tuple[int, ...], n: int, h: int, w: int, dtype: torch.dtype) -> None:
    inputs = parameters(*leading, n=n, dtype=dtype)
    grad = gradient(*leading, h, w, 2).to(dtype)
    wanted = expected(inputs, (h, w), grad.double())
    got = (tps_grid(*inputs, h, w), *tps_grid_backward(grad, *inputs))
    precision = 1e-11 if dtype == torch.float64 else 3e-5
    for ours, want in zip(got, wanted, strict=True):
        assert ours.dtype == dtype
        assert_close(ours.double(), want, atol=precision * float(1 + want.abs().max()), rtol=0)


def test_gradients(differentiable: Callable) -> None:
    op = differentiable(
        lambda *inputs: tps_grid(*inputs, 3, 4), lambda grad, outputs, *inputs: tps_grid_backward(grad, *inputs)
    )
    inputs = tuple(t.requires_grad_() for t in parameters(2, n=3))
    assert torch.autograd.gradcheck(op, inputs, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_parameters_give_a_single_precision_grid(dtype: torch.dtype) -> None:
    inputs = parameters(2, n=5, dtype=dtype)
    grad = gradient(2, 5, 6, 2).float()
    wanted = expected(inputs, (5, 6), grad.double())
    grid = tps_grid(*inputs, 5, 6)
    assert grid.dtype == torch.float32
    assert_close(grid.double(), wanted[0], atol=1e-4, rtol=1e-5)
    for got, want in zip(tps_grid_backward(grad, *inputs), wanted[1:], strict=True):
        assert got.dtype == dtype
        assert_close(got.double(), want, atol=1e-2, rtol=1e-2)


def test_the_corners_are_exact() -> None:
    identity = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    nothing = torch.zeros(1, 2)
    for side in (2, 3, 50, 257):
        grid = tps_grid(identity, nothing, nothing, side, 3)
        assert grid[0, 0].tolist() == [-1, -1]
        assert grid[-1, -1].tolist() == [1, 1]
    assert tps_grid(identity, nothing, nothing, 1, 1).tolist() == [[[-1, -1]]]


def test_gradients_of_one_spline_do_not_share_memory() -> None:
    inputs = parameters(1, n=3)
    grads = tps_grid_backward(gradient(1, 2, 2, 2), *inputs)
    assert len({g.untyped_storage().data_ptr() for g in grads}) == 3
    assert all(g.is_contiguous() for g in grads)


def test_gradients_are_the_same_in_every_run() -> None:
    inputs = parameters(2, n=5, dtype=torch.float32)
    grad = gradient(2, 17, 19, 2).float()
    first, second = (tps_grid_backward(grad, *inputs) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("leading", "size"), [((0,), (3, 4)), ((2,), (0, 4)), ((2,), (3, 0))])
def test_empty(leading: tuple[int, ...], size: tuple[int, int]) -> None:
    inputs = parameters(*leading, n=5)
    grid = tps_grid(*inputs, *size)
    assert grid.shape == (*leading, *size, 2)
    for got, given_ in zip(tps_grid_backward(grid, *inputs), inputs, strict=True):
        assert_close(got, torch.zeros_like(given_), atol=0, rtol=0)
