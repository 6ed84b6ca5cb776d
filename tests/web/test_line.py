from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import Mock

import pytest
from inputs.media import quarters

from lami.data import write_image
from lami.errors import DataError, LamiError
from lami.model import LAMI
from lami.web.job import Job, Settings
from lami.web.limits import Limits
from lami.web.line import Line


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Event]:
    """Jobs begin their work when this is set."""
    go = Event()
    run = Job.run

    def wait_and_run(*arguments: Any) -> None:
        assert go.wait(30)
        run(*arguments)

    monkeypatch.setattr(Job, "run", wait_and_run)
    yield go
    go.set()


def end(job: Job) -> str:
    return list(job.follow(0.05))[-1].state


def test_one_after_the_other(line: Line, held: Event, picture: Path, driving: Path) -> None:
    jobs = [line.join(owner, picture, driving, Settings())[1] for owner in ("a", "b", "c")]
    assert [line.ahead(job) for job in jobs] == [0, 1, 2]
    held.set()
    assert [end(job) for job in jobs] == ["done"] * 3
    assert [line.ahead(job) for job in jobs] == [0, 0, 0]
    ended = [job.ended for job in jobs]
    assert ended == sorted(ended)


def test_a_full_line_says_so(line: Line, held: Event, picture: Path, driving: Path, folder: Path) -> None:
    for owner in ("a", "b", "c"):
        line.join(owner, picture, driving, Settings())
    with pytest.raises(LamiError, match="the queue is full, 3 animations come first; try again"):
        line.join("d", picture, driving, Settings())
    assert len(list(folder.iterdir())) == 3


def test_the_oldest_results_make_room(
    line: Line, picture: Path, driving: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lami.web.line._KEPT", 1)
    names = []
    for owner in ("a", "b", "c"):
        name, job = line.join(owner, picture, driving, Settings())
        assert end(job) == "done"
        names.append(name)
    assert sorted(path.name for path in folder.iterdir()) == sorted(names[1:])
    with pytest.raises(DataError, match="not there any more"):
        line.find(names[0])


def test_one_for_each_visitor(line: Line, held: Event, picture: Path, driving: Path) -> None:
    _, first = line.join("a", picture, driving, Settings())
    with pytest.raises(LamiError, match="in the queue already"):
        line.join("a", picture, driving, Settings())
    line.cancel("a")
    assert end(first) == "cancelled"
    line.join("a", picture, driving, Settings())


def test_cancelling_is_for_the_own_job_alone(line: Line, held: Event, picture: Path, driving: Path) -> None:
    _, mine = line.join("a", picture, driving, Settings())
    _, other = line.join("b", picture, driving, Settings())
    line.cancel("a")
    held.set()
    assert (end(mine), end(other)) == ("cancelled", "done")


def test_limits_are_checked_before_anything_is_kept(line: Line, picture: Path, folder: Path) -> None:
    with pytest.raises(DataError, match="does not move"):
        line.join("a", picture, picture, Settings())
    assert not list(folder.iterdir())


def test_results_are_found_until_they_are_old(line: Line, picture: Path, driving: Path, folder: Path) -> None:
    name, job = line.join("a", picture, driving, Settings())
    assert end(job) == "done"
    line.sweep(time.monotonic())
    assert line.find(name) is job
    assert job.video.exists()
    line.sweep(time.monotonic() + 61 * 60)
    with pytest.raises(DataError, match="not there any more"):
        line.find(name)
    assert not list(folder.iterdir())


def test_uploads_that_broke_off_are_removed_when_they_are_old(line: Line, folder: Path) -> None:
    now, hour = time.time(), 3600
    for name, age in (("tmpold", 1.1 * hour), ("tmpnew", 0.9 * hour)):
        (folder / name).write_bytes(b"half a file")
        os.utime(folder / name, (now - age, now - age))
    (folder / "arrived").mkdir()
    os.utime(folder / "arrived", (now - 2 * hour, now - 2 * hour))
    line.sweep(time.monotonic())
    assert {path.name for path in folder.iterdir()} == {"tmpnew", "arrived"}


def test_sweeping_goes_on_after_an_error(
    line: Line, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Path, "iterdir", Mock(side_effect=PermissionError(13, "Permission denied")))
    line.sweep(time.monotonic())
    assert "uploads that broke off cannot be removed" in caplog.text


def test_unfinished_jobs_have_no_result_and_failed_ones_are_forgotten(
    line: Line, held: Event, picture: Path, driving: Path
) -> None:
    name, job = line.join("a", picture, driving, Settings(strength=-1.0))
    with pytest.raises(DataError, match="not there any more"):
        line.find(name)
    line.sweep(time.monotonic() + 1e6)
    assert line.ahead(job) == 0
    assert line._jobs
    held.set()
    assert end(job) == "failed"
    line.sweep(time.monotonic())
    assert not line._jobs


def test_the_end_of_the_line_ends_its_jobs(model: LAMI, picture: Path, driving: Path, folder: Path) -> None:
    with Line(model, Limits(), folder, "fp32") as line:
        jobs = [line.join(owner, picture, driving, Settings())[1] for owner in ("a", "b")]
    assert [job.progress.state for job in jobs] == ["cancelled"] * 2
    assert not list(folder.iterdir())


def test_a_damaged_picture_leaves_nothing(line: Line, driving: Path, folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "half.jpg"
    write_image(damaged, quarters(900, 600))
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(DataError, match=r"^half\.jpg is not an image"):
        line.join("a", damaged, driving, Settings(size="source"))
    assert not list(folder.iterdir())


def test_a_full_disk_is_said(
    line: Line, picture: Path, driving: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*paths: Path) -> None:
        raise OSError(28, "No space left on device", str(driving))

    monkeypatch.setattr("lami.web.job.shutil.copyfile", fail)
    with pytest.raises(LamiError, match=r"cannot keep the files \(No space left on device\)"):
        line.join("a", picture, driving, Settings())
    assert not list(folder.iterdir())
