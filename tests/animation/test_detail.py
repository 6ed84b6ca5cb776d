from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import small_model
from torch import Tensor

from lami import ops
from lami.animation import Animator, Letterbox, Moved, SourceDetail

MODEL = (64, 96)
CPU = torch.device("cpu")


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def shifted(x: float = 0.0, y: float = 0.0, size: tuple[int, int] = (16, 24)) -> Tensor:
    """A flow (h, w, 2) that takes each point from x, y further, in [-1, 1]."""
    rows, columns = (torch.linspace(-1, 1, side) for side in size)
    return torch.stack(torch.meshgrid(columns + x, rows + y, indexing="xy"), dim=-1)


def moved(*flows: Tensor, visible: float = 1.0) -> Moved:
    nothing = torch.empty(0)
    kept = torch.full((len(flows), 1, 32, 48), visible)
    return Moved(nothing, nothing, nothing, None, 0.5, nothing, torch.stack(flows), kept)


@settings(max_examples=30)
@given(height=st.integers(2, 300), width=st.integers(2, 300))
def test_what_does_not_move_is_the_source_itself(height: int, width: int) -> None:
    source = picture(height, width)
    drawn = SourceDetail(source, Letterbox((height, width), MODEL), CPU).draw(moved(shifted()), np.zeros_like(source))
    assert np.abs(drawn.astype(int) - source).max() <= 2  # coordinates in fp32


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_steps_add_up(steps: int) -> None:
    """Two of the model's pixels to the right and one down are eight and four of a source of four times its size."""
    source = picture(4 * MODEL[0], 4 * MODEL[1])
    flow = shifted(-2 * 2 / (MODEL[1] - 1) / steps, -1 * 2 / (MODEL[0] - 1) / steps)
    letterbox = Letterbox((4 * MODEL[0], 4 * MODEL[1]), MODEL)
    drawn = SourceDetail(source, letterbox, CPU).draw(moved(*[flow] * steps), np.zeros_like(source))
    inside = np.s_[16:-16, 16:-16]
    assert np.abs(drawn.astype(int) - np.roll(source, (4, 8), (0, 1)))[inside].max() <= 3


def test_what_was_not_visible_stays_the_models() -> None:
    source, enlarged = picture(100, 80), picture(100, 80)[::-1].copy()
    detail = SourceDetail(source, Letterbox((100, 80), MODEL), CPU)
    assert np.array_equal(detail.draw(moved(shifted(0.2), visible=0.0), enlarged), enlarged)
    half = detail.draw(moved(shifted(), shifted(), visible=0.5**0.5), enlarged)
    assert np.abs(half - (source.astype(float) + enlarged) / 2).max() <= 2
    outside = detail.draw(moved(shifted(2.5)), enlarged)
    assert np.array_equal(outside, enlarged)


@settings(max_examples=20)
@given(band=st.integers(1, 20_000))
def test_bands_do_not_show(band: int) -> None:
    source, enlarged = picture(120, 90), picture(120, 90)[::-1].copy()
    letterbox = Letterbox((120, 90), MODEL)
    flow = shifted(0.1) + 0.2 * torch.rand(16, 24, 2, generator=torch.Generator().manual_seed(0))
    way = moved(flow, flow, visible=0.8)
    whole = SourceDetail(source, letterbox, CPU).draw(way, enlarged)
    assert np.array_equal(SourceDetail(source, letterbox, CPU, band=band).draw(way, enlarged), whole)


@pytest.mark.parametrize("options", [{}, {"enabled": False}, {"fusion": "occlusion"}, {"skip_below": 10.0}])
def test_animations_of_large_sources(options: dict[str, Any]) -> None:
    model = small_model(background=False, **({"selector": "fixed"} | options))
    source = picture(200, 120)
    frames = list(np.random.default_rng(1).integers(0, 256, (3, 50, 50, 3), dtype=np.uint8))
    results = list(Animator(model, source, "absolute", size="source-detail").animate(frames))
    soft = list(Animator(model, source, "absolute", size="source").animate(frames))
    steps = 1 if options.get("enabled") is False else 2
    for sharp, blurred in zip(results, soft, strict=True):
        assert sharp.image.shape == blurred.image.shape == source.shape
        assert sharp.moved.flows.shape == (steps, 16, 16, 2)
        assert sharp.moved.visible.shape == (steps, 1, 64, 64)
        assert not np.array_equal(sharp.image, blurred.image)
    if "skip_below" in options:  # from the source itself: the step to it moves nothing
        torch.testing.assert_close(results[0].moved.flows[1], shifted(size=(16, 16)))
        assert (results[0].moved.visible[1] == 1).all()


def test_flows_lead_to_where_images_come_from() -> None:
    """The single stage warps the source along its flow: the result shows it where it was kept."""
    model = small_model(background=False, enabled=False)
    torch.nn.init.constant_(model.dense_motion.occlusion[-1].bias, 20.0)
    source, driving = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        result = model.transfer(source, driving)
    torch.testing.assert_close(result.prediction, ops.warp(source, result.flows[:, 0]), atol=1e-3, rtol=0)
