"""Native CPU kernels of the spline ops against the specification in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import gradcheck

from lami import _native, ops

pytestmark = pytest.mark.skipif(
    _native.native_error("cpu") is not None, reason=f"native kernels: {_native.native_error('cpu')}"
)

TOLERANCES = {torch.float64: 1e-10, torch.float32: 3e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
"""Of values, relative to the largest; the fit amplifies rounding of fp32 keypoints by about 100."""
GRADIENT_TOLERANCES = {torch.float64: 1e-8, torch.float32: 2e-3, torch.bfloat16: 4e-2, torch.float16: 1e-2}
SIDES = st.sampled_from([1, 2, 7, 13, 16, 33])
SETTINGS = settings(max_examples=12, deadline=None, derandomize=True)


def strided(tensor: Tensor, how: str) -> Tensor:
    """The same values in another layout; the result requires no gradient."""
    if how == "transposed":
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if how == "channels_last" and tensor.ndim == 4:
        return tensor.to(memory_format=torch.channels_last)
    if how == "offset":
        wide = tensor.new_empty((*tensor.shape[:-1], tensor.shape[-1] * 2 + 1))
        wide[..., 1::2] = tensor
        return wide[..., 1::2]
    return tensor


LAYOUTS = st.sampled_from(["contiguous", "transposed", "channels_last", "offset"])


def keypoints(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, 2, generator=generator, dtype=torch.float64) * 1.8 - 0.9


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(
    op: Callable[..., Tensor | tuple[Tensor, ...]], backend: str, tensors: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Results of an op, and the gradients of its floating inputs for fixed gradients of the results."""
    leaves = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in tensors]
    with ops.use_backend(backend):
        result = op(*leaves)
    results = [result] if isinstance(result, Tensor) else list(result)
    grads = [normal(i, *r.shape).to(r.dtype) for i, r in enumerate(results)]
    inputs = [leaf for leaf in leaves if leaf.requires_grad]
    return [r.detach() for r in results], list(torch.autograd.grad(results, inputs, grads))


def relative_error(found: Tensor, wanted: Tensor) -> float:
    if wanted.numel() == 0:
        return 0.0
    return float((found.double() - wanted).abs().max() / wanted.abs().max().clamp(min=1e-3))


def assert_agrees(
    op: Callable[..., Tensor | tuple[Tensor, ...]], tensors: Sequence[Tensor], dtype: torch.dtype = torch.float64
) -> None:
    wide = [tensor.double() if tensor.is_floating_point() else tensor for tensor in tensors]
    wanted, wanted_grads = run(op, "reference", wide)
    found, found_grads = run(op, "native", tensors)
    for result, expected in zip(found, wanted, strict=True):
        assert result.shape == expected.shape
        assert relative_error(result, expected) < TOLERANCES[dtype]
    for tensor, gradient, expected in zip(tensors, found_grads, wanted_grads, strict=True):
        assert gradient.dtype == tensor.dtype
        assert gradient.shape == tensor.shape
        assert relative_error(gradient, expected) < GRADIENT_TOLERANCES[dtype]


def backgrounds(seed: int, *leading: int) -> Tensor:
    return torch.eye(3, dtype=torch.float64) + 0.1 * normal(seed, *leading, 3, 3)


def feature_inputs(seed: int, b: int, c: int, k: int, n: int, h: int, w: int) -> list[Tensor]:
    return [normal(seed, b, c, h, w), keypoints(seed + 1, b, k, n), keypoints(seed + 2, b, k, n), backgrounds(seed, b)]


def blend_inputs(seed: int, b: int, k: int, n: int, h: int, w: int) -> list[Tensor]:
    return feature_inputs(seed, b, k + 1, k, n, h, w)


@SETTINGS
@given(n=st.integers(3, 16), leading=st.sampled_from([(), (1,), (5,), (2, 3), (0,)]), layout=LAYOUTS)
def test_fit_tps(n: int, leading: tuple[int, ...], layout: str) -> None:
    assert_agrees(ops.fit_tps, [strided(keypoints(i, *leading, n), layout) for i in range(2)])


