from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from inputs.media import write_video

from lami.errors import ConfigError, DataError
from lami.web.limits import Limits


def test_files_within_the_limits(picture: Path, driving: Path) -> None:
    Limits().check_source(picture)
    Limits().check_driving(driving)


def test_numbers_that_are_no_limits() -> None:
    for name in ("seconds", "megabytes", "waiting", "minutes"):
        for value in (0, -1, float("nan"), float("inf")):
            with pytest.raises(ConfigError, match=name):
                Limits(**{name: value})


def test_wrong_kinds_of_file(picture: Path, driving: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    for path in (driving, tmp_path / "text.jpg"):
        with pytest.raises(DataError, match=f"{path.name} is not an image"):
            Limits().check_source(path)
    with pytest.raises(DataError, match="choose a video for the movement"):
        Limits().check_driving(picture)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"text\.mp4 is not a video"):
        Limits().check_driving(tmp_path / "text.mp4")


def test_size(picture: Path, driving: Path) -> None:
    limits = Limits(megabytes=1e-4)
    with pytest.raises(DataError, match=r"larger than 0\.0001 MB; choose a smaller picture"):
        limits.check_source(picture)
    with pytest.raises(DataError, match="choose a smaller video"):
        limits.check_driving(driving)


def test_length(driving: Path) -> None:
    Limits(seconds=0.33).check_driving(driving)
    with pytest.raises(DataError, match=r"lasts 0\.32 seconds, and this page takes up to 0\.3; cut it shorter"):
        Limits(seconds=0.3).check_driving(driving)


def test_number_of_frames(tmp_path: Path) -> None:
    fast = write_video(tmp_path / "fast.mp4", rate=Fraction(240), frames=24)
    limits = Limits(seconds=0.2)
    with pytest.raises(
        DataError, match="would give 24 frames, and this page makes up to 12; choose fewer frames a second"
    ):
        limits.check_driving(fast)
    limits.check_driving(fast, rate=25)
    with pytest.raises(DataError, match="would give 100 frames"):
        limits.check_driving(fast, rate=1000)


def test_pixels(tmp_path: Path) -> None:
    large = write_video(tmp_path / "large.mp4", frames=1, size=(2308, 4096))
    with pytest.raises(DataError, match="4096x2308 pixels, more than 4K"):
        Limits().check_driving(large)
