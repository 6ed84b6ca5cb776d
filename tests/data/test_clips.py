from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lami.data.clips import open_clip
from lami.data.images import read_image, write_image
from lami.errors import DataError

MakeVideo = Callable[..., Path]


def levels(images: list[np.ndarray]) -> list[int]:
    return [int(image[0, 0, 0]) for image in images]


@pytest.mark.parametrize("name", ["clip", "clip.mp4"])
def test_folder_of_frames_is_sorted_naturally(tmp_path: Path, name: str) -> None:
    for number in (1, 2, 9, 10, 11, 100):
        write_image(tmp_path / name / f"frame{number}.png", np.full((4, 5, 3), number, np.uint8))
    (tmp_path / name / "notes.txt").write_text("no frame")
    (tmp_path / name / ".hidden.png").write_text("no frame")
    clip = open_clip(tmp_path / name)
    assert (len(clip), clip.name, clip.rate) == (6, name, None)
    assert levels(clip.frames(range(6))) == [1, 2, 9, 10, 11, 100]
    assert levels(clip.frames([5, 0, 5])) == [100, 1, 100]


def test_folder_reads_only_what_is_asked_for(tmp_path: Path) -> None:
    write_image(tmp_path / "clip" / "0.png", np.zeros((4, 5, 3), np.uint8))
    (tmp_path / "clip" / "1.png").write_bytes(b"broken")
    clip = open_clip(tmp_path / "clip")
    assert levels(clip.frames([0])) == [0]
    with pytest.raises(DataError, match=r"1\.png"):
        clip.frames([1])


@pytest.mark.parametrize("shape", [(6, 6), (6, 4), (6, 9)])
def test_strip_of_square_and_other_frames(tmp_path: Path, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*shape, 3), dtype=np.uint8) for _ in range(5)]
    write_image(tmp_path / "a.png", np.concatenate(images, axis=1))
    clip = open_clip(tmp_path / "a.png", shape)
    assert (len(clip), clip.name, clip.rate) == (5, "a.png", None)
    for index, image in zip([4, 0, 2], clip.frames([4, 0, 2]), strict=True):
        np.testing.assert_array_equal(image, images[index])


@pytest.mark.parametrize("shape", [(6, 7), (3, 6), (12, 6)])
def test_strip_that_does_not_divide_is_named(tmp_path: Path, shape: tuple[int, int]) -> None:
    write_image(tmp_path / "a.png", np.zeros((6, 30, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.png is 6x30 .*frame_shape"):
        open_clip(tmp_path / "a.png", shape)


def test_image_without_frame_shape_is_one_frame(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.zeros((6, 30, 3), np.uint8))
    assert len(open_clip(tmp_path / "a.png")) == 1


def test_video_file(make_video: MakeVideo) -> None:
    clip = open_clip(make_video("a.mp4"))
    assert (len(clip), clip.name, clip.rate) == (30, "a.mp4", Fraction(25))
    assert [image[-1, -1].mean() for image in clip.frames([20, 3])] == pytest.approx([80, 12], abs=6)


def test_frames_outside_a_clip_are_an_index_error(tmp_path: Path) -> None:
    write_image(tmp_path / "clip" / "0.png", np.zeros((4, 4, 3), np.uint8))
    write_image(tmp_path / "a.png", np.zeros((4, 8, 3), np.uint8))
    for clip in (open_clip(tmp_path / "clip"), open_clip(tmp_path / "a.png", (4, 4))):
        for index in (-1, len(clip)):
            with pytest.raises(IndexError):
                clip.frames([index])


def test_what_is_no_clip_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(DataError, match="no images"):
        open_clip(tmp_path / "empty")
    with pytest.raises(DataError, match=r"a\.txt is neither"):
        open_clip(tmp_path / "a.txt")
    with pytest.raises(DataError, match="does not exist"):
        open_clip(tmp_path / "none")


def test_real_strips(shared_data: Path) -> None:
    path = min((shared_data / "actions" / "train").glob("*.jpg"))
    clip = open_clip(path, (64, 64))
    strip = read_image(path)
    assert len(clip) * 64 == strip.shape[1]
    np.testing.assert_array_equal(np.concatenate(clip.frames(range(len(clip))), axis=1), strip)
