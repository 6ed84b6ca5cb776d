"""Image files, and the step between 8-bit images and tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

from lami.data.files import atomic_path, check_readable
from lami.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"})

_ENCODING = {
    "jpg": (cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "png": (),
}


def read_image(path: str | Path) -> np.ndarray:
    """Read an image of any common kind as RGB, uint8 (H, W, 3).

    Grey, palette and 16-bit images are converted, EXIF orientation is applied, transparency is laid on white.
    Raises `DataError` for what cannot be decoded completely.
    """
    path = Path(path)
    check_readable(path)
    try:
        with Image.open(path) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.mode in ("I", "F"):
                raise DataError(f"{path} stores 32 bits a value, save it with 8 or 16 bits")
            if image.mode.startswith("I;16"):  # Pillow would clip the values to 255
                levels = np.asarray(image).astype(np.uint32)
                image = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return np.array(image.convert("RGB"))
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not an image that can be read ({error}), convert it to PNG or JPEG") from error


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an RGB image, uint8 (H, W, 3), in the format of the suffix; the file appears complete or not at all."""
    path = Path(path)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise DataError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    if path.suffix.lower() not in IMAGE_SUFFIXES:
        raise DataError(f"{path} has no image suffix, use one of {', '.join(sorted(IMAGE_SUFFIXES))}")
    with atomic_path(path) as partial:
        Image.fromarray(image).save(partial, quality=95)  # formats without loss ignore the quality


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
