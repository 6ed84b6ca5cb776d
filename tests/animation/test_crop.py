"""Crops: their text, boxes that are given, and boxes around keypoints; what is animated with them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small import small_model
from torch import Tensor

from lami.animation import Animator, Letterbox, animate_file
from lami.animation.crop import Box, choose_box, fixed_box, parse_crop
from lami.data import VideoReader, read_image, write_image
from lami.data.synthetic import SyntheticFigures
from lami.errors import ConfigError, DataError
from lami.model import LAMI

MODEL = (64, 64)
FRAMES = 6
_SIDES = st.integers(1, 500)
_MODEL_SIDES = st.sampled_from([64, 128, 256])


@pytest.fixture(scope="module")
def model() -> LAMI:
    torch.manual_seed(0)
    return small_model(background=False, selector="fixed")


# --- text and given boxes


@pytest.mark.parametrize(
    "crop", ["1,2,30,40", " 1, 2,30 ,40", (1, 2, 30, 40), [1, 2, 30, 40], np.array([1, 2, 30, 40])]
)
def test_boxes_are_text_or_numbers(crop: Any) -> None:
    assert parse_crop(crop) == (1, 2, 30, 40)
    assert [parse_crop(word) for word in ("none", "centre", "keypoints")] == ["none", "centre", "keypoints"]


@pytest.mark.parametrize(
    "crop", ["", "middle", "1,2,3", "1,2,3,4,5", "1,2,3,x", "1,2,3.5,4", "-1,2,3,4", "1,2,0,4", (1, 2, 3.0, 4), None, 7]
)
def test_what_is_no_crop_is_told_in_a_sentence(crop: Any) -> None:
    with pytest.raises(
        ConfigError, match="neither none, centre nor keypoints, nor a box LEFT,TOP,WIDTH,HEIGHT"
    ) as caught:
        parse_crop(crop)
    assert "\n" not in str(caught.value)


@given(_SIDES, _SIDES, _MODEL_SIDES, _MODEL_SIDES)
def test_the_centre_is_the_largest_of_the_models_aspect(height: int, width: int, model_h: int, model_w: int) -> None:
    box = fixed_box("centre", (height, width), (model_h, model_w), "file")
    assert box.width == width or box.height == height
    assert abs(box.width - box.height * model_w / model_h) <= max(0.5, 0.5 * model_w / model_h) or 1 in (
        box.width,
        box.height,
    )
    for start, length, side in ((box.left, box.width, width), (box.top, box.height, height)):
        assert start >= 0
        assert side - (start + length) - start in (0, 1)


@pytest.mark.parametrize("crop", ["90,0,11,5", (0, 40, 5, 11)])
def test_boxes_outside_name_file_and_size(crop: Any) -> None:
    assert fixed_box("90,40,10,10", (50, 100), MODEL, "file").cut(np.zeros((50, 100, 3))).shape == (10, 10, 3)
    with pytest.raises(
        DataError, match=r"crop \d+,.* reaches outside of scene.png, which is 100 pixels wide and 50 high"
    ):
        fixed_box(crop, (50, 100), MODEL, Path("scene.png"))


@given(st.data(), _SIDES, _SIDES, _SIDES, _SIDES)
def test_images_of_another_size_are_cut_in_proportion(
    data: Any, height: int, width: int, other_h: int, other_w: int
) -> None:
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    wide, high = data.draw(st.integers(1, width - left)), data.draw(st.integers(1, height - top))
    box = Box(left, top, wide, high, (height, width))
    image = np.arange(height * width * 3).reshape(height, width, 3)
    np.testing.assert_array_equal(box.cut(image), image[top : top + high, left : left + wide])
    cut = box.cut(np.zeros((other_h, other_w, 3)))
    for length, exact in zip(cut.shape[:2], (high * other_h / height, wide * other_w / width), strict=True):
        assert max(exact, 1) - 1e-9 <= length < exact + 2


# --- around keypoints


@given(st.data(), st.integers(8, 300), st.integers(8, 300), _MODEL_SIDES, _MODEL_SIDES)
def test_pixels_of_keypoints(data: Any, height: int, width: int, model_h: int, model_w: int) -> None:
    """A point that is drawn is where it is said to be."""
    box = Box(width // 4, height // 4, width // 2, height // 2, (height, width))
    x, y = data.draw(st.integers(0, box.width - 1)), data.draw(st.integers(0, box.height - 1))
    letterbox = Letterbox((box.height, box.width), (model_h, model_w))
    sides = np.array([letterbox.width, letterbox.height])
    pixel = (np.array([x, y]) + 0.5) / (box.width, box.height) * sides - 0.5 + (letterbox.left, letterbox.top)
    keypoint = torch.from_numpy(2 * pixel / (model_w - 1, model_h - 1) - 1)[None, None, None]
    found = box.to_frame(keypoint, (model_h, model_w))
    np.testing.assert_allclose(found, np.array([[[box.left + x + 0.5, box.top + y + 0.5]]]), atol=1e-4)


def detector(points: np.ndarray, model_size: tuple[int, int] = MODEL) -> Any:
    """Finds points (F, P, 2), in pixels from the frame's corner, in whatever part of it: the inverse of `to_frame`."""

    def detect(box: Box) -> Tensor:
        letterbox = Letterbox((box.height, box.width), model_size)
        inside = (points - (box.left, box.top)) / (box.width, box.height) * (letterbox.width, letterbox.height)
        pixels = inside - 0.5 + (letterbox.left, letterbox.top)
        return torch.from_numpy(2 * pixels / (model_size[1] - 1, model_size[0] - 1) - 1)[:, :, None]

    return detect


