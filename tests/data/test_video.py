from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lami.data.video import VideoReader
from lami.errors import DataError

MakeVideo = Callable[..., Path]
CONTAINERS = ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.avi", "a.gif"]


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_is_read_in_order_and_completely(make_video: MakeVideo, name: str) -> None:
    with VideoReader(make_video(name)) as video:
        assert (len(video), video.height, video.width) == (30, 48, 64)
        assert not video.has_audio
        frames = list(video)
        assert [frame.time for frame in frames] == list(video.times)
        levels = [frame.image[30:, 20:].mean() for frame in frames]
    tolerance = 20 if name.endswith("gif") else 6  # 3 bits a channel
    np.testing.assert_allclose(levels, 4 * np.arange(30), atol=tolerance)


@pytest.mark.parametrize("name", CONTAINERS)
def test_random_access_is_frame_exact(make_video: MakeVideo, name: str) -> None:
    with VideoReader(make_video(name)) as video:
        expected = [frame.image for frame in video]
        rng = np.random.default_rng(0)
        asked = [[0], [29, 0, 29], [7, 3], [8], [9, 10, 11], *rng.integers(30, size=(20, 2)).tolist()]
        for indices in asked:
            for index, image in zip(indices, video.frames(indices), strict=True):
                np.testing.assert_array_equal(image, expected[index])


def test_iteration_does_not_disturb_random_access(make_video: MakeVideo) -> None:
    with VideoReader(make_video("a.mp4")) as video:
        expected = [frame.image for frame in video]
        for index, frame in enumerate(video):
            np.testing.assert_array_equal(video.frames([29 - index])[0], expected[29 - index])
            np.testing.assert_array_equal(frame.image, expected[index])


def test_only_the_needed_frames_are_decoded(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    number = VideoReader._number

    def count(self: VideoReader, frame: object, counted: int) -> int:
        decoded.append(counted)
        return number(self, frame, counted)

    with VideoReader(make_video("a.mp4", frames=60)) as video:
        monkeypatch.setattr(VideoReader, "_number", count)
        video.frames([52])  # keyframes are at 50 and every ten before
        assert len(decoded) == 3
        video.frames([53, 53, 54])
        assert len(decoded) == 5
        video.frames([54])
        assert len(decoded) == 5


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(24000, 1001), Fraction(10), Fraction(25, 2)])
def test_rate_and_times_are_exact(make_video: MakeVideo, rate: Fraction) -> None:
    with VideoReader(make_video("a.mp4", rate=rate)) as video:
        assert video.rate == rate
        assert video.times == tuple(i / rate for i in range(30))
        assert video.duration == 30 / rate


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(make_video: MakeVideo, rotation: int) -> None:
    with VideoReader(make_video("a.mp4", rotation=rotation)) as video:
        (image,) = video.frames([2])
        assert image.shape == (video.height, video.width, 3)
        assert image.shape[:2] == ((48, 64) if rotation == 180 else (64, 48))
        # The bright patch at the top left goes where a counterclockwise rotation takes it.
        corners = {"top left": image[4, 4], "bottom left": image[-4, 4], "bottom right": image[-4, -4]}
        corners["top right"] = image[4, -4]
        brightest = max(corners, key=lambda corner: corners[corner].mean())
    assert brightest == {90: "bottom left", 180: "bottom right", -90: "top right"}[rotation]


def test_single_frame_and_sound(make_video: MakeVideo) -> None:
    with VideoReader(make_video("a.mp4", frames=1)) as video:
        assert len(video) == 1
        assert video.duration == Fraction(1, 25)
    with VideoReader(make_video("b.mp4", sound="aac")) as video:
        assert video.has_audio


def test_frames_outside_the_video_are_an_index_error(make_video: MakeVideo) -> None:
    with VideoReader(make_video("a.mp4")) as video:
        for index in (-1, 30):
            with pytest.raises(IndexError, match="30 frames"):
                video.frames([index])


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("a.mp4", b"", "empty"),
        ("a.mp4", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        ("a.mp4", b"not a video" * 100, "not a video"),
        ("a.txt", b"text that FFmpeg would play on a terminal\n" * 20, "not a video"),
    ],
)
def test_what_is_not_a_video_is_named_with_the_cause(tmp_path: Path, name: str, content: bytes, cause: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} .*{cause}"):
        VideoReader(tmp_path / name)


def test_a_picture_is_not_a_video(tmp_path: Path) -> None:
    from lami.data.images import write_image

    write_image(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="not a video"):
        VideoReader(tmp_path / "a.png")


def test_a_video_cut_short_is_named(make_video: MakeVideo) -> None:
    path = make_video("a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"a\.mp4"):
        VideoReader(path)


def test_damaged_pictures_are_named(make_video: MakeVideo) -> None:
    path = make_video("a.mp4")
    content = path.read_bytes()
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    path.write_bytes(content[:start] + bytes(end - start) + content[end:])
    with pytest.raises(DataError, match=r"a\.mp4 is damaged"):
        VideoReader(path)


def test_real_videos(shared_data: Path) -> None:
    for path in sorted((shared_data / "pairs").glob("*.mp4")):
        with VideoReader(path) as video:
            frames = [frame.image for frame, _ in zip(video, range(40), strict=False)]
            for index in (31, 5, 39):
                np.testing.assert_array_equal(video.frames([index])[0], frames[index])
            assert video.times[-1] == (len(video) - 1) / video.rate
