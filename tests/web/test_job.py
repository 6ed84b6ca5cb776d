from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from inputs.media import quarters, write_video

from lami.data import VideoReader, read_image, write_image
from lami.model import LAMI
from lami.web import job as job_module
from lami.web.inside import look_inside
from lami.web.job import Job, Settings


@pytest.fixture
def start(model: LAMI, picture: Path, driving: Path, folder: Path) -> Iterator[Any]:
    """Makes a job with the given settings, without running it."""
    jobs: list[Job] = []

    def make(source: Path = picture, driver: Path = driving, **settings: Any) -> Job:
        jobs.append(Job("me", source, driver, Settings(**settings), folder / str(len(jobs))))
        return jobs[-1]

    yield make
    for job in jobs:
        job.remove()


def test_result_and_comparison(model: LAMI, start: Any, driving: Path) -> None:
    job = start()
    job.run(model, "fp32")
    assert job.progress.state == "done"
    with VideoReader(job.video) as video, VideoReader(job.comparison) as comparison, VideoReader(driving) as given:
        assert (video.width, video.height) == (42, 64)
        assert comparison.height >= 256
        assert comparison.width > 3 * 150
        for made in (video, comparison):
            assert made.has_audio
            assert made.times == given.times
            assert made.rate == given.rate
    assert len(job.trace.keypoints) == len(job.trace.driving_keypoints) == len(job.trace.selected_times) == 8
    with VideoReader(job.trace.seen) as seen:
        assert (len(seen), seen.width) == (8, 64)
    assert sorted(path.name for path in job.folder.iterdir()) == [
        "lami-animation.mp4",
        "lami-side-by-side.mp4",
        "seen.mp4",
        "source.png",
    ]


def test_settings(model: LAMI, start: Any) -> None:
    job = start(
        mode="absolute",
        times=(0.4,),
        selector="fixed",
        strength=0.5,
        fps=Fraction(50),
        granularity="frame",
        size="source",
    )
    job.run(model, "fp32")
    assert job.progress.state == "done", job.error
    assert model.interpolation.selector == "eq4"  # as before
    assert job.trace.selected_times == pytest.approx([0.4] * 16)
    with VideoReader(job.video) as video, VideoReader(job.comparison) as comparison:
        assert (video.height, video.width) == (90, 60)
        assert len(video) == len(comparison) == 16


def test_smooth_movement_trembles_less(model: LAMI, start: Any) -> None:
    travelled = []
    for smooth in (False, True):
        job = start(smooth=smooth, best_frame=False, mode="absolute")
        job.run(model, "fp32")
        travelled.append(float(torch.stack(job.trace.keypoints).diff(dim=0).norm(dim=-1).sum()))
    assert 0 < travelled[1] < travelled[0]


def test_detail_of_the_picture(model: LAMI, start: Any, picture: Path) -> None:
    sharpness = []
    for size in ("source", "source-detail"):
        job = start(size=size, strength=0.0)
        job.run(model, "fp32")
        assert job.progress.state == "done", job.error
        with VideoReader(job.video) as video:
            frame = next(iter(video)).image
        assert frame.shape == (90, 60, 3)
        sharpness.append(abs(np.diff(frame.astype(int), axis=1)).max())
    assert sharpness[1] > sharpness[0]


def test_crops_are_seen_everywhere(model: LAMI, start: Any, tmp_path: Path) -> None:
    picture = tmp_path / "wide.jpg"
    write_image(picture, quarters(80, 240))
    job = start(source=picture, crop="centre", crop_driving="4,2,16,12", size="source")
    job.run(model, "fp32")
    assert job.progress.state == "done", job.error
    assert (read_image(job.source) == read_image(picture)[:, 80:160]).all()
    with VideoReader(job.video) as video, VideoReader(job.trace.seen) as seen:
        assert (video.height, video.width) == (80, 80)
        assert next(iter(seen)).image.std(axis=(0, 1)).max() < 5  # of one quarter, all of one colour
    assert look_inside(model, job, 0).strip.size