def cross(x: float, y: float, width: float, height: float, count: int = 12) -> np.ndarray:
    """Points (1, P, 2) on the axes of an object whose extent is width x height."""
    t = np.linspace(-0.5, 0.5, count)
    return np.concatenate([np.stack([x + t * width, 0 * t + y], -1), np.stack([0 * t + x, y + t * height], -1)])[None]


@given(
    st.floats(30, 370), st.floats(30, 170), st.floats(20, 60), st.floats(20, 60), st.sampled_from([(64, 64), (64, 128)])
)
def test_the_box_around_keypoints(x: float, y: float, width: float, height: float, model_size: Any) -> None:
    points = cross(x, y, width, height).clip(0, (400, 200))
    box = choose_box("keypoints", (200, 400), model_size, "file", detector(points, model_size))
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    assert box.left >= 0
    assert box.top >= 0
    assert box.left + box.width <= 400
    assert box.top + box.height <= 200
    assert box.left <= low[0] + 1
    assert high[0] <= box.left + box.width + 1
    assert box.top <= low[1] + 1
    assert high[1] <= box.top + box.height + 1
    aspect = model_size[1] / model_size[0]
    assert abs(box.width - aspect * box.height) <= 1 + aspect
    assert max(box.width / (high - low)[0], box.height / (high - low)[1]) >= 1.45
    assert min(box.width / (high - low)[0], box.height / (high - low)[1]) <= 1.55 + 2 / min(high - low)


def test_where_the_frame_leaves_no_room_the_margin_gives_way_then_the_aspect() -> None:
    high = choose_box("keypoints", (100, 300), MODEL, "file", detector(cross(150, 50, 60, 90)))
    assert (high.left, high.top, high.width, high.height) == (100, 0, 100, 100)
    tight = choose_box("keypoints", (100, 300), MODEL, "file", detector(cross(150, 50, 82, 60)))
    assert tight == high
    wide = choose_box("keypoints", (100, 300), MODEL, "file", detector(cross(150, 50, 140, 60)))
    assert (wide.left, wide.top, wide.width, wide.height) == (45, 0, 210, 100)


def test_stray_keypoints_and_glitches_are_left_out() -> None:
    figure = np.concatenate([cross(250 + n / 4, 90, 40, 60) for n in range(200)])
    expected = choose_box("keypoints", (200, 600), MODEL, "file", detector(figure))
    assert abs(expected.left + expected.width / 2 - 275) < 3
    strayed = np.concatenate([figure, np.full((200, 3, 2), (590.0, 10.0))], axis=1)  # the same points in all frames
    strayed[50] += (200, 60)  # all points of one frame
    strayed[70] = np.nan
    found = choose_box("keypoints", (200, 600), MODEL, "file", detector(strayed))
    for name in ("left", "top", "width", "height"):
        assert abs(getattr(found, name) - getattr(expected, name)) <= 3


