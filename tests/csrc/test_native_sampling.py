"""Native CPU kernels of the sampling ops against the specification in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lami import _native, ops
from lami.ops.warp import fused_warp

pytestmark = pytest.mark.skipif(
    _native.native_error("cpu") is not None, reason=f"native kernels: {_native.native_error('cpu')}"
)

TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""Relative to the largest value. Random features differ by their own size from pixel to pixel, so that the rounding of
an fp32 coordinate shows multiplied by the width."""
SETTINGS = settings(max_examples=25, deadline=None, derandomize=True)
PADDINGS = ("zeros", "border", "reflection")
SIDES = st.sampled_from([1, 2, 3, 8, 13, 17, 33])
CHANNELS = st.sampled_from([1, 2, 3, 5, 16, 19, 40])
LAYOUTS = st.sampled_from(["contiguous", "channels_last", "every_other", "transposed", "expanded"])

Op = Callable[..., Tensor | Sequence[Tensor]]


def strided(tensor: Tensor, layout: str) -> Tensor:
    """(B, C, H, W) with the same values (but "expanded": those of the first sample) in another layout."""
    if layout == "channels_last":
        return tensor.to(memory_format=torch.channels_last)
    if layout == "every_other":
        wide = tensor.new_zeros((*tensor.shape[:-1], 2 * tensor.shape[-1] + 1))
        wide[..., 1::2] = tensor
        return wide[..., 1::2]
    if layout == "transposed":
        return tensor.mT.contiguous().mT
    if layout == "expanded":
        return tensor[:1].expand_as(tensor)
    return tensor