def test_fit_tps_reproduces_the_known_spline() -> None:
    control = torch.tensor([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [0.1, 0.05]])
    moved = control + torch.tensor([[0.1, 0.0], [0.0, 0.1], [-0.1, 0.0], [0.0, -0.1], [0.05, 0.05]])
    with ops.use_backend("native"):
        theta, weights = ops.fit_tps(control, moved)
    torch.testing.assert_close(
        theta, torch.tensor([[0.8831, -0.1010, 0.0437], [0.0954, 0.8861, 0.0303]]), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(weights[4], torch.tensor([0.0642, 0.0444]), atol=1e-4, rtol=0)


@SETTINGS
@given(n=st.sampled_from([1, 2, 5, 16, 40]), h=SIDES, w=SIDES, leading=st.sampled_from([(), (2, 3)]), layout=LAYOUTS)
def test_tps_grid(n: int, h: int, w: int, leading: tuple[int, ...], layout: str) -> None:
    theta = normal(0, *leading, 2, 3)
    tensors = [strided(tensor, layout) for tensor in (theta, normal(1, *leading, n, 2), keypoints(2, *leading, n))]
    assert_agrees(lambda *arguments: ops.tps_grid(*arguments, (h, w)), tensors)


@SETTINGS
@given(p=st.sampled_from([0, 1, 9]), h=SIDES, w=SIDES, layout=LAYOUTS)
def test_keypoint_heatmaps(p: int, h: int, w: int, layout: str) -> None:
    tensors = [strided(keypoints(seed, 2, p), layout) for seed in range(2)]
    assert_agrees(lambda *arguments: ops.keypoint_heatmaps(*arguments, (h, w), 0.02), tensors)


@SETTINGS
@given(
    b=st.integers(1, 3), c=st.sampled_from([1, 3]), n=st.integers(3, 16), h=SIDES, w=SIDES, k=st.integers(1, 3),
    layout=LAYOUTS,
)  # fmt: skip
def test_motion_features(b: int, c: int, n: int, h: int, w: int, k: int, layout: str) -> None:
    assert_agrees(ops.motion_features, [strided(x, layout) for x in feature_inputs(n, b, c, k, n, h, w)])


@SETTINGS
@given(t=st.integers(1, 3), h=SIDES, w=SIDES, layout=LAYOUTS)
def test_anytime_motion_features(t: int, h: int, w: int, layout: str) -> None:
    source, driving, kp_source, _ = (strided(x, layout) for x in feature_inputs(5, 2, 3, 2, 5, h, w))
    times = torch.linspace(0.2, 0.8, 2 * t, dtype=torch.float64).reshape(2, t)
    assert_agrees(ops.anytime_motion_features, [source, kp_source, driving, times, backgrounds(1, 2, t)])


@SETTINGS
@given(t=st.integers(1, 4), layout=LAYOUTS)
def test_anytime_keypoints(t: int, layout: str) -> None:
    times = torch.linspace(0.2, 0.8, 2 * t, dtype=torch.float64).reshape(2, t)
    assert_agrees(ops.anytime_keypoints, [*(strided(keypoints(i, 2, 3, 5), layout) for i in range(2)), times])


@SETTINGS
@given(
    b=st.integers(1, 3), n=st.integers(3, 16), h=SIDES, w=SIDES, k=st.integers(1, 4), layout=LAYOUTS,
    dropout=st.sampled_from([None, "reference", "corrected"]),
)  # fmt: skip
def test_blend_flow(b: int, n: int, h: int, w: int, k: int, layout: str, dropout: str | None) -> None:
    tensors = [strided(x, layout) for x in blend_inputs(n, b, k, n, h, w)]
    keep = None if dropout is None else torch.arange(b * (k + 1)).reshape(b, k + 1) % 2 == 0
    assert_agrees(lambda *arguments: ops.blend_flow(*arguments, keep, dropout or "reference"), tensors)


def test_dropout_shares_the_gradient_of_the_maximum_among_ties() -> None:
    logits, *rest = blend_inputs(0, 1, 3, 5, 4, 4)
    logits[:, 2:] = 6.0
    keep = torch.tensor([[True, True, False, False]])
    assert_agrees(lambda *arguments: ops.blend_flow(*arguments, keep), [logits, *rest])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("op", ["motion_features", "blend_flow", "anytime_motion_features"])
def test_narrow_features_with_fp32_keypoints(op: str, dtype: torch.dtype) -> None:
    features, driving, source, background = blend_inputs(3, 2, 4, 5, 19, 21)
    # A smooth image: otherwise rounding that moves a sample over a pixel's border decides the gradient.
    grid = torch.linspace(0, 3, 21, dtype=torch.float64)
    features = (features[..., :1, :1] * torch.cos(grid + grid[:19, None])).to(dtype)
    driving, source, background = driving.float(), source.float(), background.float()
    if op == "anytime_motion_features":
        times = torch.tensor([[0.3, 0.5], [0.4, 0.7]])
        tensors = [features, source, driving, times, background[:, None].expand(2, 2, 3, 3)]
    else:
        tensors = [features, driving, source, background]
    assert_agrees(getattr(ops, op), tensors, dtype)


def test_fp64_keypoints_widen_the_computation() -> None:
    logits, driving, source, background = blend_inputs(3, 2, 4, 5, 9, 8)
    with ops.use_backend("native"):
        flow, _ = ops.blend_flow(logits.float(), driving, source, background)
    assert flow.dtype == torch.float64
    with ops.use_backend("reference"):
        wanted, _ = ops.blend_flow(logits.float().double(), driving, source, background)
    torch.testing.assert_close(flow, wanted)


def test_layout_of_features_follows_the_source() -> None:
    source, *rest = feature_inputs(0, 2, 3, 2, 5, 6, 7)
    with ops.use_backend("native"):
        last = ops.motion_features(source.to(memory_format=torch.channels_last), *rest)
        first = ops.motion_features(source, *rest)
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert first.is_contiguous()
    assert torch.equal(last, first)


@pytest.mark.parametrize("size", [(0, 2, 3, 4), (1, 2, 0, 4), (1, 2, 3, 0)])
def test_empty(size: tuple[int, int, int, int]) -> None:
    b, k, h, w = size
    inputs = blend_inputs(0, b, k, 5, h, w)
    assert_agrees(ops.motion_features, inputs)
    assert_agrees(ops.blend_flow, inputs)
    assert_agrees(ops.fit_tps, inputs[1:3])
    assert_agrees(lambda *arguments: ops.keypoint_heatmaps(*arguments, (h, w)), [x.flatten(1, 2) for x in inputs[1:3]])


def cases() -> dict[str, tuple[Callable[..., Tensor | tuple[Tensor, ...]], list[Tensor]]]:
    inputs = blend_inputs(7, 2, 2, 4, 5, 6)
    times = torch.tensor([[0.3, 0.6], [0.2, 0.7]], dtype=torch.float64)
    keep = torch.tensor([[True, False, True], [False, True, True]])
    each_time = inputs[3][:, None].expand(2, 2, 3, 3).contiguous()
    return {
        "fit_tps": (ops.fit_tps, inputs[1:3]),
        "tps_grid": (lambda *a: ops.tps_grid(*a, (5, 6)), [normal(0, 2, 2, 2, 3), normal(1, 2, 2, 4, 2), inputs[1]]),
        "keypoint_heatmaps": (lambda *a: ops.keypoint_heatmaps(*a, (5, 6)), [x.flatten(1, 2) for x in inputs[1:3]]),
        "motion_features": (ops.motion_features, inputs),
        "blend_flow": (lambda *a: ops.blend_flow(*a, keep), inputs),
        "anytime_keypoints": (ops.anytime_keypoints, [*inputs[1:3], times]),
        "anytime_motion_features": (ops.anytime_motion_features, [*inputs[:3], times, each_time]),
    }


@pytest.mark.parametrize("name", cases())
def test_gradcheck(name: str) -> None:
    op, inputs = cases()[name]
    with ops.use_backend("native"):
        assert gradcheck(op, [x.requires_grad_() for x in inputs], fast_mode=True)


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_change_no_bit(name: str, dtype: torch.dtype) -> None:
    op, inputs = cases()[name]
    inputs = [x.to(dtype) for x in inputs]
    before = torch.get_num_threads()
    outcomes = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            outcomes.append(run(op, "native", inputs))
    finally:
        torch.set_num_threads(before)
    for other in outcomes[1:]:
        for first, second in zip(outcomes[0][0] + outcomes[0][1], other[0] + other[1], strict=True):
            assert torch.equal(first, second)


@pytest.mark.parametrize("hostile", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30, 1e-45])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_hostile_keypoints_and_backgrounds(hostile: float, dtype: torch.dtype) -> None:
    """Nothing is read out of bounds, and samples of the other motions are as they were."""
    source, driving, kp_source, background = (x.to(dtype) for x in feature_inputs(0, 1, 3, 3, 5, 12, 11))
    with ops.use_backend("native"):
        wanted = ops.motion_features(source, driving, kp_source, background)
    driving[:, 1, 2] = hostile
    background[:, 2] = hostile
    found, _ = run(ops.motion_features, "native", [source, driving, kp_source, background])
    warped, untouched = found[0][:, 16:].unflatten(1, (4, 3)), wanted[:, 16:].unflatten(1, (4, 3))
    assert warped.isfinite().all()
    for motion in (1, 3):
        assert torch.equal(warped[:, motion], untouched[:, motion])
    run(ops.blend_flow, "native", [source.new_zeros(1, 4, 12, 11), driving, kp_source, background])


