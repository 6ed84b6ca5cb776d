"""Crops: the part of a source or of a driving video that is used, a given one or where the model's keypoints are."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
from torch import Tensor

from lami.animation.letterbox import Letterbox
from lami.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

Crop = str | Sequence[int]
"""`none`, `centre`, `keypoints`, or LEFT,TOP,WIDTH,HEIGHT in pixels, as text or as four whole numbers."""
Place = Literal["none", "centre", "keypoints"]
Numbers = tuple[int, int, int, int]
Size = tuple[int, int]
"""(height, width) in pixels."""

_MARGINS = ((0.5, 0.5), (0.25, 0.1))
"""Of the extent, added on each of its sides in the first and in the second look: the usual one, and the least, below
which the box gives up the model's aspect. The first look is rough, and its crop must not cut anything off; that of the
second lets keypoints fill two thirds of it, as those of the demonstration model do in its training images."""
_STRAY = 4.0
"""Keypoints that are so many times as far from the middle as half of them are taken to lie on the background."""
_GLITCHES = 0.01
"""Part of a video's frames that may reach farther than the box."""
_SMALLEST = 0.02
"""Keypoints whose extent is below this part of the frame's longer side are on no object."""
_NEARLY_WHOLE, _SPREAD = 0.9, 0.5
"""Parts of the frame's area: boxes above the first are of no use, and where the extent of the keypoints is above the
second, they are the reason rather than the margin."""


@dataclass(frozen=True)
class Box:
    """A part of frames, in whole pixels.

    Attributes:
        left, top, width, height: where it lies in a frame.
        frame_size: (height, width) of the frames.
    """

    left: int
    top: int
    width: int
    height: int
    frame_size: Size

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The part of an image (H, W, 3), a view; of one that has another size than the frames, in proportion."""
        rows = _scaled(self.top, self.height, image.shape[0], self.frame_size[0])
        columns = _scaled(self.left, self.width, image.shape[1], self.frame_size[1])
        return image[rows, columns]

    def to_frame(self, keypoints: Tensor, model_size: Size) -> np.ndarray:
        """Keypoints (F, K, N, 2) of the letterboxed part -> (F, K * N, 2) float64, pixels from the frame's corner."""
        box = Letterbox((self.height, self.width), model_size)
        points = keypoints.detach().flatten(1, 2).cpu().double().numpy()
        pixels = (points + 1) / 2 * (np.array(model_size[::-1]) - 1) + 0.5 - (box.left, box.top)
        return pixels * (self.width / box.width, self.height / box.height) + (self.left, self.top)