@pytest.mark.parametrize(
    ("points", "cause"),
    [
        (np.full((2, 9, 2), np.nan), "are not finite numbers"),
        (np.full((2, 9, 2), 70.0), "are all in one place"),
        (cross(150, 50, 290, 95), "spread over most of it"),
    ],
)
def test_without_a_box_the_whole_frame_is_used(points: Any, cause: str, caplog: pytest.LogCaptureFixture) -> None:
    box = choose_box("keypoints", (100, 300), MODEL, "scene.png", detector(points))
    assert box == Box(0, 0, 300, 100, (100, 300))
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert f"the keypoints of scene.png {cause}" in record.message


def test_a_figure_that_fills_the_frame_needs_no_crop_and_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lami"):
        box = choose_box("keypoints", (100, 100), MODEL, "photo.png", detector(cross(50, 50, 66, 66)))
    assert box == Box(0, 0, 100, 100, (100, 100))
    [record] = caplog.records
    assert record.levelno == logging.INFO
    assert "would be nearly all of it" in record.message


def test_of_a_short_clip_every_frame_lies_inside() -> None:
    walk = np.concatenate([cross(100, 50, 40, 40)] * 49 + [cross(200, 50, 40, 40)])
    box = choose_box("keypoints", (100, 400), MODEL, "clip", detector(walk))
    assert box.left <= 80
    assert box.left + box.width >= 220


# --- animation


def test_a_cropped_source_is_like_one_that_was_cut_out(model: LAMI) -> None:
    frames = SyntheticFigures(MODEL, 1, num_frames=3).clip(0).frames(range(3))
    source = np.random.default_rng(0).integers(0, 256, (80, 200, 3), dtype=np.uint8)
    for size in ("model", "source", "source-detail"):
        cut = list(Animator(model, source[10:80, 20:60], size=size).animate(frames))
        cropped = list(Animator(model, source, size=size, crop="20,10,40,70").animate(frames))
        assert cropped[0].image.shape == ((64, 36, 3) if size == "model" else (70, 40, 3))
        assert all(np.array_equal(a.image, b.image) for a, b in zip(cut, cropped, strict=True))


