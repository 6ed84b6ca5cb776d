"""Images as source and as driving image: the right picture, or one sentence."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import pytest
from inputs.media import BLUE, RED, corners, expected, quarters, swapped_profile, write_animation, write_colour
from PIL import Image

from lami.data import is_still, open_moving, read_image
from lami.errors import DataError

PICTURE = quarters()
GREY = np.array(Image.fromarray(PICTURE).convert("L"))
SIXTEEN = GREY.astype(np.uint16) * 257

Write = Callable[[Path], object]


def plain(name: str, **options: object) -> tuple[str, Write, int]:
    return name, lambda path: Image.fromarray(PICTURE).save(path, **options), 0


def in_mode(name: str, mode: str, **options: object) -> tuple[str, Write, int]:
    return name, lambda path: Image.fromarray(PICTURE).convert(mode).save(path, **options), 0


LOSSY = 12  # blocks of 8x8 with few colours: what quantisation leaves of them
COLOUR: dict[str, tuple[str, Write, int]] = {
    "png": plain("a.png"),
    "optimised png": ("a.png", lambda path: Image.fromarray(PICTURE).save(path, optimize=True), 0),
    "bmp": plain("a.bmp"),
    "tiff": plain("a.tiff"),
    "tiff lzw": plain("a.tif", compression="tiff_lzw"),
    "ppm": plain("a.ppm"),
    "tga": plain("a.tga"),
    "webp lossless": plain("a.webp", lossless=True),
    "webp": (*plain("a.webp", quality=95)[:2], LOSSY),
    "avif": (*plain("a.avif", quality=95)[:2], LOSSY),
    "jpeg 2000": plain("a.jp2"),
    "jpeg": (*plain("a.jpg", quality=95)[:2], LOSSY),
    "progressive jpeg": (*plain("a.jpeg", quality=95, progressive=True)[:2], LOSSY),
    "jfif": (*plain("a.jfif", quality=95, format="JPEG")[:2], LOSSY),
    "jpeg without subsampling": (*plain("a.jpg", quality=95, subsampling=0)[:2], LOSSY),
    "cmyk jpeg": (*in_mode("a.jpg", "CMYK", quality=95)[:2], LOSSY),
    "cmyk tiff": in_mode("a.tif", "CMYK"),
    "palette png": ("a.png", lambda path: Image.fromarray(PICTURE).quantize(4).save(path), 0),
    "palette bmp": ("a.bmp", lambda path: Image.fromarray(PICTURE).quantize(4).save(path), 0),
    "rgba": in_mode("a.png", "RGBA"),
    "first frame of a gif": ("a.gif", lambda path: Image.fromarray(PICTURE).quantize(4).save(path), 0),
    "16-bit png": ("a.png", lambda path: write_colour(path, PICTURE.astype(np.uint16) * 257), 0),
    "16-bit tiff": ("a.tiff", lambda path: write_colour(path, PICTURE.astype(np.uint16) * 257), 0),
    "16-bit ppm": ("a.ppm", lambda path: write_colour(path, PICTURE.astype(np.uint16) * 257), 1),
    "png named jpg": plain("a.jpg", format="PNG"),
    "jpeg named png": (*plain("a.png", format="JPEG", quality=95)[:2], LOSSY),
    "webp named png": plain("a.png", format="WEBP", lossless=True),
    "no suffix": plain("photo", format="PNG"),
    "video suffix": plain("photo.mp4", format="PNG"),
    "several pages": (
        "a.tiff",
        lambda path: Image.fromarray(PICTURE).save(path, save_all=True, append_images=[Image.new("RGB", (9, 9))]),
        0,
    ),
    "broken profile": plain("a.png", icc_profile=b"no profile at all"),
    "broken exif": (*plain("a.jpg", quality=95, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")[:2], LOSSY),
}


if int(PIL.__version__.split(".")[0]) >= 13:  # Pillow 12 cannot read the ones that it writes
    COLOUR["ycbcr tiff"] = (*in_mode("a.tif", "YCbCr")[:2], 2)


@pytest.mark.parametrize("case", COLOUR)
def test_colour(tmp_path: Path, case: str) -> None:
    name, write, tolerance = COLOUR[case]
    write(tmp_path / name)
    image = read_image(tmp_path / name)
    assert (image.dtype, image.shape) == (np.uint8, PICTURE.shape)
    np.testing.assert_allclose(corners(image), expected(), atol=tolerance)
    assert is_still(tmp_path / name)


GREYS: dict[str, tuple[str, Write]] = {
    "grey png": ("a.png", lambda path: Image.fromarray(GREY).save(path)),
    "grey jpeg": ("a.jpg", lambda path: Image.fromarray(GREY).save(path, quality=100)),
    "grey and alpha": ("a.png", lambda path: Image.fromarray(PICTURE).convert("LA").save(path)),
    "pgm": ("a.pgm", lambda path: Image.fromarray(GREY).save(path)),
    "16-bit grey png": ("a.png", lambda path: Image.fromarray(SIXTEEN).save(path)),
    "16-bit grey tiff": ("a.tif", lambda path: Image.fromarray(SIXTEEN).save(path)),
    "16-bit grey tiff, other byte order": ("a.tif", lambda path: _save_big_endian(path)),
    "16-bit pgm": ("a.pgm", lambda path: path.write_bytes(b"P5 48 32 65535\n" + SIXTEEN.astype(">u2").tobytes())),
}


def _save_big_endian(path: Path) -> None:
    Image.frombytes("I;16B", (48, 32), SIXTEEN.astype(">u2").tobytes()).save(path)


@pytest.mark.parametrize("case", GREYS)
def test_grey(tmp_path: Path, case: str) -> None:
    name, write = GREYS[case]
    write(tmp_path / name)
    np.testing.assert_allclose(read_image(tmp_path / name), np.repeat(GREY[..., None], 3, -1), atol=2)


def test_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(GREY > 90).save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "1"
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], np.where(GREY > 90, 255, 0))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tiff", "a.avif", "a.gif"])
def test_transparency_is_laid_on_white(tmp_path: Path, name: str) -> None:
    alpha = np.full((32, 48, 1), 255, np.uint8)
    alpha[16:, :24] = 0
    image = Image.fromarray(np.concatenate([PICTURE, alpha], -1))
    image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    tolerance = LOSSY if name.endswith("avif") else 0
    np.testing.assert_allclose(corners(read_image(tmp_path / name)), [BLUE, RED, (255, 255, 255), RED], atol=tolerance)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, name: str, orientation: int) -> None:
    """The tag says where the first row and column belong; undoing it by hand gives the same."""
    stored = {
        1: PICTURE,
        2: PICTURE[:, ::-1],
        3: PICTURE[::-1, ::-1],
        4: PICTURE[::-1],
        5: PICTURE.swapaxes(0, 1),
        6: np.rot90(PICTURE),  # shown turned clockwise
        7: PICTURE[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(PICTURE, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    image.save(tmp_path / name, exif=exif, **({"lossless": True} if name.endswith("webp") else {}))
    result = read_image(tmp_path / name)
    assert result.shape == PICTURE.shape
    np.testing.assert_allclose(corners(result), expected(), atol=LOSSY if name.endswith("jpg") else 0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colour_profiles(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (8, 8), (230, 20, 20)).convert(mode).save(tmp_path / "a.png", icc_profile=swapped_profile())
    red, green, _ = read_image(tmp_path / "a.png")[4, 4].tolist()
    assert green > red + 100


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (33, 49), (1, 4000)])
def test_sizes(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)


@pytest.mark.parametrize(
    "name",
    ["naïve 写真 🙂.png", "two  spaces .png", "-o.png", "12:30.png", "50%d.png", "a[1]*?.png", "n" * 250 + ".png"],
)
def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PICTURE).save(tmp_path / name)
    np.testing.assert_array_equal(read_image(name), PICTURE)


def test_symlinks(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    (tmp_path / "link").symlink_to("a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "link"), PICTURE)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.avif"])
def test_animated_pictures_are_sources_by_their_first_frame(tmp_path: Path, name: str) -> None:
    write_animation(tmp_path / name)
    tolerance = LOSSY if name.endswith("avif") else 0
    np.testing.assert_allclose(corners(read_image(tmp_path / name)), expected(0), atol=tolerance)
    assert not is_still(tmp_path / name)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _huge(path: Path) -> None:
    header = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", b"") + _chunk(b"IEND", b""))


def _cut(path: Path, format: str) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path, format=format)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _noise(path: Path) -> None:
    Image.fromarray(PICTURE).save(path)
    content = bytearray(path.read_bytes())
    content[60:70] = b"0123456789"
    path.write_bytes(content)


REFUSED: dict[str, tuple[str, Write, str]] = {
    "missing": ("a.png", lambda path: None, "does not exist"),
    "empty": ("a.png", lambda path: path.touch(), "is empty"),
    "folder": ("a.png", lambda path: path.mkdir(), "is not a file"),
    "pipe": ("a.png", lambda path: os.mkfifo(path), "is not a file"),
    "device": ("a.png", lambda path: path.symlink_to("/dev/zero"), "is not a file"),
    "dangling link": ("a.png", lambda path: path.symlink_to("nowhere"), "does not exist"),
    "circle of links": ("a.png", lambda path: path.symlink_to(path), "cannot be read"),
    "below a file": ("f/a.png", lambda path: path.parent.touch(), "does not exist"),
    "name too long": ("n" * 300 + ".png", lambda path: None, "cannot be read"),
    "text": ("a.jpg", lambda path: path.write_text("<html>404</html>"), "convert it to PNG or JPEG"),
    "svg": ("a.png", lambda path: path.write_text("<svg/>"), "convert it to PNG or JPEG"),
    "postscript": ("a.png", lambda path: Image.fromarray(PICTURE).save(path, format="EPS"), "convert it to PNG"),
    "git-lfs": ("a.png", lambda path: path.write_text("version https://git-lfs.github.com/spec/v1"), "git lfs pull"),
    "heic": ("IMG_1.HEIC", lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + bytes(40)), "JPEG"),
    "200 megapixels": ("a.png", _huge, "make it smaller"),
    "floats": ("a.tif", lambda path: Image.fromarray(GREY / np.float32(255)).save(path), "32 bits"),
    "32-bit integers": ("a.tif", lambda path: Image.fromarray(GREY.astype(np.int32)).save(path), "32 bits"),
    "colour floats": ("a.tiff", lambda path: write_colour(path, np.float32(PICTURE / 255)), "PNG or JPEG"),
    "cut png": ("a.png", lambda path: _cut(path, "PNG"), "convert it"),
    "cut jpeg": ("a.jpg", lambda path: _cut(path, "JPEG"), "convert it"),
    "cut webp": ("a.webp", lambda path: _cut(path, "WEBP"), "convert it"),
    "cut tiff": ("a.tif", lambda path: _cut(path, "TIFF"), "convert it"),
    "cut bmp": ("a.bmp", lambda path: _cut(path, "BMP"), "convert it"),
    "cut gif": ("a.gif", lambda path: _cut(path, "GIF"), "convert it"),
    "cut avif": ("a.avif", lambda path: _cut(path, "AVIF"), "convert it"),
    "noise in a png": ("a.png", _noise, "convert it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path: Path, case: str) -> None:
    name, write, advice = REFUSED[case]
    write(tmp_path / name)
    with pytest.raises(DataError, match=advice) as caught:
        read_image(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_folder_of_frames_moves(tmp_path: Path) -> None:
    for number in (0, 1, 2, 10):
        Image.fromarray(quarters(level=number)).save(tmp_path / f"frame{number}.png")
    shutil.copy(tmp_path / "frame0.png", tmp_path / ".hidden.png")
    (tmp_path / "notes.txt").write_text("no frame")
    frames = open_moving(tmp_path)
    assert [int(image[-1, 0, 0]) for image in frames.frames(range(4))] == [0, 1, 2, 10]
    assert [frame.time for frame in frames] == list(frames.times)
    assert frames.times[1] == 1 / frames.rate
