"""Image files, and the step between 8-bit images and tensors."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from lami.data.files import atomic_path, check_readable
from lami.data.provenance import draw_label, image_tags
from lami.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jp2"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".tga"}
)
"""Names that are taken for images; what is in a file decides how it is read."""

WRITABLE_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})

# Pillow's warnings are of no use here: an image is decoded completely, or that is an error. Filters belong to the
# process, so that changing them for a while would be a race between threads.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", module=r"PIL\.")

# Pillow knows many more, some of which start other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF", "JPEG2000", "PPM", "TGA")
_ANIMATED = frozenset({"PNG", "WEBP", "GIF", "AVIF"})  # further pictures in a TIFF or a JPEG are pages or previews
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1"})

_ENCODING = {
    "jpg": (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "png": (),
}


def read_image(path: str | Path) -> np.ndarray:
    """Read an image of any common kind as RGB, uint8 (H, W, 3); of an animated one the first frame.

    The content decides about the kind, not the suffix. Grey, palette, CMYK and 16-bit images are converted, colours
    become sRGB where a profile says what they are, EXIF orientation is applied, transparency is laid on white.
    Raises `DataError` for what cannot be decoded completely, stores 32 bits a value, or has more pixels than Pillow
    takes for harmless (179 million); HEIC needs pillow-heif.
    """
    with open_picture(path) as picture:
        return to_rgb(picture)


@contextmanager
def open_picture(path: str | Path) -> Iterator[Image.Image]:
    """An image file as Pillow has it, not decoded yet; what fails within the context becomes a `DataError`."""
    path = Path(path)
    check_readable(path)
    try:
        picture = Image.open(path, formats=_formats_of(path))
        with picture:
            if _levels(picture) == "32 bits":
                raise DataError(f"{path} stores 32 bits a value, save it with 8 or 16 bits")
            yield picture
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path} is too large an image ({_first_sentence(error)}), make it smaller") from error
    except Exception as error:  # decoders raise whatever damaged data make them stumble over
        if isinstance(error, UnidentifiedImageError) and is_heif(path):
            raise DataError(f"{path} is a HEIC image, install pillow-heif or convert it to JPEG") from error
        cause = "unknown format" if isinstance(error, UnidentifiedImageError) else _first_sentence(error)
        raise DataError(f"{path} is not an image that can be read ({cause}), convert it to PNG or JPEG") from error


def is_animated(picture: Image.Image) -> bool:
    """Whether an open picture has several frames that follow each other in time."""
    return picture.format in _ANIMATED and getattr(picture, "is_animated", False)


def to_rgb(picture: Image.Image) -> np.ndarray:
    """The frame at which an open picture stands, as `read_image` gives it."""
    levels = _levels(picture)
    image: Image.Image = ImageOps.exif_transpose(picture)
    if levels == "16 bits":  # Pillow would clip the values to 255
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = _to_srgb(image.convert("RGBA"))
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(_to_srgb(image).convert("RGB"))


def write_image(path: str | Path, image: np.ndarray, generated: bool = True, label: bool = False) -> None:
    """Write an RGB image, uint8 (H, W, 3), in the format of the suffix; the file appears complete or not at all.

    generated: add tags that say so, see `lami.data.provenance`; False for images that no model made.
    label: write it into the image too, readable at its bottom edge.

    Raises `DataError` for an image that is too large for the format (webp: 16383 pixels a side, jpg: 65500), or where
    it cannot be written.
    """
    path = Path(path)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if path.suffix.lower() not in WRITABLE_IMAGE_SUFFIXES:
        raise DataError(f"{path} has no image suffix, use one of {', '.join(sorted(WRITABLE_IMAGE_SUFFIXES))}")
    format = Image.registered_extensions()[path.suffix.lower()]
    picture = Image.fromarray(draw_label(image) if label else image)
    encoded = BytesIO()  # straight into a file, Pillow does not see that a disk is full
    try:
        picture.save(encoded, format, quality=95, **(image_tags(format) if generated else {}))
    except (OSError, ValueError) as error:  # into memory, nothing else can go wrong
        height, width = image.shape[:2]
        raise DataError(f"an image of {height}x{width} is too large for {path}, use png") from error
    with atomic_path(path) as partial:
        partial.write_bytes(encoded.getvalue())


def decode_image(data: bytes) -> np.ndarray:
    """Decode a png or jpg file in memory as RGB, uint8 (H, W, 3); transparency is dropped.

    Several times as fast as `read_image` for small images. Raises `DataError` for what cannot be decoded.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        image = None
    if image is None:
        raise DataError(f"{len(data)} bytes are not an image that can be read, copy them again")
    return image


def encode_image(image: np.ndarray, format: Literal["jpg", "png"]) -> bytes:
    """Encode RGB, uint8 (H, W, 3): jpg with quality 95 and colours in full resolution, png without loss.

    Raises `DataError` for an image that is too large for the format.
    """
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    try:
        done, data = cv2.imencode(f".{format}", bgr, _ENCODING[format])
    except cv2.error:
        done = False
    if not done:
        raise DataError(f"an image of {image.shape[0]}x{image.shape[1]} cannot be stored as {format}, make it smaller")
    return data.tobytes()


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 (..., H, W, 3) -> float32 (..., 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, -3))).float().div_(255)


def to_uint8(image: torch.Tensor, truncate: bool = False) -> np.ndarray:
    """Float (..., 3, H, W) in [0, 1], on any device -> uint8 (..., H, W, 3).

    Values are clamped and rounded, or with `truncate` rounded down.
    """
    levels = image.detach().float().clamp(0, 1).mul(255)
    levels = (levels if truncate else levels.round()).to(torch.uint8)
    return levels.movedim(-3, -1).contiguous().cpu().numpy()


@functools.cache
def _known_formats() -> tuple[str, ...]:
    Image.init()
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _formats_of(path: Path) -> tuple[str, ...]:
    """TGA has no mark at its start, and much that is no image would pass for one."""
    return tuple(name for name in _known_formats() if name != "TGA" or path.suffix.lower() == ".tga")


def _levels(picture: Image.Image) -> Literal["8 bits", "16 bits", "32 bits"]:
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        return "16 bits"
    return "32 bits" if picture.mode in ("I", "F") else "8 bits"


def _to_srgb(image: Image.Image) -> Image.Image:
    """Colours of another space, such as a phone's Display P3 or a press's CMYK, as sRGB; others as they are."""
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(image.info["icc_profile"]))
        if "sRGB" in ImageCms.getProfileDescription(profile):
            return image
        if image.mode == "P":
            image = image.convert("RGB")
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=mode) or image
    except (KeyError, OSError, ImageCms.PyCMSError):
        return image  # no profile, or none that fits the image


def is_heif(path: Path) -> bool:
    """Whether a file is a HEIC picture, which Pillow may not know and FFmpeg takes for a video."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and head[8:] in _HEIF_BRANDS


def _first_sentence(error: Exception) -> str:
    return str(error).split(". ")[0].strip().rstrip(".") or type(error).__name__
