from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from inputs.media import write_video
from PIL import Image

from lami.data import VideoWriter
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


def test_pixels_of_pictures(tmp_path: Path) -> None:
    Image.new("L", (5000, 5000)).save(tmp_path / "large.png")
    with pytest.raises(DataError, match="5000x5000 pixels, more than 4K"):
        Limits().check_source(tmp_path / "large.png")


@pytest.mark.parametrize(("side", "message"), [(3100, "3100x3100 pixels"), (8, "has 4 frames, and this page takes up")])
def test_animated_pictures_are_judged_before_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: int, message: str
) -> None:
    frames = [Image.new("L", (side, side), 50 * n) for n in range(4)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:], duration=20)
    monkeypatch.setattr("lami.web.limits.open_moving", lambda path: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match=message):
        Limits(seconds=0.05).check_driving(tmp_path / "moving.gif")


def test_frames_are_counted_whatever_rate_is_declared(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "slow.mkv", Fraction(1)) as writer:
        for n in range(400):
            writer.write(np.full((32, 32, 3), n % 256, np.uint8), Fraction(n, 500))
    with pytest.raises(DataError, match="would give 400 frames"):
        Limits(seconds=3).check_driving(tmp_path / "slow.mkv")


def test_folders_are_no_files(picture: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; choose a video"):
        Limits().check_driving(tmp_path)