def uniform(seed: int, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low


def run(op: Op, backend: str, tensors: Sequence[Tensor], needed: Sequence[bool] | None = None) -> list[Tensor | None]:
    """Results of an op, then the gradients of its inputs (None where not needed) for fixed gradients of the results."""
    needed = needed or [True] * len(tensors)
    leaves = [tensor.detach().requires_grad_(need) for tensor, need in zip(tensors, needed, strict=True)]
    with ops.use_backend(backend):
        result = op(*leaves)
    results = [result] if isinstance(result, Tensor) else list(result)
    if not any(needed):
        return list(results)
    torch.autograd.backward(results, [uniform(i, *r.shape).to(r.dtype) for i, r in enumerate(results)])
    return [*(r.detach() for r in results), *(leaf.grad for leaf in leaves)]


def assert_agrees(op: Op, tensors: Sequence[Tensor], tolerance: float) -> None:
    native, expected = run(op, "native", tensors), run(op, "reference", [tensor.double() for tensor in tensors])
    for index, (result, wanted) in enumerate(zip(native, expected, strict=True)):
        assert result is not None
        assert wanted is not None
        assert result.shape == wanted.shape
        if result.numel():
            error = (result.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1.0)
            assert error <= tolerance, f"result or gradient {index} is off by {error:.2g}"
    for gradient, tensor in zip(native[len(native) - len(tensors) :], tensors, strict=True):
        assert gradient is not None
        assert gradient.dtype == tensor.dtype


@SETTINGS
@given(CHANNELS, SIDES, SIDES, SIDES, SIDES, LAYOUTS, st.sampled_from(PADDINGS), st.booleans(), st.integers(0, 99))
def test_warp(c: int, H: int, W: int, h: int, w: int, layout: str, padding: str, align: bool, seed: int) -> None:
    features = strided(uniform(seed, 2, c, H, W), layout)
    flow, mask = uniform(seed + 1, 2, h, w, 2, low=-1.4, high=1.4), uniform(seed + 2, 2, 1, w, h)
    assert_agrees(lambda f, p, m: ops.warp(f, p, m, padding, align), (features, flow, mask), 1e-9)


@SETTINGS
@given(CHANNELS, SIDES, SIDES, SIDES, SIDES, LAYOUTS, st.sampled_from(PADDINGS), st.booleans(), st.integers(0, 99))
def test_grid_sample(c: int, H: int, W: int, h: int, w: int, layout: str, padding: str, align: bool, seed: int) -> None:
    image, grid = strided(uniform(seed, 2, c, H, W), layout), uniform(seed + 1, 2, h, w, 2, low=-1.4, high=1.4)
    assert_agrees(lambda i, g: ops.grid_sample(i, g, "bilinear", padding, align), (image, grid), 1e-9)


@SETTINGS
@given(st.lists(st.tuples(CHANNELS, SIDES, SIDES), min_size=1, max_size=3), st.integers(1, 3), SIDES, LAYOUTS)
def test_anytime_warp(levels: list[tuple[int, int, int]], times: int, side: int, layout: str) -> None:
    features = [strided(uniform(i, 2, *level), layout) for i, level in enumerate(levels)]
    masks = [uniform(i + 9, 2, times, 1, *level[1:]) for i, level in enumerate(levels)]
    flow = uniform(5, 2, times, side, side, 2, low=-1.2, high=1.2)
    n = len(levels)
    assert_agrees(lambda *x: ops.anytime_warp(x[:n], x[n], x[n + 1 :]), (*features, flow, *masks), 1e-9)
    assert_agrees(lambda *x: ops.anytime_warp(x[:n], x[n]), (*features, flow), 1e-9)


@pytest.mark.parametrize("dropout", ["reference", "corrected"])
@pytest.mark.parametrize("size", [(6, 9), (12, 5)])
def test_tps_warp(size: tuple[int, int], dropout: str) -> None:
    keep = torch.tensor([[True, False, True], [True, True, False]])
    image, logits = uniform(0, 2, 3, *size), uniform(1, 2, 3, 6, 9, low=-3, high=3)
    driving, source = uniform(2, 2, 2, 5, 2), uniform(3, 2, 2, 5, 2)
    background = torch.eye(3, dtype=torch.float64).repeat(2, 1, 1) + 0.05 * uniform(4, 2, 3, 3)
    inputs = (image, logits, driving, source, background)
    assert_agrees(lambda i, x, d, s, b: ops.tps_warp(i, x, d, s, b, keep, dropout), inputs, 1e-8)
    assert_agrees(lambda i, x, d, s: ops.tps_warp(i, x, d, s), inputs[:4], 1e-8)


@pytest.mark.parametrize(("dtype", "layout"), list(product(TOLERANCES, ["contiguous", "channels_last"])))
@pytest.mark.parametrize("channels", [3, 24])
def test_dtypes_and_layout_of_results(dtype: torch.dtype, layout: str, channels: int) -> None:
    features = strided(uniform(0, 2, channels, 12, 11).to(dtype), layout)
    # Coordinates that halves of eight bits can hold: what is compared is the arithmetic, not the rounding of the flow.
    flow = (uniform(1, 2, 12, 11, 2) * 64).round() / 64
    mask = uniform(2, 2, 1, 5, 6).to(dtype)
    assert_agrees(ops.warp, (features, flow.to(dtype), mask), TOLERANCES[dtype])
    results = run(ops.warp, "native", (features, flow.to(dtype), mask))
    for like_features in results[:2]:
        assert like_features is not None
        assert like_features.dtype == dtype
        assert like_features.stride() == features.stride()


@pytest.mark.parametrize("features_dtype", [torch.float16, torch.float32])
def test_a_double_flow_makes_all_coordinates_double(features_dtype: torch.dtype) -> None:
    features, flow = uniform(0, 1, 6, 40, 300).to(features_dtype), uniform(1, 1, 7, 9, 2)
    assert_agrees(ops.warp, (features, flow), TOLERANCES[features_dtype] * 0.1 + 5e-4 * (features_dtype.itemsize == 2))


def test_several_flows_of_one_source() -> None:
    features, flow, mask = uniform(0, 2, 20, 9, 8), uniform(1, 6, 4, 5, 2), uniform(2, 6, 1, 9, 8)
    shared = run(lambda f, p, m: fused_warp("native", f, p, m, "zeros", True), "native", (features, flow, mask))
    repeated = run(lambda f, p, m: ops.warp(f.repeat_interleave(3, 0), p, m), "reference", (features, flow, mask))
    torch.testing.assert_close(shared, repeated)


def test_gradients_on_demand() -> None:
    inputs = (uniform(0, 1, 20, 9, 8), uniform(1, 1, 4, 5, 2), uniform(2, 1, 1, 9, 8))
    everything = run(ops.warp, "native", inputs)
    for needed in product([False, True], repeat=3):
        some = run(ops.warp, "native", inputs, needed)
        for index, gradient in enumerate(some[1:]):
            assert (gradient is None) == (not needed[index])
            if gradient is not None:
                assert torch.equal(gradient, everything[1 + index])


@pytest.mark.parametrize(
    ("features", "flow"),
    [
        ((0, 3, 4, 4), (0, 2, 2, 2)),
        ((2, 0, 4, 4), (2, 2, 2, 2)),
        ((2, 3, 0, 4), (2, 2, 2, 2)),
        ((1, 2, 0, 0), (1, 0, 0, 2)),
    ],
)
def test_empty(features: tuple[int, ...], flow: tuple[int, ...]) -> None:
    result, *gradients = run(ops.warp, "native", (torch.rand(features), torch.rand(flow)))
    assert result is not None
    assert result.shape == features
    for gradient, shape in zip(gradients, (features, flow), strict=True):
        assert gradient is not None
        assert gradient.shape == shape
        assert not gradient.any()


def test_samples_of_an_empty_image_are_padding() -> None:
    image, grid = torch.rand(2, 3, 0, 5, requires_grad=True), torch.rand(2, 4, 6, 2, requires_grad=True)
    result = torch.ops.lami.grid_sample(image, grid, "zeros", True)
    assert torch.equal(result, torch.zeros(2, 3, 4, 6))
    result.sum().backward()
    assert grid.grad is not None
    assert not grid.grad.any()


@pytest.mark.parametrize(("padding", "align", "channels"), list(product(PADDINGS, [True, False], [2, 17])))
def test_hostile_flows(padding: str, align: bool, channels: int) -> None:
    """Far, infinite and undefined coordinates: as the specification where that is finite, never a wild access."""
    values = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 1e4, -1e4, 1e-42, 1.0, -1.0])
    flow = torch.cartesian_prod(values, values).view(1, 10, 10, 2)
    features = uniform(0, 1, channels, 10, 10).float()
    for layout in ("contiguous", "channels_last"):
        inputs = (strided(features, layout), flow)
        native = run(lambda f, p: ops.warp(f, p, None, padding, align), "native", inputs)
        expected = run(lambda f, p: ops.warp(f, p, None, padding, align), "reference", inputs)
        for result, wanted in zip(native, expected, strict=True):
            assert result is not None
            assert result.isfinite().all()
            # Reflection folds 1e4 into ten pixels: nothing is left of the fraction in fp32.
            if padding != "reflection":
                torch.testing.assert_close(result, wanted, rtol=1e-4, atol=1e-3)


