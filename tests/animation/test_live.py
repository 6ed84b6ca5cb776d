from __future__ import annotations

import logging
import math
import time
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch
from small import small_model

from lami.animation import Animator, animate_live
from lami.animation import live as live_module
from lami.animation.pipeline import read_ahead
from lami.checkpoint import save
from lami.data import VideoReader, Webcam, camera_number, write_image
from lami.errors import ConfigError, DataError


class FakeCamera:
    """Gives `frames` images, one every `interval` seconds, and then no more."""

    rate = Fraction(30)

    def __init__(self, frames: int = 1000, interval: float = 0.02) -> None:
        self.left, self.interval, self.closed = frames, interval, False

    def read(self) -> np.ndarray | None:
        time.sleep(self.interval)
        self.left -= 1
        return None if self.left < 0 else np.full((48, 64, 3), self.left % 256, np.uint8)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save(small_model(background=False, selector="fixed"), path)
    return path


@pytest.fixture
def arguments(checkpoint: Path, tmp_path: Path) -> dict[str, Any]:
    source = tmp_path / "source.png"
    write_image(source, np.random.default_rng(0).integers(0, 256, (60, 40, 3), dtype=np.uint8))
    return {"checkpoint": checkpoint, "source": source, "output": tmp_path / "out.mp4", "device": "cpu"}


def check_video(path: Path) -> VideoReader:
    with VideoReader(path) as video:
        assert len(list(video)) == len(video) >= 1
        assert list(video.times) == sorted(set(video.times))
    return video


def test_a_recording_ends_with_its_time_and_keeps_that_of_its_frames(
    arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    camera = FakeCamera()
    with caplog.at_level(logging.INFO, "lami"):
        assert animate_live(camera=camera, seconds=0.5, **arguments) == arguments["output"]
    assert camera.closed
    assert check_video(arguments["output"]).times[-1] < 0.5
    assert "ms from a frame to its image" in caplog.text


def test_a_recording_ends_with_its_camera(arguments: dict[str, Any]) -> None:
    animate_live(camera=FakeCamera(4, 0.001), **arguments)
    assert 1 <= len(check_video(arguments["output"])) <= 4


def test_crops(arguments: dict[str, Any]) -> None:
    shapes: list[tuple[int, ...]] = []
    detect = Animator._to_model

    def spy(self: Animator, frames: Any) -> Any:
        shapes.extend((frame if isinstance(frame, np.ndarray) else frame.image).shape[:2] for frame in frames)
        return detect(self, frames)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Animator, "_to_model", spy)
        animate_live(camera=FakeCamera(4), crop="0,10,40,50", crop_driving="centre", size="source", **arguments)
    assert shapes[0] == (50, 40)
    assert set(shapes[1:]) == {(48, 48)}
    video = check_video(arguments["output"])
    assert (video.width, video.height) == (40, 50)


def test_ctrl_c_finishes_the_video(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    step, count = Animator.step, 0

    def interrupted(self: Animator, frame: Any) -> Any:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return step(self, frame)

    monkeypatch.setattr(Animator, "step", interrupted)
    camera = FakeCamera()
    animate_live(camera=camera, **arguments)
    assert len(check_video(arguments["output"])) == 3
    assert camera.closed


def test_a_slow_reader_gets_the_newest_item() -> None:
    def numbers() -> Generator[int, None, None]:
        for n in range(50):
            time.sleep(0.004)
            yield n

    taken = []
    for n in read_ahead(numbers(), 1, newest=True):
        taken.append(n)
        time.sleep(0.03)
    assert taken == sorted(set(taken))
    assert len(taken) < 40
    assert taken[-1] == 49


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"granularity": "clip"}, ConfigError, "hysteresis"),
        ({"seconds": 0}, ConfigError, "seconds must be above 0"),
        ({"output": "out.png"}, DataError, "no name of a video"),
        ({"output": "out.gif"}, DataError, "gif has too few times for a recording; write an mp4"),
        ({"source": "none.png"}, DataError, "none.png"),
        ({"crop": "0,0,41,5"}, DataError, r"source\.png, which is 40 pixels wide"),
        ({"crop_driving": "0,0,65,5"}, DataError, "the camera's picture, which is 64 pixels wide and 48 high"),
        ({"crop_driving": "keypoints"}, ConfigError, "use centre"),
        ({"camera": FakeCamera(0)}, DataError, "no frames"),
    ],
)
def test_bad_input(arguments: dict[str, Any], options: dict[str, Any], error: type[Exception], message: str) -> None:
    camera = FakeCamera()
    with pytest.raises(error, match=message) as caught:
        animate_live(**{"camera": camera, **arguments, **options})
    assert "\n" not in str(caught.value)
    assert options.get("camera", camera).closed
    assert not arguments["output"].exists()


