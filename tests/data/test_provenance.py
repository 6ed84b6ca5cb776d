from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import lami
from lami.data import VideoReader, VideoWriter, read_image, write_image
from lami.data.provenance import NOTE, SOURCE_TYPE, draw_label

PICTURE = np.full((48, 96, 3), 128, np.uint8)


def write_video(path: Path, **options: bool) -> None:
    with VideoWriter(path, 25, **options) as writer:
        for level in (60, 120, 180):
            writer.write(np.full((64, 128, 3), level, np.uint8))


def video_tags(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {name.lower(): value for name, value in container.metadata.items()}


def xmp_of(picture: Image.Image) -> str:
    packet = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or picture.getexif()[700]
    return packet if isinstance(packet, str) else packet.decode()


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "gif"])
def test_videos_say_that_they_were_generated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_video(path)
    tags = video_tags(path)
    assert tags["comment"] == NOTE
    assert f"lami {lami.__version__}" in NOTE
    assert SOURCE_TYPE in NOTE
    if suffix in ("mp4", "mkv"):
        assert tags["description"] == NOTE
    with VideoReader(path) as video:
        assert len(list(video)) == 3
    write_video(tmp_path / f"b.{suffix}", generated=False)
    assert "comment" not in video_tags(tmp_path / f"b.{suffix}")


def test_other_tags_of_a_video_come_on_top(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25, metadata={"title": "dance", "comment": "for the fair"}) as writer:
        writer.write(PICTURE)
    tags = video_tags(tmp_path / "a.mp4")
    assert (tags["title"], tags["comment"], tags["description"]) == ("dance", "for the fair", NOTE)


def test_a_long_comment_of_a_gif(tmp_path: Path) -> None:
    comment = "long " * 200
    noise = np.random.default_rng(0).integers(0, 256, (8, 600, 500, 3), dtype=np.uint8)  # more than a part
    for name, metadata in (("a.gif", {"comment": comment}), ("b.gif", None)):
        with VideoWriter(tmp_path / name, 25, metadata=metadata, generated=False) as writer:
            for image in noise:
                writer.write(image)
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.info["comment"] == comment.encode()
    with VideoReader(tmp_path / "a.gif") as commented, VideoReader(tmp_path / "b.gif") as plain:
        assert commented.times == plain.times
        for first, second in zip(commented, plain, strict=True):
            assert np.array_equal(first.image, second.image)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif"])
def test_images_say_that_they_were_generated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    write_image(path, PICTURE)
    with Image.open(path) as picture:
        description = picture.info.get("Description") or picture.getexif()[270]
        assert description == NOTE
        packet = xmp_of(picture)
    root = ElementTree.fromstring(packet.strip("\ufeff").split("?>", 1)[1].rsplit("<?", 1)[0])
    assert any(value == SOURCE_TYPE for element in root.iter() for value in element.attrib.values())
    assert np.abs(read_image(path).astype(int) - PICTURE).max() <= 2
    write_image(tmp_path / f"b.{suffix}", PICTURE, generated=False)
    assert b"trainedAlgorithmicMedia" not in tmp_path.joinpath(f"b.{suffix}").read_bytes()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "mp4", "mov", "mkv", "gif"])
def test_nothing_personal_and_nothing_that_changes_from_run_to_run(tmp_path: Path, suffix: str) -> None:
    written = []
    for name in ("first", "second"):
        path = tmp_path / f"{name}.{suffix}"
        if suffix in ("png", "jpg", "webp", "tif"):
            write_image(path, PICTURE)
        else:
            write_video(path)
        written.append(path.read_bytes())
    for secret in (str(tmp_path), str(Path.home()), path.stem):
        assert secret.encode() not in written[-1]
    if suffix != "mkv":  # which draws an identifier for every file, as its format demands
        assert written[0] == written[1]


@given(height=st.integers(1, 300), width=st.integers(1, 300), level=st.integers(0, 255))
def test_the_label_fits_and_stands_out_on_every_ground(height: int, width: int, level: int) -> None:
    image = np.full((height, width, 3), level, np.uint8)
    labelled = draw_label(image)
    assert (image == level).all()
    assert labelled.shape == image.shape
    patch = max(12, round(min(height, width) / 17)) + 1
    assert (labelled[: max(0, height - patch)] == level).all()
    if min(height, width) >= 64:
        corner = labelled[height - patch :].astype(float) / 255
        light, dark = corner.max(), corner.min()
        assert light > 0.8
        assert (light**2.2 + 0.05) / (dark**2.2 + 0.05) > 4.5  # contrast that text should have


def test_the_label_is_in_what_is_written(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", PICTURE, label=True)
    assert np.array_equal(read_image(tmp_path / "a.png"), draw_label(PICTURE))
    write_video(tmp_path / "a.mp4", label=True)
    with VideoReader(tmp_path / "a.mp4") as video:
        for frame, level in zip(video, (60, 120, 180), strict=True):
            expected = draw_label(np.full((64, 128, 3), level, np.uint8))
            assert np.abs(frame.image.astype(int) - expected).mean() < 4
            assert frame.image[-12:, :96].max() > level + 40
