from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small import small_model

from lami.animation import Animator, draw_panel
from lami.data import VideoReader
from lami.errors import DataError
from lami.model import LAMI
from lami.web.inside import look_inside
from lami.web.job import Job, Settings


@pytest.fixture
def done(picture: Path, driving: Path, tmp_path: Path) -> Iterator[Any]:
    """Makes a job and does it."""
    jobs: list[Job] = []

    def make(model: LAMI, **settings: Any) -> Job:
        jobs.append(Job("me", picture, driving, Settings(**settings), tmp_path / "job"))
        jobs[-1].run(model, "fp32")
        assert not jobs[-1].error
        return jobs[-1]

    yield make
    for job in jobs:
        job.remove()


def test_the_strip_is_what_the_animator_would_draw(model: LAMI, done: Any, picture: Path, driving: Path) -> None:
    job = done(model, granularity="frame", best_frame=False)
    inside = look_inside(model, job, 5)
    animator = Animator(model, picture, precision="fp32")
    with VideoReader(driving) as video:
        frames = list(animator.animate([frame.image for frame in video]))
    expected = draw_panel(animator.source, [frames[5].moved])
    assert inside.strip.shape == expected.shape
    difference = np.abs(inside.strip.astype(int) - expected)
    # The driving frame went through a lossy video, nothing else did.
    assert (difference > 2).mean() < 1 / 6
    assert frames[5].selected_time == pytest.approx(job.trace.selected_times[5])


def test_stages_end_at_the_result(model: LAMI, done: Any) -> None:
    from lami.web import inside as module

    job = done(model)
    assert job.trace.selected_times[3] > 0
    shown = look_inside(model, job, 3)
    assert shown.motion.shape[0] > 2 * 160  # two stages
    assert shown.contributions.shape[0] > 2 * 160
    assert shown.motion.dtype == shown.contributions.dtype == np.uint8
    source, moved = module._recall(model, job, 3)
    with torch.inference_mode():
        stages = module._stages(source, moved)
    torch.testing.assert_close(stages[0].result, stages[1].start)
    torch.testing.assert_close(stages[1].result[0], moved.prediction, atol=1e-4, rtol=0)


def test_a_model_without_interpolation_has_one_stage(done: Any) -> None:
    torch.manual_seed(0)
    model = small_model(enabled=False)
    job = done(model)
    assert set(job.trace.selected_times) == {0.0}
    inside = look_inside(model, job, 7)
    assert inside.motion.shape[0] < 2 * 160
    assert inside.strip.shape[1] < 5 * 160  # source, driving frame and result


def test_a_fixed_time_is_the_only_one(model: LAMI, done: Any) -> None:
    job = done(model, selector="fixed", times=(0.5,))
    assert look_inside(model, job, 0).strip.shape[1] < 5 * 180


def test_frames_that_do_not_exist(model: LAMI, done: Any) -> None:
    job = done(model)
    for number in (-1, 8):
        with pytest.raises(DataError, match="has 8 frames; choose one of them"):
            look_inside(model, job, number)