def test_keypoints_that_are_not_finite_in_the_scene_cost_the_crop(
    model: LAMI, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    detect, calls = model.detect_keypoints, 0

    def broken_first(images: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return detect(images) * (torch.nan if calls == 1 else 1)

    monkeypatch.setattr(model, "detect_keypoints", broken_first)
    animator = Animator(model, np.zeros((64, 90, 3), np.uint8), crop="keypoints")
    assert animator.box == Box(0, 0, 90, 64, (64, 90))
    assert "the keypoints of the source are not finite numbers" in caplog.text


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Frames as files, which lose nothing; the same frames and source cut out are beside them."""
    rng = np.random.default_rng(0)
    write_image(tmp_path / "source.png", rng.integers(0, 256, (90, 120, 3), dtype=np.uint8))
    frames = SyntheticFigures((64, 192), 1, num_frames=FRAMES).clip(0).frames(range(FRAMES))
    for name, part in (("driving", slice(0, 192)), ("cut", slice(64, 128))):
        for n, frame in enumerate(frames):
            write_image(tmp_path / name / f"{n}.png", frame[:, part])
    write_image(tmp_path / "cut.png", read_image(tmp_path / "source.png")[:80, 30:110])
    return {"source": tmp_path / "source.png", "driving": tmp_path / "driving", "output": tmp_path / "out.mp4"}


@pytest.mark.parametrize(("crop_driving", "best_frame"), [("centre", False), ((64, 0, 64, 64), True)])
def test_cropped_files_are_like_those_that_were_cut_out(
    model: LAMI, files: dict[str, Path], crop_driving: Any, best_frame: bool
) -> None:
    folder = files["output"].parent
    options: dict[str, Any] = {"best_frame": best_frame, "fps": 20, "size": "source"}
    pictures = [{"save_panel": folder / f"p{n}.png", "save_chain": folder / f"c{n}.png"} for n in range(2)]
    animate_file(model, **files, crop=(30, 0, 80, 80), crop_driving=crop_driving, **options, **pictures[0])
    animate_file(model, folder / "cut.png", folder / "cut", folder / "cut.mp4", **options, **pictures[1])
    assert files["output"].read_bytes() == (folder / "cut.mp4").read_bytes()
    with VideoReader(files["output"]) as video:
        assert (video.width, video.height) == (80, 80)
    for name in ("save_panel", "save_chain"):
        assert pictures[0][name].read_bytes() == pictures[1][name].read_bytes()


def test_a_driving_image_is_cropped(model: LAMI, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = files["output"].parent
    animate_file(model, files["source"], folder / "driving" / "3.png", folder / "a.png", crop_driving="centre")
    animate_file(model, files["source"], folder / "cut" / "3.png", folder / "b.png")
    assert np.array_equal(read_image(folder / "a.png"), read_image(folder / "b.png"))
    boxes: list[Box] = []

    def choose(crop: Any, frame_size: Any, model_size: Any, name: Any, detect: Any) -> Box:
        assert detect(Box(0, 0, 64, 64, frame_size)).shape[0] == 1
        boxes.append(choose_box(crop, frame_size, model_size, name, detector(cross(140, 32, 20, 30))))
        return boxes[-1]

    monkeypatch.setattr("lami.animation.files.choose_box", choose)
    for name, crop in (("c", "keypoints"), ("d", "118,10,45,45")):
        animate_file(model, files["source"], folder / "driving" / "3.png", folder / f"{name}.png", crop_driving=crop)
    assert boxes == [Box(118, 10, 45, 45, (64, 192))] * 2
    assert np.array_equal(read_image(folder / "c.png"), read_image(folder / "d.png"))


@pytest.mark.parametrize("best_frame", [False, True])
def test_one_box_from_all_frames_whose_keypoints_also_find_the_best_one(
    model: LAMI,
    files: dict[str, Path],
    best_frame: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    described: list[str] = []
    boxes: list[Box] = []
    walk = np.concatenate([cross(60 + 6 * n, 32, 20, 30) for n in range(FRAMES)])

    def progress(frames: Iterable[Any], total: int, description: str) -> Iterable[Any]:
        described.append(description)
        return frames

    def choose(crop: Any, frame_size: Any, model_size: Any, name: Any, detect: Any) -> Box:
        def detect_walk(box: Box) -> Tensor:
            assert len(detect(box)) == FRAMES
            return detector(walk)(box)

        boxes.append(choose_box(crop, frame_size, model_size, name, detect_walk))
        return boxes[-1]

    monkeypatch.setattr("lami.animation.files.choose_box", choose)
    with caplog.at_level(logging.INFO, "lami"):
        animate_file(model, **files, crop_driving="keypoints", best_frame=best_frame, progress=progress)
    assert described == ["searching the object"] * 2 + ["animating"]
    assert ("the driving frame nearest to the source's pose" in caplog.text) == best_frame
    [box] = boxes
    assert (box.width, box.height) == (64, 64)
    assert box.left <= 50 + 1
    assert box.left + 64 >= 100 - 1
    again = files | {"output": files["output"].with_name("again.mp4")}
    if not best_frame:
        animate_file(model, **again, crop_driving=(box.left, box.top, box.width, box.height))
        assert again["output"].read_bytes() == files["output"].read_bytes()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"crop": "face"}, ConfigError, "crop 'face' is neither"),
        ({"crop_driving": "0,0,1"}, ConfigError, "crop '0,0,1' is neither"),
        ({"crop": "100,0,30,30"}, DataError, r"source\.png, which is 120 pixels wide and 90 high"),
        ({"crop_driving": "0,0,192,65"}, DataError, r"driving, which is 192 pixels wide and 64 high"),
    ],
)
def test_crops_that_cannot_work(
    model: LAMI, files: dict[str, Path], options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        animate_file(model, **files, **options)
    assert "\n" not in str(caught.value)
    assert not files["output"].exists()


def test_frames_of_other_sizes_end_no_video(model: LAMI, files: dict[str, Path]) -> None:
    for n, side in ((3, 64), (4, 7)):
        write_image(files["driving"] / f"{n}.png", np.zeros((side, side, 3), np.uint8))
    for crop in ("centre", "keypoints", "190,60,2,4"):
        animate_file(model, **files, crop_driving=crop, overwrite=True)
        with VideoReader(files["output"]) as video:
            assert len(video) == FRAMES
