"""The Triton blend against the reference: values and gradients over layouts, dtypes, backgrounds and dropouts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lami.kernels.blend_flow import blend_flow, blend_flow_backward
from lami.ops import reference

DROPOUTS = ["none", "reference", "corrected"]


@dataclass
class Case:
    """Arguments of `blend_flow`."""

    tensors: tuple[Tensor, Tensor, Tensor, Tensor | None]
    keep: Tensor | None
    corrected: bool

    @property
    def leaves(self) -> list[Tensor]:
        return [t for t in self.tensors if t is not None]

    def run(self) -> tuple[Tensor, Tensor]:
        return blend_flow(*self.tensors, self.keep, self.corrected)

    def back(self, grads: tuple[Tensor, Tensor], contributions: Tensor, *needs: bool) -> tuple[Tensor, ...]:
        logits, *others = self.tensors
        return blend_flow_backward(*grads, logits, contributions, *others, self.keep, self.corrected, *needs)

    def expected(self, grads: tuple[Tensor, Tensor]) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
        """Outputs, and the gradients of the tensors that are given, in fp64."""
        leaves = [t.double().requires_grad_() for t in self.leaves]
        background = leaves[3] if len(leaves) == 4 else None
        dropout = "corrected" if self.corrected else "reference"
        flow, contributions = reference.blend_flow(*leaves[:3], background, self.keep, dropout)
        back = torch.autograd.grad((flow, contributions), leaves, [g.double() for g in grads])
        return (flow.detach(), contributions.detach()), back


def case(
    b: int = 2,
    k: int = 2,
    n: int = 3,
    h: int = 3,
    w: int = 4,
    *,
    dtype: torch.dtype = torch.float64,
    logits_dtype: torch.dtype | None = None,
    background: bool = True,
    dropout: str = "none",
) -> Case:
    driving, source = (torch.rand(2, b, k, n, 2, dtype=torch.float64) * 1.6 - 0.8).to(dtype)
    logits = (2 * torch.randn(b, k + 1, h, w, dtype=torch.float64)).to(logits_dtype or dtype)
    matrix = (torch.eye(3, dtype=torch.float64) + 0.1 * torch.randn(b, 3, 3, dtype=torch.float64)).to(dtype)
    keep = torch.rand(b, k + 1) < 0.6
    keep[:, 0] = True
    return Case(
        (logits, driving, source, matrix if background else None),
        None if dropout == "none" else keep,
        dropout == "corrected",
    )


def output_gradients(b: int, k: int, h: int, w: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of flow and contributions, neither contiguous."""
    flow = torch.randn(b, 2, h, w, dtype=torch.float64).permute(0, 2, 3, 1)
    contributions = torch.randn(h, w, b, k + 1, dtype=torch.float64).permute(2, 3, 0, 1)
    return flow.to(dtype), contributions.to(dtype)


def assert_near(got: Tensor, want: Tensor, precision: float) -> None:
    assert_close(got.double(), want, atol=precision * float(1 + want.abs().amax()), rtol=0)


@settings(max_examples=8)
@given(
    b=st.integers(1, 2),
    k=st.integers(1, 3),
    n=st.sampled_from([3, 5, 6]),
    h=st.sampled_from([1, 2, 7, 13]),
    w=st.sampled_from([1, 3, 11, 23]),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    background=st.booleans(),
    dropout=st.sampled_from(DROPOUTS),
    channels_last=st.booleans(),
)
def test_equals_the_reference(
    b: int, k: int, n: int, h: int, w: int, dtype: torch.dtype, background: bool, dropout: str, channels_last: bool
) -> None:
    problem = case(b, k, n, h, w, dtype=dtype, background=background, dropout=dropout)
    if channels_last:
        logits, *others = problem.tensors
        problem.tensors = (logits.to(memory_format=torch.channels_last), *others)
    grads = output_gradients(b, k, h, w, dtype)
    wanted, wanted_grads = problem.expected(grads)
    flow, contributions = problem.run()
    assert flow.is_contiguous()
    assert contributions.is_contiguous()
    back = problem.back(grads, contributions, True, True, background)
    precision = 1e-9 if dtype == torch.float64 else 2e-4
    for got, want in zip((flow, contributions, *back), (*wanted, *wanted_grads), strict=False):
        assert got.dtype == dtype
        assert_near(got, want, precision)
    assert back[3].shape == ((b, 3, 3) if background else (0,))