def test_gradients_not_needed_are_empty() -> None:
    inputs = feature_inputs(0, 1, 2, 2, 5, 6, 7)
    with ops.use_backend("native"):
        grad = torch.ones_like(ops.motion_features(*inputs))
    grads = torch.ops.lami.motion_features_backward(grad, *inputs, 0.01, False, False, False, False)
    assert [g.shape for g in grads] == [(0,)] * 4


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda x, d, s, b: torch.ops.lami.motion_features(x, d, s[:, :1], b, 0.01), "kp_source"),
        (lambda x, d, s, b: torch.ops.lami.motion_features(x, d[..., :2, :], s[..., :2, :], b, 0.01), "3 to 16"),
        (lambda x, d, s, b: torch.ops.lami.motion_features(x[0], d, s, b, 0.01), "source"),
        (lambda x, d, s, b: torch.ops.lami.motion_features(x.int(), d, s, b, 0.01), "floating"),
        (lambda x, d, s, b: torch.ops.lami.blend_flow(x[:, :2], d, s, b, None, False), "logits"),
        (lambda x, d, s, b: torch.ops.lami.blend_flow(x, d, s, b, torch.ones(1, 3), False), "keep"),
        (lambda x, d, s, b: torch.ops.lami.fit_tps(d, s[..., :4, :], 0.01), "shape"),
        (lambda x, d, s, b: torch.ops.lami.tps_grid(d, d, s, 4, 4), "shape"),
        (lambda x, d, s, b: torch.ops.lami.keypoint_heatmaps(d[:, 0], s[:, 0], -1, 4, 0.01), "negative"),
        (lambda x, d, s, b: torch.ops.lami.anytime_keypoints(d, s, x[0, 0, :2]), "times"),
    ],
)
def test_direct_calls_are_checked(call: Callable[..., Tensor], sentence: str) -> None:
    with pytest.raises(RuntimeError, match=sentence):
        call(*blend_inputs(0, 1, 2, 5, 6, 7))