def test_windows_need_a_display(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="no display"):
        animate_live(camera=FakeCamera(), show=True, **arguments)
    monkeypatch.setenv("DISPLAY", ":0")

    def no_windows(*arguments: Any) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "namedWindow", no_windows)
    with pytest.raises(ConfigError, match="this OpenCV has no windows"):
        animate_live(camera=FakeCamera(), show=True, **arguments)


def test_a_window_shows_the_result_until_escape(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[np.ndarray] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *arguments: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda wait: 27 if len(shown) == 3 else -1)
    monkeypatch.setattr(cv2, "getWindowProperty", lambda title, which: 1.0)
    animate_live(camera=FakeCamera(), show=True, **arguments)
    assert len(check_video(arguments["output"])) == len(shown) == 3


@pytest.mark.parametrize("visible", [[1.0, 1.0, 0.0], [1.0, 1.0, cv2.error("NULL guiReceiver")]])
def test_closing_the_window_ends_the_recording(
    arguments: dict[str, Any], visible: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Mock(side_effect=visible)
    show_windows(monkeypatch, answers)
    animate_live(camera=FakeCamera(), show=True, **arguments)
    assert len(check_video(arguments["output"])) == answers.call_count == 3


def test_a_window_that_cannot_tell_whether_it_is_there_stays(
    arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    show_windows(monkeypatch, Mock(return_value=-1.0))
    animate_live(camera=FakeCamera(), show=True, seconds=0.5, **arguments)
    assert len(check_video(arguments["output"])) > 1


def show_windows(monkeypatch: pytest.MonkeyPatch, visible: Mock) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    for name, answer in (("namedWindow", None), ("imshow", None), ("waitKey", -1), ("destroyWindow", None)):
        monkeypatch.setattr(cv2, name, Mock(return_value=answer))
    monkeypatch.setattr(cv2, "getWindowProperty", visible)


def test_names_of_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [camera_number(name) for name in ("webcam", "webcam:3", Path("webcam:0"))] == [0, 3, 0]
    assert [camera_number(name) for name in ("webcam.mp4", "webcam:", "a/webcam")] == [None, None, None]
    Path("webcam").mkdir()
    assert camera_number("webcam") is None


def test_a_camera_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    for number in (99, 10**11):
        with pytest.raises(DataError, match=f"camera {number} cannot be opened"):
            Webcam(number)


@pytest.mark.parametrize(
    ("told", "rate"), [(0.0, 30), (math.nan, 30), (math.inf, 30), (-1.0, 30), (1e7, 30), (59.94, 60)]
)
def test_a_camera_gives_rgb(told: float, rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Capture:
        def __init__(self, number: int) -> None: ...

        def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
            return True

        def get(self, what: int) -> float:
            return told

        def read(self) -> tuple[bool, np.ndarray]:
            return True, np.full((2, 2, 3), (1, 2, 3), np.uint8)

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    camera = Webcam()
    image = camera.read()
    assert image is not None
    assert image[0, 0].tolist() == [3, 2, 1]
    assert camera.rate == rate