@pytest.mark.parametrize("dropout", DROPOUTS)
def test_gradients(differentiable: Callable, dropout: str) -> None:
    problem = case(1, 1, 3, 2, 2, dropout=dropout)

    def forward(*tensors: Tensor) -> tuple[Tensor, Tensor]:
        return blend_flow(*tensors, problem.keep, problem.corrected)

    def backward(
        grad_flow: Tensor, grad_contributions: Tensor, outputs: tuple[Tensor, Tensor], logits: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        grads = (grad_flow, grad_contributions, logits, outputs[1], *others)
        return blend_flow_backward(*grads, problem.keep, problem.corrected, True, True, True)

    inputs = tuple(t.requires_grad_() for t in problem.leaves)
    assert torch.autograd.gradcheck(differentiable(forward, backward), inputs, fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_half_precision_logits(dtype: torch.dtype, channels_last: bool) -> None:
    problem = case(1, 2, 3, 4, 5, dtype=torch.float32, logits_dtype=dtype, dropout="reference")
    logits, *others = problem.tensors
    if channels_last:
        problem.tensors = (logits.to(memory_format=torch.channels_last), *others)
    grads = output_gradients(1, 2, 4, 5, torch.float32)
    wanted, wanted_grads = problem.expected(grads)
    flow, contributions = problem.run()
    back = problem.back(grads, contributions, True, True, True)
    for got, want in zip((flow, contributions, *back[1:]), (*wanted, *wanted_grads[1:]), strict=True):
        assert got.dtype == torch.float32
        assert_near(got, want, 2e-4)
    assert back[0].dtype == dtype
    assert back[0].stride() == problem.tensors[0].stride()
    assert_near(back[0], wanted_grads[0], 1e-2)


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True), (False,) * 3])
def test_only_the_gradients_that_are_needed(needs: tuple[bool, bool, bool]) -> None:
    problem = case(dropout="reference")
    grads = output_gradients(2, 2, 3, 4, torch.float64)
    _, contributions = problem.run()
    everything = problem.back(grads, contributions, True, True, True)
    some = problem.back(grads, contributions, *needs)
    for got, want, needed in zip(some, everything, (needs[0], needs[1], needs[1], needs[2]), strict=True):
        assert torch.equal(got, want) if needed else got.shape == (0,)


def test_equal_largest_logits_share_the_gradient_of_the_maximum() -> None:
    """A far winner is dropped, as is its equal: the rest hardly contributes, and the maximum has a gradient."""
    problem = case(1, 3, 3, 2, 2, dropout="reference")
    problem.tensors[0].copy_(torch.tensor([0.0, 12.0, 1.0, 12.0])[None, :, None, None].expand(1, 4, 2, 2))
    problem.keep = torch.tensor([[True, False, True, False]])
    grads = output_gradients(1, 3, 2, 2, torch.float64)
    wanted, wanted_grads = problem.expected(grads)
    _, contributions = problem.run()
    assert contributions.sum(1).max() < 0.97
    assert_near(contributions, wanted[1], 1e-12)
    grad_logits = problem.back(grads, contributions, True, False, False)[0]
    assert grad_logits[:, 1].abs().min() > 1e-4
    assert_near(grad_logits, wanted_grads[0], 1e-12)


def test_a_logit_of_minus_infinity_does_not_contribute() -> None:
    problem = case()
    problem.tensors[0][:, 0] = -torch.inf
    flow, contributions = problem.run()
    wanted, _ = problem.expected((flow, contributions))
    assert_near(flow, wanted[0], 1e-12)
    assert not contributions[:, 0].any()


def test_bad_keypoints_stay_in_their_sample() -> None:
    problem = case(3, dtype=torch.float32)
    wanted = problem.run()
    problem.tensors[1][1, 0, 0, 0] = torch.nan
    flow, contributions = problem.run()
    assert flow[1].isnan().all()
    assert torch.equal(flow[::2], wanted[0][::2])
    assert torch.equal(contributions, wanted[1])


def test_sums_over_many_blocks_are_the_same_in_every_run() -> None:
    problem = case(1, 2, 3, 17, 19, dtype=torch.float32)
    grads = output_gradients(1, 2, 17, 19, torch.float32)
    _, contributions = problem.run()
    first, second = (problem.back(grads, contributions, True, True, True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for got, want in zip(first, problem.expected(grads)[1], strict=True):
        assert_near(got, want, 2e-4)


@pytest.mark.parametrize(("b", "h", "w"), [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_empty(b: int, h: int, w: int) -> None:
    problem = case(b, 2, 3, h, w, dropout="corrected")
    flow, contributions = problem.run()
    assert flow.shape == (b, h, w, 2)
    assert contributions.shape == (b, 3, h, w)
    for got, given_ in zip(
        problem.back((flow, contributions), contributions, True, True, True), problem.leaves, strict=True
    ):
        assert_close(got, torch.zeros_like(given_), atol=0, rtol=0)
