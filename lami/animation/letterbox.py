"""Fitting images of any size into the model's image size without squashing them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from lami.errors import DataError

OutputSize = Literal["model", "source", "source-detail"]
"""As large as the model's images, enlarged to the source's, or so with the source's own detail."""


def check_image(image: np.ndarray) -> None:
    """Raises DataError unless the image is uint8 (H, W, 3)."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise DataError(f"images must be RGB, uint8 of shape (H, W, 3), got {image.dtype} {image.shape}")


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Image (H, W, 3) at another size: averaged when it shrinks, bicubic when it grows."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height * width < image.shape[0] * image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Letterbox:
    """Where images of one size lie inside the model's: scaled to fit, centred, borders replicated around them.

    Both sides of the content are even, as video needs them, and otherwise as near to the image's aspect as possible.

    Args:
        image_size: (height, width) of the images.
        model_size: (height, width) that the model takes, both even.
    """

    image_size: tuple[int, int]
    model_size: tuple[int, int]
    top: int = field(init=False)
    left: int = field(init=False)
    height: int = field(init=False)
    width: int = field(init=False)

    def __post_init__(self) -> None:
        scale = min(model / side for model, side in zip(self.model_size, self.image_size, strict=True))
        content = [
            min(max(2 * round(side * scale / 2), 2), model)
            for model, side in zip(self.model_size, self.image_size, strict=True)
        ]
        places = {
            "height": content[0],
            "width": content[1],
            "top": (self.model_size[0] - content[0]) // 2,
            "left": (self.model_size[1] - content[1]) // 2,
        }
        for name, value in places.items():
            object.__setattr__(self, name, value)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Image, uint8 (*image_size, 3) -> uint8 (*model_size, 3).

        Raises:
            DataError: not uint8 RGB, or of another size.
        """
        check_image(image)
        if image.shape[:2] != self.image_size:
            raise DataError(f"this letterbox is for images of {self.image_size}, got {image.shape[:2]}; make another")
        bottom = self.model_size[0] - self.top - self.height
        right = self.model_size[1] - self.left - self.width
        content = resize(image, self.height, self.width)
        return cv2.copyMakeBorder(content, self.top, bottom, self.left, right, cv2.BORDER_REPLICATE)

    def crop(self, image: np.ndarray, size: OutputSize = "model") -> np.ndarray:
        """The content of a uint8 image (*model_size, 3), a view; other sizes enlarge or shrink it to `image_size`."""
        content = image[self.top : self.top + self.height, self.left : self.left + self.width]
        return content if size == "model" else resize(content, *self.image_size)