def test_non_finite_features_outside_stay_outside() -> None:
    features = torch.full((1, 20, 4, 4), float("inf"))
    result, of_features, of_flow = run(ops.warp, "native", (features, torch.full((1, 4, 4, 2), 7.0)))
    for tensor in (result, of_features, of_flow):
        assert tensor is not None
        assert not tensor.any()


def test_threads_do_not_change_a_bit() -> None:
    threads = torch.get_num_threads()
    shapes = [(1, 3, 40, 37), (2, 40, 24, 20), (1, 16, 1, 1100)]
    inputs = [(uniform(0, *shape).float(), uniform(1, shape[0], 9, 7, 2).float()) for shape in shapes]
    inputs += [(features.to(memory_format=torch.channels_last), flow) for features, flow in inputs]
    try:
        torch.set_num_threads(1)
        alone = [run(ops.warp, "native", pair) for pair in inputs]
        torch.set_num_threads(2)
        together = [run(ops.warp, "native", pair) for pair in inputs]
    finally:
        torch.set_num_threads(threads)
    for first, second in zip(alone, together, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None)


@pytest.mark.parametrize(
    ("flow", "mask", "padding"),
    [((3, 4, 4, 2), None, "zeros"), ((2, 4, 4, 3), None, "zeros"), ((2, 0, 4, 2), None, "zeros"),
     ((2, 4, 4, 2), (2, 2, 4, 4), "zeros"), ((2, 4, 4, 2), (1, 1, 4, 4), "zeros"), ((2, 4, 4, 2), None, "circular")],
)  # fmt: skip
def test_direct_calls_with_wrong_arguments_are_refused(
    flow: tuple[int, ...], mask: tuple[int, ...] | None, padding: str
) -> None:
    arguments = (torch.rand(flow), None if mask is None else torch.rand(mask), padding, True)
    with pytest.raises(RuntimeError, match="warp: "):
        torch.ops.lami.warp(torch.rand(2, 3, 4, 4), *arguments)
