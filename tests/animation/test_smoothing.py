from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import small_model
from torch import Tensor

from lami.animation import Animator, Smoothing, animate_file
from lami.animation.smoothing import OneEuroFilter
from lami.data import Frame, VideoReader, VideoWriter, write_image
from lami.errors import ConfigError, DataError

RATE = Fraction(25)
JITTER = 0.005
"""Standard deviation of keypoints of a still pose: half a pixel of 256."""


def smooth(keypoints: Tensor, times: Sequence[Fraction | None] | None = None, **settings: float) -> Tensor:
    return OneEuroFilter(Smoothing(**settings))(keypoints, times or [n / RATE for n in range(len(keypoints))])


def poses(frames: int, speed: float = 0.0) -> Tensor:
    """(frames, 2, 5, 2), all points moving along x; speed in half the image's side a second."""
    start = 0.4 * torch.rand(2, 5, 2) - 0.2
    way = speed * torch.arange(frames)[:, None, None] / float(RATE)
    return start + torch.stack([way, torch.zeros_like(way)], dim=-1)


def test_a_constant_pose_stays() -> None:
    still = poses(20)
    assert torch.equal(smooth(still), still)


def test_jitter_of_a_still_pose_is_less_than_half() -> None:
    noise = JITTER * torch.randn(400, 2, 5, 2)
    left = smooth(poses(400) + noise)[25:].std(dim=0).mean()
    assert left < 0.45 * JITTER
    assert smooth(poses(400) + noise, min_cutoff=0.3, beta=0)[50:].std(dim=0).mean() < 0.25 * JITTER


@pytest.mark.parametrize("speed", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("beta", [5.0, 10.0])
def test_motion_lags_less_than_promised(speed: float, beta: float) -> None:
    moving = poses(100, speed)
    lag = (moving - smooth(moving, beta=beta))[..., 0]
    assert lag.min() >= -1e-5
    assert lag[25:].max() < 1 / (math.tau * beta)
    unadaptive = (moving - smooth(moving, beta=0))[..., 0]
    assert unadaptive[50:].min() > 0.9 * speed / math.tau  # what the growing cutoff saves


def test_frames_may_come_one_by_one_or_together() -> None:
    keypoints = poses(9, 0.5) + JITTER * torch.randn(9, 2, 5, 2)
    times = [n / RATE for n in range(9)]
    pieces = OneEuroFilter(Smoothing())
    parts = [pieces(keypoints[a:b], times[a:b]) for a, b in ((0, 1), (1, 4), (4, 9))]
    assert torch.equal(torch.cat(parts), smooth(keypoints, times))
    pieces.reset()
    assert torch.equal(pieces(keypoints, times), smooth(keypoints, times))


def test_frames_without_times_are_a_25th_apart() -> None:
    keypoints = poses(9, 0.5)
    assert torch.equal(smooth(keypoints, [None] * 9), smooth(keypoints))


def test_real_times_matter() -> None:
    """A step answered after the same time, whatever the number of frames until then, and however they are spaced."""

    def answer(times: list[float]) -> float:
        step = torch.ones(len(times), 1, 1, 2)
        step[0] = 0
        return float(smooth(step, [Fraction(time) for time in times], beta=0)[-1, 0, 0, 0])

    exact = 1 - math.exp(-math.tau * 0.2)
    assert answer([n / 500 for n in range(101)]) == pytest.approx(exact, abs=0.01)
    uneven = [0, *np.cumsum(np.tile([0.002, 0.006], 25)).tolist()]
    assert answer(uneven) == pytest.approx(exact, abs=0.01)
    assert answer([n / 50 for n in range(101)]) > 0.99


def test_times_that_stand_still_or_go_back() -> None:
    moving = poses(3, 1.0)
    smoothed = smooth(moving, [Fraction(0), Fraction(1), Fraction(1)])
    assert torch.equal(smoothed[2], smoothed[1])
    with pytest.raises(DataError, match="reset"):
        smooth(moving, [Fraction(0), Fraction(1), Fraction(1, 2)])


@pytest.mark.parametrize(
    "settings", [{"min_cutoff": 0.0}, {"beta": -1.0}, {"min_cutoff": math.inf}, {"beta": math.nan}]
)
def test_settings_that_cannot_work(settings: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="min_cutoff above 0"):
        Smoothing(**settings)


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8))


@pytest.mark.parametrize("granularity", ["frame", "clip"])
def test_an_animator_smooths_what_it_detects(frames: list[np.ndarray], granularity: Any) -> None:
    model = small_model(background=False)
    options: dict[str, Any] = {"mode": "absolute", "granularity": granularity, "smoothing": Smoothing()}
    animator = Animator(model, frames[0], batch_size=3, **options)
    timed = [Frame(image, n**2 / RATE) for n, image in enumerate(frames)]
    with torch.inference_mode():
        expected = OneEuroFilter(Smoothing())(torch.cat(list(animator.detect(timed))), [frame.time for frame in timed])
    for _ in range(2):  # each animation begins anew
        moved = [result.moved for result in animator.animate(timed)]
        torch.testing.assert_close(torch.stack([frame.keypoints for frame in moved]), expected)
    assert not torch.equal(moved[1].keypoints, moved[1].driving_keypoints)


def test_steps_smooth_as_batches(frames: list[np.ndarray]) -> None:
    model = small_model(background=False, selector="fixed")
    options: dict[str, Any] = {"smoothing": Smoothing(), "granularity": "hysteresis"}
    streaming = Animator(model, frames[0], **options)
    steps = [streaming.step(frame).keypoints for frame in frames]
    batches = [result.keypoints for result in Animator(model, frames[0], batch_size=4, **options).animate(frames)]
    torch.testing.assert_close(steps, batches)


def test_files_are_smoothed_by_their_times(frames: list[np.ndarray], tmp_path: Path) -> None:
    model = small_model(background=False, selector="fixed")
    write_image(tmp_path / "source.png", frames[0])
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        for n, image in enumerate(frames):
            writer.write(image, n**2 / RATE)
    seen: list[Tensor] = []

    def collect(results: Any, total: int, description: str) -> Any:
        for result in results:
            seen.append(result.keypoints)
            yield result

    chosen: dict[str, Any] = {"mode": "absolute", "smoothing": Smoothing()}
    animate_file(model, tmp_path / "source.png", tmp_path / "a.mp4", tmp_path / "out.mp4", progress=collect, **chosen)
    with VideoReader(tmp_path / "a.mp4") as video:
        expected = [result.keypoints for result in Animator(model, frames[0], **chosen).animate(video)]
    torch.testing.assert_close(seen, expected)