def test_warnings_are_told_in_the_visitors_names(
    model: LAMI, start: Any, driving: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start()
    job.run(model, "fp32")
    assert job.warnings == []

    def warn(*given: Any, **chosen: Any) -> Any:
        for _ in range(2):  # once is enough for the visitor
            logging.getLogger("lami.animation").warning("%s moves far", given[2])
        with ThreadPoolExecutor(1) as others:
            others.submit(logging.getLogger("lami.animation").warning, "another job moves far").result()
        return animate_file(*given, **chosen)

    animate_file = job_module.animate_file
    monkeypatch.setattr(job_module, "animate_file", warn)
    job = start()
    job.run(model, "fp32")
    assert job.progress.state == "done", job.error
    assert job.warnings == [f"{driving.name} moves far"]


def test_crops_of_large_pictures_keep_their_detail(model: LAMI, start: Any, tmp_path: Path) -> None:
    write_image(tmp_path / "large.png", quarters(400, 4000))
    for crop, shape in (("centre", (400, 400, 3)), ("0,0,3840,400", (200, 1920, 3))):
        job = start(source=tmp_path / "large.png", crop=crop, size="source")
        job.run(model, "fp32")
        assert job.progress.state == "done", job.error
        assert read_image(job.source).shape == shape


def test_strength_zero_stands_still(model: LAMI, start: Any) -> None:
    job = start(strength=0.0)
    job.run(model, "fp32")
    assert all((keypoints == job.trace.keypoints[0]).all() for keypoints in job.trace.keypoints)


def test_large_pictures_give_results_that_browsers_play(start: Any, tmp_path: Path) -> None:
    write_image(tmp_path / "large.png", quarters(1000, 4000))
    for size in ("source", "source-detail"):
        assert read_image(start(source=tmp_path / "large.png", size=size).source).shape == (480, 1920, 3)
    assert read_image(start(source=tmp_path / "large.png", size="model").source).shape == (1000, 4000, 3)


def test_thin_pictures_keep_a_pixel(start: Any, tmp_path: Path) -> None:
    write_image(tmp_path / "thin.png", quarters(1, 5000))
    assert read_image(start(source=tmp_path / "thin.png", size="source").source).shape == (1, 1920, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "avd"}, "needs an AVD network"),
        ({"selector": "fixed", "times": (0.3, 0.7)}, "exactly one time"),
        ({"strength": -1.0}, "strength"),
        ({"fps": 0.0}, "fps"),
    ],
)
def test_failures_are_sentences_and_leave_nothing(
    model: LAMI, start: Any, settings: dict[str, Any], message: str
) -> None:
    job = start(**settings)
    job.run(model, "fp32")
    assert job.progress.state == "failed"
    assert message in job.error
    assert "\n" not in job.error
    assert not job.folder.exists()


def test_damaged_files_go_by_the_names_that_the_visitor_knows(model: LAMI, start: Any, driving: Path) -> None:
    whole = driving.read_bytes()
    driving.write_bytes(whole[:-2000] + bytes(2000))
    job = start()
    job.run(model, "fp32")
    assert job.error.startswith("dance.mp4 is ")


def test_faults_of_lami_are_logged(
    model: LAMI, start: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(job_module, "animate_file", fail)
    job = start()
    job.run(model)
    assert "something went wrong on the server" in job.error
    assert "a bug" not in job.error
    assert "a bug" in caplog.text


def test_cancelled_while_waiting(model: LAMI, start: Any) -> None:
    job = start()
    job.cancel()
    job.run(model)
    assert job.progress.state == "cancelled"
    assert not job.folder.exists()


@pytest.mark.parametrize("step", ["searching the best frame", "animating", "putting them side by side"])
def test_cancelled_at_work(model: LAMI, start: Any, tmp_path: Path, step: str) -> None:
    job = start(driver=write_video(tmp_path / "long.mp4", frames=64))
    worker = Thread(target=job.run, args=(model, "fp32"))
    worker.start()
    for progress in job.follow(0.01):
        if progress.doing == step:
            job.cancel()
            asked = time.monotonic()
    worker.join(10)
    assert job.progress.state == "cancelled"
    assert time.monotonic() - asked < 5  # a batch takes a fraction of a second
    assert not job.folder.exists()


def test_a_job_that_nobody_follows_ends(model: LAMI, start: Any, tmp_path: Path) -> None:
    job = start(driver=write_video(tmp_path / "long.mp4", frames=64))
    worker = Thread(target=job.run, args=(model, "fp32"))
    worker.start()
    followed = job.follow(0.01)
    while next(followed).state != "running":
        pass
    followed.close()
    worker.join(10)
    assert job.progress.state == "cancelled"


def test_progress_counts_frames(model: LAMI, start: Any) -> None:
    job = start(best_frame=False)
    worker = Thread(target=job.run, args=(model, "fp32"))
    seen = []
    worker.start()
    for progress in job.follow():
        seen.append(progress)
    worker.join()
    assert seen[-1].state == "done"
    animating = [progress.done for progress in seen if progress.doing == "animating"]
    assert animating == sorted(animating)
    assert all(progress.total == 8 for progress in seen if progress.doing == "animating")
