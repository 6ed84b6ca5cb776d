from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lami.data.images import decode_image, encode_image, read_image, to_tensor, to_uint8, write_image
from lami.data.shards import FrameFormat
from lami.errors import DataError


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def test_png_round_trip_is_exact(tmp_path: Path, picture: np.ndarray) -> None:
    write_image(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), picture)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.png"]


def test_grey_becomes_rgb(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), picture[..., :1].repeat(3, 2))


def test_palette_keeps_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (4, 3), (250, 30, 7)).quantize(4).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png") == (250, 30, 7)).all()


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (200, 0, 0, 255)
    pixels[1, 1] = (0, 0, 0, 51)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image[0, 0].tolist() == [200, 0, 0]
    assert image[0, 1].tolist() == [255, 255, 255]
    assert image[1, 1].tolist() == [204, 204, 204]


def test_sixteen_bits_are_scaled_and_rounded(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 128 * 257 + 128, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for display
    picture = np.zeros((16, 32, 3), np.uint8)
    picture[:, :16] = 255  # left half, the upper one when upright
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == (32, 16, 3)
    assert image[:12].min() > 240
    assert image[20:].max() < 15


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"no image at all", "not an image"),
    ],
)
def test_what_is_not_an_image_is_named_with_the_cause(tmp_path: Path, content: bytes, cause: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.png .*{cause}"):
        read_image(tmp_path / "a.png")


def test_a_truncated_image_is_an_error(tmp_path: Path, picture: np.ndarray) -> None:
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    write_image(whole, picture.repeat(20, 0).repeat(20, 1))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(DataError, match=r"cut\.jpg"):
        read_image(cut)


def test_missing_file_folder_and_32_bit_values(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="not a file"):
        read_image(tmp_path)
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="32 bits"):
        read_image(tmp_path / "a.tif")


def test_write_rejects_what_is_not_an_image(tmp_path: Path, picture: np.ndarray) -> None:
    with pytest.raises(DataError, match="uint8"):
        write_image(tmp_path / "a.png", picture.astype(np.float32))
    with pytest.raises(DataError, match="suffix"):
        write_image(tmp_path / "a.txt", picture)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_image(tmp_path / "file" / "a.png", picture)


@pytest.mark.parametrize(("name", "width"), [("a.webp", 16384), ("a.jpg", 65536)])
def test_write_rejects_what_a_format_cannot_hold(tmp_path: Path, name: str, width: int) -> None:
    with pytest.raises(DataError, match=f"an image of 1x{width} is too large for .*{name}, use png"):
        write_image(tmp_path / name, np.zeros((1, width, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_only_files_named_so_are_taken_for_tga(tmp_path: Path, picture: np.ndarray) -> None:
    """Its header is a dozen numbers without a mark."""
    Image.fromarray(picture).save(tmp_path / "a.tga")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tga"), picture)
    (tmp_path / "a.tga").rename(tmp_path / "a.bin")
    with pytest.raises(DataError, match="unknown format"):
        read_image(tmp_path / "a.bin")


def test_warnings_of_pillow_are_not_shown_and_others_are(tmp_path: Path) -> None:
    Image.new("1", (9500, 9500)).save(tmp_path / "a.png")  # more than Pillow likes, less than it refuses
    code = (
        "import sys, warnings; from lami.data import read_image; print(read_image(sys.argv[1]).shape); "
        "warnings.warn('of others')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "(9500, 9500, 3)"
    assert "of others" in answer.stderr
    assert "DecompressionBomb" not in answer.stderr


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 2))
def test_tensor_round_trip(height: int, width: int, batch: int) -> None:
    shape = (batch, height, width, 3) if batch else (height, width, 3)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    tensor = to_tensor(image)
    assert tensor.shape == (*shape[:-3], 3, height, width)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(to_uint8(tensor), image)


def test_to_uint8_rounds_and_clamps() -> None:
    values = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 2.0]).expand(3, 1, 5)
    assert to_uint8(values)[0, :, 0].tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize("format", ["jpg", "png"])
def test_images_in_memory(format: FrameFormat) -> None:
    y, x = np.mgrid[0:32, 0:48]
    image = np.stack([4 * x, 6 * y, 255 - 4 * x], -1).astype(np.uint8)
    again = decode_image(encode_image(image, format))
    assert again.shape == image.shape
    assert np.abs(again.astype(int) - image).max() <= (0 if format == "png" else 12)
    with pytest.raises(DataError, match="7 bytes are not an image"):
        decode_image(b"nothing")
    with pytest.raises(DataError, match="are not an image"):
        decode_image(b"")
    if format == "jpg":
        with pytest.raises(DataError, match="1x70000 cannot be stored as jpg"):
            encode_image(np.zeros((1, 70_000, 3), np.uint8), format)