def _scaled(start: int, length: int, side: int, frame_side: int) -> slice:
    """The span of a frame's side in a side of another length, never empty."""
    return slice(start * side // frame_side, -(-(start + length) * side // frame_side))


def parse_crop(crop: Crop) -> Place | Numbers:
    """What a crop says, see `Crop`.

    Raises:
        ConfigError: it is none of the words, and no box of whole numbers with a width and a height.
    """
    if isinstance(crop, str) and crop in get_args(Place):
        return cast(Place, crop)
    try:
        parts = crop.split(",") if isinstance(crop, str) else crop
        left, top, width, height = (int(part) if isinstance(part, str) else operator.index(part) for part in parts)
        if min(left, top) < 0 or min(width, height) < 1:
            raise ValueError
    except (TypeError, ValueError):
        raise ConfigError(
            f"crop {crop!r} is neither none, centre nor keypoints, nor a box LEFT,TOP,WIDTH,HEIGHT in whole pixels; "
            "give one of these"
        ) from None
    return left, top, width, height


def fixed_box(crop: Crop, frame_size: Size, model_size: Size, name: str | Path) -> Box:
    """The box that needs no look at the image: a given one, the centre in the model's aspect, or the whole frame.

    Args:
        crop: for `keypoints`, the whole frame.
        frame_size, model_size: (height, width).
        name: of the file, for messages.

    Raises:
        ConfigError: see `parse_crop`.
        DataError: the box reaches outside of the frame.
    """
    crop = parse_crop(crop)
    height, width = frame_size
    if crop == "centre":
        wide, high = _largest(frame_size, model_size)
        return Box((width - wide) // 2, (height - high) // 2, wide, high, frame_size)
    if isinstance(crop, str):
        return Box(0, 0, width, height, frame_size)
    box = Box(*crop, frame_size)
    if box.left + box.width > width or box.top + box.height > height:
        raise DataError(
            f"the crop {','.join(map(str, crop))} reaches outside of {name}, which is {width} pixels wide and {height} "
            "high; give LEFT,TOP,WIDTH,HEIGHT of a box inside"
        )
    return box


def choose_box(
    crop: Crop, frame_size: Size, model_size: Size, name: str | Path, detect: Callable[[Box], Tensor]
) -> Box:
    """The part that a crop says, one for all frames.

    Around keypoints it is their extent in all frames with a margin, in the model's aspect, inside the frame. Those far
    from all others are left out. Where there is no such box or it would be nearly as large, it is the whole frame, with
    a warning unless that is because of the margin alone.

    Args:
        crop: see `Crop`.
        frame_size, model_size: (height, width).
        name: of the file, for messages.
        detect: gives the keypoints (F, K, N, 2) of the letterboxed part of all frames; only called for `keypoints`.

    Raises:
        ConfigError, DataError: see `fixed_box`.
    """
    crop = parse_crop(crop)
    whole = fixed_box(crop, frame_size, model_size, name)
    if crop != "keypoints":
        return whole
    box, wrong = whole, ""
    low = high = np.zeros(2)
    for margin, least in _MARGINS:
        extent = _extent(box.to_frame(detect(box), model_size), frame_size)
        if isinstance(extent, str):
            wrong = extent
            break
        low, high = extent
        box = _around(low, high, margin, least, frame_size, model_size)
    area = whole.width * whole.height
    if not wrong and box.width * box.height > _NEARLY_WHOLE * area:
        if (high - low).prod() <= _SPREAD * area:
            logger.info("a crop around the keypoints of %s would be nearly all of it: the whole frame is used", name)
            return whole
        wrong = "spread over most of it"
    if wrong:
        logger.warning("the keypoints of %s %s: no crop is made around them, the whole frame is used", name, wrong)
        return whole
    place = box.left, box.top, box.width, box.height
    logger.info("%s is cropped to %d,%d,%d,%d, around the keypoints", name, *place)
    return box


def _largest(frame_size: Size, model_size: Size) -> tuple[int, int]:
    """(width, height) of the largest part of a frame that has the model's aspect."""
    height, width = frame_size
    high, wide = model_size
    return min(width, max(1, round(height * wide / high))), min(height, max(1, round(width * high / wide)))


def _around(low: np.ndarray, high: np.ndarray, margin: float, least: float, frame_size: Size, model_size: Size) -> Box:
    """The box around an extent, (x, y) in pixels from `low` to `high`."""
    frame = np.array(frame_size[::-1])
    largest = np.array(_largest(frame_size, model_size))
    wanted = (high - low) * (1 + 2 * margin)
    scale = (wanted / largest).max()
    if scale <= 1:
        size = np.maximum(np.rint(largest * scale), 1)
    else:  # the frame leaves less margin, or not the model's aspect
        fits = (high - low) * (1 + 2 * least) <= largest
        size = np.where(fits, largest, np.minimum(np.ceil(wanted), frame))
    left, top = np.rint((low + high - size) / 2).clip(0, frame - size)
    return Box(int(left), int(top), int(size[0]), int(size[1]), frame_size)


def _extent(points: np.ndarray, frame_size: Size) -> tuple[np.ndarray, np.ndarray] | str:
    """Lowest and highest (x, y) of points (F, P, 2) in pixels, inside the frame, but for stray points and for what few
    frames reach; or what is wrong with them."""
    points = points[np.isfinite(points).all(axis=(1, 2))]
    if not len(points):
        return "are not finite numbers"
    middle = np.median(points, axis=1, keepdims=True)
    distance = np.linalg.norm(points - middle, axis=-1, keepdims=True)
    near = distance <= _STRAY * np.median(distance, axis=1, keepdims=True)
    kept = np.where(near, points, middle)
    low, high = kept.min(axis=1), kept.max(axis=1)
    # Whole frames are left out, not parts of one: of up to 100 frames none.
    low = np.quantile(low, _GLITCHES, axis=0, method="lower")
    high = np.quantile(high, 1 - _GLITCHES, axis=0, method="higher")
    frame = np.array(frame_size[::-1])
    low, high = low.clip(0, frame), high.clip(0, frame)
    if (high - low).max() < _SMALLEST * frame.max():
        return "are all in one place"
    return low, high
