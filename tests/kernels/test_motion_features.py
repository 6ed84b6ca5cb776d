"""Triton's motion features against the reference: values and gradients over layouts, dtypes, times and backgrounds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lami.kernels.motion_features import motion_features, motion_features_backward
from lami.ops import reference

VARIANCE = 0.05
LAYOUTS = ["contiguous", "channels_last", "strided"]


class Case(NamedTuple):
    """Tensors of `motion_features`; sample n reads source n // times."""

    source: Tensor
    driving: Tensor
    points: Tensor
    background: Tensor | None

    def run(self) -> Tensor:
        return motion_features(*self, VARIANCE)

    def back(
        self, grad: Tensor, needs: tuple[bool, bool, bool] = (True, True, True), deterministic: bool = False
    ) -> tuple[Tensor, ...]:
        return motion_features_backward(grad, *self, VARIANCE, *needs, deterministic)

    def expected(self, grad: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The result, and the gradients of the tensors that are given, in fp64."""
        leaves = [t.detach().double().requires_grad_() for t in self if t is not None]
        source, driving, points, *background = leaves
        repeated = source.repeat_interleave(len(driving) // len(source), dim=0)
        features = reference.motion_features(repeated, driving, points, *background, variance=VARIANCE)
        return features.detach(), torch.autograd.grad(features, leaves, grad.double())


def case(
    b: int = 1,
    times: int = 2,
    c: int = 2,
    k: int = 1,
    n: int = 3,
    h: int = 4,
    w: int = 5,
    *,
    dtype: torch.dtype = torch.float64,
    points_dtype: torch.dtype | None = None,
    background: bool = True,
    layout: str = "contiguous",
) -> Case:
    points_dtype = points_dtype or dtype
    source = torch.rand(b, c, h, w, dtype=torch.float64).to(dtype)
    if layout == "channels_last":
        source = source.contiguous(memory_format=torch.channels_last)
    elif layout == "strided":
        wider = torch.zeros(c, b, 2 * w, h + 1, dtype=dtype)[..., ::2, 1:].permute(1, 0, 3, 2)
        source = wider.copy_(source)
    driving, points = torch.rand(2, b * times, k, n, 2, dtype=torch.float64) * 1.6 - 0.8
    matrix = torch.eye(3, dtype=torch.float64) + 0.1 * torch.randn(b * times, 3, 3, dtype=torch.float64)
    return Case(
        source, driving.to(points_dtype), points.to(points_dtype), matrix.to(points_dtype) if background else None
    )


def output_gradient(features: Tensor) -> Tensor:
    """In the dtype of the features, and not contiguous."""
    samples, channels, h, w = features.shape
    return torch.randn(h, channels, samples, w, dtype=torch.float64).permute(2, 1, 0, 3).to(features.dtype)


def assert_near(got: Tensor, want: Tensor, precision: float) -> None:
    assert_close(got.double(), want, atol=precision * float(1 + want.abs().amax()), rtol=0)


def assert_equals_the_reference(problem: Case, precision: float, back_precision: float | None = None) -> None:
    features = problem.run()
    grad = output_gradient(features)
    wanted, wanted_grads = problem.expected(grad)
    assert features.dtype == problem.source.dtype
    assert_near(features, wanted, precision)
    given = [t for t in problem if t is not None]
    for tensor, got, want in zip(given, problem.back(grad), wanted_grads, strict=False):
        assert got.dtype == tensor.dtype
        assert_near(got, want, back_precision or precision)


@settings(max_examples=12)
@given(
    b=st.integers(1, 2),
    times=st.integers(1, 2),
    c=st.sampled_from([1, 3, 5]),
    k=st.integers(1, 2),
    n=st.sampled_from([3, 5]),
    h=st.sampled_from([1, 2, 5]),
    w=st.sampled_from([1, 3, 11]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    background=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
)
def test_equals_the_reference(
    b: int,
    times: int,
    c: int,
    k: int,
    n: int,
    h: int,
    w: int,
    dtype: torch.dtype,
    background: bool,
    layout: str,
) -> None:
    problem = case(b, times, c, k, n, h, w, dtype=dtype, background=background, layout=layout)
    assert_equals_the_reference(problem, 1e-9 if dtype == torch.float64 else 2e-4)


@pytest.mark.parametrize("layout", LAYOUTS[:2])
def test_images_of_several_blocks(layout: str) -> None:
    assert_equals_the_reference(case(1, 1, 3, h=17, w=31, layout=layout), 1e-9)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_results_have_the_layout_of_the_source(layout: str) -> None:
    problem = case(1, 1, 3, layout=layout)
    features = problem.run()
    memory_format = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    assert features.is_contiguous(memory_format=memory_format)
    grad_source = problem.back(torch.ones_like(features), (True, False, False))[0]
    assert grad_source.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("background", [False, True])
def test_gradients(differentiable: Callable, background: bool) -> None:
    problem = case(1, 2, 2, 1, 3, 2, 3, background=background)

    def forward(*tensors: Tensor) -> Tensor:
        return Case(*tensors, *(() if background else (None,))).run()

    def backward(grad: Tensor, _: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        return Case(*tensors, *(() if background else (None,))).back(grad)[: len(tensors)]

    inputs = tuple(t.requires_grad_() for t in problem if t is not None)
    assert torch.autograd.gradcheck(differentiable(forward, backward), inputs, fast_mode=True)


@pytest.mark.parametrize(
    ("dtype", "points_dtype", "layout", "precision"),
    [
        (torch.bfloat16, torch.float32, "contiguous", 2**-8),
        (torch.bfloat16, torch.bfloat16, "channels_last", 2**-8),
        (torch.float16, torch.float32, "channels_last", 2**-11),
        (torch.float16, torch.float64, "strided", 2**-11),
        (torch.float32, torch.float64, "contiguous", 2**-23),
    ],
)
def test_each_tensor_in_its_own_precision(
    dtype: torch.dtype, points_dtype: torch.dtype, layout: str, precision: float
) -> None:
    """Only results are rounded: what is between is fp32 or better."""
    problem = case(1, 2, 3, 1, 5, dtype=dtype, points_dtype=points_dtype, layout=layout)
    assert_equals_the_reference(problem, max(precision, 1e-6), max(precision, 1e-5))


@pytest.mark.parametrize("shape", [(0, 1, 2, 3, 4), (1, 0, 2, 3, 4), (1, 2, 2, 0, 4), (1, 2, 2, 3, 0)])
def test_nothing_to_do(shape: tuple[int, int, int, int, int]) -> None:
    b, times, c, h, w = shape
    problem = case(b, times, c, 2, 3, h, w)
    features = problem.run()
    assert features.shape == (b * times, 2 * 3 + 1 + 3 * c, h, w)
    for tensor, grad in zip(problem, problem.back(torch.ones_like(features), deterministic=True), strict=True):
        assert tensor is not None
        assert torch.equal(grad, torch.zeros_like(tensor))


@pytest.mark.parametrize("deterministic", [False, True])
def test_sources_without_channels_leave_the_heatmaps(deterministic: bool) -> None:
    problem = case(1, 1, 0, 2)
    features = problem.run()
    wanted, (_, *wanted_grads) = problem.expected(torch.ones_like(features))
    assert_near(features, wanted, 1e-9)
    grad_source, *grads = problem.back(torch.ones_like(features), deterministic=deterministic)
    assert grad_source.shape == problem.source.shape
    for got, want in zip(grads, wanted_grads, strict=True):
        assert_near(got, want, 1e-9)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, which computes for the interpreter
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 1e-42])
@pytest.mark.parametrize("where", ["driving", "points", "background"])
def test_hostile_parameters_read_nothing_outside_the_source(where: str, value: float) -> None:
    problem = case(1, 1, 1, dtype=torch.float32)
    guarded = torch.full((1, 1, 12, 15), float("nan"))
    source = guarded[:, :, 4:8, 5:10].fill_(1.0)
    problem = problem._replace(source=source)
    getattr(problem, where).view(-1)[:2] = value
    features = problem.run()
    warped = features[:, 4:]
    assert warped.isfinite().all()
    assert 0 <= warped.min() <= warped.max() <= 1 + 1e-5
    # Of a source of ones, a sample is the sum of its weights, and these are what the backward pass scatters.
    grad = torch.zeros_like(features)
    grad[:, 4:] = 1.0
    grad_source = problem.back(grad, (True, False, False))[0]
    assert_close(grad_source.sum(), warped.sum(), atol=1e-4, rtol=1e-5)


def test_deterministic_sums_have_no_order() -> None:
    problem = case(1, 3, 2, 2, dtype=torch.float32)
    grad = torch.randn(problem.run().shape)
    reverse = Case(problem.source, *(t.flip(0) for t in problem[1:] if t is not None))
    needs = (True, False, False)
    (plain, *_), (turned, *_) = problem.back(grad, needs), reverse.back(grad.flip(0), needs)
    assert not torch.equal(plain, turned)  # as on a GPU, where the order is that of arrival
    (fixed, *_), (turned, *_) = problem.back(grad, needs, True), reverse.back(grad.flip(0), needs, True)
    assert torch.equal(fixed, turned)
    assert_close(fixed, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("needs", list(product([False, True], repeat=3))[:-1])
def test_what_is_not_needed_is_empty(needs: tuple[bool, bool, bool]) -> None:
    problem = case(1, 1)
    grad = torch.randn(problem.run().shape, dtype=torch.float64)
    needs_source, needs_points, needs_background = needs
    whole = problem.back(grad)
    wanted = zip((needs_source, needs_points, needs_points, needs_background), whole, strict=True)
    for got, (needed, gradient) in zip(problem.back(grad, needs), wanted, strict=True):
        assert torch.equal(got, gradient) if needed else got.shape == (0,)
